//! A webhook's application: a real HTTP server that answers as it is told, and shows what it was sent.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::live::PATIENCE;

pub const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// One request as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub id: String,
    pub timestamp_s: u64,
    pub content: Value,
}

/// The application. It is gone when this is dropped.
pub struct Hook {
    pub url: String,
    asked: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
    server: JoinHandle<()>,
}

impl Hook {
    /// Answers with what `answer` says of a request's content, or never.
    pub async fn start(answer: impl Fn(&Value) -> Option<u16> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, asked) = mpsc::unbounded_channel();
        let answer = Arc::new(answer);
        let handler = move |headers: HeaderMap, body: Bytes| {
            let status = answer(&serde_json::from_slice(&body).unwrap());
            let _ = sender.send((headers, body));
            async move {
                match status {
                    // A redirect leads to where the answer would be yes.
                    Some(status) => (StatusCode::from_u16(status).unwrap(), [("Location", "/yes")], "SECRET DETAILS"),
                    None => std::future::pending().await,
                }
            }
        };
        let router = Router::new().route("/yes", axum::routing::any(StatusCode::OK)).fallback(handler);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url: format!("http://{address}/onair?key=7"), asked, server }
    }

    /// The next request, whose signature must be right.
    pub async fn next(&mut self) -> Asked {
        let (headers, body) =
            timeout(PATIENCE, self.asked.recv()).await.expect("the webhook is sent something").unwrap();
        verified(&headers, &body)
    }

    /// What has come and was not looked at.
    pub fn rest(&mut self) -> Vec<Asked> {
        std::iter::from_fn(|| self.asked.try_recv().ok()).map(|(headers, body)| verified(&headers, &body)).collect()
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn verified(headers: &HeaderMap, body: &Bytes) -> Asked {
    let header = |name: &str| headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/json");
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let signature = header("webhook-signature").strip_prefix("v1,").map(|digits| STANDARD.decode(digits).unwrap());
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
    hmac::verify(&key, &signed, &signature.expect("a v1 signature")).expect("the signature is right");
    let timestamp_s: u64 = timestamp.parse().unwrap();
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now_s.abs_diff(timestamp_s) <= 5, "{timestamp_s}");
    Asked { id, timestamp_s, content: serde_json::from_slice(body).unwrap() }
}

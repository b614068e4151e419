//! The way to the webhook: one signed `POST` at a time.
//!
//! **Invariant:** a request ends by its deadline; of an answer the status counts, and no more than [`ANSWER_MAX_BYTES`] of
//! the rest are read. An application that does not answer is one line in the log for each [`COMPLAIN_EVERY`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use hyper::{Method, Request};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use tokio::time::{Instant, timeout, timeout_at};

use super::metrics::{Outcome, WebhookMetrics};
use super::secret::WebhookSecret;
use super::url::WebhookUrl;
use crate::http::client::{Answer, Client, Failure};

/// What is read of an answer's body, so that the application does not see its connection reset.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// How long that body may take to come.
const BODY_DEADLINE: Duration = Duration::from_millis(500);

const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// The webhook as it was configured.
#[derive(Debug, Clone)]
pub struct HookConfig {
    /// Where it is.
    pub url: WebhookUrl,
    /// What is shared with it.
    pub secret: WebhookSecret,
    /// How long it may take to answer.
    pub timeout: Duration,
}

/// The way to the webhook. Cheap to clone.
#[derive(Clone)]
pub struct Hook(Arc<Shared>);

struct Shared {
    config: HookConfig,
    client: Client,
    metrics: WebhookMetrics,
    complained: Mutex<Option<Instant>>,
}

/// What the webhook is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same each time it is sent.
    pub id: String,
    /// Its `type`.
    pub kind: &'static str,
    /// JSON.
    pub body: Bytes,
}

impl Message {
    /// A message with an id of its own.
    ///
    /// # Errors
    ///
    /// Where the system has no randomness to give, or `content` cannot be written.
    pub fn new(kind: &'static str, content: &impl serde::Serialize) -> Result<Self, Failure> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        let id = format!("msg_{:032x}", u128::from_be_bytes(id));
        Ok(Self { id, kind, body: serde_json::to_vec(content)?.into() })
    }
}

impl Hook {
    /// Over https it believes whom browsers believe.
    ///
    /// # Errors
    ///
    /// Where the TLS library refuses its own defaults.
    pub fn new(config: HookConfig, metrics: WebhookMetrics) -> Result<Self, rustls::Error> {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let client = Client::new(roots, Arc::new(default_provider()))?;
        Ok(Self(Arc::new(Shared { config, client, metrics, complained: Mutex::new(None) })))
    }

    /// When a request that begins now must have ended.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.0.config.timeout
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &WebhookMetrics {
        &self.0.metrics
    }

    /// Sends a message and tells how that ended. Dropped, it ends the connection.
    pub async fn post(&self, message: &Message, deadline: Instant) -> Outcome {
        let sent = timeout_at(deadline, self.0.send(message)).await;
        let (outcome, complaint) = match sent {
            Ok(Ok(answer)) => {
                let status = answer.status();
                // What it says is nothing to us.
                let _ = timeout(BODY_DEADLINE, answer.whole(ANSWER_MAX_BYTES)).await;
                (if status.is_success() { Outcome::Accepted } else { Outcome::Refused }, None)
            }
            Ok(Err(error)) => (Outcome::Failed, Some(error.to_string())),
            Err(_) => (Outcome::TimedOut, Some("no answer in time".to_owned())),
        };
        tracing::debug!(id = message.id, kind = message.kind, ?outcome, "a request to the webhook");
        self.0.metrics.request(message.kind, outcome);
        if let Some(error) = complaint.filter(|_| self.0.may_complain()) {
            tracing::warn!(hook = ?self.0.config.url, kind = message.kind, %error, "the webhook does not answer");
        }
        outcome
    }
}

impl Shared {
    async fn send(&self, message: &Message) -> Result<Answer<Body>, Failure> {
        // A clock that stands before 1970 counts from there.
        let timestamp_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signature = self.config.secret.sign(&message.id, timestamp_s, &message.body);
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.config.url.uri())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("onair/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp_s)
            .header("webhook-signature", signature)
            .body(Body::from(message.body.clone()))?;
        self.client.send(request).await
    }

    fn may_complain(&self) -> bool {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let may = complained.is_none_or(|at| now.duration_since(at) >= COMPLAIN_EVERY);
        if may {
            *complained = Some(now);
        }
        may
    }
}

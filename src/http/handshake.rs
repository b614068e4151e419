//! The opening handshake of a WebSocket (RFC 6455 §4.2), on hyper's upgrade.
//!
//! **Invariant:** a 101 is given only to a well-formed request; whatever else comes to the door is told what is missing.

use axum::extract::Request;
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::problem::Problem;

const VERSION: HeaderValue = HeaderValue::from_static("13");

/// Accepts the handshake: the response to send, and the stream that it turns the connection into.
///
/// # Errors
///
/// The response that refuses it: 426 for a request that is no handshake, 400 for a malformed one.
pub fn accept(request: &mut Request) -> Result<(Response, OnUpgrade), Box<Response>> {
    let headers = request.headers();
    let is_handshake = names_token(headers, &CONNECTION, "upgrade") && names_token(headers, &UPGRADE, "websocket");
    if !is_handshake || headers.get(SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        let mut refusal =
            Problem::new(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket of version 13").into_response();
        let headers = refusal.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
        return Err(Box::new(refusal));
    }
    let malformed = |detail| Box::new(Problem::new(StatusCode::BAD_REQUEST, detail).into_response());
    // 16 bytes in base64.
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let key = key.ok_or_else(|| malformed("Sec-WebSocket-Key is missing or malformed"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| malformed("Sec-WebSocket-Key is malformed"))?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| malformed("this connection cannot become a WebSocket"))?;
    let headers = [
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok(((StatusCode::SWITCHING_PROTOCOLS, headers).into_response(), upgrade))
}

fn names_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn what_is_no_handshake_is_told_so() {
        let request = |headers: &[(&str, &str)]| {
            let mut builder = Request::builder().uri("/ws");
            for (name, value) in headers {
                builder = builder.header(*name, *value);
            }
            builder.body(Body::empty()).unwrap()
        };
        let handshake = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let version = ("sec-websocket-version", "13");
        for (headers, status) in [
            (&[][..], 426),
            (&[handshake[0], handshake[1], key], 426),
            (&[handshake[0], handshake[1], key, ("sec-websocket-version", "8")], 426),
            (&[handshake[0], handshake[1], version], 400),
            (&[handshake[0], handshake[1], version, ("sec-websocket-key", "short")], 400),
            // Well-formed, but there is no connection below to turn.
            (&[handshake[0], handshake[1], version, key], 400),
        ] {
            let refusal = accept(&mut request(headers)).unwrap_err();
            assert_eq!(refusal.status().as_u16(), status, "{headers:?}");
        }
    }
}

//! Who asks: the token that a request shows, and what it permits.
//!
//! **Invariant:** a request that shows a token nobody knows is refused, whatever it asks for; and the answer to what is not
//! permitted is the same whether that exists or not.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::policy::{Shown, TokenError};
use super::problem::Problem;
use super::state::{AppState, Remote};
use crate::access::{Permit, Right};
use crate::signal::{BroadcastId, ErrorCode};

/// The caller of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// What it may do.
    pub permit: Permit,
    /// By what it has shown.
    pub shown: Shown,
}

impl Caller {
    /// Refuses what is not permitted with a broadcast.
    ///
    /// # Errors
    ///
    /// 401 where no token was shown, else 403.
    pub fn require(&self, right: Right, broadcast: &BroadcastId) -> Result<(), Problem> {
        let what = format_args!("{} {broadcast}", right.name());
        if self.permit.may(right, broadcast) { Ok(()) } else { Err(self.refusal(&what)) }
    }

    /// Refuses what is not permitted everywhere.
    ///
    /// # Errors
    ///
    /// 401 where no token was shown, else 403.
    pub fn require_everywhere(&self, right: Right) -> Result<(), Problem> {
        if self.permit.may_everywhere(right) { Ok(()) } else { Err(self.refusal(&right.name())) }
    }

    /// Refuses who may do neither with any broadcast.
    ///
    /// # Errors
    ///
    /// 401 where no token was shown, else 403.
    pub fn require_somewhere(&self, [one, other]: [Right; 2]) -> Result<(), Problem> {
        if self.permit.may_somewhere(one) || self.permit.may_somewhere(other) {
            return Ok(());
        }
        Err(self.refusal(&format_args!("{} or {}", one.name(), other.name())))
    }

    fn refusal(&self, what: &dyn std::fmt::Display) -> Problem {
        if self.permit.has_token() {
            Problem::forbidden(format!("this token does not permit: {what}"))
        } else {
            Problem::signaling(ErrorCode::Unauthorized, format!("a token is needed: {what}"))
        }
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let refused = |detail: &str| {
            state.metrics().unauthorized();
            Problem::signaling(ErrorCode::Unauthorized, detail)
        };
        let token = match parts.headers.get(AUTHORIZATION) {
            Some(value) => {
                let bearer = value.to_str().ok().and_then(bearer_of);
                Some(bearer.ok_or_else(|| refused("write the header as Authorization: Bearer TOKEN"))?.to_owned())
            }
            None => token_of_query(parts.uri.query().unwrap_or_default()),
        };
        // The listener names the sender of every request.
        let remote = parts.extensions.get::<Remote>().copied().ok_or_else(|| refused("the request has no sender"))?;
        let shown = Shown::new(token, remote.0.ip());
        let permit = shown.permit(state.policy(), None).map_err(|error| match error {
            TokenError::Bad(_) => refused(&error.to_string()),
            TokenError::TooMany { retry_after_s } => {
                state.metrics().unauthorized();
                Problem::too_many_tokens(retry_after_s, error.to_string())
            }
        })?;
        Ok(Self { permit, shown })
    }
}

/// The token of `Bearer TOKEN` (RFC 6750 §2.1).
fn bearer_of(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The token of `?token=TOKEN`, for players that know no headers.
fn token_of_query(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("token="))?;
    // What is no UTF-8 is no token either.
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;

    use super::*;
    use crate::access::Policy;
    use crate::access::attempts::WRONG_MAX;
    use crate::handle::bridge;
    use crate::http::gate::Gate;
    use crate::http::ice_server::IceServers;
    use crate::http::policy::PolicyCell;
    use crate::http::router::router;
    use crate::http::{connection, state::HttpConfig};

    #[test]
    fn tokens_come_in_headers_and_queries() {
        assert_eq!(bearer_of("Bearer abc"), Some("abc"));
        assert_eq!(bearer_of("bearer  abc "), Some("abc"));
        assert_eq!(bearer_of("Basic abc"), None);
        assert_eq!(bearer_of("abc"), None);
        assert_eq!(token_of_query("a=1&token=x%2By&b=2").as_deref(), Some("x+y"));
        assert_eq!(token_of_query("tokens=x"), None);
        assert_eq!(token_of_query("token=").as_deref(), Some(""));
    }

    /// Over a real connection; the address alone is made up, for loopback is not counted.
    #[tokio::test]
    async fn who_shows_too_many_wrong_tokens_is_told_when_to_come_back() {
        let rules = "[[token]]\ntoken = \"right-0123456789\"\ncan = [\"watch\"]";
        let (handle, _port, _recordings) = bridge().unwrap();
        let (_stop, stopping) = watch::channel(false);
        let config = HttpConfig {
            tls: false,
            allowed_origins: Vec::new(),
            record_dir: "nowhere".into(),
            growing: Default::default(),
            ice_servers: IceServers::default(),
            policy: PolicyCell::new(Policy::parse(rules).unwrap()),
            webhook: None,
            recorder: None,
        };
        let state = AppState::new(config, handle, Vec::new(), stopping.clone());
        let gate = Gate::new(2, 2);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ask = async |remote: &str, token: &str| {
            let seat = gate.admit([127, 0, 0, 1].into()).unwrap();
            let permit = Arc::new(connection::Permit::new(seat, state.metrics().connection()));
            let requests =
                connection::Requests { router: router(state.clone()), remote: remote.parse().unwrap(), permit };
            let client = async {
                let mut client = TcpStream::connect(address).await.unwrap();
                let head = format!(
                    "GET /api/ice-servers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
                );
                client.write_all(head.as_bytes()).await.unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                answer
            };
            let served = async {
                let (stream, _) = listener.accept().await.unwrap();
                connection::serve_http1(stream, requests, stopping.clone()).await;
            };
            tokio::join!(client, served).0
        };
        let guesser = "192.0.2.1:5000";
        for _ in 0..WRONG_MAX {
            let answer = ask(guesser, "wrong-0123456789").await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        }
        for token in ["wrong-0123456789", "right-0123456789"] {
            let answer = ask(guesser, token).await;
            assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
            let after = answer.lines().find_map(|line| line.strip_prefix("Retry-After: ")).unwrap();
            assert!((1..=7).contains(&after.parse::<u32>().unwrap()), "{answer}");
            assert!(answer.contains("\"code\":\"too-many\""), "{answer}");
        }
        let neighbour = ask("192.0.2.2:5000", "right-0123456789").await;
        assert!(neighbour.starts_with("HTTP/1.1 200 "), "{neighbour}");
    }
}

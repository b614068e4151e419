//! Who asks: the token that a request shows, and what it permits.
//!
//! **Invariant:** a request that shows a token nobody knows is refused, whatever it asks for; and the answer to what is not
//! permitted is the same whether that exists or not.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::policy::TokenError;
use super::problem::Problem;
use super::state::{AppState, Remote};
use crate::access::{Permit, Right};
use crate::signal::{BroadcastId, ErrorCode};

/// What the caller of a request may do.
#[derive(Debug, Clone)]
pub struct Caller(pub Permit);

impl Caller {
    /// Refuses what is not permitted with a broadcast.
    ///
    /// # Errors
    ///
    /// 401 where no token was shown, else 403.
    pub fn require(&self, right: Right, broadcast: &BroadcastId) -> Result<(), Problem> {
        let what = format_args!("{} {broadcast}", right.name());
        if self.0.may(right, broadcast) { Ok(()) } else { Err(self.refusal(&what)) }
    }

    /// Refuses what is not permitted everywhere.
    ///
    /// # Errors
    ///
    /// 401 where no token was shown, else 403.
    pub fn require_everywhere(&self, right: Right) -> Result<(), Problem> {
        if self.0.may_everywhere(right) { Ok(()) } else { Err(self.refusal(&right.name())) }
    }

    /// Refuses who may do neither with any broadcast.
    ///
    /// # Errors
    ///
    /// 401 where no token was shown, else 403.
    pub fn require_somewhere(&self, [one, other]: [Right; 2]) -> Result<(), Problem> {
        if self.0.may_somewhere(one) || self.0.may_somewhere(other) {
            return Ok(());
        }
        Err(self.refusal(&format_args!("{} or {}", one.name(), other.name())))
    }

    fn refusal(&self, what: &dyn std::fmt::Display) -> Problem {
        if self.0.has_token() {
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
        let permit = state.policy().permit(token.as_deref(), remote.0.ip());
        permit.map(Self).map_err(|error| match error {
            TokenError::Bad(_) => refused(&error.to_string()),
            TokenError::TooMany { retry_after_s } => {
                state.metrics().unauthorized();
                Problem::too_many_tokens(retry_after_s, error.to_string())
            }
        })
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
    use super::*;

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
}

//! Errors as `application/problem+json` (RFC 9457).
//!
//! **Invariant:** every response with a status of 400 or more that leaves a handler is a problem; what is no HTTP at
//! all, hyper refuses before.

use axum::Json;
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::handle::HandleError;
use crate::hub::io::SessionId;
use crate::record::DiskError;
use crate::signal::ErrorCode;

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// When a client may try again after an overload.
const BUSY_RETRY_AFTER_S: u32 = 5;
/// When a player may ask again for a broadcast that is not live.
const NOT_LIVE_RETRY_AFTER_S: u32 = 2;

/// One error as a client sees it.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    code: Option<ErrorCode>,
    retry_after_s: Option<u32>,
    allow: Option<&'static str>,
    session: Option<SessionId>,
}

/// An error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    /// One line for a person.
    detail: &'a str,
    /// Which error of signaling it is, as docs/signaling.md lists them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    code: Option<ErrorCode>,
}

impl Problem {
    /// An error of HTTP's own kind; `detail` is one line for a person.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), code: None, retry_after_s: None, allow: None, session: None }
    }

    /// An error of signaling, under the status that RFC 9725 or, where that is silent, RFC 9110 gives it.
    #[must_use]
    pub fn signaling(code: ErrorCode, detail: impl Into<String>) -> Self {
        let (status, retry_after_s) = match code {
            ErrorCode::BadMessage | ErrorCode::BadSdp | ErrorCode::BadName => (StatusCode::BAD_REQUEST, None),
            ErrorCode::BadState | ErrorCode::NameTaken => (StatusCode::CONFLICT, None),
            ErrorCode::Unauthorized => (StatusCode::UNAUTHORIZED, None),
            // RFC 9725 §4.4.3: media sections that cannot be accepted refuse the whole offer.
            ErrorCode::UnsupportedCodec => (StatusCode::UNPROCESSABLE_ENTITY, None),
            // RFC 9725 §4.5: overload.
            ErrorCode::TooMany => (StatusCode::SERVICE_UNAVAILABLE, Some(BUSY_RETRY_AFTER_S)),
            // draft-ietf-wish-whep-03 §4.2.
            ErrorCode::NotLive => (StatusCode::CONFLICT, Some(NOT_LIVE_RETRY_AFTER_S)),
            ErrorCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        Self { code: Some(code), retry_after_s, ..Self::new(status, detail) }
    }

    /// The same, about a session: its number goes with the response, for the log.
    #[must_use]
    pub fn of_session(self, session: SessionId) -> Self {
        Self { session: Some(session), ..self }
    }

    /// A method that the resource has not.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("allowed here: {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
    }

    /// The token that was shown does not permit it.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self { code: Some(ErrorCode::Unauthorized), ..Self::new(StatusCode::FORBIDDEN, detail) }
    }

    /// Too many wrong tokens came.
    #[must_use]
    pub fn too_many_tokens(retry_after_s: u32, detail: impl Into<String>) -> Self {
        Self {
            code: Some(ErrorCode::TooMany),
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    /// The recordings' disk failed, or does not answer; `detail` is told where it failed, and the reason is logged.
    #[must_use]
    pub fn of_disk(error: &DiskError, detail: &'static str) -> Self {
        tracing::warn!(%error, "{detail}");
        if !error.is_silent() {
            return Self::signaling(ErrorCode::Internal, detail);
        }
        Self {
            retry_after_s: Some(BUSY_RETRY_AFTER_S),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
    }

    /// The recorder that a request needs does not start. The next request tries it again.
    #[must_use]
    pub fn no_recorder(reason: &str) -> Self {
        let detail = format!("the recorder does not start: {reason}");
        Self { retry_after_s: Some(BUSY_RETRY_AFTER_S), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// The hub's thread has not answered in time.
    #[must_use]
    pub fn no_answer() -> Self {
        let detail = "the server did not answer in time";
        Self {
            code: Some(ErrorCode::Internal),
            retry_after_s: Some(BUSY_RETRY_AFTER_S),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }
}

impl From<HandleError> for Problem {
    fn from(error: HandleError) -> Self {
        Self::signaling(ErrorCode::TooMany, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let status = self.status.as_u16();
        let body = Body { r#type: "about:blank", title, status, detail: &self.detail, code: self.code };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, MEDIA_TYPE);
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(session) = self.session {
            response.extensions_mut().insert(session);
        }
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Makes a problem of an error response that comes from below (the router, the file service) and is none yet.
pub async fn complete(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || response.headers().get(CONTENT_TYPE) == Some(&MEDIA_TYPE) {
        return response;
    }
    let detail = match response.headers().get(ALLOW).and_then(|allow| allow.to_str().ok()) {
        Some(allow) if status == StatusCode::METHOD_NOT_ALLOWED => format!("allowed here: {allow}"),
        _ => status.canonical_reason().unwrap_or("Error").to_owned(),
    };
    let mut problem = Problem::new(status, detail).into_response();
    for (name, value) in response.headers() {
        if name != CONTENT_TYPE && name != CONTENT_LENGTH {
            problem.headers_mut().append(name, value.clone());
        }
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn json(response: Response) -> serde_json::Value {
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn a_problem_names_its_code_and_when_to_come_back() {
        let response = Problem::signaling(ErrorCode::NotLive, "r/u is not live").into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(
            json(response).await,
            serde_json::json!({"type": "about:blank", "title": "Conflict", "status": 409,
                "detail": "r/u is not live", "code": "not-live"})
        );
    }

    #[tokio::test]
    async fn bare_errors_become_problems_and_keep_their_headers() {
        let bare = (StatusCode::RANGE_NOT_SATISFIABLE, [("content-range", "bytes */7")], "no").into_response();
        let problem = complete(bare).await;
        assert_eq!(problem.headers()["content-range"], "bytes */7");
        assert_eq!(json(problem).await["status"], 416);
        let fine = complete((StatusCode::OK, "fine").into_response()).await;
        assert_eq!(axum::body::to_bytes(fine.into_body(), 9).await.unwrap(), "fine");
    }
}

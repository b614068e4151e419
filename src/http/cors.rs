//! Who besides the server's own pages may use its doors, and the CORS answers that say so.
//!
//! **Invariant:** a request that carries an `Origin` reaches a handler behind [`guard`] only when that is the server's own
//! or was allowed by the operator.

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, VARY,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::origin::{Standing, standing};
use super::problem::Problem;
use super::state::AppState;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PATCH, DELETE, OPTIONS");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static("Authorization, Content-Type, If-Match");
const EXPOSED: HeaderValue = HeaderValue::from_static("Location, ETag, Link");
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("86400");

/// Refuses requests of foreign pages, answers preflights of allowed ones, and lets everything else pass.
pub async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let origin = match standing(request.headers(), state.scheme(), state.allowed_origins()) {
        Standing::Own => {
            let mut response = next.run(request).await;
            response.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
            return response;
        }
        Standing::Foreign(origin) => {
            tracing::debug!(origin, path = request.uri().path(), "refused a foreign origin");
            let detail =
                format!("pages of {origin} may not use this server; its operator can allow them with --allow-origin");
            return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
        }
        Standing::Allowed(origin) => origin,
    };
    let is_preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = next.run(request).await;
    if is_preflight {
        // What has an answer to OPTIONS of its own keeps it: that of WHIP says what may be posted (RFC 9725 §4.2).
        if !response.status().is_success() {
            response = StatusCode::NO_CONTENT.into_response();
        }
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    }
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(VARY, HeaderValue::from_static("Origin"));
    response
}

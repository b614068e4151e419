//! The recordings as files, with ranges for seeking.
//!
//! **Invariant:** a path leads out of the recordings' directory under no name: room, user and file are parsed before a
//! path is made of them, and nothing but a recording is served.

use std::io;

use axum::extract::{Path, Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tower_http::services::ServeDir;

use super::caller::Caller;
use super::download::RecordingBackend;
use super::problem::Problem;
use super::state::AppState;
use crate::access::Right;
use crate::signal::{BroadcastId, RoomId, UserId};

/// `GET /recordings/{room}/{user}/{file}`.
pub async fn file(
    State(state): State<AppState>,
    caller: Caller,
    Path((room, user, file)): Path<(String, String, String)>,
    mut request: Request,
) -> Result<Response, Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "there is no such recording");
    let room: RoomId = room.parse().map_err(|_| none())?;
    let user: UserId = user.parse().map_err(|_| none())?;
    caller.require(Right::Recordings, &BroadcastId::new(room.clone(), user.clone()))?;
    if !is_recording(&file) {
        return Err(none());
    }
    *request.uri_mut() = format!("/{room}/{user}/{file}").parse().map_err(|_| none())?;
    let mut service = ServeDir::with_backend(state.record_dir(), RecordingBackend(state.downloads_disk().clone()))
        .append_index_html_on_directories(false);
    let mut response = match service.try_call(request).await {
        Ok(response) if response.status() == StatusCode::NOT_FOUND => return Err(none()),
        Ok(response) => response,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none()),
        Err(error) => return Err(Problem::of_disk(&error.into(), "the recording cannot be read")),
    };
    // A running recording grows, and a finished one is written anew with its index in front.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response.into_response())
}

/// `YYYYMMDD-HHMMSS[-N].mp4`, or the same with `.part.mp4`.
fn is_recording(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".mp4") else { return false };
    let mut parts = stem.strip_suffix(".part").unwrap_or(stem).split('-');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let dated = parts.next().is_some_and(|date| date.len() == 8 && digits(date))
        && parts.next().is_some_and(|time| time.len() == 6 && digits(time));
    let numbered = parts.next().is_none_or(|number| number.len() <= 9 && digits(number));
    dated && numbered && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_recordings_are_served() {
        for name in ["20260102-030405.mp4", "20260102-030405-2.mp4", "20260102-030405.part.mp4"] {
            assert!(is_recording(name), "{name}");
        }
        for name in [
            "",
            ".mp4",
            "..",
            "20260102-030405.mkv",
            "20260102-030405.mp4.txt",
            "20260102-030405-.mp4",
            "20260102-030405-1-2.mp4",
            "2026010-030405.mp4",
            "../20260102-030405.mp4",
            "20260102-030405.part.part.mp4",
            "lock",
        ] {
            assert!(!is_recording(name), "{name}");
        }
    }
}

//! What WHIP and WHEP have in common: an offer that becomes a resource, candidates that trickle after, and the end.
//!
//! **Invariant:** a `POST` that is not answered with 201 leaves no session behind.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::problem::Problem;
use super::resource::{Resource, ResourceId, Trickle, TrickleError};
use super::state::{AppState, Remote};
use crate::hub::io::{Command, Door};
use crate::signal::sdpfrag::{SDPFRAG_MEDIA_TYPE, SdpFrag, SdpFragError};
use crate::signal::{BroadcastId, ErrorCode, NameError, ServerMessage};

/// The longest body that is read.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// How long a body may take to come, and the hub to answer an offer.
const DEADLINE: Duration = Duration::from_secs(10);

const SDP: &str = "application/sdp";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// The methods of an endpoint.
pub const ENDPOINT_ALLOW: &str = "POST, OPTIONS";
/// The methods of a resource.
pub const RESOURCE_ALLOW: &str = "PATCH, DELETE, OPTIONS";

/// The broadcast that the path names.
///
/// # Errors
///
/// A problem with `bad-name`.
pub fn broadcast_of(room: &str, user: &str) -> Result<BroadcastId, Problem> {
    let bad = |error: NameError| Problem::signaling(ErrorCode::BadName, error.to_string());
    Ok(BroadcastId::new(room.parse().map_err(bad)?, user.parse().map_err(bad)?))
}

/// Answers `POST` to an endpoint: the offer becomes a session, and the session a resource under `prefix`.
///
/// # Errors
///
/// A problem, and no session.
pub async fn create(
    state: &AppState,
    remote: Remote,
    door: Door,
    broadcast: BroadcastId,
    request: Request,
) -> Result<Response, Problem> {
    require_media_type(request.headers(), SDP)?;
    let offer = body_of(request.into_body()).await?;
    let ufrag = ufrag_of(&offer).map(str::to_owned);
    let (prefix, command) = match door {
        Door::Whep => ("whep", Command::Play { broadcast: broadcast.clone(), offer }),
        Door::Whip | Door::WebSocket => ("whip", Command::Register { broadcast: broadcast.clone(), offer }),
    };
    let mut session = state.handle().open(door, remote.0.ip())?;
    session.send(Some("offer".to_owned()), command)?;
    let answer = loop {
        let signal = tokio::time::timeout(DEADLINE, session.recv()).await.map_err(|_| Problem::no_answer())?;
        match signal.map(|signal| signal.message) {
            Some(ServerMessage::Registered { sdp, .. } | ServerMessage::Answer { sdp }) => break sdp,
            Some(ServerMessage::Error { code, message, .. }) => return Err(Problem::signaling(code, message)),
            Some(_) => {}
            None => return Err(Problem::no_answer()),
        }
    };
    let id = ResourceId::random().map_err(|error| Problem::signaling(ErrorCode::Internal, error.to_string()))?;
    let etag = format!("\"{}\"", session.id().0);
    let location = format!("/{prefix}/{broadcast}/{id}");
    let resource = Resource { door, broadcast, ufrag, etag: etag.clone() };
    tracing::debug!(session = session.id().0, resource = ?id, broadcast = %resource.broadcast, "a resource begins");
    state
        .resources()
        .insert(id, resource, session, state.stopping())
        .ok_or_else(|| Problem::signaling(ErrorCode::TooMany, "the server has no room for another session"))?;
    let headers = [
        (CONTENT_TYPE, SDP.to_owned()),
        (LOCATION, location),
        (ETAG, etag),
        (ACCEPT_PATCH, SDPFRAG_MEDIA_TYPE.to_owned()),
    ];
    Ok((StatusCode::CREATED, headers, answer).into_response())
}

/// Answers `PATCH` to a resource: candidates are taken, an ICE restart is refused with 422 (RFC 9725 §4.3).
///
/// # Errors
///
/// A problem; the session goes on.
pub async fn trickle(
    state: &AppState,
    door: Door,
    path: (String, String, String),
    request: Request,
) -> Result<Response, Problem> {
    let (id, resource) = find(state, door, &path)?;
    require_media_type(request.headers(), SDPFRAG_MEDIA_TYPE)?;
    let if_match = request.headers().get(IF_MATCH).cloned();
    if if_match.as_ref().is_some_and(|tags| !matches_tag(tags, &resource.etag)) {
        return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "the ICE session is another one by now"));
    }
    let fragment = fragment_of(&body_of(request.into_body()).await?)?;
    let ufrag = fragment.credentials.map(|credentials| credentials.ufrag);
    if ufrag.is_some() && resource.ufrag.is_some() && ufrag != resource.ufrag {
        let detail = "ICE restart is not supported: delete the resource and post a new offer";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let mut candidates: Trickle = fragment.candidates.into_iter().map(Some).collect();
    candidates.extend(fragment.end_of_candidates.then_some(None));
    match state.resources().trickle(id, candidates) {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(TrickleError::Gone) => Err(gone()),
        Err(TrickleError::Busy) => Err(Problem::signaling(ErrorCode::TooMany, "too many candidates at once")),
    }
}

/// Answers `DELETE` to a resource.
///
/// # Errors
///
/// A problem where there is no such resource.
pub fn delete(state: &AppState, door: Door, path: &(String, String, String)) -> Result<Response, Problem> {
    let (id, _) = find(state, door, path)?;
    if state.resources().remove(id) { Ok(StatusCode::OK.into_response()) } else { Err(gone()) }
}

/// Answers `OPTIONS` to an endpoint.
pub async fn endpoint_options() -> Response {
    (StatusCode::NO_CONTENT, [(ALLOW, ENDPOINT_ALLOW), (ACCEPT_POST, SDP)]).into_response()
}

/// Answers `OPTIONS` to a resource.
pub async fn resource_options() -> Response {
    (StatusCode::NO_CONTENT, [(ALLOW, RESOURCE_ALLOW), (ACCEPT_PATCH, SDPFRAG_MEDIA_TYPE)]).into_response()
}

fn gone() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such session (any more)")
}

fn find(
    state: &AppState,
    door: Door,
    (room, user, id): &(String, String, String),
) -> Result<(ResourceId, Resource), Problem> {
    let broadcast = broadcast_of(room, user)?;
    let id: ResourceId = id.parse().map_err(|_| gone())?;
    let resource = state.resources().get(id).ok_or_else(gone)?;
    if resource.door == door && resource.broadcast == broadcast { Ok((id, resource)) } else { Err(gone()) }
}

fn require_media_type(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.and_then(|value| value.split(';').next()).map_or("", str::trim);
    if essence.eq_ignore_ascii_case(wanted) {
        Ok(())
    } else {
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the body must be {wanted}")))
    }
}

async fn body_of(body: Body) -> Result<String, Problem> {
    let whole = tokio::time::timeout(DEADLINE, collect(body)).await;
    let bytes = whole.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))??;
    String::from_utf8(bytes).map_err(|_| Problem::signaling(ErrorCode::BadSdp, "the body is not UTF-8"))
}

async fn collect(body: Body) -> Result<Vec<u8>, Problem> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body could not be read"))?;
        if bytes.len() + chunk.len() > BODY_MAX_BYTES {
            let detail = format!("a body has at most {BODY_MAX_BYTES} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Whether an `If-Match` names the tag (RFC 9110 §13.1.1), quoted or, as RFC 9725's clients send it too, not.
fn matches_tag(tags: &HeaderValue, etag: &str) -> bool {
    let Ok(tags) = tags.to_str() else { return false };
    let bare = |tag: &str| tag.trim().trim_matches('"').to_owned();
    tags.split(',').map(bare).any(|tag| tag == "*" || tag == bare(etag))
}

fn fragment_of(text: &str) -> Result<SdpFrag, Problem> {
    SdpFrag::parse(text).map_err(|error| match error {
        SdpFragError::TooLong => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        _ => Problem::signaling(ErrorCode::BadSdp, error.to_string()),
    })
}

/// The ICE username fragment of an offer: the first, since everything is bundled.
fn ufrag_of(sdp: &str) -> Option<&str> {
    sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_match_with_and_without_quotes() {
        for (tags, matches) in
            [("\"7\"", true), ("7", true), ("*", true), ("\"*\"", true), ("\"6\", \"7\"", true), ("\"77\"", false)]
        {
            assert_eq!(matches_tag(&HeaderValue::from_static(tags), "\"7\""), matches, "{tags}");
        }
    }
}

//! What WHIP and WHEP have in common: an offer that becomes a resource, candidates that trickle after, ICE restarts, and the
//! end.
//!
//! **Invariant:** a `POST` that is not answered with 201 leaves no session behind.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ACCEPT, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LINK, LOCATION,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tokio::sync::oneshot;

use super::problem::Problem;
use super::resource::{EntityTag, Patch, PatchError, Resource, ResourceId, Restart, Trickle};
use super::state::{AppState, Remote};
use super::webhook::{Question, Refusal, Wanted};
use crate::handle::Session;
use crate::hub::io::{Command, Door, SessionId};
use crate::signal::answer::with_rtcp_mux_only;
use crate::signal::sdpfrag::{FragCredentials, SDPFRAG_MEDIA_TYPE, SdpFrag, SdpFragError};
use crate::signal::{BroadcastId, ErrorCode, NameError, ServerMessage};

/// The longest body that is read.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// How long a body may take to come, and the hub to answer an offer.
const DEADLINE: Duration = Duration::from_secs(10);

const SDP: &str = "application/sdp";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// The methods of an endpoint.
pub const ENDPOINT_ALLOW: &str = "GET, HEAD, POST, OPTIONS";
/// The methods of a resource.
pub const RESOURCE_ALLOW: &str = "GET, HEAD, PATCH, DELETE, OPTIONS";

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
    require_accepted(request.headers(), SDP)?;
    let offer = body_of(request.into_body()).await?;
    let credentials = credentials_of(&offer);
    let (prefix, command, wanted) = match door {
        Door::Whep => ("whep", Command::Play { broadcast: broadcast.clone(), offer }, Wanted::Play(broadcast.clone())),
        Door::Whip | Door::WebSocket => {
            ("whip", Command::Register { broadcast: broadcast.clone(), offer }, Wanted::Publish(broadcast.clone()))
        }
    };
    if let Some(asker) = state.asker() {
        asker.ask(&Question { wanted, door, remote: remote.0.ip() }).await.map_err(|refusal| not_let_in(&refusal))?;
    }
    let session = state.handle().open(door, remote.0.ip())?;
    let number = session.id();
    let resource = Resource { door, broadcast, credentials, etag: EntityTag::first(number.0) };
    about(number, begin(state, session, resource, prefix, command).await)
}

async fn begin(
    state: &AppState,
    mut session: Session,
    resource: Resource,
    prefix: &str,
    command: Command,
) -> Result<Response, Problem> {
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
    let headers = [
        (CONTENT_TYPE, SDP.to_owned()),
        (LOCATION, format!("/{prefix}/{}/{id}", resource.broadcast)),
        (ETAG, resource.etag.to_string()),
        (ACCEPT_PATCH, SDPFRAG_MEDIA_TYPE.to_owned()),
    ];
    tracing::debug!(session = session.id().0, resource = ?id, broadcast = %resource.broadcast, "a resource begins");
    state
        .resources()
        .insert(id, resource, session, state.stopping())
        .ok_or_else(|| Problem::signaling(ErrorCode::TooMany, "the server has no room for another session"))?;
    let mut response = (StatusCode::CREATED, headers, with_rtcp_mux_only(&answer)).into_response();
    tell_ice_servers(state, &mut response);
    Ok(response)
}

fn not_let_in(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::Denied(_) => Problem::forbidden(refusal.to_string()),
        Refusal::TooMany => Problem::signaling(ErrorCode::TooMany, refusal.to_string()),
    }
}

/// Lets the number of the session that it is about go with an answer, for the log.
fn about(session: SessionId, answer: Result<Response, Problem>) -> Result<Response, Problem> {
    let mut response = answer.map_err(|problem| problem.of_session(session))?;
    response.extensions_mut().insert(session);
    Ok(response)
}

/// Answers `PATCH` to a resource: candidates with 204, an ICE restart with the server's new credentials (RFC 9725 §4.3).
///
/// # Errors
///
/// A problem; the session goes on, with the ICE session that it has.
pub async fn patch(
    state: &AppState,
    door: Door,
    path: (String, String, String),
    request: Request,
) -> Result<Response, Problem> {
    let (id, resource) = find(state, door, &path)?;
    about(resource.etag.session(), change(state, id, &resource, request).await)
}

async fn change(state: &AppState, id: ResourceId, resource: &Resource, request: Request) -> Result<Response, Problem> {
    require_media_type(request.headers(), SDPFRAG_MEDIA_TYPE)?;
    match request.headers().get(IF_MATCH) {
        Some(tags) if matches_tag(tags, resource.etag) => {}
        Some(_) => return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "the ICE session is another one by now")),
        None => return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "If-Match is missing: send the ETag")),
    }
    let fragment = fragment_of(&body_of(request.into_body()).await?)?;
    let mut candidates: Trickle = fragment.candidates.into_iter().map(Some).collect();
    candidates.extend(fragment.end_of_candidates.then_some(None));
    match fragment.credentials {
        Some(credentials) if resource.credentials.as_ref() != Some(&credentials) => {
            restart(state, id, credentials, candidates).await
        }
        _ => {
            state.resources().patch(id, Patch::Trickle(candidates)).map_err(refused)?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
    }
}

async fn restart(
    state: &AppState,
    id: ResourceId,
    credentials: FragCredentials,
    candidates: Trickle,
) -> Result<Response, Problem> {
    let (reply, outcome) = oneshot::channel();
    state.resources().patch(id, Patch::Restart(Restart { credentials, candidates, reply })).map_err(refused)?;
    let outcome = tokio::time::timeout(DEADLINE, outcome).await.map_err(|_| Problem::no_answer())?;
    let restarted = outcome.map_err(|_| gone())?.map_err(|error| Problem::signaling(error.code, error.reason))?;
    let fragment = SdpFrag::of_answer(&restarted.answer)
        .ok_or_else(|| Problem::signaling(ErrorCode::Internal, "the answer says nothing of ICE"))?;
    let headers = [(CONTENT_TYPE, SDPFRAG_MEDIA_TYPE.to_owned()), (ETAG, restarted.etag.to_string())];
    Ok((StatusCode::OK, headers, fragment.to_string()).into_response())
}

fn refused(error: PatchError) -> Problem {
    match error {
        PatchError::Gone => gone(),
        PatchError::Busy => Problem::signaling(ErrorCode::TooMany, "too many requests at once"),
    }
}

/// Answers `DELETE` to a resource.
///
/// # Errors
///
/// A problem where there is no such resource.
pub fn delete(state: &AppState, door: Door, path: &(String, String, String)) -> Result<Response, Problem> {
    let (id, resource) = find(state, door, path)?;
    let removed = if state.resources().remove(id) { Ok(StatusCode::OK.into_response()) } else { Err(gone()) };
    about(resource.etag.session(), removed)
}

/// Answers `OPTIONS` to an endpoint. Whoever may use it is told the ICE servers, too, for clients that cannot take them once
/// they have made an offer; but no browser's preflight, which tells its page nothing (RFC 9725 §4.6).
pub fn endpoint_options(state: &AppState, may_use: bool, headers: &HeaderMap) -> Response {
    let mut response = (StatusCode::OK, [(ALLOW, ENDPOINT_ALLOW), (ACCEPT_POST, SDP)]).into_response();
    if may_use && !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        tell_ice_servers(state, &mut response);
    }
    response
}

fn tell_ice_servers(state: &AppState, response: &mut Response) {
    for server in state.ice_servers().for_client() {
        for link in server.links() {
            response.headers_mut().append(LINK, link);
        }
    }
}

/// Answers `OPTIONS` to a resource.
pub async fn resource_options() -> Response {
    (StatusCode::OK, [(ALLOW, RESOURCE_ALLOW), (ACCEPT_PATCH, SDPFRAG_MEDIA_TYPE)]).into_response()
}

/// Answers `GET` to an endpoint, which has nothing to show (RFC 9725 §4.1).
pub async fn endpoint_get() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Answers `GET` to a resource.
///
/// # Errors
///
/// A problem where there is no such resource.
pub fn get(state: &AppState, door: Door, path: &(String, String, String)) -> Result<Response, Problem> {
    find(state, door, path).map(|_| StatusCode::NO_CONTENT.into_response())
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

/// Refuses a client that names what it accepts and leaves `offered` out (RFC 9110 §12.5.1).
fn require_accepted(headers: &HeaderMap, offered: &str) -> Result<(), Problem> {
    let mut ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    let kind = offered.split('/').next().unwrap_or_default();
    let is_accepted = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        let mut weights = parts.filter_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        let is_refused = weights.any(|weight| weight == 0.0);
        let any_of_kind =
            range.strip_suffix("/*").is_some_and(|given| given == "*" || given.eq_ignore_ascii_case(kind));
        !is_refused && (any_of_kind || range.eq_ignore_ascii_case(offered))
    };
    if ranges.peek().is_none() || ranges.any(|value| value.split(',').any(is_accepted)) {
        Ok(())
    } else {
        Err(Problem::new(StatusCode::NOT_ACCEPTABLE, format!("the answer is {offered}")))
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
fn matches_tag(tags: &HeaderValue, etag: EntityTag) -> bool {
    let Ok(tags) = tags.to_str() else { return false };
    let etag = etag.to_string();
    let bare = |tag: &str| tag.trim().trim_matches('"').to_owned();
    tags.split(',').map(bare).any(|tag| tag == "*" || tag == bare(&etag))
}

fn fragment_of(text: &str) -> Result<SdpFrag, Problem> {
    SdpFrag::parse(text).map_err(|error| match error {
        SdpFragError::TooLong => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        _ => Problem::signaling(ErrorCode::BadSdp, error.to_string()),
    })
}

/// The ICE credentials of an offer: the first, since everything is bundled.
fn credentials_of(offer: &str) -> Option<FragCredentials> {
    let value = |name| offer.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    Some(FragCredentials { ufrag: value("a=ice-ufrag:")?, password: value("a=ice-pwd:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_match_with_and_without_quotes() {
        let tag = EntityTag::first(7);
        for (tags, matches) in [
            ("\"7.0\"", true),
            ("7.0", true),
            ("*", true),
            ("\"*\"", true),
            ("\"6.0\", \"7.0\"", true),
            ("\"7.1\"", false),
            ("W/\"7.0\"", false),
            ("", false),
        ] {
            assert_eq!(matches_tag(&HeaderValue::from_static(tags), tag), matches, "{tags}");
        }
    }

    #[test]
    fn what_is_accepted_must_be_sdp_where_it_is_told() {
        for (accept, is_accepted) in [
            (None, true),
            (Some("*/*"), true),
            (Some("text/html, Application/SDP;q=0.5"), true),
            (Some("application/*"), true),
            (Some("text/html"), false),
            (Some("text/*, application/json"), false),
            (Some("application/sdp; q=0"), false),
        ] {
            let headers = accept.map(|accept| (ACCEPT, HeaderValue::from_static(accept))).into_iter().collect();
            assert_eq!(require_accepted(&headers, SDP).is_ok(), is_accepted, "{accept:?}");
        }
    }
}

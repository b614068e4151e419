//! What programs ask: live broadcasts, ICE servers, health and metrics.
//!
//! **Invariant:** nothing here changes anything, and nothing waits longer for the hub than [`SNAPSHOT_DEADLINE`].

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::caller::Caller;
use super::ice_server::IceServer;
use super::metrics::{Sample, hub_samples, prometheus_text};
use super::problem::Problem;
use super::state::AppState;
use crate::access::{Permit, Right};
use crate::hub::io::{BroadcastSnapshot, Snapshot};
use crate::rtp::codec::{Codec, TrackKind};
use crate::signal::{BroadcastId, ErrorCode};

/// How long the hub's thread may take for a look at what is live.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(1);

const NO_STORE: [(axum::http::HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

/// A live broadcast.
#[derive(Serialize, ToSchema)]
pub struct Broadcast {
    #[schema(value_type = String, example = "kitchen/anna")]
    id: BroadcastId,
    /// When its media began to flow.
    #[schema(format = DateTime)]
    since: String,
    tracks: Vec<Track>,
    /// Connected viewers by every door.
    viewers: usize,
    /// In bits a second, as the contract names it.
    bitrate: u64,
    /// Whether it is being recorded.
    recording: bool,
    /// Why it is not being recorded, where it should be: one line for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    recording_error: Option<String>,
    /// Told only where it is true: something is wrong with the encoder's settings.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    b_frames: bool,
}

/// One of its tracks.
#[derive(Serialize, ToSchema)]
pub struct Track {
    /// Audio or video.
    kind: TrackKind,
    /// What it is encoded with.
    codec: Codec,
}

/// `GET /api/broadcasts`.
pub async fn broadcasts(State(state): State<AppState>, Caller { permit, .. }: Caller) -> Result<Response, Problem> {
    let snapshot = snapshot(&state).await?;
    Ok((NO_STORE, Json(visible(&snapshot, &permit))).into_response())
}

/// What of it may be seen.
pub fn visible(snapshot: &Snapshot, permit: &Permit) -> Vec<Broadcast> {
    let now = OffsetDateTime::now_utc();
    let seen = snapshot.broadcasts.iter().filter(|live| permit.may(Right::Watch, &live.id));
    seen.map(|live| broadcast(live, now)).collect()
}

fn broadcast(live: &BroadcastSnapshot, now: OffsetDateTime) -> Broadcast {
    let since = now - live.live_for;
    // Whole seconds: the moment is reckoned back at each request and would waver by the time of the answer.
    let since = since.replace_nanosecond(0).unwrap_or(since);
    Broadcast {
        id: live.id.clone(),
        since: since.format(&Rfc3339).unwrap_or_default(),
        tracks: live.tracks.iter().map(|track| Track { kind: track.kind, codec: track.codec }).collect(),
        viewers: live.viewers,
        bitrate: live.bitrate_bps,
        recording: live.recording,
        recording_error: live.recording_error.clone(),
        b_frames: live.b_frames,
    }
}

/// What a browser's `RTCPeerConnection` takes.
#[derive(Serialize, ToSchema)]
pub struct Connectivity {
    #[serde(rename = "iceServers")]
    ice_servers: Vec<IceServer>,
}

/// `GET /api/ice-servers`: for whoever may publish or watch something, since a TURN server relays for whoever has a login.
pub async fn ice_servers(State(state): State<AppState>, caller: Caller) -> Result<Response, Problem> {
    caller.require_somewhere([Right::Publish, Right::Watch])?;
    Ok((NO_STORE, Json(Connectivity { ice_servers: state.ice_servers().for_client() })).into_response())
}

/// `GET /healthz`: whether the hub's thread answers.
pub async fn health(State(state): State<AppState>) -> Result<Response, Problem> {
    snapshot(&state).await?;
    Ok((NO_STORE, "ok\n").into_response())
}

/// `GET /metrics`: OpenMetrics for those who ask for it, else the older Prometheus text format.
pub async fn metrics(State(state): State<AppState>, caller: Caller, headers: HeaderMap) -> Result<Response, Problem> {
    caller.require_everywhere(Right::Operate)?;
    let snapshot = snapshot(&state).await;
    let mut samples = vec![Sample::gauge("onair_up", "Whether the hub's thread answers", u64::from(snapshot.is_ok()))];
    if let Ok(snapshot) = snapshot {
        samples.extend(hub_samples(&snapshot.metrics));
    }
    samples.extend(state.sources().iter().flat_map(|source| source()));
    let internal = |error: std::fmt::Error| Problem::signaling(ErrorCode::Internal, error.to_string());
    let text = state.metrics().open_metrics(samples).map_err(internal)?;
    let wants_open_metrics = headers
        .get_all(ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("application/openmetrics-text")));
    let (media_type, text) = if wants_open_metrics {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", text)
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", prometheus_text(&text))
    };
    Ok((NO_STORE, [(CONTENT_TYPE, media_type)], text).into_response())
}

/// What is live, in time.
pub async fn snapshot(state: &AppState) -> Result<Snapshot, Problem> {
    match tokio::time::timeout(SNAPSHOT_DEADLINE, state.handle().snapshot()).await {
        Ok(snapshot) => Ok(snapshot?),
        Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the hub's thread does not answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::io::TrackInfo;
    use time::macros::datetime;

    #[test]
    fn a_broadcast_tells_when_it_began() {
        let live = BroadcastSnapshot {
            id: "r/u".parse().unwrap(),
            live_for: Duration::from_millis(61_500),
            tracks: vec![TrackInfo { kind: TrackKind::Video, codec: Codec::H264 }],
            viewers: 2,
            bitrate_bps: 9,
            recording: true,
            recording_error: None,
            b_frames: false,
        };
        let shown = broadcast(&live, datetime!(2026-01-01 00:01:02.9 UTC));
        assert_eq!(
            serde_json::to_value(shown).unwrap(),
            serde_json::json!({"id": "r/u", "since": "2026-01-01T00:00:01Z",
                "tracks": [{"kind": "video", "codec": "h264"}], "viewers": 2, "bitrate": 9, "recording": true})
        );
        let recording_error = Some("ffmpeg ended".to_owned());
        let live = BroadcastSnapshot { b_frames: true, recording: false, recording_error, ..live };
        let shown = serde_json::to_value(broadcast(&live, datetime!(2026-01-01 00:01:02.9 UTC))).unwrap();
        assert_eq!((&shown["b_frames"], &shown["recording_error"]), (&true.into(), &"ffmpeg ended".into()));
    }
}

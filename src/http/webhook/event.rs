//! What befalls broadcasts and recordings, as the webhook is told it.
//!
//! **Invariant:** an event holds nothing that its broadcast's viewers may not know, but for the recording's file.

use serde::Serialize;

use super::question::timestamp;
use crate::hub::io::{FileFacts, News, Notice, RecordingNews};
use crate::rtp::codec::{Codec, TrackKind};
use crate::signal::message::{LeaveReason, RecordingState};

/// One event.
#[derive(Serialize)]
pub struct Event<'a> {
    /// The `type`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    timestamp: String,
    room: &'a str,
    user: &'a str,
    #[serde(flatten)]
    details: Details<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Details<'a> {
    Started {
        tracks: Vec<Track>,
    },
    Ended {
        reason: LeaveReason,
    },
    Recording {
        file: Option<&'a str>,
        error: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        duration_s: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        size_bytes: Option<u64>,
    },
}

#[derive(Serialize)]
struct Track {
    kind: TrackKind,
    codec: Codec,
}

impl<'a> Event<'a> {
    /// The event of a notice, if the webhook is told of such.
    #[must_use]
    pub fn of(notice: &'a Notice) -> Option<Self> {
        let (kind, details) = match &notice.news {
            News::Connected { tracks, .. } => {
                let tracks = tracks.iter().map(|track| Track { kind: track.kind, codec: track.codec }).collect();
                ("broadcast-started", Details::Started { tracks })
            }
            News::Disconnected { reason } => ("broadcast-ended", Details::Ended { reason: *reason }),
            News::Recording(RecordingNews { state, file, error, facts }) => {
                let kind = match state {
                    RecordingState::Started => "recording-started",
                    RecordingState::Finished => "recording-finished",
                    RecordingState::Failed => "recording-failed",
                };
                let duration_s = facts.as_ref().map(FileFacts::duration_s);
                let size_bytes = facts.map(|facts| facts.size_bytes);
                let (file, error) = (file.as_deref(), error.as_deref());
                (kind, Details::Recording { file, error, duration_s, size_bytes })
            }
            // Numbers that change each second are what metrics and the event stream are for.
            News::Viewers { .. } => return None,
        };
        let (room, user) = (notice.broadcast.room.as_str(), notice.broadcast.user.as_str());
        Some(Self { kind, timestamp: timestamp(), room, user, details })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use serde_json::{Value, json};

    use crate::hub::io::{SessionId, TrackInfo};

    fn told(news: News) -> Option<Value> {
        let notice = Notice { seq: 1, broadcast: "lab/ada".parse().unwrap(), news };
        let mut event = serde_json::to_value(Event::of(&notice)?).unwrap();
        let timestamp = event.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert!(timestamp.as_str().is_some_and(|text| text.ends_with('Z')), "{timestamp}");
        Some(event)
    }

    fn recording(state: RecordingState, file: Option<String>, error: Option<String>, facts: Option<FileFacts>) -> News {
        News::Recording(RecordingNews { state, file, error, facts })
    }

    #[test]
    fn notices_become_events() {
        let tracks = vec![TrackInfo { kind: TrackKind::Video, codec: Codec::H264 }];
        assert_eq!(
            told(News::Connected { session: SessionId(1), tracks }),
            Some(json!({"type": "broadcast-started", "room": "lab", "user": "ada",
                "tracks": [{"kind": "video", "codec": "h264"}]}))
        );
        assert_eq!(
            told(News::Disconnected { reason: LeaveReason::Timeout }),
            Some(json!({"type": "broadcast-ended", "room": "lab", "user": "ada", "reason": "timeout"}))
        );
        let file = Some("lab/ada/x.mp4".to_owned());
        let facts = Some(FileFacts { duration: Duration::from_millis(3_500), size_bytes: 4_096 });
        assert_eq!(
            told(recording(RecordingState::Finished, file, None, facts)),
            Some(json!({"type": "recording-finished", "room": "lab", "user": "ada", "file": "lab/ada/x.mp4",
                "error": null, "duration_s": 3.5, "size_bytes": 4_096}))
        );
        let error = Some("the disk is full".to_owned());
        assert_eq!(
            told(recording(RecordingState::Failed, None, error, None)),
            Some(json!({"type": "recording-failed", "room": "lab", "user": "ada", "file": null,
                "error": "the disk is full"}))
        );
        assert_eq!(told(News::Viewers { count: 3 }), None);
    }
}

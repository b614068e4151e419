//! What befalls broadcasts and recordings, as the webhook is told it.
//!
//! **Invariant:** an event holds nothing that its broadcast's viewers may not know, but for the recording's file.

use serde::Serialize;

use super::question::timestamp;
use crate::hub::io::{News, Notice};
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
    Started { tracks: Vec<Track> },
    Ended { reason: LeaveReason },
    Recording { file: Option<&'a str>, error: Option<&'a str> },
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
            News::Recording { state, file, error } => {
                let kind = match state {
                    RecordingState::Started => "recording-started",
                    RecordingState::Finished => "recording-finished",
                    RecordingState::Failed => "recording-failed",
                };
                (kind, Details::Recording { file: file.as_deref(), error: error.as_deref() })
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
        assert_eq!(
            told(News::Recording { state: RecordingState::Finished, file, error: None }),
            Some(json!({"type": "recording-finished", "room": "lab", "user": "ada", "file": "lab/ada/x.mp4",
                "error": null}))
        );
        let error = Some("the disk is full".to_owned());
        assert_eq!(
            told(News::Recording { state: RecordingState::Failed, file: None, error }),
            Some(json!({"type": "recording-failed", "room": "lab", "user": "ada", "file": null,
                "error": "the disk is full"}))
        );
        assert_eq!(told(News::Viewers { count: 3 }), None);
    }
}

//! What the hub and the recorder tell each other.
//!
//! **Invariant:** a recorder that does nothing, or fails, changes nothing for viewers.

use std::time::Instant;

use super::Hub;
use super::io::{Door, News, RecordingId};
use crate::rtp::codec::TrackKind;
use crate::signal::ServerMessage;
use crate::signal::message::RecordingState;

impl Hub {
    /// The recorder lost packets.
    pub(super) fn keyframe_for_recording(&mut self, now: Instant, recording: RecordingId) {
        let found = self.recordings.get(&recording).and_then(|(_, id)| self.rooms.find(id));
        let Some(key) = found else {
            return;
        };
        if let Some(track) = self.broadcasts.get_mut(key).and_then(|it| it.track_mut(TrackKind::Video)) {
            track.keyframes.want();
        }
        self.request_keyframe(now, key);
    }

    /// Tells a broadcaster how its recording fares.
    pub(super) fn tell_recording(
        &mut self,
        recording: RecordingId,
        state: RecordingState,
        file: Option<String>,
        error: Option<String>,
    ) {
        let Some((session, broadcast)) = self.recordings.get(&recording).cloned() else {
            return;
        };
        let key = self.rooms.find(&broadcast);
        let entry = key.and_then(|key| self.broadcasts.get_mut(key));
        let runs = entry.filter(|entry| entry.recording == Some(recording));
        let is_over = runs.is_none();
        if let Some(entry) = runs {
            entry.recording_runs = state == RecordingState::Started;
        }
        self.notify(broadcast.clone(), News::Recording { state, file: file.clone(), error: error.clone() });
        let message = ServerMessage::Recording { broadcast, state, file, error };
        if self.sessions.get(session).is_some_and(|entry| entry.door == Door::WebSocket) {
            self.signal(session, None, message);
        }
        if is_over && state != RecordingState::Started {
            self.recordings.remove(&recording);
        }
    }
}

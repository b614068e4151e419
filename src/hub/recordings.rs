//! What the hub and the recorder tell each other.
//!
//! **Invariant:** a recorder that does nothing, or fails, changes nothing for viewers.

use std::time::Instant;

use super::Hub;
use super::io::{Door, Event, News, RecordingId, SessionId, TrackInfo};
use super::keys::BroadcastKey;
use crate::rtp::codec::TrackKind;
use crate::signal::message::RecordingState;
use crate::signal::{BroadcastId, ServerMessage};

/// Recordings of which something may still be told.
const RECORDINGS_MAX: usize = 4096;

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

    /// A broadcast went live: it is recorded where it can be.
    pub(super) fn begin_recording(&mut self, key: BroadcastKey, session: SessionId, tracks: &[TrackInfo]) {
        if !self.config.record || !tracks.iter().all(|track| self.recordable.contains(track.codec)) {
            return;
        }
        if self.recordings.len() >= RECORDINGS_MAX {
            self.forget_oldest_recording();
        }
        let Some(broadcast) = self.broadcasts.get_mut(key) else {
            return;
        };
        self.last_recording += 1;
        let recording = RecordingId(self.last_recording);
        broadcast.recording = Some(recording);
        let (broadcast, tracks) = (broadcast.id.clone(), tracks.to_vec());
        self.recordings.insert(recording, (session, broadcast.clone()));
        self.events.push_back(Event::RecordingStarted { recording, session, broadcast, tracks });
    }

    /// The recorder did not say that it is over, or has far too many to finish: what becomes of it will not be told.
    fn forget_oldest_recording(&mut self) {
        let runs = |(recording, (_, id)): (&RecordingId, &(SessionId, BroadcastId))| {
            let broadcast = self.rooms.find(id).and_then(|key| self.broadcasts.get(key));
            broadcast.is_some_and(|broadcast| broadcast.recording == Some(*recording))
        };
        let oldest = self.recordings.iter().find(|entry| !runs(*entry)).map(|(recording, _)| *recording);
        if let Some(recording) = oldest.or_else(|| self.recordings.keys().next().copied()) {
            self.recordings.remove(&recording);
        }
    }

    /// Tells how a recording fares, its broadcaster and whoever watches the server.
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
        let entry = self.rooms.find(&broadcast).and_then(|key| self.broadcasts.get_mut(key));
        if let Some(entry) = entry.filter(|entry| entry.recording == Some(recording)) {
            match &file {
                Some(begun) if state == RecordingState::Started => entry.recording_file = Some(begun.clone()),
                // The next one may have begun before this one was finished.
                Some(ended) if entry.recording_file.as_ref().is_some_and(|runs| stem(runs) != stem(ended)) => {}
                _ => entry.recording_file = None,
            }
        }
        self.notify(broadcast.clone(), News::Recording { state, file: file.clone(), error: error.clone() });
        let message = ServerMessage::Recording { broadcast, state, file, error };
        if self.sessions.get(session).is_some_and(|entry| entry.door == Door::WebSocket) {
            self.signal(session, None, message);
        }
    }
}

/// A file's name without what it ends with, which differs between one that grows and one that is finished.
fn stem(file: &str) -> &str {
    let file = file.strip_suffix(".mp4").unwrap_or(file);
    file.strip_suffix(".part").unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::super::broadcasts::Broadcast;
    use super::super::config::{HubConfig, IceRole, Limits};
    use super::*;
    use crate::rtp::codec::CodecSet;
    use crate::rtp::ntp::WallClock;
    use crate::rtp::test_epoch;

    #[test]
    fn recordings_that_never_end_make_room_for_new_ones() {
        let now = test_epoch();
        let mut hub = Hub::new(HubConfig {
            candidates: vec![([127, 0, 0, 1], 8189).into()],
            tcp_candidates: vec![],
            ice: IceRole::Lite,
            codecs: vec![],
            start_bitrate_bps: 0,
            record: true,
            recordable: CodecSet::EMPTY,
            limits: Limits::default(),
            seed: 1,
            clock: WallClock::new(now, std::time::Duration::ZERO),
        });
        let id: BroadcastId = "r/u".parse().unwrap();
        let key = hub.broadcasts.insert(Broadcast::new(id.clone(), now));
        hub.rooms.publish(&id, key);
        hub.begin_recording(key, SessionId(1), &[]);
        for number in 2..=RECORDINGS_MAX as u64 {
            hub.recordings.insert(RecordingId(number), (SessionId(1), id.clone()));
        }
        hub.last_recording = RECORDINGS_MAX as u64;
        let other: BroadcastId = "r/v".parse().unwrap();
        let key = hub.broadcasts.insert(Broadcast::new(other.clone(), now));
        hub.rooms.publish(&other, key);
        hub.begin_recording(key, SessionId(2), &[]);
        assert_eq!(hub.recordings.len(), RECORDINGS_MAX);
        let runs = |number| hub.recordings.contains_key(&RecordingId(number));
        assert!(runs(1), "one that runs stays");
        assert!(!runs(2) && runs(3) && runs(RECORDINGS_MAX as u64 + 1));
    }
}

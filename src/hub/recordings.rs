//! What the hub and the recorder tell each other.
//!
//! **Invariant:** a recorder that does nothing, or fails, changes nothing for viewers.

use std::time::Instant;

use super::Hub;
use super::broadcasts::Broadcast;
use super::io::{Door, Event, News, OperationError, RecordingId, RecordingNews, SessionId};
use super::keys::BroadcastKey;
use super::recording::Recording;
use crate::rtp::codec::{CodecSet, TrackKind};
use crate::signal::BroadcastId;
use crate::signal::message::RecordingState;

/// Recordings of which something may still be told.
const RECORDINGS_MAX: usize = 4096;

/// Why nothing is recorded while the recorder is paused.
const PAUSED: &str = "nothing can be written at the moment: the disk is full or does not answer";

impl Hub {
    /// The recorder cannot go on without a keyframe.
    pub(super) fn keyframe_for_recording(&mut self, now: Instant, recording: RecordingId) {
        let Some(key) = self.recorded_as(recording) else {
            return;
        };
        if let Some(track) = self.broadcasts.get_mut(key).and_then(|it| it.track_mut(TrackKind::Video)) {
            track.keyframes.want();
        }
        self.request_keyframe(now, key);
    }

    /// The recorder would like a keyframe, and goes on without one.
    pub(super) fn keyframe_due_for_recording(&mut self, now: Instant, recording: RecordingId) {
        if let Some(key) = self.recorded_as(recording) {
            self.suggest_keyframe(now, key);
        }
    }

    /// The live broadcast that is being recorded as this.
    fn recorded_as(&self, recording: RecordingId) -> Option<BroadcastKey> {
        let (_, id) = self.recordings.get(&recording)?;
        let key = self.rooms.find(id)?;
        self.broadcasts.get(key).filter(|broadcast| broadcast.recording.id == Some(recording)).map(|_| key)
    }

    /// The recorder tells what it can record. Broadcasts that went live before it knew begin to be recorded.
    pub(super) fn set_recordable(&mut self, codecs: CodecSet) {
        self.recordable = codecs;
        for key in self.rooms.all_broadcasts().collect::<Vec<_>>() {
            self.record_if_wanted(key);
        }
    }

    /// Begins to record a live broadcast that the rule or a request wants recorded, where that is possible. Whether the
    /// disk can be written to is the recorder's matter: it begins the file when it can.
    pub(super) fn record_if_wanted(&mut self, key: BroadcastKey) {
        let wants = |it: &Broadcast| it.recording.is_wanted(self.config.record.wants(&it.id));
        if self.broadcasts.get(key).is_some_and(wants) {
            // What cannot be recorded is relayed all the same.
            let _ = self.begin_recording(key);
        }
    }

    /// Begins to record a live broadcast.
    ///
    /// # Errors
    ///
    /// [`OperationError`]; nothing has changed then.
    pub(super) fn begin_recording(&mut self, key: BroadcastKey) -> Result<(), OperationError> {
        let broadcast = self.broadcasts.get(key).filter(|broadcast| broadcast.live_since.is_some());
        let broadcast = broadcast.ok_or(OperationError::NotLive)?;
        let publisher = broadcast.publisher.and_then(|peer| self.peers.get(peer)).ok_or(OperationError::NotLive)?;
        if broadcast.recording.id.is_some() {
            return Err(OperationError::AlreadyRecording);
        }
        if self.recordable.is_empty() {
            return Err(OperationError::NoRecorder);
        }
        if let Some(track) = broadcast.tracks().find(|track| !self.recordable.contains(track.codec)) {
            return Err(OperationError::NotRecordable(track.codec));
        }
        let session = publisher.session;
        self.hand_to_recorder(key, session);
        Ok(())
    }

    fn hand_to_recorder(&mut self, key: BroadcastKey, session: SessionId) {
        if self.recordings.len() >= RECORDINGS_MAX {
            self.forget_oldest_recording();
        }
        let Some(broadcast) = self.broadcasts.get_mut(key) else {
            return;
        };
        self.last_recording += 1;
        let recording = RecordingId(self.last_recording);
        broadcast.recording.id = Some(recording);
        let (broadcast, tracks) = (broadcast.id.clone(), broadcast.track_infos());
        self.recordings.insert(recording, (session, broadcast.clone()));
        self.events.push_back(Event::RecordingStarted { recording, session, broadcast, tracks });
    }

    /// The recorder has told all of a recording. Where its broadcast goes on, another recording may begin.
    pub(super) fn end_of_recording(&mut self, recording: RecordingId) {
        let broadcast = self.recorded_as(recording).and_then(|key| self.broadcasts.get_mut(key));
        if let Some(broadcast) = broadcast {
            broadcast.recording.is_over();
            self.events.push_back(Event::RecordingEnded(recording));
        }
        self.recordings.remove(&recording);
    }

    /// Why a broadcast that should be recorded is not.
    pub(super) fn recording_error(&self, broadcast: &Broadcast) -> Option<String> {
        let Recording { id, file, error, .. } = &broadcast.recording;
        let waits = id.is_some() && file.is_none() && self.recording_paused;
        error.clone().or_else(|| waits.then(|| PAUSED.to_owned()))
    }

    /// The recorder did not say that it is over, or has far too many to finish: what becomes of it will not be told.
    fn forget_oldest_recording(&mut self) {
        let runs = |(recording, (_, id)): (&RecordingId, &(SessionId, BroadcastId))| {
            let broadcast = self.rooms.find(id).and_then(|key| self.broadcasts.get(key));
            broadcast.is_some_and(|broadcast| broadcast.recording.id == Some(*recording))
        };
        let oldest = self.recordings.iter().find(|entry| !runs(*entry)).map(|(recording, _)| *recording);
        if let Some(recording) = oldest.or_else(|| self.recordings.keys().next().copied()) {
            self.recordings.remove(&recording);
        }
    }

    /// Tells how a recording fares, its broadcaster and whoever watches the server.
    pub(super) fn tell_recording(&mut self, recording: RecordingId, mut news: RecordingNews) {
        let Some((session, broadcast)) = self.recordings.get(&recording).cloned() else {
            return;
        };
        if news.state != RecordingState::Finished {
            news.facts = None;
        }
        if let Some(entry) = self.recorded_as(recording).and_then(|key| self.broadcasts.get_mut(key)) {
            entry.recording.note(&news);
        }
        let message = news.message(broadcast.clone());
        self.notify(broadcast, News::Recording(news));
        if self.sessions.get(session).is_some_and(|entry| entry.door == Door::WebSocket) {
            self.signal(session, None, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{HubConfig, IceRole, Limits};
    use super::super::record_rule::RecordRule;
    use super::*;
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
            record: RecordRule::All,
            recordable: CodecSet::EMPTY,
            limits: Limits::default(),
            seed: 1,
            clock: WallClock::new(now, std::time::Duration::ZERO),
        });
        let id: BroadcastId = "r/u".parse().unwrap();
        let key = hub.broadcasts.insert(Broadcast::new(id.clone(), now));
        hub.rooms.publish(&id, key);
        hub.hand_to_recorder(key, SessionId(1));
        for number in 2..=RECORDINGS_MAX as u64 {
            hub.recordings.insert(RecordingId(number), (SessionId(1), id.clone()));
        }
        hub.last_recording = RECORDINGS_MAX as u64;
        let other: BroadcastId = "r/v".parse().unwrap();
        let key = hub.broadcasts.insert(Broadcast::new(other.clone(), now));
        hub.rooms.publish(&other, key);
        hub.hand_to_recorder(key, SessionId(2));
        assert_eq!(hub.recordings.len(), RECORDINGS_MAX);
        let runs = |number| hub.recordings.contains_key(&RecordingId(number));
        assert!(runs(1), "one that runs stays");
        assert!(!runs(2) && runs(3) && runs(RECORDINGS_MAX as u64 + 1));
    }
}

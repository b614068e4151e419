//! What clients with the right to do so ask of a live broadcast: to end it, to begin or to end its recording.
//!
//! **Invariant:** rights are checked before; what is refused here has changed nothing.

use std::time::Instant;

use super::Hub;
use super::io::{Event, Operation, OperationError};
use crate::signal::message::ErrorCode;
use crate::signal::{BroadcastId, LeaveReason, ServerMessage};

impl Hub {
    /// Does what was asked of a broadcast.
    ///
    /// # Errors
    ///
    /// [`OperationError`]
    pub fn operate(&mut self, now: Instant, id: &BroadcastId, operation: Operation) -> Result<(), OperationError> {
        let key = self.rooms.find(id).ok_or(OperationError::NotLive)?;
        let broadcast = self.broadcasts.get_mut(key).ok_or(OperationError::NotLive)?;
        let session = broadcast.publisher.and_then(|peer| self.peers.get(peer)).map(|peer| peer.session);
        match operation {
            // Also one that has yet to begin: it would be live in a moment.
            Operation::Kick => {
                tracing::info!(session = session.map(|session| session.0), broadcast = %id, "an operator ends it");
                if let Some(session) = session {
                    let message = format!("{id} was ended by an operator of this server");
                    self.signal(session, None, ServerMessage::fatal(ErrorCode::Unauthorized, message));
                }
                self.end_broadcast(now, key, LeaveReason::Kicked);
            }
            Operation::StartRecording => {
                self.begin_recording(key)?;
                if let Some(broadcast) = self.broadcasts.get_mut(key) {
                    broadcast.recording.start_by_request();
                }
                tracing::info!(session = session.map(|session| session.0), broadcast = %id, "recording started by request");
            }
            Operation::StopRecording => {
                let recording = broadcast.recording.stop_by_request().ok_or(OperationError::NotRecording)?;
                tracing::info!(session = session.map(|session| session.0), broadcast = %id, "recording stopped by request");
                self.events.push_back(Event::RecordingEnded(recording));
            }
        }
        Ok(())
    }
}

//! What operators may do to a live broadcast.
//!
//! **Invariant:** who may, is asked before; what is refused here has changed nothing.

use std::time::Instant;

use super::Hub;
use super::io::{Event, Operation, OperationError};
use crate::signal::message::ErrorCode;
use crate::signal::{BroadcastId, LeaveReason, ServerMessage};

impl Hub {
    /// Does what an operator asks.
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
            Operation::StopRecording => {
                let recording = broadcast.recording.take().ok_or(OperationError::NotRecording)?;
                broadcast.recording_file = None;
                tracing::info!(session = session.map(|session| session.0), broadcast = %id, "an operator ends its recording");
                self.events.push_back(Event::RecordingEnded(recording));
            }
        }
        Ok(())
    }
}

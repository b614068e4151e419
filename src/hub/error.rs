//! Why the hub says no.

use crate::signal::BroadcastId;
use crate::signal::foreign::SdpError;
use crate::signal::message::{ErrorCode, ServerMessage};

/// A command that was refused and changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What kind of mistake it was.
    pub code: ErrorCode,
    /// One line for a person.
    pub reason: String,
    /// The broadcast it is about.
    pub broadcast: Option<BroadcastId>,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(code: ErrorCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), broadcast: None }
    }

    /// A message out of turn.
    pub fn bad_state(reason: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadState, reason)
    }

    /// SDP that cannot be used.
    pub fn bad_sdp(reason: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::BadSdp, reason.to_string())
    }

    /// SDP that cannot be used, or that has more m-lines than we take.
    pub fn sdp(error: SdpError) -> Self {
        match error {
            SdpError::TooManyMLines(_) => Self::too_many(error.to_string()),
            _ => Self::bad_sdp(error),
        }
    }

    /// A cap was reached.
    pub fn too_many(reason: impl Into<String>) -> Self {
        Self::new(ErrorCode::TooMany, reason)
    }

    /// The server's own fault.
    pub fn internal(reason: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, reason)
    }

    /// Names the broadcast it is about.
    #[must_use]
    pub fn about(mut self, broadcast: &BroadcastId) -> Self {
        self.broadcast = Some(broadcast.clone());
        self
    }
}

impl From<Refusal> for ServerMessage {
    fn from(refusal: Refusal) -> Self {
        Self::Error { code: refusal.code, message: refusal.reason, broadcast: refusal.broadcast, fatal: false }
    }
}

//! Signaling as plain data: names, messages and SDP text, with no socket and no session state.
//!
//! **Invariant:** nothing here does I/O, knows the hub or keeps state between calls.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod answer;
pub mod foreign;
mod formats;
pub mod id;
pub mod message;
mod mids;
mod payload_types;
pub mod sdp;
pub mod sdpfrag;

pub use id::{BroadcastId, NameError, RoomId, UserId};
pub use message::{ClientMessage, ErrorCode, LeaveReason, Request, ServerMessage, Signal};

//! The WebSocket's messages, parsed strictly and written exactly as the contract names them.
//!
//! **Invariant:** a [`ClientMessage`] that exists has every required field and only checked names; unknown fields are
//! ignored.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::id::{BroadcastId, RoomId, UserId};

/// The largest text frame that is parsed, in bytes; a longer one closes the WebSocket with 1009.
pub const FRAME_MAX_BYTES: usize = 64 * 1024;

/// The longest request id that is echoed, in bytes.
pub const REQUEST_ID_MAX_BYTES: usize = 128;

/// The most broadcasts one `select` may name.
pub const SELECT_MAX: usize = 256;

/// One message of a client with the id that its direct reply will carry.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Echoed in the direct reply.
    pub id: Option<String>,
    /// What is asked.
    pub message: ClientMessage,
}

/// What a client may ask.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ClientMessage {
    /// Become the broadcaster of `room/user`.
    Register {
        /// The room.
        room: RoomId,
        /// The user.
        user: UserId,
        /// The offer.
        sdp: String,
        /// Proof of who asks.
        #[serde(default)]
        token: Option<String>,
    },
    /// The broadcaster renegotiates.
    Offer {
        /// The offer.
        sdp: String,
    },
    /// The broadcaster leaves.
    Unregister,
    /// Become a viewer of one broadcast, or of a whole room.
    Subscribe {
        /// The room.
        room: RoomId,
        /// The one user wanted; everyone in the room without it.
        #[serde(default)]
        user: Option<UserId>,
        /// Proof of who asks.
        #[serde(default)]
        token: Option<String>,
    },
    /// A viewer's answer to the server's offer number `seq`.
    Answer {
        /// The answer.
        sdp: String,
        /// The number of the offer that it answers.
        seq: u64,
    },
    /// A viewer of a room names the broadcasts it wants; `null` for all.
    Select {
        /// The broadcasts wanted.
        #[serde(deserialize_with = "required_option")]
        broadcasts: Option<Vec<BroadcastId>>,
    },
    /// A viewer whose network changed asks for an ICE restart.
    Restart,
    /// The viewer leaves.
    Unsubscribe,
    /// A trickled candidate; `None` and an empty one end the candidates.
    Candidate {
        /// The browser's `RTCIceCandidateInit`.
        #[serde(deserialize_with = "required_option")]
        candidate: Option<CandidateInit>,
    },
    /// Is the server there?
    Ping,
}

/// A browser's `RTCIceCandidateInit`; only the candidate line matters, since everything is bundled.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CandidateInit {
    /// The `candidate:…` line; empty at the end of candidates.
    pub candidate: String,
}

/// An `Option` field that must be present, though it may be `null`.
fn required_option<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer)
}

/// Why a text frame is no message.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct ParseError {
    /// The id of the request, where one could be read.
    pub id: Option<String>,
    /// The code that tells a client what kind of mistake it made.
    pub code: ErrorCode,
    /// One line for a person.
    pub reason: String,
}

impl ClientMessage {
    /// Parses one text frame.
    ///
    /// # Errors
    ///
    /// `bad-message` for what is no JSON object, has an unknown `type`, or lacks a field; `bad-name` for a room, user
    /// or broadcast that breaks the rules of names.
    pub fn parse(frame: &str) -> Result<Request, ParseError> {
        let bad = |id, reason: String| ParseError { id, code: ErrorCode::BadMessage, reason };
        if frame.len() > FRAME_MAX_BYTES {
            return Err(bad(None, format!("a message has at most {FRAME_MAX_BYTES} bytes")));
        }
        let envelope: Envelope<'_> =
            serde_json::from_str(frame).map_err(|e| bad(None, format!("not a message: {e}")))?;
        let id = match envelope.id.map(|raw| serde_json::from_str::<String>(raw.get())) {
            None => None,
            Some(Ok(id)) if id.len() <= REQUEST_ID_MAX_BYTES => Some(id),
            Some(_) => {
                let reason = format!("`id` is a string of at most {REQUEST_ID_MAX_BYTES} bytes");
                return Err(bad(None, reason));
            }
        };
        match serde_json::from_str::<ClientMessage>(frame) {
            Ok(ClientMessage::Select { broadcasts: Some(list) }) if list.len() > SELECT_MAX => Err(ParseError {
                id,
                code: ErrorCode::TooMany,
                reason: format!("`select` names at most {SELECT_MAX} broadcasts"),
            }),
            Ok(message) => Ok(Request { id, message }),
            Err(error) => {
                let reason = error.to_string();
                let names_a_name = envelope.names_are_bad();
                let code = if names_a_name { ErrorCode::BadName } else { ErrorCode::BadMessage };
                Err(ParseError { id, code, reason })
            }
        }
    }
}

/// The fields whose mistakes are told apart before the message as a whole is parsed.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    room: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user: Option<&'a RawValue>,
}

impl Envelope<'_> {
    /// Whether a room or user is a string, yet no name.
    fn names_are_bad(&self) -> bool {
        [self.room, self.user]
            .into_iter()
            .flatten()
            .any(|raw| serde_json::from_str::<String>(raw.get()).is_ok_and(|name| name.parse::<RoomId>().is_err()))
    }
}

/// One message to a client, with the id of the request that it answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Signal {
    /// The id of the request, in a direct reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What is said.
    #[serde(flatten)]
    pub message: ServerMessage,
}

impl From<ServerMessage> for Signal {
    fn from(message: ServerMessage) -> Self {
        Self { id: None, message }
    }
}

/// What the server tells a client.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ServerMessage {
    /// The reply to `register`.
    Registered {
        /// The broadcast that now has a broadcaster.
        broadcast: BroadcastId,
        /// The answer.
        sdp: String,
        /// Whether it can and will be recorded.
        recording: bool,
    },
    /// The reply to `subscribe`; an `offer` follows.
    Subscribed {
        /// The room.
        room: RoomId,
        /// The one user asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<UserId>,
        /// The broadcasts whose media flows now.
        broadcasts: Vec<BroadcastId>,
    },
    /// The server's offer to a viewer.
    Offer {
        /// The offer.
        sdp: String,
        /// Its number, to be given in the `answer`.
        seq: u64,
        /// Every m-line that sends now.
        tracks: Vec<Track>,
    },
    /// The answer to a broadcaster's `offer`, or to a WHEP player's.
    Answer {
        /// The answer.
        sdp: String,
    },
    /// A broadcast's media began to flow.
    BroadcasterConnected {
        /// Which one.
        broadcast: BroadcastId,
    },
    /// A broadcast ended.
    BroadcasterDisconnected {
        /// Which one.
        broadcast: BroadcastId,
        /// Why.
        reason: LeaveReason,
    },
    /// How many watch, told to the broadcaster.
    Viewers {
        /// The broadcast.
        broadcast: BroadcastId,
        /// Connected viewers by every door.
        count: usize,
    },
    /// What the recorder does, told to the broadcaster.
    Recording {
        /// The broadcast.
        broadcast: BroadcastId,
        /// What happened.
        state: RecordingState,
        /// The file below the recordings' directory, with `/` between its parts.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        /// What went wrong.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The reply to `unregister`.
    Unregistered,
    /// The reply to `unsubscribe`.
    Unsubscribed,
    /// The reply to `select`.
    Selected,
    /// The reply to `ping`.
    Pong,
    /// A request failed, or the session is over.
    Error {
        /// What kind of mistake.
        code: ErrorCode,
        /// One line for a person.
        message: String,
        /// The broadcast it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        broadcast: Option<BroadcastId>,
        /// The session is over and must not be begun again by itself.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        fatal: bool,
    },
}

impl ServerMessage {
    /// An error that leaves the session as it was.
    #[must_use]
    pub fn error(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Error { code, message: message.into(), broadcast: None, fatal: false }
    }

    /// An error after which the session is over.
    #[must_use]
    pub fn fatal(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Error { code, message: message.into(), broadcast: None, fatal: true }
    }
}

/// One m-line that sends, and the only mapping from mid to broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Track {
    /// The m-line's mid (RFC 8829).
    pub mid: String,
    /// The broadcast that it carries.
    pub broadcast: BroadcastId,
    /// Audio or video.
    pub kind: TrackKind,
}

pub use crate::rtp::codec::TrackKind;

/// Why a broadcast ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaveReason {
    /// The broadcaster left.
    Left,
    /// Nothing came from it for too long.
    Timeout,
    /// Its connection failed.
    Failed,
    /// A later `register` took it over.
    Replaced,
    /// An operator ended it.
    Kicked,
    /// The server stops.
    Shutdown,
}

/// A recording's state, as told to the broadcaster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordingState {
    /// The file is being written.
    Started,
    /// The file is complete.
    Finished,
    /// The file could not be written, or not to its end.
    Failed,
}

/// What kind of mistake an `error` tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// A frame that is no message, or lacks a field.
    BadMessage,
    /// SDP that cannot be used.
    BadSdp,
    /// A message out of turn.
    BadState,
    /// A name that breaks the rules.
    BadName,
    /// Not allowed.
    Unauthorized,
    /// Another session has taken the broadcast over.
    NameTaken,
    /// No codec in common.
    UnsupportedCodec,
    /// A cap was reached.
    TooMany,
    /// The server's own fault.
    Internal,
    /// Nothing is live under that name: said to WHEP players alone, who cannot wait.
    NotLive,
}

//! The WebSocket's messages, parsed strictly and written exactly as the contract names them.
//!
//! **Invariant:** a [`ClientMessage`] that exists has every required field and only checked names; unknown fields are
//! ignored.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

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
    /// The `candidate:…` line; empty at the end of candidates, which is also what a missing one means to a browser.
    #[serde(default)]
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
        // Serde would take arrays too, by the order of the fields.
        if !frame.trim_start().starts_with('{') {
            return Err(bad(None, "a message is a JSON object".to_owned()));
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
                let code = if envelope.names_are_bad() { ErrorCode::BadName } else { ErrorCode::BadMessage };
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
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    room: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user: Option<&'a RawValue>,
    #[serde(borrow, default)]
    broadcasts: Option<&'a RawValue>,
}

impl Envelope<'_> {
    /// Whether a room, user or broadcast that this message is about is a string, yet no name.
    fn names_are_bad(&self) -> bool {
        let kind = self.kind.and_then(parse_raw::<String>);
        match kind.as_deref() {
            Some("register" | "subscribe") => [self.room, self.user]
                .into_iter()
                .flatten()
                .filter_map(parse_raw::<String>)
                .any(|name| name.parse::<RoomId>().is_err()),
            Some("select") => self
                .broadcasts
                .and_then(parse_raw::<Vec<String>>)
                .is_some_and(|ids| ids.iter().any(|id| id.parse::<BroadcastId>().is_err())),
            _ => false,
        }
    }
}

fn parse_raw<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
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
        /// The file below the recordings' directory, with `/` between its parts; null when there is none.
        file: Option<String>,
        /// What went wrong.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// How long a finished file lasts, in seconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        duration_s: Option<f64>,
        /// The size of a finished file.
        #[serde(skip_serializing_if = "Option::is_none")]
        size_bytes: Option<u64>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn parse(message: &Value) -> Result<Request, ParseError> {
        ClientMessage::parse(&message.to_string())
    }

    fn refused(message: &Value) -> (ErrorCode, Option<String>) {
        let error = parse(message).expect_err("refused");
        assert!(!error.reason.is_empty());
        (error.code, error.id)
    }

    /// Every message a client may send, with every field, and what it is parsed to.
    fn every_message() -> Vec<(Value, ClientMessage)> {
        let (room, user) = ("r".parse::<RoomId>().unwrap(), "u".parse::<UserId>().unwrap());
        let line = "candidate:1 1 udp 1 192.0.2.1 1 typ host";
        vec![
            (
                json!({"type": "register", "room": "r", "user": "u", "sdp": "v=0", "token": "t"}),
                ClientMessage::Register {
                    room: room.clone(),
                    user: user.clone(),
                    sdp: "v=0".into(),
                    token: Some("t".into()),
                },
            ),
            (json!({"type": "offer", "sdp": "v=0"}), ClientMessage::Offer { sdp: "v=0".into() }),
            (json!({"type": "unregister"}), ClientMessage::Unregister),
            (
                json!({"type": "subscribe", "room": "r", "user": "u", "token": "t"}),
                ClientMessage::Subscribe { room: room.clone(), user: Some(user.clone()), token: Some("t".into()) },
            ),
            (json!({"type": "answer", "sdp": "v=0", "seq": 7}), ClientMessage::Answer { sdp: "v=0".into(), seq: 7 }),
            (
                json!({"type": "select", "broadcasts": ["r/u"]}),
                ClientMessage::Select { broadcasts: Some(vec![BroadcastId::new(room, user)]) },
            ),
            (json!({"type": "restart"}), ClientMessage::Restart),
            (json!({"type": "unsubscribe"}), ClientMessage::Unsubscribe),
            (
                json!({"type": "candidate", "candidate": {"candidate": line, "sdpMid": "0", "sdpMLineIndex": 0}}),
                ClientMessage::Candidate { candidate: Some(CandidateInit { candidate: line.into() }) },
            ),
            (json!({"type": "ping"}), ClientMessage::Ping),
        ]
    }

    #[test]
    fn every_message_is_parsed_with_and_without_what_is_unknown() {
        for (mut json, message) in every_message() {
            assert_eq!(parse(&json).unwrap(), Request { id: None, message: message.clone() });
            json["id"] = json!("7");
            json["unknown"] = json!({"deep": [1, 2, 3]});
            assert_eq!(parse(&json).unwrap(), Request { id: Some("7".into()), message });
        }
    }

    #[test]
    fn a_missing_field_is_a_bad_message_and_the_id_comes_back() {
        let optional = [("register", "token"), ("subscribe", "token"), ("subscribe", "user")];
        for (json, _) in every_message() {
            let kind = json["type"].as_str().unwrap().to_owned();
            for field in json.as_object().unwrap().keys() {
                let mut lacking = json.clone();
                lacking["id"] = json!("x");
                lacking.as_object_mut().unwrap().remove(field);
                if optional.contains(&(&kind, field)) {
                    assert!(parse(&lacking).is_ok(), "{kind} {field}");
                } else {
                    assert_eq!(refused(&lacking), (ErrorCode::BadMessage, Some("x".into())), "{kind} {field}");
                }
            }
        }
    }

    #[test]
    fn a_field_that_is_null_or_of_another_type_is_a_bad_message() {
        let nullable = [
            ("register", "token"),
            ("subscribe", "token"),
            ("subscribe", "user"),
            ("select", "broadcasts"),
            ("candidate", "candidate"),
        ];
        for (json, _) in every_message() {
            let kind = json["type"].as_str().unwrap().to_owned();
            for field in json.as_object().unwrap().keys() {
                for wrong in [json!(null), json!(true), json!(-1), json!([1]), json!({"candidate": 1})] {
                    let mut other = json.clone();
                    other[field] = wrong.clone();
                    if wrong.is_null() && nullable.contains(&(&kind, field)) {
                        assert!(parse(&other).is_ok(), "{kind} {field}");
                    } else {
                        assert_eq!(refused(&other), (ErrorCode::BadMessage, None), "{kind} {field} {wrong}");
                    }
                }
            }
        }
    }

    #[test]
    fn names_that_are_none_are_told_from_other_mistakes() {
        let bad_name = (ErrorCode::BadName, Some("7".to_owned()));
        let bad_message = (ErrorCode::BadMessage, Some("7".to_owned()));
        for (json, expected) in [
            (json!({"id": "7", "type": "register", "room": "a b", "user": "u", "sdp": ""}), &bad_name),
            (json!({"id": "7", "type": "register", "room": "r", "user": "../u", "sdp": ""}), &bad_name),
            (json!({"id": "7", "type": "subscribe", "room": ""}), &bad_name),
            (json!({"id": "7", "type": "subscribe", "room": "r", "user": "-u"}), &bad_name),
            (json!({"id": "7", "type": "select", "broadcasts": ["r/u", "r"]}), &bad_name),
            (json!({"id": "7", "type": "select", "broadcasts": ["r/u", 5]}), &bad_message),
            (json!({"id": "7", "type": "offer", "room": "a b"}), &bad_message),
            (json!({"id": "7", "type": "dance", "room": "a b"}), &bad_message),
        ] {
            assert_eq!(&refused(&json), expected, "{json}");
        }
        assert!(parse(&json!({"type": "ping", "room": "a b"})).is_ok(), "unknown there, so ignored");
    }

    #[test]
    fn select_needs_its_field_and_takes_null_and_a_list_up_to_the_cap() {
        let all = ClientMessage::Select { broadcasts: None };
        assert_eq!(parse(&json!({"type": "select", "broadcasts": null})).unwrap().message, all);
        assert_eq!(refused(&json!({"type": "select"})).0, ErrorCode::BadMessage);
        let none = ClientMessage::Select { broadcasts: Some(vec![]) };
        assert_eq!(parse(&json!({"type": "select", "broadcasts": []})).unwrap().message, none);
        let most = vec!["r/u"; SELECT_MAX];
        assert!(parse(&json!({"type": "select", "broadcasts": most})).is_ok());
        let more = vec!["r/u"; SELECT_MAX + 1];
        assert_eq!(
            refused(&json!({"type": "select", "broadcasts": more, "id": "7"})),
            (ErrorCode::TooMany, Some("7".into()))
        );
    }

    #[test]
    fn candidates_end_with_null_or_an_empty_one() {
        let candidate =
            |candidate: Value| parse(&json!({"type": "candidate", "candidate": candidate})).unwrap().message;
        let empty = ClientMessage::Candidate { candidate: Some(CandidateInit { candidate: String::new() }) };
        assert_eq!(candidate(json!(null)), ClientMessage::Candidate { candidate: None });
        assert_eq!(candidate(json!({"candidate": ""})), empty);
        assert_eq!(candidate(json!({"sdpMid": "0"})), empty);
    }

    #[test]
    fn ids_are_strings_of_bounded_length() {
        let longest = "x".repeat(REQUEST_ID_MAX_BYTES);
        assert_eq!(parse(&json!({"type": "ping", "id": longest})).unwrap().id, Some(longest.clone()));
        assert_eq!(refused(&json!({"type": "ping", "id": longest + "x"})), (ErrorCode::BadMessage, None));
        assert_eq!(refused(&json!({"type": "ping", "id": 7})), (ErrorCode::BadMessage, None));
        assert_eq!(parse(&json!({"type": "ping", "id": null})).unwrap().id, None);
    }

    #[test]
    fn what_is_no_object_is_a_bad_message() {
        for frame in
            ["", "ping", "\"ping\"", "null", "[\"ping\"]", "[{\"type\":\"ping\"}]", "{\"type\":\"ping\"", "{} {}"]
        {
            let error = ClientMessage::parse(frame).expect_err(frame);
            assert_eq!((error.code, error.id), (ErrorCode::BadMessage, None), "{frame}");
        }
        let long = format!("{{\"type\":\"ping\",\"x\":\"{}\"}}", "x".repeat(FRAME_MAX_BYTES));
        assert_eq!(ClientMessage::parse(&long).unwrap_err().code, ErrorCode::BadMessage);
    }

    /// A message as the contract writes it.
    fn written(message: ServerMessage) -> Value {
        serde_json::to_value(Signal::from(message)).unwrap()
    }

    #[test]
    fn every_reply_is_written_as_the_contract_has_it() {
        let broadcast: BroadcastId = "r/u".parse().unwrap();
        let track = Track { mid: "0".into(), broadcast: broadcast.clone(), kind: TrackKind::Audio };
        let registered = ServerMessage::Registered { broadcast: broadcast.clone(), sdp: "v=0".into(), recording: true };
        let subscribed = |user: Option<UserId>| ServerMessage::Subscribed {
            room: broadcast.room.clone(),
            user,
            broadcasts: vec![broadcast.clone()],
        };
        for (message, expected) in [
            (registered, json!({"type": "registered", "broadcast": "r/u", "sdp": "v=0", "recording": true})),
            (subscribed(None), json!({"type": "subscribed", "room": "r", "broadcasts": ["r/u"]})),
            (
                subscribed(Some(broadcast.user.clone())),
                json!({"type": "subscribed", "room": "r", "user": "u", "broadcasts": ["r/u"]}),
            ),
            (
                ServerMessage::Offer { sdp: "v=0".into(), seq: 3, tracks: vec![track] },
                json!({"type": "offer", "sdp": "v=0", "seq": 3,
                    "tracks": [{"mid": "0", "broadcast": "r/u", "kind": "audio"}]}),
            ),
            (ServerMessage::Answer { sdp: "v=0".into() }, json!({"type": "answer", "sdp": "v=0"})),
            (ServerMessage::Unregistered, json!({"type": "unregistered"})),
            (ServerMessage::Unsubscribed, json!({"type": "unsubscribed"})),
            (ServerMessage::Selected, json!({"type": "selected"})),
            (ServerMessage::Pong, json!({"type": "pong"})),
        ] {
            assert_eq!(written(message.clone()), expected);
            let reply = Signal { id: Some("7".into()), message };
            assert_eq!(serde_json::to_value(reply).unwrap()["id"], "7");
        }
    }

    #[test]
    fn every_notice_is_written_as_the_contract_has_it() {
        let broadcast: BroadcastId = "r/u".parse().unwrap();
        let connected = ServerMessage::BroadcasterConnected { broadcast: broadcast.clone() };
        assert_eq!(written(connected), json!({"type": "broadcaster-connected", "broadcast": "r/u"}));
        for (reason, name) in [
            (LeaveReason::Left, "left"),
            (LeaveReason::Timeout, "timeout"),
            (LeaveReason::Failed, "failed"),
            (LeaveReason::Replaced, "replaced"),
            (LeaveReason::Kicked, "kicked"),
            (LeaveReason::Shutdown, "shutdown"),
        ] {
            let message = ServerMessage::BroadcasterDisconnected { broadcast: broadcast.clone(), reason };
            assert_eq!(
                written(message),
                json!({"type": "broadcaster-disconnected", "broadcast": "r/u", "reason": name})
            );
        }
        let viewers = ServerMessage::Viewers { broadcast: broadcast.clone(), count: 2 };
        assert_eq!(written(viewers), json!({"type": "viewers", "broadcast": "r/u", "count": 2}));
        for (state, name, error, facts) in [
            (RecordingState::Started, "started", None, None),
            (RecordingState::Finished, "finished", None, Some((61.25, 4_096))),
            (RecordingState::Failed, "failed", Some("disk full"), None),
        ] {
            let message = ServerMessage::Recording {
                broadcast: broadcast.clone(),
                state,
                file: Some("r/u/x.mp4".into()),
                error: error.map(str::to_owned),
                duration_s: facts.map(|(duration_s, _)| duration_s),
                size_bytes: facts.map(|(_, size_bytes)| size_bytes),
            };
            let mut expected = json!({"type": "recording", "broadcast": "r/u", "state": name, "file": "r/u/x.mp4"});
            if let Some(error) = error {
                expected["error"] = json!(error);
            }
            if let Some((duration_s, size_bytes)) = facts {
                expected["duration_s"] = json!(duration_s);
                expected["size_bytes"] = json!(size_bytes);
            }
            assert_eq!(written(message), expected);
        }
    }

    #[test]
    fn every_error_is_written_as_the_contract_has_it() {
        for (code, name) in [
            (ErrorCode::BadMessage, "bad-message"),
            (ErrorCode::BadSdp, "bad-sdp"),
            (ErrorCode::BadState, "bad-state"),
            (ErrorCode::BadName, "bad-name"),
            (ErrorCode::Unauthorized, "unauthorized"),
            (ErrorCode::NameTaken, "name-taken"),
            (ErrorCode::UnsupportedCodec, "unsupported-codec"),
            (ErrorCode::TooMany, "too-many"),
            (ErrorCode::Internal, "internal"),
        ] {
            let expected = json!({"type": "error", "code": name, "message": "why"});
            assert_eq!(written(ServerMessage::error(code, "why")), expected);
        }
        let fatal = json!({"type": "error", "code": "name-taken", "message": "why", "fatal": true});
        assert_eq!(written(ServerMessage::fatal(ErrorCode::NameTaken, "why")), fatal);
        let about = ServerMessage::Error {
            code: ErrorCode::UnsupportedCodec,
            message: "why".into(),
            broadcast: Some("r/u".parse().unwrap()),
            fatal: false,
        };
        let expected = json!({"type": "error", "code": "unsupported-codec", "message": "why", "broadcast": "r/u"});
        assert_eq!(written(about), expected);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(frame in "\\PC{0,80}") {
            let _ = ClientMessage::parse(&frame);
        }

        #[test]
        fn damaged_messages_are_parsed_without_panic(index in 0_usize..10, at in 0_usize..60, text in "[ -~]{0,4}") {
            let mut frame = every_message().swap_remove(index).0.to_string();
            let at = at.min(frame.len());
            frame.insert_str(at, &text);
            let _ = ClientMessage::parse(&frame);
        }
    }
}

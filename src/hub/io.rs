//! What goes into the hub and what comes out of it.
//!
//! **Invariant:** these types are plain data; a [`Command`] carries all that the hub needs to act on it.

use std::net::IpAddr;
use std::time::Duration;

use super::histogram::{Histogram, Jitter, Loss, RoundTrip};
use crate::rtp::codec::{Codec, CodecSet, TrackKind};
pub use crate::rtp::packet::{MediaPacket, SenderReport};
use crate::signal::message::RecordingState;
use crate::signal::sdpfrag::FragCredentials;
use crate::signal::{BroadcastId, ClientMessage, LeaveReason, RoomId, ServerMessage, Signal, UserId};

/// One signaling attachment: a WebSocket, or a WHIP or WHEP resource. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// By which door a session came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// `GET /ws`.
    WebSocket,
    /// `POST /whip/…` (RFC 9725).
    Whip,
    /// `POST /whep/…`.
    Whep,
}

/// What a session asks of the hub. Each is answered by one [`Event::Signal`] that carries the request's id.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Become the publisher of a broadcast: `registered`, or `error`.
    Register {
        /// The broadcast.
        broadcast: BroadcastId,
        /// The SDP offer.
        offer: String,
    },
    /// The publisher renegotiates: `answer`, or `error`.
    Offer {
        /// The SDP offer.
        offer: String,
    },
    /// The publisher leaves: `unregistered`.
    Unregister,
    /// Become a subscriber: `subscribed`, then an `offer`; or `error`.
    Subscribe {
        /// The room.
        room: RoomId,
        /// The one user wanted, or the whole room.
        user: Option<UserId>,
    },
    /// Become a subscriber of one broadcast by an offer of one's own (WHEP): `answer`, or `error` (`not-live`).
    Play {
        /// The broadcast.
        broadcast: BroadcastId,
        /// The SDP offer.
        offer: String,
    },
    /// The subscriber's answer: no reply but an `error`.
    Answer {
        /// The SDP answer.
        answer: String,
        /// The number of the offer it answers.
        seq: u64,
    },
    /// The subscriber of a room names what it wants: `selected`.
    Select {
        /// The broadcasts wanted, or all.
        broadcasts: Option<Vec<BroadcastId>>,
    },
    /// The subscriber asks for an ICE restart: an `offer` that carries the request's id.
    Restart,
    /// A WHIP or WHEP client restarts ICE, and changes nothing else: `answer`, or `error`.
    RestartIce {
        /// Its new credentials. Candidates follow by themselves.
        credentials: FragCredentials,
    },
    /// The subscriber leaves: `unsubscribed`.
    Unsubscribe,
    /// A trickled remote candidate, or the end of candidates: no reply but an `error`.
    Candidate {
        /// The `candidate:…` line.
        candidate: Option<String>,
    },
    /// Is anyone there: `pong`.
    Ping,
}

impl From<ClientMessage> for Command {
    fn from(message: ClientMessage) -> Self {
        match message {
            // `token` waits for `--auth`.
            ClientMessage::Register { room, user, sdp, token: _ } => {
                Self::Register { broadcast: BroadcastId::new(room, user), offer: sdp }
            }
            ClientMessage::Offer { sdp } => Self::Offer { offer: sdp },
            ClientMessage::Unregister => Self::Unregister,
            ClientMessage::Subscribe { room, user, token: _ } => Self::Subscribe { room, user },
            ClientMessage::Answer { sdp, seq } => Self::Answer { answer: sdp, seq },
            ClientMessage::Select { broadcasts } => Self::Select { broadcasts },
            ClientMessage::Restart => Self::Restart,
            ClientMessage::Unsubscribe => Self::Unsubscribe,
            ClientMessage::Candidate { candidate } => {
                let line = candidate.map(|init| init.candidate).filter(|line| !line.is_empty());
                Self::Candidate { candidate: line }
            }
            ClientMessage::Ping => Self::Ping,
        }
    }
}

/// What the server itself asks of the hub.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// A session begins.
    Open {
        /// By which door.
        door: Door,
        /// The address it is counted under.
        remote: IpAddr,
    },
    /// A session's attachment is gone: whatever it was ends. No reply.
    Close,
    /// What the recorder can record from now on; empty without a usable ffmpeg. Live broadcasts that are to be recorded
    /// begin to be.
    Recordable(CodecSet),
    /// The recorder cannot go on without a keyframe: the source is asked until one comes.
    Keyframe(RecordingId),
    /// The latest keyframe of a recording is older than the recorder likes: the source is asked once.
    KeyframeDue(RecordingId),
    /// The recorder tells how a recording fares.
    Recording {
        /// Which one.
        recording: RecordingId,
        /// What happened.
        state: RecordingState,
        /// The file below the recordings' directory.
        file: Option<String>,
        /// What went wrong.
        error: Option<String>,
        /// With a finished file: how long it lasts and how large it is.
        facts: Option<FileFacts>,
    },
    /// Whether nothing can be written at the moment, whatever the codec: the disk is full, or does not answer.
    RecordingPaused(bool),
    /// The recorder has told all that it will tell of a recording.
    RecordingOver(RecordingId),
    /// The server stops: every peer is closed and told.
    Shutdown,
}

/// What a finished file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// How long it lasts.
    pub duration: Duration,
    /// Its size.
    pub size_bytes: u64,
}

impl FileFacts {
    /// How long it lasts, in seconds with three digits after the point.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.duration.as_millis() as f64 / 1000.0
    }
}

/// What a client may ask about a live broadcast, given the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// End it, and tell its broadcaster not to begin again by itself.
    Kick,
    /// Begin to record it.
    StartRecording,
    /// End its recording. The rule of [`HubConfig::record`](super::config::HubConfig::record) decides again when the
    /// broadcast comes back.
    StopRecording,
}

/// Why an operation was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// There is no such broadcast.
    #[error("there is no such broadcast now")]
    NotLive,
    /// Nothing is being recorded.
    #[error("it is not being recorded")]
    NotRecording,
    /// The broadcast has a recording.
    #[error("it is already being recorded")]
    AlreadyRecording,
    /// Nothing can be recorded at all.
    #[error("this server has no usable ffmpeg to record with")]
    NoRecorder,
    /// The broadcast has a track that cannot be recorded.
    #[error("this server's ffmpeg cannot record {0}")]
    NotRecordable(Codec),
}

/// One stretch of a broadcast as its recorder sees it, from its first packet to its publisher's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordingId(pub u64);

/// What the hub has to tell.
#[derive(Debug)]
pub enum Event {
    /// A message for a session's client.
    Signal(SessionId, Signal),
    /// The session has no peer any more (its client left, failed, timed out or was replaced): a WHIP or WHEP resource
    /// is gone. A WebSocket may begin again.
    Ended(SessionId),
    /// A broadcast went live and is to be recorded; its packets follow.
    RecordingStarted {
        /// The stretch.
        recording: RecordingId,
        /// Who broadcasts.
        session: SessionId,
        /// The broadcast.
        broadcast: BroadcastId,
        /// Its tracks, as far as they are known by now.
        tracks: Vec<TrackInfo>,
    },
    /// One packet of a broadcast that is recorded.
    RecordingPacket(RecordingId, MediaPacket),
    /// The recording's broadcast ended; no packet follows.
    RecordingEnded(RecordingId),
    /// Something that is nobody's in particular: whoever watches the server may hear it.
    Notice(Notice),
}

/// What befell a live broadcast, told to whoever watches the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its number. They rise by one, and [`Snapshot::notices`] tells which of them a snapshot shows already.
    pub seq: u64,
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// What befell it.
    pub news: News,
}

/// What can befall a broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Its media began to flow.
    Connected {
        /// Who broadcasts.
        session: SessionId,
        /// Its tracks, as far as they are known by now.
        tracks: Vec<TrackInfo>,
    },
    /// It ended. Of its recording more may be told.
    Disconnected {
        /// Why.
        reason: LeaveReason,
    },
    /// Another number of viewers, at most once a second.
    Viewers {
        /// Connected viewers by every door.
        count: usize,
    },
    /// What its recorder did.
    Recording(RecordingNews),
}

/// What the recorder did with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingNews {
    /// What happened.
    pub state: RecordingState,
    /// The file below the recordings' directory.
    pub file: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// Length and size of a finished file.
    pub facts: Option<FileFacts>,
}

impl RecordingNews {
    /// The message by which a client hears of it.
    #[must_use]
    pub fn message(&self, broadcast: BroadcastId) -> ServerMessage {
        ServerMessage::Recording {
            broadcast,
            state: self.state,
            file: self.file.clone(),
            error: self.error.clone(),
            duration_s: self.facts.as_ref().map(FileFacts::duration_s),
            size_bytes: self.facts.map(|facts| facts.size_bytes),
        }
    }
}

impl Notice {
    /// The message by which a client hears of the same.
    #[must_use]
    pub fn message(&self) -> ServerMessage {
        let broadcast = self.broadcast.clone();
        match &self.news {
            News::Connected { .. } => ServerMessage::BroadcasterConnected { broadcast },
            News::Disconnected { reason } => ServerMessage::BroadcasterDisconnected { broadcast, reason: *reason },
            News::Viewers { count } => ServerMessage::Viewers { broadcast, count: *count },
            News::Recording(news) => news.message(broadcast),
        }
    }
}

/// One track that a publisher negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackInfo {
    /// Audio or video.
    pub kind: TrackKind,
    /// The codec it sends, once a packet has come; the likely one before.
    pub codec: Codec,
}

/// A live broadcast as the API shows it.
#[derive(Debug, Clone)]
pub struct BroadcastSnapshot {
    /// Its id.
    pub id: BroadcastId,
    /// For how long its media has flowed.
    pub live_for: Duration,
    /// Its tracks.
    pub tracks: Vec<TrackInfo>,
    /// Connected subscribers by every door.
    pub viewers: usize,
    /// What came from the publisher over the last seconds, in bits a second.
    pub bitrate_bps: u64,
    /// Whether it is being recorded.
    pub recording: bool,
    /// Why it is not being recorded, where its recorder failed or cannot write at the moment.
    pub recording_error: Option<String>,
    /// Whether its encoder sends B-frames, which players of WebRTC show out of order.
    pub b_frames: bool,
}

/// Counters and gauges of the hub. Counters only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HubMetrics {
    /// Gauge: live broadcasts.
    pub broadcasts: u64,
    /// Gauge: sessions attached by every door.
    pub sessions: u64,
    /// Gauge: connected subscribers.
    pub viewers: u64,
    /// Gauge: peers, connected or not.
    pub peers: u64,
    /// RTP packets received from publishers.
    pub rtp_packets_in: u64,
    /// Payload bytes of those.
    pub rtp_bytes_in: u64,
    /// Packets of publishers that had not come when a later one did.
    pub rtp_packets_skipped: u64,
    /// Packets of publishers that came after a later one: overtaken, or sent again.
    pub rtp_packets_late: u64,
    /// RTP packets forwarded to subscribers.
    pub rtp_packets_out: u64,
    /// Payload bytes of those.
    pub rtp_bytes_out: u64,
    /// Packets that were sent again (RTX) to subscribers.
    pub rtx_packets_out: u64,
    /// NACKs that subscribers sent.
    pub nacks_received: u64,
    /// Packets that a NACK asked for and that could not be sent again: gone, never there, or no RTX.
    pub repairs_missed: u64,
    /// NACKs that asked for more than their subscriber's share.
    pub repairs_capped: u64,
    /// Sender reports sent to subscribers.
    pub sender_reports_out: u64,
    /// RTCP compounds of subscribers.
    pub rtcp_in: u64,
    /// Datagrams of subscribers that are no RTCP of theirs: forged, replayed, malformed, or media.
    pub rtcp_refused: u64,
    /// Packets that str0m would have sent a subscriber beside its outlet, and that were dropped.
    pub foreign_srtp_dropped: u64,
    /// Keyframe requests (PLI) sent to publishers.
    pub pli_sent: u64,
    /// Keyframe requests (PLI, FIR) that subscribers sent.
    pub pli_received: u64,
    /// Video of subscribers that began with a keyframe of the past, because its source ignores requests.
    pub kept_starts: u64,
    /// Datagrams that belong to no peer.
    pub datagrams_unknown: u64,
    /// Commands refused with an `error`.
    pub refusals: u64,
    /// Peers ended because nothing came from them, or they missed a deadline.
    pub timeouts: u64,
    /// Peers ended by a panic inside them.
    pub panics: u64,
    /// Shares of packets lost since the report before, as receiver reports of subscribers tell.
    pub loss: Histogram<Loss>,
    /// What they tell of interarrival jitter.
    pub jitter: Histogram<Jitter>,
    /// Round-trip times measured by them.
    pub round_trip: Histogram<RoundTrip>,
}

/// What the API asks for.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Live broadcasts in the order of their ids.
    pub broadcasts: Vec<BroadcastSnapshot>,
    /// The counters.
    pub metrics: HubMetrics,
    /// The number of the latest notice: `broadcasts` shows what it and all before it tell.
    pub notices: u64,
}

//! What the hub is told when it is made: addresses, codecs, and the caps on all that others can make grow.

use std::net::SocketAddr;
use std::time::Duration;

use super::record_rule::RecordRule;
use crate::rtp::codec::{Codec, CodecSet};
use crate::rtp::ntp::WallClock;

/// The ICE role (RFC 8445 §2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceRole {
    /// Only answers checks: all a server with a reachable address needs.
    Lite,
    /// Checks by itself, too.
    Full,
}

/// How the hub is set up.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// The addresses that clients are told to send to. Datagrams must be handed in under one of these as destination.
    pub candidates: Vec<SocketAddr>,
    /// The addresses at which clients may make TCP connections for media instead (RFC 6544); none for UDP alone.
    pub tcp_candidates: Vec<SocketAddr>,
    /// The ICE role.
    pub ice: IceRole,
    /// The video codecs accepted, in order of preference.
    pub codecs: Vec<Codec>,
    /// What broadcasters' browsers are asked to start with, in bits a second; 0 lets them feel their way.
    pub start_bitrate_bps: u64,
    /// Which broadcasts are recorded without a request.
    pub record: RecordRule,
    /// What the recorder can record when the hub starts.
    pub recordable: CodecSet,
    /// Caps.
    pub limits: Limits,
    /// Seeds all that is random here: hash tables and first sequence numbers. Keys come from the crypto provider.
    pub seed: u64,
    /// The wall clock that sender reports show.
    pub clock: WallClock,
}

/// Caps on what clients can make grow. Reaching one is a `too-many`.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sessions by every door.
    pub sessions: usize,
    /// Peers (broadcasters and viewers) of one room.
    pub peers_per_room: usize,
    /// Sessions from one IPv4 address or one IPv6 /64. Loopback is not counted: behind a reverse proxy, everyone comes from there.
    pub sessions_per_address: usize,
    /// Peers whose DTLS handshake is not complete.
    pub handshakes: usize,
    /// Broadcasts of one room.
    pub broadcasts_per_room: usize,
    /// Broadcasts that one subscriber receives at a time: twice as many m-lines at most. A browser's answer to 32 of them
    /// is about as large as a message may be.
    pub lanes_per_subscriber: usize,
    /// Trickled candidates of one peer.
    pub candidates_per_peer: usize,
    /// Source addresses that one peer may be bound to at a time.
    pub addresses_per_peer: usize,
    /// Data channels of one peer.
    pub channels_per_peer: usize,
    /// Events that wait to be polled before new commands are refused.
    pub events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 10_000,
            peers_per_room: 5_000,
            sessions_per_address: 500,
            handshakes: 2_000,
            broadcasts_per_room: 200,
            lanes_per_subscriber: 16,
            candidates_per_peer: 64,
            addresses_per_peer: 8,
            channels_per_peer: 4,
            events: 65_536,
        }
    }
}

/// From `registered` to the first media; from an offer to its answer; from an answer to DTLS.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A peer from which nothing came for so long is over.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A peer whose checks come by another pair has left its own when nothing came by that for so long: browsers check, or
/// report, at least every 2.5 s.
pub const PATH_LOST: Duration = Duration::from_secs(3);

/// A source is asked for a keyframe at most once in this time, and again after it until one comes.
pub const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);

/// A source that another has taken over from comes back only when that one has been silent for so long: until then, its
/// packets are stragglers.
pub const OVERTAKEN_MAX: Duration = Duration::from_secs(1);

/// How often a broadcast's viewer count, bitrate and `video-ok` are brought up to date.
pub const BROADCAST_TICK: Duration = Duration::from_secs(1);

/// How long the ufrag of before an ICE restart is still routed.
pub const OLD_UFRAG_KEPT: Duration = Duration::from_secs(5);

/// How long a peer that was told to close may take to send its last words.
pub const CLOSING_MAX: Duration = Duration::from_millis(500);

//! A viewer: str0m connects it and keeps it connected; what comes is counted by the clear RTP header.
//!
//! **Invariant:** every packet is counted where it arrives. A sampled viewer hands everything to str0m, so that encryption,
//! payload and delay are checked; the others hand it STUN and DTLS alone and so cost next to nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use onair::net::receive::ReceiveBatch;
use onair::rtp::codec::{Codec, TrackKind};
use quinn_udp::BATCH_SIZE;
use serde_json::json;

use super::endpoint::Endpoint;
use super::floor::FLOOR_BYTE;
use super::stamp::Stamp;

/// Packets of one track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    payload_type: Option<u8>,
    /// How many came.
    pub packets: u64,
    /// Their datagrams, in bytes.
    pub bytes: u64,
}

/// A viewer.
pub struct Viewer {
    /// Its connections.
    pub endpoint: Endpoint,
    /// Whether it hands everything to str0m.
    pub is_sampled: bool,
    /// Sound and pictures.
    pub tracks: [Tally; 2],
    /// Packets of the bare sender.
    pub floor_packets: u64,
    /// Of a sampled one: packets that were decrypted and are what was sent.
    pub opened: u64,
    /// Of a sampled one: how long each packet was under way.
    pub delays: Vec<Duration>,
    stamp: Stamp,
}

impl Viewer {
    /// Subscribes to `room/user`.
    pub fn subscribe(http: SocketAddr, number: u64, room: &str, user: &str, is_sampled: bool, stamp: Stamp) -> Self {
        let mut endpoint = Endpoint::open(http, number, Instant::now());
        endpoint.say(&json!({"type": "subscribe", "room": room, "user": user}));
        Self {
            endpoint,
            is_sampled,
            tracks: [Tally::default(); 2],
            floor_packets: 0,
            opened: 0,
            delays: Vec::new(),
            stamp,
        }
    }

    /// Whether sound and pictures have begun.
    pub fn watches(&self) -> bool {
        self.endpoint.is_connected() && self.tracks.iter().all(|track| track.packets > 0)
    }

    /// Packets of both tracks.
    pub fn packets(&self) -> u64 {
        self.tracks.iter().map(|track| track.packets).sum()
    }

    /// Takes all that has come.
    pub fn drain(&mut self, inbox: &mut ReceiveBatch) {
        while inbox.fill(&self.endpoint.socket).expect("the socket works") {
            let now = Instant::now();
            let mut taken = 0;
            for datagram in inbox.datagrams() {
                self.take(datagram.source, datagram.bytes, now);
                taken += 1;
            }
            // A batch that was not filled has emptied the socket.
            if taken < BATCH_SIZE {
                return;
            }
        }
    }

    fn take(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) {
        // RFC 7983.
        match bytes.first() {
            Some(&FLOOR_BYTE) => self.floor_packets += 1,
            Some(128..=191) => {
                self.count(bytes);
                if self.is_sampled {
                    self.endpoint.take(from, bytes, now);
                    self.look_at_opened(now);
                }
            }
            _ => self.endpoint.take(from, bytes, now),
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        // RFC 5761 §4: 64 to 95 would be RTCP. What is neither of the two is a retransmission.
        let Some(payload_type) = bytes.get(1).map(|byte| byte & 0x7f).filter(|it| !(64..=95).contains(it)) else {
            return;
        };
        if self.tracks.iter().any(|track| track.payload_type.is_none()) {
            self.learn_payload_types();
        }
        if let Some(track) = self.tracks.iter_mut().find(|track| track.payload_type == Some(payload_type)) {
            track.packets += 1;
            track.bytes += bytes.len() as u64;
        }
    }

    fn learn_payload_types(&mut self) {
        for (mid, kind) in &self.endpoint.tracks {
            let codec = if *kind == TrackKind::Audio { Codec::Opus } else { Codec::Vp8 };
            let track = &mut self.tracks[usize::from(*kind == TrackKind::Video)];
            track.payload_type = Some(self.endpoint.client.payload_type(*mid, codec));
        }
    }

    fn look_at_opened(&mut self, now: Instant) {
        for packet in self.endpoint.client.received.drain(..) {
            let delay = self.stamp.read(now, &packet.payload).expect("a payload arrives as it was sent");
            self.opened += 1;
            self.delays.push(delay);
        }
    }
}

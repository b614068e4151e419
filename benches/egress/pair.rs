//! Two str0m peers, joined without a network: one writes RTP, the other opens it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

/// A sender and its receiver.
pub struct Pair {
    sender: Rtc,
    receiver: Rtc,
    mid: Mid,
    payload_type: Pt,
    sequence: u64,
    now: Instant,
}

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn peer(port: u16, now: Instant) -> Rtc {
    let mut rtc = RtcConfig::new().set_rtp_mode(true).clear_codecs().enable_h264(true).build(now);
    rtc.add_local_candidate(Candidate::host(address(port), "udp").unwrap()).unwrap();
    rtc
}

/// Takes out what `rtc` sends and tells; returns when it wants to be called again.
fn drain(rtc: &mut Rtc, sent: &mut VecDeque<Vec<u8>>, told: &mut Vec<Event>) -> Instant {
    loop {
        match rtc.poll_output().unwrap() {
            Output::Timeout(at) => return at,
            Output::Transmit(transmit) => sent.push_back(transmit.contents.to_vec()),
            Output::Event(event) => told.push(event),
        }
    }
}

impl Pair {
    /// Two peers that have shaken hands.
    pub fn connected() -> Self {
        str0m::crypto::from_feature_flags().install_process_default();
        let now = Instant::now();
        let (mut sender, mut receiver) = (peer(1, now), peer(2, now));
        let mut api = sender.sdp_api();
        let mid = api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
        let (offer, pending) = api.apply().unwrap();
        let answer = receiver.sdp_api().accept_offer(offer).unwrap();
        sender.sdp_api().accept_answer(pending, answer).unwrap();
        let mut pair = Self { sender, receiver, mid, payload_type: 0.into(), sequence: 100, now };
        while !(pair.sender.is_connected() && pair.receiver.is_connected()) {
            pair.exchange();
        }
        // What is left of the handshake.
        for _ in 0..10 {
            pair.exchange();
        }
        pair.payload_type = pair.sender.media(mid).unwrap().remote_pts()[0];
        pair
    }

    /// Hands what one has to say to the other, and back, and lets a little time pass; returns what the receiver tells.
    fn exchange(&mut self) -> Vec<Event> {
        let mut told = Vec::new();
        let (mut there, mut back) = (VecDeque::new(), VecDeque::new());
        self.now += Duration::from_millis(5);
        self.sender.handle_input(Input::Timeout(self.now)).unwrap();
        self.receiver.handle_input(Input::Timeout(self.now)).unwrap();
        drain(&mut self.sender, &mut there, &mut Vec::new());
        drain(&mut self.receiver, &mut back, &mut told);
        while !there.is_empty() || !back.is_empty() {
            for datagram in std::mem::take(&mut there) {
                let receive = Receive::new(Protocol::Udp, address(1), address(2), &datagram).unwrap();
                self.receiver.handle_input(Input::Receive(self.now, receive)).unwrap();
                drain(&mut self.receiver, &mut back, &mut told);
            }
            for datagram in std::mem::take(&mut back) {
                let receive = Receive::new(Protocol::Udp, address(2), address(1), &datagram).unwrap();
                self.sender.handle_input(Input::Receive(self.now, receive)).unwrap();
                drain(&mut self.sender, &mut there, &mut Vec::new());
            }
        }
        told
    }

    fn write(&mut self, payload: &Arc<[u8]>) {
        let write = RtpWrite::new(self.payload_type, self.sequence.into(), 3_000, self.now, Arc::clone(payload));
        self.sequence += 1;
        self.sender.direct_api().stream_tx_by_mid(self.mid, None).unwrap().write_rtp(write.nackable(true));
    }

    /// Writes one packet and takes out what leaves; returns its length in bytes.
    pub fn send(&mut self, payload: &Arc<[u8]>) -> usize {
        self.write(payload);
        // A packet leaves when time has passed, and the hub lets it pass for each.
        self.sender.handle_input(Input::Timeout(self.now)).unwrap();
        let mut len_bytes = 0;
        loop {
            match self.sender.poll_output().unwrap() {
                Output::Timeout(_) => return len_bytes,
                Output::Transmit(transmit) => len_bytes += transmit.contents.len(),
                Output::Event(_) => {}
            }
        }
    }

    /// What is written comes out of the other.
    pub fn assert_opens(&mut self, payload: &Arc<[u8]>) {
        self.write(payload);
        let told = self.exchange();
        let opened = told.iter().find_map(|event| match event {
            Event::RtpPacket(packet) => Some(&packet.payload),
            _ => None,
        });
        assert_eq!(opened, Some(payload));
        assert!(self.send(payload) > payload.len(), "a packet leaves with each call");
    }
}

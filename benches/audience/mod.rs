//! A broadcast with an audience: real str0m clients, connected on a simulated network, and the broadcaster's next packets.
//!
//! **Invariant:** what is measured is the hub alone: packets are made before the clock runs, and what the hub sends is
//! counted and dropped.

#[allow(dead_code, reason = "the whole simulation is used by the tests of the hub")]
#[path = "../../tests/simulation/mod.rs"]
mod simulation;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use onair::egress::sink::{DatagramSink, Path, Traffic};
use onair::hub::Hub;
use onair::rtp::codec::{Codec, TrackKind};
use simulation::{ClientId, Program, Simulation, ms, secs, server_address};
use str0m::rtp::RtpWrite;
use str0m::{Input, Output};

/// What a packet carries, in bytes: a packet of a full-size video frame.
pub const PAYLOAD_BYTES: usize = 1_100;

/// Simulated time between packets.
const PACKET_INTERVAL: Duration = Duration::from_micros(20);

/// The clients' own timers run at least so often, or they would be taken for dead.
const BREATH_EVERY: Duration = secs(2);

/// Takes what is sent and counts RTP packets.
pub struct Counter {
    /// RTP packets so far.
    pub packets: u64,
    slot: [u8; 1_536],
}

impl DatagramSink for Counter {
    fn reserve(&mut self, _: Path, _: Traffic, len_bytes: usize) -> Option<&mut [u8]> {
        self.slot.get_mut(..len_bytes)
    }

    fn commit(&mut self, _: usize) {
        // RFC 5761 §4: payload types 64 to 95 would be RTCP.
        let is_rtp = (128..=191).contains(&self.slot[0]) && !(64..=95).contains(&(self.slot[1] & 0x7f));
        self.packets += u64::from(is_rtp);
    }
}

/// A datagram that has arrived.
pub struct Received {
    /// Who sent it.
    pub source: SocketAddr,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Takes media through the hub, from the receive batch to the send batch, as the driver's loop does.
pub fn take_in(hub: &mut Hub, now: Instant, datagrams: &[Received], sink: &mut dyn DatagramSink) {
    for Received { source, bytes } in datagrams {
        let path = Path::udp(server_address(), *source);
        assert!(hub.is_media(path.remote(), bytes), "the broadcaster sends media");
        hub.handle_datagram(now, path, bytes, sink);
    }
    hub.flush(now, sink);
    while hub.poll_event().is_some() {}
}

/// A broadcast and its viewers.
pub struct Audience {
    /// The hub, its clients and what lies between.
    pub simulation: Simulation,
    /// When the broadcaster's latest packet arrived.
    pub now: Instant,
    publisher: ClientId,
    sink: Counter,
    breath_at: Instant,
    sequence: u64,
    timestamp: u32,
}

impl Audience {
    /// A broadcast of VP8 video whose `count` viewers are connected and have begun with a keyframe.
    pub fn new(count: usize) -> Self {
        let mut simulation = Simulation::new(1);
        let program = Program { audio: false, ..Program::of(Codec::Vp8) };
        let publisher = simulation.publish("r/live", program);
        simulation.run_for(ms(500));
        simulation[publisher].is_mute = true;
        let viewers: Vec<_> = (0..count).map(|_| simulation.subscribe("r/live")).collect();
        simulation.run_for(secs(2));
        let now = simulation.now;
        let encoder = &mut simulation[publisher].track_mut(TrackKind::Video).encoder;
        encoder.next_at = now;
        encoder.request_keyframe(now);
        simulation[publisher].is_mute = false;
        simulation.run_for(ms(100));
        simulation[publisher].is_mute = true;
        simulation.run_for(ms(100));
        assert!(viewers.iter().all(|viewer| !simulation[*viewer].received.is_empty()), "all have begun to watch");
        let last = simulation[publisher].encoder(TrackKind::Video).sent.last().expect("a packet was sent");
        let (sequence, timestamp, now) = (last.sequence, last.timestamp, simulation.now);
        let sink = Counter { packets: 0, slot: [0; 1_536] };
        Self { simulation, now, publisher, sink, breath_at: now + BREATH_EVERY, sequence, timestamp }
    }

    /// How long the hub takes over `count` packets of the broadcaster, from its receive batch to its send batch.
    pub fn forward(&mut self, count: u64, viewers: usize) -> Duration {
        let before = self.sink.packets;
        let mut took = Duration::ZERO;
        for _ in 0..count {
            let packet = self.next_packet();
            let begun = Instant::now();
            take_in(&mut self.simulation.hub, self.now, &[packet], &mut self.sink);
            took += begun.elapsed();
        }
        assert_eq!(self.sink.packets - before, count * viewers as u64, "every viewer was sent every packet");
        took
    }

    /// The broadcaster's next packet, as its engine encrypts it and as it comes from the socket.
    pub fn next_packet(&mut self) -> Received {
        self.now += PACKET_INTERVAL;
        if self.now >= self.breath_at {
            self.breathe();
        }
        self.sequence += 1;
        self.timestamp = self.timestamp.wrapping_add(100);
        let publisher = &mut self.simulation[self.publisher];
        let mid = publisher.track(TrackKind::Video).mid;
        let payload_type = publisher.payload_type(mid, Codec::Vp8);
        // The middle of a frame that is no keyframe: a descriptor with a long PictureID and TL0PICIDX (RFC 7741).
        let mut payload = vec![0x55; PAYLOAD_BYTES];
        payload[..6].copy_from_slice(&[0x80, 0xe0, 0x81, 0x23, 0x45, 0x00]);
        let write = RtpWrite::new(payload_type.into(), self.sequence.into(), self.timestamp, self.now, payload);
        let mut api = publisher.rtc.direct_api();
        api.stream_tx_by_mid(mid, None).expect("the track's stream").write_rtp(write);
        publisher.rtc.handle_input(Input::Timeout(self.now)).expect("the broadcaster's engine goes on");
        let mut packet = None;
        loop {
            match publisher.rtc.poll_output().expect("the broadcaster's engine goes on") {
                Output::Timeout(_) => break,
                Output::Transmit(transmit) if transmit.contents.len() > PAYLOAD_BYTES => {
                    packet = Some(transmit.contents.to_vec());
                }
                Output::Transmit(_) | Output::Event(_) => {}
            }
        }
        Received { source: publisher.address, bytes: packet.expect("a packet to send") }
    }

    /// Lets the clients show that they are alive.
    fn breathe(&mut self) {
        self.simulation.now = self.now;
        self.simulation.run_for(ms(200));
        self.now = self.simulation.now;
        self.breath_at = self.now + BREATH_EVERY;
    }
}

//! A viewer's steady state allocates nothing: 100,000 packets to 100 viewers through hub, egress, send batch and socket.
//!
//! The allocator counts only while the hub has the word, so what the clients of the test allocate does not matter. The
//! crypto library's own memory (C, `malloc`) is not in its count; ARCHITECTURE.md tells how that was looked at.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the whole simulation is used by the tests of the hub")]
mod simulation;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use onair::egress::sink::{DatagramSink, Path, Traffic};
use onair::net::addresses::Addresses;
use onair::net::metrics::NetMetrics;
use onair::net::send::SendBatch;
use onair::net::socket;
use onair::rtp::codec::{Codec, TrackKind};
use simulation::{ClientId, Program, Simulation, secs, server_address};
use str0m::media::Mid;
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Event, Input, Output, Rtc};

/// Counts allocations while [`COUNTS`] is set.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code, reason = "an allocator is unsafe by its nature; this one hands everything on to the system's")]
// SAFETY: every call goes to `System` as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note() {
    if COUNTS.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

/// What `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    COUNTS.store(true, Ordering::Relaxed);
    work();
    COUNTS.store(false, Ordering::Relaxed);
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

const VIEWERS: usize = 100;
const WARM_UP: u64 = 5_000;
const PACKETS: u64 = 100_000;

/// Packets that come with one receive batch.
const RUN: u64 = 4;

/// Between two runs: all of it is over before anybody would have to say that they are still there.
const PACE: Duration = Duration::from_micros(300);

const PAYLOAD_BYTES: usize = 1_100;

/// What packets sent again, and reports, may come to: enough to tell that there were some.
const FEEDBACK_MIN: u64 = 50;

/// Who loses packets loses one of so many. At this pace a receiver gives most of them up before it would ask again.
const LOSES: u64 = 200;

/// The send batch, on a real socket: each simulated viewer has a real address on this machine.
struct Wire {
    batch: SendBatch,
    /// By the simulated address. Sockets that nobody reads: the kernel drops what they cannot hold.
    sockets: BTreeMap<SocketAddr, UdpSocket>,
    addresses: BTreeMap<SocketAddr, SocketAddr>,
    local: SocketAddr,
}

impl Wire {
    fn new(viewers: impl Iterator<Item = SocketAddr>, metrics: &Arc<NetMetrics>) -> Self {
        let socket = socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let local = socket.local_addr().unwrap();
        let batch = SendBatch::new(socket, false, Addresses::new(local, &[], &[]), Arc::clone(metrics));
        let mut wire = Self { batch, sockets: BTreeMap::new(), addresses: BTreeMap::new(), local };
        for viewer in viewers {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            wire.addresses.insert(viewer, socket.local_addr().unwrap());
            wire.sockets.insert(viewer, socket);
        }
        wire
    }
}

impl DatagramSink for Wire {
    fn reserve(&mut self, path: Path, traffic: Traffic, len_bytes: usize) -> Option<&mut [u8]> {
        // What goes to the publisher is not looked at.
        let destination = self.addresses.get(&path.destination).copied().unwrap_or(self.local);
        self.batch.reserve(Path::udp(self.local, destination), traffic, len_bytes)
    }

    fn commit(&mut self, len_bytes: usize) {
        self.batch.commit(len_bytes);
    }
}

/// The publisher's side, which writes packets of its own making.
struct Source {
    client: ClientId,
    mid: Mid,
    payload_type: u8,
    next_sequence: u64,
    timestamp: u32,
    sent: u64,
}

impl Source {
    fn payload(number: u64) -> Arc<[u8]> {
        let mut payload = vec![number as u8; PAYLOAD_BYTES];
        payload[0] = 0x41;
        payload[1..9].copy_from_slice(&number.to_be_bytes());
        payload.into()
    }

    /// The datagrams of the next run.
    fn run(&mut self, sim: &mut Simulation, now: Instant) -> Vec<Vec<u8>> {
        let rtc = &mut sim[self.client].rtc;
        let mut datagrams = Vec::new();
        self.timestamp = self.timestamp.wrapping_add(3_000);
        for place in 0..RUN {
            let (pt, sequence) = (self.payload_type.into(), self.next_sequence.into());
            let write =
                RtpWrite::new(pt, sequence, self.timestamp, now, Self::payload(self.sent)).marker(place == RUN - 1);
            rtc.direct_api().stream_tx_by_mid(self.mid, None).unwrap().write_rtp(write);
            self.next_sequence += 1;
            self.sent += 1;
            feed(rtc, Input::Timeout(now), &mut datagrams, |_| {});
        }
        datagrams
    }
}

/// Hands a client something, and takes out what it sends and tells.
fn feed(rtc: &mut Rtc, input: Input<'_>, sent: &mut Vec<Vec<u8>>, mut told: impl FnMut(Event)) {
    rtc.handle_input(input).unwrap();
    loop {
        match rtc.poll_output().unwrap() {
            Output::Timeout(_) => return,
            Output::Transmit(transmit) => sent.push(transmit.contents.to_vec()),
            Output::Event(event) => told(event),
        }
    }
}

/// What one viewer has got: each packet by its number, and how it came.
struct Viewer {
    client: ClientId,
    address: SocketAddr,
    got: BTreeMap<u64, Instant>,
    /// How many packets were lost on the way.
    lost: u64,
}

impl Viewer {
    /// Reads its socket. Every `loses`th packet is lost on the way; what it has to say comes back.
    fn read(&mut self, sim: &mut Simulation, wire: &Wire, now: Instant, loses: Option<u64>) -> Vec<Vec<u8>> {
        let mut said = Vec::new();
        let mut bytes = [0; 2_048];
        let rtc = &mut sim[self.client].rtc;
        while let Ok(len) = wire.sockets[&self.address].recv(&mut bytes) {
            let sequence = u64::from(u16::from_be_bytes([bytes[2], bytes[3]]));
            if loses.is_some_and(|loses| bytes[1] & 0x40 != 0 && sequence % loses == 0) {
                self.lost += 1;
                continue;
            }
            let receive = Receive::new(Protocol::Udp, server_address(), self.address, &bytes[..len]).unwrap();
            feed(rtc, Input::Receive(now, receive), &mut said, |event| {
                if let Event::RtpPacket(packet) = event {
                    let number = u64::from_be_bytes(packet.payload[1..9].try_into().unwrap());
                    assert_eq!(packet.payload, Source::payload(number), "what was sealed opens to what was sent");
                    assert!(self.got.insert(number, now).is_none(), "packet {number} came twice");
                }
            });
        }
        feed(rtc, Input::Timeout(now), &mut said, |_| {});
        said
    }
}

#[test]
fn forwarding_to_viewers_allocates_nothing() {
    let mut sim = Simulation::new(1);
    let publisher = sim.publish("r/live", Program { audio: false, ..Program::of(Codec::H264) });
    let viewers: Vec<ClientId> = (0..VIEWERS).map(|_| sim.subscribe("r/live")).collect();
    sim.run_for(secs(3));
    let mid = sim.mid(viewers[0], "r/live", TrackKind::Video).unwrap();
    assert!(sim.received(viewers[0], mid) > 0 && sim.hub.snapshot(sim.now).metrics.viewers == VIEWERS as u64);

    let metrics = Arc::new(NetMetrics::default());
    let mut wire = Wire::new(viewers.iter().map(|viewer| sim[*viewer].address), &metrics);
    let address = sim[publisher].address;
    let mid = sim[publisher].track(TrackKind::Video).mid;
    let last = sim[publisher].encoder(TrackKind::Video).sent.last().unwrap();
    let (next_sequence, timestamp) = (last.sequence + 1, last.timestamp);
    let payload_type = sim[publisher].payload_type(mid, Codec::H264);
    let mut source = Source { client: publisher, mid, payload_type, next_sequence, timestamp, sent: 0 };
    // One that loses nothing, and one that asks for some of it again.
    let viewer = |index: usize| Viewer {
        client: viewers[index],
        address: sim[viewers[index]].address,
        got: BTreeMap::new(),
        lost: 0,
    };
    let (mut sample, mut lossy) = (viewer(0), viewer(1));

    let mut forwarding = 0;
    let mut feedback = 0;
    let mut before = sim.hub.snapshot(sim.now).metrics;
    let mut sent_before = 0;
    while source.sent < WARM_UP + PACKETS {
        if source.sent == WARM_UP {
            (forwarding, feedback) = (0, 0);
            before = sim.hub.snapshot(sim.now).metrics;
            sent_before = metrics.datagrams_sent.get();
        }
        sim.now += PACE;
        let now = sim.now;
        let run = source.run(&mut sim, now);
        forwarding += allocations(|| {
            for datagram in &run {
                sim.hub.handle_datagram(now, Path::udp(server_address(), address), datagram, &mut wire);
            }
            sim.hub.flush(now, &mut wire);
            wire.batch.flush();
        });
        for (viewer, loses) in [(&mut sample, None), (&mut lossy, Some(LOSES))] {
            let said = viewer.read(&mut sim, &wire, now, loses);
            // STUN and DTLS are str0m's; none is due in this time, but a check of ICE may be.
            for datagram in said.iter().filter(|datagram| (128..=191).contains(&datagram[0])) {
                feedback += allocations(|| {
                    let path = Path::udp(server_address(), viewer.address);
                    sim.hub.handle_datagram(now, path, datagram, &mut wire);
                    wire.batch.flush();
                });
            }
        }
    }

    let after = sim.hub.snapshot(sim.now).metrics;
    assert_eq!(after.rtp_packets_in - before.rtp_packets_in, PACKETS);
    assert_eq!(after.rtp_packets_out - before.rtp_packets_out, PACKETS * VIEWERS as u64);
    assert!(metrics.datagrams_sent.get() - sent_before >= PACKETS * VIEWERS as u64, "they have left by the socket");
    assert_eq!(metrics.send_errors.get(), 0);
    let per_packet = forwarding as f64 / PACKETS as f64;
    assert!(per_packet <= 3.0, "{per_packet} allocations for each packet that came in: that is more than its ingest");

    assert_eq!(sample.got.len() as u64, source.sent, "who loses nothing has got everything");
    let (asked, again) = (after.nacks_received - before.nacks_received, after.rtx_packets_out - before.rtx_packets_out);
    assert!(asked >= FEEDBACK_MIN && again >= FEEDBACK_MIN, "{asked} NACKs, {again} packets sent again");
    assert!(after.rtcp_in > before.rtcp_in + asked, "there were reports, too");
    assert_eq!(feedback, 0, "NACKs, retransmissions and reports allocate nothing");
    let repaired = lossy.got.len() as u64 + lossy.lost - source.sent;
    assert_eq!(repaired, after.rtx_packets_out, "what was sent again has come, and opened to the right bytes");
}

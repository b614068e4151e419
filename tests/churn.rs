//! Two hundred viewers that come and go for five minutes leave nothing behind, and those that stay lose nothing.
//!
//! Simulated time, and an allocator that counts. The crypto library's own memory (C, `malloc`) is not in its count;
//! `cargo bench --bench churn` watches the memory of the whole process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "the whole simulation is used by the tests of the hub")]
mod simulation;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::{Duration, Instant};

use onair::hub::io::Command;
use onair::rtp::codec::{Codec, TrackKind};
use simulation::{ClientId, Program, Simulation, ms, secs};
use str0m::media::Mid;

/// Counts the bytes that are allocated and not yet freed.
struct Counting;

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

#[allow(unsafe_code, reason = "an allocator is unsafe by its nature; this one hands everything on to the system's")]
// SAFETY: every call goes to `System` as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Viewers that come and go.
const CHURNERS: usize = 200;

/// What may stay of a round, in bytes: less than a single viewer needs.
const LEFT_MAX_BYTES: isize = 32 * 1024;

const ROUNDS: usize = 5;

/// How long a round lasts.
const ROUND: Duration = secs(60);

/// Longer than every deadline of the hub.
const DEADLINES: Duration = secs(25);

/// One who comes and goes.
struct Churner {
    /// Whoever it is now.
    client: Option<ClientId>,
    /// When it comes or goes next.
    at: Instant,
}

impl Churner {
    /// Comes if it is away, in one of the ways there are, and otherwise goes in one of the ways there are; `silent` are those
    /// who went without a word.
    fn turn(&mut self, simulation: &mut Simulation, silent: &mut Vec<ClientId>) {
        let kind = simulation.random.u32(..6);
        match self.client.take() {
            None => {
                self.client = Some(match kind {
                    0..=2 => simulation.subscribe("r/live"),
                    3 | 4 => simulation.subscribe("r"),
                    _ => simulation.play("r/live", &[Codec::Vp8]).0,
                });
                // Some are gone before they are connected.
                self.at = simulation.now + ms(simulation.random.u64(1..30_000));
            }
            Some(client) => {
                match kind {
                    // The network is gone: the server hears nothing more, and finds out by itself.
                    0 | 1 => {
                        simulation[client].is_gone = true;
                        silent.push(client);
                    }
                    2 => {
                        let session = simulation[client].session;
                        simulation.tell(session, Command::Unsubscribe);
                        simulation.vanish(client);
                    }
                    _ => simulation.vanish(client),
                }
                self.at = simulation.now + ms(simulation.random.u64(1..15_000));
            }
        }
    }
}

/// One who stays, and where its two streams stand.
struct Stayer {
    client: ClientId,
    mids: [Mid; 2],
    latest: [Option<(u64, Instant)>; 2],
}

impl Stayer {
    fn new(simulation: &Simulation, client: ClientId) -> Self {
        let mid = |kind| simulation.mid(client, "r/live", kind).unwrap();
        Self { client, mids: [mid(TrackKind::Audio), mid(TrackKind::Video)], latest: [None; 2] }
    }

    /// Both streams have gone on without a gap, up to now.
    fn check(&mut self, simulation: &mut Simulation) {
        let now = simulation.now;
        for packet in simulation[self.client].received.drain(..) {
            let track = self.mids.iter().position(|mid| *mid == packet.mid).unwrap();
            if let Some((before, _)) = self.latest[track] {
                assert_eq!(packet.sequence, before + 1, "a packet was lost or came twice");
            }
            self.latest[track] = Some((packet.sequence, packet.at));
        }
        for latest in self.latest {
            let age = now - latest.expect("packets came").1;
            assert!(age < ms(200), "nothing came for {age:?}");
        }
    }
}

#[test]
fn nothing_is_left_of_viewers_that_come_and_go() {
    let mut simulation = Simulation::new(7);
    let program = Program { channels: vec!["health-check", "video-check"], ..Program::of(Codec::Vp8) };
    let publisher = simulation.publish("r/live", program);
    let stay = [simulation.subscribe("r/live"), simulation.subscribe("r")];
    simulation.run_for(secs(2));
    // Fewer and smaller frames than a camera's: here it is not the packets that count.
    simulation[publisher].track_mut(TrackKind::Video).encoder.interval = ms(66);
    simulation[publisher].track_mut(TrackKind::Video).encoder.delta_packets = 1;
    simulation[publisher].track_mut(TrackKind::Audio).encoder.interval = ms(40);
    let mut stayers = stay.map(|client| Stayer::new(&simulation, client));

    // More of them at once than ever later: tables and lists get the room that they keep.
    let crowd: Vec<_> = (0..CHURNERS * 2).map(|_| simulation.subscribe("r")).collect();
    simulation.run_for(secs(5));
    for client in crowd {
        simulation.vanish(client);
    }
    simulation.run_for(DEADLINES);
    stayers.iter_mut().for_each(|stayer| stayer.check(&mut simulation));
    simulation.forget();

    let sizes = simulation.hub.sizes();
    let live_bytes = LIVE_BYTES.load(Ordering::Relaxed);
    for round in 1..=ROUNDS {
        churn(&mut simulation, &mut stayers);
        assert_eq!(simulation.hub.sizes(), sizes, "after round {round}");
        let left_bytes = LIVE_BYTES.load(Ordering::Relaxed) - live_bytes;
        println!("round {round}: {left_bytes} bytes more than before the first, of {live_bytes}");
        assert!(left_bytes < LEFT_MAX_BYTES, "{left_bytes} bytes are left after round {round}");
    }
    let metrics = simulation.hub.snapshot(simulation.now).metrics;
    assert_eq!((metrics.panics, metrics.broadcasts, metrics.viewers), (0, 1, 2));
}

/// A round: all come and go, and in the end all have gone.
fn churn(simulation: &mut Simulation, stayers: &mut [Stayer]) {
    let mut churners: Vec<_> = (0..CHURNERS)
        .map(|_| Churner { client: None, at: simulation.now + ms(simulation.random.u64(..5_000)) })
        .collect();
    let until = simulation.now + ROUND;
    let mut silent = Vec::new();
    let (mut joins, mut most) = (0, 0);
    while simulation.now < until {
        let now = simulation.now;
        for churner in churners.iter_mut().filter(|churner| churner.at <= now) {
            churner.turn(simulation, &mut silent);
            joins += usize::from(churner.client.is_some());
        }
        most = most.max(simulation.hub.sizes()[0]);
        simulation.run_for(ms(50));
        stayers.iter_mut().for_each(|stayer| stayer.check(simulation));
    }
    assert!(joins > CHURNERS * 2 && most > CHURNERS / 2, "they do come and go: {joins} joined, {most} at once");
    let present = churners.into_iter().filter_map(|churner| churner.client);
    present.for_each(|client| simulation.vanish(client));
    simulation.run_for(DEADLINES);
    // Their peers have timed out; now their WebSockets are closed, too.
    silent.into_iter().for_each(|client| simulation.vanish(client));
    stayers.iter_mut().for_each(|stayer| stayer.check(simulation));
    simulation.forget();
}

//! How many instructions a burst of packets takes on its whole way: from the datagrams of a broadcaster, as they come from
//! the socket, through the hub to the datagrams of all viewers, sealed, in the send batch.
//!
//! A burst is what a browser's pacer lets go at once at 2.5 Mbit/s, and so what one receive batch brings. Divide its
//! instructions by [`PACKETS_OUT`] for one forwarded packet. Connecting everyone is not counted, nor are system calls.
//!
//! **Invariant:** nothing leaves this process: the send batch holds a whole burst and is never flushed.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot measure must fail")]

#[path = "../../audience/mod.rs"]
mod audience;

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use audience::{Audience, Received, take_in};
use gungraun::{library_benchmark, library_benchmark_group, main};
use onair::net::addresses::Addresses;
use onair::net::metrics::NetMetrics;
use onair::net::send::SendBatch;
use onair::net::socket;

const VIEWERS: usize = 200;

/// Packets of a burst.
const BURST: usize = 4;

/// What a burst becomes.
const PACKETS_OUT: usize = VIEWERS * BURST;

/// Bursts that are sent before one is counted: what is done once is done.
const BURSTS_BEFORE: usize = 4;

/// An audience and a burst that has just arrived.
struct Arrived {
    audience: Audience,
    burst: Vec<Received>,
    batch: SendBatch,
    metrics: Arc<NetMetrics>,
    forwarded: u64,
}

fn arrived() -> Arrived {
    let mut audience = Audience::new(VIEWERS);
    audience.forward((BURST * BURSTS_BEFORE) as u64, VIEWERS);
    let burst = (0..BURST).map(|_| audience.next_packet()).collect();
    // Bound to loopback, so that even a flush by mistake would reach nobody outside.
    let socket = socket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
    let local = socket.local_addr().expect("a bound socket has an address");
    let metrics = Arc::new(NetMetrics::default());
    let batch = SendBatch::new(socket, false, Addresses::new(local, &[], &[]), Arc::clone(&metrics));
    let forwarded = audience.simulation.hub.forwarded_packets();
    Arrived { audience, burst, batch, metrics, forwarded }
}

fn assert_forwarded(arrived: Arrived) {
    let forwarded = arrived.audience.simulation.hub.forwarded_packets() - arrived.forwarded;
    assert_eq!(forwarded, PACKETS_OUT as u64, "every viewer was sent every packet");
    assert_eq!(arrived.metrics.send_calls.get(), 0, "the batch holds them all");
    assert!(arrived.batch.is_blocked(), "they wait in the batch");
}

#[library_benchmark]
#[bench::of_4_packets_to_200_viewers(args = (arrived()), teardown = assert_forwarded)]
fn burst(mut arrived: Arrived) -> Arrived {
    let hub = &mut arrived.audience.simulation.hub;
    take_in(hub, arrived.audience.now, black_box(&arrived.burst), &mut arrived.batch);
    arrived
}

library_benchmark_group!(name = packet_through, benchmarks = [burst]);
main!(library_benchmark_groups = packet_through);

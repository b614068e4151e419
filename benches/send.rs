//! The send batch alone: ready-made packets to 200 receivers, in runs of 1, 4 and 8 to each, which the kernel cuts
//! (`segmented`) or which leave packet by packet (`singly`).
//!
//! An iteration sends one run to every receiver, so criterion's `elem/s` are packets. Compare the two lines of one run
//! length, and `segmented/4` and `segmented/8` (a paced broadcaster, a whole frame at once) with `singly/1`: machines
//! differ, these ratios hardly do. Runs of 1 cannot be cut, so there the two lines show what the noise is.
//!
//! Receivers are bound sockets with tiny buffers that nobody reads, so the kernel drops the packets where they arrive. On
//! loopback that is still within the sender's system call, and there a run is cut just before it is dropped: a network
//! card takes the first away, and one that cuts by itself the second as well.
//!
//! Times are of the processor, not of the clock: what else the machine does meanwhile counts little.

#![allow(missing_docs, clippy::expect_used, clippy::panic, reason = "a bench that cannot measure must fail")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use onair::egress::sink::{DatagramSink, Path, Traffic};
use onair::net::addresses::Addresses;
use onair::net::metrics::NetMetrics;
use onair::net::send::SendBatch;
use onair::net::socket;
use socket2::SockRef;

const RECEIVERS: usize = 200;

/// A packet of a full-size video frame, in bytes.
const PACKET_BYTES: usize = 1_100;

/// What this thread has had of the processor.
fn processor_time() -> Duration {
    // The kernel brings the account up to date when the thread offers to stop.
    std::thread::yield_now();
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel keeps accounts of threads");
    let spent_ns = account.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(spent_ns.expect("the account begins with the time spent"))
}

/// One run to each receiver.
fn send_runs(batch: &mut SendBatch, paths: &[Path], run: usize, packet: &[u8]) {
    for path in paths {
        for _ in 0..run {
            let slot = batch.reserve(*path, Traffic::Video, packet.len()).expect("the batch has room");
            slot.copy_from_slice(packet);
            batch.commit(packet.len());
        }
    }
    batch.flush();
}

fn send(criterion: &mut Criterion) {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let receivers: Vec<UdpSocket> = (0..RECEIVERS)
        .map(|_| {
            let receiver = UdpSocket::bind(local).expect("a port is free");
            SockRef::from(&receiver).set_recv_buffer_size(1).expect("the kernel takes its least instead");
            receiver
        })
        .collect();
    let packet: Vec<u8> = (0..PACKET_BYTES).map(|at| at as u8).collect();

    let mut group = criterion.benchmark_group("send");
    for run in [1, 4, 8] {
        group.throughput(Throughput::Elements((RECEIVERS * run) as u64));
        for mode in ["segmented", "singly"] {
            let socket = socket::bind(local).expect("a port is free");
            let source = socket.local_addr().expect("a bound socket has an address");
            let paths: Vec<Path> = receivers
                .iter()
                .map(|receiver| receiver.local_addr().expect("a bound socket has an address"))
                .map(|destination| Path::udp(source, destination))
                .collect();
            let metrics = Arc::new(NetMetrics::default());
            let mut batch = SendBatch::new(socket, false, Addresses::new(source, &[], &[]), Arc::clone(&metrics));
            if mode == "singly" {
                batch = batch.without_segments();
            }
            let mut sent = 0;
            group.bench_function(BenchmarkId::new(mode, run), |bencher| {
                bencher.iter_custom(|iterations| {
                    let before = processor_time();
                    for _ in 0..iterations {
                        send_runs(&mut batch, &paths, run, &packet);
                        sent += paths.len() * run;
                    }
                    processor_time() - before
                });
            });
            assert_eq!(metrics.datagrams_sent.get(), sent as u64, "every packet was sent");
            // Where the batch is full in the middle of a run, that run leaves as two.
            let is_cut = metrics.messages_sent.get() * 2 <= metrics.datagrams_sent.get();
            assert_eq!(
                is_cut,
                sent == 0 || (run > 1 && mode == "segmented"),
                "the kernel cuts what it is to, and no more"
            );
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(30);
    targets = send
}
criterion_main!(benches);

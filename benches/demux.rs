//! Which peer a datagram belongs to: by the address it came from, and for the first STUN of a peer by the ufrag it names.

#![allow(missing_docs, clippy::expect_used, clippy::panic, reason = "a bench that cannot measure must fail")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use onair::egress::sink::Remote;
use onair::hub::demux::{Demux, Route};
use onair::hub::io::SessionId;
use onair::hub::peer::{Peer, Role};
use onair::hub::peers::Peers;
use onair::hub::subscriber::Subscriber;
use str0m::Rtc;

/// The address of the client with this number.
fn address(number: u32) -> Remote {
    let [_, high, middle, low] = number.to_be_bytes();
    Remote::udp(SocketAddr::from(([10, high, middle, low], 40_000 + (number % 20_000) as u16)))
}

/// A STUN binding request (RFC 8489) with USERNAME, PRIORITY and room for a MESSAGE-INTEGRITY, which is looked at later.
fn binding_request(ufrag: &str) -> Vec<u8> {
    let username = format!("{ufrag}:far");
    let padded_bytes = username.len().next_multiple_of(4);
    let len_bytes = 4 + padded_bytes + 8 + 24;
    let mut message = vec![0x00, 0x01, 0x00, len_bytes as u8, 0x21, 0x12, 0xa4, 0x42];
    message.extend([7; 12]);
    message.extend([0x00, 0x06, 0x00, username.len() as u8]);
    message.extend(username.as_bytes());
    message.resize(20 + 4 + padded_bytes, 0);
    message.extend([0x00, 0x24, 0x00, 4, 0x6e, 0x7f, 0xff, 0xff]);
    message.extend([0x00, 0x08, 0x00, 20]);
    message.extend([0; 20]);
    message
}

fn demux(criterion: &mut Criterion) {
    str0m::crypto::from_feature_flags().install_process_default();
    let now = Instant::now();
    // What a key names does not matter here: one peer stands for all.
    let subscriber = Subscriber::new("r".parse().expect("a room"), None, true);
    let role = Role::Subscriber(Box::new(subscriber));
    let key = Peers::default().insert(Peer::new(Rtc::new(now), SessionId(1), role, now));
    let media = [0x80; 1_200];

    let mut group = criterion.benchmark_group("demux");
    for peers in [1_u32, 1_000, 10_000] {
        let mut demux = Demux::new(7);
        for number in 0..peers {
            demux.bind(address(number), key);
            demux.name(&format!("ufrag{number:05}"), key);
        }
        // In no order, so that the table is not found in the cache for its neighbours' sake.
        let sources: Vec<_> = (0..4_096).map(|turn: u32| address(turn.wrapping_mul(2_654_435_761) % peers)).collect();
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("address", peers), |bencher| {
            bencher.iter(|| {
                turn = (turn + 1) % sources.len();
                assert_eq!(demux.route(black_box(sources[turn]), &media), Route::Bound(key));
            });
        });
        let request = binding_request(&format!("ufrag{:05}", peers / 2));
        let stranger = Remote::udp(SocketAddr::from(([192, 0, 2, 1], 9)));
        group.bench_function(BenchmarkId::new("ufrag", peers), |bencher| {
            bencher.iter(|| assert_eq!(demux.route(black_box(stranger), &request), Route::Named(key)));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = demux
}
criterion_main!(benches);

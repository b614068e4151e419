//! What one packet costs in the egress, beside the bare cipher and beside str0m's own way (`write_rtp`, then the drain).
//!
//! Nothing here touches a socket. Before it is measured, what comes out is opened and compared with what went in.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot measure must fail"
)]

#[path = "egress/pair.rs"]
mod pair;
#[path = "egress/viewer.rs"]
mod viewer;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use onair::egress::cipher::{Cipher, Profile};
use onair::egress::ring::PacketRing;
use onair::rtp::rewrite::{SourcePacket, TrackRewrite};
use pair::Pair;
use viewer::{SSRC, Viewer, cipher, packet};

const PROFILES: [(Profile, &str); 3] = [
    (Profile::AeadAes256Gcm, "AEAD_AES_256_GCM"),
    (Profile::AeadAes128Gcm, "AEAD_AES_128_GCM"),
    (Profile::Aes128CmSha1_80, "AES128_CM_SHA1_80"),
];

/// Of sound, and of a full packet of video.
const SIZES: [usize; 2] = [160, 1_100];

/// The same profile that seals the same bytes where they lie: below that, no egress can go.
fn bare(group: &mut BenchmarkGroup<'_, WallTime>, profile: Profile, name: &str, payload_bytes: usize) {
    let cipher = cipher(profile);
    let header = [0x90; 32];
    let mut body = vec![7; payload_bytes];
    let mut tag = vec![0; profile.tag_bytes()];
    let mut index = 0;
    group.bench_function(BenchmarkId::new(format!("cipher/{name}"), payload_bytes), |bencher| {
        bencher.iter(|| {
            index += 1;
            match &cipher {
                Cipher::Gcm(gcm) => gcm.seal((SSRC, index), &header, &mut body, &[], &mut tag).unwrap(),
                Cipher::CmSha1(cm) => {
                    cm.apply((SSRC, index), &mut body).unwrap();
                    tag.copy_from_slice(&cm.tag(&body, &[0; 4]));
                }
            }
        });
    });
}

fn egress(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("egress");
    for payload_bytes in SIZES {
        let payload: Arc<[u8]> = (0..payload_bytes).map(|at| at as u8).collect();
        for (profile, name) in PROFILES {
            bare(&mut group, profile, name, payload_bytes);
            let mut viewer = Viewer::new(profile, now);
            let packet = packet(1, Arc::clone(&payload), now);
            viewer.assert_opens(profile, &packet);
            group.bench_function(BenchmarkId::new(format!("own/{name}"), payload_bytes), |bencher| {
                bencher.iter(|| viewer.send(black_box(&packet)));
            });
        }
        // What str0m negotiates with itself.
        let mut pair = Pair::connected();
        pair.assert_opens(&payload);
        group.bench_function(BenchmarkId::new("write_rtp/AEAD_AES_256_GCM", payload_bytes), |bencher| {
            bencher.iter(|| black_box(pair.send(&payload)));
        });
    }
    group.finish();
}

fn ring(criterion: &mut Criterion) {
    let now = Instant::now();
    let payload: Arc<[u8]> = Arc::from([7; 1_100]);
    let mut group = criterion.benchmark_group("ring");
    let mut ring = PacketRing::default();
    let mut sequence = 0;
    group.bench_function("insert", |bencher| {
        bencher.iter(|| {
            sequence += 1;
            ring.insert(packet(sequence, Arc::clone(&payload), now), now);
        });
    });
    assert!(ring.get(1, sequence, now).is_some());
    group.bench_function("get", |bencher| bencher.iter(|| black_box(ring.get(1, black_box(sequence), now)).is_some()));
    group.finish();
}

fn rewrite(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("rewrite");
    let mut track = TrackRewrite::new(100, 7, 90_000);
    let mut source = SourcePacket { epoch: 1, sequence: 1, timestamp: 3_000, vp8: None };
    group.bench_function("map", |bencher| {
        bencher.iter(|| {
            source.sequence += 1;
            black_box(track.map(black_box(source), now))
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30);
    targets = egress, ring, rewrite
}
criterion_main!(benches);

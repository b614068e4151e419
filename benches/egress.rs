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

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use onair::egress::cipher::{Cipher, MasterKey, Profile, RTP_LABELS};
use onair::egress::outlet::Outlet;
use onair::egress::packet::{PassedExtensions, RelayPacket};
use onair::egress::ring::PacketRing;
use onair::egress::sink::{DatagramSink, Path, Traffic};
use onair::egress::srtp;
use onair::egress::stream::{ExtensionIds, Moment, Stream, StreamSetup};
use onair::rtp::codec::{Codec, TrackKind};
use onair::rtp::header::{FIXED_HEADER_BYTES, RtpHeader};
use onair::rtp::ntp::WallClock;
use onair::rtp::packet::MediaPacket;
use onair::rtp::rewrite::{Mapped, SourcePacket, TrackRewrite};
use pair::Pair;

const PROFILES: [(Profile, &str); 3] = [
    (Profile::AeadAes256Gcm, "AEAD_AES_256_GCM"),
    (Profile::AeadAes128Gcm, "AEAD_AES_128_GCM"),
    (Profile::Aes128CmSha1_80, "AES128_CM_SHA1_80"),
];

/// Of sound, and of a full packet of video.
const SIZES: [usize; 2] = [160, 1_100];

const SSRC: u32 = 0x1234_5678;

/// A batch of one slot.
struct Slot {
    bytes: [u8; 1_536],
    len_bytes: usize,
}

impl DatagramSink for Slot {
    fn reserve(&mut self, _: Path, _: Traffic, len_bytes: usize) -> Option<&mut [u8]> {
        self.bytes.get_mut(..len_bytes)
    }

    fn commit(&mut self, len_bytes: usize) {
        self.len_bytes = len_bytes;
    }
}

fn packet(sequence: u64, payload: Arc<[u8]>, now: Instant) -> RelayPacket {
    let media = MediaPacket {
        kind: TrackKind::Video,
        codec: Codec::H264,
        epoch: 1,
        sequence,
        timestamp: 3_000,
        marker: false,
        payload,
        arrival: now,
        sender_report: None,
    };
    let extensions = PassedExtensions { playout_delay: Some([0, 0, 10]), ..PassedExtensions::default() };
    RelayPacket { media, format: 1, spec: pair::h264(), begins: false, captured: now, extensions, vp8: None }
}

/// The keys of a handshake that never was.
fn material(profile: Profile) -> Vec<u8> {
    (0..2 * (profile.key_bytes() + profile.salt_bytes())).map(|at| (at as u8).wrapping_mul(37)).collect()
}

/// The session keys that the server seals with.
fn cipher(profile: Profile) -> Cipher {
    let material = material(profile);
    let (key, salt) = (profile.key_bytes(), profile.salt_bytes());
    let server_salt = &material[2 * key + salt..];
    Cipher::new(&MasterKey::new(profile, &material[key..2 * key], server_salt).unwrap(), RTP_LABELS).unwrap()
}

/// One viewer's stream, as it stands in the hub.
struct Viewer {
    outlet: Outlet,
    stream: Stream,
    slot: Slot,
    moment: Moment,
    sequence: u64,
}

impl Viewer {
    fn new(profile: Profile, now: Instant) -> Self {
        let (sealer, opener) = srtp::session(profile, &material(profile), false).unwrap();
        let path = Path { source: ([127, 0, 0, 1], 1).into(), destination: ([127, 0, 0, 1], 2).into() };
        let mut outlet = Outlet::new(path, sealer, opener);
        let extensions = ExtensionIds { mid: 4, abs_send_time: 2, playout_delay: 5, ..ExtensionIds::default() };
        let setup = StreamSetup { ssrc: SSRC, rtx_ssrc: Some(SSRC + 1), random: 7, mid: "abc", extensions };
        let stream = Stream::new(&mut outlet, setup).unwrap();
        let slot = Slot { bytes: [0; 1_536], len_bytes: 0 };
        let ntp = WallClock::new(now, Duration::from_secs(1_800_000_000)).ntp_at(now);
        Self { outlet, stream, slot, moment: Moment { now, ntp }, sequence: 100 }
    }

    fn send(&mut self, packet: &RelayPacket) {
        let mapped = Mapped { sequence: self.sequence, timestamp: packet.media.timestamp, vp8: None };
        self.sequence += 1;
        assert!(self.stream.send(&mut self.outlet, packet, mapped, 96, self.moment, &mut self.slot));
    }

    /// What was sent opens, with the same keys, to the packet's payload.
    fn assert_opens(&mut self, profile: Profile, packet: &RelayPacket) {
        let index = self.sequence;
        self.send(packet);
        let sealed = &mut self.slot.bytes[..self.slot.len_bytes];
        let header_bytes = FIXED_HEADER_BYTES + 4 + 4 * usize::from(u16::from_be_bytes([sealed[14], sealed[15]]));
        let (header, body) = sealed.split_at_mut(header_bytes);
        let payload_bytes = body.len() - profile.tag_bytes();
        match cipher(profile) {
            Cipher::Gcm(gcm) => gcm.open((SSRC, index), header, body).unwrap(),
            Cipher::CmSha1(cm) => {
                let (payload, tag) = body.split_at_mut(payload_bytes);
                let authenticated = [&*header, &*payload].concat();
                assert_eq!(cm.tag(&authenticated, &[0; 4]), *tag);
                cm.apply((SSRC, index), payload).unwrap();
            }
        }
        assert_eq!(body[..payload_bytes], *packet.media.payload);
        let plain = [&*header, &body[..payload_bytes]].concat();
        let header = RtpHeader::parse(&plain).unwrap();
        assert_eq!((header.ssrc, u64::from(header.sequence), header.payload_type), (SSRC, index, 96));
        assert_eq!(header.extensions.value_of(4), Some(&b"abc"[..]));
    }
}

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

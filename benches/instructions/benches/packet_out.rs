//! How many instructions one packet takes in the egress, beside the bare cipher: unlike times, the same on a busy machine.
//!
//! Counted by valgrind, which knows no AVX-512: aws-lc takes other code there than on a newer processor, so that only what
//! stands beside the cipher tells of the real program.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot measure must fail")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use gungraun::{library_benchmark, library_benchmark_group, main};
use onair::egress::cipher::{Cipher, Profile};
use onair::egress::packet::RelayPacket;
use onair::egress::ring::PacketRing;
use onair::rtp::rewrite::{SourcePacket, TrackRewrite};
use onair_instructions::{SSRC, Viewer, cipher, packet};

const PAYLOAD_BYTES: usize = 1_100;

fn media() -> RelayPacket {
    packet(1, Arc::from([7; PAYLOAD_BYTES]), Instant::now())
}

/// A viewer who has got one packet: what is done once is done.
fn watching(profile: Profile) -> (Viewer, RelayPacket) {
    let mut viewer = Viewer::new(profile, Instant::now());
    let packet = media();
    viewer.assert_opens(profile, &packet);
    (viewer, packet)
}

fn sealing(profile: Profile) -> (Cipher, Vec<u8>, Vec<u8>) {
    let mut tag = vec![0; profile.tag_bytes()];
    let (cipher, mut body) = (cipher(profile), vec![7; PAYLOAD_BYTES]);
    seal(&cipher, 1, &mut body, &mut tag);
    (cipher, body, tag)
}

fn seal(cipher: &Cipher, index: u64, body: &mut [u8], tag: &mut [u8]) {
    match cipher {
        Cipher::Gcm(gcm) => gcm.seal((SSRC, index), &[0x90; 32], body, &[], tag).unwrap(),
        Cipher::CmSha1(cm) => {
            cm.apply((SSRC, index), body).unwrap();
            tag.copy_from_slice(&cm.tag(body, &[0; 4]));
        }
    }
}

#[library_benchmark]
#[bench::aead_aes_256_gcm(sealing(Profile::AeadAes256Gcm))]
#[bench::aead_aes_128_gcm(sealing(Profile::AeadAes128Gcm))]
#[bench::aes128_cm_sha1_80(sealing(Profile::Aes128CmSha1_80))]
fn bare_cipher((cipher, mut body, mut tag): (Cipher, Vec<u8>, Vec<u8>)) -> (Cipher, Vec<u8>, Vec<u8>) {
    seal(black_box(&cipher), 2, black_box(&mut body), &mut tag);
    (cipher, body, tag)
}

#[library_benchmark]
#[bench::aead_aes_256_gcm(watching(Profile::AeadAes256Gcm))]
#[bench::aead_aes_128_gcm(watching(Profile::AeadAes128Gcm))]
#[bench::aes128_cm_sha1_80(watching(Profile::Aes128CmSha1_80))]
fn own_egress((mut viewer, packet): (Viewer, RelayPacket)) -> (Viewer, RelayPacket) {
    viewer.send(black_box(&packet));
    (viewer, packet)
}

fn track() -> (TrackRewrite, SourcePacket, Instant) {
    let now = Instant::now();
    let mut source = SourcePacket { epoch: 1, sequence: 1, timestamp: 3_000, vp8: None };
    let mut track = TrackRewrite::new(100, 7, 90_000);
    track.map(source, now).unwrap();
    source.sequence += 1;
    (track, source, now)
}

#[library_benchmark]
#[bench::of_a_packet_in_order(track())]
fn rewrite((mut track, source, now): (TrackRewrite, SourcePacket, Instant)) -> TrackRewrite {
    black_box(track.map(black_box(source), now));
    track
}

fn kept() -> (PacketRing, Instant) {
    let now = Instant::now();
    let mut ring = PacketRing::default();
    ring.insert(media(), now);
    (ring, now)
}

#[library_benchmark]
#[bench::of_a_packet_that_is_there(kept())]
fn ring_get((ring, now): (PacketRing, Instant)) -> PacketRing {
    assert!(black_box(ring.get(1, black_box(1), now)).is_some());
    ring
}

library_benchmark_group!(name = packet_out, benchmarks = [bare_cipher, own_egress, rewrite, ring_get]);
main!(library_benchmark_groups = packet_out);

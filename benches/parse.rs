//! What comes from outside, taken apart: signaling once for each client, RTP for each packet.

#![allow(missing_docs, clippy::expect_used, clippy::panic, reason = "a bench that cannot measure must fail")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onair::rtp::codec::Codec;
use onair::rtp::header::RtpHeader;
use onair::rtp::keyframe::starts_keyframe;
use onair::signal::ClientMessage;
use onair::signal::foreign::{Foreign, OfferOptions, normalise_answer};
use str0m::change::SdpOffer;

const OFFER: &str = include_str!("../tests/data/sdp/publish/chromium-camera-mic-data.sdp");
const ANSWER: &str = include_str!("../tests/data/sdp/answer/chromium.sdp");

/// A packet as Chromium sends it: one-byte extensions for transport-cc, mid and abs-send-time, then H.264.
fn packet() -> Vec<u8> {
    let mut packet = vec![0x90, 0xe6, 0x12, 0x34, 0x00, 0x01, 0xe2, 0x40, 0x89, 0xab, 0xcd, 0xef];
    packet.extend([0xbe, 0xde, 0x00, 0x03, 0x22, 0x01, 0x02, 0x03, 0x31, 0x00, 0x05, 0x40, 0x30, 0, 0, 0]);
    packet.extend([0x7c, 0x85, 0xb8]);
    packet.resize(1_200, 0x55);
    packet
}

fn parse(criterion: &mut Criterion) {
    let frame = serde_json::json!({"type": "register", "room": "r", "user": "u", "id": "1", "sdp": OFFER}).to_string();
    let mut group = criterion.benchmark_group("parse");

    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("register", |bencher| {
        bencher.iter(|| ClientMessage::parse(black_box(&frame)).expect("a message"));
    });
    group.throughput(Throughput::Bytes(OFFER.len() as u64));
    group.bench_function("foreign-offer", |bencher| {
        bencher.iter(|| Foreign::offer(black_box(OFFER), OfferOptions::default()).expect("an offer"));
    });
    let fit = Foreign::offer(OFFER, OfferOptions::default()).expect("an offer");
    group.bench_function("fit-offer-by-str0m", |bencher| {
        bencher.iter(|| SdpOffer::from_sdp_string(black_box(fit.sdp())).expect("an offer"));
    });
    group.throughput(Throughput::Bytes(ANSWER.len() as u64));
    group.bench_function("foreign-answer", |bencher| {
        bencher.iter(|| normalise_answer(black_box(ANSWER)).expect("an answer"));
    });
    let packet = packet();
    group.throughput(Throughput::Elements(1));
    group.bench_function("rtp-header", |bencher| {
        bencher.iter(|| RtpHeader::parse(black_box(&packet)).expect("a packet"));
    });
    group.bench_function("rtp-extension", |bencher| {
        let header = RtpHeader::parse(&packet).expect("a packet");
        bencher.iter(|| black_box(&header).extensions.value_of(3).expect("abs-send-time or mid"));
    });
    let payload = packet[RtpHeader::parse(&packet).expect("a packet").payload].to_vec();
    group.bench_function("h264-keyframe", |bencher| {
        bencher.iter(|| assert!(starts_keyframe(Codec::H264, black_box(&payload))));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = parse
}
criterion_main!(benches);

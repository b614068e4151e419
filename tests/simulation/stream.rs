//! What a client got on one m-line, held against what was sent.
//!
//! **Invariant:** nothing is compared by position alone: each packet names what it is by its token.

use std::time::Duration;

use onair::rtp::codec::{Codec, TrackKind};
use onair::rtp::vp8::Vp8Descriptor;
use str0m::media::Mid;

use super::client::{Client, Received};
use super::media::{Encoder, without_ids};

/// What came on an m-line, in order, cut where another encoder begins.
pub fn stretches(client: &Client, mid: Mid) -> Vec<Vec<&Received>> {
    let mut stretches: Vec<Vec<&Received>> = Vec::new();
    for packet in client.stream(mid) {
        match stretches.last_mut() {
            Some(stretch) if stretch[0].token.encoder == packet.token.encoder => stretch.push(packet),
            _ => stretches.push(vec![packet]),
        }
    }
    stretches
}

/// The one stretch that came on an m-line.
pub fn stretch(client: &Client, mid: Mid) -> Vec<&Received> {
    let mut all = stretches(client, mid);
    assert_eq!(all.len(), 1, "one encoder on the m-line");
    all.remove(0)
}

/// A stretch is an unbroken piece of what `encoder` sent, that a decoder can begin with, and that goes on to the end save
/// for what was still under way.
pub fn assert_whole(stretch: &[&Received], encoder: &Encoder) {
    assert_true(stretch, encoder);
    for pair in stretch.windows(2) {
        assert_eq!(pair[1].token.index, pair[0].token.index + 1, "a packet is missing after {:?}", pair[0].token);
    }
    let last = stretch.last().expect("a packet").token.index as usize;
    assert!(last + 30 > encoder.sent.len(), "it stops at {last} of {}", encoder.sent.len());
}

/// Each packet of a stretch is what was sent, in the order and with the distances it was sent with, from a keyframe on.
pub fn assert_true(stretch: &[&Received], encoder: &Encoder) {
    let first = stretch.first().expect("a packet");
    assert_eq!(first.token.encoder, encoder.number, "it is another encoder's");
    let sent = |packet: &Received| &encoder.sent[packet.token.index as usize];
    if encoder.codec.kind() == TrackKind::Video {
        assert!(sent(first).starts_keyframe, "it begins at {:?}, which is no keyframe", first.token);
    }
    for packet in stretch {
        let (origin, original) = (sent(first), sent(packet));
        assert_eq!(packet.ssrc, first.ssrc);
        assert_eq!(packet.sequence - first.sequence, original.sequence - origin.sequence, "{:?}", packet.token);
        assert_eq!(
            packet.timestamp.wrapping_sub(first.timestamp),
            original.timestamp.wrapping_sub(origin.timestamp),
            "{:?}",
            packet.token
        );
        assert_eq!(packet.marker, original.marker, "{:?}", packet.token);
        let codec = encoder.codec;
        assert_eq!(without_ids(codec, &packet.payload), without_ids(codec, &original.payload), "{:?}", packet.token);
        if codec == Codec::Vp8 {
            let distance = |from: &[u8], to: &[u8]| picture_id(to).wrapping_sub(picture_id(from)) & 0x7fff;
            assert_eq!(
                distance(&first.payload, &packet.payload),
                distance(&origin.payload, &original.payload),
                "picture id of {:?}",
                packet.token
            );
        }
    }
}

/// `after` goes on where `before` stopped: no jump back, no gap in the sequence numbers, time as it passed.
pub fn assert_joined(before: &[&Received], after: &[&Received], codec: Codec) {
    let (last, first) = (before.last().expect("a packet"), after.first().expect("a packet"));
    assert_eq!(first.ssrc, last.ssrc, "one m-line, one SSRC");
    assert_eq!(first.sequence, last.sequence + 1, "sequence numbers go on");
    let ticks = first.timestamp.wrapping_sub(last.timestamp);
    let advanced = Duration::from_secs_f64(f64::from(ticks) / f64::from(codec.clock_rate_hz()));
    let passed = first.at - last.at;
    let apart = advanced.abs_diff(passed);
    assert!(apart < Duration::from_millis(100), "{passed:?} passed, timestamps advanced by {advanced:?}");
    if codec == Codec::Vp8 {
        let (last, first) = (picture_id(&last.payload), picture_id(&first.payload));
        assert_eq!(first, (last + 1) & 0x7fff, "picture ids go on");
    }
}

fn picture_id(payload: &[u8]) -> u16 {
    let descriptor = Vp8Descriptor::parse(payload).expect("a VP8 payload");
    descriptor.ids().picture_id.expect("a picture id").value
}

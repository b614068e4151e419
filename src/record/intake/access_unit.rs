//! Makes the packets of one picture one access unit.
//!
//! Some encoders repeat their parameter sets in front of each slice of a keyframe. Behind the first slice these would begin
//! another picture (H.264 §7.4.1.2.3, H.265 §7.4.2.4.4): players that go by timestamps never mind, but ffmpeg, which reads
//! the units, finds several pictures with one timestamp, and fails.
//!
//! **Invariant:** nothing is taken but what would begin another picture, and that only behind a slice.

use std::sync::Arc;

use crate::rtp::codec::Codec;

/// The header of an aggregate of H.264 (STAP-A, RFC 6184 §5.7.1).
const STAP_A: u8 = 24;
/// The first byte of a fragment of H.264 (FU-A, RFC 6184 §5.8).
const FU_A: u8 = 28;
/// An aggregation packet of H.265 (RFC 7798 §4.4.2).
const AGGREGATION: u8 = 48;
/// A fragmentation unit of H.265 (RFC 7798 §4.4.3).
const FRAGMENTATION: u8 = 49;

/// What a NAL unit is to the order of units in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// A part of the picture itself.
    Slice,
    /// Parameter sets and what else stands in front of a picture: behind a slice, the beginning of another.
    Front,
    /// Whatever may stand anywhere.
    Other,
}

/// The forms of one codec's payloads.
#[derive(Debug, Clone, Copy)]
struct Family {
    header_bytes: usize,
    aggregation: u8,
    fragmentation: u8,
    kind: fn(&[u8]) -> Option<u8>,
    unit: fn(u8) -> Unit,
}

const H264: Family = Family {
    header_bytes: 1,
    aggregation: STAP_A,
    fragmentation: FU_A,
    kind: |unit| Some(unit.first()? & 0x1f),
    unit: |kind| match kind {
        1..=5 => Unit::Slice,
        6..=9 | 14..=18 => Unit::Front,
        _ => Unit::Other,
    },
};

const H265: Family = Family {
    header_bytes: 2,
    aggregation: AGGREGATION,
    fragmentation: FRAGMENTATION,
    kind: |unit| Some(unit.first()? >> 1 & 0x3f),
    unit: |kind| match kind {
        0..=31 => Unit::Slice,
        32..=35 | 39 | 41..=44 => Unit::Front,
        _ => Unit::Other,
    },
};

/// Takes from a picture's payloads what would begin another picture in its midst.
pub fn unite(codec: Codec, payloads: &mut Vec<Arc<[u8]>>) {
    let family = match codec {
        Codec::H264 => H264,
        Codec::H265 => H265,
        _ => return,
    };
    let mut in_slices = false;
    payloads.retain_mut(|payload| {
        let Some(kind) = (family.kind)(payload) else {
            return true;
        };
        if kind == family.aggregation {
            return family.unite_aggregate(payload, &mut in_slices);
        }
        let kind = if kind == family.fragmentation { family.fragmented(payload) } else { kind };
        family.stays(kind, &mut in_slices)
    });
}

impl Family {
    fn stays(&self, kind: u8, in_slices: &mut bool) -> bool {
        let unit = (self.unit)(kind);
        *in_slices |= unit == Unit::Slice;
        !(*in_slices && unit == Unit::Front)
    }

    /// The kind of the unit that a fragment is of: each one tells.
    fn fragmented(&self, payload: &[u8]) -> u8 {
        let header = payload.get(self.header_bytes).copied().unwrap_or_default();
        header & if self.header_bytes == 1 { 0x1f } else { 0x3f }
    }

    /// False where nothing of it stays. One that cannot be read is left as it is.
    fn unite_aggregate(&self, payload: &mut Arc<[u8]>, in_slices: &mut bool) -> bool {
        let Some((header, mut units)) = payload.split_at_checked(self.header_bytes) else {
            return true;
        };
        let mut kept = header.to_vec();
        let mut is_whole = true;
        while let [high, low, rest @ ..] = units {
            let size_bytes = usize::from(u16::from_be_bytes([*high, *low]));
            let Some((unit, rest)) = rest.split_at_checked(size_bytes) else {
                return true;
            };
            if (self.kind)(unit).is_some_and(|kind| self.stays(kind, in_slices)) {
                kept.extend([*high, *low]);
                kept.extend(unit);
            } else {
                is_whole = false;
            }
            units = rest;
        }
        if !is_whole {
            *payload = kept.into();
        }
        payload.len() > self.header_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn united(codec: Codec, payloads: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut all: Vec<Arc<[u8]>> = payloads.iter().map(|payload| Arc::from(*payload)).collect();
        unite(codec, &mut all);
        all.iter().map(|payload| payload.to_vec()).collect()
    }

    #[test]
    fn parameter_sets_between_the_slices_of_a_keyframe_go() {
        // As GStreamer's x264enc, h264parse and rtph264pay write them.
        let first: &[u8] = &[0x78, 0, 2, 9, 0x30, 0, 1, 0x67, 0, 1, 0x68, 0, 2, 0x65, 0x88, 0, 1, 0x67, 0, 1, 0x68];
        let second: &[u8] = &[0x78, 0, 2, 0x65, 1, 0, 1, 0x67];
        let (third, fourth): (&[u8], &[u8]) = (&[0x7c, 0x85, 2], &[0x7c, 0x45, 3]);
        let united = united(Codec::H264, &[first, second, third, fourth, &[0x67, 1], &[0x68], &[0x65, 4]]);
        assert_eq!(united, [&first[..15], &second[..5], third, fourth, &[0x65, 4]]);
    }

    #[test]
    fn an_aggregate_of_which_nothing_stays_goes() {
        let slice: &[u8] = &[0x65, 0x88];
        assert_eq!(united(Codec::H264, &[slice, &[0x78, 0, 1, 0x67, 0, 1, 0x68], slice]), [slice, slice]);
    }

    #[test]
    fn what_stands_in_front_of_a_picture_or_anywhere_stays() {
        let all: [&[u8]; 5] = [&[9, 0x10], &[0x67, 1], &[0x68, 1], &[6, 1], &[0x65, 0x88]];
        assert_eq!(united(Codec::H264, &all), all);
        let filler: [&[u8]; 3] = [&[0x65, 0x88], &[12, 0xff], &[0x65, 8]];
        assert_eq!(united(Codec::H264, &filler), filler);
        let broken: [&[u8]; 4] = [&[0x65, 0x88], &[0x78, 0, 9, 0x67], &[], &[0x7c]];
        assert_eq!(united(Codec::H264, &broken), broken);
        assert_eq!(united(Codec::Vp8, &[&[0x65], &[0x67]]), [[0x65], [0x67]]);
    }

    #[test]
    fn h265_is_united_alike() {
        let unit = |kind: u8| [kind << 1, 1, 0x80];
        let aggregate = [48 << 1, 1, 0, 3, 19 << 1, 1, 0x80, 0, 3, 33 << 1, 1, 0x80];
        let fragment = [49 << 1, 1, 0x80 | 19, 7];
        let suffix = unit(40);
        let front = [unit(32), unit(33), unit(34)];
        let given =
            [&front[0][..], &front[1], &front[2], &aggregate, &fragment, &unit(32), &unit(34), &unit(19), &suffix];
        let left = united(Codec::H265, &given);
        assert_eq!(left, [&front[0][..], &front[1], &front[2], &aggregate[..7], &fragment, &unit(19), &suffix]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_united_without_panic_and_twice_changes_nothing(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..24), 0..8),
        ) {
            for codec in [Codec::H264, Codec::H265] {
                let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
                let once = united(codec, &payloads);
                let again: Vec<&[u8]> = once.iter().map(Vec::as_slice).collect();
                prop_assert_eq!(&united(codec, &again), &once);
            }
        }
    }
}

//! Whether an encoder sends B-frames: pictures that are decoded in another order than they are shown, for which RTP players
//! of WebRTC have no place.
//!
//! **Invariant:** reads the first bytes of a packet only, and takes what it cannot read for no B-frame.

use super::bits::Bits;
use super::codec::Codec;
use super::nal::{self, H264_SLICE};

/// Whether a B slice of H.264 begins in `payload` (H.264 §7.3.3, Table 7-6). Of other codecs it is not told: H.265 would
/// need the parameter sets, and VP8, VP9 and AV1 have no such thing.
#[must_use]
pub fn begins_b_frame(codec: Codec, payload: &[u8]) -> bool {
    codec == Codec::H264
        && nal::h264(payload).filter(|nal| nal.kind == H264_SLICE).any(|slice| {
            let mut bits = Bits::of_nal(slice.body);
            let first_macroblock = bits.golomb();
            matches!(first_macroblock.and_then(|_| bits.golomb()), Some(1 | 6))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b_slices_are_told_from_others() {
        // first_mb_in_slice 0 (`1`), then slice_type: 1 is `010`, 6 is `00111`, 0 is `1`, 5 is `00110`, 7 is `0001000`.
        for (first, is_b) in [(0b1010_0000, true), (0b1001_1100, true), (0b1100_0000, false), (0b1001_1000, false)] {
            assert_eq!(begins_b_frame(Codec::H264, &[0x41, first, 0, 0]), is_b, "{first:08b}");
            assert_eq!(begins_b_frame(Codec::H264, &[0x5c, 0x81, first, 0]), is_b, "the first fragment of {first:08b}");
            assert!(!begins_b_frame(Codec::H264, &[0x5c, 0x01, first, 0]), "a later fragment");
            assert!(!begins_b_frame(Codec::H264, &[0x65, first, 0, 0]), "an IDR slice");
            assert!(!begins_b_frame(Codec::Vp8, &[0x41, first, 0, 0]));
        }
        assert!(!begins_b_frame(Codec::H264, &[0x41, 0b1000_1000, 0]), "an I slice");
        for cut in [&[][..], &[0x41], &[0x5c, 0x81], &[0x41, 0]] {
            assert!(!begins_b_frame(Codec::H264, cut), "{cut:?}");
        }
    }
}

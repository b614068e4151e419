//! Where a keyframe begins: the packet from which a decoder that knows nothing can start.
//!
//! **Invariant:** [`KeyframeStart::observe`] is true at most once for a picture, at the first of its packets that came.

use super::codec::Codec;
use super::frame_size::vp9_key_header;
use super::nal::{self, H264_IDR, H264_SPS, H265_IRAP, H265_SPS, H265_VPS};
use super::vp8::Vp8Descriptor;
use super::vp9::Vp9Descriptor;

pub use super::frame_size::frame_size;

/// Whether `payload` could be the first packet of a keyframe.
///
/// VP8 (RFC 7741), VP9 (RFC 9628) and AV1 tell it exactly. In H.264 and H.265 a keyframe is a parameter set and the first
/// slice of an IDR (IRAP) picture, together or each in packets of its own with one timestamp, so this is true for several
/// packets of one keyframe: [`KeyframeStart`] tells which of them is the first.
#[must_use]
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        // Every packet of sound can be decoded alone.
        Codec::Opus => true,
        Codec::H264 => nal::h264(payload).any(|nal| match nal.kind {
            H264_SPS => true,
            H264_IDR => is_first_slice(nal.body),
            _ => false,
        }),
        Codec::H265 => nal::h265(payload).any(|nal| match nal.kind {
            H265_VPS | H265_SPS => true,
            kind if H265_IRAP.contains(&kind) => is_first_slice(nal.body),
            _ => false,
        }),
        Codec::Vp8 => Vp8Descriptor::parse(payload).is_ok_and(|descriptor| {
            let is_key = payload.get(descriptor.len_bytes()).is_some_and(|tag| tag & 1 == 0);
            descriptor.starts_frame() && is_key
        }),
        Codec::Vp9 => Vp9Descriptor::parse(payload).is_some_and(|descriptor| {
            let frame = payload.get(descriptor.len_bytes..).unwrap_or_default();
            descriptor.starts_frame
                && !descriptor.inter_predicted
                && descriptor.spatial_layer == 0
                && vp9_key_header(frame).is_some()
        }),
        // N: the first packet of a coded video sequence; it never has Z, the rest of an earlier OBU.
        Codec::Av1 => payload.first().is_some_and(|header| header & 0x88 == 0x08) && payload.len() > 1,
    }
}

/// Whether a decoder finds in the packet, or in any keyframe, what it needs to know before the first slice.
fn has_its_parameters(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::H264 => nal::h264(payload).any(|nal| nal.kind == H264_SPS),
        Codec::H265 => nal::h265(payload).any(|nal| matches!(nal.kind, H265_VPS | H265_SPS)),
        _ => true,
    }
}

/// H.264's `first_mb_in_slice` of 0 and H.265's `first_slice_segment_in_pic_flag` are both a leading 1 bit.
fn is_first_slice(body: &[u8]) -> bool {
    body.first().is_some_and(|byte| byte & 0x80 != 0)
}

/// Finds the first packet of each keyframe of one track.
///
/// A subscriber that waits for video begins exactly where [`observe`](Self::observe) is true. A later packet of the same
/// keyframe (the IDR slice behind its parameter sets) has the same timestamp, and to begin there would give a decoder a
/// picture without its parameters. Nor does one begin at a slice whose parameter sets are lost or late: of keyframes
/// without any, the second in a row is the first that counts, for then the sender has them elsewhere.
#[derive(Debug, Clone, Default)]
pub struct KeyframeStart {
    latest_timestamp: Option<u32>,
    was_bare: bool,
}

impl KeyframeStart {
    /// Takes note of each packet of the track, as it comes, and tells whether a keyframe begins with it.
    pub fn observe(&mut self, codec: Codec, payload: &[u8], timestamp: u32) -> bool {
        if !starts_keyframe(codec, payload) {
            return false;
        }
        if self.latest_timestamp == Some(timestamp) {
            // They came behind the slice: the sender does send them.
            self.was_bare &= !has_its_parameters(codec, payload);
            return false;
        }
        self.latest_timestamp = Some(timestamp);
        let is_bare = !has_its_parameters(codec, payload);
        let was_bare = std::mem::replace(&mut self.was_bare, is_bare);
        !is_bare || was_bare
    }

    /// Forgets the past: another source begins.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::samples;
    use proptest::prelude::*;

    /// A codec, the size of its first picture, how many keyframes there are, and the file.
    type Sample = (Codec, (u16, u16), usize, &'static [u8]);

    const SAMPLES: [Sample; 10] = [
        (Codec::H264, (320, 180), 2, include_bytes!("../../tests/data/rtp/chromium-h264.rtpd")),
        (Codec::Vp8, (480, 270), 1, include_bytes!("../../tests/data/rtp/chromium-vp8.rtpd")),
        (Codec::Vp9, (320, 180), 1, include_bytes!("../../tests/data/rtp/chromium-vp9.rtpd")),
        (Codec::Av1, (320, 180), 1, include_bytes!("../../tests/data/rtp/chromium-av1.rtpd")),
        (Codec::Vp8, (960, 540), 1, include_bytes!("../../tests/data/rtp/firefox-vp8.rtpd")),
        (Codec::Av1, (1280, 720), 1, include_bytes!("../../tests/data/rtp/firefox-av1.rtpd")),
        (Codec::H264, (640, 360), 1, include_bytes!("../../tests/data/rtp/ffmpeg-h264.rtpd")),
        (Codec::H265, (640, 360), 1, include_bytes!("../../tests/data/rtp/ffmpeg-h265.rtpd")),
        (Codec::Vp9, (640, 360), 1, include_bytes!("../../tests/data/rtp/ffmpeg-vp9.rtpd")),
        (Codec::Av1, (640, 360), 1, include_bytes!("../../tests/data/rtp/ffmpeg-av1.rtpd")),
    ];

    #[test]
    fn real_senders_begin_with_a_keyframe_that_tells_its_size() {
        for (index, (codec, size, keyframes, bytes)) in SAMPLES.into_iter().enumerate() {
            let packets = samples::read(bytes);
            let mut start = KeyframeStart::default();
            let first: Vec<_> = packets.iter().map(|p| start.observe(codec, &p.payload, p.timestamp)).collect();
            assert_eq!(first.iter().filter(|&&is_first| is_first).count(), keyframes, "{index} {codec}");
            assert!(first[0], "{index} {codec}");
            assert_eq!(frame_size(codec, &packets[0].payload), Some(size), "{index} {codec}");
            assert!(packets.iter().filter(|p| p.marker).count() > 1, "{index} {codec}: more than the keyframe");
        }
    }

    #[test]
    fn h264_parameter_sets_and_their_idr_slice_are_one_keyframe() {
        let mut start = KeyframeStart::default();
        let (sps, pps, idr, delta) = ([0x67, 0x42], [0x68, 0xce], [0x65, 0x88], [0x41, 0x9a]);
        assert!(start.observe(Codec::H264, &sps, 9));
        assert!(!start.observe(Codec::H264, &pps, 9));
        assert!(!start.observe(Codec::H264, &idr, 9));
        assert!(!start.observe(Codec::H264, &delta, 10));
        assert!(!start.observe(Codec::H264, &idr, 11), "its parameter sets are lost or late");
        assert!(!start.observe(Codec::H264, &sps, 11), "late");
        assert!(!start.observe(Codec::H264, &idr, 12), "the sender does send them");
        assert!(start.observe(Codec::H264, &idr, 13), "twice none: they came before, or come by the SDP");
        assert!(start.observe(Codec::H264, &sps, 14));
        start.reset();
        assert!(!start.observe(Codec::H264, &idr, 13));
    }

    #[test]
    fn h264_packets_of_every_kind() {
        for (payload, expected) in [
            (&[0x65, 0x88][..], true),
            (&[0x65, 0x08], false),       // a later slice of the picture
            (&[0x7c, 0x85, 0x88], true),  // FU-A, start of an IDR slice
            (&[0x7c, 0x05, 0x88], false), // FU-A, its middle
            (&[0x7c, 0x81, 0x88], false), // FU-A, start of another slice
            (&[0x78, 0, 1, 0x67], true),  // STAP-A
            (&[0x78, 0, 1, 0x41], false),
            (&[0x09, 0xf0], false),
            (&[0x65], false),
            (&[], false),
        ] {
            assert_eq!(starts_keyframe(Codec::H264, payload), expected, "{payload:x?}");
        }
    }

    #[test]
    fn h265_packets_of_every_kind() {
        for (payload, expected) in [
            (&[19 << 1, 1, 0x80][..], true),
            (&[21 << 1, 1, 0x80], true),                // CRA
            (&[19 << 1, 1, 0x00], false),               // a later slice segment
            (&[32 << 1, 1, 0x0c], true),                // VPS
            (&[34 << 1, 1, 0x0c], false),               // PPS alone
            (&[49 << 1, 1, 0x80 | 20, 0x80], true),     // FU, start of IDR_N_LP
            (&[49 << 1, 1, 20, 0x80], false),           // FU, its middle
            (&[48 << 1, 1, 0, 3, 33 << 1, 1, 0], true), // AP with SPS
            (&[1 << 1, 1, 0x80], false),
            (&[19 << 1], false),
        ] {
            assert_eq!(starts_keyframe(Codec::H265, payload), expected, "{payload:x?}");
        }
    }

    #[test]
    fn vp9_and_av1_tell_by_their_descriptors() {
        let key = [0x82, 0x49, 0x83, 0x42, 0x00, 0, 0, 0];
        let vp9 = |descriptor: &[u8]| starts_keyframe(Codec::Vp9, &[descriptor, &key].concat());
        assert!(vp9(&[0x08]));
        assert!(!vp9(&[0x48]), "predicted");
        assert!(!vp9(&[0x04]), "not the beginning");
        assert!(vp9(&[0x38, 0x00]), "spatial layer 0, flexible");
        assert!(!vp9(&[0x38, 0x02]), "spatial layer 1");
        assert!(!starts_keyframe(Codec::Vp9, &[0x08, 0x86, 0, 0, 0, 0]), "not predicted, yet no keyframe");
        assert!(starts_keyframe(Codec::Av1, &[0x18, 0x0a]));
        assert!(!starts_keyframe(Codec::Av1, &[0x10, 0x0a]));
        assert!(!starts_keyframe(Codec::Av1, &[0x98, 0x0a]));
        assert!(!starts_keyframe(Codec::Av1, &[0x18]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_panic(payload in prop::collection::vec(any::<u8>(), 0..64)) {
            for codec in Codec::VIDEO {
                let _ = starts_keyframe(codec, &payload);
                let _ = frame_size(codec, &payload);
            }
        }

        #[test]
        fn damaged_keyframes_are_looked_at_without_panic(sample in 0..SAMPLES.len(), at in 0_usize..80, byte: u8, len in 0_usize..90) {
            let (codec, _, _, bytes) = SAMPLES[sample];
            let mut payload = samples::read(bytes).swap_remove(0).payload;
            payload.truncate(len);
            if let Some(target) = payload.get_mut(at) {
                *target = byte;
            }
            let _ = starts_keyframe(codec, &payload);
            let _ = frame_size(codec, &payload);
        }
    }
}

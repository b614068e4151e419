//! The VP9 payload descriptor (RFC 9628 §4.2): parsed, and cut down for readers of older drafts.
//!
//! **Invariant:** a descriptor that exists lies wholly within its payload, with at least one byte of the frame behind it.

/// A parsed VP9 payload descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp9Descriptor {
    /// P: the picture is predicted from earlier ones.
    pub inter_predicted: bool,
    /// B: the packet begins a layer frame.
    pub starts_frame: bool,
    /// E: the packet ends a layer frame.
    pub ends_frame: bool,
    /// SID: the spatial layer, 0 without layer indices.
    pub spatial_layer: u8,
    /// The largest size that the scalability structure tells, as width and height.
    pub largest_size: Option<(u16, u16)>,
    /// The length of the descriptor; the frame's bytes follow it.
    pub len_bytes: usize,
}

/// A forward-only reader of the descriptor's bytes.
struct Cursor<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.payload.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn pair(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }
}

impl Vp9Descriptor {
    /// Parses the descriptor that `payload` begins with; `None` where nothing is left for the frame itself.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut cursor = Cursor { payload, at: 0 };
        let first = cursor.byte()?;
        let has = |bit: u8| first & bit != 0;
        let (inter_predicted, flexible) = (has(0x40), has(0x10));
        let mut spatial_layer = 0;
        if has(0x80) && cursor.byte()? & 0x80 != 0 {
            cursor.byte()?;
        }
        if has(0x20) {
            spatial_layer = cursor.byte()? >> 1 & 0x07;
            if !flexible {
                cursor.byte()?; // TL0PICIDX
            }
        }
        if flexible && inter_predicted {
            // libwebrtc refers to at most three pictures, as the format says; older senders are not checked for it.
            while cursor.byte()? & 1 != 0 {}
        }
        let largest_size = if has(0x02) { scalability_structure(&mut cursor)? } else { None };
        let len_bytes = cursor.at;
        cursor.byte()?;
        Some(Self {
            inter_predicted,
            starts_frame: has(0x08),
            ends_frame: has(0x04),
            spatial_layer,
            largest_size,
            len_bytes,
        })
    }
}

/// Reads past the scalability structure; the outer `None` is a structure that ends early.
fn scalability_structure(cursor: &mut Cursor<'_>) -> Option<Option<(u16, u16)>> {
    let header = cursor.byte()?;
    let mut largest = None;
    if header & 0x10 != 0 {
        for _ in 0..=header >> 5 {
            largest = largest.max(Some((cursor.pair()?, cursor.pair()?)));
        }
    }
    if header & 0x08 != 0 {
        for _ in 0..cursor.byte()? {
            let references = cursor.byte()? >> 2 & 0x03;
            for _ in 0..references {
                cursor.byte()?;
            }
        }
    }
    Some(largest)
}

/// A payload with its descriptor cut down to the first byte with the P, B and E bits alone, as (that byte, the frame's bytes).
///
/// Readers of older drafts, FFmpeg 5.1 to 9.0 among them, do not skip the P_DIFF bytes of flexible mode and take them for
/// picture data. `None` for what is no VP9 payload, and for layer frames above the base: without layer indices a reader
/// could not tell them apart.
#[must_use]
pub fn cut_descriptor(payload: &[u8]) -> Option<(u8, &[u8])> {
    let descriptor = Vp9Descriptor::parse(payload)?;
    if descriptor.spatial_layer != 0 {
        return None;
    }
    let first = u8::from(descriptor.inter_predicted) << 6
        | u8::from(descriptor.starts_frame) << 3
        | u8::from(descriptor.ends_frame) << 2;
    Some((first, payload.get(descriptor.len_bytes..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::samples;
    use proptest::prelude::*;

    #[test]
    fn a_plain_descriptor_is_one_byte() {
        let descriptor = Vp9Descriptor::parse(&[0x0c, 0xaa]).unwrap();
        assert!(descriptor.starts_frame && descriptor.ends_frame && !descriptor.inter_predicted);
        assert_eq!(descriptor.len_bytes, 1);
        assert_eq!(cut_descriptor(&[0x0c, 0xaa]), Some((0x0c, &[0xaa][..])));
    }

    #[test]
    fn flexible_mode_loses_its_references() {
        // I P L F B | 15-bit picture id | layers | P_DIFF N, P_DIFF | frame
        let payload = [0xf8, 0x92, 0x34, 0x00, 0x03, 0x04, 0xaa, 0xbb];
        assert_eq!(cut_descriptor(&payload), Some((0x48, &[0xaa, 0xbb][..])));
    }

    #[test]
    fn the_scalability_structure_tells_the_largest_layer() {
        // V | N_S 1, Y, G | 320x180 | 640x360 | two pictures, the second with one reference | frame
        let payload = [0x0a, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0x00, 0x04, 0x01, 0xaa];
        let descriptor = Vp9Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.largest_size, Some((640, 360)));
        assert_eq!(descriptor.len_bytes, payload.len() - 1);
        assert_eq!(cut_descriptor(&payload), Some((0x08, &[0xaa][..])));
    }

    #[test]
    fn a_descriptor_that_ends_early_is_refused() {
        let whole = [0xfa, 0x92, 0x34, 0x00, 0x03, 0x04, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 1, 0x04, 0x01, 0xaa];
        assert!(cut_descriptor(&whole).is_some());
        for len in 0..whole.len() {
            assert_eq!(cut_descriptor(&whole[..len]), None, "{len}");
        }
    }

    #[test]
    fn a_layer_above_the_base_is_not_cut() {
        assert_eq!(cut_descriptor(&[0x28, 0x02, 0x00, 0xaa]), None);
    }

    #[test]
    fn chromiums_frames_begin_with_vp9s_frame_marker_once_cut() {
        let packets = samples::read(include_bytes!("../../tests/data/rtp/chromium-vp9.rtpd"));
        let mut starts = 0;
        for packet in &packets {
            let (first, frame) = cut_descriptor(&packet.payload).unwrap();
            assert_eq!(first & 0x04 != 0, packet.marker, "one layer: its end is the picture's");
            if first & 0x08 != 0 {
                starts += 1;
                assert_eq!(frame[0] >> 6, 2, "frame_marker");
                assert_eq!(frame[0] & 0x04 != 0, first & 0x40 != 0, "only the keyframe is not predicted");
            }
        }
        assert_eq!(starts, packets.iter().filter(|packet| packet.marker).count());
    }

    proptest! {
        #[test]
        fn what_is_cut_is_a_tail_of_the_payload(payload in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some((first, frame)) = cut_descriptor(&payload) {
                prop_assert!(!frame.is_empty() && payload.ends_with(frame));
                prop_assert_eq!(first & !0x4c, 0);
            }
        }
    }
}

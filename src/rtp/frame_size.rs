//! The size of a picture, read from the first packet of its keyframe.
//!
//! **Invariant:** a size that is told has a width and a height above zero, and is the size a decoder would show; AV1 tells the largest size of the
//! coded video sequence.

use super::bits::Bits;
use super::codec::Codec;
use super::nal::{self, H264_SPS, H265_SPS};
use super::vp8::Vp8Descriptor;
use super::vp9::Vp9Descriptor;

/// The width and height told by `payload`, a packet for which [`starts_keyframe`](super::keyframe::starts_keyframe) is
/// true. `None` where the packet does not tell: an IDR slice without its parameter set, a fragment that is too short.
#[must_use]
pub fn frame_size(codec: Codec, payload: &[u8]) -> Option<(u16, u16)> {
    let size = match codec {
        Codec::Opus => None,
        Codec::H264 => nal::h264(payload).find(|nal| nal.kind == H264_SPS).and_then(|sps| h264_sps(sps.body)),
        Codec::H265 => nal::h265(payload).find(|nal| nal.kind == H265_SPS).and_then(|sps| h265_sps(sps.body)),
        Codec::Vp8 => vp8_keyframe(payload),
        Codec::Vp9 => vp9_keyframe(payload),
        Codec::Av1 => obu_elements(payload).find_map(av1_sequence_header),
    };
    size.filter(|&(width, height)| width > 0 && height > 0)
}

/// RFC 6386 §9.1.
fn vp8_keyframe(payload: &[u8]) -> Option<(u16, u16)> {
    let descriptor = Vp8Descriptor::parse(payload).ok().filter(Vp8Descriptor::starts_frame)?;
    match payload.get(descriptor.len_bytes()..)? {
        [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] if tag & 1 == 0 => {
            let width = u16::from_le_bytes([*w0, *w1]) & 0x3fff;
            let height = u16::from_le_bytes([*h0, *h1]) & 0x3fff;
            Some((width, height))
        }
        _ => None,
    }
}

/// VP9 bitstream specification §6.2. With spatial layers, the scalability structure tells the largest of them.
fn vp9_keyframe(payload: &[u8]) -> Option<(u16, u16)> {
    let descriptor = Vp9Descriptor::parse(payload).filter(|d| d.starts_frame)?;
    if descriptor.largest_size.is_some() {
        return descriptor.largest_size;
    }
    let mut bits = vp9_key_header(payload.get(descriptor.len_bytes..)?)?;
    let width = bits.take(16)?.checked_add(1)?;
    let height = bits.take(16)?.checked_add(1)?;
    Some((u16::try_from(width).ok()?, u16::try_from(height).ok()?))
}

/// The uncompressed header of a VP9 keyframe, read up to its size; `None` for any other frame.
pub(super) fn vp9_key_header(frame: &[u8]) -> Option<Bits<'_>> {
    const SRGB: u32 = 7;
    let mut bits = Bits::new(frame);
    if bits.take(2)? != 2 {
        return None;
    }
    let profile = u32::from(bits.bit()?) | u32::from(bits.bit()?) << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    let (shows_existing, is_not_key) = (bits.bit()?, bits.bit()?);
    if shows_existing || is_not_key {
        return None;
    }
    bits.skip(2)?; // show_frame, error_resilient_mode
    if bits.take(24)? != 0x49_83_42 {
        return None;
    }
    if profile >= 2 {
        bits.skip(1)?; // ten_or_twelve_bit
    }
    let is_srgb = bits.take(3)? == SRGB;
    let has_subsampling = profile == 1 || profile == 3;
    bits.skip(match (is_srgb, has_subsampling) {
        (false, false) => 1,
        (false, true) => 4,
        (true, true) => 1,
        (true, false) => return None,
    })?;
    Some(bits)
}

/// H.264 §7.3.2.1.1, from behind the NAL unit header.
fn h264_sps(body: &[u8]) -> Option<(u16, u16)> {
    let mut bits = Bits::of_nal(body);
    let profile_idc = bits.take(8)?;
    bits.skip(16)?; // constraint flags, level_idc
    bits.golomb()?; // seq_parameter_set_id
    let mut chroma_format_idc = 1;
    let mut separate_planes = false;
    if [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135].contains(&profile_idc) {
        chroma_format_idc = bits.golomb()?;
        if chroma_format_idc == 3 {
            separate_planes = bits.bit()?;
        }
        bits.golomb()?; // bit_depth_luma_minus8
        bits.golomb()?; // bit_depth_chroma_minus8
        bits.skip(1)?; // qpprime_y_zero_transform_bypass_flag
        if bits.bit()? {
            for list in 0..if chroma_format_idc == 3 { 12 } else { 8 } {
                if bits.bit()? {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.golomb()?; // log2_max_frame_num_minus4
    match bits.golomb()? {
        0 => {
            bits.golomb()?; // log2_max_pic_order_cnt_lsb_minus4
        }
        1 => {
            bits.skip(1)?;
            bits.golomb()?;
            bits.golomb()?;
            for _ in 0..bits.golomb().filter(|&count| count <= 255)? {
                bits.golomb()?;
            }
        }
        _ => {}
    }
    bits.golomb()?; // max_num_ref_frames
    bits.skip(1)?; // gaps_in_frame_num_value_allowed_flag
    let width_mbs = bits.golomb()?.checked_add(1)?;
    let height_map_units = bits.golomb()?.checked_add(1)?;
    let frame_mbs_only = bits.bit()?;
    if !frame_mbs_only {
        bits.skip(1)?; // mb_adaptive_frame_field_flag
    }
    bits.skip(1)?; // direct_8x8_inference_flag
    let fields = if frame_mbs_only { 1 } else { 2 };
    let (unit_x, unit_y) = chroma_units(chroma_format_idc, separate_planes)?;
    let width = width_mbs.checked_mul(16)?;
    let height = height_map_units.checked_mul(16)?.checked_mul(fields)?;
    cropped(&mut bits, (width, height), (unit_x, unit_y * fields))
}

/// H.264 §7.3.2.1.1.1.
fn skip_scaling_list(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.signed_golomb()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// `SubWidthC` and `SubHeightC`, or 1 where cropping counts luma samples.
fn chroma_units(chroma_format_idc: u32, separate_planes: bool) -> Option<(u32, u32)> {
    match chroma_format_idc {
        _ if separate_planes => Some((1, 1)),
        0 | 3 => Some((1, 1)),
        1 => Some((2, 2)),
        2 => Some((2, 1)),
        _ => None,
    }
}

/// Reads a cropping or conformance window, left right top bottom, and takes it off.
fn cropped(bits: &mut Bits<'_>, size: (u32, u32), unit: (u32, u32)) -> Option<(u16, u16)> {
    let (mut width, mut height) = size;
    if bits.bit()? {
        let mut offset = || bits.golomb();
        let (left, right, top, bottom) = (offset()?, offset()?, offset()?, offset()?);
        width = width.checked_sub(left.checked_add(right)?.checked_mul(unit.0)?)?;
        height = height.checked_sub(top.checked_add(bottom)?.checked_mul(unit.1)?)?;
    }
    Some((u16::try_from(width).ok()?, u16::try_from(height).ok()?))
}

/// H.265 §7.3.2.2.1, from behind the NAL unit header.
fn h265_sps(body: &[u8]) -> Option<(u16, u16)> {
    const PROFILE_BITS: u32 = 88;
    const LEVEL_BITS: u32 = 8;
    let mut bits = Bits::of_nal(body);
    bits.skip(4)?; // sps_video_parameter_set_id
    let sub_layers = bits.take(3)?;
    bits.skip(1)?; // sps_temporal_id_nesting_flag
    bits.skip(PROFILE_BITS + LEVEL_BITS)?;
    let mut sub_layer_bits = 0;
    for _ in 0..sub_layers {
        sub_layer_bits += if bits.bit()? { PROFILE_BITS } else { 0 };
        sub_layer_bits += if bits.bit()? { LEVEL_BITS } else { 0 };
    }
    if sub_layers > 0 {
        bits.skip(2 * 8_u32.saturating_sub(sub_layers))?;
    }
    bits.skip(sub_layer_bits)?;
    bits.golomb()?; // sps_seq_parameter_set_id
    let chroma_format_idc = bits.golomb()?;
    let separate_planes = chroma_format_idc == 3 && bits.bit()?;
    let size = (bits.golomb()?, bits.golomb()?);
    cropped(&mut bits, size, chroma_units(chroma_format_idc, separate_planes)?)
}

/// The OBU elements of an AV1 payload (RTP Payload Format for AV1 §4.3, §4.4).
fn obu_elements(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (count, mut rest) = match payload {
        [header, rest @ ..] => (header >> 4 & 0x03, rest),
        [] => (0, payload),
    };
    let mut index = 0_u8;
    std::iter::from_fn(move || {
        index = index.saturating_add(1);
        if rest.is_empty() || (count != 0 && index > count) {
            return None;
        }
        if count != 0 && index == count {
            return Some(std::mem::take(&mut rest));
        }
        let (size_bytes, after) = leb128(rest)?;
        let (element, after) = after.split_at_checked(size_bytes)?;
        rest = after;
        Some(element)
    })
}

/// AV1 §4.10.5: a little-endian number of 7 bits a byte, at most 8 bytes.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, bytes.get(index + 1..)?));
        }
    }
    None
}

/// AV1 §5.5.1, of an OBU that is a sequence header.
fn av1_sequence_header(obu: &[u8]) -> Option<(u16, u16)> {
    const SEQUENCE_HEADER: u8 = 1;
    let (&header, mut body) = obu.split_first()?;
    if header >> 3 & 0x0f != SEQUENCE_HEADER {
        return None;
    }
    if header & 0x04 != 0 {
        body = body.get(1..)?;
    }
    if header & 0x02 != 0 {
        body = leb128(body)?.1;
    }
    let mut bits = Bits::new(body);
    bits.skip(4)?; // seq_profile, still_picture
    if bits.bit()? {
        bits.skip(5)?; // reduced_still_picture_header: seq_level_idx alone
    } else {
        skip_operating_points(&mut bits)?;
    }
    let width_bits = bits.take(4)? + 1;
    let height_bits = bits.take(4)? + 1;
    let width = bits.take(width_bits)? + 1;
    let height = bits.take(height_bits)? + 1;
    Some((u16::try_from(width).ok()?, u16::try_from(height).ok()?))
}

fn skip_operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut delay_bits = None;
    if bits.bit()? {
        bits.skip(64)?; // num_units_in_display_tick, time_scale
        if bits.bit()? {
            bits.golomb()?; // num_ticks_per_picture_minus_1
        }
        if bits.bit()? {
            delay_bits = Some(bits.take(5)? + 1);
            bits.skip(42)?; // num_units_in_decoding_tick and two lengths
        }
    }
    let has_display_delay = bits.bit()?;
    for _ in 0..=bits.take(5)? {
        bits.skip(12)?; // operating_point_idc
        if bits.take(5)? > 7 {
            bits.skip(1)?; // seq_tier
        }
        if let Some(delay_bits) = delay_bits
            && bits.bit()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if has_display_delay && bits.bit()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes bits as a test spells them.
    #[derive(Default)]
    struct Writer(Vec<bool>);

    impl Writer {
        fn put(mut self, count: u32, value: u32) -> Self {
            self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
            self
        }

        fn golomb(self, value: u32) -> Self {
            let len = (value + 1).ilog2();
            self.put(len, 0).put(len + 1, value + 1)
        }

        fn bytes(mut self) -> Vec<u8> {
            self.0.push(true);
            while !self.0.len().is_multiple_of(8) {
                self.0.push(false);
            }
            self.0.chunks(8).map(|byte| byte.iter().fold(0, |all, &bit| all << 1 | u8::from(bit))).collect()
        }

        /// With emulation prevention (H.264 §7.4.1).
        fn nal(self, header: &[u8]) -> Vec<u8> {
            let mut nal = header.to_vec();
            for byte in self.bytes() {
                if nal.ends_with(&[0, 0]) && byte <= 3 {
                    nal.push(3);
                }
                nal.push(byte);
            }
            nal
        }
    }

    #[test]
    fn h264_high_profile_with_scaling_lists_and_cropping() {
        let sps = Writer::default().put(8, 100).put(16, 31).golomb(0).golomb(1).golomb(0).golomb(0).put(1, 0);
        // One scaling list of 16 deltas of 0, the others absent.
        let sps = sps.put(1, 1).put(1, 1).put(16, 0xffff).put(7, 0);
        let sps = sps.golomb(0).golomb(0).golomb(0).golomb(4).put(1, 0);
        // 1920x1088, cropped by 8 lines at the bottom.
        let sps = sps.golomb(119).golomb(67).put(1, 1).put(1, 1).put(1, 1).golomb(0).golomb(0).golomb(0).golomb(4);
        assert_eq!(frame_size(Codec::H264, &sps.put(1, 0).nal(&[0x67])), Some((1920, 1080)));
    }

    #[test]
    fn h264_interlaced_counts_fields_and_emulation_prevention_is_undone() {
        let sps = Writer::default().put(8, 77).put(16, 0).golomb(63).golomb(0).golomb(2).golomb(1).put(1, 0);
        let sps = sps.golomb(44).golomb(17).put(1, 0).put(1, 0).put(1, 1).put(1, 0).put(1, 0).nal(&[0x67]);
        assert!(sps.windows(3).any(|bytes| bytes == [0, 0, 3]), "the sample must need it");
        assert_eq!(frame_size(Codec::H264, &sps), Some((720, 576)));
    }

    #[test]
    fn h264_cropping_beyond_the_picture_is_refused() {
        let sps = Writer::default().put(8, 66).put(16, 31).golomb(0).golomb(0).golomb(2).golomb(1).put(1, 0);
        let sps = sps.golomb(0).golomb(0).put(1, 1).put(1, 1).put(1, 1).golomb(9).golomb(9).golomb(0).golomb(0);
        assert_eq!(frame_size(Codec::H264, &sps.put(1, 0).nal(&[0x67])), None);
    }

    #[test]
    fn h265_with_sub_layers_and_a_conformance_window() {
        let sps = Writer::default().put(4, 0).put(3, 1).put(1, 1).put(32, 0x0160_0000).put(32, 0).put(32, 93);
        // One sub-layer with a profile and a level, then the alignment of seven more.
        let sps = sps.put(1, 1).put(1, 1).put(14, 0).put(32, 0).put(32, 0).put(32, 0);
        let sps = sps.golomb(0).golomb(1).golomb(1920).golomb(1088).put(1, 1).golomb(0).golomb(0).golomb(0).golomb(4);
        assert_eq!(frame_size(Codec::H265, &sps.nal(&[33 << 1, 1])), Some((1920, 1080)));
    }

    #[test]
    fn av1_elements_may_be_empty_and_many() {
        assert_eq!(frame_size(Codec::Av1, &[0; 1_200]), None);
    }

    #[test]
    fn av1_with_timing_and_decoder_model() {
        let header = Writer::default().put(3, 0).put(1, 0).put(1, 0);
        let header = header.put(1, 1).put(32, 1).put(32, 30).put(1, 1).golomb(0);
        let header = header.put(1, 1).put(5, 9).put(32, 1).put(5, 9).put(5, 9);
        let header = header.put(1, 1).put(5, 1);
        let header = header.put(12, 0).put(5, 9).put(1, 0).put(1, 1).put(21, 0).put(1, 1).put(4, 3);
        let header = header.put(12, 0).put(5, 4).put(1, 0).put(1, 0);
        let obu = header.put(4, 10).put(4, 9).put(11, 1279).put(10, 719).bytes();
        let alone = [&[0x18, 0x08][..], &obu].concat();
        assert_eq!(frame_size(Codec::Av1, &alone), Some((1280, 720)));
        // Behind a temporal delimiter, with sizes before every element and one in the OBU itself.
        let sized = [&[0x08, 1, 0x10, obu.len() as u8 + 2, 0x0a, obu.len() as u8][..], &obu].concat();
        assert_eq!(frame_size(Codec::Av1, &sized), Some((1280, 720)));
    }

    #[test]
    fn vp9_profiles_and_vp8_scaling_bits() {
        let vp9 = |profile_bits: u32, tail: Writer| {
            let bits = Writer::default().put(2, 2).put(2, profile_bits);
            let bits = if profile_bits == 3 { bits.put(1, 0) } else { bits };
            let mut bits = bits.put(4, 0b0010).put(24, 0x49_83_42);
            bits.0.extend(tail.0);
            frame_size(Codec::Vp9, &[&[0x08][..], &bits.put(16, 1919).put(16, 1079).bytes()].concat())
        };
        assert_eq!(vp9(0, Writer::default().put(3, 2).put(1, 0)), Some((1920, 1080)));
        assert_eq!(vp9(0b10, Writer::default().put(3, 2).put(4, 0)), Some((1920, 1080)), "profile 1");
        assert_eq!(vp9(0b01, Writer::default().put(1, 0).put(3, 2).put(1, 0)), Some((1920, 1080)), "profile 2");
        assert_eq!(vp9(0, Writer::default().put(3, 7)), None, "sRGB needs profile 1 or 3");
        let vp8 = [0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x00, 0x45, 0xd0, 0x82];
        assert_eq!(frame_size(Codec::Vp8, &vp8), Some((1280, 720)), "the upper two bits scale");
    }
}

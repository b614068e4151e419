//! The NAL units that begin in one RTP packet of H.264 (RFC 6184) or H.265 (RFC 7798).
//!
//! **Invariant:** a unit that begins in a packet is told once, whether it stands alone, among others or in fragments.
//!
//! Interleaved modes (STAP-B, MTAP, FU-B, and H.265 with `sprop-max-don-diff` above 0) are never negotiated, so not read.

/// The slice of H.264 that is no IDR (Table 7-1).
pub(super) const H264_SLICE: u8 = 1;
/// The IDR slice of H.264 (Table 7-1).
pub(super) const H264_IDR: u8 = 5;
/// The sequence parameter set of H.264.
pub(super) const H264_SPS: u8 = 7;
/// The IRAP pictures of H.265 (Table 7-1), reserved ones included.
pub(super) const H265_IRAP: std::ops::RangeInclusive<u8> = 16..=23;
/// The video parameter set of H.265.
pub(super) const H265_VPS: u8 = 32;
/// The sequence parameter set of H.265.
pub(super) const H265_SPS: u8 = 33;

/// A NAL unit that begins in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NalStart<'a> {
    /// `nal_unit_type`.
    pub(super) kind: u8,
    /// What of it follows its header in this packet.
    pub(super) body: &'a [u8],
}

/// The two families of payload formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    H264,
    H265,
}

impl Family {
    fn unit(self, unit: &[u8]) -> Option<NalStart<'_>> {
        match (self, unit) {
            (Family::H264, [header, body @ ..]) => Some(NalStart { kind: header & 0x1f, body }),
            (Family::H265, [high, _, body @ ..]) => Some(NalStart { kind: high >> 1 & 0x3f, body }),
            _ => None,
        }
    }
}

/// Iterates over the units that begin in a payload.
#[derive(Debug, Clone)]
pub(super) struct NalStarts<'a> {
    family: Family,
    single: Option<NalStart<'a>>,
    aggregate: &'a [u8],
}

/// The units that begin in an H.264 payload.
pub(super) fn h264(payload: &[u8]) -> NalStarts<'_> {
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    let mut starts = NalStarts { family: Family::H264, single: None, aggregate: &[] };
    match payload {
        [header, rest @ ..] if header & 0x1f == STAP_A => starts.aggregate = rest,
        [header, fragment, body @ ..] if header & 0x1f == FU_A => {
            let kind = fragment & 0x1f;
            starts.single = (fragment & 0x80 != 0).then_some(NalStart { kind, body });
        }
        [header, ..] if (1..=23).contains(&(header & 0x1f)) => starts.single = Family::H264.unit(payload),
        _ => {}
    }
    starts
}

/// The units that begin in an H.265 payload.
pub(super) fn h265(payload: &[u8]) -> NalStarts<'_> {
    const AGGREGATION: u8 = 48;
    const FRAGMENTATION: u8 = 49;
    let mut starts = NalStarts { family: Family::H265, single: None, aggregate: &[] };
    match payload {
        [high, _, rest @ ..] if high >> 1 & 0x3f == AGGREGATION => starts.aggregate = rest,
        [high, _, fragment, body @ ..] if high >> 1 & 0x3f == FRAGMENTATION => {
            let kind = fragment & 0x3f;
            starts.single = (fragment & 0x80 != 0).then_some(NalStart { kind, body });
        }
        [high, ..] if high >> 1 & 0x3f < AGGREGATION => starts.single = Family::H265.unit(payload),
        _ => {}
    }
    starts
}

impl<'a> Iterator for NalStarts<'a> {
    type Item = NalStart<'a>;

    fn next(&mut self) -> Option<NalStart<'a>> {
        if let Some(single) = self.single.take() {
            return Some(single);
        }
        let [high, low, rest @ ..] = self.aggregate else {
            return None;
        };
        let size_bytes = usize::from(u16::from_be_bytes([*high, *low]));
        let (unit, rest) = rest.split_at_checked(size_bytes)?;
        self.aggregate = rest;
        self.family.unit(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(starts: NalStarts<'_>) -> Vec<u8> {
        starts.map(|nal| nal.kind).collect()
    }

    #[test]
    fn h264_units_alone_among_others_and_in_fragments() {
        assert_eq!(kinds(h264(&[0x65, 1, 2])), [5]);
        assert_eq!(kinds(h264(&[0x78, 0, 2, 0x67, 1, 0, 1, 0x68])), [7, 8]);
        assert_eq!(kinds(h264(&[0x7c, 0x85, 9])), [5]);
        assert_eq!(kinds(h264(&[0x7c, 0x05, 9])), [0_u8; 0]);
    }

    #[test]
    fn h265_units_alone_among_others_and_in_fragments() {
        assert_eq!(kinds(h265(&[19 << 1, 1, 2])), [19]);
        assert_eq!(kinds(h265(&[48 << 1, 1, 0, 2, 32 << 1, 1, 0, 3, 33 << 1, 1, 7])), [32, 33]);
        assert_eq!(kinds(h265(&[49 << 1, 1, 0x80 | 19, 7])), [19]);
        assert_eq!(kinds(h265(&[49 << 1, 1, 19, 7])), [0_u8; 0]);
    }

    #[test]
    fn an_aggregate_that_ends_early_yields_its_whole_units_only() {
        assert_eq!(kinds(h264(&[0x78, 0, 1, 0x67, 0, 9, 0x68])), [7]);
        assert_eq!(kinds(h264(&[0x78, 0, 0, 0, 1, 0x67])), [0_u8; 0]);
    }
}

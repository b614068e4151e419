//! The RTP header (RFC 3550 §5.1) and its extensions (RFC 8285), and what a datagram is by its first bytes (RFC 7983).
//!
//! **Invariant:** a parsed header's ranges lie within the packet it was parsed from.

use std::ops::Range;

/// The length of a header without CSRCs and extensions.
pub const FIXED_HEADER_BYTES: usize = 12;

const VERSION: u8 = 2;
const ONE_BYTE_PROFILE: u16 = 0xbede;
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// What a datagram on the one port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramKind {
    /// RFC 8489.
    Stun,
    /// RFC 6347 and RFC 9147.
    Dtls,
    /// RTP, or SRTP.
    Rtp,
    /// RTCP, or SRTCP (RFC 5761 §4).
    Rtcp,
    /// ZRTP, TURN channels and noise.
    Unknown,
}

impl DatagramKind {
    /// Tells by the first byte, and RTP from RTCP by the second.
    #[must_use]
    pub fn classify(datagram: &[u8]) -> Self {
        match datagram {
            [0..=3, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, _, ..] => Self::Rtp,
            _ => Self::Unknown,
        }
    }
}

/// Why bytes are no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// The packet ends within its header, or the buffer cannot hold one.
    #[error("too short for an RTP header")]
    Short,
    /// The version is not 2.
    #[error("RTP version {0} is not 2")]
    Version(u8),
    /// The padding is longer than what it pads, or said to be there and is not.
    #[error("RTP padding of {0} bytes does not fit its packet")]
    Padding(u8),
}

/// A view of a plaintext RTP packet's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpHeader<'a> {
    /// The marker bit.
    pub marker: bool,
    /// The payload type, 7 bits.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The timestamp, in units of the payload type's clock.
    pub timestamp: u32,
    /// The synchronization source.
    pub ssrc: u32,
    /// How many contributing sources are listed.
    pub csrc_count: u8,
    /// The header extensions.
    pub extensions: Extensions<'a>,
    /// Where the payload lies in the packet, its padding left out.
    pub payload: Range<usize>,
}

impl<'a> RtpHeader<'a> {
    /// Parses the header of a plaintext packet.
    ///
    /// # Errors
    ///
    /// See [`RtpError`].
    pub fn parse(packet: &'a [u8]) -> Result<Self, RtpError> {
        let [b0, b1, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3, ..] = *packet else {
            return Err(RtpError::Short);
        };
        if b0 >> 6 != VERSION {
            return Err(RtpError::Version(b0 >> 6));
        }
        let csrc_count = b0 & 0x0f;
        let mut start = FIXED_HEADER_BYTES + 4 * usize::from(csrc_count);
        let mut extensions = Extensions::NONE;
        if b0 & 0x10 != 0 {
            let [p0, p1, l0, l1, rest @ ..] = packet.get(start..).unwrap_or_default() else {
                return Err(RtpError::Short);
            };
            let len_bytes = 4 * usize::from(u16::from_be_bytes([*l0, *l1]));
            let body = rest.get(..len_bytes).ok_or(RtpError::Short)?;
            extensions = Extensions::new(u16::from_be_bytes([*p0, *p1]), body);
            start += 4 + len_bytes;
        }
        let body = packet.get(start..).ok_or(RtpError::Short)?;
        let padding = match body.last() {
            _ if b0 & 0x20 == 0 => 0,
            Some(&padding) if padding > 0 && usize::from(padding) <= body.len() => padding,
            last => return Err(RtpError::Padding(last.copied().unwrap_or(0))),
        };
        Ok(Self {
            marker: b1 & 0x80 != 0,
            payload_type: b1 & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            csrc_count,
            extensions,
            payload: start..packet.len().saturating_sub(usize::from(padding)),
        })
    }
}

/// The header extensions of one packet, in their order: id and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extensions<'a> {
    form: Form,
    rest: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// RFC 8285 §4.2.
    OneByte,
    /// RFC 8285 §4.3.
    TwoByte,
}

impl<'a> Extensions<'a> {
    /// A packet without extensions.
    pub const NONE: Extensions<'static> = Extensions { form: Form::OneByte, rest: &[] };

    /// The elements of an extension block; a profile that is not RFC 8285's has none that can be read.
    fn new(profile: u16, body: &'a [u8]) -> Self {
        match profile {
            ONE_BYTE_PROFILE => Self { form: Form::OneByte, rest: body },
            _ if profile & 0xfff0 == TWO_BYTE_PROFILE => Self { form: Form::TwoByte, rest: body },
            _ => Self::NONE,
        }
    }

    /// The value of the extension with `id`.
    #[must_use]
    pub fn value_of(&self, id: u8) -> Option<&'a [u8]> {
        self.clone().find(|&(found, _)| found == id).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        const STOP: u8 = 15;
        while let [0, rest @ ..] = self.rest {
            self.rest = rest;
        }
        let (id, len_bytes, rest) = match (self.form, self.rest) {
            (Form::OneByte, [first, rest @ ..]) => (first >> 4, usize::from(first & 0x0f) + 1, rest),
            (Form::TwoByte, [id, len, rest @ ..]) => (*id, usize::from(*len), rest),
            _ => return None,
        };
        // What follows a stop, or ends within its value, cannot be read; the packet's payload still can.
        self.rest = &[];
        if self.form == Form::OneByte && id == STOP {
            return None;
        }
        let (value, rest) = rest.split_at_checked(len_bytes)?;
        self.rest = rest;
        // A one-byte element of id 0 with a length is padding that says more than it should.
        if id == 0 { self.next() } else { Some((id, value)) }
    }
}

/// A header without CSRCs, extensions and padding, to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedHeader {
    /// The marker bit.
    pub marker: bool,
    /// The payload type, 7 bits.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The timestamp.
    pub timestamp: u32,
    /// The synchronization source.
    pub ssrc: u32,
}

impl FixedHeader {
    /// What SRTP leaves in the clear: the fixed part of the header, unverified.
    #[must_use]
    #[inline]
    pub fn peek(datagram: &[u8]) -> Option<Self> {
        let [_, b1, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3, ..] = *datagram else {
            return None;
        };
        Some(Self {
            marker: b1 & 0x80 != 0,
            payload_type: b1 & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        })
    }

    /// Writes the header into the first [`FIXED_HEADER_BYTES`] of `out`.
    ///
    /// # Errors
    ///
    /// [`RtpError::Short`] where `out` cannot hold it.
    pub fn write(&self, out: &mut [u8]) -> Result<(), RtpError> {
        let out = out.first_chunk_mut::<FIXED_HEADER_BYTES>().ok_or(RtpError::Short)?;
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let second = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        *out = [VERSION << 6, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: [u8; 14] = [0x80, 0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0xaa, 0xbb];

    fn with_extension(profile: [u8; 2], body: &[u8]) -> Vec<u8> {
        let mut packet = PLAIN[..12].to_vec();
        packet[0] |= 0x10;
        packet.extend_from_slice(&profile);
        packet.extend_from_slice(&(body.len() as u16 / 4).to_be_bytes());
        packet.extend_from_slice(body);
        packet.push(0xaa);
        packet
    }

    #[test]
    fn every_field_is_read() {
        let header = RtpHeader::parse(&PLAIN).unwrap();
        assert!(header.marker);
        assert_eq!((header.payload_type, header.sequence), (96, 0x0102));
        assert_eq!((header.timestamp, header.ssrc), (0x0304_0506, 0x0708_090a));
        assert_eq!(header.payload, 12..14);
        let peeked = FixedHeader::peek(&PLAIN).unwrap();
        assert_eq!((peeked.marker, peeked.payload_type, peeked.sequence), (true, 96, 0x0102));
        assert_eq!((peeked.timestamp, peeked.ssrc), (0x0304_0506, 0x0708_090a));
        assert_eq!(FixedHeader::peek(&PLAIN[..11]), None);
    }

    #[test]
    fn padding_and_csrcs_are_no_payload() {
        let mut packet = PLAIN.to_vec();
        packet[0] |= 0x21;
        packet.splice(12..12, [1, 2, 3, 4]);
        packet.extend([0, 0, 3]);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!((header.csrc_count, header.payload), (1, 16..18));
    }

    #[test]
    fn padding_that_does_not_fit_is_refused() {
        let mut packet = PLAIN.to_vec();
        packet[0] |= 0x20;
        assert_eq!(RtpHeader::parse(&packet), Err(RtpError::Padding(0xbb)));
        packet[13] = 0;
        assert_eq!(RtpHeader::parse(&packet), Err(RtpError::Padding(0)));
        assert_eq!(RtpHeader::parse(&packet[..12]), Err(RtpError::Padding(0)));
        packet[13] = 2;
        assert_eq!(RtpHeader::parse(&packet).unwrap().payload, 12..12);
    }

    #[test]
    fn short_packets_and_other_versions_are_refused() {
        for len in 0..12 {
            assert_eq!(RtpHeader::parse(&PLAIN[..len]), Err(RtpError::Short));
        }
        let mut packet = PLAIN;
        packet[0] = 0x40;
        assert_eq!(RtpHeader::parse(&packet), Err(RtpError::Version(1)));
        packet[0] = 0x8f;
        assert_eq!(RtpHeader::parse(&packet), Err(RtpError::Short), "15 CSRCs do not fit");
        packet[0] = 0x90;
        assert_eq!(RtpHeader::parse(&packet), Err(RtpError::Short), "an extension does not fit");
    }

    #[test]
    fn one_byte_extensions_skip_padding_and_end_at_the_stop() {
        let body = [0x31, 1, 2, 0, 0, 0x50, 9, 0xf0, 0x10, 7, 0, 0];
        let packet = with_extension([0xbe, 0xde], &body);
        let header = RtpHeader::parse(&packet).unwrap();
        let found: Vec<_> = header.extensions.clone().collect();
        assert_eq!(found, [(3, &[1, 2][..]), (5, &[9][..])]);
        assert_eq!(header.extensions.value_of(5), Some(&[9][..]));
        assert_eq!(header.extensions.value_of(1), None);
        assert_eq!(header.payload, packet.len() - 1..packet.len());
    }

    #[test]
    fn two_byte_extensions_may_be_empty_or_long() {
        let packet = with_extension([0x10, 0x05], &[0, 7, 0, 200, 4, 1, 2, 3, 4, 0, 0, 0]);
        let header = RtpHeader::parse(&packet).unwrap();
        let found: Vec<_> = header.extensions.collect();
        assert_eq!(found, [(7, &[][..]), (200, &[1, 2, 3, 4][..])]);
    }

    #[test]
    fn an_extension_longer_than_its_block_is_left_out() {
        let packet = with_extension([0xbe, 0xde], &[0x50, 9, 0x6f, 1]);
        assert_eq!(RtpHeader::parse(&packet).unwrap().extensions.count(), 1);
        let packet = with_extension([0xab, 0xcd], &[1, 2, 3, 4]);
        assert_eq!(RtpHeader::parse(&packet).unwrap().extensions.count(), 0);
    }

    #[test]
    fn datagrams_are_told_apart() {
        for (bytes, kind) in [
            (&[0, 1][..], DatagramKind::Stun),
            (&[22, 254], DatagramKind::Dtls),
            (&[0x80, 96], DatagramKind::Rtp),
            (&[0x80, 0x80 | 111], DatagramKind::Rtp),
            (&[0x80, 200], DatagramKind::Rtcp),
            (&[0x81, 206], DatagramKind::Rtcp),
            (&[64, 0], DatagramKind::Unknown),
            (&[255, 0], DatagramKind::Unknown),
            (&[0x80], DatagramKind::Unknown),
            (&[], DatagramKind::Unknown),
        ] {
            assert_eq!(DatagramKind::classify(bytes), kind, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(mut packet in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = DatagramKind::classify(&packet);
            for first in [None, Some(0x90), Some(0xb1), Some(0x80)] {
                if let (Some(byte), Some(first)) = (packet.first_mut(), first) {
                    *byte = first;
                }
                if let Ok(header) = RtpHeader::parse(&packet) {
                    prop_assert!(packet.get(header.payload.clone()).is_some());
                    let bytes: usize = header.extensions.map(|(_, value)| value.len()).sum();
                    prop_assert!(bytes < packet.len());
                }
            }
        }

        #[test]
        fn what_is_written_is_read_back(marker: bool, payload_type in 0_u8..128, sequence: u16, timestamp: u32, ssrc: u32) {
            let written = FixedHeader { marker, payload_type, sequence, timestamp, ssrc };
            let mut packet = [0; FIXED_HEADER_BYTES];
            written.write(&mut packet).unwrap();
            let read = RtpHeader::parse(&packet).unwrap();
            prop_assert_eq!((read.marker, read.payload_type), (marker, payload_type));
            prop_assert_eq!((read.sequence, read.timestamp, read.ssrc), (sequence, timestamp, ssrc));
            prop_assert_eq!(written.write(&mut packet[..11]), Err(RtpError::Short));
        }
    }
}

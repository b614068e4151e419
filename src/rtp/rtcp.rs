//! RTCP: reports, descriptions and feedback, read from and written into bytes.
//!
//! **Invariant:** every packet told by [`packets`] lies wholly within its compound, and nothing behind a malformed one is told.
//!
//! Sources: RFC 3550 §6 (SR, RR, SDES, BYE), RFC 4585 §6 (NACK, PLI), RFC 5104 §4.3.1 (FIR), and REMB of
//! draft-alvestrand-rmcat-remb-03.

pub use super::ntp::{ClockMapping, NtpTime};

const VERSION: u8 = 2;
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

const SDES_CNAME: u8 = 1;

/// How many sources a BYE names: its count has five bits.
const GOODBYE_MAX: usize = 31;
const REPORT_BLOCK_BYTES: usize = 24;

/// The length of a sender report without report blocks, in bytes.
pub const SENDER_REPORT_BYTES: usize = 28;

/// The longest CNAME, in bytes: its length is written in one.
pub const CNAME_MAX_BYTES: usize = 255;

/// Why bytes are no RTCP, or a buffer cannot hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    /// The compound ends within a packet, or the buffer is too small.
    #[error("too short for RTCP")]
    Short,
    /// The version is not 2.
    #[error("RTCP version {0} is not 2")]
    Version(u8),
    /// A packet's padding does not fit it.
    #[error("RTCP padding of {0} bytes does not fit its packet")]
    Padding(u8),
    /// A packet is shorter than its type and count demand.
    #[error("an RTCP packet of type {0} is shorter than it says")]
    Body(u8),
    /// A CNAME of more than [`CNAME_MAX_BYTES`].
    #[error("a CNAME has at most {CNAME_MAX_BYTES} bytes")]
    Cname,
}

/// One packet of a compound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rtcp<'a> {
    /// SR.
    SenderReport(SenderReport, ReportBlocks<'a>),
    /// RR, with the SSRC of its sender.
    ReceiverReport(u32, ReportBlocks<'a>),
    /// SDES.
    SourceDescription(Cnames<'a>),
    /// BYE, with the sources that leave.
    Goodbye(Words<'a>),
    /// A generic NACK.
    Nack {
        /// Who asks.
        sender_ssrc: u32,
        /// Whose packets are missing.
        media_ssrc: u32,
        /// Which ones.
        lost: LostSequences<'a>,
    },
    /// PLI: a keyframe of one source is asked for.
    PictureLoss {
        /// Who asks.
        sender_ssrc: u32,
        /// Of whom.
        media_ssrc: u32,
    },
    /// FIR: a keyframe of each source named is asked for.
    FullIntra {
        /// Who asks.
        sender_ssrc: u32,
        /// Of whom, each with a number that tells a new request from a repeated one.
        requests: FirRequests<'a>,
    },
    /// REMB.
    ReceiverBitrate {
        /// Who estimates.
        sender_ssrc: u32,
        /// What it could receive of all the sources together.
        rate_bps: u64,
        /// The sources.
        ssrcs: Words<'a>,
    },
    /// What is not read here, by its packet type and its count or format.
    Other(u8, u8),
}

/// What a sender tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The sender.
    pub ssrc: u32,
    /// When the report was made.
    pub ntp: NtpTime,
    /// The same moment on the RTP clock.
    pub rtp: u32,
    /// RTP packets sent so far.
    pub packets: u32,
    /// Bytes of payload sent so far.
    pub payload_bytes: u32,
}

/// What a receiver tells of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// Packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost in all, 24 bits, negative where duplicates outnumber losses.
    pub cumulative_lost: i32,
    /// The highest sequence number, extended by its rollovers.
    pub highest_sequence: u32,
    /// In units of the RTP clock.
    pub jitter: u32,
    /// The [`NtpTime::compact`] of the last sender report, or 0.
    pub last_report: u32,
    /// Since that report came, in units of 2^-16 s.
    pub delay_since_last_report: u32,
}

/// The packets of a compound; it ends after the first that is malformed.
pub fn packets(compound: &[u8]) -> impl Iterator<Item = Result<Rtcp<'_>, RtcpError>> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let packet = take_packet(&mut rest).and_then(|(header, body)| parse(header, body));
        if packet.is_err() {
            rest = &[];
        }
        Some(packet)
    })
}

/// Packet type, and the count or format.
type Header = (u8, u8);

/// Takes the next packet off `rest`: its header and its body without padding.
fn take_packet<'a>(rest: &mut &'a [u8]) -> Result<(Header, &'a [u8]), RtcpError> {
    let [first, packet_type, l0, l1, after @ ..] = *rest else {
        return Err(RtcpError::Short);
    };
    if first >> 6 != VERSION {
        return Err(RtcpError::Version(first >> 6));
    }
    let len_bytes = 4 * usize::from(u16::from_be_bytes([*l0, *l1]));
    let (body, after) = after.split_at_checked(len_bytes).ok_or(RtcpError::Short)?;
    *rest = after;
    let padding = match body.last() {
        _ if first & 0x20 == 0 => 0,
        Some(&padding) if padding > 0 && usize::from(padding) <= body.len() => padding,
        last => return Err(RtcpError::Padding(last.copied().unwrap_or(0))),
    };
    let body = body.get(..body.len() - usize::from(padding)).ok_or(RtcpError::Short)?;
    Ok(((*packet_type, first & 0x1f), body))
}

fn parse((packet_type, count): Header, body: &[u8]) -> Result<Rtcp<'_>, RtcpError> {
    const NACK: u8 = 1;
    const PLI: u8 = 1;
    const FIR: u8 = 4;
    const APPLICATION: u8 = 15;
    let mut words = Words { bytes: body };
    let mut word = || words.next().ok_or(RtcpError::Body(packet_type));
    match (packet_type, count) {
        (SENDER_REPORT, _) => {
            let ssrc = word()?;
            let ntp = NtpTime(u64::from(word()?) << 32 | u64::from(word()?));
            let report = SenderReport { ssrc, ntp, rtp: word()?, packets: word()?, payload_bytes: word()? };
            Ok(Rtcp::SenderReport(report, ReportBlocks::take(words.bytes, packet_type, count)?))
        }
        (RECEIVER_REPORT, _) => {
            let ssrc = word()?;
            Ok(Rtcp::ReceiverReport(ssrc, ReportBlocks::take(words.bytes, packet_type, count)?))
        }
        (SOURCE_DESCRIPTION, _) => Ok(Rtcp::SourceDescription(Cnames { rest: body, left: count })),
        (GOODBYE, _) => {
            let bytes = body.get(..4 * usize::from(count)).ok_or(RtcpError::Body(packet_type))?;
            Ok(Rtcp::Goodbye(Words { bytes }))
        }
        (TRANSPORT_FEEDBACK, NACK) => {
            let (sender_ssrc, media_ssrc) = (word()?, word()?);
            Ok(Rtcp::Nack { sender_ssrc, media_ssrc, lost: LostSequences { entries: words, pending: None } })
        }
        (PAYLOAD_FEEDBACK, PLI) => Ok(Rtcp::PictureLoss { sender_ssrc: word()?, media_ssrc: word()? }),
        (PAYLOAD_FEEDBACK, FIR) => {
            let sender_ssrc = word()?;
            word()?;
            Ok(Rtcp::FullIntra { sender_ssrc, requests: FirRequests { entries: words } })
        }
        (PAYLOAD_FEEDBACK, APPLICATION) => {
            let sender_ssrc = word()?;
            word()?;
            if word()?.to_be_bytes() != *b"REMB" {
                return Ok(Rtcp::Other(packet_type, count));
            }
            let [sources, high, middle, low] = word()?.to_be_bytes();
            let mantissa = u64::from(u32::from_be_bytes([0, high & 0x03, middle, low]));
            let shift = u32::from(high >> 2);
            // An exponent of up to 63 may say more than anybody could send.
            let rate_bps = if mantissa.leading_zeros() < shift { u64::MAX } else { mantissa << shift };
            let bytes = words.bytes.get(..4 * usize::from(sources)).ok_or(RtcpError::Body(packet_type))?;
            Ok(Rtcp::ReceiverBitrate { sender_ssrc, rate_bps, ssrcs: Words { bytes } })
        }
        _ => Ok(Rtcp::Other(packet_type, count)),
    }
}

/// 32-bit words one after the other: SSRCs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words<'a> {
    bytes: &'a [u8],
}

impl Iterator for Words<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (word, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u32::from_be_bytes(*word))
    }
}

/// The report blocks of an SR or RR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportBlocks<'a> {
    words: Words<'a>,
}

impl<'a> ReportBlocks<'a> {
    fn take(bytes: &'a [u8], packet_type: u8, count: u8) -> Result<Self, RtcpError> {
        let bytes = bytes.get(..REPORT_BLOCK_BYTES * usize::from(count)).ok_or(RtcpError::Body(packet_type))?;
        Ok(Self { words: Words { bytes } })
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let mut word = || self.words.next();
        let (ssrc, loss) = (word()?, word()?);
        Some(ReportBlock {
            ssrc,
            fraction_lost: (loss >> 24) as u8,
            cumulative_lost: (loss << 8).cast_signed() >> 8,
            highest_sequence: word()?,
            jitter: word()?,
            last_report: word()?,
            delay_since_last_report: word()?,
        })
    }
}

/// The sources of an SDES with their CNAMEs; other items are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cnames<'a> {
    rest: &'a [u8],
    left: u8,
}

impl<'a> Iterator for Cnames<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<(u32, &'a [u8])> {
        while self.left > 0 {
            self.left -= 1;
            let (ssrc, mut items) = self.rest.split_first_chunk()?;
            let items_bytes = items.len();
            let mut cname = None;
            while let [kind @ 1..=255, len_bytes, after @ ..] = items {
                let (value, after) = after.split_at_checked(usize::from(*len_bytes))?;
                if *kind == SDES_CNAME {
                    cname = Some(value);
                }
                items = after;
            }
            // At least one zero byte ends a chunk, and as many more as fill its last word.
            let used_bytes = items_bytes - items.len() + 1;
            self.rest = self.rest.get(4 + used_bytes.next_multiple_of(4)..).unwrap_or_default();
            if let Some(cname) = cname {
                return Some((u32::from_be_bytes(*ssrc), cname));
            }
        }
        None
    }
}

/// The sequence numbers that a NACK asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostSequences<'a> {
    entries: Words<'a>,
    /// The number that the lowest bit of the mask stands for, and the mask.
    pending: Option<(u16, u16)>,
}

impl Iterator for LostSequences<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if let Some((base, mask)) = self.pending.filter(|(_, mask)| *mask != 0) {
            self.pending = Some((base, mask & (mask - 1)));
            return Some(base.wrapping_add(mask.trailing_zeros() as u16));
        }
        let [p0, p1, m0, m1] = self.entries.next()?.to_be_bytes();
        let packet_id = u16::from_be_bytes([p0, p1]);
        self.pending = Some((packet_id.wrapping_add(1), u16::from_be_bytes([m0, m1])));
        Some(packet_id)
    }
}

/// The requests of a FIR: SSRC and command sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirRequests<'a> {
    entries: Words<'a>,
}

impl Iterator for FirRequests<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<(u32, u8)> {
        let ssrc = self.entries.next()?;
        Some((ssrc, self.entries.next()?.to_be_bytes()[0]))
    }
}

impl SenderReport {
    /// Where the sender's RTP clock stands.
    #[must_use]
    pub fn mapping(&self, clock_rate_hz: u32) -> ClockMapping {
        ClockMapping { ntp: self.ntp, rtp: self.rtp, clock_rate_hz }
    }

    /// Writes the report without report blocks, and tells its length: [`SENDER_REPORT_BYTES`].
    ///
    /// # Errors
    ///
    /// [`RtcpError::Short`] where `out` cannot hold it.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, RtcpError> {
        let out = out.get_mut(..SENDER_REPORT_BYTES).ok_or(RtcpError::Short)?;
        let ntp = [(self.ntp.0 >> 32) as u32, (self.ntp.0 & 0xffff_ffff) as u32];
        let words =
            [header(SENDER_REPORT, 0, 6), self.ssrc, ntp[0], ntp[1], self.rtp, self.packets, self.payload_bytes];
        for (target, word) in out.chunks_exact_mut(4).zip(words) {
            target.copy_from_slice(&word.to_be_bytes());
        }
        Ok(SENDER_REPORT_BYTES)
    }

    /// Writes the compound that RFC 3550 §6.1 demands, the report and a CNAME, and tells its length.
    ///
    /// # Errors
    ///
    /// [`RtcpError::Short`] where `out` cannot hold it, [`RtcpError::Cname`] for one that is too long.
    pub fn write_compound(&self, cname: &str, out: &mut [u8]) -> Result<usize, RtcpError> {
        let report_bytes = self.write(out)?;
        let rest = out.get_mut(report_bytes..).unwrap_or_default();
        Ok(report_bytes + write_cname(self.ssrc, cname, rest)?)
    }
}

/// Writes an SDES with one CNAME, and tells its length.
///
/// # Errors
///
/// [`RtcpError::Short`] where `out` cannot hold it, [`RtcpError::Cname`] for one that is too long.
pub fn write_cname(ssrc: u32, cname: &str, out: &mut [u8]) -> Result<usize, RtcpError> {
    let cname_bytes = u8::try_from(cname.len()).map_err(|_| RtcpError::Cname)?;
    let total_bytes = (4 + 4 + 2 + cname.len() + 1).next_multiple_of(4);
    let out = out.get_mut(..total_bytes).ok_or(RtcpError::Short)?;
    out.fill(0);
    let words = (total_bytes / 4 - 1) as u16;
    let head = [header(SOURCE_DESCRIPTION, 1, words).to_be_bytes(), ssrc.to_be_bytes()];
    let bytes = head.as_flattened().iter().copied().chain([SDES_CNAME, cname_bytes]).chain(cname.bytes());
    for (target, byte) in out.iter_mut().zip(bytes) {
        *target = byte;
    }
    Ok(total_bytes)
}

/// Writes the compound with which sources leave (RFC 3550 §6.6), an empty receiver report and a BYE for at most 31 of them,
/// and tells its length in bytes.
///
/// # Errors
///
/// [`RtcpError::Short`] where `out` cannot hold it.
pub fn write_goodbye(ssrcs: &[u32], out: &mut [u8]) -> Result<usize, RtcpError> {
    let leaving = ssrcs.get(..GOODBYE_MAX).unwrap_or(ssrcs);
    let reporter = leaving.first().copied().unwrap_or_default();
    let head = [header(RECEIVER_REPORT, 0, 1), reporter, header(GOODBYE, leaving.len() as u8, leaving.len() as u16)];
    let total_bytes = 4 * (head.len() + leaving.len());
    let out = out.get_mut(..total_bytes).ok_or(RtcpError::Short)?;
    for (target, word) in out.chunks_exact_mut(4).zip(head.iter().chain(leaving)) {
        target.copy_from_slice(&word.to_be_bytes());
    }
    Ok(total_bytes)
}

fn header(packet_type: u8, count: u8, words: u16) -> u32 {
    let [l0, l1] = words.to_be_bytes();
    u32::from_be_bytes([VERSION << 6 | count, packet_type, l0, l1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(bytes: &[u8]) -> Result<Rtcp<'_>, RtcpError> {
        let mut all = packets(bytes);
        let first = all.next().expect("one packet");
        assert!(all.next().is_none());
        first
    }

    fn feedback(first: u8, packet_type: u8, words: &[u32]) -> Vec<u8> {
        let head = [0x80 | first, packet_type, 0, words.len() as u8];
        head.into_iter().chain(words.iter().flat_map(|word| word.to_be_bytes())).collect()
    }

    #[test]
    fn a_sender_report_with_a_block_and_a_receiver_report() {
        let block = [9, 0x40_ff_ff_fe, 0x0001_0002, 7, 8, 65536];
        let sender = [&[1, 2, 3, 4, 5, 6], &block[..]].concat();
        let compound = [feedback(1, 200, &sender), feedback(1, 201, &[&[5], &block[..]].concat())].concat();
        let all: Vec<_> = packets(&compound).map(Result::unwrap).collect();
        let [Rtcp::SenderReport(report, blocks), Rtcp::ReceiverReport(5, same)] = &all[..] else { panic!("{all:?}") };
        assert_eq!(report.ntp, NtpTime(2 << 32 | 3));
        assert_eq!((report.ssrc, report.rtp, report.packets, report.payload_bytes), (1, 4, 5, 6));
        let block = blocks.clone().next().unwrap();
        assert_eq!((block.ssrc, block.fraction_lost, block.cumulative_lost), (9, 0x40, -2));
        assert_eq!((block.highest_sequence, block.delay_since_last_report), (0x0001_0002, 65536));
        assert_eq!(same.clone().collect::<Vec<_>>(), [block]);
    }

    #[test]
    fn a_nack_names_every_lost_packet_across_the_wrap() {
        let bytes = feedback(1, 205, &[1, 2, 0xfffe_0005, 0x0010_0000]);
        let Ok(Rtcp::Nack { sender_ssrc: 1, media_ssrc: 2, lost }) = one(&bytes) else { panic!() };
        assert_eq!(lost.collect::<Vec<_>>(), [0xfffe, 0xffff, 1, 16]);
        let all = feedback(1, 205, &[1, 2, 0x0000_ffff]);
        let Ok(Rtcp::Nack { lost, .. }) = one(&all) else { panic!() };
        assert_eq!(lost.collect::<Vec<_>>(), (0..=16).collect::<Vec<_>>());
    }

    #[test]
    fn requests_for_keyframes_and_bitrates() {
        assert_eq!(one(&feedback(1, 206, &[1, 2])), Ok(Rtcp::PictureLoss { sender_ssrc: 1, media_ssrc: 2 }));
        let fir = feedback(4, 206, &[1, 0, 7, 0x0300_0000, 8, 0x0400_0000]);
        let Ok(Rtcp::FullIntra { sender_ssrc: 1, requests }) = one(&fir) else { panic!() };
        assert_eq!(requests.collect::<Vec<_>>(), [(7, 3), (8, 4)]);
        let word = 1 << 24 | 3 << 18 | 250_000;
        let remb = feedback(15, 206, &[1, 0, u32::from_be_bytes(*b"REMB"), word, 7]);
        let Ok(Rtcp::ReceiverBitrate { rate_bps, ssrcs, .. }) = one(&remb) else { panic!() };
        assert_eq!((rate_bps, ssrcs.collect::<Vec<_>>()), (2_000_000, vec![7]));
        let absurd = feedback(15, 206, &[1, 0, u32::from_be_bytes(*b"REMB"), 63 << 18 | 2]);
        assert!(matches!(one(&absurd), Ok(Rtcp::ReceiverBitrate { rate_bps: u64::MAX, .. })));
        assert_eq!(one(&feedback(15, 206, &[1, 0, 3])), Ok(Rtcp::Other(206, 15)));
        assert_eq!(one(&feedback(15, 205, &[1, 0, 3])), Ok(Rtcp::Other(205, 15)), "transport-wide feedback");
    }

    #[test]
    fn goodbyes_and_descriptions_of_several_sources() {
        let Ok(Rtcp::Goodbye(sources)) = one(&[0x82, 203, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 1, b'x', 0, 0]) else {
            panic!()
        };
        assert_eq!(sources.collect::<Vec<_>>(), [1, 2]);
        // TOOL and CNAME of the first, nothing of the second, a CNAME of the third.
        let bytes = [
            &[0x83, 202, 0, 9, 0, 0, 0, 1, 6, 1, b't', 1, 3, b'a', b'b', b'c', 0, 0, 0, 0][..],
            &[0, 0, 0, 2, 0, 0, 0, 0],
            &[0, 0, 0, 3, 1, 1, b'z', 0],
            &[0; 4],
        ]
        .concat();
        let Ok(Rtcp::SourceDescription(cnames)) = one(&bytes) else { panic!() };
        assert_eq!(cnames.collect::<Vec<_>>(), [(1, &b"abc"[..]), (3, b"z")]);
    }

    #[test]
    fn malformed_packets_end_the_compound() {
        let pli = feedback(1, 206, &[1, 2]);
        for (bytes, error) in [
            (&[0x81, 206, 0][..], RtcpError::Short),
            (&[0x81, 206, 0, 2, 0, 0, 0, 1], RtcpError::Short),
            (&[0x41, 206, 0, 0], RtcpError::Version(1)),
            (&[0x81, 206, 0, 1, 0, 0, 0, 1], RtcpError::Body(206)),
            (&[0x81, 201, 0, 1, 0, 0, 0, 1], RtcpError::Body(201)),
            (&[0x82, 203, 0, 1, 0, 0, 0, 1], RtcpError::Body(203)),
            (&[0xa1, 206, 0, 1, 0, 0, 0, 5], RtcpError::Padding(5)),
            (&[0xa1, 206, 0, 0], RtcpError::Padding(0)),
        ] {
            let compound = [&pli[..], bytes, &pli].concat();
            // A length that says too much swallows what follows it.
            let compound = if error == RtcpError::Short { &compound[..pli.len() + bytes.len()] } else { &compound };
            let all: Vec<_> = packets(compound).collect();
            assert_eq!((all.len(), &all[1]), (2, &Err(error)), "{bytes:?}");
        }
    }

    #[test]
    fn padding_is_left_out() {
        let bytes = [0xa1, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 9, 0, 0, 0, 0, 0, 4];
        let Ok(Rtcp::Nack { lost, .. }) = one(&bytes) else { panic!() };
        assert_eq!(lost.collect::<Vec<_>>(), [9]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..100), packet_type in 199_u8..208, count in 0_u8..32, words in 0_u8..26,
        ) {
            if let [first, second, high, low, ..] = &mut bytes[..] {
                (*first, *second, *high, *low) = (0x80 | count, packet_type, 0, words);
            }
            for packet in packets(&bytes).flatten() {
                match packet {
                    Rtcp::SenderReport(_, blocks) | Rtcp::ReceiverReport(_, blocks) => drop(blocks.count()),
                    Rtcp::SourceDescription(cnames) => drop(cnames.count()),
                    Rtcp::Nack { lost, .. } => prop_assert!(lost.count() <= 17 * bytes.len() / 4),
                    Rtcp::FullIntra { requests, .. } => drop(requests.count()),
                    Rtcp::Goodbye(words) | Rtcp::ReceiverBitrate { ssrcs: words, .. } => drop(words.count()),
                    Rtcp::PictureLoss { .. } | Rtcp::Other(..) => {}
                }
            }
        }

        #[test]
        fn a_report_that_was_written_is_read_back(
            ssrc: u32, ntp: u64, rtp: u32, packet_count: u32, payload_bytes: u32, cname in "[a-z0-9]{0,255}",
        ) {
            let report = SenderReport { ssrc, ntp: NtpTime(ntp), rtp, packets: packet_count, payload_bytes };
            let mut out = [0xff; 400];
            let len_bytes = report.write_compound(&cname, &mut out).unwrap();
            let all: Vec<_> = packets(&out[..len_bytes]).map(Result::unwrap).collect();
            let [Rtcp::SenderReport(read, blocks), Rtcp::SourceDescription(cnames)] = &all[..] else { panic!("{all:?}") };
            prop_assert_eq!((read, blocks.clone().count()), (&report, 0));
            prop_assert_eq!(cnames.clone().collect::<Vec<_>>(), vec![(ssrc, cname.as_bytes())]);
            prop_assert_eq!(report.write_compound(&cname, &mut out[..len_bytes - 1]), Err(RtcpError::Short));
            prop_assert_eq!(report.write_compound(&"x".repeat(256), &mut out), Err(RtcpError::Cname));
        }
    }
}

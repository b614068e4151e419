//! One RTP stream toward one subscriber: its SSRCs, its header extensions, its reports.
//!
//! **Invariant:** a packet is written into the slot that the sink lends and nowhere else; nothing is allocated for it.

use std::time::{Duration, Instant};

use super::extensions::{EXTENSIONS_MAX_BYTES, ExtensionIds, ExtensionWriter};
use super::fanout::PayloadTypes;
use super::outlet::Outlet;
use super::packet::RelayPacket;
use super::sink::{DatagramSink, Traffic};
use super::srtp::{OVERHEAD_MAX_BYTES, Parts, StreamId};
use crate::rtp::codec::TrackKind;
use crate::rtp::header::{FIXED_HEADER_BYTES, FixedHeader};
use crate::rtp::ntp::NtpTime;
use crate::rtp::rewrite::{FIRST_SEQUENCE_MAX, Mapped};
use crate::rtp::rtcp::{ReportBlock, SenderReport};

/// The longest header with its extensions, in bytes.
const HEADER_MAX_BYTES: usize = FIXED_HEADER_BYTES + EXTENSIONS_MAX_BYTES;

/// The longest mid that is sent, in bytes (RFC 8843 §14).
const MID_MAX_BYTES: usize = 16;

/// The original sequence number that a retransmission begins with (RFC 4588 §4), in bytes.
const ORIGINAL_SEQUENCE_BYTES: usize = 2;

/// The middle of the time between two sender reports; each stream keeps a time of its own near it (RFC 3550 §6.2).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The moment at which something is sent, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// On the caller's clock.
    pub now: Instant,
    /// On the wall clock.
    pub ntp: NtpTime,
}

/// What was negotiated for a stream.
#[derive(Debug, Clone, Copy)]
pub struct StreamSetup<'a> {
    /// Its SSRC.
    pub ssrc: u32,
    /// The SSRC of its retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// A random number: the first sequence number of those, and how far apart its reports are.
    pub random: u32,
    /// The m-line's mid.
    pub mid: &'a str,
    /// The header extensions.
    pub extensions: ExtensionIds,
}

/// What the subscriber tells of a stream (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reception {
    /// Packets lost since the report before, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost in all.
    pub cumulative_lost: i32,
    /// In units of the RTP clock.
    pub jitter: u32,
    /// The latest measure of the round-trip time.
    pub round_trip: Option<Duration>,
}

/// The stream of retransmissions.
#[derive(Debug)]
struct Rtx {
    ssrc: u32,
    id: StreamId,
    next_sequence: u64,
    /// The subscriber has told of it: it needs no mid any more.
    is_bound: bool,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    ssrc: u32,
    id: StreamId,
    rtx: Option<Rtx>,
    extensions: ExtensionIds,
    mid: [u8; MID_MAX_BYTES],
    mid_bytes: u8,
    /// The subscriber has told of it: it needs no mid any more (RFC 8843 §9.2).
    is_bound: bool,
    packets: u32,
    payload_bytes: u32,
    report_at: Option<Instant>,
    report_interval: Duration,
    reception: Reception,
}

/// What came of a request to send a packet again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// It was sent.
    Sent,
    /// No retransmission was negotiated, or there was no slot.
    Impossible,
    /// The subscriber has asked for more than its share.
    TooMuch,
}

impl Stream {
    /// A stream that has sent nothing yet. `None` when the outlet has too many.
    pub fn new(outlet: &mut Outlet, setup: StreamSetup<'_>) -> Option<Self> {
        let id = outlet.announce(setup.ssrc)?;
        let rtx = match setup.rtx_ssrc {
            Some(ssrc) => Some(Rtx {
                ssrc,
                id: outlet.announce(ssrc)?,
                next_sequence: u64::from(setup.random) % FIRST_SEQUENCE_MAX,
                is_bound: false,
            }),
            None => None,
        };
        let mut mid = [0; MID_MAX_BYTES];
        let named = setup.mid.as_bytes();
        let mid_bytes = match mid.get_mut(..named.len()) {
            Some(place) => {
                place.copy_from_slice(named);
                named.len() as u8
            }
            None => 0,
        };
        Some(Self {
            ssrc: setup.ssrc,
            id,
            rtx,
            extensions: setup.extensions,
            mid,
            mid_bytes,
            is_bound: false,
            packets: 0,
            payload_bytes: 0,
            report_at: None,
            // Between three and five quarters of the middle: streams that began together drift apart.
            report_interval: REPORT_INTERVAL * (768 + (setup.random >> 16) % 512) / 1024,
            reception: Reception::default(),
        })
    }

    /// Its SSRC.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Whether it, or its retransmissions, have this SSRC.
    #[must_use]
    pub fn has_ssrc(&self, ssrc: u32) -> bool {
        self.ssrc == ssrc || self.rtx.as_ref().is_some_and(|rtx| rtx.ssrc == ssrc)
    }

    /// What the subscriber told of it last.
    #[must_use]
    pub fn reception(&self) -> Reception {
        self.reception
    }

    /// Writes a packet as this subscriber gets it, seals it and sends it; `false` when it was dropped.
    #[inline]
    pub fn send(
        &mut self,
        outlet: &mut Outlet,
        packet: &RelayPacket,
        mapped: Mapped,
        payload_type: u8,
        moment: Moment,
        sink: &mut dyn DatagramSink,
    ) -> bool {
        let header = FixedHeader {
            marker: packet.media.marker,
            payload_type,
            sequence: mapped.sequence as u16,
            timestamp: mapped.timestamp,
            ssrc: self.ssrc,
        };
        let write = Write { header, with_mid: !self.is_bound, original: None, id: self.id, index: mapped.sequence };
        if !self.write(outlet, packet, mapped, write, moment, sink) {
            return false;
        }
        let payload_bytes = packet.media.payload.len();
        self.packets = self.packets.wrapping_add(1);
        self.payload_bytes = self.payload_bytes.wrapping_add(payload_bytes as u32);
        outlet.earn(payload_bytes);
        true
    }

    /// Sends a packet again (RFC 4588), under `payload_type`. `mapped` is how it was mapped.
    pub fn send_again(
        &mut self,
        outlet: &mut Outlet,
        packet: &RelayPacket,
        mapped: Mapped,
        payload_types: PayloadTypes,
        moment: Moment,
        sink: &mut dyn DatagramSink,
    ) -> Repair {
        let (Some(rtx), Some(payload_type)) = (&mut self.rtx, payload_types.rtx) else {
            return Repair::Impossible;
        };
        if !outlet.spend(packet.media.payload.len()) {
            return Repair::TooMuch;
        }
        let index = rtx.next_sequence;
        let header = FixedHeader {
            marker: packet.media.marker,
            payload_type,
            sequence: index as u16,
            timestamp: mapped.timestamp,
            ssrc: rtx.ssrc,
        };
        let original = Some(mapped.sequence as u16);
        let write = Write { header, with_mid: !rtx.is_bound, original, id: rtx.id, index };
        // Counted in any case: what was sealed and then dropped has used its index up.
        rtx.next_sequence += 1;
        if self.write(outlet, packet, mapped, write, moment, sink) { Repair::Sent } else { Repair::Impossible }
    }

    /// Sends a sender report, if one is due, that places `timestamp` at `captured`. Tells whether it did.
    pub fn report(
        &mut self,
        outlet: &mut Outlet,
        (timestamp, captured): (u32, Instant),
        clock_rate_hz: u32,
        moment: Moment,
        sink: &mut dyn DatagramSink,
    ) -> bool {
        if self.report_at.is_some_and(|at| moment.now < at) {
            return false;
        }
        self.report_at = Some(moment.now + self.report_interval);
        let elapsed = moment.now.saturating_duration_since(captured);
        let ticks = elapsed.as_nanos() * u128::from(clock_rate_hz) / 1_000_000_000;
        let report = SenderReport {
            ssrc: self.ssrc,
            ntp: moment.ntp,
            rtp: timestamp.wrapping_add((ticks & 0xffff_ffff) as u32),
            packets: self.packets,
            payload_bytes: self.payload_bytes,
        };
        outlet.send_rtcp(sink, |slot| report.write_compound(CNAME, slot).ok())
    }

    /// Takes note of what the subscriber tells of `block.ssrc`, one of this stream's. Returns what this report alone tells
    /// of the stream: nothing, when it is about its retransmissions.
    pub fn note_reception(&mut self, block: &ReportBlock, ntp: NtpTime) -> Option<Reception> {
        if let Some(rtx) = self.rtx.as_mut().filter(|rtx| rtx.ssrc == block.ssrc) {
            rtx.is_bound = true;
            return None;
        }
        self.is_bound = true;
        let told = Reception {
            fraction_lost: block.fraction_lost,
            cumulative_lost: block.cumulative_lost,
            jitter: block.jitter,
            round_trip: round_trip(block, ntp),
        };
        self.reception = Reception { round_trip: told.round_trip.or(self.reception.round_trip), ..told };
        Some(told)
    }

    fn write(
        &self,
        outlet: &mut Outlet,
        packet: &RelayPacket,
        mapped: Mapped,
        write: Write,
        moment: Moment,
        sink: &mut dyn DatagramSink,
    ) -> bool {
        let traffic = match packet.media.kind {
            TrackKind::Audio => Traffic::Audio,
            TrackKind::Video => Traffic::Video,
        };
        let payload = &packet.media.payload;
        let len_max_bytes = HEADER_MAX_BYTES + ORIGINAL_SEQUENCE_BYTES + payload.len() + OVERHEAD_MAX_BYTES;
        let Some(slot) = sink.reserve(outlet.path, traffic, len_max_bytes) else {
            return false;
        };
        let Some(parts) = self.compose(slot, packet, mapped, &write, moment) else {
            return false;
        };
        let Ok(sealed_bytes) = outlet.sealer.seal_rtp(write.id, write.index, slot, parts) else {
            return false;
        };
        sink.commit(sealed_bytes);
        true
    }

    /// Writes all that differs from the publisher's packet into `slot`.
    fn compose<'a>(
        &self,
        slot: &mut [u8],
        packet: &'a RelayPacket,
        mapped: Mapped,
        write: &Write,
        moment: Moment,
    ) -> Option<Parts<'a>> {
        write.header.write(slot).ok()?;
        let mut extensions = ExtensionWriter::default();
        let ids = &self.extensions;
        extensions.put(ids.abs_send_time, &moment.ntp.abs_send_time());
        if write.with_mid {
            extensions.put(ids.mid, self.mid.get(..usize::from(self.mid_bytes))?);
        }
        if let Some(level) = packet.extensions.audio_level {
            extensions.put(ids.audio_level, &[level]);
        }
        if let Some(orientation) = packet.extensions.video_orientation {
            extensions.put(ids.video_orientation, &[orientation]);
        }
        if let Some(delay) = packet.extensions.playout_delay {
            extensions.put(ids.playout_delay, &delay);
        }
        let header_bytes = FIXED_HEADER_BYTES + extensions.copy_to(slot)?;

        let payload = &packet.media.payload;
        let mut head_bytes = 0;
        if let Some(original) = write.original {
            let place = slot.get_mut(header_bytes..header_bytes + ORIGINAL_SEQUENCE_BYTES)?;
            place.copy_from_slice(&original.to_be_bytes());
            head_bytes = ORIGINAL_SEQUENCE_BYTES;
        }
        let mut tail: &[u8] = payload;
        if let (Some(descriptor), Some(ids)) = (&packet.vp8, mapped.vp8) {
            let (patched, rest) = payload.split_at_checked(descriptor.len_bytes())?;
            let start = header_bytes + head_bytes;
            let place = slot.get_mut(start..start + patched.len())?;
            place.copy_from_slice(patched);
            descriptor.patch(place, ids);
            head_bytes += patched.len();
            tail = rest;
        }
        Some(Parts { header_bytes, head_bytes, tail })
    }
}

/// What RTCP names all our streams by (RFC 3550 §6.5.1): they share the publisher's clock, and so a name.
const CNAME: &str = "onair";

/// How one packet is written.
struct Write {
    header: FixedHeader,
    with_mid: bool,
    /// For a retransmission: the sequence number that it had.
    original: Option<u16>,
    id: StreamId,
    index: u64,
}

/// How long a report of ours and this answer to it were on their way (RFC 3550, 6.4.1).
fn round_trip(block: &ReportBlock, ntp: NtpTime) -> Option<Duration> {
    let span = ntp.compact().wrapping_sub(block.last_report).wrapping_sub(block.delay_since_last_report);
    // Half the range: a clock that does not add up, or a report that is not ours.
    (block.last_report != 0 && span < 1 << 31).then(|| Duration::from_nanos((u64::from(span) * 1_000_000_000) >> 16))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use crate::egress::cipher::Profile;
    use crate::egress::packet::{PassedExtensions, test_spec};
    use crate::egress::sink::Path;
    use crate::egress::srtp::{self, Opener};
    use crate::rtp::codec::Codec;
    use crate::rtp::header::{Extensions, RtpHeader};
    use crate::rtp::packet::MediaPacket;
    use crate::rtp::rtcp::{Rtcp, packets};
    use crate::rtp::test_epoch;
    use crate::rtp::vp8::{PictureId, Vp8Descriptor, Vp8Ids};

    const IDS: ExtensionIds =
        ExtensionIds { mid: 4, abs_send_time: 2, audio_level: 1, video_orientation: 13, playout_delay: 5 };

    const ALL: PassedExtensions = PassedExtensions {
        audio_level: Some(0x9e),
        video_orientation: Some(3),
        playout_delay: Some([0x00, 0xa0, 0x28]),
    };

    const TYPES: PayloadTypes = PayloadTypes { media: 96, rtx: Some(97) };

    /// A batch whose slots are full of another packet's bytes, as they are in use.
    #[derive(Default)]
    struct Slots {
        slot: Vec<u8>,
        sent: Vec<Vec<u8>>,
        is_full: bool,
    }

    impl DatagramSink for Slots {
        fn reserve(&mut self, _: Path, _: Traffic, len_bytes: usize) -> Option<&mut [u8]> {
            self.slot = vec![0xa5; len_bytes];
            (!self.is_full).then_some(self.slot.as_mut_slice())
        }

        fn commit(&mut self, len_bytes: usize) {
            self.sent.push(self.slot[..len_bytes].to_vec());
        }
    }

    impl Slots {
        fn last_header(&self) -> RtpHeader<'_> {
            RtpHeader::parse(self.sent.last().unwrap()).unwrap()
        }
    }

    /// A subscriber's outlet, and what opens at its other end.
    fn outlet() -> (Outlet, Opener) {
        let address = SocketAddr::from(([192, 0, 2, 1], 9));
        let path = Path::udp(address, address);
        let material = [7; 56];
        let (sealer, opener) = srtp::session(Profile::AeadAes128Gcm, &material, false).unwrap();
        let (_, client) = srtp::session(Profile::AeadAes128Gcm, &material, true).unwrap();
        (Outlet::new(path, sealer, opener), client)
    }

    fn setup(extensions: ExtensionIds) -> StreamSetup<'static> {
        StreamSetup { ssrc: 0x1111, rtx_ssrc: Some(0x2222), random: 500, mid: "mid-0", extensions }
    }

    fn packet(payload: &[u8], extensions: PassedExtensions) -> RelayPacket {
        let arrival = test_epoch();
        let media = MediaPacket {
            kind: TrackKind::Video,
            codec: Codec::Vp8,
            epoch: 1,
            sequence: 1,
            timestamp: 1,
            marker: true,
            payload: Arc::from(payload),
            arrival,
            sender_report: None,
        };
        let vp8 = Vp8Descriptor::parse(payload).ok();
        RelayPacket { media, format: 1, spec: test_spec(), begins: true, captured: arrival, extensions, vp8 }
    }

    fn mapped(sequence: u64) -> Mapped {
        Mapped { sequence, timestamp: 0xdead_beef, vp8: None }
    }

    fn moment() -> Moment {
        Moment { now: test_epoch(), ntp: NtpTime(0x0000_0007_4000_0000) }
    }

    fn block(ssrc: u32) -> ReportBlock {
        ReportBlock {
            ssrc,
            fraction_lost: 3,
            cumulative_lost: 40,
            highest_sequence: 500,
            jitter: 60,
            last_report: 0,
            delay_since_last_report: 0,
        }
    }

    fn with_mid(header: &RtpHeader<'_>) -> bool {
        header.extensions.value_of(IDS.mid) == Some(b"mid-0")
    }

    #[test]
    fn a_header_is_the_subscribers_own() {
        let (mut outlet, _) = outlet();
        let mut stream = Stream::new(&mut outlet, setup(ExtensionIds::default())).unwrap();
        let mut sink = Slots::default();
        assert!(stream.send(&mut outlet, &packet(b"frame", ALL), mapped(0x1_8001), 96, moment(), &mut sink));
        let bare = [0x80, 0x80 | 96, 0x80, 0x01, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0x11, 0x11];
        assert_eq!(sink.sent[0][..12], bare, "no extension was negotiated, and so none is written");
        assert_eq!(sink.sent[0].len(), 12 + 5 + 16);
    }

    #[test]
    fn each_extension_stands_under_the_id_that_was_negotiated_for_it() {
        type Case = (ExtensionIds, u8, &'static [u8]);
        let none = ExtensionIds::default();
        let cases: [Case; 5] = [
            // 7.25 s, in units of 2^-18 s.
            (ExtensionIds { abs_send_time: 2, ..none }, 2, &[0x1d, 0, 0]),
            (ExtensionIds { mid: 14, ..none }, 14, b"mid-0"),
            (ExtensionIds { audio_level: 1, ..none }, 1, &[0x9e]),
            (ExtensionIds { video_orientation: 13, ..none }, 13, &[3]),
            (ExtensionIds { playout_delay: 5, ..none }, 5, &[0x00, 0xa0, 0x28]),
        ];
        for (ids, id, value) in cases {
            let (mut outlet, _) = outlet();
            let mut stream = Stream::new(&mut outlet, setup(ids)).unwrap();
            let mut sink = Slots::default();
            stream.send(&mut outlet, &packet(b"frame", ALL), mapped(1), 96, moment(), &mut sink);
            let body_bytes = (1 + value.len()).next_multiple_of(4);
            let mut block = vec![0xbe, 0xde, 0, (body_bytes / 4) as u8, id << 4 | (value.len() - 1) as u8];
            block.extend(value);
            block.resize(4 + body_bytes, 0);
            assert_eq!(sink.sent[0][0], 0x90, "the X bit");
            assert_eq!(sink.sent[0][12..][..block.len()], block, "id {id}");
        }
    }

    #[test]
    fn all_extensions_fit_beside_the_longest_mid() {
        let (mut outlet, _) = outlet();
        let mid = "sixteen-letters-";
        let mut stream = Stream::new(&mut outlet, StreamSetup { mid, ..setup(IDS) }).unwrap();
        let mut sink = Slots::default();
        assert!(stream.send(&mut outlet, &packet(b"frame", ALL), mapped(1), 96, moment(), &mut sink));
        let values: Vec<_> = sink.last_header().extensions.collect();
        let expected: [(u8, &[u8]); 5] =
            [(2, &[0x1d, 0, 0]), (4, mid.as_bytes()), (1, &[0x9e]), (13, &[3]), (5, &[0x00, 0xa0, 0x28])];
        assert_eq!(values, expected);
    }

    #[test]
    fn what_a_packet_does_not_bring_is_not_written_and_an_id_out_of_range_is_none() {
        let (mut outlet, _) = outlet();
        let ids = ExtensionIds { abs_send_time: 0, mid: 15, ..IDS };
        let mut stream = Stream::new(&mut outlet, setup(ids)).unwrap();
        let mut sink = Slots::default();
        stream.send(&mut outlet, &packet(b"frame", PassedExtensions::default()), mapped(1), 96, moment(), &mut sink);
        assert_eq!(sink.sent[0][0], 0x80);
        assert_eq!(sink.last_header().extensions, Extensions::NONE);
    }

    #[test]
    fn the_mid_is_told_until_the_subscriber_reports_about_the_ssrc() {
        let (mut outlet, _) = outlet();
        let mut stream = Stream::new(&mut outlet, setup(IDS)).unwrap();
        let mut sink = Slots::default();
        let packet = packet(b"frame", ALL);
        let mut tells_mid = |stream: &mut Stream, sequence| {
            stream.send(&mut outlet, &packet, mapped(sequence), 96, moment(), &mut sink);
            let sent = with_mid(&sink.last_header());
            stream.send_again(&mut outlet, &packet, mapped(sequence), TYPES, moment(), &mut sink);
            (sent, with_mid(&sink.last_header()))
        };
        assert_eq!(tells_mid(&mut stream, 1), (true, true));
        assert_eq!(tells_mid(&mut stream, 2), (true, true));
        stream.note_reception(&block(0x1111), NtpTime(0));
        assert_eq!(tells_mid(&mut stream, 3), (false, true), "each SSRC is bound by itself");
        stream.note_reception(&block(0x2222), NtpTime(0));
        assert_eq!(tells_mid(&mut stream, 4), (false, false));
    }

    #[test]
    fn a_retransmission_is_another_stream_that_names_the_original_sequence_number() {
        let (mut outlet, _) = outlet();
        let mut stream = Stream::new(&mut outlet, setup(ExtensionIds::default())).unwrap();
        let mut sink = Slots::default();
        let packet = packet(b"frame", ALL);
        for (repeat, sequence) in [(0_u16, 0x1_0203), (1, 0x1_0203), (2, 0x1_0204)] {
            let repair = stream.send_again(&mut outlet, &packet, mapped(sequence), TYPES, moment(), &mut sink);
            assert_eq!(repair, Repair::Sent);
            let header = sink.last_header();
            assert_eq!((header.ssrc, header.payload_type, header.marker), (0x2222, 97, true));
            assert_eq!((header.sequence, header.timestamp), (500 + repeat, 0xdead_beef));
            // What is sealed: two bytes of the original's sequence number, then its payload (RFC 4588 §4).
            assert_eq!(header.payload.len(), 2 + 5 + 16);
        }
        let mut slot = [0xa5; 200];
        let header = FixedHeader { marker: true, payload_type: 97, sequence: 5, timestamp: 9, ssrc: 0x2222 };
        let id = stream.rtx.as_ref().unwrap().id;
        let write = Write { header, with_mid: false, original: Some(0x0203), id, index: 5 };
        let parts = stream.compose(&mut slot, &packet, mapped(0x1_0203), &write, moment()).unwrap();
        assert_eq!((parts.header_bytes, parts.head_bytes, parts.tail), (12, 2, b"frame".as_slice()));
        assert_eq!(slot[12..14], [0x02, 0x03]);
    }

    #[test]
    fn nothing_is_sent_again_without_rtx() {
        let (mut outlet, _) = outlet();
        let mut sink = Slots::default();
        let packet = packet(b"frame", ALL);
        let no_ssrc = Stream::new(&mut outlet, StreamSetup { ssrc: 1, rtx_ssrc: None, ..setup(IDS) }).unwrap();
        let no_type = Stream::new(&mut outlet, setup(IDS)).unwrap();
        for (mut stream, rtx) in [(no_ssrc, Some(97)), (no_type, None)] {
            let types = PayloadTypes { rtx, ..TYPES };
            let again = stream.send_again(&mut outlet, &packet, mapped(1), types, moment(), &mut sink);
            assert_eq!(again, Repair::Impossible);
        }
        assert!(sink.sent.is_empty());
    }

    #[test]
    fn a_share_of_repair_is_earned_by_media() {
        let (mut outlet, _) = outlet();
        let mut stream = Stream::new(&mut outlet, setup(IDS)).unwrap();
        let mut sink = Slots::default();
        let packet = packet(&[0; 1_000], ALL);
        let mut repaired = |stream: &mut Stream, outlet: &mut Outlet| {
            let mut again = || stream.send_again(outlet, &packet, mapped(1), TYPES, moment(), &mut sink);
            let count = (0..1_000).take_while(|_| again() == Repair::Sent).count();
            assert_eq!(again(), Repair::TooMuch);
            count
        };
        assert_eq!(repaired(&mut stream, &mut outlet), 262, "256 KiB at first");
        for sequence in 0..100 {
            stream.send(&mut outlet, &packet, mapped(sequence), 96, moment(), &mut Slots::default());
        }
        assert_eq!(repaired(&mut stream, &mut outlet), 100, "one byte for each");
    }

    #[test]
    fn a_full_batch_costs_no_index_of_the_media_and_one_of_the_repair() {
        let (mut outlet, _) = outlet();
        let mut stream = Stream::new(&mut outlet, setup(IDS)).unwrap();
        let mut sink = Slots { is_full: true, ..Slots::default() };
        let packet = packet(b"frame", ALL);
        assert!(!stream.send(&mut outlet, &packet, mapped(7), 96, moment(), &mut sink));
        let again = stream.send_again(&mut outlet, &packet, mapped(7), TYPES, moment(), &mut sink);
        assert_eq!(again, Repair::Impossible);
        sink.is_full = false;
        assert!(stream.send(&mut outlet, &packet, mapped(7), 96, moment(), &mut sink));
        assert!(!stream.send(&mut outlet, &packet, mapped(7), 96, moment(), &mut sink), "an index is used once");
        assert_eq!(sink.sent.len(), 1);
        stream.send_again(&mut outlet, &packet, mapped(7), TYPES, moment(), &mut sink);
        assert_eq!(sink.last_header().sequence, 501);
    }

    #[test]
    fn vp8_ids_are_patched_in_the_slot_and_the_frame_follows_from_where_it_lies() {
        let (mut outlet, _) = outlet();
        let stream = Stream::new(&mut outlet, setup(ExtensionIds::default())).unwrap();
        let payload = [0x90, 0xe0, 0x80 | 0x12, 0x34, 0x56, 0x00, 0x11, 0x22];
        let packet = packet(&payload, ALL);
        let ids = Vp8Ids { picture_id: Some(PictureId::new(0x7abc, true)), tl0_pic_idx: Some(0x9d) };
        let patched = [0x90, 0xe0, 0x80 | 0x7a, 0xbc, 0x9d, 0x00];
        let header = FixedHeader { marker: true, payload_type: 96, sequence: 5, timestamp: 9, ssrc: 0x1111 };
        for (original, head_bytes) in [(None, 6), (Some(0x0a0b), 8)] {
            let mut slot = [0xa5; 200];
            let write = Write { header, with_mid: false, original, id: stream.id, index: 5 };
            let mapped = Mapped { vp8: Some(ids), ..mapped(5) };
            let parts = stream.compose(&mut slot, &packet, mapped, &write, moment()).unwrap();
            assert_eq!((parts.head_bytes, parts.tail), (head_bytes, &payload[6..]));
            assert_eq!(slot[12 + head_bytes - 6..12 + head_bytes], patched);
        }
        assert_eq!(*packet.media.payload, payload, "what is shared is left alone");
    }

    #[test]
    fn reports_keep_their_distance_and_say_where_the_rtp_clock_stands_now() {
        let (mut outlet, mut client) = outlet();
        let mut stream = Stream::new(&mut outlet, setup(IDS)).unwrap();
        let packet = packet(b"frame", ALL);
        let mut sink = Slots::default();
        for sequence in 0..3 {
            stream.send(&mut outlet, &packet, mapped(sequence), 96, moment(), &mut Slots::default());
        }
        let start = test_epoch() + Duration::from_secs(9);
        let captured = start - Duration::from_millis(500);
        let mut report = |stream: &mut Stream, elapsed_ms: u64| {
            let now = start + Duration::from_millis(elapsed_ms);
            let moment = Moment { now, ntp: NtpTime(elapsed_ms) };
            stream.report(&mut outlet, (1_000, captured), 90_000, moment, &mut sink)
        };
        assert!(report(&mut stream, 0), "the first at once");
        assert!(!report(&mut stream, 749) && report(&mut stream, 751), "at the earliest after three quarters");
        assert_eq!(sink.sent.len(), 2);
        for (index, rtp) in [(0, 1_000 + 45_000), (1, 1_000 + 45_000 + 751 * 90)] {
            let opened = client.open_rtcp(&mut sink.sent[index]).unwrap();
            let told: Vec<_> = packets(opened).map(Result::unwrap).collect();
            let [Rtcp::SenderReport(report, _), Rtcp::SourceDescription(names)] = told.as_slice() else {
                panic!("{told:?}");
            };
            assert_eq!((report.ssrc, report.rtp), (0x1111, rtp));
            assert_eq!((report.packets, report.payload_bytes), (3, 15));
            assert_eq!(names.clone().collect::<Vec<_>>(), [(0x1111, CNAME.as_bytes())]);
        }
    }

    #[test]
    fn streams_that_began_together_report_apart() {
        let intervals: Vec<_> = [0, 0x0100_0000, 0xffff_ffff]
            .map(|random| {
                let (mut outlet, _) = outlet();
                Stream::new(&mut outlet, StreamSetup { random, ..setup(IDS) }).unwrap().report_interval
            })
            .into_iter()
            .collect();
        assert!(intervals.windows(2).all(|pair| pair[0] < pair[1]), "{intervals:?}");
        let quarters = Duration::from_millis(750)..Duration::from_millis(1_250);
        assert!(intervals.iter().all(|interval| quarters.contains(interval)), "{intervals:?}");
    }

    #[test]
    fn what_the_subscriber_tells_is_kept_and_a_clock_that_does_not_add_up_is_not() {
        let (mut outlet, _) = outlet();
        let mut stream = Stream::new(&mut outlet, setup(IDS)).unwrap();
        stream.note_reception(&block(0x2222), NtpTime(0));
        assert_eq!(stream.reception(), Reception::default(), "the repair's loss is not the media's");
        stream.note_reception(&block(0x1111), NtpTime(0));
        let expected = Reception { fraction_lost: 3, cumulative_lost: 40, jitter: 60, round_trip: None };
        assert_eq!(stream.reception(), expected);
        // A report of 10.0 s that stayed 0.5 s at the subscriber comes back at 10.75 s.
        let told = ReportBlock { last_report: 10 << 16, delay_since_last_report: 1 << 15, ..block(0x1111) };
        stream.note_reception(&told, NtpTime((10 << 32) + (3 << 30)));
        assert_eq!(stream.reception().round_trip, Some(Duration::from_millis(250)));
        let told = ReportBlock { last_report: 99 << 16, ..told };
        stream.note_reception(&told, NtpTime(10 << 32));
        assert_eq!(stream.reception().round_trip, Some(Duration::from_millis(250)), "from the future");
    }
}

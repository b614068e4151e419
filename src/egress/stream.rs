//! One RTP stream toward one subscriber: its SSRCs, its header extensions, its reports.
//!
//! **Invariant:** a packet is written into the slot that the sink lends and nowhere else; nothing is allocated for it.

use std::time::{Duration, Instant};

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
const HEADER_MAX_BYTES: usize = FIXED_HEADER_BYTES + 4 + EXTENSIONS_MAX_BYTES;

/// The longest block of header extensions, in bytes: all that are written, in one-byte form, in whole words.
const EXTENSIONS_MAX_BYTES: usize = 32;

/// The longest mid that is sent, in bytes (RFC 8843 §14).
const MID_MAX_BYTES: usize = 16;

/// The original sequence number that a retransmission begins with (RFC 4588 §4), in bytes.
const ORIGINAL_SEQUENCE_BYTES: usize = 2;

/// The middle of the time between two sender reports; each stream keeps a time of its own near it (RFC 3550 §6.2).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The ids under which a subscriber takes header extensions (RFC 8285); 0 where it takes none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// urn:ietf:params:rtp-hdrext:sdes:mid
    pub mid: u8,
    /// Absolute send time.
    pub abs_send_time: u8,
    /// Client-to-mixer audio level.
    pub audio_level: u8,
    /// Video orientation.
    pub video_orientation: u8,
    /// Playout delay.
    pub playout_delay: u8,
}

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

    /// Takes note of what the subscriber tells of `block.ssrc`, one of this stream's.
    pub fn note_reception(&mut self, block: &ReportBlock, ntp: NtpTime) {
        if let Some(rtx) = self.rtx.as_mut().filter(|rtx| rtx.ssrc == block.ssrc) {
            rtx.is_bound = true;
            return;
        }
        self.is_bound = true;
        self.reception.fraction_lost = block.fraction_lost;
        self.reception.cumulative_lost = block.cumulative_lost;
        self.reception.jitter = block.jitter;
        if block.last_report != 0 {
            let span = ntp.compact().wrapping_sub(block.last_report).wrapping_sub(block.delay_since_last_report);
            // Half the range: a clock that does not add up, or a report that is not ours.
            if span < 1 << 31 {
                self.reception.round_trip = Some(Duration::from_nanos((u64::from(span) * 1_000_000_000) >> 16));
            }
        }
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

/// Collects header extensions in one-byte form (RFC 8285 §4.2).
#[derive(Default)]
struct ExtensionWriter {
    block: [u8; EXTENSIONS_MAX_BYTES],
    len_bytes: usize,
}

impl ExtensionWriter {
    /// Adds a value of 1 to 16 bytes under `id`; nothing for an id that the form does not have, 0 among them.
    fn put(&mut self, id: u8, value: &[u8]) {
        let Some(len) = value.len().checked_sub(1).filter(|len| *len < 16 && (1..=14).contains(&id)) else {
            return;
        };
        let end = self.len_bytes + 1 + value.len();
        if let Some([head, place @ ..]) = self.block.get_mut(self.len_bytes..end) {
            *head = id << 4 | len as u8;
            place.copy_from_slice(value);
            self.len_bytes = end;
        }
    }

    /// Writes what was collected after the fixed header of the packet in `slot`, and tells its length in bytes.
    fn copy_to(&self, slot: &mut [u8]) -> Option<usize> {
        if self.len_bytes == 0 {
            return Some(0);
        }
        let padded_bytes = self.len_bytes.next_multiple_of(4);
        let ([first, ..], [p0, p1, l0, l1, rest @ ..]) = slot.split_at_mut_checked(FIXED_HEADER_BYTES)? else {
            return None;
        };
        *first |= 0x10;
        [*p0, *p1] = [0xbe, 0xde];
        [*l0, *l1] = ((padded_bytes / 4) as u16).to_be_bytes();
        rest.get_mut(..padded_bytes)?.copy_from_slice(self.block.get(..padded_bytes)?);
        Some(4 + padded_bytes)
    }
}

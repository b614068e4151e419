//! Gathers the packets of a video track into whole pictures.
//!
//! A picture that lost a packet is dropped, and so is everything behind it up to the next keyframe: a copied stream with
//! broken references would smear in every player, whereas a gap shows the last good picture for a moment. Timestamps
//! are kept, so a gap never moves what follows.
//!
//! **Invariant:** every picture that comes out is whole, and all that it refers to came out before it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::access_unit::unite;
use super::reorder::Ordered;
use crate::hub::io::{MediaPacket, SenderReport};
use crate::rtp::codec::Codec;
use crate::rtp::keyframe::{frame_size, starts_keyframe};

/// A source that sends no keyframe for so long after a loss never will: it refreshes its picture bit by bit, and what was
/// lost heals by itself.
const KEYFRAME_WAIT: Duration = Duration::from_secs(30);

/// Parameter sets of one keyframe that are kept, at most.
const SETS_MAX: usize = 16;

/// Packets of one picture, at most: 2 MB. More is no picture.
const PACKETS_MAX: usize = 2048;

/// One whole picture.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The codec.
    pub codec: Codec,
    /// The epoch of its packets.
    pub epoch: u32,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// The payloads of its packets, in order.
    pub payloads: Vec<Arc<[u8]>>,
    /// Whether a decoder can begin with it.
    pub is_keyframe: bool,
    /// Its size, where it tells.
    pub size: Option<(u16, u16)>,
    /// When its first packet arrived.
    pub arrival: Instant,
    /// The latest sender report that came with it.
    pub sender_report: Option<SenderReport>,
    /// The parameter sets that it refers to (H.264, H.265): those of the latest keyframe, one NAL unit each.
    pub sets: Arc<[Arc<[u8]>]>,
}

/// Gathers packets into pictures.
#[derive(Debug)]
pub struct Pictures {
    current: Option<Picture>,
    source: Option<(u32, Codec)>,
    awaits_keyframe: bool,
    /// When the source began to be unusable until a keyframe comes.
    awaits_since: Option<Instant>,
    sets: ParameterSets,
    /// Packets dropped with broken pictures, or while a keyframe was awaited.
    pub dropped: u64,
}

impl Default for Pictures {
    fn default() -> Self {
        Self {
            current: None,
            source: None,
            awaits_keyframe: true,
            awaits_since: None,
            sets: ParameterSets::default(),
            dropped: 0,
        }
    }
}

impl Pictures {
    /// Whether nothing comes out until the publisher sends a keyframe.
    pub fn awaits_keyframe(&self) -> bool {
        self.awaits_keyframe
    }

    /// Takes the next packet or gap of the track.
    pub fn push(&mut self, ordered: Ordered, out: &mut Vec<Picture>) {
        let packet = match ordered {
            Ordered::Packet(packet) => packet,
            Ordered::Gap => return self.lose(),
        };
        if self.source != Some((packet.epoch, packet.codec)) {
            self.complete(out);
            self.lose();
            self.source = Some((packet.epoch, packet.codec));
            self.sets = ParameterSets::default();
        }
        if self.current.as_ref().is_some_and(|current| current.timestamp != packet.timestamp) {
            self.complete(out);
        }
        self.sets.observe(packet.codec, &packet.payload);
        let is_last = packet.marker;
        self.add(packet);
        if is_last {
            self.complete(out);
        }
    }

    fn lose(&mut self) {
        if let Some(broken) = self.current.take() {
            self.drop_packets(broken.payloads.len());
        }
        self.awaits_keyframe = true;
    }

    fn drop_packets(&mut self, count: usize) {
        self.dropped = self.dropped.saturating_add(count as u64);
    }

    fn add(&mut self, packet: MediaPacket) {
        let key = starts_keyframe(packet.codec, &packet.payload);
        if self.current.is_none() && self.awaits_keyframe && !key {
            let since = *self.awaits_since.get_or_insert(packet.arrival);
            let has_waited = packet.arrival.saturating_duration_since(since) >= KEYFRAME_WAIT;
            if !has_waited || self.sets.of_keyframe.is_empty() {
                return self.drop_packets(1);
            }
            tracing::debug!(codec = %packet.codec, "no keyframe came after a loss: the picture goes on without one");
        }
        let current = self.current.get_or_insert_with(|| Picture {
            codec: packet.codec,
            epoch: packet.epoch,
            timestamp: packet.timestamp,
            payloads: Vec::with_capacity(4),
            is_keyframe: false,
            size: None,
            arrival: packet.arrival,
            sender_report: None,
            sets: Arc::clone(&self.sets.of_keyframe),
        });
        if current.payloads.len() >= PACKETS_MAX {
            return self.lose();
        }
        current.is_keyframe |= key;
        current.size = current.size.or_else(|| key.then(|| frame_size(packet.codec, &packet.payload)).flatten());
        current.sender_report = packet.sender_report.or(current.sender_report);
        current.payloads.push(packet.payload);
    }

    fn complete(&mut self, out: &mut Vec<Picture>) {
        let Some(mut picture) = self.current.take() else {
            return;
        };
        if self.sets.are_all_of(&picture) {
            // Parameter sets that were sent under a marker of their own: they go in front of the picture they belong to.
            return;
        }
        if picture.is_keyframe && !self.sets.complete(&mut picture) {
            self.drop_packets(picture.payloads.len());
            self.awaits_keyframe = true;
            return;
        }
        if picture.is_keyframe {
            self.sets.remember(&picture);
            picture.sets = Arc::clone(&self.sets.of_keyframe);
        }
        (self.awaits_keyframe, self.awaits_since) = (false, None);
        unite(picture.codec, &mut picture.payloads);
        out.push(picture);
    }
}

/// The latest parameter sets of an H.264 or H.265 track that stood in packets of their own.
///
/// Some encoders send them once, or under a marker of their own; each file needs them in front of its first picture.
#[derive(Debug)]
struct ParameterSets {
    latest: Vec<(u8, Arc<[u8]>)>,
    /// Those that stood in the latest keyframe.
    of_keyframe: Arc<[Arc<[u8]>]>,
}

impl Default for ParameterSets {
    fn default() -> Self {
        Self { latest: Vec::new(), of_keyframe: Arc::from([]) }
    }
}

impl ParameterSets {
    fn observe(&mut self, codec: Codec, payload: &Arc<[u8]>) {
        let Some(kind) = parameter_set(codec, payload) else {
            return;
        };
        self.latest.retain(|(latest, _)| *latest != kind);
        self.latest.push((kind, Arc::clone(payload)));
        self.latest.sort_by_key(|(kind, _)| *kind);
    }

    /// Keeps the sets of a keyframe, which has them now.
    fn remember(&mut self, keyframe: &Picture) {
        let mut found: Vec<Arc<[u8]>> = Vec::new();
        for payload in &keyframe.payloads {
            collect_sets(keyframe.codec, payload, &mut found);
        }
        if !found.is_empty() && *self.of_keyframe != found[..] {
            self.of_keyframe = found.into();
        }
    }

    fn are_all_of(&self, picture: &Picture) -> bool {
        !self.latest.is_empty()
            && picture.payloads.iter().all(|payload| parameter_set(picture.codec, payload).is_some())
    }

    /// Puts the sets in front of a keyframe that has none. False where none are known: no decoder could begin there.
    fn complete(&self, picture: &mut Picture) -> bool {
        let needs_sets = matches!(picture.codec, Codec::H264 | Codec::H265);
        if !needs_sets || picture.size.is_some() {
            return true;
        }
        picture.size = self.latest.iter().find_map(|(_, payload)| frame_size(picture.codec, payload));
        let sets = self.latest.iter().map(|(_, payload)| Arc::clone(payload));
        picture.payloads.splice(0..0, sets);
        picture.size.is_some()
    }
}

/// The first parameter set of a payload that holds nothing but parameter sets (and what else stands before a picture).
fn parameter_set(codec: Codec, payload: &[u8]) -> Option<u8> {
    match (codec, payload) {
        (Codec::H264, [header, rest @ ..]) => match header & 0x1f {
            24 => aggregated(rest, |unit| unit.first().map(|byte| byte & 0x1f), |kind| matches!(kind, 6..=9)),
            kind @ (7 | 8) => Some(kind),
            _ => None,
        },
        (Codec::H265, [high, _, rest @ ..]) => match high >> 1 & 0x3f {
            48 => {
                aggregated(rest, |unit| unit.first().map(|byte| byte >> 1 & 0x3f), |kind| matches!(kind, 32..=35 | 39))
            }
            kind @ 32..=34 => Some(kind),
            _ => None,
        },
        _ => None,
    }
}

/// The parameter sets among the NAL units of a payload, each once.
fn collect_sets(codec: Codec, payload: &[u8], found: &mut Vec<Arc<[u8]>>) {
    let (header_bytes, aggregation) = match codec {
        Codec::H264 => (1, 24),
        Codec::H265 => (2, 48),
        _ => return,
    };
    let kind = |unit: &[u8]| match codec {
        Codec::H264 => unit.first().map(|byte| byte & 0x1f),
        _ => unit.first().map(|byte| byte >> 1 & 0x3f),
    };
    let is_set = |unit: &[u8]| match codec {
        Codec::H264 => matches!(kind(unit), Some(7 | 8)),
        _ => matches!(kind(unit), Some(32..=34)),
    };
    let mut add = |unit: &[u8]| {
        if is_set(unit) && found.len() < SETS_MAX && !found.iter().any(|known| **known == *unit) {
            found.push(unit.into());
        }
    };
    if kind(payload) != Some(aggregation) {
        return add(payload);
    }
    let mut units = payload.get(header_bytes..).unwrap_or_default();
    while let [high, low, rest @ ..] = units
        && let Some((unit, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
    {
        add(unit);
        units = rest;
    }
}

fn aggregated(mut units: &[u8], kind_of: fn(&[u8]) -> Option<u8>, is_allowed: fn(u8) -> bool) -> Option<u8> {
    let mut first = None;
    while let [high, low, rest @ ..] = units {
        let (unit, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        let kind = kind_of(unit).filter(|kind| is_allowed(*kind))?;
        first = first.or(Some(kind));
        units = rest;
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::codec::TrackKind;

    const SPS: &[u8] = &[
        0x67, 0x42, 0xc0, 0x0a, 0xd9, 0x04, 0x26, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00,
        0xc8, 0x3c, 0x48, 0x99, 0x20,
    ];
    const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
    const IDR: &[u8] = &[0x65, 0x88, 0x84];
    const SLICE: &[u8] = &[0x41, 0x9a, 0x00];

    /// One packet of H.264: timestamp, marker, payload.
    fn packet(timestamp: u32, marker: bool, payload: &[u8]) -> Ordered {
        Ordered::Packet(MediaPacket {
            kind: TrackKind::Video,
            codec: Codec::H264,
            epoch: 0,
            sequence: 0,
            timestamp,
            marker,
            payload: payload.into(),
            arrival: Instant::now(),
            sender_report: None,
        })
    }

    /// What comes out: timestamp, packets, whether it is a keyframe.
    fn gather(packets: Vec<Ordered>) -> (Vec<(u32, usize, bool)>, Pictures) {
        let (mut pictures, mut out) = (Pictures::default(), Vec::new());
        for packet in packets {
            pictures.push(packet, &mut out);
        }
        (out.iter().map(|p| (p.timestamp, p.payloads.len(), p.is_keyframe)).collect(), pictures)
    }

    fn keyframe(timestamp: u32) -> Vec<Ordered> {
        vec![packet(timestamp, false, SPS), packet(timestamp, false, PPS), packet(timestamp, true, IDR)]
    }

    #[test]
    fn nothing_comes_before_a_keyframe() {
        let mut packets = vec![packet(0, true, SLICE)];
        packets.extend(keyframe(1));
        packets.push(packet(2, true, SLICE));
        let (out, pictures) = gather(packets);
        assert_eq!(out, [(1, 3, true), (2, 1, false)]);
        assert_eq!((pictures.awaits_keyframe(), pictures.dropped), (false, 1));
    }

    #[test]
    fn a_gap_drops_up_to_the_next_keyframe() {
        let mut packets = keyframe(1);
        packets.extend([packet(2, false, SLICE), Ordered::Gap, packet(2, true, SLICE), packet(3, true, SLICE)]);
        let (out, pictures) = gather(packets);
        assert_eq!(out, [(1, 3, true)]);
        assert_eq!((pictures.awaits_keyframe(), pictures.dropped), (true, 3));
        let mut packets = keyframe(1);
        packets.push(Ordered::Gap);
        packets.extend(keyframe(4));
        assert_eq!(gather(packets).0, [(1, 3, true), (4, 3, true)]);
    }

    #[test]
    fn a_new_timestamp_ends_a_picture_without_a_marker() {
        let mut packets = keyframe(1);
        packets.extend([packet(2, false, SLICE), packet(2, false, SLICE), packet(3, true, SLICE)]);
        assert_eq!(gather(packets).0, [(1, 3, true), (2, 2, false), (3, 1, false)]);
    }

    #[test]
    fn parameter_sets_of_their_own_go_in_front_of_their_picture() {
        let packets = vec![packet(1, true, SPS), packet(1, true, PPS), packet(2, true, IDR), packet(3, true, SLICE)];
        assert_eq!(gather(packets).0, [(2, 3, true), (3, 1, false)]);
    }

    #[test]
    fn parameter_sets_that_were_sent_once_are_repeated() {
        let mut packets = keyframe(1);
        packets.push(packet(2, true, IDR));
        assert_eq!(gather(packets).0, [(1, 3, true), (2, 3, true)]);
        let (out, pictures) = gather(vec![packet(2, true, IDR)]);
        assert_eq!(out, [], "no decoder could begin here");
        assert!(pictures.awaits_keyframe());
    }

    #[test]
    fn a_source_without_keyframes_goes_on_half_a_minute_after_a_loss() {
        let begin = Instant::now();
        let at = |second: u64, payload: &[u8]| {
            let Ordered::Packet(packet) = packet(second as u32 + 10, true, payload) else { unreachable!() };
            Ordered::Packet(MediaPacket { arrival: begin + Duration::from_secs(second), ..packet })
        };
        let mut packets = keyframe(1);
        packets.push(Ordered::Gap);
        packets.extend((0..32).map(|second| at(second, SLICE)));
        let (out, pictures) = gather(packets);
        assert_eq!(out, [(1, 3, true), (40, 1, false), (41, 1, false)]);
        assert!(!pictures.awaits_keyframe());
        let unknown = (0..40).map(|second| at(second, SLICE)).collect();
        assert_eq!(gather(unknown).0, [], "without parameter sets no decoder could begin");
    }

    #[test]
    fn pictures_bear_the_parameter_sets_of_the_latest_keyframe() {
        let aggregate = [&[24][..], &[0, SPS.len() as u8], SPS, &[0, PPS.len() as u8], PPS, &[0, 3], IDR].concat();
        for packets in [vec![packet(1, true, &aggregate)], keyframe(1)] {
            let (mut pictures, mut out) = (Pictures::default(), Vec::new());
            packets.into_iter().chain([packet(2, true, SLICE)]).for_each(|packet| pictures.push(packet, &mut out));
            assert_eq!(out.iter().map(|picture| picture.sets.len()).collect::<Vec<_>>(), [2, 2]);
            assert_eq!((&*out[1].sets[0], &*out[1].sets[1]), (SPS, PPS));
        }
    }

    #[test]
    fn an_endless_picture_is_given_up() {
        let mut packets = keyframe(1);
        packets.extend((0..=PACKETS_MAX).map(|_| packet(2, false, SLICE)));
        let (out, pictures) = gather(packets);
        assert_eq!(out, [(1, 3, true)]);
        assert!(pictures.awaits_keyframe());
    }
}

//! The latest packets of one track, for retransmission (RFC 4588) to all its subscribers, and for a start in the past
//! where the source takes no keyframe requests.
//!
//! A packet is kept as it came: its payload is the one allocation that brought it in, shared and not copied.
//!
//! **Invariant:** what is kept is bounded by number, by bytes and by age, and is of one source epoch.

use std::time::{Duration, Instant};

use super::packet::RelayPacket;

/// The most packets kept: at 20 Mbit/s about a second.
const PACKETS_MAX: usize = 2_048;

/// The most bytes of payload kept.
const BYTES_MAX: usize = 8 << 20;

/// The longest that a packet is kept: the past that a viewer may be shown at a stroke.
const AGE_MAX: Duration = Duration::from_secs(4);

/// The longest that a packet is sent again: later, a receiver has long asked for a keyframe.
const REPAIR_AGE_MAX: Duration = Duration::from_secs(2);

/// The most packets that a viewer is started with: they are sent at a stroke, to each who comes.
const START_PACKETS_MAX: u64 = 1_024;

/// A track's packets, by their sequence numbers.
#[derive(Debug, Default)]
pub struct PacketRing {
    /// Empty until the first packet comes: a track of audio never needs it.
    slots: Vec<Option<RelayPacket>>,
    epoch: u32,
    /// One past the highest sequence number kept.
    end: u64,
    /// Nothing below this sequence number is kept.
    begin: u64,
    bytes: usize,
}

impl PacketRing {
    /// Keeps a packet; older ones make room. Another epoch's packet empties the ring first.
    pub fn insert(&mut self, packet: RelayPacket, now: Instant) {
        if self.slots.is_empty() {
            self.slots.resize_with(PACKETS_MAX, || None);
        }
        let (epoch, sequence) = (packet.media.epoch, packet.media.sequence);
        if epoch != self.epoch || self.begin == self.end {
            self.clear();
            (self.epoch, self.begin, self.end) = (epoch, sequence, sequence);
        }
        if sequence < self.begin {
            let is_near = self.end - sequence <= PACKETS_MAX as u64;
            if !is_near {
                return;
            }
            self.begin = sequence;
        }
        if sequence >= self.end {
            if sequence - self.end >= PACKETS_MAX as u64 {
                self.clear();
                self.begin = sequence;
            }
            self.end = sequence + 1;
        }
        let payload_bytes = packet.media.payload.len();
        if let Some(place) = self.slots.get_mut(place_of(sequence)) {
            let before = place.replace(packet);
            self.bytes = self.bytes + payload_bytes - before.map_or(0, |before| before.media.payload.len());
        }
        self.shrink(now);
    }

    /// The packet with this epoch and extended sequence number, if it is still kept and young enough to be sent again.
    #[must_use]
    pub fn get(&self, epoch: u32, sequence: u64, now: Instant) -> Option<&RelayPacket> {
        let packet = self.at(sequence)?;
        (packet.media.epoch == epoch && now <= packet.media.arrival + REPAIR_AGE_MAX).then_some(packet)
    }

    /// All packets from the latest at which a decoder can begin to the newest; `None` where one between them is missing,
    /// or where that is too long ago.
    pub fn from_latest_start(&self, now: Instant) -> Option<impl Iterator<Item = &RelayPacket> + Clone> {
        let lowest = self.begin.max(self.end.saturating_sub(START_PACKETS_MAX));
        let mut start = self.end;
        loop {
            start = start.checked_sub(1).filter(|start| *start >= lowest)?;
            let packet = self.at(start).filter(|packet| now <= packet.media.arrival + AGE_MAX)?;
            if packet.begins {
                return Some((start..self.end).filter_map(|sequence| self.at(sequence)));
            }
        }
    }

    fn at(&self, sequence: u64) -> Option<&RelayPacket> {
        let packet = self.slots.get(place_of(sequence))?.as_ref()?;
        (packet.media.sequence == sequence).then_some(packet)
    }

    /// How many bytes of payload are kept.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the oldest packets until the rest is within the bounds.
    fn shrink(&mut self, now: Instant) {
        while self.begin < self.end {
            let slot = self.slots.get_mut(place_of(self.begin));
            let Some(place) = slot else {
                break;
            };
            let is_old = match place {
                Some(packet) if packet.media.sequence == self.begin => now > packet.media.arrival + AGE_MAX,
                // Nothing there, or the place was given to a newer one.
                _ => {
                    self.begin += 1;
                    continue;
                }
            };
            let is_full = self.bytes > BYTES_MAX || self.end - self.begin > PACKETS_MAX as u64;
            if !is_old && !is_full {
                break;
            }
            let gone = place.take().map_or(0, |packet| packet.media.payload.len());
            self.bytes = self.bytes.saturating_sub(gone);
            self.begin += 1;
        }
    }

    fn clear(&mut self) {
        self.slots.fill_with(|| None);
        self.bytes = 0;
        self.begin = self.end;
    }
}

fn place_of(sequence: u64) -> usize {
    (sequence % PACKETS_MAX as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::packet::{PassedExtensions, test_spec};
    use crate::rtp::codec::{Codec, TrackKind};
    use crate::rtp::packet::MediaPacket;
    use crate::rtp::test_epoch;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn packet(epoch: u32, sequence: u64, payload_bytes: usize, arrival: Instant) -> RelayPacket {
        let media = MediaPacket {
            kind: TrackKind::Video,
            codec: Codec::H264,
            epoch,
            sequence,
            timestamp: 0,
            marker: false,
            payload: Arc::from(vec![0; payload_bytes]),
            arrival,
            sender_report: None,
        };
        RelayPacket {
            media,
            format: 1,
            begins: false,
            captured: arrival,
            extensions: PassedExtensions::default(),
            spec: test_spec(),
            vp8: None,
        }
    }

    fn kept(ring: &PacketRing, epoch: u32, sequences: std::ops::Range<u64>, now: Instant) -> Vec<u64> {
        sequences.filter(|sequence| ring.get(epoch, *sequence, now).is_some()).collect()
    }

    #[test]
    fn packets_are_found_by_epoch_and_number() {
        let now = test_epoch();
        let mut ring = PacketRing::default();
        assert!(ring.get(1, 5, now).is_none());
        for sequence in [5, 7, 6, 9] {
            ring.insert(packet(1, sequence, 10, now), now);
        }
        assert_eq!(kept(&ring, 1, 0..20, now), [5, 6, 7, 9]);
        assert_eq!(kept(&ring, 2, 0..20, now), [0; 0]);
        assert!(ring.get(1, 5 + PACKETS_MAX as u64, now).is_none());
        ring.insert(packet(1, 3, 10, now), now);
        assert_eq!(kept(&ring, 1, 0..20, now), [3, 5, 6, 7, 9]);
    }

    #[test]
    fn another_epoch_empties_it() {
        let now = test_epoch();
        let mut ring = PacketRing::default();
        ring.insert(packet(1, 5, 10, now), now);
        ring.insert(packet(2, 5, 20, now), now);
        assert!(ring.get(1, 5, now).is_none() && ring.get(2, 5, now).is_some());
        assert_eq!(ring.len_bytes(), 20);
    }

    #[test]
    fn old_packets_go() {
        let start = test_epoch();
        let mut ring = PacketRing::default();
        ring.insert(packet(1, 1, 10, start), start);
        let later = start + REPAIR_AGE_MAX + Duration::from_millis(1);
        assert!(ring.get(1, 1, later).is_none(), "too old to be asked for");
        let later = start + AGE_MAX + Duration::from_millis(1);
        ring.insert(packet(1, 2, 10, later), later);
        assert_eq!(ring.len_bytes(), 10);
    }

    #[test]
    fn a_start_is_the_latest_beginning_with_all_that_follows() {
        let start = test_epoch();
        let mut ring = PacketRing::default();
        let sequences = |ring: &PacketRing, now| -> Option<Vec<u64>> {
            Some(ring.from_latest_start(now)?.map(|packet| packet.media.sequence).collect())
        };
        assert_eq!(sequences(&ring, start), None);
        let beginning = |sequence| RelayPacket { begins: true, ..packet(1, sequence, 10, start) };
        ring.insert(packet(1, 1, 10, start), start);
        assert_eq!(sequences(&ring, start), None, "nothing begins");
        for sequence in [2, 5] {
            ring.insert(beginning(sequence), start);
            ring.insert(packet(1, sequence + 1, 10, start), start);
        }
        assert_eq!(sequences(&ring, start), Some(vec![5, 6]));
        ring.insert(packet(1, 8, 10, start), start);
        assert_eq!(sequences(&ring, start), None, "one is missing");
        ring.insert(packet(1, 7, 10, start), start);
        assert_eq!(sequences(&ring, start), Some(vec![5, 6, 7, 8]));
        assert_eq!(sequences(&ring, start + AGE_MAX).map(|all| all.len()), Some(4));
        assert_eq!(sequences(&ring, start + AGE_MAX + Duration::from_millis(1)), None, "too long ago");
        for sequence in 9..5 + START_PACKETS_MAX {
            ring.insert(packet(1, sequence, 10, start), start);
        }
        assert_eq!(sequences(&ring, start).map(|all| all.len() as u64), Some(START_PACKETS_MAX));
        ring.insert(packet(1, 5 + START_PACKETS_MAX, 10, start), start);
        assert_eq!(sequences(&ring, start), None, "too much");
    }

    #[test]
    fn number_and_bytes_are_bounded() {
        let now = test_epoch();
        let mut ring = PacketRing::default();
        for sequence in 0..5_000 {
            ring.insert(packet(1, sequence, 1, now), now);
        }
        assert_eq!(kept(&ring, 1, 0..5_000, now).len(), PACKETS_MAX);
        assert_eq!(ring.len_bytes(), PACKETS_MAX);
        for sequence in 5_000..5_020 {
            ring.insert(packet(1, sequence, 1 << 20, now), now);
        }
        assert!(ring.len_bytes() <= BYTES_MAX);
        assert!(ring.get(1, 5_019, now).is_some());
        ring.insert(packet(1, 1 << 40, 1, now), now);
        assert_eq!(ring.len_bytes(), 1, "a leap leaves nothing behind");
    }

    proptest! {
        #[test]
        fn whatever_comes_bytes_are_those_of_what_is_kept(
            packets in prop::collection::vec((0_u32..3, 0_u64..6_000, 0_usize..100, 0_u64..900), 1..200),
        ) {
            let mut now = test_epoch();
            let mut ring = PacketRing::default();
            for (epoch, sequence, payload_bytes, elapsed_ms) in packets {
                now += Duration::from_millis(elapsed_ms);
                ring.insert(packet(epoch, sequence, payload_bytes, now), now);
                let bytes: usize = ring.slots.iter().flatten().map(|packet| packet.media.payload.len()).sum();
                prop_assert_eq!(bytes, ring.len_bytes());
                prop_assert!(ring.end - ring.begin <= PACKETS_MAX as u64 && ring.len_bytes() <= BYTES_MAX);
            }
        }
    }
}

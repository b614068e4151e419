//! Puts one track's packets back in the order in which they were sent.
//!
//! **Invariant:** what comes out rises strictly in sequence within an epoch, and each hole is told as a gap.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::hub::io::MediaPacket;

/// How long a hole is kept open: a retransmission over a slow path takes a few hundred milliseconds, and a recording is
/// in no hurry.
pub const WAIT: Duration = Duration::from_millis(500);

/// How long the first packets of an epoch are held: the very first may have been overtaken.
pub const BEGIN_WAIT: Duration = Duration::from_millis(200);

/// Packets held behind a hole, at most; more closes the hole at once. Half a second of 20 Mbit/s.
pub const HELD_MAX_PACKETS: usize = 1024;

/// What comes out.
#[derive(Debug)]
pub enum Ordered {
    /// The next packet.
    Packet(MediaPacket),
    /// Packets that never came.
    Gap,
}

/// The reordering buffer of one track.
#[derive(Debug, Default)]
pub struct Reorder {
    epoch: Option<u32>,
    /// The next sequence number; none while the first packets of an epoch are held.
    next: Option<u64>,
    began: Option<Instant>,
    held: BTreeMap<u64, MediaPacket>,
    /// Packets given up as lost.
    pub lost: u64,
    /// Packets dropped because they came twice, or after they had been given up.
    pub late: u64,
}

impl Reorder {
    /// Takes a packet as it came.
    pub fn push(&mut self, packet: MediaPacket, out: &mut Vec<Ordered>) {
        match self.epoch {
            Some(epoch) if packet.epoch == epoch => {}
            Some(epoch) if packet.epoch < epoch => {
                self.late = self.late.saturating_add(1);
                return;
            }
            _ => {
                self.flush(out);
                self.epoch = Some(packet.epoch);
                self.next = None;
                self.began = Some(packet.arrival);
            }
        }
        let is_past = self.next.is_some_and(|next| packet.sequence < next);
        if is_past || self.held.contains_key(&packet.sequence) {
            self.late = self.late.saturating_add(1);
            return;
        }
        self.held.insert(packet.sequence, packet);
        self.drain(out);
        if self.held.len() > HELD_MAX_PACKETS {
            self.close_gap(out);
        }
    }

    /// Gives up the holes that have been open for longer than [`WAIT`].
    pub fn release(&mut self, now: Instant, out: &mut Vec<Ordered>) {
        let has_waited = |since: Instant, wait| now.saturating_duration_since(since) >= wait;
        if self.next.is_none() && self.began.is_some_and(|began| has_waited(began, BEGIN_WAIT)) {
            self.begin(out);
        }
        while self.next.is_some()
            && self.held.first_key_value().is_some_and(|(_, first)| has_waited(first.arrival, WAIT))
        {
            self.close_gap(out);
        }
    }

    /// Gives up every hole: nothing more comes.
    pub fn flush(&mut self, out: &mut Vec<Ordered>) {
        while !self.held.is_empty() {
            self.close_gap(out);
        }
    }

    /// The lowest number that has come is the first.
    fn begin(&mut self, out: &mut Vec<Ordered>) {
        self.next = self.held.first_key_value().map(|(&first, _)| first);
        self.drain(out);
    }

    fn close_gap(&mut self, out: &mut Vec<Ordered>) {
        let (Some(next), Some((&first, _))) = (self.next, self.held.first_key_value()) else {
            return self.begin(out);
        };
        self.lost = self.lost.saturating_add(first.saturating_sub(next));
        self.next = Some(first);
        out.push(Ordered::Gap);
        self.drain(out);
    }

    fn drain(&mut self, out: &mut Vec<Ordered>) {
        while let Some(next) = self.next
            && let Some(packet) = self.held.remove(&next)
        {
            self.next = Some(next.wrapping_add(1));
            out.push(Ordered::Packet(packet));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::codec::{Codec, TrackKind};

    fn packet(start: Instant, sequence: u64, arrival_ms: u64) -> MediaPacket {
        MediaPacket {
            kind: TrackKind::Video,
            codec: Codec::Vp8,
            epoch: 0,
            sequence,
            timestamp: 0,
            marker: true,
            payload: Vec::new().into(),
            arrival: start + Duration::from_millis(arrival_ms),
            sender_report: None,
        }
    }

    /// Sequence numbers, with 0 for a gap.
    fn sequences(out: &[Ordered]) -> Vec<u64> {
        out.iter().map(|o| if let Ordered::Packet(p) = o { p.sequence } else { 0 }).collect()
    }

    #[test]
    fn packets_that_overtook_each_other_come_out_in_order_and_once() {
        let (start, mut reorder, mut out) = (Instant::now(), Reorder::default(), Vec::new());
        for sequence in [11, 10, 12, 14, 12] {
            reorder.push(packet(start, sequence, 0), &mut out);
        }
        assert_eq!(sequences(&out), [0_u64; 0], "the first may still come");
        reorder.release(start + BEGIN_WAIT, &mut out);
        for sequence in [15, 14, 13, 13, 16] {
            reorder.push(packet(start, sequence, 200), &mut out);
        }
        assert_eq!(sequences(&out), [10, 11, 12, 13, 14, 15, 16]);
        assert_eq!((reorder.lost, reorder.late), (0, 3));
    }

    #[test]
    fn a_hole_is_given_up_after_the_wait_and_not_before() {
        let (start, mut reorder, mut out) = (Instant::now(), Reorder::default(), Vec::new());
        reorder.push(packet(start, 1, 0), &mut out);
        reorder.push(packet(start, 4, 10), &mut out);
        reorder.release(start + Duration::from_millis(509), &mut out);
        assert_eq!(sequences(&out), [1]);
        reorder.release(start + Duration::from_millis(510), &mut out);
        assert_eq!(sequences(&out), [1, 0, 4]);
        reorder.push(packet(start, 3, 600), &mut out);
        assert_eq!(sequences(&out), [1, 0, 4], "too late");
        assert_eq!((reorder.lost, reorder.late), (2, 1));
    }

    #[test]
    fn a_full_buffer_gives_up_its_hole() {
        let (start, mut reorder, mut out) = (Instant::now(), Reorder::default(), Vec::new());
        reorder.push(packet(start, 1, 0), &mut out);
        reorder.release(start + BEGIN_WAIT, &mut out);
        for sequence in 0..=HELD_MAX_PACKETS as u64 {
            reorder.push(packet(start, 3 + sequence, 200), &mut out);
        }
        assert_eq!(out.len(), HELD_MAX_PACKETS + 3);
        assert_eq!(reorder.lost, 1);
    }

    #[test]
    fn a_new_epoch_begins_at_its_own_first_number() {
        let (start, mut reorder, mut out) = (Instant::now(), Reorder::default(), Vec::new());
        reorder.push(packet(start, 9000, 0), &mut out);
        reorder.push(MediaPacket { epoch: 1, ..packet(start, 5, 0) }, &mut out);
        reorder.push(packet(start, 9001, 0), &mut out);
        reorder.flush(&mut out);
        assert_eq!(sequences(&out), [9000, 5]);
        assert_eq!((reorder.lost, reorder.late), (0, 1));
    }
}

//! Sound that is not written yet: it waits for the picture of its time, or for a file.
//!
//! **Invariant:** it holds six seconds at most, in the order in which it came.

use std::collections::VecDeque;

use crate::hub::io::MediaPacket;

/// Sound does not wait longer than this for a picture of its time: the picture has paused.
const BEHIND_MAX_NS: i64 = 1_000_000_000;

/// Sound that is kept for a file that is about to begin.
const KEPT_NS: i64 = 6_000_000_000;

/// Packets held, at most.
const HELD_MAX_PACKETS: usize = 1024;

/// The queue.
#[derive(Debug, Default)]
pub struct HeldSound {
    held: VecDeque<(i64, MediaPacket)>,
    /// Packets that belonged to no file.
    pub dropped: u64,
}

impl HeldSound {
    /// Takes a packet that stands at `at_ns`.
    pub fn push(&mut self, at_ns: i64, sound: MediaPacket) {
        if self.held.len() >= HELD_MAX_PACKETS {
            self.drop_first();
        }
        self.held.push_back((at_ns, sound));
    }

    /// Where the first packet stands.
    pub fn first_ns(&self) -> Option<i64> {
        self.held.front().map(|(at_ns, _)| *at_ns)
    }

    /// The next packet, where it stands before a moment.
    pub fn take_before(&mut self, before_ns: i64) -> Option<(i64, MediaPacket)> {
        self.take_if(|at_ns| at_ns < before_ns)
    }

    /// The next packet, where the picture has come so far, or has stayed too far behind.
    pub fn take_due(&mut self, picture_ns: i64) -> Option<(i64, MediaPacket)> {
        let late_ns = self.held.back().map_or(i64::MIN, |(at_ns, _)| at_ns.saturating_sub(BEHIND_MAX_NS));
        // Nothing goes out ahead of the first picture.
        let until_ns = if picture_ns == i64::MIN { i64::MIN } else { picture_ns.max(late_ns) };
        self.take_if(|at_ns| at_ns <= until_ns)
    }

    /// Drops what stands before a moment: no file holds it.
    pub fn drop_before(&mut self, before_ns: i64) {
        while self.first_ns().is_some_and(|at_ns| at_ns < before_ns) {
            self.drop_first();
        }
    }

    /// Keeps the latest seconds.
    pub fn forget_old(&mut self) {
        let oldest_ns = self.held.back().map_or(i64::MIN, |(at_ns, _)| at_ns.saturating_sub(KEPT_NS));
        // It belongs to a time of which nothing is recorded.
        while self.take_if(|at_ns| at_ns < oldest_ns).is_some() {}
    }

    fn take_if(&mut self, wanted: impl Fn(i64) -> bool) -> Option<(i64, MediaPacket)> {
        self.first_ns().filter(|at_ns| wanted(*at_ns))?;
        self.held.pop_front()
    }

    fn drop_first(&mut self) {
        self.held.pop_front();
        self.dropped = self.dropped.saturating_add(1);
    }
}

//! Deadlines of many owners in one heap.
//!
//! **Invariant:** each owner has at most one live entry; entries that were overtaken are skipped when they come up, so
//! moving a deadline later costs nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Instant;

/// A heap of deadlines; `K` names the owner.
#[derive(Debug)]
pub struct Timers<K> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
    scheduled: BTreeMap<K, Instant>,
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), scheduled: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Makes sure that `owner` comes up at `at` or earlier.
    ///
    /// An entry that stands for an earlier time stays: its owner comes up once too early and schedules itself anew,
    /// which is cheaper than finding and moving the entry each time a deadline shifts.
    pub fn schedule(&mut self, owner: K, at: Instant) {
        if self.scheduled.get(&owner).is_some_and(|stands| *stands <= at) {
            return;
        }
        self.scheduled.insert(owner, at);
        self.heap.push(Reverse((at, owner)));
    }

    /// Forgets `owner`.
    pub fn cancel(&mut self, owner: K) {
        self.scheduled.remove(&owner);
    }

    /// How many owners have an entry.
    pub fn len(&self) -> usize {
        self.scheduled.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.scheduled.is_empty()
    }

    /// When the next owner comes up.
    pub fn next_at(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, owner))) = self.heap.peek().copied() {
            if self.scheduled.get(&owner) == Some(&at) {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }

    /// An owner whose time has come. It has no entry any more.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        if self.next_at()? > now {
            return None;
        }
        let Reverse((_, owner)) = self.heap.pop()?;
        self.scheduled.remove(&owner);
        Some(owner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rtp::test_epoch;

    #[test]
    fn owners_come_up_in_order_and_once() {
        let start = test_epoch();
        let mut timers = Timers::default();
        for (owner, at_ms) in [(1, 30), (2, 10), (3, 20)] {
            timers.schedule(owner, start + Duration::from_millis(at_ms));
        }
        assert_eq!(timers.next_at(), Some(start + Duration::from_millis(10)));
        assert_eq!(timers.pop(start), None);
        let late = start + Duration::from_millis(25);
        assert_eq!((timers.pop(late), timers.pop(late), timers.pop(late)), (Some(2), Some(3), None));
    }

    #[test]
    fn an_earlier_deadline_overtakes_and_a_later_one_waits_for_its_owner() {
        let start = test_epoch();
        let mut timers = Timers::default();
        timers.schedule(1, start + Duration::from_millis(50));
        timers.schedule(1, start + Duration::from_millis(10));
        timers.schedule(1, start + Duration::from_millis(90));
        assert_eq!(timers.pop(start + Duration::from_millis(10)), Some(1));
        assert_eq!(timers.pop(start + Duration::from_millis(100)), None);
    }

    #[test]
    fn a_cancelled_owner_does_not_come_up() {
        let start = test_epoch();
        let mut timers = Timers::default();
        timers.schedule(1, start);
        timers.cancel(1);
        assert_eq!((timers.next_at(), timers.pop(start)), (None, None));
    }
}

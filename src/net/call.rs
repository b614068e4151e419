//! Which messages leave with one system call.
//!
//! All messages of a call share the address that they leave from and the length that they are cut at. Runs of several
//! lengths by turns are common: the end of one frame and the beginning of the next, for each viewer. Taken strictly in
//! order, each would need a call of its own; so a call looks ahead for those that fit in with its first.
//!
//! **Invariant:** nothing overtakes a datagram to the same destination.

use std::net::{IpAddr, SocketAddr};

use super::addresses::Addresses;
use super::arena::{Arena, Run};
use super::sendmmsg::{CALL_MAX, Common};

/// How far a call looks ahead for runs that fit in: four kinds of them by turns still fill a call.
const LOOK_AHEAD: usize = 4 * CALL_MAX;

/// What one system call is to send.
pub struct Call {
    /// Whether each datagram is a message of its own; else each run is one.
    pub is_singly: bool,
    /// What its messages share.
    pub common: Common,
    places: [usize; CALL_MAX],
    runs: usize,
}

impl Call {
    /// As many messages as fit in with the oldest one that waits; `None` when nothing waits.
    pub fn next(arena: &Arena, addresses: &Addresses, has_segments: bool) -> Option<Self> {
        let waiting = arena.waiting();
        let first = waiting.first()?;
        let source = addresses.departure(first.path.source);
        let common = Common { source, segment_bytes: None };
        let is_singly = first.is_refused || !has_segments;
        let mut call = Self { is_singly, common, places: [0; CALL_MAX], runs: 1 };
        if first.is_refused {
            return Some(call);
        }
        call.runs = 0;
        let leaves_alike =
            |run: &Run| run.path.source == first.path.source || addresses.departure(run.path.source) == source;
        let mut cut = Cut::default();
        let mut passed_over = PassedOver([0; 64]);
        for (place, run) in waiting.iter().enumerate().take(LOOK_AHEAD).filter(|(_, run)| !run.is_gone()) {
            let fits = !run.is_refused
                && !passed_over.contains(run.path.destination)
                && leaves_alike(run)
                && (is_singly || cut.takes(run));
            if !fits {
                passed_over.insert(run.path.destination);
                continue;
            }
            let Some(free) = call.places.get_mut(call.runs) else {
                break;
            };
            *free = place;
            call.runs += 1;
        }
        call.common.segment_bytes = cut.segment_bytes;
        Some(call)
    }

    /// Places of its runs among those that wait, in the order in which they are sent.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.places.into_iter().take(self.runs)
    }

    /// The place of the run that is sent first.
    pub fn first(&self) -> usize {
        self.places.first().copied().unwrap_or_default()
    }
}

/// The length that the messages of a call are cut at. What is no longer the kernel leaves alone, so single datagrams may
/// go with runs of longer ones.
#[derive(Default)]
struct Cut {
    segment_bytes: Option<u16>,
    longest_single_bytes: u16,
}

impl Cut {
    fn takes(&mut self, run: &Run) -> bool {
        let is_single = run.datagrams == 1;
        match self.segment_bytes {
            Some(segment_bytes) if is_single => run.segment_bytes <= segment_bytes,
            Some(segment_bytes) => run.segment_bytes == segment_bytes,
            None if is_single => {
                self.longest_single_bytes = self.longest_single_bytes.max(run.segment_bytes);
                true
            }
            None if self.longest_single_bytes <= run.segment_bytes => {
                self.segment_bytes = Some(run.segment_bytes);
                true
            }
            None => false,
        }
    }
}

/// Destinations of the runs that a call leaves waiting. It may take one for another, which delays that until the next
/// call and does no harm.
struct PassedOver([u64; 64]);

impl PassedOver {
    fn insert(&mut self, destination: SocketAddr) {
        let (word, bit) = Self::place(destination);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    fn contains(&self, destination: SocketAddr) -> bool {
        let (word, bit) = Self::place(destination);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Word and bit of a destination, by the upper bits of a product, which depend on all bits of the address.
    fn place(destination: SocketAddr) -> (usize, u64) {
        let ip = match destination.ip() {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ (ip.to_bits() as u64).rotate_left(16),
        };
        let hash = (ip.rotate_left(16) ^ u64::from(destination.port())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((hash >> 58) as usize, 1 << (hash >> 52 & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::sink::{Path, Traffic};
    use crate::net::arena::SEGMENTS_MAX;

    /// Puts `count` datagrams of `len_bytes` to 127.0.0.1 and each port.
    fn put(arena: &mut Arena, runs: &[(u16, usize, usize)]) {
        for (port, len_bytes, count) in runs.iter().copied() {
            let path = Path::udp(([127, 0, 0, 1], 9).into(), ([127, 0, 0, 1], port).into());
            for _ in 0..count {
                arena.reserve(path, Traffic::Video, len_bytes).unwrap().fill(port as u8);
                arena.commit(len_bytes);
            }
        }
    }

    /// Port and bytes of each run of the next call, which go, and where they are cut.
    fn take(arena: &mut Arena, has_segments: bool) -> (Vec<(u16, usize)>, Option<u16>) {
        let addresses = Addresses::new(([127, 0, 0, 1], 9).into(), &[], &[]);
        let call = Call::next(arena, &addresses, has_segments).unwrap();
        let run = |place: usize| &arena.waiting()[place];
        let runs =
            call.places().map(|place| (run(place).path.destination.port(), arena.bytes(run(place)).len())).collect();
        for place in call.places() {
            arena.pass_run(place);
        }
        arena.settle();
        (runs, call.common.segment_bytes)
    }

    #[test]
    fn a_call_takes_runs_of_one_length_and_shorter_singles() {
        let mut arena = Arena::new(SEGMENTS_MAX);
        put(&mut arena, &[(1, 40, 1), (2, 100, 3), (3, 100, 2), (4, 90, 1), (5, 101, 1), (6, 80, 2), (7, 100, 1)]);
        let (runs, cut) = take(&mut arena, true);
        assert_eq!((runs, cut), (vec![(1, 40), (2, 300), (3, 200), (4, 90), (7, 100)], Some(100)));
        assert_eq!(take(&mut arena, true), (vec![(5, 101)], None), "longer than the run's datagrams");
        assert_eq!(take(&mut arena, true), (vec![(6, 160)], Some(80)));
        assert!(arena.waiting().is_empty());
    }

    #[test]
    fn lengths_that_take_turns_need_a_call_for_each_length_alone() {
        let mut arena = Arena::new(SEGMENTS_MAX);
        let ports = 1..=60;
        for port in ports.clone() {
            put(&mut arena, &[(port, 1_131, 2), (port, 1_132, 3)]);
        }
        for (bytes, cut) in [(2_262, 1_131), (3_396, 1_132)] {
            let wanted = ports.clone().map(|port| (port, bytes)).collect();
            assert_eq!(take(&mut arena, true), (wanted, Some(cut)));
        }
        assert!(arena.waiting().is_empty());
    }

    #[test]
    fn nothing_overtakes_what_goes_to_the_same_destination() {
        let mut arena = Arena::new(SEGMENTS_MAX);
        put(&mut arena, &[(1, 100, 2), (2, 200, 2), (3, 100, 2), (2, 100, 2), (1, 100, 1), (2, 50, 1)]);
        assert_eq!(take(&mut arena, true).0, [(1, 200), (3, 200), (1, 100)]);
        assert_eq!(take(&mut arena, true).0, [(2, 400)]);
        assert_eq!(take(&mut arena, true).0, [(2, 200), (2, 50)]);
    }

    #[test]
    fn without_segments_length_does_not_matter() {
        let mut arena = Arena::new(SEGMENTS_MAX);
        put(&mut arena, &[(1, 100, 2), (1, 150, 1), (2, 200, 2)]);
        assert_eq!(take(&mut arena, false), (vec![(1, 200), (1, 150), (2, 400)], None));
    }

    #[test]
    fn what_was_refused_goes_alone() {
        let mut arena = Arena::new(SEGMENTS_MAX);
        put(&mut arena, &[(1, 100, 2), (2, 100, 2), (3, 100, 2)]);
        arena.refuse(1);
        assert_eq!(take(&mut arena, true).0, [(1, 200), (3, 200)]);
        assert_eq!(take(&mut arena, true), (vec![(2, 200)], None));
    }
}

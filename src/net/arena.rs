//! The memory of the send batch: datagrams back to back, gathered into runs.
//!
//! A run is what the kernel can cut into datagrams by itself: all on one path and of one length, but for the last, which
//! may be shorter.
//!
//! **Invariant:** its memory is allocated once; what waits stays in the order of its commits; a datagram that has found
//! room is dropped only by [`Arena::make_room`], which says so.

use crate::egress::sink::{Path, Traffic};

/// What the arena holds, in bytes: about 950 video packets. More would only push the packets out of the processor's
/// cache before the kernel copies them.
const ARENA_BYTES: usize = 1 << 20;

/// How many runs the arena holds: short datagrams fill it up by number before they do by size.
const RUNS_MAX: usize = 2_048;

/// The most datagrams in a run: `UDP_MAX_SEGMENTS` of kernels up to 6.8, later ones take twice as many.
pub const SEGMENTS_MAX: u16 = 64;

/// The most bytes in a run: with its headers it must fit an IP packet.
const RUN_MAX_BYTES: usize = 65_000;

/// Datagrams on one path that may leave as one message.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Where they go.
    pub path: Path,
    /// How many of them wait.
    pub datagrams: u16,
    /// The length of each in bytes, but for the last, which may be shorter.
    pub segment_bytes: u16,
    /// Whether the kernel did not take it as a whole.
    pub is_refused: bool,
    traffic: Traffic,
    is_closed: bool,
    offset: usize,
    len_bytes: usize,
}

impl Run {
    /// Whether none of its datagrams waits any more.
    pub fn is_gone(&self) -> bool {
        self.datagrams == 0
    }

    fn takes(&self, path: Path, traffic: Traffic, len_bytes: usize, segments_max: u16) -> bool {
        !self.is_closed
            && !self.is_gone()
            && self.datagrams < segments_max
            && (1..=usize::from(self.segment_bytes)).contains(&len_bytes)
            && self.len_bytes + len_bytes <= RUN_MAX_BYTES
            && self.traffic == traffic
            && self.path == path
    }
}

/// Datagrams that were dropped, by what they carried.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// RTP of video tracks.
    pub video: u64,
    /// RTP of audio tracks.
    pub audio: u64,
    /// All else.
    pub control: u64,
}

#[derive(Debug, Clone, Copy)]
struct Reserved {
    path: Path,
    traffic: Traffic,
    len_bytes: usize,
}

/// Runs that wait, and the bytes of their datagrams.
pub struct Arena {
    memory: Box<[u8]>,
    end: usize,
    /// Those before `first` have been sent.
    runs: Vec<Run>,
    first: usize,
    reserved: Option<Reserved>,
    segments_max: u16,
}

impl Arena {
    /// An empty arena whose runs have up to `segments_max` datagrams.
    pub fn new(segments_max: u16) -> Self {
        Self {
            memory: vec![0; ARENA_BYTES].into_boxed_slice(),
            end: 0,
            runs: Vec::with_capacity(RUNS_MAX),
            first: 0,
            reserved: None,
            segments_max,
        }
    }

    /// Whether a datagram of `len_bytes` finds room.
    pub fn has_room(&self, len_bytes: usize) -> bool {
        self.runs.len() < RUNS_MAX && len_bytes <= self.memory.len() - self.end
    }

    /// Lends the room for the next datagram, which is of at most `u16::MAX` bytes.
    pub fn reserve(&mut self, path: Path, traffic: Traffic, len_bytes: usize) -> Option<&mut [u8]> {
        self.reserved = None;
        if !self.has_room(len_bytes) || len_bytes > usize::from(u16::MAX) {
            return None;
        }
        self.reserved = Some(Reserved { path, traffic, len_bytes });
        self.memory.get_mut(self.end..self.end + len_bytes)
    }

    /// Takes the first `len_bytes` of what was reserved last as a datagram.
    pub fn commit(&mut self, len_bytes: usize) {
        let Some(Reserved { path, traffic, len_bytes: reserved_bytes }) = self.reserved.take() else {
            return;
        };
        let len_bytes = len_bytes.min(reserved_bytes);
        let offset = self.end;
        self.end += len_bytes;
        let last = self.runs.get_mut(self.first..).and_then(<[Run]>::last_mut);
        if let Some(run) = last.filter(|run| run.takes(path, traffic, len_bytes, self.segments_max)) {
            run.datagrams += 1;
            run.len_bytes += len_bytes;
            run.is_closed = len_bytes < usize::from(run.segment_bytes);
            return;
        }
        let segment_bytes = u16::try_from(len_bytes).unwrap_or(u16::MAX);
        self.runs.push(Run {
            path,
            datagrams: 1,
            segment_bytes,
            is_refused: false,
            traffic,
            is_closed: false,
            offset,
            len_bytes,
        });
    }

    /// What waits, oldest first, and between it perhaps runs that [have gone](Run::is_gone). The first one has not.
    ///
    /// Places in it hold until [`settle`](Self::settle) or [`make_room`](Self::make_room).
    pub fn waiting(&self) -> &[Run] {
        self.runs.get(self.first..).unwrap_or_default()
    }

    /// The bytes of all datagrams of `run`.
    pub fn bytes(&self, run: &Run) -> &[u8] {
        self.memory.get(run.offset..run.offset + run.len_bytes).unwrap_or_default()
    }

    /// The bytes of each datagram of `run`.
    pub fn datagrams(&self, run: &Run) -> impl Iterator<Item = &[u8]> {
        let mut bytes = self.bytes(run);
        (0..run.datagrams).map(move |_| {
            let (datagram, rest) = bytes.split_at(bytes.len().min(usize::from(run.segment_bytes)));
            bytes = rest;
            datagram
        })
    }

    /// Notes that the kernel did not take the run at `place` as a whole.
    pub fn refuse(&mut self, place: usize) {
        if let Some(run) = self.runs.get_mut(self.first + place) {
            run.is_refused = true;
            run.is_closed = true;
        }
    }

    /// Lets the run at `place` go; returns how many datagrams those were.
    pub fn pass_run(&mut self, place: usize) -> usize {
        self.pass_datagrams(place, usize::from(u16::MAX))
    }

    /// Lets the first `count` datagrams of the run at `place` go; returns how many there were to go.
    pub fn pass_datagrams(&mut self, place: usize, count: usize) -> usize {
        let Some(run) = self.runs.get_mut(self.first + place) else {
            return 0;
        };
        let gone = run.datagrams.min(u16::try_from(count).unwrap_or(u16::MAX));
        let gone_bytes = run.len_bytes.min(usize::from(gone) * usize::from(run.segment_bytes));
        run.offset += gone_bytes;
        run.len_bytes -= gone_bytes;
        run.datagrams -= gone;
        usize::from(gone)
    }

    /// Forgets the runs in front that have gone; when nothing is left, all room is free again.
    pub fn settle(&mut self) {
        self.first += self.waiting().iter().take_while(|run| run.is_gone()).count();
        if self.first == self.runs.len() {
            self.runs.clear();
            self.first = 0;
            self.end = 0;
            self.reserved = None;
        }
    }

    /// Makes room of about half the arena: what waits moves to the front, and what is too much is dropped, the oldest
    /// video first, then the oldest audio, all else last. Whole runs go: a frame that lacks a part is of no use.
    pub fn make_room(&mut self) -> Dropped {
        self.runs.drain(..self.first);
        self.first = 0;
        self.runs.retain(|run| !run.is_gone());
        let waiting_bytes: usize = self.runs.iter().map(|run| run.len_bytes).sum();
        let mut excess_bytes = waiting_bytes.saturating_sub(ARENA_BYTES / 2);
        let mut excess_runs = self.runs.len().saturating_sub(RUNS_MAX / 2);
        self.reserved = None;
        let mut dropped = Dropped::default();
        let order = [
            (Traffic::Video, &mut dropped.video),
            (Traffic::Audio, &mut dropped.audio),
            (Traffic::Control, &mut dropped.control),
        ];
        for (traffic, count) in order {
            self.runs.retain(|run| {
                if run.traffic != traffic || (excess_bytes == 0 && excess_runs == 0) {
                    return true;
                }
                excess_bytes = excess_bytes.saturating_sub(run.len_bytes);
                excess_runs = excess_runs.saturating_sub(1);
                *count += u64::from(run.datagrams);
                false
            });
        }
        self.end = 0;
        for run in &mut self.runs {
            self.memory.copy_within(run.offset..run.offset + run.len_bytes, self.end);
            run.offset = self.end;
            self.end += run.len_bytes;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path::udp(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], port).into())
    }

    fn put(arena: &mut Arena, port: u16, traffic: Traffic, datagram: &[u8]) {
        arena.reserve(path(port), traffic, datagram.len()).unwrap().copy_from_slice(datagram);
        arena.commit(datagram.len());
    }

    /// Destination port, number of datagrams and bytes of each run that waits.
    fn shape(arena: &Arena) -> Vec<(u16, u16, usize)> {
        arena.waiting().iter().map(|run| (run.path.destination.port(), run.datagrams, run.len_bytes)).collect()
    }

    /// All datagrams that wait.
    fn all(arena: &Arena) -> Vec<Vec<u8>> {
        arena.waiting().iter().flat_map(|run| arena.datagrams(run)).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn a_run_has_one_path_one_kind_and_one_length_but_for_its_last() {
        let mut arena = Arena::new(SEGMENTS_MAX);
        let [long, short] = [[1; 100], [2; 100]].map(|bytes: [u8; 100]| bytes);
        put(&mut arena, 1, Traffic::Video, &long);
        put(&mut arena, 1, Traffic::Video, &long);
        put(&mut arena, 1, Traffic::Video, &short[..99]);
        put(&mut arena, 1, Traffic::Video, &short[..99]);
        put(&mut arena, 1, Traffic::Video, &long);
        put(&mut arena, 2, Traffic::Video, &long);
        put(&mut arena, 2, Traffic::Audio, &long);
        assert_eq!(shape(&arena), [(1, 3, 299), (1, 1, 99), (1, 1, 100), (2, 1, 100), (2, 1, 100)]);
        let lengths: Vec<usize> = all(&arena).iter().map(Vec::len).collect();
        assert_eq!(lengths, [100, 100, 99, 99, 100, 100, 100]);
    }

    #[test]
    fn a_run_ends_before_the_kernel_would_refuse_it() {
        let mut arena = Arena::new(SEGMENTS_MAX);
        for _ in 0..65 {
            put(&mut arena, 1, Traffic::Video, &[1; 50]);
        }
        for _ in 0..50 {
            put(&mut arena, 2, Traffic::Video, &[1; 1_500]);
        }
        assert_eq!(shape(&arena), [(1, 64, 3_200), (1, 1, 50), (2, 43, 64_500), (2, 7, 10_500)]);
    }

    #[test]
    fn a_reservation_without_a_commit_costs_nothing() {
        let mut arena = Arena::new(SEGMENTS_MAX);
        arena.reserve(path(1), Traffic::Video, 100).unwrap().fill(1);
        arena.reserve(path(2), Traffic::Audio, 100).unwrap().fill(2);
        arena.commit(60);
        arena.commit(60);
        assert_eq!(shape(&arena), [(2, 1, 60)]);
        assert_eq!(all(&arena), [vec![2; 60]]);
    }

    #[test]
    fn what_has_gone_is_gone_and_the_rest_stays_in_order() {
        let mut arena = Arena::new(SEGMENTS_MAX);
        for (port, byte) in [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (3, 6)] {
            put(&mut arena, port, Traffic::Video, &[byte; 10]);
        }
        assert_eq!(arena.pass_datagrams(0, 1), 1);
        arena.settle();
        assert_eq!(all(&arena), [[2; 10], [3; 10], [4; 10], [5; 10], [6; 10]]);
        assert_eq!(arena.pass_run(1), 2);
        arena.settle();
        assert_eq!(shape(&arena), [(1, 2, 20), (2, 0, 0), (3, 1, 10)]);
        assert_eq!(arena.pass_datagrams(0, 64), 2);
        arena.settle();
        assert_eq!(shape(&arena), [(3, 1, 10)]);
        assert_eq!(arena.pass_run(0), 1);
        put(&mut arena, 3, Traffic::Video, &[7; 10]);
        assert_eq!(shape(&arena), [(3, 0, 0), (3, 1, 10)], "what has gone takes no more");
        arena.pass_run(1);
        arena.settle();
        assert!(arena.waiting().is_empty() && arena.has_room(ARENA_BYTES));
    }

    #[test]
    fn room_that_was_sent_is_used_again_before_anything_is_dropped() {
        let mut arena = Arena::new(SEGMENTS_MAX);
        let mut number = 0_u64;
        while arena.has_room(1_000) {
            put(&mut arena, (number % 2) as u16, Traffic::Video, &[number as u8; 1_000]);
            number += 1;
        }
        // Every other one has gone, and one more.
        for place in (1..arena.waiting().len()).step_by(2) {
            arena.pass_run(place);
        }
        arena.pass_run(0);
        arena.settle();
        let left = all(&arena);
        assert_eq!(arena.make_room(), Dropped::default());
        assert_eq!(all(&arena), left);
        assert!(arena.has_room(ARENA_BYTES / 2));
    }

    #[test]
    fn the_oldest_video_is_dropped_first_then_audio_then_control() {
        let mut arena = Arena::new(SEGMENTS_MAX);
        let mut number = 0_u32;
        while arena.has_room(1_000) {
            // One in eight is audio, one in eight control.
            let traffic = match number % 8 {
                0 => Traffic::Control,
                1 => Traffic::Audio,
                _ => Traffic::Video,
            };
            put(&mut arena, 1, traffic, &number.to_be_bytes().repeat(250));
            number += 1;
        }
        let numbers = |arena: &Arena| -> Vec<u32> {
            all(arena).iter().map(|datagram| u32::from_be_bytes(datagram[..4].try_into().unwrap())).collect()
        };
        let dropped = arena.make_room();
        let left = numbers(&arena);
        assert_eq!((dropped.audio, dropped.control), (0, 0));
        assert_eq!(dropped.video + left.len() as u64, u64::from(number));
        assert!(left.is_sorted());
        let oldest_video = left.iter().position(|number| number % 8 > 1).unwrap();
        assert!(left[oldest_video..].is_sorted_by(|a, b| *b == a + 1), "newer video stays whole");
        assert!(left[..oldest_video].iter().all(|number| number % 8 <= 1));

        // No video any more: audio makes room, and control only when it is all there is.
        let mut arena = Arena::new(SEGMENTS_MAX);
        for number in 0..600_u32 {
            put(&mut arena, 1, Traffic::Control, &number.to_be_bytes().repeat(250));
        }
        while arena.has_room(1_000) {
            put(&mut arena, 1, Traffic::Audio, &[1; 1_000]);
        }
        let dropped = arena.make_room();
        assert!(dropped.audio > 400 && (1..=128).contains(&dropped.control), "{dropped:?}");
        let left = numbers(&arena);
        assert_eq!(left, ((dropped.control as u32)..600).collect::<Vec<_>>());
    }

    #[test]
    fn many_short_datagrams_fill_it_by_number() {
        let mut arena = Arena::new(SEGMENTS_MAX);
        let mut number = 0_u16;
        while arena.has_room(10) {
            put(&mut arena, number, Traffic::Audio, &[1; 10]);
            number += 1;
        }
        assert_eq!(usize::from(number), RUNS_MAX);
        assert_eq!(arena.make_room().audio as usize, RUNS_MAX / 2);
        assert_eq!(arena.runs.capacity(), RUNS_MAX);
    }
}

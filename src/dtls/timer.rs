//! When a flight is sent again, and when a handshake has taken too long (RFC 6347 §4.2.4.1).
//!
//! A datagram comes without the time, so whatever needs it asks to be called at once and is done then.
//!
//! **Invariant:** the time is what it was told last.

use std::time::{Duration, Instant};

/// How long the first repetition waits; each one doubles it.
const FIRST: Duration = Duration::from_secs(1);

/// The longest that a repetition waits.
const LONGEST: Duration = Duration::from_secs(60);

/// A peer that repeats itself is answered no more often than this: its datagrams may have come twice.
const ANSWERS_APART: Duration = Duration::from_millis(50);

/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(40);

/// As far away as never.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// The latest flight leaves again.
    Repeat,
    /// The handshake has taken too long.
    GiveUp,
}

/// The time of one handshake.
#[derive(Debug)]
pub struct Timer {
    now: Instant,
    /// When the first flight left.
    began: Option<Instant>,
    /// A flight has left since the time was told.
    has_flown: bool,
    /// The peer has repeated what the latest flight answers.
    is_asked: bool,
    flown_at: Instant,
    interval: Duration,
    repeat_at: Option<Instant>,
    is_over: bool,
}

impl Timer {
    /// Begins at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            now,
            began: None,
            has_flown: false,
            is_asked: false,
            flown_at: now,
            interval: FIRST,
            repeat_at: None,
            is_over: false,
        }
    }

    /// A new flight has left.
    pub fn fly(&mut self) {
        self.has_flown = true;
        self.is_asked = false;
    }

    /// The peer has repeated the flight that our latest answers.
    pub fn ask(&mut self) {
        self.is_asked = true;
    }

    /// The handshake is done, or has failed: nothing is due any more, unless the peer asks once more.
    pub fn end(&mut self) {
        (self.is_over, self.has_flown, self.is_asked) = (true, false, false);
        (self.began, self.repeat_at) = (None, None);
    }

    /// When the time is to be told next.
    pub fn at(&self) -> Instant {
        if self.has_flown {
            return self.now;
        }
        let asked = self.is_asked.then_some(self.flown_at + ANSWERS_APART);
        let end = self.began.map(|began| began + HANDSHAKE_MAX);
        [self.repeat_at, asked, end].into_iter().flatten().fold(self.now + NEVER, Instant::min)
    }

    /// The last time it was told.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Tells the time.
    pub fn tell(&mut self, now: Instant) -> Due {
        self.now = self.now.max(now);
        if self.began.is_some_and(|began| now >= began + HANDSHAKE_MAX) {
            return Due::GiveUp;
        }
        if self.has_flown {
            (self.has_flown, self.is_asked, self.flown_at, self.interval) = (false, false, now, FIRST);
            self.repeat_at = Some(now + FIRST);
            self.began.get_or_insert(now);
            return Due::Nothing;
        }
        let is_late = self.repeat_at.is_some_and(|at| now >= at);
        let answers = self.is_asked && now >= self.flown_at + ANSWERS_APART;
        if !is_late && !answers {
            return Due::Nothing;
        }
        if is_late {
            self.interval = (self.interval * 2).min(LONGEST);
        }
        (self.is_asked, self.flown_at) = (false, now);
        self.repeat_at = (!self.is_over).then_some(now + self.interval);
        Due::Repeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_epoch;

    /// When a flight that nobody answers leaves, in milliseconds.
    fn departures(timer: &mut Timer, start: Instant) -> Vec<u128> {
        let mut left = vec![];
        loop {
            let now = timer.at();
            match timer.tell(now) {
                Due::Nothing => {}
                Due::Repeat => left.push((now - start).as_millis()),
                Due::GiveUp => return left,
            }
        }
    }

    #[test]
    fn a_flight_that_nobody_answers_leaves_after_a_second_and_then_after_twice_as_long() {
        let start = test_epoch();
        let mut timer = Timer::new(start);
        assert_eq!(timer.at(), start + NEVER, "who waits for the other side waits");
        timer.fly();
        assert_eq!(timer.at(), start, "the time is asked for");
        assert_eq!(departures(&mut timer, start), [1_000, 3_000, 7_000, 15_000, 31_000]);
        timer.end();
        assert_eq!(timer.tell(start + HANDSHAKE_MAX * 2), Due::Nothing);
    }

    #[test]
    fn a_new_flight_begins_with_a_second_again() {
        let start = test_epoch();
        let mut timer = Timer::new(start);
        timer.fly();
        assert_eq!(timer.tell(start), Due::Nothing);
        let later = start + Duration::from_secs(5);
        assert_eq!(timer.tell(later), Due::Repeat);
        assert_eq!(timer.at(), later + FIRST * 2);
        timer.fly();
        assert_eq!(timer.tell(later), Due::Nothing);
        assert_eq!(timer.at(), later + FIRST);
    }

    #[test]
    fn a_peer_that_repeats_itself_is_answered_soon_and_not_too_often() {
        let start = test_epoch();
        let mut timer = Timer::new(start);
        timer.fly();
        assert_eq!(timer.tell(start), Due::Nothing);
        timer.ask();
        assert_eq!(timer.at(), start + ANSWERS_APART);
        assert_eq!(timer.tell(start + ANSWERS_APART / 2), Due::Nothing);
        assert_eq!(timer.tell(start + ANSWERS_APART), Due::Repeat);
        assert_eq!(timer.at(), start + ANSWERS_APART + FIRST, "an answer does not make it slower");
        timer.ask();
        assert_eq!(timer.at(), start + ANSWERS_APART * 2);
        timer.end();
        assert_eq!(timer.at(), timer.now() + NEVER);
        timer.ask();
        assert_eq!(timer.tell(start + FIRST), Due::Repeat);
        assert_eq!(timer.at(), timer.now() + NEVER, "once for each time");
    }
}

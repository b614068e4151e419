//! When a video source is asked for a keyframe.
//!
//! **Invariant:** at most one request in [`KEYFRAME_INTERVAL`] for a source, however many subscribers want one, and
//! another after each interval until one comes. A suggestion is one request at most, and is not repeated.
//!
//! Some encoders take no requests: they send keyframes at times of their own. Whoever waits for one of those is better
//! started from the latest that was kept.

use std::time::Instant;

use super::config::KEYFRAME_INTERVAL;

/// The throttle of one source.
#[derive(Debug, Default)]
pub struct KeyframeRequests {
    wanted: bool,
    last: Option<Instant>,
    /// When the latest keyframe began.
    arrived: Option<Instant>,
    /// Requests since the latest keyframe.
    unanswered: u32,
    ignores_requests: bool,
}

impl KeyframeRequests {
    /// Someone cannot go on without a keyframe.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// A keyframe began: nobody waits any more.
    pub fn arrived(&mut self, now: Instant) {
        if self.unanswered == 1 {
            // A request that is repeated has been answered before its time was over. A suggestion is not repeated, and what
            // comes long after it came by itself.
            self.ignores_requests = !self.wanted && !is_recent(self.last, now);
        }
        self.wanted = false;
        self.arrived = Some(now);
        self.unanswered = 0;
    }

    /// Nobody waits any more, though no keyframe came.
    pub fn settle(&mut self) {
        self.wanted = false;
    }

    /// Whether the source let an interval pass without an answer, and has answered none in time since.
    #[must_use]
    pub fn are_ignored(&self) -> bool {
        self.ignores_requests
    }

    /// Another source has taken over: nothing is known of how it answers.
    pub fn reset(&mut self) {
        self.arrived = None;
        self.unanswered = 0;
        self.ignores_requests = false;
    }

    /// When the next request may be sent; `None` while nobody waits. Before `now`: at once.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.wanted.then(|| self.last.map_or(now, |last| last + KEYFRAME_INTERVAL))
    }

    /// Whether a request is to be sent now; it counts as sent then.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self.due(now).is_some_and(|at| at <= now);
        if due {
            self.count(now);
        }
        due
    }

    /// Whether a request is to be sent now for someone who would like a keyframe and goes on without one; it counts as
    /// sent then.
    pub fn take_suggestion(&mut self, now: Instant) -> bool {
        // Those who cannot go on are asked for already.
        let is_free = !self.wanted && !is_recent(self.last, now) && !is_recent(self.arrived, now);
        if is_free {
            self.count(now);
        }
        is_free
    }

    fn count(&mut self, now: Instant) {
        self.last = Some(now);
        self.unanswered = self.unanswered.saturating_add(1);
        self.ignores_requests |= self.unanswered > 1;
    }
}

fn is_recent(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now < at + KEYFRAME_INTERVAL)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rtp::test_epoch;

    #[test]
    fn many_wishes_are_one_request_and_it_is_repeated_until_a_keyframe_comes() {
        let start = test_epoch();
        let mut requests = KeyframeRequests::default();
        assert!(!requests.take(start));
        requests.want();
        requests.want();
        assert!(requests.take(start));
        assert!(!requests.take(start + Duration::from_millis(499)));
        assert!(requests.take(start + KEYFRAME_INTERVAL));
        requests.arrived(start + KEYFRAME_INTERVAL);
        assert!(!requests.take(start + 2 * KEYFRAME_INTERVAL));
        assert_eq!(requests.due(start), None);
    }

    #[test]
    fn a_wish_right_after_a_keyframe_waits_for_the_interval() {
        let start = test_epoch();
        let mut requests = KeyframeRequests::default();
        requests.want();
        assert!(requests.take(start));
        requests.arrived(start);
        requests.want();
        let soon = start + Duration::from_millis(100);
        assert!(!requests.take(soon));
        assert_eq!(requests.due(soon), Some(start + KEYFRAME_INTERVAL));
    }

    #[test]
    fn a_source_that_lets_an_interval_pass_ignores_requests_until_it_answers_one() {
        let start = test_epoch();
        let mut requests = KeyframeRequests::default();
        requests.want();
        assert!(requests.take(start) && !requests.are_ignored());
        assert!(requests.take(start + KEYFRAME_INTERVAL) && requests.are_ignored());
        requests.arrived(start + KEYFRAME_INTERVAL);
        assert!(requests.are_ignored(), "it came late: by itself");
        requests.want();
        assert!(requests.take(start + 2 * KEYFRAME_INTERVAL));
        requests.arrived(start + 2 * KEYFRAME_INTERVAL);
        assert!(!requests.are_ignored());
        requests.want();
        assert!(requests.take(start + 3 * KEYFRAME_INTERVAL) && requests.take(start + 4 * KEYFRAME_INTERVAL));
        requests.reset();
        assert!(!requests.are_ignored());
    }

    #[test]
    fn a_suggestion_is_one_request_and_keeps_its_distance_from_requests_and_keyframes() {
        let start = test_epoch();
        let mut requests = KeyframeRequests::default();
        assert!(requests.take_suggestion(start));
        assert!(!requests.take_suggestion(start + Duration::from_millis(499)));
        assert_eq!(requests.due(start + KEYFRAME_INTERVAL), None, "it is not repeated");
        assert!(!requests.take(start + KEYFRAME_INTERVAL));
        let later = start + 10 * KEYFRAME_INTERVAL;
        requests.arrived(later);
        assert!(!requests.take_suggestion(later + Duration::from_millis(499)));
        assert!(requests.take_suggestion(later + KEYFRAME_INTERVAL));
        // Someone who cannot go on shares it, and asks again.
        requests.want();
        let asked = later + KEYFRAME_INTERVAL;
        assert_eq!(requests.due(asked), Some(asked + KEYFRAME_INTERVAL));
        assert!(!requests.take_suggestion(asked + KEYFRAME_INTERVAL));
        assert!(requests.take(asked + KEYFRAME_INTERVAL));
    }

    #[test]
    fn a_suggestion_that_is_not_followed_in_time_was_ignored() {
        let start = test_epoch();
        let mut requests = KeyframeRequests::default();
        assert!(requests.take_suggestion(start));
        requests.arrived(start + Duration::from_millis(499));
        assert!(!requests.are_ignored());
        let later = start + 10 * KEYFRAME_INTERVAL;
        assert!(requests.take_suggestion(later));
        requests.arrived(later + KEYFRAME_INTERVAL);
        assert!(requests.are_ignored(), "the keyframe came by itself");
        let later = later + 10 * KEYFRAME_INTERVAL;
        assert!(requests.take_suggestion(later));
        requests.arrived(later + Duration::from_millis(100));
        assert!(!requests.are_ignored());
        // No keyframe at all.
        assert!(requests.take_suggestion(later + 10 * KEYFRAME_INTERVAL) && !requests.are_ignored());
        assert!(requests.take_suggestion(later + 20 * KEYFRAME_INTERVAL) && requests.are_ignored());
    }
}

//! When a video source is asked for a keyframe.
//!
//! **Invariant:** at most one request in [`KEYFRAME_INTERVAL`] for a source, however many subscribers want one, and
//! another after each interval until one comes.
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
    pub fn arrived(&mut self) {
        self.wanted = false;
        if self.unanswered == 1 {
            self.ignores_requests = false;
        }
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
            self.last = Some(now);
            self.unanswered = self.unanswered.saturating_add(1);
            self.ignores_requests |= self.unanswered > 1;
        }
        due
    }
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
        requests.arrived();
        assert!(!requests.take(start + 2 * KEYFRAME_INTERVAL));
        assert_eq!(requests.due(start), None);
    }

    #[test]
    fn a_wish_right_after_a_keyframe_waits_for_the_interval() {
        let start = test_epoch();
        let mut requests = KeyframeRequests::default();
        requests.want();
        assert!(requests.take(start));
        requests.arrived();
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
        requests.arrived();
        assert!(requests.are_ignored(), "it came late: by itself");
        requests.want();
        assert!(requests.take(start + 2 * KEYFRAME_INTERVAL));
        requests.arrived();
        assert!(!requests.are_ignored());
        requests.want();
        assert!(requests.take(start + 3 * KEYFRAME_INTERVAL) && requests.take(start + 4 * KEYFRAME_INTERVAL));
        requests.reset();
        assert!(!requests.are_ignored());
    }
}

//! How long a recording pauses after a failure.
//!
//! **Invariant:** the pause is never longer than a minute: a broadcast is never given up.

/// The longest pause.
const PAUSE_MAX_NS: i64 = 60 * SECOND_NS;

/// A file that lasted so long ends a row of failures.
const LASTED_NS: i64 = 60 * SECOND_NS;

const SECOND_NS: i64 = 1_000_000_000;

/// A row of failures.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after another failure, of a file that lasted so long: a second, doubled each time.
    pub fn fail(&mut self, lasted_ns: i64) -> i64 {
        let before = if lasted_ns >= LASTED_NS { 0 } else { self.failures };
        self.failures = before.saturating_add(1);
        (SECOND_NS << before.min(6)).min(PAUSE_MAX_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_a_file_that_lasted_begins_the_row_again() {
        let mut backoff = Backoff::default();
        let pauses: Vec<i64> = (0..8).map(|_| backoff.fail(0) / SECOND_NS).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.fail(LASTED_NS) / SECOND_NS, 1);
        assert_eq!(backoff.fail(LASTED_NS - 1) / SECOND_NS, 2);
    }
}

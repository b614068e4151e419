//! The brake on guessing: how many wrong tokens came from an address of late.
//!
//! **Invariant:** at most [`ADDRESSES_MAX`] addresses are remembered; when there are more, the one that was wrong longest
//! ago is forgotten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Wrong tokens that an address may bring at once.
pub const WRONG_MAX: u32 = 10;

/// After so long, one of them is forgiven.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(6);

/// Addresses that are remembered.
pub const ADDRESSES_MAX: usize = 4096;

/// Wrong tokens by address. Whoever calls folds addresses that are one customer's.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Until when each address's wrong tokens are forgiven, one after the other.
    until: HashMap<IpAddr, Instant>,
}

impl Attempts {
    /// How long `address` must wait before another token of it is looked at; none when it need not.
    #[must_use]
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let until = self.until.get(&address)?;
        let owed = until.saturating_duration_since(now);
        let spare = FORGIVEN_AFTER * (WRONG_MAX - 1);
        owed.checked_sub(spare).filter(|wait| !wait.is_zero())
    }

    /// `address` has brought a wrong token.
    pub fn wrong(&mut self, address: IpAddr, now: Instant) {
        if !self.until.contains_key(&address) && self.until.len() >= ADDRESSES_MAX {
            self.forget(now);
        }
        let until = self.until.entry(address).or_insert(now);
        *until = (*until).max(now) + FORGIVEN_AFTER;
    }

    /// Makes room for one.
    fn forget(&mut self, now: Instant) {
        self.until.retain(|_, until| *until > now);
        if self.until.len() >= ADDRESSES_MAX
            && let Some(oldest) = self.until.iter().min_by_key(|(_, until)| **until).map(|(address, _)| *address)
        {
            self.until.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_epoch;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn ten_may_be_wrong_and_time_forgives_them() {
        let mut attempts = Attempts::default();
        let mut now = test_epoch();
        for _ in 0..WRONG_MAX {
            assert_eq!(attempts.wait(address(1), now), None);
            attempts.wrong(address(1), now);
        }
        assert_eq!(attempts.wait(address(1), now), Some(FORGIVEN_AFTER));
        assert_eq!(attempts.wait(address(2), now), None, "another address");
        now += FORGIVEN_AFTER;
        assert_eq!(attempts.wait(address(1), now), None);
        attempts.wrong(address(1), now);
        assert_eq!(attempts.wait(address(1), now), Some(FORGIVEN_AFTER));
        now += FORGIVEN_AFTER * WRONG_MAX * 2;
        for _ in 0..WRONG_MAX {
            assert_eq!(attempts.wait(address(1), now), None, "it does not save up more");
            attempts.wrong(address(1), now);
        }
        assert!(attempts.wait(address(1), now).is_some());
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest_first() {
        let mut attempts = Attempts::default();
        let now = test_epoch();
        for n in 0..u32::try_from(ADDRESSES_MAX).unwrap() + 9 {
            for _ in 0..WRONG_MAX {
                attempts.wrong(address(n), now + Duration::from_micros(n.into()));
            }
        }
        assert_eq!(attempts.until.len(), ADDRESSES_MAX);
        let later = now + Duration::from_millis(9);
        assert_eq!(attempts.wait(address(0), later), None);
        assert!(attempts.wait(address(9), later).is_some());
    }
}

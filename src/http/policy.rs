//! The policy in force, and who shows it too many tokens that it does not know.
//!
//! **Invariant:** each question is answered by one policy, the one before or the one after a change.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::gate::counted_under;
use crate::access::attempts::Attempts;
use crate::access::{BadToken, Permit, Policy};

/// The policy in force, which can be replaced while the server runs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct PolicyCell {
    policy: Arc<RwLock<Arc<Policy>>>,
    attempts: Arc<Mutex<Attempts>>,
}

/// Why a token permits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is none of ours.
    #[error(transparent)]
    Bad(#[from] BadToken),
    /// It was not looked at.
    #[error("too many wrong tokens came from this address: try again in {retry_after_s} s")]
    TooMany {
        /// When the next one is looked at.
        retry_after_s: u32,
    },
}

impl PolicyCell {
    /// A cell that holds `policy`.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy: Arc::new(RwLock::new(Arc::new(policy))), attempts: Arc::default() }
    }

    /// Puts another policy in force. What was begun under the one before goes on.
    pub fn replace(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// What whoever shows `token`, or none, from `address` may do.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn permit(&self, token: Option<&str>, address: IpAddr) -> Result<Permit, TokenError> {
        let policy = Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner));
        // A clock that stands before 1970 counts from there.
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Loopback is not counted: behind a reverse proxy, one who guesses would shut out all.
        let Some(address) = counted_under(address).filter(|_| token.is_some() && !policy.is_open()) else {
            return Ok(policy.permit(token, unix_s)?);
        };
        // The lock is not held while signatures are proven: one who guesses does not hold up the others.
        let attempts = || self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let wait = attempts().wait(address, now);
        if let Some(wait) = wait {
            // Rounded up: who comes back then is looked at.
            let retry_after_s = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
            return Err(TokenError::TooMany { retry_after_s });
        }
        policy.permit(token, unix_s).map_err(|error| {
            tracing::debug!(%address, "a wrong token");
            attempts().wrong(address, now);
            TokenError::Bad(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::attempts::WRONG_MAX;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_policy_is_replaced_for_all_who_hold_the_cell() {
        let cell = PolicyCell::default();
        let other = cell.clone();
        assert!(other.permit(Some("anything"), HERE).is_ok());
        cell.replace(Policy::parse("").unwrap());
        assert_eq!(other.permit(Some("anything"), HERE).unwrap_err(), TokenError::Bad(BadToken));
    }

    #[test]
    fn guessing_is_slowed_down_by_address() {
        let file = "[[token]]\ntoken = \"right-0123456789\"\ncan = [\"watch\"]";
        let cell = PolicyCell::new(Policy::parse(file).unwrap());
        let right = Some("right-0123456789");
        let neighbour = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        for n in 0..WRONG_MAX {
            let refused = cell.permit(Some("guess"), neighbour(n as u16)).unwrap_err();
            assert_eq!(refused, TokenError::Bad(BadToken));
        }
        let Err(TokenError::TooMany { retry_after_s }) = cell.permit(right, neighbour(99)) else { panic!("let in") };
        assert!((1..=7).contains(&retry_after_s));
        assert!(cell.permit(None, neighbour(1)).is_ok(), "without a token there is nothing to guess");
        assert!(cell.permit(right, HERE).is_ok(), "another address");
        for _ in 0..=WRONG_MAX {
            let refused = cell.permit(Some("guess"), [127, 0, 0, 1].into()).unwrap_err();
            assert_eq!(refused, TokenError::Bad(BadToken));
        }
    }
}

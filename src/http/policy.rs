//! The policy in force, and who shows it too many tokens that it does not know.
//!
//! **Invariant:** each question is answered by one policy, the one before or the one after a change.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::access::address::counted_under;
use crate::access::attempts::Attempts;
use crate::access::{BadToken, Permit, Policy};

/// The policy in force, which can be replaced while the server runs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct PolicyCell {
    policy: Arc<watch::Sender<Arc<Policy>>>,
    attempts: Arc<Mutex<Attempts>>,
}

/// The token that a client has shown, or none, and from where. It is kept by who serves that client for long, for what it
/// permits may change.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown {
    token: Option<String>,
    address: IpAddr,
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
        Self { policy: Arc::new(watch::Sender::new(Arc::new(policy))), attempts: Arc::default() }
    }

    /// Puts another policy in force. Media that was begun under the one before goes on.
    pub fn replace(&self, policy: Policy) {
        self.policy.send_replace(Arc::new(policy));
    }

    /// Tells of each change from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<Policy>> {
        self.policy.subscribe()
    }

    /// What whoever shows `token`, or none, from `address` may do.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn permit(&self, token: Option<&str>, address: IpAddr) -> Result<Permit, TokenError> {
        let policy = Arc::clone(&self.policy.borrow());
        // A clock that stands before 1970 counts from there.
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Loopback is not counted: behind a reverse proxy, one who guesses would shut out all.
        let address = counted_under(address);
        if token.is_none() || policy.is_open() || address.is_loopback() {
            return Ok(policy.permit(token, unix_s)?);
        }
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

impl Shown {
    /// What a client at `address` shows.
    #[must_use]
    pub fn new(token: Option<String>, address: IpAddr) -> Self {
        Self { token, address }
    }

    /// From where.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// What it permits at the moment; another `token`, if given, counts instead.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn permit(&self, policy: &PolicyCell, token: Option<&str>) -> Result<Permit, TokenError> {
        policy.permit(token.or(self.token.as_deref()), self.address)
    }
}

/// Without the token.
impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shown").field(&self.address).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Right;
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
    fn what_was_shown_is_judged_anew_and_not_told() {
        let with = |rooms: &str| {
            Policy::parse(&format!(
                "[[token]]\ntoken = \"watcher-0123456789\"\ncan = [\"watch\"]\nrooms = [\"{rooms}\"]"
            ))
        };
        let cell = PolicyCell::new(with("stage").unwrap());
        let shown = Shown::new(Some("watcher-0123456789".to_owned()), HERE);
        assert!(!format!("{shown:?}").contains("watcher"));
        let may = |token| shown.permit(&cell, token).map(|permit| permit.may_in_all_of(Right::Watch, "stage"));
        assert_eq!(may(None), Ok(true));
        assert_eq!(may(Some("another-0123456789")), Err(TokenError::Bad(BadToken)));
        cell.replace(with("other").unwrap());
        assert_eq!(may(None), Ok(false));
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

//! What a client of WHIP or WHEP offered, and still stands for: it makes no second offer.
//!
//! **Invariant:** it is the offer that the peer's `Rtc` accepted last.

use std::time::{Duration, Instant};

use crate::signal::foreign::Foreign;

/// Restarts of one client are at least so far apart: each leaves a ufrag behind that is routed for a while.
const RESTART_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The offer, and when ICE was restarted with it.
#[derive(Debug)]
pub struct StandingOffer {
    offer: Foreign,
    restarted_at: Option<Instant>,
}

impl StandingOffer {
    /// An offer that was accepted.
    pub fn new(offer: Foreign) -> Self {
        Self { offer, restarted_at: None }
    }

    /// An offer with which ICE was restarted.
    pub fn restarted(offer: Foreign, now: Instant) -> Self {
        Self { offer, restarted_at: Some(now) }
    }

    /// The offer.
    pub fn offer(&self) -> &Foreign {
        &self.offer
    }

    /// Whether the last restart was long enough ago.
    pub fn may_restart(&self, now: Instant) -> bool {
        self.restarted_at.is_none_or(|at| now >= at + RESTART_INTERVAL_MIN)
    }
}

//! How much a client may send: a token bucket of frames.
//!
//! **Invariant:** who stays below [`FRAMES_PER_S`] is never refused, and more than [`FRAMES_BURST`] never pass at once.

use tokio::time::Instant;

/// Frames that may come at once.
pub const FRAMES_BURST: f64 = 200.0;

/// Frames that are earned in a second.
const FRAMES_PER_S: f64 = 50.0;

/// What a client may still send.
#[derive(Debug)]
pub struct Allowance {
    frames: f64,
    at: Instant,
}

/// More was sent than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFast;

impl Default for Allowance {
    fn default() -> Self {
        Self { frames: FRAMES_BURST, at: Instant::now() }
    }
}

impl Allowance {
    /// Takes what something costs, in frames.
    ///
    /// # Errors
    ///
    /// [`TooFast`].
    pub fn spend(&mut self, frames: f64) -> Result<(), TooFast> {
        let now = Instant::now();
        let earned = now.duration_since(self.at).as_secs_f64() * FRAMES_PER_S;
        self.frames = (self.frames + earned).min(FRAMES_BURST) - frames;
        self.at = now;
        if self.frames < 0.0 { Err(TooFast) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_spent_is_saved_up_to_a_burst() {
        let mut allowance = Allowance::default();
        tokio::time::advance(Duration::from_secs(3600)).await;
        for _ in 0..FRAMES_BURST as u32 {
            assert_eq!(allowance.spend(1.0), Ok(()));
        }
        assert_eq!(allowance.spend(1.0), Err(TooFast));
        tokio::time::advance(Duration::from_millis(41)).await;
        assert_eq!((allowance.spend(1.0), allowance.spend(1.0)), (Ok(()), Err(TooFast)), "one was owed");
    }
}

//! The time of its sending, in the payload of a packet.
//!
//! **Invariant:** broadcaster and viewers are one thread, and count from one epoch.

use std::time::{Duration, Instant};

/// Writes and reads times of sending.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    epoch: Instant,
}

impl Stamp {
    /// What lies between a payload's head and its time.
    pub const FILLER: u8 = 0x55;

    /// Times after `epoch`.
    pub fn new(epoch: Instant) -> Self {
        Self { epoch }
    }

    /// Ends a payload with the time of its sending.
    pub fn write(self, now: Instant, payload: &mut [u8]) {
        if let Some(end) = payload.last_chunk_mut::<8>() {
            *end = ((now - self.epoch).as_nanos() as u64).to_be_bytes();
        }
    }

    /// How long a packet was under way; `None` where the payload is not as it was written.
    pub fn read(self, now: Instant, payload: &[u8]) -> Option<Duration> {
        let (middle, end) = payload.split_last_chunk::<8>()?;
        let is_whole = middle.iter().skip(24).all(|byte| *byte == Self::FILLER);
        let sent_at = self.epoch + Duration::from_nanos(u64::from_be_bytes(*end));
        is_whole.then(|| now.checked_duration_since(sent_at)).flatten()
    }
}

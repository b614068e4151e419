//! What happened on the socket, counted.
//!
//! **Invariant:** counters only rise, and reading them never holds the loop up.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Raises it.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happened on the socket.
#[derive(Debug, Default)]
pub struct NetMetrics {
    /// Datagrams received.
    pub datagrams_received: Counter,
    /// Bytes of those.
    pub bytes_received: Counter,
    /// `recvmmsg` calls that brought something.
    pub receive_calls: Counter,
    /// Datagrams sent.
    pub datagrams_sent: Counter,
    /// Messages that those left in: a run of datagrams, which the kernel cuts, is one.
    pub messages_sent: Counter,
    /// `sendmmsg` calls.
    pub send_calls: Counter,
    /// Datagrams that the kernel refused.
    pub send_errors: Counter,
    /// Times the kernel's send buffer was full.
    pub send_blocked: Counter,
    /// Whether the kernel is left to cut runs no longer: 0 or 1.
    pub segments_given_up: Counter,
    /// RTP of video tracks dropped because too much waited for the kernel.
    pub dropped_video: Counter,
    /// RTP of audio tracks dropped because too much waited for the kernel.
    pub dropped_audio: Counter,
    /// Other datagrams dropped because too much waited for the kernel.
    pub dropped_control: Counter,
    /// Datagrams dropped because they were longer than any that is sent.
    pub dropped_oversized: Counter,
    /// Handshake datagrams dropped because too many waited.
    pub handshakes_dropped: Counter,
}

impl NetMetrics {
    /// Datagrams that were dropped before they were sent, whatever the cause.
    pub fn dropped(&self) -> u64 {
        let causes = [&self.dropped_video, &self.dropped_audio, &self.dropped_control, &self.dropped_oversized];
        causes.iter().map(|counter| counter.get()).sum()
    }
}

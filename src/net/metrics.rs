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
    /// `sendmmsg` calls.
    pub send_calls: Counter,
    /// Datagrams that the kernel refused.
    pub send_errors: Counter,
    /// Times the kernel's send buffer was full.
    pub send_blocked: Counter,
    /// Datagrams dropped because the batch was full or they did not fit a slot.
    pub send_dropped: Counter,
    /// Handshake datagrams dropped because too many waited.
    pub handshakes_dropped: Counter,
}

//! What happened on the sockets, counted.
//!
//! **Invariant:** counters only rise, and reading them never holds the loop up.

use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::receive_drops::ReceiveDrops;
use super::thread_time::ThreadTime;
use crate::hub::histogram::{BUCKETS, Forwarding, Histogram, Scale};

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

/// A value that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Changes it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram that one thread adds to and others read. What is read while it is added to may be one value off.
#[derive(Debug)]
pub struct SharedHistogram<S> {
    counts: [Counter; BUCKETS],
    sum: Counter,
    scale: PhantomData<fn() -> S>,
}

impl<S> Default for SharedHistogram<S> {
    fn default() -> Self {
        Self { counts: Default::default(), sum: Counter::default(), scale: PhantomData }
    }
}

impl<S: Scale> SharedHistogram<S> {
    /// Counts a value `times` times.
    pub fn observe(&self, value: u64, times: u64) {
        if let Some(count) = self.counts.get(Histogram::<S>::bucket(value)) {
            count.add(times);
            self.sum.add(value.saturating_mul(times));
        }
    }

    /// Its present state.
    #[must_use]
    pub fn get(&self) -> Histogram<S> {
        Histogram::new(self.counts.each_ref().map(Counter::get), self.sum.get())
    }
}

/// What happened on the sockets. What does not name TCP is of UDP.
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
    /// TCP connections that are open.
    pub tcp_connections: Gauge,
    /// TCP connections accepted.
    pub tcp_accepted: Counter,
    /// TCP connections refused because there were too many, of all or of one address.
    pub tcp_refused: Counter,
    /// Datagrams received by TCP.
    pub tcp_datagrams_received: Counter,
    /// Bytes received by TCP, with the lengths in front of the datagrams.
    pub tcp_bytes_received: Counter,
    /// Datagrams sent by TCP.
    pub tcp_datagrams_sent: Counter,
    /// Datagrams dropped because their TCP connection was gone, or did not take them fast enough.
    pub tcp_dropped: Counter,
    /// For each RTP packet forwarded: from the return of the call that received its batch to that of those that sent it.
    pub forwarding: SharedHistogram<Forwarding>,
    /// The time of the hub's thread, once it runs.
    pub thread: OnceLock<ThreadTime>,
    /// What the kernel throws away of what arrives.
    pub(super) receive_drops: OnceLock<ReceiveDrops>,
}

impl NetMetrics {
    /// Datagrams that were dropped, by what became of them.
    #[must_use]
    pub fn dropped(&self) -> Vec<(&'static str, u64)> {
        let lost_in_kernel = self.receive_drops.get().and_then(ReceiveDrops::read);
        let ours = [
            ("send-video", &self.dropped_video),
            ("send-audio", &self.dropped_audio),
            ("send-control", &self.dropped_control),
            ("oversized", &self.dropped_oversized),
            ("handshake", &self.handshakes_dropped),
            ("tcp", &self.tcp_dropped),
        ];
        let ours = ours.into_iter().map(|(cause, counter)| (cause, counter.get()));
        ours.chain(lost_in_kernel.map(|lost| ("receive-buffer", lost))).collect()
    }
}

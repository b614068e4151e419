//! The recorder's counters.
//!
//! **Invariant:** counters only rise; `running` is the number of files that are being written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What the recorder has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecorderMetrics {
    /// Files begun.
    pub started: u64,
    /// Files completed.
    pub finished: u64,
    /// Files that failed, and broadcasts that could not be recorded.
    pub failed: u64,
    /// Gauge: files being written.
    pub running: u64,
    /// Gauge: files whose ffmpeg has ended and that are being completed.
    pub finishing: u64,
    /// Gauge: free bytes where files go, when they were last looked at.
    pub free_bytes: u64,
    /// Gauge: free bytes below which nothing is recorded.
    pub min_free_bytes: u64,
    /// Packets written.
    pub packets: u64,
    /// Packets lost on the way, dropped with the broken picture they belonged to, or because ffmpeg was too slow.
    pub packets_dropped: u64,
    /// Recordings removed because they were not to be kept any longer.
    pub removed: u64,
    /// Finished files that the operator's command has taken.
    pub handovers: u64,
    /// Runs of that command that failed.
    pub handovers_failed: u64,
    /// The state of the disk, by the name that metrics use.
    pub disk_state: &'static str,
}

/// One counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters behind [`RecorderMetrics`].
#[derive(Debug, Default)]
pub struct Counters {
    /// Files begun.
    pub started: Counter,
    /// Files completed.
    pub finished: Counter,
    /// Failures.
    pub failed: Counter,
    /// Files no longer written.
    pub ended: Counter,
    /// Files that have been completed, or could not be.
    pub completed: Counter,
    /// Free bytes where files go.
    pub free_bytes: Gauge,
    /// Free bytes below which nothing is recorded.
    pub min_free_bytes: Gauge,
    /// Packets written.
    pub packets: Counter,
    /// Packets lost or dropped.
    pub packets_dropped: Counter,
    /// Recordings removed.
    pub removed: Counter,
    /// Files that the operator's command has taken.
    pub handovers: Counter,
    /// Runs of it that failed.
    pub handovers_failed: Counter,
    disk_state: Mutex<&'static str>,
}

impl Counters {
    /// Sets the state of the disk.
    pub fn set_disk_state(&self, name: &'static str) {
        *self.disk_state.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// Their values now.
    pub fn snapshot(&self) -> RecorderMetrics {
        RecorderMetrics {
            started: self.started.get(),
            finished: self.finished.get(),
            failed: self.failed.get(),
            running: self.started.get().saturating_sub(self.ended.get()),
            finishing: self.ended.get().saturating_sub(self.completed.get()),
            free_bytes: self.free_bytes.get(),
            min_free_bytes: self.min_free_bytes.get(),
            packets: self.packets.get(),
            packets_dropped: self.packets_dropped.get(),
            removed: self.removed.get(),
            handovers: self.handovers.get(),
            handovers_failed: self.handovers_failed.get(),
            disk_state: *self.disk_state.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

//! The task that removes recordings which are not to be kept. It runs with or without a recorder.
//!
//! **Invariant:** a disk that fails or hangs ends no task: it is tried again at the next look.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::context::stopped;
use super::counters::{Counters, RecorderMetrics};
use super::files::disk::{Disk, DiskError};
use super::files::growing::Growing;
use super::files::retention::{self, Cause, Removed, Retention};

/// How long one look through the directory may take.
const SWEEP_MAX: Duration = Duration::from_secs(600);

/// Removes old recordings now and then.
#[derive(Debug)]
pub struct RetentionTask {
    disk: Disk,
    dir: PathBuf,
    retention: Retention,
    growing: Growing,
    counters: Arc<Counters>,
}

impl RetentionTask {
    /// A task for the recordings below `dir`; `growing` names those that this process writes.
    #[must_use]
    pub fn new(dir: PathBuf, retention: Retention, growing: Growing) -> Self {
        Self::of_recorder(Disk::default(), dir, retention, growing, Arc::default())
    }

    /// A task that shares a recorder's quota and counters.
    pub(super) fn of_recorder(
        disk: Disk,
        dir: PathBuf,
        retention: Retention,
        growing: Growing,
        counters: Arc<Counters>,
    ) -> Self {
        Self { disk, dir, retention, growing, counters }
    }

    /// Reads the counters at any time: only `removed` ever rises.
    pub fn meter(&self) -> impl Fn() -> RecorderMetrics + Send + Sync + 'static {
        let counters = Arc::clone(&self.counters);
        move || counters.snapshot()
    }

    /// Starts it, where there is something to do. It ends when `stop` turns true.
    pub fn start(self, stop: watch::Receiver<bool>) {
        if !self.retention.is_endless() {
            tokio::spawn(self.run(stop));
        }
    }

    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval(retention::INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = self.sweep() => {}
            }
        }
    }

    async fn sweep(&self) {
        let (dir, retention, growing) = (self.dir.clone(), self.retention, self.growing.clone());
        let sweep = move |turn: &_| retention::sweep(turn, &dir, retention, &growing, SystemTime::now());
        match self.disk.run("looking through the recordings", SWEEP_MAX, sweep).await {
            Ok(removed) => {
                for Removed { name, bytes, cause } in removed {
                    let why = match cause {
                        Cause::Age => "older than --record-keep",
                        Cause::Size => "more than --record-max-size",
                    };
                    self.counters.removed.add(1);
                    tracing::info!(file = %name, bytes, why, "recording removed");
                }
            }
            // Nothing was recorded yet, or its disk is gone: the recorder says so.
            Err(DiskError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "the recordings cannot be looked through"),
        }
    }
}

//! Recordings that were left unfinished: by a server that was killed, or by a completion that failed.
//!
//! Each is tried again and again, at growing distances, and at once when the disk is ready again.
//!
//! **Invariant:** a leftover goes only when it is complete, holds nothing, or somebody removed it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::complete::CompleteError;
use super::context::{Context, Token, stopped};
use super::files::disk;
use super::files::open::is_open;
use super::files::path::{self, RecordingPath};

/// How often it is seen whether a leftover is due.
const TICK: Duration = Duration::from_millis(500);

/// How often the directory is searched for leftovers that nobody announced.
const SEARCH_INTERVAL: Duration = Duration::from_secs(300);

/// How long one search may take.
const SEARCH_MAX: Duration = Duration::from_secs(60);

/// Leftovers known at a time. The oldest come first; the rest is found when those are done.
const KNOWN_MAX: usize = 10_000;

/// The pause after the first failure. It doubles with each.
const PAUSE_MIN: Duration = Duration::from_secs(60);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// How often a file is looked at that another process writes, and for how long. The ffmpeg of a server that was killed ends
/// within a second or two.
const OPEN_PAUSE: Duration = Duration::from_millis(500);
const OPEN_TRIES: u32 = 60;

/// When a leftover is tried next.
#[derive(Debug)]
struct Attempt {
    path: RecordingPath,
    due: Instant,
    pause: Duration,
    /// How often another process had it open.
    open: u32,
}

impl Attempt {
    fn new(path: RecordingPath, due: Instant) -> Self {
        Self { path, due, pause: PAUSE_MIN, open: 0 }
    }

    /// Tries later, and the next time later still.
    fn postpone(&mut self, now: Instant) {
        self.due = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

/// What became of a leftover.
enum Outcome {
    /// There is nothing left to do.
    Gone,
    /// Another process, or another task of this one, is at it.
    Busy,
    /// It failed.
    Failed,
}

/// All leftovers of one directory.
#[derive(Debug)]
pub struct Leftovers {
    context: Arc<Context>,
    /// Files whose completion has failed.
    failed: mpsc::Receiver<RecordingPath>,
    /// By the names that they will have.
    known: BTreeMap<String, Attempt>,
}

impl Leftovers {
    /// The leftovers of a recorder; those that it makes come by `failed`.
    pub fn new(context: Arc<Context>, failed: mpsc::Receiver<RecordingPath>) -> Self {
        Self { context, failed, known: BTreeMap::new() }
    }

    /// Completes leftovers until the recorder stops.
    pub async fn run(mut self, _token: Token) {
        let mut stop = self.context.stop.clone();
        tokio::select! {
            biased;
            () = stopped(&mut stop) => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        let mut status = self.context.disk_changes();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut search_at = Instant::now();
        // The completions that a dead server was at are removed once; ours clean up by themselves.
        let mut is_first = true;
        loop {
            tokio::select! {
                Some(path) = self.failed.recv() => {
                    let mut attempt = Attempt::new(path, Instant::now());
                    attempt.postpone(Instant::now());
                    self.add(attempt);
                }
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.hasten(&mut status);
                }
                _ = ticks.tick() => {}
            }
            if !self.context.disk_state().is_usable() {
                continue;
            }
            let now = Instant::now();
            if now >= search_at {
                search_at = now + SEARCH_INTERVAL;
                is_first &= !self.search(is_first).await;
            }
            self.try_next(now).await;
        }
    }

    /// What was postponed is due when the disk is ready again.
    fn hasten(&mut self, status: &mut watch::Receiver<super::files::directory::DiskStatus>) {
        if status.borrow_and_update().state.is_ready() {
            let now = Instant::now();
            for attempt in self.known.values_mut() {
                attempt.due = now;
            }
        }
    }

    fn add(&mut self, attempt: Attempt) {
        if self.known.len() < KNOWN_MAX {
            self.known.entry(attempt.path.name()).or_insert(attempt);
        }
    }

    /// Finds leftovers that are not known. Whether that went well.
    async fn search(&mut self, removes_temporary: bool) -> bool {
        let (dir, growing) = (self.context.config.dir.clone(), self.context.config.growing.clone());
        let search = move |turn: &_| {
            let abandoned = path::abandoned(turn, &dir, &growing)?;
            for path in abandoned.temporary.iter().filter(|_| removes_temporary) {
                // The ffmpeg of a server that was killed may still complete it.
                if is_open(turn, &path.temporary()) {
                    continue;
                }
                if let Err(error) = path.remove_temporary(turn) {
                    tracing::warn!(%error, file = %path.name(), "a temporary recording could not be removed");
                }
            }
            Ok(abandoned.unfinished)
        };
        match self.context.slow_disk.run("looking for unfinished recordings", SEARCH_MAX, search).await {
            Ok(unfinished) => {
                let now = Instant::now();
                for path in unfinished {
                    self.add(Attempt::new(path, now));
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "unfinished recordings cannot be looked for");
                false
            }
        }
    }

    /// Tries the oldest one that is due.
    async fn try_next(&mut self, now: Instant) {
        let due = self.known.values().filter(|attempt| attempt.due <= now);
        let Some(path) = due.min_by(|a, b| a.path.age().cmp(&b.path.age())).map(|attempt| attempt.path.clone()) else {
            return;
        };
        let outcome = self.complete(&path).await;
        let (name, now) = (path.name(), Instant::now());
        let Some(attempt) = self.known.get_mut(&name) else {
            return;
        };
        match outcome {
            Outcome::Gone => {
                self.known.remove(&name);
            }
            Outcome::Busy if attempt.open < OPEN_TRIES => {
                attempt.open += 1;
                attempt.due = now + OPEN_PAUSE;
            }
            Outcome::Busy => {
                if attempt.open == OPEN_TRIES {
                    attempt.open += 1;
                    tracing::warn!(file = %name, "an unfinished recording is still written to by another process");
                }
                attempt.postpone(now);
            }
            Outcome::Failed => attempt.postpone(now),
        }
    }

    async fn complete(&self, path: &RecordingPath) -> Outcome {
        let (context, file) = (&self.context, path.name());
        let Some(growth) = context.config.growing.try_begin(file.clone()) else {
            return Outcome::Busy;
        };
        let part = path.part();
        let look = move |turn: &_| Ok(is_open(turn, &part));
        match context.disk.run("looking who writes a file", disk::DEADLINE, look).await {
            Ok(false) => {}
            Ok(true) => return Outcome::Busy,
            Err(_) => return Outcome::Failed,
        }
        match context.complete(path, growth, None).await {
            Ok(_) => {
                tracing::info!(%file, "completed a recording that was left unfinished");
                Outcome::Gone
            }
            Err(CompleteError::Empty) => {
                tracing::info!(%file, "removed an unfinished recording that held nothing");
                Outcome::Gone
            }
            Err(CompleteError::Missing) => Outcome::Gone,
            Err(error @ CompleteError::Renamed(_)) => {
                tracing::warn!(%file, "{error}");
                Outcome::Gone
            }
            Err(error) => {
                tracing::warn!(%file, %error, "an unfinished recording could not be completed: it is tried again later");
                Outcome::Failed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_from_a_minute_to_an_hour() {
        let now = Instant::now();
        let mut attempt = Attempt::new(RecordingPath::for_tests("room/user/20260203-040506"), now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            attempt.postpone(now);
            pauses.push((attempt.due - now).as_secs() / 60);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}

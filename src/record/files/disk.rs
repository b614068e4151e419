//! The disk that recordings are on: every call to it runs on a blocking thread, under a deadline and a cap.
//!
//! A disk can hang (a network mount without its server, a failing drive). A call to it then blocks its thread until the
//! disk is back, and nothing can end the call. On a tokio worker such a call stops HTTP, WebSockets and timers.
//!
//! **Invariant:** only [`Disk::run`] hands out a [`Turn`], and every function under `record::files` that calls the disk takes
//! one; so the compiler keeps such calls off tokio's workers. A turn is given back when its call has really returned.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Calls under way or stuck at a time, for each [`Disk`]. So many threads a hung disk can cost.
pub const TURNS_MAX: usize = 16;

/// How long a call may take that reads or changes names, or a few bytes.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The right to call the disk, on a thread that may block.
#[derive(Debug)]
pub struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

#[cfg(test)]
impl Turn {
    /// For tests, whose threads may block.
    pub fn for_tests() -> Self {
        Self { _permit: None }
    }
}

/// Why the disk did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It did not answer in time. The call may still be under way.
    #[error("the recordings' disk does not answer ({doing}, {} s)", .after.as_secs())]
    Silent {
        /// What was to be done.
        doing: &'static str,
        /// The deadline of the call.
        after: Duration,
    },
    /// It answered with an error.
    #[error(transparent)]
    Io(io::Error),
}

impl DiskError {
    /// Whether the disk did not answer.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Silent { .. })
    }
}

impl From<io::Error> for DiskError {
    /// An error that a [`DiskError`] was made into becomes what it was.
    fn from(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Io)
    }
}

impl From<DiskError> for io::Error {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Io(error) => error,
            silent @ DiskError::Silent { .. } => Self::new(io::ErrorKind::TimedOut, silent),
        }
    }
}

/// A way to the disk with a quota of its own. Cheap to clone; clones share the quota.
#[derive(Debug, Clone)]
pub struct Disk {
    turns: Arc<Semaphore>,
}

impl Default for Disk {
    fn default() -> Self {
        Self::with_turns(TURNS_MAX)
    }
}

impl Disk {
    fn with_turns(turns: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(turns)) }
    }

    /// Runs `work` on a blocking thread. `doing` completes "the disk does not answer (…)".
    ///
    /// After the deadline the work goes on, and nobody waits for it: what it makes must be safe to find later.
    ///
    /// # Errors
    ///
    /// [`DiskError`]. Waiting for a turn counts in the deadline.
    pub async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        deadline: Duration,
        work: impl FnOnce(&Turn) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DiskError> {
        let silent = |_| DiskError::Silent { doing, after: deadline };
        let ends = Instant::now() + deadline;
        let permit = timeout_at(ends, Arc::clone(&self.turns).acquire_owned()).await.map_err(silent)?;
        let turn = Turn { _permit: Some(permit.map_err(io::Error::other)?) };
        // The turn moves into the closure: a call that hangs keeps it.
        let working = tokio::task::spawn_blocking(move || work(&turn));
        let done = timeout_at(ends, working).await.map_err(silent)?;
        Ok(done.map_err(io::Error::other)??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_call_that_hangs_is_given_up_and_keeps_its_turn_until_it_returns() {
        let disk = Disk::with_turns(1);
        let (release, hang) = mpsc::channel::<()>();
        let short = Duration::from_millis(50);
        let stuck = disk.run("opening a file", short, move |_| {
            let _ = hang.recv();
            Ok(())
        });
        let error = stuck.await.unwrap_err();
        assert!(error.is_silent());
        let as_io = io::Error::from(error);
        assert_eq!(as_io.kind(), io::ErrorKind::TimedOut);
        assert!(DiskError::from(as_io).is_silent());
        let next = disk.run("reading", short, |_| Ok(()));
        assert!(next.await.unwrap_err().is_silent(), "the only turn is stuck");
        let elsewhere = Disk::with_turns(1);
        elsewhere.run("reading", DEADLINE, |_| Ok(())).await.unwrap();
        drop(release);
        disk.run("reading", DEADLINE, |_| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn errors_come_through_as_they_are() {
        let failing = |_: &Turn| -> io::Result<()> { Err(io::ErrorKind::NotFound.into()) };
        let error = Disk::default().run("opening a file", DEADLINE, failing).await.unwrap_err();
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
        let silent = DiskError::Silent { doing: "opening a file", after: DEADLINE };
        assert_eq!(silent.to_string(), "the recordings' disk does not answer (opening a file, 5 s)");
    }
}

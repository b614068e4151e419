//! The disk that recordings are on: every call to it runs on a blocking thread, under a deadline and a cap.
//!
//! A disk can hang (a network mount without its server, a failing drive). A call to it then blocks its thread until the
//! disk is back, and nothing can end the call. On a tokio worker such a call stops HTTP, WebSockets and timers.
//!
//! **Invariant:** only [`Disk::run`] hands out a [`Turn`], and every function under `record::files` that calls the disk takes
//! one; so the compiler keeps such calls off tokio's workers. A turn is given back when its call has really returned. An
//! open file calls the disk once more when it is closed: [`DiskOwned`] keeps that call off the workers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

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

/// Owns a value whose drop calls the disk, such as an open file. Dropping the owner moves the value to a blocking thread,
/// and the value is dropped there.
#[derive(Debug)]
pub struct DiskOwned<T: Send + 'static> {
    disk: Disk,
    /// `None` only once it is being closed.
    value: Option<T>,
}

impl<T: Send + 'static> DiskOwned<T> {
    /// The value is dropped with a turn of `disk`.
    pub fn new(disk: &Disk, value: T) -> Self {
        Self { disk: disk.clone(), value: Some(value) }
    }

    /// The value, which is there for as long as this is.
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// Drops the value now, and waits for that until the deadline.
    pub async fn close(mut self, deadline: Duration) {
        if let Some(closing) = self.begin_closing() {
            // A disk that hangs closes it later.
            let _ = timeout(deadline, closing).await;
        }
    }

    fn begin_closing(&mut self) -> Option<JoinHandle<()>> {
        let value = self.value.take()?;
        // Without a runtime there is no worker to hold up.
        let runtime = Handle::try_current().ok()?;
        let turns = Arc::clone(&self.disk.turns);
        Some(runtime.spawn(async move {
            // No deadline: at its end the value could only be dropped here, on a worker. Nobody waits for this task.
            let permit = turns.acquire_owned().await;
            let close = move || {
                drop(value);
                drop(permit);
            };
            let _ = tokio::task::spawn_blocking(close).await;
        }))
    }
}

impl<T: Send + 'static> Drop for DiskOwned<T> {
    fn drop(&mut self) {
        drop(self.begin_closing());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Tells in which thread it is dropped.
    struct TellsItsDrop(mpsc::Sender<std::thread::ThreadId>);

    impl Drop for TellsItsDrop {
        fn drop(&mut self) {
            let _ = self.0.send(std::thread::current().id());
        }
    }

    #[tokio::test]
    async fn a_value_of_the_disk_is_dropped_on_a_blocking_thread_when_its_turn_comes() {
        let disk = Disk::with_turns(1);
        let (release, hang) = mpsc::channel::<()>();
        let stuck = disk.run("opening a file", Duration::from_millis(50), move |_| {
            let _ = hang.recv();
            Ok(())
        });
        assert!(stuck.await.unwrap_err().is_silent());
        let (told, drops) = mpsc::channel();
        drop(DiskOwned::new(&disk, TellsItsDrop(told.clone())));
        DiskOwned::new(&disk, TellsItsDrop(told)).close(Duration::from_millis(50)).await;
        assert_eq!(drops.try_recv(), Err(mpsc::TryRecvError::Empty), "the only turn is stuck");
        drop(release);
        disk.run("waiting for the turns before", DEADLINE, |_| Ok(())).await.unwrap();
        let threads: Vec<_> = drops.try_iter().collect();
        assert_eq!(threads.len(), 2);
        assert!(!threads.contains(&std::thread::current().id()));
    }

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

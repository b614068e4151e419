//! The recorder's face: it starts a task for each broadcast, watches the disk, and ends them all.
//!
//! **Invariant:** while a `Recorder` lives, no other server writes into its directory.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::complete::{CompleteError, complete};
use super::context::{Context, RecorderConfig, Token, stopped};
use super::counters::RecorderMetrics;
use super::ffmpeg::probe::probe;
use super::files::path::{self, DirectoryLock, RecordingPath};
use super::files::retention::{self, Cause, Removed};
use super::files::space;
use super::session::Session;
use crate::handle::{HubHandle, NewRecording};
use crate::rtp::codec::CodecSet;

/// How often a file of an earlier server is looked at while its ffmpeg still runs.
const LEFT_OPEN_INTERVAL: Duration = Duration::from_millis(500);

/// How long that is waited for. Its ffmpeg ends within a second or two of its server.
const LEFT_OPEN_MAX: Duration = Duration::from_secs(30);

/// Why there is no recorder.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Another server records there.
    #[error("another server records into {}: choose another --record-dir", .0.display())]
    Taken(PathBuf),
    /// The directory cannot be used.
    #[error("recordings cannot be kept in {dir}: {1}", dir = .0.display())]
    Directory(PathBuf, #[source] io::Error),
}

/// Records broadcasts until it is finished.
#[derive(Debug)]
pub struct Recorder {
    context: Arc<Context>,
    codecs: CodecSet,
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
    _lock: DirectoryLock,
}

impl Recorder {
    /// Takes the directory, finds out what ffmpeg can do, completes in the background what an earlier server left, and
    /// records what is announced. Without a usable ffmpeg it records nothing and says so.
    ///
    /// # Errors
    ///
    /// [`RecordError`]
    pub async fn start(
        config: RecorderConfig,
        handle: HubHandle,
        new_recordings: mpsc::Receiver<NewRecording>,
    ) -> Result<Self, RecordError> {
        let dir = config.dir.clone();
        let in_dir = |error| RecordError::Directory(dir.clone(), error);
        let lock = DirectoryLock::take(&config.dir).map_err(in_dir)?;
        let lock = lock.ok_or_else(|| RecordError::Taken(dir.clone()))?;
        let left = path::unfinished(&config.dir).map_err(in_dir)?;
        let ability = probe(&config.ffmpeg, config.audio).await;
        let (codecs, said) = (ability.codecs, &ability.said);
        if codecs.is_empty() {
            tracing::warn!("{said}");
        } else {
            tracing::info!("{said}");
        }
        let (stop, stopped) = watch::channel(false);
        let free_bytes = space::free_bytes(&config.dir);
        let has_space = space::is_enough(free_bytes, config.min_free_bytes, true);
        let (space_sender, space) = watch::channel(has_space);
        let context = Arc::new(Context::new(config, handle, ability, stopped, space));
        context.counters.free_bytes.set(free_bytes);
        context.counters.min_free_bytes.set(context.config.min_free_bytes);
        context.tell_recordable(has_space);
        let (token, ended) = mpsc::channel(1);
        if !codecs.is_empty() {
            tokio::spawn(complete_left(Arc::clone(&context), token.clone(), left));
        }
        tokio::spawn(watch_space(Arc::clone(&context), space_sender));
        if !context.config.retention.is_endless() {
            tokio::spawn(keep_to_retention(Arc::clone(&context)));
        }
        tokio::spawn(supervise(Arc::clone(&context), token, new_recordings));
        Ok(Self { context, codecs, stop, ended, _lock: lock })
    }

    /// What this ffmpeg can record. The hub is told by itself, also when the disk is full.
    #[must_use]
    pub fn recordable(&self) -> CodecSet {
        self.codecs
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> RecorderMetrics {
        self.context.counters.snapshot()
    }

    /// Reads the counters at any time, also beside [`finish`](Self::finish).
    pub fn meter(&self) -> impl Fn() -> RecorderMetrics + Send + Sync + 'static {
        let context = Arc::clone(&self.context);
        move || context.counters.snapshot()
    }

    /// Ends every recording and completes its file. What is not complete by the deadline stays as `.part.mp4`, which can
    /// be played, and is completed at the next start.
    pub async fn finish(mut self, deadline: Duration) {
        let _ = self.stop.send(true);
        // Nothing is ever sent: the channel ends with the last task.
        if timeout(deadline, self.ended.recv()).await.is_err() {
            tracing::warn!("not every recording could be completed in time: the rest is completed at the next start");
        }
    }
}

/// Starts a task for each broadcast, also for those that were announced before the recorder stopped.
async fn supervise(context: Arc<Context>, token: Token, mut new_recordings: mpsc::Receiver<NewRecording>) {
    let mut stop = context.stop.clone();
    loop {
        let new = tokio::select! {
            biased;
            () = stopped(&mut stop), if !new_recordings.is_closed() => {
                new_recordings.close();
                continue;
            }
            new = new_recordings.recv() => new,
        };
        let Some(new) = new else {
            return;
        };
        tokio::spawn(Session::run(Arc::clone(&context), token.clone(), new));
    }
}

/// Looks at the disk now and then, and tells the hub when that changes what can be recorded.
async fn watch_space(context: Arc<Context>, space: watch::Sender<bool>) {
    let mut stop = context.stop.clone();
    let mut ticks = interval(space::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = ticks.tick() => {}
        }
        let was_enough = *space.borrow();
        let free_bytes = space::free_bytes(&context.config.dir);
        context.counters.free_bytes.set(free_bytes);
        let is_enough = space::is_enough(free_bytes, context.config.min_free_bytes, was_enough);
        if is_enough != was_enough {
            space.send_replace(is_enough);
            context.tell_recordable(is_enough);
        }
    }
}

/// Removes recordings that are not to be kept, now and then.
async fn keep_to_retention(context: Arc<Context>) {
    let mut stop = context.stop.clone();
    let mut ticks = interval(retention::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = ticks.tick() => {}
        }
        let (dir, kept) = (context.config.dir.clone(), context.config.retention);
        let swept = tokio::task::spawn_blocking(move || retention::sweep(&dir, kept, SystemTime::now())).await;
        match swept.map_err(io::Error::other).and_then(|swept| swept) {
            Ok(removed) => {
                for Removed { name, bytes, cause } in removed {
                    let why = match cause {
                        Cause::Age => "older than --record-keep",
                        Cause::Size => "more than --record-max-size",
                    };
                    tracing::info!(file = %name, bytes, why, "recording removed");
                    context.counters.removed.add(1);
                }
            }
            Err(error) => tracing::warn!(%error, "the recordings cannot be looked through"),
        }
    }
}

/// Completes what an earlier server left.
async fn complete_left(context: Arc<Context>, _token: Token, left: Vec<RecordingPath>) {
    let mut stop = context.stop.clone();
    for path in left {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = complete_one(&context, &path) => {}
        }
    }
}

async fn complete_one(context: &Context, path: &RecordingPath) {
    let ended = timeout(LEFT_OPEN_MAX, async {
        while path::is_open(&path.part()) {
            tokio::time::sleep(LEFT_OPEN_INTERVAL).await;
        }
    });
    let file = path.name();
    let _growth = context.config.growing.begin(file.clone());
    if ended.await.is_err() {
        tracing::warn!(%file, "an unfinished recording is still written to by another process: it is left alone");
        return;
    }
    match complete(&context.config.ffmpeg, path, None).await {
        Ok(_) => tracing::info!(%file, "completed a recording that an earlier server left"),
        Err(CompleteError::Empty) => {
            tracing::info!(%file, "removed a recording of an earlier server that held nothing")
        }
        Err(error) => tracing::warn!(%file, %error, "a recording that an earlier server left stays unfinished"),
    }
}

//! The recorder's face: it starts a task for each broadcast, watches the disk, and ends them all.
//!
//! **Invariant:** while a `Recorder` lives, no other server writes into its directory.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::context::{Context, RecorderConfig, Token, stopped};
use super::counters::{Counters, RecorderMetrics};
use super::ffmpeg::probe::probe;
use super::files::directory::{Directory, DiskState, DiskStatus, Look};
use super::files::disk::{self, Disk, DiskOwned, Turn};
use super::files::space;
use super::handover::Handover;
use super::leftovers::Leftovers;
use super::retention_task::RetentionTask;
use super::session::Session;
use crate::handle::{HubHandle, NewRecording};
use crate::hub::io::Order;
use crate::rtp::codec::CodecSet;

/// Unfinished files that wait to be taken as leftovers. The rest is found in the directory.
const LEFTOVERS_WAITING_MAX: usize = 1024;

/// Why there is no recorder.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Another server records there.
    #[error("another server records into {}: choose another --record-dir", .0.display())]
    Taken(PathBuf),
    /// The directory cannot be used.
    #[error("recordings cannot be kept in {dir}: {1}", dir = .0.display())]
    Directory(PathBuf, DiskState),
    /// No usable ffmpeg. One line that says what is missing.
    #[error("{0}")]
    Unable(String),
}

/// Records broadcasts until it is finished.
#[derive(Debug)]
pub struct Recorder {
    context: Arc<Context>,
    codecs: CodecSet,
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
    handed_over: mpsc::Receiver<()>,
    directory: SharedDirectory,
}

/// Looked at by one call at a time; one that hangs keeps it. It holds open files.
type SharedDirectory = Arc<DiskOwned<Mutex<Directory>>>;

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
        Self::begin(config, handle, new_recordings, false).await
    }

    /// As [`start`](Self::start), but fails without a usable ffmpeg. The directory is free again then.
    ///
    /// # Errors
    ///
    /// [`RecordError`]
    pub async fn start_able(
        config: RecorderConfig,
        handle: HubHandle,
        new_recordings: mpsc::Receiver<NewRecording>,
    ) -> Result<Self, RecordError> {
        Self::begin(config, handle, new_recordings, true).await
    }

    async fn begin(
        config: RecorderConfig,
        handle: HubHandle,
        new_recordings: mpsc::Receiver<NewRecording>,
        must_be_able: bool,
    ) -> Result<Self, RecordError> {
        let disk = Disk::default();
        let directory = Mutex::new(Directory::new(config.dir.clone(), config.min_free_bytes));
        let directory = Arc::new(DiskOwned::new(&disk, directory));
        let Look { status, free_bytes } = look_at(&disk, &directory, 0).await;
        match status.state {
            DiskState::Ready | DiskState::Full { .. } => {}
            DiskState::Taken => return Err(RecordError::Taken(config.dir)),
            state => return Err(RecordError::Directory(config.dir, state)),
        }
        let ability = probe(&config.ffmpeg, config.audio).await;
        let (codecs, said) = (ability.codecs, &ability.said);
        if codecs.is_empty() && must_be_able {
            release(directory, disk::DEADLINE).await;
            return Err(RecordError::Unable(ability.said));
        }
        if codecs.is_empty() {
            tracing::warn!("{said}");
        } else {
            tracing::info!("{said}");
        }
        let (stop, stopped) = watch::channel(false);
        let (sender, receiver) = watch::channel(status.clone());
        let (leftovers, failed) = mpsc::channel(LEFTOVERS_WAITING_MAX);
        let (handover_token, handed_over) = mpsc::channel::<()>(1);
        let context = {
            let counters = Arc::<Counters>::default();
            let handover = config.on_recording.clone().map(|command| {
                Handover::start(command, config.dir.clone(), receiver.clone(), Arc::clone(&counters), handover_token)
            });
            Context::new(config, handle, ability, stopped, disk, receiver, leftovers, counters, handover)
        };
        let context = Arc::new(context);
        context.counters.free_bytes.set(free_bytes.unwrap_or(0));
        context.counters.min_free_bytes.set(context.config.min_free_bytes);
        let recordable = Some(codecs);
        let mut watcher = DiskWatcher {
            context: Arc::clone(&context),
            directory,
            status: sender,
            recordable,
            paused: false,
            generation: 0,
        };
        watcher.announce();
        watcher.tell(&status);
        let directory = Arc::clone(&watcher.directory);
        let (token, ended) = mpsc::channel(1);
        if !codecs.is_empty() {
            tokio::spawn(Leftovers::new(Arc::clone(&context), failed).run(token.clone()));
        }
        tokio::spawn(watcher.run(token.clone()));
        let config = &context.config;
        let (dir, growing) = (config.dir.clone(), config.growing.clone());
        let counters = Arc::clone(&context.counters);
        RetentionTask::of_recorder(context.slow_disk.clone(), dir, config.retention, growing, counters)
            .start(context.stop.clone());
        tokio::spawn(supervise(Arc::clone(&context), token, new_recordings));
        Ok(Self { context, codecs, stop, ended, handed_over, directory })
    }

    /// What this ffmpeg can record. The hub is told by itself, and separately when the disk is not ready.
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
        let by = Instant::now() + deadline;
        // Nothing is ever sent: the channels end with the last task.
        if timeout_at(by, self.ended.recv()).await.is_err() {
            tracing::warn!("not every recording could be completed in time: the rest is completed at the next start");
        }
        let handed_over = async {
            self.context.end_handover().await;
            self.handed_over.recv().await
        };
        if timeout_at(by, handed_over).await.is_err() {
            tracing::warn!("--on-recording did not end in time: it is run again at the next start");
        }
        release(self.directory, by.saturating_duration_since(Instant::now())).await;
    }
}

/// Gives the directory back, for the next recorder may want it at once. A look that hangs keeps it.
async fn release(directory: SharedDirectory, deadline: Duration) {
    if let Some(directory) = Arc::into_inner(directory) {
        directory.close(deadline).await;
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

/// Looks at the disk now and then, and tells everybody when its state changes.
struct DiskWatcher {
    context: Arc<Context>,
    directory: SharedDirectory,
    status: watch::Sender<DiskStatus>,
    /// What can be recorded, until the hub has taken it.
    recordable: Option<CodecSet>,
    /// What the hub was told.
    paused: bool,
    /// The directory that the log knows of.
    generation: u64,
}

impl DiskWatcher {
    async fn run(mut self, token: Token) {
        self.watch().await;
        // The recorder ends with its last token, and then needs the directory for itself.
        drop(self);
        drop(token);
    }

    async fn watch(&mut self) {
        let mut stop = self.context.stop.clone();
        let mut ticks = interval(space::INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first look was at the start.
        ticks.tick().await;
        loop {
            let look = async {
                ticks.tick().await;
                let generation = self.status.borrow().generation;
                look_at(&self.context.disk, &self.directory, generation).await
            };
            let Look { status, free_bytes } = tokio::select! {
                () = stopped(&mut stop) => return,
                look = look => look,
            };
            if let Some(free_bytes) = free_bytes {
                self.context.counters.free_bytes.set(free_bytes);
            }
            self.announce();
            self.publish(status);
        }
    }

    /// Tells the hub what can be recorded. A hub that is too busy is told at the next look.
    fn announce(&mut self) {
        if let Some(codecs) = self.recordable
            && self.context.try_order(Order::Recordable(codecs)).is_ok()
        {
            self.recordable = None;
        }
    }

    fn publish(&mut self, status: DiskStatus) {
        let is_news = |before: &DiskStatus| {
            // Other figures are no other state.
            let same = before.state == status.state || before.state.name() == status.state.name();
            !same || before.generation != status.generation
        };
        if is_news(&self.status.borrow()) {
            self.status.send_replace(status.clone());
            self.tell(&status);
        } else if self.paused == status.state.is_ready() {
            // The hub was too busy to be told.
            self.pause(!status.state.is_ready());
        }
    }

    fn tell(&mut self, status: &DiskStatus) {
        let (state, dir) = (&status.state, self.context.config.dir.display());
        self.context.counters.set_disk_state(state.name());
        if status.generation > self.generation {
            self.generation = status.generation;
            let generation = self.generation;
            tracing::warn!(%dir, generation, "the recordings' directory was removed or replaced: files that grew there are lost");
        }
        if !state.is_ready() {
            tracing::error!(%dir, "{state}: nothing is recorded");
        } else if status.generation > 0 || self.paused {
            tracing::info!(%dir, generation = status.generation, "{state}: broadcasts are recorded");
        }
        if self.paused == state.is_ready() {
            self.pause(!state.is_ready());
        }
    }

    fn pause(&mut self, paused: bool) {
        if self.context.try_order(Order::RecordingPaused(paused)).is_ok() {
            self.paused = paused;
        }
    }
}

/// One look, or [`DiskState::Silent`] where the disk does not answer.
async fn look_at(disk: &Disk, directory: &SharedDirectory, generation: u64) -> Look {
    let silent = || Look { status: DiskStatus { state: DiskState::Silent, generation }, free_bytes: None };
    let directory = Arc::clone(directory);
    let look = move |turn: &Turn| {
        Ok(match directory.get().map(Mutex::try_lock) {
            Some(Ok(mut directory)) => Some(directory.look(turn)),
            Some(Err(TryLockError::Poisoned(poisoned))) => Some(PoisonError::into_inner(poisoned).look(turn)),
            // An earlier look still hangs.
            Some(Err(TryLockError::WouldBlock)) | None => None,
        })
    };
    let looked = disk.run("looking at the recordings' directory", disk::DEADLINE, look).await;
    looked.ok().flatten().unwrap_or_else(silent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::{HandleError, Request, bridge};
    use crate::record::{AudioFormat, Growing, Retention};

    fn config(dir: PathBuf) -> RecorderConfig {
        RecorderConfig {
            dir,
            ffmpeg: "/nonexistent/ffmpeg".into(),
            min_free_bytes: 0,
            retention: Retention::default(),
            growing: Growing::default(),
            segment: Duration::from_secs(3600),
            keyframes: None,
            audio: AudioFormat::Copy,
            on_recording: None,
        }
    }

    #[tokio::test]
    async fn one_that_must_be_able_fails_without_ffmpeg_and_leaves_the_directory_free() {
        let dir = std::env::temp_dir().join(format!("onair-recorder-unable-{}", std::process::id()));
        for _ in 0..3 {
            let (handle, mut port, new_recordings) = bridge().unwrap();
            let error = Recorder::start_able(config(dir.clone()), handle, new_recordings).await.unwrap_err();
            assert!(matches!(&error, RecordError::Unable(said) if said.contains("install ffmpeg")), "{error}");
            assert!(port.requests.recv().await.is_none(), "the hub is told nothing");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_hub_that_is_too_busy_is_told_later_what_can_be_recorded() {
        let dir = std::env::temp_dir().join(format!("onair-recorder-busy-{}", std::process::id()));
        let (handle, mut port, new_recordings) = bridge().unwrap();
        while handle.order(Order::RecordingPaused(false)).is_ok() {}
        assert_eq!(handle.order(Order::RecordingPaused(false)), Err(HandleError::Busy));
        let recorder = Recorder::start(config(dir.clone()), handle, new_recordings).await.unwrap();
        let told = async {
            while let Some(request) = port.requests.recv().await {
                if matches!(request, Request::Order(Order::Recordable(_))) {
                    return;
                }
            }
            panic!("the recorder is gone");
        };
        tokio::time::timeout(space::INTERVAL * 5, told).await.expect("it is told at a later look");
        recorder.finish(Duration::from_secs(5)).await;
        std::fs::remove_dir_all(dir).unwrap();
    }
}

//! The recorder within the server: from the start, or, with `--record off`, from the first request for a recording on.
//!
//! **Invariant:** a server that records nothing takes no directory and looks for no ffmpeg, unless an earlier run left
//! something to complete or to hand over there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::samples::{recorder_samples, removed_sample};
use crate::config::{Config, RecordAudio, Size, Span};
use crate::handle::{HubHandle, NewRecording};
use crate::http::metrics::Sample;
use crate::hub::record_rule::RecordRule;
use crate::record::{
    AudioFormat, Disk, Growing, RecordError, Recorder, RecorderConfig, RecorderMetrics, Retention, RetentionTask, Turn,
    has_leftovers,
};

/// Recordings that may wait between the hub and a recorder that was started late.
const FORWARDED_MAX: usize = 64;

/// How long the look for what an earlier run left may take.
const LOOK_MAX: Duration = Duration::from_secs(60);

type Meter = Arc<dyn Fn() -> RecorderMetrics + Send + Sync>;

/// Why a recorder that is asked for does not run.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// It cannot start.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
}

impl EnsureError {
    /// The reason for clients: it names no path of this machine.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Record(RecordError::Unable(_)) => {
                "this server has no usable ffmpeg, and its log says what is missing"
            }
            Self::Record(RecordError::Taken(_)) => "another server records into the same directory",
            Self::Record(RecordError::Directory(..)) => {
                "the recordings' directory cannot be used, and the server's log says why"
            }
            Self::Stopping => "the server is stopping",
        }
    }
}

/// The recorder, once it runs.
pub struct Recording {
    config: RecorderConfig,
    handle: HubHandle,
    /// Held while the recorder starts.
    running: AsyncMutex<Option<Recorder>>,
    stopping: watch::Receiver<bool>,
    /// What the hub announces, until a recorder takes it.
    announced: Mutex<Option<mpsc::Receiver<NewRecording>>>,
    meter: Mutex<Option<Meter>>,
    /// Of the retention that runs without a recorder.
    retention_meter: Option<Meter>,
}

impl Recording {
    /// Starts the recorder where broadcasts are recorded by a rule; else what keeps to the retention, and in the background
    /// the recorder where an earlier run left something. Cancel safe: what was begun ends.
    ///
    /// # Errors
    ///
    /// [`RecordError`]
    pub async fn start(
        config: &Config,
        growing: Growing,
        handle: HubHandle,
        announced: mpsc::Receiver<NewRecording>,
        stopping: watch::Receiver<bool>,
    ) -> Result<Arc<Self>, RecordError> {
        let recorder_config = recorder_config(config, growing.clone());
        let mut recording = Self {
            config: recorder_config,
            handle,
            running: AsyncMutex::new(None),
            stopping: stopping.clone(),
            announced: Mutex::new(None),
            meter: Mutex::new(None),
            retention_meter: None,
        };
        if config.record == RecordRule::Off {
            let retention = recording.config.retention;
            if !retention.is_endless() {
                let task = RetentionTask::new(recording.config.dir.clone(), retention, growing);
                recording.retention_meter = Some(Arc::new(task.meter()));
                task.start(stopping);
            }
            recording.announced = Mutex::new(Some(announced));
            let recording = Arc::new(recording);
            tokio::spawn(Arc::clone(&recording).take_up());
            return Ok(recording);
        }
        let recorder = Recorder::start(recording.config.clone(), recording.handle.clone(), announced).await?;
        recording.meter = Mutex::new(Some(Arc::new(recorder.meter())));
        recording.running = AsyncMutex::new(Some(recorder));
        Ok(Arc::new(recording))
    }

    /// Sees that the recorder runs: what it can record is known to the hub before this returns. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`EnsureError`]; it is tried again the next time.
    pub async fn ensure(&self) -> Result<(), EnsureError> {
        tokio::select! {
            biased;
            // The start holds the lock that `finish` needs, and may wait a minute for an ffmpeg that hangs.
            () = stopped(self.stopping.clone()) => Err(EnsureError::Stopping),
            ensured = self.start_unless_running() => Ok(ensured?),
        }
    }

    /// Starts the recorder where an earlier run left something to complete or to hand over.
    async fn take_up(self: Arc<Self>) {
        let (dir, growing) = (self.config.dir.clone(), self.config.growing.clone());
        let hands_over = self.config.on_recording.is_some();
        let look = move |turn: &Turn| has_leftovers(turn, &dir, &growing, hands_over);
        match Disk::default().run("looking for what an earlier run left", LOOK_MAX, look).await {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => {
                tracing::warn!(%error, "unfinished recordings of an earlier run are not looked for");
                return;
            }
        }
        match self.ensure().await {
            Ok(()) | Err(EnsureError::Stopping) => {}
            Err(EnsureError::Record(error)) => {
                tracing::warn!(%error, "unfinished recordings of an earlier run are not completed now");
            }
        }
    }

    async fn start_unless_running(&self) -> Result<(), RecordError> {
        let mut running = self.running.lock().await;
        if running.is_some() {
            return Ok(());
        }
        let (forwarded, taken) = mpsc::channel(FORWARDED_MAX);
        // One that can record nothing would stay until a restart: the next request tries again.
        let recorder = Recorder::start_able(self.config.clone(), self.handle.clone(), taken).await?;
        *lock(&self.meter) = Some(Arc::new(recorder.meter()));
        *running = Some(recorder);
        if let Some(mut announced) = lock(&self.announced).take() {
            tokio::spawn(async move {
                while let Some(new) = announced.recv().await {
                    if forwarded.send(new).await.is_err() {
                        return;
                    }
                }
            });
        }
        Ok(())
    }

    /// What it has to tell Prometheus.
    pub fn samples(&self) -> Vec<Sample> {
        let meter = lock(&self.meter).clone();
        match (meter, &self.retention_meter) {
            (Some(meter), _) => recorder_samples(&meter()),
            (None, Some(retention)) => vec![removed_sample(&retention())],
            (None, None) => Vec::new(),
        }
    }

    /// Ends every recording and completes its file, as far as the deadline allows.
    pub async fn finish(&self, deadline: Instant) {
        let Ok(mut running) = timeout_at(deadline, self.running.lock()).await else {
            tracing::warn!("the recorder was still starting: it is not waited for");
            return;
        };
        if let Some(recorder) = running.take() {
            let rest = deadline.saturating_duration_since(Instant::now());
            recorder.finish(rest).await;
        }
    }
}

/// Waits until the server stops.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // A server that is gone has stopped.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

fn recorder_config(config: &Config, growing: Growing) -> RecorderConfig {
    RecorderConfig {
        dir: config.record_dir.clone(),
        ffmpeg: config.ffmpeg.clone(),
        min_free_bytes: config.record_min_free.bytes(),
        retention: Retention {
            keep: config.record_keep.map(Span::duration),
            max_bytes: config.record_max_size.map(Size::bytes),
        },
        growing,
        segment: config.record_segment.duration(),
        keyframes: config.record_keyframes.duration(),
        audio: match config.record_audio {
            RecordAudio::Copy => AudioFormat::Copy,
            RecordAudio::Aac => AudioFormat::Aac,
        },
        on_recording: config.on_recording.clone(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Each critical section is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What the sessions of one recorder share: the directory, what ffmpeg can do, the slots for transcodes, the counters, and
//! the way to tell the hub.
//!
//! **Invariant:** nothing here waits for the hub, and every file that began is told to have finished or failed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::complete::{CompleteError, Completions, complete};
use super::counters::Counters;
use super::ffmpeg::command::{AudioFormat, Streams};
use super::ffmpeg::probe::Ability;
use super::ffmpeg::process::FfmpegError;
use super::files::directory::{DiskState, DiskStatus};
use super::files::disk::{self, Disk, Turn};
use super::files::growing::{Growing, Growth};
use super::files::ledger::SpaceLedger;
use super::files::path::RecordingPath;
use super::files::retention::Retention;
use super::handover::Handover;
use super::session::{Ending, Ffmpeg, Segment};
use crate::handle::{HandleError, HubHandle};
use crate::hub::io::{FileFacts, Order, RecordingId, SessionId};
use crate::rtp::codec::Codec;
use crate::signal::BroadcastId;
use crate::signal::message::RecordingState;

/// How long ffmpeg may take to end its file when its input has ended.
const END_MAX: Duration = Duration::from_secs(20);

/// Where and with what to record.
#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// Where the files go.
    pub dir: PathBuf,
    /// The ffmpeg binary.
    pub ffmpeg: PathBuf,
    /// Below this much free space nothing is recorded.
    pub min_free_bytes: u64,
    /// What is kept of what was recorded.
    pub retention: Retention,
    /// Where those are told that are being written.
    pub growing: Growing,
    /// After so long the next file begins, at a keyframe.
    pub segment: Duration,
    /// How far apart keyframes may be before one is asked for; `None`: as far as the encoder likes.
    pub keyframes: Option<Duration>,
    /// What the sound becomes.
    pub audio: AudioFormat,
    /// Run by `sh -c` for each finished file.
    pub on_recording: Option<String>,
}

/// Held by each task that must end before the recorder has.
pub type Token = mpsc::Sender<()>;

/// Waits until the recorder stops. Cancel safe.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A recorder that is gone has stopped.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What is recorded.
#[derive(Debug, Clone)]
pub struct Subject {
    /// By what number hub and recorder speak of it.
    pub recording: RecordingId,
    /// Who broadcasts, for the log.
    pub session: SessionId,
    /// The broadcast.
    pub broadcast: BroadcastId,
}

/// What sessions share.
#[derive(Debug)]
pub struct Context {
    /// Where and with what.
    pub config: RecorderConfig,
    /// The counters.
    pub counters: Arc<Counters>,
    /// True when the recorder stops.
    pub stop: watch::Receiver<bool>,
    /// The way to the disk for what takes a moment.
    pub disk: Disk,
    /// The way to it for what takes long: whole files and directories. Whatever waits there holds up no new file.
    pub slow_disk: Disk,
    /// What completions share.
    pub completions: Completions,
    handle: HubHandle,
    ability: Ability,
    status: watch::Receiver<DiskStatus>,
    leftovers: mpsc::Sender<RecordingPath>,
    handover: Option<Handover>,
    transcodes: Arc<Semaphore>,
    transcodes_max: usize,
}

impl Context {
    /// A context for what this ffmpeg can record.
    #[allow(clippy::too_many_arguments, reason = "each is made by the recorder, which makes one context")]
    pub fn new(
        config: RecorderConfig,
        handle: HubHandle,
        ability: Ability,
        stop: watch::Receiver<bool>,
        disk: Disk,
        status: watch::Receiver<DiskStatus>,
        leftovers: mpsc::Sender<RecordingPath>,
        counters: Arc<Counters>,
        handover: Option<Handover>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let marks = config.on_recording.is_some().then(|| config.dir.clone());
        let ledger = SpaceLedger::new(config.dir.clone(), config.min_free_bytes, status.clone());
        let completions = Completions::new(ledger, marks);
        Self {
            config,
            disk,
            slow_disk: Disk::default(),
            completions,
            counters,
            stop,
            handle,
            ability,
            status,
            leftovers,
            handover,
            transcodes: Arc::new(Semaphore::new(cores)),
            transcodes_max: cores,
        }
    }

    /// Whether recordings can be written, else why not.
    pub fn disk_state(&self) -> DiskState {
        self.status.borrow().state.clone()
    }

    /// Rises when another directory stands at the recordings' path: files that are being written are then lost from it.
    pub fn disk_generation(&self) -> u64 {
        self.status.borrow().generation
    }

    /// Tells when state or generation change.
    pub fn disk_changes(&self) -> watch::Receiver<DiskStatus> {
        self.status.clone()
    }

    /// Leaves an unfinished file to be completed later.
    pub fn leave(&self, path: RecordingPath) {
        // One that is not taken is found in the directory.
        let _ = self.leftovers.try_send(path);
    }

    /// Whether a codec can be taken on now, with the right to transcode where it needs one; else why not.
    pub fn admit(&self, codec: Codec) -> Result<Option<OwnedSemaphorePermit>, String> {
        if !self.ability.codecs.contains(codec) {
            return Err(format!("this server's ffmpeg cannot record {codec}"));
        }
        if codec != Codec::Vp8 {
            return Ok(None);
        }
        Arc::clone(&self.transcodes).try_acquire_owned().map(Some).map_err(|_| {
            format!(
                "{} VP8 broadcasts are being transcoded already, as many as this machine has cores",
                self.transcodes_max
            )
        })
    }

    /// Begins a file.
    pub async fn begin(
        &self,
        broadcast: &BroadcastId,
        streams: Streams,
        begin_ns: i64,
        permit: Option<Arc<OwnedSemaphorePermit>>,
    ) -> Result<Segment, FfmpegError> {
        let (dir, growing) = (self.config.dir.clone(), self.config.growing.clone());
        let (broadcast, now) = (broadcast.clone(), OffsetDateTime::now_utc());
        let reserve = move |turn: &Turn| RecordingPath::reserve(turn, &dir, &growing, &broadcast, now);
        let reserved = self.disk.run("creating a file", disk::DEADLINE, reserve).await;
        let (path, growth) = reserved.map_err(|error| FfmpegError::File(error.into()))?;
        let reserved = path.clone();
        let counters = Arc::clone(&self.counters);
        let ffmpeg = Ffmpeg { binary: &self.config.ffmpeg, hybrid: self.ability.hybrid };
        let begun = Segment::begin(ffmpeg, path, growth, streams, begin_ns, permit, counters).await;
        if begun.is_err() {
            // It may hold the beginning of a file that no one will continue.
            let remove = move |turn: &Turn| reserved.remove_part(turn);
            let _ = self.disk.run("removing a file", disk::DEADLINE, remove).await;
        }
        begun
    }

    /// Completes a file, and hands it over.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]
    pub async fn complete(
        &self,
        path: &RecordingPath,
        growth: Growth,
        largest: Option<(u16, u16)>,
    ) -> Result<FileFacts, CompleteError> {
        let facts = complete(&self.slow_disk, &self.completions, &self.config.ffmpeg, path, growth, largest).await?;
        if let Some(handover) = &self.handover {
            handover.file(path.name()).await;
        }
        Ok(facts)
    }

    /// No file follows: what waits for the operator's command gets its run.
    pub async fn end_handover(&self) {
        if let Some(handover) = &self.handover {
            handover.last().await;
        }
    }

    /// Waits for a file's ffmpeg, completes the file, and tells how it went.
    pub async fn finish(&self, _token: &Token, subject: &Subject, segment: Segment, failure: Option<FfmpegError>) {
        let Ending { mut process, input, path, growth, largest, permit } = segment.end();
        let ended = process.ended_within(END_MAX).await;
        drop((input, permit));
        self.counters.ended.add(1);
        let failure = failure.map(|error| error.to_string()).or_else(|| match ended {
            Ok(exit) => (!exit.success).then(|| FfmpegError::Ended(exit.said).to_string()),
            Err(error) => Some(error.to_string()),
        });
        let completed = self.complete(&path, growth, largest).await;
        self.counters.completed.add(1);
        if completed.as_ref().is_err_and(|error| !matches!(error, CompleteError::Empty | CompleteError::Missing)) {
            self.leave(path.clone());
        }
        let file = match &completed {
            Ok(_) => Some(path.name()),
            Err(CompleteError::Empty | CompleteError::Missing | CompleteError::Renamed(_)) => None,
            Err(_) => Some(path.part_name()),
        };
        match (failure, completed) {
            (None, Ok(facts)) => self.tell_finished(subject, path.name(), facts),
            (Some(failure), Ok(_)) => self.tell_failed(subject, file, &failure),
            (None, Err(error)) => self.tell_failed(subject, file, &error.to_string()),
            (Some(failure), Err(error)) => {
                self.tell_failed(subject, file, &format!("{failure}; {error}"));
            }
        }
    }

    /// Tells that a file has begun.
    pub fn tell_started(&self, subject: &Subject, segment: &Segment) {
        let file = segment.path.name();
        let Subject { recording, session, broadcast } = subject;
        let (session, streams) = (session.0, segment.streams);
        tracing::info!(session, %broadcast, %file, ?streams, pid = segment.pid(), "recording started");
        self.counters.started.add(1);
        self.tell(*recording, RecordingState::Started, Some(file), None);
    }

    /// Tells that a file, or the whole recording, failed.
    pub fn tell_failed(&self, subject: &Subject, file: Option<String>, error: &str) {
        let Subject { recording, session, broadcast } = subject;
        tracing::error!(session = session.0, %broadcast, file = file.as_deref(), %error, "recording failed");
        self.counters.failed.add(1);
        // Where the directory lies is no one's business but the operator's.
        let root = self.config.dir.join("").display().to_string();
        self.tell(*recording, RecordingState::Failed, file, Some(error.replace(&root, "")));
    }

    fn tell_finished(&self, subject: &Subject, file: String, facts: FileFacts) {
        let Subject { recording, session, broadcast } = subject;
        let (session, duration_s) = (session.0, facts.duration.as_secs_f64());
        tracing::info!(session, %broadcast, %file, duration_s, size_bytes = facts.size_bytes, "recording finished");
        self.counters.finished.add(1);
        let (recording, state) = (*recording, RecordingState::Finished);
        self.order(Order::Recording { recording, state, file: Some(file), error: None, facts: Some(facts) });
    }

    fn tell(&self, recording: RecordingId, state: RecordingState, file: Option<String>, error: Option<String>) {
        self.order(Order::Recording { recording, state, file, error, facts: None });
    }

    /// Gives the hub an order, unless it is too busy.
    pub fn order(&self, order: Order) {
        let _ = self.try_order(order);
    }

    /// Gives the hub an order.
    ///
    /// # Errors
    ///
    /// Where it is too busy, or gone.
    pub fn try_order(&self, order: Order) -> Result<(), HandleError> {
        let ordered = self.handle.order(order);
        if let Err(error) = &ordered {
            tracing::debug!(%error, "the hub took no order from the recorder");
        }
        ordered
    }
}

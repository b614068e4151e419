//! The recording of one broadcast, from its first packet to its end: carries out what its [`Plan`] says.
//!
//! **Invariant:** the session takes packets as long as the broadcast lasts, whether it can write them or not, and holds
//! no more than a few seconds of them.

mod backoff;
mod cadence;
mod fit;
mod plan;
mod segment;
mod sound;
mod state;
mod step;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use self::plan::Plan;
pub use self::segment::{Ending, Ffmpeg, Segment};
use self::step::{Failure, FileId, Rules, Step};
use super::context::{Context, Subject, Token, stopped};
use super::ffmpeg::command::Streams;
use super::ffmpeg::process::FfmpegError;
use super::files::directory::DiskState;
use super::intake::Intake;
use super::intake::timeline::{Placed, Unit};
use crate::handle::NewRecording;
use crate::hub::io::{MediaPacket, Order};
use crate::rtp::codec::{Codec, TrackKind};

/// How often the session looks whether something is due while no packets come.
const TICK: Duration = Duration::from_millis(100);

/// Video that has not come for so long does not flow.
const VIDEO_WAIT: Duration = Duration::from_secs(5);

/// Keyframes are asked for this often while one is needed; the hub throttles further.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// The recording of one broadcast.
#[derive(Debug)]
pub struct Session {
    context: Arc<Context>,
    token: Token,
    subject: Subject,
    intake: Intake,
    plan: Plan,
    /// What is written: the latest file, and the one before while its last sound may come.
    files: Vec<(FileId, Segment)>,
    /// Files that are being completed.
    finishing: JoinSet<()>,
    /// The right to transcode, held from the first VP8 file to the last.
    transcode: Option<Arc<OwnedSemaphorePermit>>,
    /// A codec that was refused, so that it is told once.
    told_refused: Option<Codec>,
    /// The name of the disk's state that the plan and the broadcaster know.
    disk_state: &'static str,
    disk_generation: u64,
    asked: Option<Instant>,
    dropped: u64,
}

impl Session {
    /// Records a broadcast until it ends or the recorder stops.
    pub async fn run(context: Arc<Context>, token: Token, new: NewRecording) {
        let has = |kind| new.tracks.iter().any(|track| track.kind == kind);
        let rules = Rules {
            segment_ns: nanos(context.config.segment),
            keyframes_ns: context.config.keyframes.map(nanos),
            audio: context.config.audio,
        };
        let mut session = Self {
            disk_generation: context.disk_generation(),
            context,
            token,
            subject: Subject { recording: new.recording, session: new.session, broadcast: new.broadcast },
            intake: Intake::new(new.tracks.len()),
            plan: Plan::new(rules, has(TrackKind::Video), has(TrackKind::Audio)),
            files: Vec::with_capacity(2),
            finishing: JoinSet::new(),
            transcode: None,
            told_refused: None,
            disk_state: DiskState::READY,
            asked: None,
            dropped: 0,
        };
        session.work(new.packets).await;
        while session.finishing.join_next().await.is_some() {}
        session.context.order(Order::RecordingOver(session.subject.recording));
        let dropped = new.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            let Subject { session: whose, broadcast, .. } = &session.subject;
            tracing::warn!(session = whose.0, %broadcast, dropped, "the recorder did not keep up and lost packets");
            session.context.counters.packets_dropped.add(dropped);
        }
    }

    async fn work(&mut self, mut packets: mpsc::Receiver<MediaPacket>) {
        let mut stop = self.context.stop.clone();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.look_at_disk(&mut Vec::new());
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop) => {
                    // What the hub sent before is still written.
                    packets.close();
                    while let Some(packet) = packets.recv().await {
                        self.take(packet).await;
                    }
                    break;
                }
                // Ahead of the packets, which may come without a pause.
                _ = tick.tick() => self.tick().await,
                packet = packets.recv() => match packet {
                    Some(packet) => self.take(packet).await,
                    None => break,
                },
            }
        }
        let (mut placed, mut steps) = (Vec::new(), Vec::new());
        self.intake.flush(&mut placed);
        self.plan_all(placed, &mut steps);
        self.plan.end(&mut steps);
        self.carry_out(steps).await;
        self.count_drops();
    }

    async fn take(&mut self, packet: MediaPacket) {
        let (mut placed, mut steps) = (Vec::new(), Vec::new());
        self.intake.take(packet, &mut placed);
        self.plan_all(placed, &mut steps);
        self.carry_out(steps).await;
        self.ask(Instant::now());
    }

    async fn tick(&mut self) {
        while self.finishing.try_join_next().is_some() {}
        self.look_for_the_dead();
        let (now, mut placed, mut steps) = (Instant::now(), Vec::new(), Vec::new());
        self.look_at_disk(&mut steps);
        self.intake.tick(now, &mut placed);
        self.plan_all(placed, &mut steps);
        self.plan.tick(now, &mut steps);
        self.carry_out(steps).await;
        self.count_drops();
        self.ask(now);
    }

    fn plan_all(&mut self, placed: Vec<Placed>, steps: &mut Vec<Step>) {
        for Placed { at_ns, unit } in placed {
            match unit {
                Unit::Picture(picture) => self.plan.picture(at_ns, picture, steps),
                Unit::Sound(sound) => {
                    self.plan.sound(at_ns, sound, self.intake.video_flows(VIDEO_WAIT), steps);
                }
            }
        }
    }

    async fn carry_out(&mut self, steps: Vec<Step>) {
        for step in steps {
            let written = match step {
                Step::Begin { file, streams, begin_ns } => {
                    self.begin(file, streams, begin_ns).await;
                    continue;
                }
                Step::End(file) => {
                    self.finish(file, None);
                    continue;
                }
                // A file that is gone takes nothing more: what was planned before that is void.
                Step::Picture(file, at_ns, picture) => match self.file(file) {
                    Some(segment) => segment.write_picture(at_ns, &picture).await.map_err(|error| (file, error)),
                    None => continue,
                },
                Step::Sound(file, at_ns, sound) => match self.file(file) {
                    Some(segment) => segment.write_sound(at_ns, &sound).await.map_err(|error| (file, error)),
                    None => continue,
                },
            };
            if let Err((file, error)) = written {
                self.fail(file, error);
            }
        }
    }

    fn file(&mut self, wanted: FileId) -> Option<&mut Segment> {
        self.files.iter_mut().find(|(file, _)| *file == wanted).map(|(_, segment)| segment)
    }

    async fn begin(&mut self, file: FileId, streams: Streams, begin_ns: i64) {
        let permit = match self.admit(streams.video.unwrap_or(Codec::Opus)) {
            Ok(permit) => permit,
            Err(refusal) => return self.refuse(file, streams.video.unwrap_or(Codec::Opus), &refusal),
        };
        self.told_refused = None;
        match self.context.begin(&self.subject.broadcast, streams, begin_ns, permit).await {
            Ok(segment) => {
                self.context.tell_started(&self.subject, &segment);
                self.files.push((file, segment));
            }
            Err(error) => {
                self.plan.failed(file, Failure::Broken);
                self.context.tell_failed(&self.subject, None, &error.to_string());
            }
        }
    }

    /// The right to transcode where the codec needs one, which a broadcast keeps from one file to the next; else why not.
    fn admit(&mut self, codec: Codec) -> Result<Option<Arc<OwnedSemaphorePermit>>, String> {
        if codec != Codec::Vp8 {
            self.transcode = None;
        } else if self.transcode.is_some() {
            return Ok(self.transcode.clone());
        }
        self.transcode = self.context.admit(codec)?.map(Arc::new);
        Ok(self.transcode.clone())
    }

    fn refuse(&mut self, file: FileId, codec: Codec, refusal: &str) {
        self.plan.failed(file, Failure::Refused(codec));
        if self.told_refused.replace(codec) != Some(codec) {
            self.context.tell_failed(&self.subject, None, refusal);
        }
    }

    /// Ends a file after a failure.
    fn fail(&mut self, file: FileId, error: FfmpegError) {
        self.plan.failed(file, Failure::Broken);
        self.finish(file, Some(error));
    }

    fn finish(&mut self, wanted: FileId, failure: Option<FfmpegError>) {
        let Some(place) = self.files.iter().position(|(file, _)| *file == wanted) else {
            return;
        };
        let (_, segment) = self.files.swap_remove(place);
        let (context, token, subject) = (Arc::clone(&self.context), self.token.clone(), self.subject.clone());
        self.finishing.spawn(async move { context.finish(&token, &subject, segment, failure).await });
    }

    /// Files whose ffmpeg has ended by itself.
    fn look_for_the_dead(&mut self) {
        let dead: Vec<_> =
            self.files.iter().filter_map(|(file, segment)| Some((*file, segment.exit()?.said))).collect();
        for (file, said) in dead {
            self.fail(file, FfmpegError::Ended(said));
        }
    }

    /// Tells the plan whether the disk takes files, and the broadcaster why it does not.
    fn look_at_disk(&mut self, steps: &mut Vec<Step>) {
        let state = self.context.disk_state();
        if self.disk_state != state.name() {
            self.disk_state = state.name();
            self.plan.disk(state.is_ready(), steps);
            // One cause may follow another.
            if !state.is_ready() {
                self.context.tell_failed(&self.subject, None, &state.to_string());
            }
        }
        let generation = self.context.disk_generation();
        if self.disk_generation != generation {
            self.disk_generation = generation;
            self.plan.replace_file(steps);
        }
    }

    fn count_drops(&mut self) {
        let dropped = self.intake.dropped().saturating_add(self.plan.dropped());
        self.context.counters.packets_dropped.add(dropped.saturating_sub(self.dropped));
        self.dropped = dropped;
    }

    fn ask(&mut self, now: Instant) {
        if !self.intake.has_video() || !self.plan.may_write() {
            return;
        }
        let recording = self.subject.recording;
        if self.plan.keyframe_is_due() {
            self.context.order(Order::KeyframeDue(recording));
        }
        let is_due = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_INTERVAL);
        if is_due && (self.plan.wants_keyframe() || self.intake.awaits_keyframe()) {
            self.asked = Some(now);
            self.context.order(Order::Keyframe(recording));
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

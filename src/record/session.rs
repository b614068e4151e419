//! The recording of one broadcast, from its first packet to its end: which files it becomes.
//!
//! A file begins with a keyframe where there is video, and sound from that moment on. A new one begins
//! - where the codec changes;
//! - where a track appears that the file was not made for;
//! - where a VP8 picture grows noticeably. VP8 is transcoded, and an encoder keeps its first size. Browsers begin small,
//!   so a VP8 file waits a second for its size to settle; later pictures that are smaller, or a little larger, are scaled.
//!   The copied codecs change their size within a file;
//! - after ffmpeg failed, a few times and ever later.
//!
//! **Invariant:** the session takes packets as long as the broadcast lasts, whether it can write them or not, and holds
//! no more than a few seconds of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::context::{Context, Subject, Token, stopped};
use super::ffmpeg::command::Streams;
use super::ffmpeg::process::{Exit, FfmpegError};
use super::fit::{Fit, area, fits};
use super::intake::Intake;
use super::intake::picture::Picture;
use super::intake::timeline::{Placed, Unit};
use super::segment::Segment;
use crate::handle::NewRecording;
use crate::hub::io::{MediaPacket, Order};
use crate::rtp::codec::{Codec, TrackKind};

/// How often the session looks whether something is due while no packets come.
const TICK: Duration = Duration::from_millis(100);

/// How long sound waits for a video that was announced, or that has paused.
const VIDEO_WAIT: Duration = Duration::from_secs(5);

/// The same on the timeline.
const VIDEO_WAIT_NS: i64 = 5_000_000_000;

/// Sound kept for a file that is about to begin.
const KEPT_SOUND_NS: i64 = VIDEO_WAIT_NS + 1_000_000_000;

/// Packets of such sound, at most.
const KEPT_SOUND_MAX_PACKETS: usize = 1024;

/// How long a VP8 file waits for the picture's size to settle.
const SIZE_WAIT_NS: i64 = 1_000_000_000;

/// The same by the clock, where no more packets come.
const SIZE_WAIT: Duration = Duration::from_millis(1500);

/// Units that wait with it, at most.
const SIZE_WAIT_MAX_UNITS: usize = 1024;

/// Keyframes are asked for this often while one is needed; the hub throttles further.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// Files begun for one broadcast are this far apart at least.
const FILES_APART_NS: i64 = 1_000_000_000;

/// After a refusal it is tried again after so long.
const REFUSED_PAUSE_NS: i64 = 30_000_000_000;

/// Files that fail in a row before the session gives up.
const FAILURES_MAX: u32 = 5;

/// A file that lasted so long ends a row of failures.
const LASTED_NS: i64 = 60_000_000_000;

/// A VP8 file that waits for its size.
#[derive(Debug)]
struct Opening {
    units: Vec<Placed>,
    due_ns: i64,
    since: Instant,
}

/// The recording of one broadcast.
#[derive(Debug)]
pub struct Session {
    context: Arc<Context>,
    token: Token,
    subject: Subject,
    /// Files that are being completed.
    finishing: JoinSet<()>,
    has_video: bool,
    has_audio: bool,
    intake: Intake,
    segment: Option<Segment>,
    opening: Option<Opening>,
    sound: VecDeque<(i64, MediaPacket)>,
    sound_since_ns: Option<i64>,
    /// No file begins before this moment of the timeline.
    not_before_ns: i64,
    failures: u32,
    /// A codec that was refused, so that it is told once.
    refused: Option<Codec>,
    needs_keyframe: bool,
    asked: Option<Instant>,
    dropped: u64,
}

impl Session {
    /// Records a broadcast until it ends or the recorder stops.
    pub async fn run(context: Arc<Context>, token: Token, new: NewRecording) {
        let has = |kind| new.tracks.iter().any(|track| track.kind == kind);
        let (has_video, has_audio) = (has(TrackKind::Video), has(TrackKind::Audio));
        let mut session = Self {
            context,
            token,
            subject: Subject { recording: new.recording, session: new.session, broadcast: new.broadcast },
            finishing: JoinSet::new(),
            has_video,
            has_audio,
            intake: Intake::new(new.tracks.len()),
            segment: None,
            opening: None,
            sound: VecDeque::new(),
            sound_since_ns: None,
            not_before_ns: i64::MIN,
            failures: 0,
            refused: None,
            needs_keyframe: false,
            asked: None,
            dropped: 0,
        };
        session.work(new.packets).await;
        while session.finishing.join_next().await.is_some() {}
        session.context.order(Order::RecordingOver(session.subject.recording));
        let dropped = new.dropped.load(std::sync::atomic::Ordering::Relaxed);
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
                packet = packets.recv() => match packet {
                    Some(packet) => self.take(packet).await,
                    None => break,
                },
                exit = ended(&mut self.segment) => self.fail(FfmpegError::Ended(exit.said)),
                _ = tick.tick() => self.tick().await,
            }
        }
        self.flush().await;
        self.close();
    }

    async fn take(&mut self, packet: MediaPacket) {
        let mut placed = Vec::new();
        self.intake.take(packet, &mut placed);
        self.write_all(placed).await;
        self.count_drops();
        self.ask(Instant::now());
    }

    async fn tick(&mut self) {
        while self.finishing.try_join_next().is_some() {}
        let (now, mut placed) = (Instant::now(), Vec::new());
        self.intake.tick(now, &mut placed);
        self.write_all(placed).await;
        self.count_drops();
        if self.opening.as_ref().is_some_and(|opening| now.saturating_duration_since(opening.since) >= SIZE_WAIT) {
            self.open_settled().await;
        }
        if !self.context.has_space() {
            self.close();
        }
        self.ask(now);
    }

    async fn flush(&mut self) {
        let mut placed = Vec::new();
        self.intake.flush(&mut placed);
        self.write_all(placed).await;
        self.open_settled().await;
        // Sound that waited for a video that never came.
        if self.segment.is_none()
            && self.sound_since_ns.is_some()
            && let Some((begin_ns, _)) = self.sound.front()
        {
            self.open(*begin_ns, None, None).await;
        }
        if let Some(segment) = &mut self.segment
            && let Err(error) = segment.write_waiting(i64::MAX).await
        {
            self.fail(error);
        }
    }

    fn count_drops(&mut self) {
        let dropped = self.intake.dropped();
        self.context.counters.packets_dropped.add(dropped.saturating_sub(self.dropped));
        self.dropped = dropped;
    }

    async fn write_all(&mut self, placed: Vec<Placed>) {
        for unit in placed {
            self.write(unit).await;
        }
    }

    async fn write(&mut self, placed: Placed) {
        let Some(opening) = &mut self.opening else {
            return self.write_now(placed).await;
        };
        let is_due = placed.at_ns >= opening.due_ns || opening.units.len() >= SIZE_WAIT_MAX_UNITS;
        opening.units.push(placed);
        if is_due {
            self.open_settled().await;
        }
    }

    async fn write_now(&mut self, Placed { at_ns, unit }: Placed) {
        match unit {
            Unit::Sound(sound) => self.write_sound(at_ns, sound).await,
            Unit::Picture(picture) => self.write_picture(at_ns, picture).await,
        }
    }

    async fn write_sound(&mut self, at_ns: i64, sound: MediaPacket) {
        self.has_audio = true;
        let result = match &mut self.segment {
            Some(segment) if segment.streams.audio => segment.write_sound(at_ns, &sound).await,
            Some(_) => {
                self.needs_keyframe = true;
                Ok(())
            }
            None => Ok(()),
        };
        self.keep_sound(at_ns, sound);
        if let Err(error) = result {
            return self.fail(error);
        }
        if self.segment.is_none() {
            let since_ns = *self.sound_since_ns.get_or_insert(at_ns);
            let has_waited = at_ns.saturating_sub(since_ns) >= VIDEO_WAIT_NS && !self.intake.video_flows(VIDEO_WAIT);
            if !self.has_video {
                self.open(at_ns, None, None).await;
            } else if self.refused.is_none() && has_waited {
                let begin_ns = self.sound.front().map_or(at_ns, |(first_ns, _)| *first_ns);
                self.open(begin_ns, None, None).await;
            }
        }
    }

    fn keep_sound(&mut self, at_ns: i64, sound: MediaPacket) {
        self.sound.push_back((at_ns, sound));
        let oldest_ns = at_ns.saturating_sub(KEPT_SOUND_NS);
        while self.sound.len() > KEPT_SOUND_MAX_PACKETS || self.sound.front().is_some_and(|(at, _)| *at < oldest_ns) {
            self.sound.pop_front();
        }
    }

    async fn write_picture(&mut self, at_ns: i64, picture: Picture) {
        self.has_video = true;
        let fits = self.segment.as_ref().map(|segment| fits(segment.streams, &picture, self.has_audio));
        match fits {
            Some(Fit::Yes) => self.append(at_ns, &picture).await,
            Some(Fit::Better) if !picture.is_keyframe || !self.is_due(at_ns) => {
                self.needs_keyframe |= !picture.is_keyframe;
                self.append(at_ns, &picture).await;
            }
            _ if !picture.is_keyframe || !self.is_due(at_ns) => self.needs_keyframe = true,
            _ => {
                self.close();
                if picture.codec == Codec::Vp8 {
                    self.opening = Some(Opening {
                        units: vec![Placed { at_ns, unit: Unit::Picture(picture) }],
                        due_ns: at_ns.saturating_add(SIZE_WAIT_NS),
                        since: Instant::now(),
                    });
                } else {
                    let (codec, size) = (picture.codec, picture.size);
                    self.open(at_ns, Some(codec), size).await;
                    self.append(at_ns, &picture).await;
                }
            }
        }
    }

    async fn append(&mut self, at_ns: i64, picture: &Picture) {
        let Some(segment) = &mut self.segment else {
            return;
        };
        if let Err(error) = segment.write_picture(at_ns, picture).await {
            self.fail(error);
        }
    }

    fn is_due(&self, at_ns: i64) -> bool {
        at_ns >= self.not_before_ns
    }

    /// Begins the VP8 file that waited for its size.
    async fn open_settled(&mut self) {
        let Some(opening) = self.opening.take() else {
            return;
        };
        let sizes = opening.units.iter().filter_map(|placed| match &placed.unit {
            Unit::Picture(picture) => picture.size,
            Unit::Sound(_) => None,
        });
        let largest = sizes.max_by_key(|size| area(*size));
        let Some(begin_ns) = opening.units.first().map(|first| first.at_ns) else {
            return;
        };
        self.open(begin_ns, Some(Codec::Vp8), largest).await;
        for Placed { at_ns, unit } in opening.units {
            match unit {
                Unit::Sound(sound) => self.write_sound(at_ns, sound).await,
                Unit::Picture(picture) => self.append(at_ns, &picture).await,
            }
        }
    }

    /// Begins a file, and hands it the sound that was waiting.
    async fn open(&mut self, begin_ns: i64, video: Option<Codec>, size: Option<(u16, u16)>) {
        if !self.is_due(begin_ns) || !self.context.has_space() || self.failures >= FAILURES_MAX {
            return;
        }
        let Some(permit) = self.admit(begin_ns, video) else {
            return;
        };
        let even = |(width, height): (u16, u16)| (width.next_multiple_of(2), height.next_multiple_of(2));
        let streams = Streams { video, audio: self.has_audio, canvas: size.map(even) };
        self.not_before_ns = begin_ns.saturating_add(FILES_APART_NS);
        self.needs_keyframe = false;
        self.sound_since_ns = None;
        match self.context.begin(&self.subject.broadcast, streams, begin_ns, permit).await {
            Ok(mut segment) => {
                self.context.tell_started(&self.subject, &segment);
                segment.wait_with(&self.sound);
                self.segment = Some(segment);
            }
            Err(error) => {
                self.back_off(begin_ns, begin_ns);
                self.context.tell_failed(&self.subject, None, &error.to_string());
            }
        }
    }

    /// Whether this ffmpeg, and this machine, can take the codec on.
    #[allow(clippy::option_option, reason = "a refusal, or a permit where one is needed")]
    fn admit(&mut self, begin_ns: i64, video: Option<Codec>) -> Option<Option<OwnedSemaphorePermit>> {
        let codec = video.unwrap_or(Codec::Opus);
        match self.context.admit(codec) {
            Ok(permit) => {
                self.refused = None;
                Some(permit)
            }
            Err(refusal) => {
                self.not_before_ns = begin_ns.saturating_add(REFUSED_PAUSE_NS);
                if self.refused.replace(codec) != Some(codec) {
                    self.context.tell_failed(&self.subject, None, &refusal);
                }
                None
            }
        }
    }

    /// Ends the file in good order.
    fn close(&mut self) {
        if let Some(segment) = self.segment.take() {
            self.finish(segment, None);
        }
    }

    /// Ends the file after a failure, and sees to the next one.
    fn fail(&mut self, error: FfmpegError) {
        let Some(segment) = self.segment.take() else {
            return;
        };
        let now_ns = segment.latest_ns();
        self.back_off(segment.begin_ns, now_ns);
        self.finish(segment, Some(error));
    }

    fn finish(&mut self, segment: Segment, failure: Option<FfmpegError>) {
        let (context, token, subject) = (Arc::clone(&self.context), self.token.clone(), self.subject.clone());
        self.finishing.spawn(async move { context.finish(&token, &subject, segment, failure).await });
    }

    fn back_off(&mut self, begin_ns: i64, now_ns: i64) {
        let lasted = now_ns.saturating_sub(begin_ns) >= LASTED_NS;
        self.failures = if lasted { 1 } else { self.failures.saturating_add(1) };
        let pause_ns = 500_000_000_i64 << self.failures.min(6);
        self.not_before_ns = now_ns.saturating_add(pause_ns);
        self.needs_keyframe = true;
        if self.failures >= FAILURES_MAX {
            let Subject { session, broadcast, .. } = &self.subject;
            tracing::error!(session = session.0, %broadcast, "ffmpeg failed too often: the broadcast is no longer recorded");
        }
    }

    fn ask(&mut self, now: Instant) {
        let can_record = self.refused.is_none() && self.failures < FAILURES_MAX && self.context.has_space();
        let needs_one = self.needs_keyframe || self.intake.awaits_keyframe();
        let is_due = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_INTERVAL);
        if self.intake.has_video() && can_record && needs_one && is_due {
            self.asked = Some(now);
            self.context.order(Order::Keyframe(self.subject.recording));
        }
    }
}

async fn ended(segment: &mut Option<Segment>) -> Exit {
    match segment {
        Some(segment) => segment.ended().await,
        None => std::future::pending().await,
    }
}

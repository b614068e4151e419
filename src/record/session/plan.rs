//! Which files a broadcast becomes: the states of its recording, without a clock, a process or a disk.
//!
//! [`Plan`] takes pictures and sound in their places on the timeline, and tells in [`Step`]s what to begin, to write and to
//! end. A file begins with a keyframe where there is video. The next one begins
//! - at the first keyframe after `--record-segment`; without one, half a minute later;
//! - where the codec changes, or the parameter sets of H.265, which `hvc1` holds once for a file;
//! - where a track appears that the file was not made for;
//! - where a VP8 picture grows noticeably. VP8 is transcoded, and an encoder keeps its first size. Browsers begin small, so
//!   a VP8 file waits a second for its size to settle;
//! - after a failure, a little later each time, and once a minute at last, for as long as the broadcast lives.
//!
//! [`State`] has the table of states.
//!
//! **Invariant:** each unit is written once, or to no file at all: never to two. Between a file and the one that follows it
//! in `Writing` and `Turning` nothing is left out: pictures from the keyframe on and sound from its time on stand in the
//! next one, all before in the last one, which stays open for sound that comes late.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::cadence::Cadence;
use super::fit::{Fit, Shape, area};
use super::sound::HeldSound;
use super::state::{Bar, Current, Previous, State};
use super::step::{Failure, FileId, Rules, Step};
use crate::hub::io::MediaPacket;
use crate::record::ffmpeg::command::Streams;
use crate::record::intake::picture::Picture;
use crate::rtp::codec::Codec;

/// How long sound waits for a video that was announced, or that has paused.
const VIDEO_WAIT_NS: i64 = 5 * SECOND_NS;

/// How long a VP8 file waits for the picture's size to settle.
const SIZE_WAIT_NS: i64 = SECOND_NS;

/// The same by the clock, where no more pictures come.
const SIZE_WAIT: Duration = Duration::from_millis(1500);

/// Pictures that wait with it, at most.
const SIZE_WAIT_MAX_PICTURES: usize = 512;

/// How long after its limit a file goes on without a keyframe.
const TURN_WAIT_NS: i64 = 30 * SECOND_NS;

/// How long a file that was followed by another stays open for its last sound.
const LATE_SOUND_NS: i64 = SECOND_NS;

/// Files begun for one broadcast are this far apart at least.
const FILES_APART_NS: i64 = SECOND_NS;

/// A jump backwards by more than this means a new timeline. Two tracks of one timeline never differ by so much.
const STEP_BACK_NS: i64 = 10 * SECOND_NS;

/// After a refusal it is tried again after so long.
const REFUSED_PAUSE_NS: i64 = 30 * SECOND_NS;

const SECOND_NS: i64 = 1_000_000_000;

/// The recording of one broadcast.
#[derive(Debug)]
pub struct Plan {
    rules: Rules,
    state: State,
    previous: Option<Previous>,
    sound: HeldSound,
    has_video: bool,
    has_audio: bool,
    needs_keyframe: bool,
    latest_ns: i64,
    begun_ns: i64,
    last_file: u32,
    backoff: Backoff,
    refused: Option<Codec>,
    cadence: Cadence,
}

impl Plan {
    /// A plan for a broadcast that announced these tracks.
    pub fn new(rules: Rules, has_video: bool, has_audio: bool) -> Self {
        Self {
            rules,
            state: State::Idle,
            previous: None,
            sound: HeldSound::default(),
            has_video,
            has_audio,
            needs_keyframe: false,
            latest_ns: i64::MIN,
            begun_ns: i64::MIN,
            last_file: 0,
            backoff: Backoff::default(),
            refused: None,
            cadence: Cadence::new(rules.keyframes_ns),
        }
    }

    /// Takes a picture.
    pub fn picture(&mut self, at_ns: i64, picture: Picture, steps: &mut Vec<Step>) {
        self.has_video = true;
        self.pass(at_ns, steps);
        match &mut self.state {
            // What one codec may not do for now another one may.
            State::Barred(Bar::Refused(codec, _)) if *codec != picture.codec => {
                self.state = State::Idle;
                self.begin_with(at_ns, picture, steps);
            }
            State::Barred(_) => self.needs_keyframe |= !picture.is_keyframe,
            State::Idle => self.begin_with(at_ns, picture, steps),
            State::Settling { pictures, due_ns, .. } => {
                let is_due = at_ns >= *due_ns || pictures.len() >= SIZE_WAIT_MAX_PICTURES;
                pictures.push((at_ns, picture));
                if is_due {
                    self.settle(steps);
                }
            }
            State::Writing(current) | State::Turning(current, _) => {
                // What stands before the file's beginning, on a timeline that has stepped back, is for another one.
                let is_before = at_ns < current.begin_ns;
                let fit = if is_before { Fit::No } else { current.shape.fits(&picture, self.has_audio) };
                let turns = matches!(self.state, State::Turning(..));
                self.write_or_turn(at_ns, picture, fit, turns, steps);
            }
        }
    }

    /// Takes a packet of sound; `video_flows`: whether packets of video have come of late.
    pub fn sound(&mut self, at_ns: i64, sound: MediaPacket, video_flows: bool, steps: &mut Vec<Step>) {
        self.has_audio = true;
        self.pass(at_ns, steps);
        self.sound.push(at_ns, sound);
        match &self.state {
            State::Barred(_) | State::Settling { .. } => {}
            State::Idle => {
                if let Some(first_ns) = self.sound.first_ns()
                    && self.begins_with_sound(first_ns, at_ns, video_flows)
                {
                    self.begin(first_ns, None, None, steps);
                }
            }
            State::Writing(current) | State::Turning(current, _) => {
                if current.shape.streams.audio.is_none() {
                    self.needs_keyframe = true;
                } else if current.shape.streams.video.is_none() {
                    if at_ns.saturating_sub(current.begin_ns) >= self.rules.segment_ns {
                        self.follow(at_ns, steps);
                        self.begin(at_ns, None, None, steps);
                    }
                } else if let State::Turning(current, since_ns) = &self.state
                    && at_ns.saturating_sub(*since_ns) >= TURN_WAIT_NS
                    && at_ns.saturating_sub(current.latest_picture_ns) >= VIDEO_WAIT_NS
                    && !video_flows
                {
                    // The picture has paused: it will find another file.
                    self.follow(at_ns, steps);
                    self.begin(at_ns, None, None, steps);
                }
            }
        }
        self.release(steps);
    }

    /// Looks whether something is due though nothing comes.
    pub fn tick(&mut self, now: Instant, steps: &mut Vec<Step>) {
        if let State::Settling { since, .. } = &self.state
            && now.saturating_duration_since(*since) >= SIZE_WAIT
        {
            self.settle(steps);
        }
    }

    /// The disk takes files, or does not.
    pub fn disk(&mut self, is_ready: bool, steps: &mut Vec<Step>) {
        match (is_ready, &self.state) {
            (true, State::Barred(Bar::Disk)) => (self.state, self.needs_keyframe) = (State::Idle, true),
            (false, State::Barred(Bar::Disk)) | (true, _) => {}
            (false, _) => {
                self.close(steps);
                self.state = State::Barred(Bar::Disk);
            }
        }
    }

    /// Ends the file in good order and begins another: it has lost its place in the directory.
    pub fn replace_file(&mut self, steps: &mut Vec<Step>) {
        if self.state.current().is_some() {
            self.close(steps);
            self.state = State::Idle;
            self.needs_keyframe = true;
        }
    }

    /// A file did not begin, or broke off. Steps for it that were told before are void.
    pub fn failed(&mut self, file: FileId, failure: Failure) {
        if self.previous.is_some_and(|previous| previous.file == file) {
            self.previous = None;
        }
        let Some(current) = self.state.current().filter(|current| current.file == file) else {
            return;
        };
        let lasted_ns = self.latest_ns.saturating_sub(current.begin_ns);
        self.needs_keyframe = true;
        self.state = State::Barred(match failure {
            Failure::Refused(codec) => {
                self.refused = Some(codec);
                Bar::Refused(codec, self.latest_ns.saturating_add(REFUSED_PAUSE_NS))
            }
            Failure::Broken => Bar::Until(self.latest_ns.saturating_add(self.backoff.fail(lasted_ns))),
        });
    }

    /// Nothing more comes.
    pub fn end(&mut self, steps: &mut Vec<Step>) {
        if matches!(self.state, State::Settling { .. }) {
            self.settle(steps);
        }
        // Sound that waited for a video that never came.
        if matches!(self.state, State::Idle)
            && self.refused.is_none()
            && let Some(first_ns) = self.sound.first_ns()
        {
            self.begin(first_ns, None, None, steps);
        }
        self.close(steps);
        self.state = State::Idle;
    }

    /// Whether nothing goes on without a keyframe.
    pub fn wants_keyframe(&self) -> bool {
        match self.state {
            State::Barred(_) | State::Settling { .. } => false,
            State::Idle | State::Writing(_) => self.needs_keyframe,
            State::Turning(..) => true,
        }
    }

    /// Whether a file may begin or goes on, so that a keyframe would be of use.
    pub fn may_write(&self) -> bool {
        !matches!(self.state, State::Barred(_))
    }

    /// Whether the latest keyframe of the file is so long ago that one should be asked for, as the rules say. It is told
    /// once for each such time.
    pub fn keyframe_is_due(&mut self) -> bool {
        let current = self.state.current().filter(|current| current.shape.streams.video.is_some());
        let times = current.map(|current| (current.keyframe_ns, current.latest_picture_ns));
        times.is_some_and(|(keyframe_ns, latest_ns)| self.cadence.is_due(keyframe_ns, latest_ns))
    }

    /// Packets of sound that came too late for any file.
    pub fn dropped(&self) -> u64 {
        self.sound.dropped
    }

    /// The timeline has come to `at_ns`: ends a pause, and what waited long enough.
    fn pass(&mut self, at_ns: i64, steps: &mut Vec<Step>) {
        if at_ns.saturating_add(STEP_BACK_NS) < self.latest_ns {
            self.step_back(at_ns);
        }
        self.latest_ns = self.latest_ns.max(at_ns);
        if matches!(&self.state, State::Barred(bar) if bar.is_over(self.latest_ns)) {
            self.state = State::Idle;
        }
        if let Some(previous) = self.previous
            && self.latest_ns >= previous.until_ns.saturating_add(LATE_SOUND_NS)
        {
            self.end_previous(steps);
        }
        let limit_ns = self.rules.segment_ns;
        if let State::Writing(current) = &self.state
            && current.shape.streams.video.is_some()
            && at_ns.saturating_sub(current.begin_ns) >= limit_ns
            && let State::Writing(current) = std::mem::replace(&mut self.state, State::Idle)
        {
            self.state = State::Turning(current, at_ns);
        }
    }

    /// What was to be waited for on the old timeline is not waited for on the new one.
    fn step_back(&mut self, at_ns: i64) {
        (self.latest_ns, self.begun_ns) = (at_ns, self.begun_ns.min(at_ns.saturating_sub(FILES_APART_NS)));
        if let State::Barred(bar) = &mut self.state {
            bar.end_by(at_ns.saturating_add(REFUSED_PAUSE_NS));
        }
    }

    fn begin_with(&mut self, at_ns: i64, picture: Picture, steps: &mut Vec<Step>) {
        if !picture.is_keyframe || at_ns.saturating_sub(self.begun_ns) < FILES_APART_NS {
            self.needs_keyframe = true;
        } else if picture.codec == Codec::Vp8 {
            self.needs_keyframe = false;
            let due_ns = at_ns.saturating_add(SIZE_WAIT_NS);
            let since = picture.arrival;
            self.state = State::Settling { pictures: vec![(at_ns, picture)], due_ns, since };
        } else {
            self.begin(at_ns, Some(&picture), picture.size, steps);
            self.append(at_ns, picture, steps);
        }
    }

    fn write_or_turn(&mut self, at_ns: i64, picture: Picture, fit: Fit, turns: bool, steps: &mut Vec<Step>) {
        let may_begin = at_ns.saturating_sub(self.begun_ns) >= FILES_APART_NS;
        let must_turn = match &self.state {
            // Nothing could decode VP8 from there on, so it waits for its keyframe.
            State::Turning(_, since_ns) => {
                at_ns.saturating_sub(*since_ns) >= TURN_WAIT_NS && picture.codec != Codec::Vp8
            }
            _ => false,
        };
        match fit {
            Fit::Yes if !turns => self.append(at_ns, picture, steps),
            Fit::Yes | Fit::Better if !(may_begin && (picture.is_keyframe || must_turn)) => {
                self.needs_keyframe |= !picture.is_keyframe;
                self.append(at_ns, picture, steps);
            }
            Fit::No if !(may_begin && picture.is_keyframe) => self.needs_keyframe = true,
            Fit::Yes | Fit::Better | Fit::No => self.turn(at_ns, picture, fit, steps),
        }
    }

    /// Ends the file, and begins the next with this picture.
    fn turn(&mut self, at_ns: i64, mut picture: Picture, fit: Fit, steps: &mut Vec<Step>) {
        self.follow(at_ns, steps);
        if fit != Fit::Yes && picture.codec == Codec::Vp8 {
            self.state = State::Idle;
            self.begun_ns = i64::MIN;
            return self.begin_with(at_ns, picture, steps);
        }
        if !picture.is_keyframe {
            let sets = picture.sets.iter().map(Arc::clone);
            picture.payloads = sets.chain(std::mem::take(&mut picture.payloads)).collect();
        }
        self.begin(at_ns, Some(&picture), picture.size, steps);
        self.append(at_ns, picture, steps);
    }

    /// The file gets what sound stands before `at_ns`, and stays open for what comes late.
    fn follow(&mut self, at_ns: i64, steps: &mut Vec<Step>) {
        self.end_previous(steps);
        let Some(Current { file, shape, .. }) = self.state.current() else {
            return;
        };
        let (file, has_audio) = (*file, shape.streams.audio.is_some());
        if !has_audio {
            return steps.push(Step::End(file));
        }
        self.write_sound_before(file, at_ns, steps);
        self.previous = Some(Previous { file, until_ns: at_ns });
    }

    /// Begins the VP8 file that waited for its size.
    fn settle(&mut self, steps: &mut Vec<Step>) {
        let State::Settling { pictures, .. } = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        let largest = pictures.iter().filter_map(|(_, picture)| picture.size).max_by_key(|size| area(*size));
        if let Some((begin_ns, first)) = pictures.first() {
            self.begin(*begin_ns, Some(first), largest, steps);
        }
        for (at_ns, picture) in pictures {
            self.append(at_ns, picture, steps);
        }
    }

    /// Whether what was kept of the sound begins a file without a picture.
    fn begins_with_sound(&self, first_ns: i64, at_ns: i64, video_flows: bool) -> bool {
        let has_waited = at_ns.saturating_sub(first_ns) >= VIDEO_WAIT_NS && !video_flows;
        !self.has_video || (self.refused.is_none() && has_waited)
    }

    fn begin(&mut self, begin_ns: i64, video: Option<&Picture>, size: Option<(u16, u16)>, steps: &mut Vec<Step>) {
        let even = |(width, height): (u16, u16)| (width.next_multiple_of(2), height.next_multiple_of(2));
        let (video_codec, audio) = (video.map(|picture| picture.codec), self.has_audio.then_some(self.rules.audio));
        let streams = Streams { video: video_codec, audio, canvas: size.map(even) };
        self.last_file = self.last_file.wrapping_add(1);
        let file = FileId(self.last_file);
        let shape = Shape { streams, sets: video.map_or_else(|| Arc::from([]), |picture| Arc::clone(&picture.sets)) };
        steps.push(Step::Begin { file, streams, begin_ns });
        (self.needs_keyframe, self.refused, self.begun_ns) = (false, None, begin_ns);
        let latest_picture_ns = if video.is_some() { i64::MIN } else { i64::MAX };
        let keyframe_ns = begin_ns;
        self.state = State::Writing(Current { file, shape, begin_ns, latest_picture_ns, keyframe_ns });
        self.release(steps);
    }

    fn append(&mut self, at_ns: i64, picture: Picture, steps: &mut Vec<Step>) {
        if let State::Writing(current) | State::Turning(current, _) = &mut self.state {
            current.latest_picture_ns = current.latest_picture_ns.max(at_ns);
            if picture.is_keyframe {
                current.keyframe_ns = at_ns;
            }
            let file = current.file;
            // A keyframe that changes nothing is one that was asked for in vain.
            self.needs_keyframe &= !picture.is_keyframe;
            steps.push(Step::Picture(file, at_ns, picture));
        }
        self.release(steps);
    }

    /// Writes the sound whose picture has been written, or is not to be waited for.
    fn release(&mut self, steps: &mut Vec<Step>) {
        if let Some(Previous { file, until_ns }) = self.previous {
            self.write_sound_before(file, until_ns, steps);
            if self.sound.first_ns().is_some() {
                self.end_previous(steps);
            }
        }
        let Some(current) = self.state.current() else {
            return self.sound.forget_old();
        };
        let (file, begin_ns, until_ns) = (current.file, current.begin_ns, current.latest_picture_ns);
        if current.shape.streams.audio.is_none() {
            return self.sound.forget_old();
        }
        if self.previous.is_none() {
            self.sound.drop_before(begin_ns);
        }
        while let Some((at_ns, sound)) = self.sound.take_due(until_ns) {
            steps.push(Step::Sound(file, at_ns, sound));
        }
    }

    fn write_sound_before(&mut self, file: FileId, before_ns: i64, steps: &mut Vec<Step>) {
        while let Some((at_ns, sound)) = self.sound.take_before(before_ns) {
            steps.push(Step::Sound(file, at_ns, sound));
        }
    }

    fn end_previous(&mut self, steps: &mut Vec<Step>) {
        steps.extend(self.previous.take().map(|it| Step::End(it.file)));
    }

    /// Ends all files, with all sound that belongs to them.
    fn close(&mut self, steps: &mut Vec<Step>) {
        self.release(steps);
        self.end_previous(steps);
        if let Some(Current { file, shape, begin_ns, .. }) = self.state.current() {
            let (file, begin_ns, has_audio) = (*file, *begin_ns, shape.streams.audio.is_some());
            if has_audio {
                self.sound.drop_before(begin_ns);
                self.write_sound_before(file, i64::MAX, steps);
            }
            steps.push(Step::End(file));
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

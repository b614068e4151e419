//! Gives every picture and every packet of sound its place on one timeline.
//!
//! Within a track the RTP timestamps tell the distances. Where the tracks lie relative to each other is told by their
//! sender reports (RFC 3550 §6.4.1) once both have one, and until then by when their packets arrived: the quickest of the
//! first second counts, since pacing and the network only ever add delay. A track is held back for that second at most.
//! Once its place is fixed a track never jumps: when reports say otherwise later, or the two clocks drift apart, the
//! picture is moved by at most 2 % of the time that passes. Sound keeps its own clock throughout.
//!
//! Without sender reports drift is not corrected: arrival times are too rough to tell it from the network's delay.
//!
//! **Invariant:** the distance between two units of a track of one epoch is that of their timestamps, but for the slow
//! correction above.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::picture::Picture;
use crate::hub::io::{MediaPacket, SenderReport};
use crate::rtp::codec::TrackKind;

/// How long a track is held back until its place is known.
pub const SETTLE: Duration = Duration::from_secs(1);

/// Units held back, at most; more fixes the track's place at once.
const HELD_MAX_UNITS: usize = 512;

/// Sender reports that contradict the arrival times by more than this are not believed.
const BELIEVED_MAX_NS: i64 = 3_000_000_000;

/// A timestamp that runs away from the arrival times by more than this belongs to a new clock.
const RUNAWAY_NS: i64 = 10_000_000_000;

/// What is placed.
#[derive(Debug, Clone)]
pub enum Unit {
    /// A whole picture.
    Picture(Picture),
    /// One packet of sound.
    Sound(MediaPacket),
}

impl Unit {
    fn kind(&self) -> TrackKind {
        match self {
            Unit::Picture(_) => TrackKind::Video,
            Unit::Sound(_) => TrackKind::Audio,
        }
    }

    fn stamps(&self) -> (u32, u32, u32, Instant, Option<SenderReport>) {
        match self {
            Unit::Picture(p) => (p.epoch, p.timestamp, p.codec.clock_rate_hz(), p.arrival, p.sender_report),
            Unit::Sound(p) => (p.epoch, p.timestamp, p.codec.clock_rate_hz(), p.arrival, p.sender_report),
        }
    }
}

/// A unit and its place.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Nanoseconds on the broadcast's timeline. Only distances mean something.
    pub at_ns: i64,
    /// What stands there.
    pub unit: Unit,
}

/// The clock of one track's epoch.
#[derive(Debug)]
struct Clock {
    epoch: u32,
    rate_hz: u32,
    latest_timestamp: u32,
    latest_arrival_ns: i64,
    /// The latest timestamp, counted from the first one.
    ticks: i64,
    since_ns: i64,
    /// Where tick 0 lies by the quickest packet so far.
    by_arrival_ns: i64,
    /// The latest sender report, its RTP timestamp in ticks.
    report: Option<(u64, i64)>,
    /// Where tick 0 lies, once fixed.
    offset_ns: Option<i64>,
    /// Where it should lie by the latest reports.
    target_ns: Option<i64>,
    latest_at_ns: i64,
    held: VecDeque<(i64, Unit)>,
}

/// The timeline of one broadcast.
#[derive(Debug)]
pub struct Timeline {
    origin: Option<Instant>,
    is_alone: bool,
    audio: Option<Clock>,
    video: Option<Clock>,
}

impl Timeline {
    /// A timeline for a broadcast that announced this many tracks: a single one needs no place relative to another.
    pub fn new(tracks: usize) -> Self {
        Self { origin: None, is_alone: tracks < 2, audio: None, video: None }
    }

    /// Takes a unit of a track, in the order in which it was sent, and puts out what has found its place.
    pub fn admit(&mut self, unit: Unit, out: &mut Vec<Placed>) {
        let kind = unit.kind();
        let (epoch, timestamp, rate_hz, arrival, report) = unit.stamps();
        let origin = *self.origin.get_or_insert(arrival);
        let arrival_ns = signed_ns(arrival, origin);
        let is_continued = self.clock(kind).as_ref().is_some_and(|clock| clock.continues(epoch, timestamp, arrival_ns));
        if !is_continued {
            self.fix(kind, out);
            *self.clock_mut(kind) = Some(Clock::new(epoch, rate_hz, timestamp, arrival_ns));
        }
        let Some(clock) = self.clock_mut(kind) else {
            return;
        };
        let ticks = clock.advance(timestamp, arrival_ns);
        let has_news = report.is_some_and(|report| clock.learn(report));
        clock.held.push_back((ticks, unit));
        if has_news {
            self.aim();
        }
        self.settle(arrival_ns, out);
        self.place(kind, out);
    }

    /// Fixes the tracks that have been held back long enough.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Placed>) {
        let Some(origin) = self.origin else {
            return;
        };
        self.settle(signed_ns(now, origin), out);
    }

    /// Puts out all that is held back: nothing more comes.
    pub fn flush(&mut self, out: &mut Vec<Placed>) {
        let begin = out.len();
        self.fix(TrackKind::Audio, out);
        self.fix(TrackKind::Video, out);
        sort_from(out, begin);
    }

    fn clock(&self, kind: TrackKind) -> &Option<Clock> {
        match kind {
            TrackKind::Audio => &self.audio,
            TrackKind::Video => &self.video,
        }
    }

    fn clock_mut(&mut self, kind: TrackKind) -> &mut Option<Clock> {
        match kind {
            TrackKind::Audio => &mut self.audio,
            TrackKind::Video => &mut self.video,
        }
    }

    fn settle(&mut self, now_ns: i64, out: &mut Vec<Placed>) {
        let has_reports = |clock: &Option<Clock>| clock.as_ref().is_some_and(|clock| clock.report.is_some());
        let both_reported = has_reports(&self.audio) && has_reports(&self.video);
        let begin = out.len();
        for kind in [TrackKind::Audio, TrackKind::Video] {
            let is_due = self.clock(kind).as_ref().is_some_and(|clock| {
                clock.offset_ns.is_none()
                    && (self.is_alone
                        || both_reported
                        || clock.held.len() >= HELD_MAX_UNITS
                        || now_ns.saturating_sub(clock.since_ns) >= nanos(SETTLE))
            });
            if is_due {
                self.fix(kind, out);
            }
        }
        sort_from(out, begin);
    }

    /// Fixes a track's place, if it has none yet, and puts out what was held back.
    fn fix(&mut self, kind: TrackKind, out: &mut Vec<Placed>) {
        let by_reports_ns = self.by_reports(kind);
        let Some(clock) = self.clock_mut(kind) else {
            return;
        };
        if clock.offset_ns.is_none() {
            let believed = by_reports_ns.filter(|by_reports_ns| {
                by_reports_ns.saturating_sub(clock.by_arrival_ns).saturating_abs() <= BELIEVED_MAX_NS
            });
            clock.offset_ns = Some(believed.unwrap_or(clock.by_arrival_ns));
        }
        self.place(kind, out);
    }

    /// Where a track's tick 0 lies by the reports of both, taking the other track's place as given.
    fn by_reports(&self, kind: TrackKind) -> Option<i64> {
        let (own, other) = match kind {
            TrackKind::Audio => (self.audio.as_ref()?, self.video.as_ref()?),
            TrackKind::Video => (self.video.as_ref()?, self.audio.as_ref()?),
        };
        let (own_ntp, own_ticks) = own.report?;
        let (other_ntp, other_ticks) = other.report?;
        let other_at_ns = other.offset_ns?.saturating_add(other.nanos(other_ticks));
        let distance_ns = ntp_distance_ns(own_ntp, other_ntp);
        Some(other_at_ns.saturating_add(distance_ns).saturating_sub(own.nanos(own_ticks)))
    }

    /// Notes where the picture should lie by the latest reports.
    fn aim(&mut self) {
        let target_ns = self.by_reports(TrackKind::Video);
        if let Some(video) = &mut self.video
            && let (Some(offset_ns), Some(target_ns)) = (video.offset_ns, target_ns)
            && target_ns.saturating_sub(offset_ns).saturating_abs() <= BELIEVED_MAX_NS
        {
            tracing::trace!(by_us = target_ns.saturating_sub(offset_ns) / 1000, "sender reports move the picture");
            video.target_ns = Some(target_ns);
        }
    }

    fn place(&mut self, kind: TrackKind, out: &mut Vec<Placed>) {
        let Some(clock) = self.clock_mut(kind) else {
            return;
        };
        let Some(mut offset_ns) = clock.offset_ns else {
            return;
        };
        while let Some((ticks, unit)) = clock.held.pop_front() {
            let ticks_ns = clock.nanos(ticks);
            if let Some(target_ns) = clock.target_ns {
                let passed_ns = ticks_ns.saturating_add(offset_ns).saturating_sub(clock.latest_at_ns).max(0);
                let step_max_ns = passed_ns.min(1_000_000_000) / 50;
                let step_ns = target_ns.saturating_sub(offset_ns).clamp(-step_max_ns, step_max_ns);
                offset_ns = offset_ns.saturating_add(step_ns);
            }
            let at_ns = ticks_ns.saturating_add(offset_ns);
            clock.latest_at_ns = at_ns;
            out.push(Placed { at_ns, unit });
        }
        clock.offset_ns = Some(offset_ns);
    }
}

impl Clock {
    fn new(epoch: u32, rate_hz: u32, timestamp: u32, arrival_ns: i64) -> Self {
        Self {
            epoch,
            rate_hz,
            latest_timestamp: timestamp,
            latest_arrival_ns: arrival_ns,
            ticks: 0,
            since_ns: arrival_ns,
            by_arrival_ns: arrival_ns,
            report: None,
            offset_ns: None,
            target_ns: None,
            latest_at_ns: i64::MAX,
            held: VecDeque::new(),
        }
    }

    /// Whether a timestamp is this clock's: of its epoch, and not far off from when it arrived.
    fn continues(&self, epoch: u32, timestamp: u32, arrival_ns: i64) -> bool {
        let by_timestamp_ns = self.nanos(i64::from(self.since_latest(timestamp)));
        let by_arrival_ns = arrival_ns.saturating_sub(self.latest_arrival_ns);
        self.epoch == epoch && by_timestamp_ns.saturating_sub(by_arrival_ns).saturating_abs() <= RUNAWAY_NS
    }

    fn since_latest(&self, timestamp: u32) -> i32 {
        timestamp.wrapping_sub(self.latest_timestamp).cast_signed()
    }

    fn advance(&mut self, timestamp: u32, arrival_ns: i64) -> i64 {
        self.ticks = self.ticks.saturating_add(i64::from(self.since_latest(timestamp)));
        self.latest_timestamp = timestamp;
        self.latest_arrival_ns = arrival_ns;
        self.by_arrival_ns = self.by_arrival_ns.min(arrival_ns.saturating_sub(self.nanos(self.ticks)));
        self.ticks
    }

    /// Takes a sender report; whether it was a new one.
    fn learn(&mut self, report: SenderReport) -> bool {
        let ticks = self.ticks.saturating_add(i64::from(self.since_latest(report.rtp)));
        let news = Some((report.ntp, ticks));
        std::mem::replace(&mut self.report, news) != news
    }

    fn nanos(&self, ticks: i64) -> i64 {
        let ns = i128::from(ticks).saturating_mul(1_000_000_000) / i128::from(self.rate_hz.max(1));
        i64::try_from(ns).unwrap_or(i64::MAX)
    }
}

fn sort_from(out: &mut [Placed], begin: usize) {
    if let Some(fresh) = out.get_mut(begin..) {
        fresh.sort_by_key(|placed| placed.at_ns);
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn signed_ns(instant: Instant, origin: Instant) -> i64 {
    match instant.checked_duration_since(origin) {
        Some(after) => nanos(after),
        None => nanos(origin.saturating_duration_since(instant)).saturating_neg(),
    }
}

/// `a - b`, both 32.32 fixed point seconds that may wrap.
fn ntp_distance_ns(a: u64, b: u64) -> i64 {
    let fixed = i128::from(a.wrapping_sub(b).cast_signed());
    i64::try_from((fixed * 1_000_000_000) >> 32).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::codec::Codec;

    /// A packet of sound or a picture whose timestamp is `media_ms` and that came at `arrival_ms`.
    fn unit(start: Instant, kind: TrackKind, media_ms: u32, arrival_ms: u64, report: Option<SenderReport>) -> Unit {
        let arrival = start + Duration::from_millis(arrival_ms);
        match kind {
            TrackKind::Audio => Unit::Sound(MediaPacket {
                kind,
                codec: Codec::Opus,
                epoch: 0,
                sequence: 0,
                timestamp: (media_ms * 48).wrapping_sub(1000),
                marker: false,
                payload: Vec::new().into(),
                arrival,
                sender_report: report,
            }),
            TrackKind::Video => Unit::Picture(Picture {
                codec: Codec::Vp8,
                epoch: 0,
                timestamp: (media_ms * 90).wrapping_sub(77_000),
                payloads: Vec::new(),
                is_keyframe: true,
                size: None,
                arrival,
                sender_report: report,
                sets: std::sync::Arc::from([]),
            }),
        }
    }

    /// A report that says that the track's `media_ms` was at `ntp_ms` of the publisher's clock.
    fn report(kind: TrackKind, media_ms: u32, ntp_ms: u64) -> SenderReport {
        let rtp = match kind {
            TrackKind::Audio => (media_ms * 48).wrapping_sub(1000),
            TrackKind::Video => (media_ms * 90).wrapping_sub(77_000),
        };
        // The NTP seconds wrap in 2036; here they do at 5 s.
        let ntp = (u64::from(u32::MAX - 4) << 32).wrapping_add((ntp_ms << 32) / 1000);
        SenderReport { ntp, rtp }
    }

    /// By how many ms the picture of a media time stands behind the sound of the same one.
    fn lags(placed: &[Placed], media_ms: impl Fn(&Unit) -> u32) -> Vec<i64> {
        let at = |kind, ms| placed.iter().find(|p| p.unit.kind() == kind && media_ms(&p.unit) == ms).map(|p| p.at_ns);
        let pictures = placed.iter().filter(|p| p.unit.kind() == TrackKind::Video);
        let lags = pictures.filter_map(|p| Some((p.at_ns - at(TrackKind::Audio, media_ms(&p.unit))?) / 1_000_000));
        lags.collect()
    }

    fn media_ms(unit: &Unit) -> u32 {
        match unit {
            Unit::Sound(sound) => sound.timestamp.wrapping_add(1000) / 48,
            Unit::Picture(picture) => picture.timestamp.wrapping_add(77_000) / 90,
        }
    }

    /// Feeds both tracks for `seconds`, pictures arriving `video_late_ms` later than sound.
    fn run(seconds: u32, video_late_ms: u64, reports: impl Fn(TrackKind, u32) -> Option<SenderReport>) -> Vec<Placed> {
        let (start, mut timeline, mut out) = (Instant::now(), Timeline::new(2), Vec::new());
        for ms in (0..seconds * 1000).step_by(20) {
            let sound = unit(start, TrackKind::Audio, ms, u64::from(ms) + 100, reports(TrackKind::Audio, ms));
            timeline.admit(sound, &mut out);
            if ms % 40 == 0 {
                let late_ms = u64::from(ms) + 100 + video_late_ms;
                let picture = unit(start, TrackKind::Video, ms, late_ms, reports(TrackKind::Video, ms));
                timeline.admit(picture, &mut out);
            }
        }
        timeline.flush(&mut out);
        out
    }

    #[test]
    fn reports_place_the_tracks_from_the_first_unit_on() {
        let placed = run(3, 80, |kind, _| Some(report(kind, 0, 4000)));
        assert_eq!(placed.len(), 225);
        assert!(lags(&placed, media_ms).iter().all(|lag| *lag == 0), "{:?}", lags(&placed, media_ms));
    }

    #[test]
    fn arrival_places_them_without_reports() {
        let placed = run(3, 80, |_, _| None);
        assert!(lags(&placed, media_ms).iter().all(|lag| *lag == 80), "{:?}", lags(&placed, media_ms));
    }

    #[test]
    fn late_reports_move_the_picture_slowly_and_the_sound_never() {
        let placed = run(10, 100, |kind, ms| (ms >= 2000).then(|| report(kind, 2000, 6000)));
        let lags = lags(&placed, media_ms);
        assert_eq!((lags[0], lags.last()), (100, Some(&0)));
        assert!(lags.windows(2).all(|pair| pair[1] <= pair[0] && pair[0] - pair[1] <= 1), "{lags:?}");
        let sound: Vec<i64> =
            placed.iter().filter(|p| p.unit.kind() == TrackKind::Audio).map(|p| p.at_ns / 1000).collect();
        assert!(sound.windows(2).all(|pair| (pair[1] - pair[0] - 20_000).abs() <= 1));
    }

    #[test]
    fn a_drift_of_the_two_clocks_is_followed() {
        // The sound's clock runs 200 ppm fast by the reports: 60 ms in five minutes.
        let drift = |kind: TrackKind, ms: u32| {
            let ntp_ms = u64::from(if kind == TrackKind::Audio { ms - ms / 5000 } else { ms });
            Some(report(kind, ms, ntp_ms))
        };
        let placed = run(300, 0, drift);
        assert!((58..=61).contains(lags(&placed, media_ms).last().unwrap()), "{:?}", lags(&placed, media_ms).last());
    }

    #[test]
    fn reports_of_two_clocks_that_have_nothing_in_common_are_not_believed() {
        let placed = run(3, 40, |kind, _| Some(report(kind, 0, if kind == TrackKind::Audio { 0 } else { 60_000 })));
        assert!(lags(&placed, media_ms).iter().all(|lag| *lag == 40));
    }

    #[test]
    fn a_timestamp_that_leaps_begins_a_clock_of_its_own() {
        let (start, mut timeline, mut out) = (Instant::now(), Timeline::new(1), Vec::new());
        for (media_ms, arrival_ms) in [(0, 0), (40, 40), (3_600_000, 80), (3_600_040, 120)] {
            timeline.admit(unit(start, TrackKind::Video, media_ms, arrival_ms, None), &mut out);
        }
        let at_ms: Vec<i64> = out.iter().map(|placed| placed.at_ns / 1_000_000).collect();
        assert_eq!(at_ms, [0, 40, 80, 120]);
    }

    #[test]
    fn a_track_waits_for_its_place_no_longer_than_a_second() {
        let (start, mut timeline, mut out) = (Instant::now(), Timeline::new(2), Vec::new());
        timeline.admit(unit(start, TrackKind::Video, 0, 0, None), &mut out);
        timeline.tick(start + Duration::from_millis(999), &mut out);
        assert!(out.is_empty());
        timeline.tick(start + SETTLE, &mut out);
        assert_eq!(out.len(), 1);
    }
}

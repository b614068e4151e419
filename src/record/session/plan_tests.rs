//! The table of [`Plan`]'s states, cell by cell.

use std::collections::BTreeMap;

use super::*;
use crate::record::ffmpeg::command::AudioFormat;
use crate::rtp::codec::TrackKind;

const MS: i64 = 1_000_000;

/// A plan that is fed, and what it has told.
struct Fed {
    plan: Plan,
    begin: Instant,
    steps: Vec<Step>,
}

impl Fed {
    fn new(has_video: bool, segment_s: i64) -> Self {
        let rules = Rules { segment_ns: segment_s * SECOND_NS, keyframes_ns: None, audio: AudioFormat::Copy };
        Self { plan: Plan::new(rules, has_video, true), begin: Instant::now(), steps: Vec::new() }
    }

    fn picture_of(&mut self, codec: Codec, at_ms: i64, is_keyframe: bool, size: (u16, u16)) {
        let picture = Picture {
            codec,
            epoch: 0,
            timestamp: at_ms as u32,
            payloads: vec![Arc::from([1])],
            is_keyframe,
            size: is_keyframe.then_some(size),
            arrival: self.begin + Duration::from_millis(at_ms as u64),
            sender_report: None,
            sets: Arc::from([]),
        };
        self.plan.picture(at_ms * MS, picture, &mut self.steps);
    }

    fn picture(&mut self, at_ms: i64, is_keyframe: bool) {
        self.picture_of(Codec::H264, at_ms, is_keyframe, (640, 360));
    }

    fn sound_while(&mut self, at_ms: i64, video_flows: bool) {
        let sound = MediaPacket {
            kind: TrackKind::Audio,
            codec: Codec::Opus,
            epoch: 0,
            sequence: at_ms as u64,
            timestamp: at_ms as u32,
            marker: false,
            payload: Arc::from([2]),
            arrival: self.begin + Duration::from_millis(at_ms as u64),
            sender_report: None,
        };
        self.plan.sound(at_ms * MS, sound, video_flows, &mut self.steps);
    }

    fn sound(&mut self, at_ms: i64) {
        self.sound_while(at_ms, true);
    }

    /// Takes what was told: `+1` begins file 1, `-1` ends it, `1v40` is the picture of 40 ms, `1a20` the sound of 20 ms.
    fn told(&mut self) -> String {
        let words = self.steps.drain(..).map(|step| match step {
            Step::Begin { file, .. } => format!("+{}", file.0),
            Step::End(file) => format!("-{}", file.0),
            Step::Picture(file, at_ns, _) => format!("{}v{}", file.0, at_ns / MS),
            Step::Sound(file, at_ns, _) => format!("{}a{}", file.0, at_ns / MS),
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn a_file_begins_with_a_keyframe_and_sound_follows_its_picture() {
    let mut fed = Fed::new(true, 3600);
    fed.sound(0);
    fed.picture(10, false);
    assert!(fed.plan.wants_keyframe());
    fed.picture(40, true);
    fed.sound(45);
    fed.sound(60);
    assert_eq!(fed.told(), "+1 1v40");
    fed.picture(50, false);
    assert_eq!(fed.told(), "1v50 1a45", "what stands before the file is left out");
    assert!(!fed.plan.wants_keyframe());
    for at_ms in (80..1200).step_by(20) {
        fed.sound(at_ms);
    }
    let told = fed.told();
    assert!(
        told.starts_with("1a60 1a80") && told.ends_with("1a180"),
        "a picture that pauses is not waited for: {told}"
    );
    fed.plan.end(&mut fed.steps);
    assert!(fed.told().ends_with("1a1180 -1"));
}

#[test]
fn the_next_file_begins_at_the_first_keyframe_behind_the_limit() {
    let mut fed = Fed::new(true, 2);
    fed.picture(0, true);
    fed.picture(1000, true);
    fed.picture(1990, false);
    fed.sound(1995);
    fed.sound(2025);
    assert_eq!(fed.told(), "+1 1v0 1v1000 1v1990");
    fed.picture(2010, false);
    assert_eq!(fed.told(), "1v2010 1a1995");
    assert!(fed.plan.wants_keyframe());
    fed.picture(2040, true);
    assert_eq!(fed.told(), "1a2025 +2 2v2040", "sound of its time still goes to the first");
    fed.sound(2035);
    fed.sound(2050);
    assert_eq!(fed.told(), "1a2035 -1");
    fed.picture(2080, false);
    assert_eq!(fed.told(), "2v2080 2a2050");
    assert!(!fed.plan.wants_keyframe());
}

#[test]
fn without_a_keyframe_the_next_file_begins_half_a_minute_later_but_not_of_vp8() {
    for (codec, follows) in [(Codec::H264, true), (Codec::Vp9, true), (Codec::Vp8, false)] {
        let mut fed = Fed::new(true, 2);
        fed.picture_of(codec, 0, true, (640, 360));
        for second in 1..40 {
            fed.picture_of(codec, second * 1000, false, (640, 360));
        }
        let told = fed.told();
        assert_eq!(told.contains("+2 2v32000"), follows, "{codec}: {told}");
        assert!(!told.contains("+3"), "{told}");
    }
}

#[test]
fn a_paused_picture_does_not_keep_the_file_for_ever() {
    let mut fed = Fed::new(true, 2);
    fed.picture(0, true);
    fed.told();
    for at_ms in (0..40_000).step_by(500) {
        fed.sound_while(at_ms, at_ms < 6000);
    }
    let told = fed.told();
    assert!(told.contains("1a31500 +2 2a32000 -1") || told.contains("1a31500 +2 -1 2a32000"), "{told}");
    fed.picture(40_000, true);
    let told = fed.told();
    let (begun, picture) = told.rsplit_once(' ').unwrap();
    assert!(begun.ends_with(&format!("+{}", fed.plan.last_file)) && picture.ends_with("v40000"), "{told}");
}

#[test]
fn sound_alone_begins_where_no_picture_is_to_be_expected_and_changes_at_a_packet() {
    let mut fed = Fed::new(false, 2);
    for at_ms in (0..4100).step_by(500) {
        fed.sound_while(at_ms, false);
    }
    assert_eq!(fed.told(), "+1 1a0 1a500 1a1000 1a1500 +2 -1 2a2000 2a2500 2a3000 2a3500 +3 -2 3a4000");
    let mut fed = Fed::new(true, 3600);
    for at_ms in (0..5500).step_by(500) {
        fed.sound_while(at_ms, false);
    }
    assert!(fed.told().starts_with("+1 1a0 1a500"), "a picture that was announced is waited for five seconds");
}

#[test]
fn another_codec_begins_a_file_and_loses_no_sound() {
    let mut fed = Fed::new(true, 3600);
    fed.picture(0, true);
    fed.picture(2000, false);
    fed.sound(1000);
    fed.sound(2050);
    fed.picture_of(Codec::Vp9, 2100, false, (640, 360));
    assert_eq!(fed.told(), "+1 1v0 1v2000 1a1000");
    assert!(fed.plan.wants_keyframe());
    fed.picture_of(Codec::Vp9, 2200, true, (640, 360));
    fed.sound(2210);
    fed.picture_of(Codec::Vp9, 2240, false, (640, 360));
    assert_eq!(fed.told(), "1a2050 +2 2v2200 -1 2v2240 2a2210");
}

#[test]
fn vp8_waits_for_its_size_to_settle() {
    let mut fed = Fed::new(true, 3600);
    fed.picture_of(Codec::Vp8, 0, true, (320, 180));
    fed.sound(10);
    fed.picture_of(Codec::Vp8, 500, true, (640, 360));
    assert_eq!(fed.told(), "");
    fed.picture_of(Codec::Vp8, 1000, false, (640, 360));
    assert_eq!(fed.told(), "+1 1v0 1v500 1a10 1v1000");
    fed.plan.end(&mut fed.steps);
    assert_eq!(fed.told(), "-1");
}

#[test]
fn after_failures_it_goes_on_at_most_a_minute_later() {
    for has_video in [true, false] {
        let mut fed = Fed::new(has_video, 3600);
        let (mut began, mut at_ms) = (Vec::new(), 0);
        while at_ms < 900_000 {
            at_ms += 20;
            fed.sound_while(at_ms, has_video);
            if has_video && at_ms % 40 == 0 {
                fed.picture(at_ms, true);
            }
            let begun: Vec<FileId> = fed
                .steps
                .drain(..)
                .filter_map(|step| if let Step::Begin { file, .. } = step { Some(file) } else { None })
                .collect();
            for file in begun {
                began.push(at_ms / 1000);
                fed.plan.failed(file, Failure::Broken);
            }
        }
        let apart: Vec<i64> = began.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(apart[..7], [1, 2, 4, 8, 16, 32, 60], "{apart:?}");
        assert!(apart[7..].iter().all(|seconds| *seconds == 60) && apart.len() > 15, "{apart:?}");
    }
}

#[test]
fn a_codec_that_is_refused_waits_and_another_one_does_not() {
    let mut fed = Fed::new(true, 3600);
    fed.picture_of(Codec::Av1, 0, true, (640, 360));
    assert_eq!(fed.told(), "+1 1v0");
    fed.plan.failed(FileId(1), Failure::Refused(Codec::Av1));
    fed.picture_of(Codec::Av1, 2000, true, (640, 360));
    fed.sound_while(8000, false);
    assert_eq!((fed.told().as_str(), fed.plan.wants_keyframe()), ("", false));
    fed.picture(9000, true);
    assert_eq!(fed.told(), "+2 2v9000");
    let mut fed = Fed::new(true, 3600);
    fed.picture_of(Codec::Av1, 0, true, (640, 360));
    fed.plan.failed(FileId(1), Failure::Refused(Codec::Av1));
    fed.told();
    fed.picture_of(Codec::Av1, 30_000, true, (640, 360));
    assert_eq!(fed.told(), "+2 2v30000");
}

#[test]
fn a_disk_that_goes_away_ends_the_file_and_one_that_comes_back_begins_another() {
    let mut fed = Fed::new(true, 3600);
    fed.picture(0, true);
    fed.sound(20);
    fed.plan.disk(false, &mut fed.steps);
    assert_eq!(fed.told(), "+1 1v0 1a20 -1");
    fed.picture(2000, true);
    fed.plan.disk(false, &mut fed.steps);
    assert_eq!((fed.told().as_str(), fed.plan.wants_keyframe()), ("", false));
    fed.plan.disk(true, &mut fed.steps);
    assert!(fed.plan.wants_keyframe());
    fed.picture(4000, true);
    assert_eq!(fed.told(), "+2 2v4000");
    fed.plan.replace_file(&mut fed.steps);
    assert_eq!(fed.told(), "-2");
    fed.picture(6000, true);
    assert_eq!(fed.told(), "+3 3v6000");
}

#[test]
fn a_keyframe_is_due_once_for_each_interval_without_one() {
    let mut fed = Fed::new(true, 3600);
    fed.plan.cadence = Cadence::new(Some(5 * SECOND_NS));
    let mut due_s = Vec::new();
    for at_s in 0..30 {
        fed.picture(at_s * 1000, at_s == 0 || at_s == 12);
        if fed.plan.keyframe_is_due() {
            due_s.push(at_s);
        }
    }
    assert_eq!(due_s, [5, 10, 17, 22, 27]);
}

#[test]
fn a_timeline_that_steps_back_is_followed() {
    let mut fed = Fed::new(true, 3600);
    fed.picture(100_000, true);
    fed.picture(130_000, false);
    assert_eq!(fed.told(), "+1 1v100000 1v130000");
    fed.picture(60_000, false);
    assert!(fed.plan.wants_keyframe());
    fed.picture(60_040, true);
    fed.picture(60_080, false);
    fed.picture(61_100, false);
    assert_eq!(fed.told(), "+2 2v60040 2v60080 -1 2v61100");
    let mut fed = Fed::new(true, 3600);
    fed.picture(600_000, true);
    fed.plan.failed(FileId(1), Failure::Broken);
    fed.told();
    fed.picture(100, true);
    fed.picture(31_000, true);
    assert!(fed.told().contains("v31000"));
}

/// Whatever comes, no unit stands in two files, and no file gets anything before its beginning or after its end.
#[test]
fn no_unit_is_written_twice_whatever_comes() {
    for seed in 0..300_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut fed = Fed::new(random.bool(), random.i64(2..8));
        let (mut open, mut written, mut at_ms) = (BTreeMap::new(), BTreeMap::new(), [0_i64; 2]);
        for _ in 0..600 {
            match random.u8(0..100) {
                0 => fed.plan.disk(random.bool(), &mut fed.steps),
                1 => fed.plan.replace_file(&mut fed.steps),
                2 => {
                    let last = FileId(fed.plan.last_file);
                    fed.plan.failed(last, Failure::Broken);
                    open.remove(&last);
                }
                3..50 => {
                    at_ms[0] += random.i64(10..60);
                    fed.sound_while(at_ms[0], random.bool());
                }
                _ => {
                    at_ms[1] += random.i64(10..60);
                    let codec = if random.u8(0..60) == 0 { Codec::Vp8 } else { Codec::H264 };
                    fed.picture_of(codec, at_ms[1], random.u8(0..12) == 0, (640, 360));
                }
            }
            if random.u8(0..20) == 0 {
                at_ms = [at_ms[0].max(at_ms[1]); 2];
            }
            check(&mut fed, &mut open, &mut written, seed);
        }
        fed.plan.end(&mut fed.steps);
        check(&mut fed, &mut open, &mut written, seed);
        let last = FileId(fed.plan.last_file);
        assert!(!open.contains_key(&last), "seed {seed}: it has ended");
    }
}

fn check(fed: &mut Fed, open: &mut BTreeMap<FileId, i64>, written: &mut BTreeMap<(bool, i64), FileId>, seed: u64) {
    for step in fed.steps.drain(..) {
        let (key, file, at_ns) = match &step {
            Step::Begin { file, begin_ns, .. } => {
                assert!(open.insert(*file, *begin_ns).is_none(), "seed {seed}");
                continue;
            }
            Step::End(file) => {
                assert!(open.remove(file).is_some(), "seed {seed}: {file:?} ends twice");
                continue;
            }
            Step::Picture(file, at_ns, _) => ((true, *at_ns), *file, *at_ns),
            Step::Sound(file, at_ns, _) => ((false, *at_ns), *file, *at_ns),
        };
        let begin_ns = open.get(&file).unwrap_or_else(|| panic!("seed {seed}: {file:?} is not open"));
        assert!(at_ns >= *begin_ns, "seed {seed}: {step:?}");
        assert!(written.insert(key, file).is_none(), "seed {seed}: {key:?} is written twice");
    }
}

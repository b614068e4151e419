//! A broadcast that becomes one file after the other: nothing is lost between them, and nothing stands in two.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use onair::record::AudioFormat;
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::message::RecordingState;

use super::media::{decoded_pictures, offsets, packet_hashes, streams};
use super::sample::{Sample, SamplePacket, noise, sample};
use super::stage::{Stage, config, empty_dir, feed};

/// Records a sample into files of so many seconds.
async fn record(name: &str, sample: &Sample, segment: Duration) -> Vec<PathBuf> {
    let mut config = config(&empty_dir(name));
    config.segment = segment;
    let mut stage = Stage::with(config).await.unwrap();
    stage.play(sample, &[sample.codec, Codec::Opus]).await;
    stage.files().await
}

/// What stands in all files of one kind, packet by packet.
fn all_packets(files: &[PathBuf], kind: &str) -> Vec<String> {
    files.iter().flat_map(|file| packet_hashes(file, kind)).collect()
}

/// The same packets in the same order; else where they first differ.
fn assert_same(found: &[String], expected: &[String], what: &str) {
    let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
    assert!(
        differs.is_none() && found.len() == expected.len(),
        "{what}: {} packets of {}, which differ from {differs:?} on",
        found.len(),
        expected.len()
    );
}

const WHOLE: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn the_joints_lose_no_packet_and_double_none() {
    for (name, seed) in [("h264", 1), ("h265", 2), ("vp9", 3), ("h264", 4)] {
        // Sound and picture come late and early by turns, so that each joint is crossed from both sides.
        let delay = |index: usize, packet: &SamplePacket| match packet.kind {
            TrackKind::Audio => Duration::from_millis(noise(seed, index / 40) % 250),
            TrackKind::Video => Duration::from_millis(noise(seed, 1000 + index / 90) % 250),
        };
        let sample = sample(name).repeated(8).arriving(delay);
        let one = record(&format!("joints-{name}-{seed}-whole"), &sample, WHOLE).await;
        let many = record(&format!("joints-{name}-{seed}"), &sample, Duration::from_secs(4)).await;
        assert_eq!(one.len(), 1);
        assert!(many.len() >= 4, "{name}: {} files", many.len());
        for kind in ["v", "a"] {
            let (expected, found) = (all_packets(&one, kind), all_packets(&many, kind));
            assert!(expected.len() > 200, "{name} {kind}: {}", expected.len());
            let mut expected = expected;
            if (name, kind) == ("h265", "v") {
                // ffmpeg counts the first zero of the next start code to a picture, where a picture follows.
                let ends = many.iter().scan(0, |end, file| {
                    *end += packet_hashes(file, "v").len();
                    Some(*end - 1)
                });
                ends.for_each(|end| expected[end].clone_from(&found[end]));
            }
            assert_same(&found, &expected, &format!("{name}, seed {seed}: {kind}"));
        }
        assert_eq!(all_packets(&many, "v").len(), sample.pictures());
        for file in &many {
            let told = streams(file);
            assert!(told.iter().all(|stream| stream.begin_s < 0.05), "{name}: {told:?}");
            assert!(offsets(file).iter().all(|offset| offset.abs() < 0.05), "{name}: {:?}", offsets(file));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transcoded_broadcast_keeps_each_picture() {
    let sample = sample("vp8").repeated(4);
    let files = record("joints-vp8", &sample, Duration::from_secs(3)).await;
    assert!(files.len() >= 3, "{files:?}");
    let pictures: usize = files.iter().map(|file| decoded_pictures(file)).sum();
    assert_eq!(pictures, sample.pictures());
    let one = record("joints-vp8-whole", &sample, WHOLE).await;
    assert_same(&all_packets(&files, "a"), &all_packets(&one, "a"), "vp8");
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_alone_changes_its_file_at_a_packet() {
    let sound = sample("h264").repeated(4).only(TrackKind::Audio);
    let mut config = config(&empty_dir("segments-sound"));
    config.segment = Duration::from_secs(2);
    let mut stage = Stage::with(config).await.unwrap();
    stage.play(&sound, &[Codec::Opus]).await;
    let files = stage.files().await;
    assert!(files.len() >= 5, "{files:?}");
    let one = Stage::new("segments-sound-whole").await.record(&sound, &[Codec::Opus]).await;
    assert_same(&all_packets(&files, "a"), &packet_hashes(&one, "a"), "sound");
    for file in &files[..files.len() - 1] {
        println!("{:?}", streams(file));
        assert!((streams(file)[0].duration_s - 2.0).abs() < 0.03, "{:?}", streams(file));
    }
}

/// An encoder that refreshes its picture bit by bit sends no keyframe after the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_keyframes_changes_its_file_half_a_minute_later() {
    for name in ["h264", "h265"] {
        let sample = sample(name).repeated(20).with_one_keyframe();
        let one = record(&format!("no-keyframe-{name}-whole"), &sample, WHOLE).await;
        let many = record(&format!("no-keyframe-{name}"), &sample, Duration::from_secs(2)).await;
        assert_eq!(many.len(), 2, "{name}: {many:?}");
        for kind in ["v", "a"] {
            let (expected, found) = (all_packets(&one, kind), all_packets(&many, kind));
            assert_eq!(found.len(), expected.len(), "{name}: {kind}");
        }
        let first = &streams(&many[0])[0];
        assert!((first.duration_s - 32.0).abs() < 0.1, "{name}: {first:?}");
    }
}

/// The recorder asks while it waits, and the first keyframe that comes is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_keyframe_is_asked_for_at_the_limit() {
    let mut config = config(&empty_dir("asks-at-limit"));
    config.segment = Duration::from_secs(2);
    let mut stage = Stage::with(config).await.unwrap();
    let (recording, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
    feed(&packets, &sample("h264").repeated(3).with_one_keyframe(), Instant::now()).await;
    drop(packets);
    assert_eq!(stage.told().await.state, RecordingState::Started);
    assert_eq!(stage.told().await.state, RecordingState::Finished);
    stage.until_over(recording).await;
    assert!(stage.keyframes_asked > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keyframes_are_asked_for_as_often_as_the_operator_says() {
    for (keyframes, at_least) in [(None, 0), (Some(Duration::from_secs(2)), 8)] {
        let mut config = config(&empty_dir("asks-as-often"));
        config.keyframes = keyframes;
        let mut stage = Stage::with(config).await.unwrap();
        let (recording, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
        feed(&packets, &sample("h264").repeated(7).with_one_keyframe(), Instant::now()).await;
        drop(packets);
        assert_eq!(stage.told().await.state, RecordingState::Started);
        assert_eq!(stage.told().await.state, RecordingState::Finished);
        stage.until_over(recording).await;
        let due = stage.keyframes_due;
        assert!(due >= at_least && due <= at_least + 3, "{due} for {keyframes:?}");
    }
}

/// Four days without a break. Once such a file was deleted when it was to be completed.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_hours_are_on_the_disk_to_the_last_second() {
    let hours = sample("h264").paced(Duration::from_secs(8), 100 * 3600 / 8);
    let files = record("hundred-hours", &hours, Duration::from_secs(6 * 3600)).await;
    assert_eq!(files.len(), 17, "{files:?}");
    let told: Vec<_> = files.iter().map(|file| streams(file)).collect();
    for track in [0, 1] {
        let packets: usize = told.iter().map(|file| file[track].packets).sum();
        assert_eq!(packets, 45_000, "track {track}");
    }
    // How long the last picture of a file is shown only the next one would tell.
    let seconds: f64 = told.iter().map(|file| file[0].duration_s + 8.0).sum();
    assert!((seconds - 360_000.0).abs() < 17.0, "{seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_becomes_aac_where_that_is_wanted_and_stays_in_step() {
    for name in ["h264", "vp8"] {
        let mut config = config(&empty_dir(&format!("aac-{name}")));
        config.audio = AudioFormat::Aac;
        config.segment = Duration::from_secs(5);
        let mut stage = Stage::with(config).await.unwrap();
        let lossy = sample(name).repeated(4).keep(|packet| {
            // A second of the sound never comes.
            packet.kind == TrackKind::Video || !(7.2..8.2).contains(&packet.at.as_secs_f64())
        });
        let (_, packets) = stage.announce("room/user", &[lossy.codec, Codec::Opus]).await;
        feed(&packets, &lossy, Instant::now()).await;
        drop(packets);
        let files = stage.files().await;
        assert!(files.len() >= 2, "{files:?}");
        for file in &files {
            let told = streams(file);
            assert!(told.iter().any(|stream| stream.codec == "aac"), "{told:?}");
            let offsets = offsets(file);
            assert!(!offsets.is_empty() && offsets.iter().all(|offset| offset.abs() < 0.05), "{name}: {offsets:?}");
        }
    }
}

/// The four characters under which the file names the codec of its first track.
fn sample_entry(file: &Path, entry: &[u8; 4]) -> bool {
    std::fs::read(file).unwrap().windows(4).any(|four| four == entry)
}

#[tokio::test(flavor = "multi_thread")]
async fn h265_is_named_as_apple_wants_it_and_other_parameter_sets_begin_a_file() {
    let before = sample("h265");
    let file = Stage::new("hvc1").await.record(&before, &[Codec::H265, Codec::Opus]).await;
    assert!(sample_entry(&file, b"hvc1") && !sample_entry(&file, b"hev1"));
    assert_eq!(decoded_pictures(&file), before.pictures());
}

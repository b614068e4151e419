//! Recordings made by real ffmpegs from the RTP of encoders and browsers, fed faster than they arrived.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "recording/media.rs"]
mod media;
#[path = "recording/sample.rs"]
mod sample;
#[path = "recording/stage.rs"]
mod stage;

use std::time::{Duration, Instant};

use media::{decoded_pictures, offsets, shown_size, streams};
use onair::rtp::codec::{Codec, TrackKind};
use sample::{Sample, sample};
use stage::Stage;

/// Every picture is in the file and decodes, and the file lasts as long as the sample.
async fn assert_whole(name: &str, codec_in_file: &str, size: (u16, u16)) {
    let sample = sample(name);
    let file = Stage::new(name).await.record(&sample, &[sample.codec, Codec::Opus]).await;
    let streams = streams(&file);
    println!("{name}: {} pictures, {streams:?}", sample.pictures());
    assert_eq!([&streams[0].codec, &streams[1].codec], [codec_in_file, "opus"]);
    assert_eq!(streams[0].packets, sample.pictures(), "{streams:?}");
    assert_eq!(decoded_pictures(&file), sample.pictures());
    assert_eq!(shown_size(&file), size);
    assert!((streams[0].duration_s - sample.duration_of(TrackKind::Video)).abs() < 0.1, "{streams:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_is_copied() {
    assert_whole("h264", "h264", (640, 360)).await;
    assert_whole("chromium-h264", "h264", (640, 360)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h265_is_copied() {
    assert_whole("h265", "hevc", (640, 360)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vp9_is_copied() {
    assert_whole("vp9", "vp9", (640, 360)).await;
    assert_whole("chromium-vp9", "vp9", (640, 360)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vp8_is_transcoded() {
    assert_whole("vp8", "h264", (640, 360)).await;
    for name in ["chromium-vp8", "firefox-vp8"] {
        let sample = sample(name);
        let mut stage = Stage::new(name).await;
        stage.play(&sample, &[sample.codec, Codec::Opus]).await;
        let files = stage.files().await;
        let mut pictures = 0;
        for file in &files {
            println!("{name}: {:?}", streams(file));
            pictures += decoded_pictures(file);
        }
        assert_eq!(pictures, sample.pictures());
    }
}

/// Records a sample that flashes and beeps each second, and measures by how much they differ.
async fn assert_in_step(name: &str, sample: Sample) {
    let codecs = [sample.codec, Codec::Opus];
    let file = Stage::new(name).await.record(&sample, &codecs).await;
    let offsets = offsets(&file);
    println!("{name}: {offsets:?}");
    assert!(!offsets.is_empty() && offsets.iter().all(|offset| offset.abs() < 0.05), "{name}: {offsets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_and_picture_are_in_step() {
    for name in ["h264", "h265", "vp8", "vp9"] {
        assert_in_step(&format!("in-step-{name}"), sample(name)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_that_begins_late_is_in_step() {
    for name in ["h264", "vp8", "vp9"] {
        let late = |sample: Sample| {
            sample.keep(|packet| packet.kind == TrackKind::Video || packet.at >= Duration::from_millis(700))
        };
        assert_in_step(&format!("late-sound-{name}"), late(sample(name))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sender_reports_arrival_times_tell() {
    // Pictures come a little later than sound, and never evenly.
    let delay = |index: usize, packet: &sample::SamplePacket| match packet.kind {
        TrackKind::Video => Duration::from_millis(20 + (index as u64 * 7919) % 60),
        TrackKind::Audio => Duration::from_millis(5 + (index as u64 * 7919) % 30),
    };
    assert_in_step("no-reports", sample("h264").arriving(delay).reports_from(None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_tells_its_codecs_quickly() {
    let began = Instant::now();
    let stage = Stage::new("probe").await;
    println!("probed in {:?}", began.elapsed());
    for codec in [Codec::Opus, Codec::H264, Codec::H265, Codec::Vp8, Codec::Vp9] {
        assert!(stage.recorder.recordable().contains(codec), "{codec}");
    }
}

//! Recordings made by real ffmpegs from the RTP of encoders and browsers, fed faster than they arrived.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "recording/media.rs"]
mod media;
#[path = "recording/sample.rs"]
mod sample;
#[path = "recording/stage.rs"]
mod stage;

use std::time::Duration;

use media::{decoded_pictures, offsets, streams};
use onair::rtp::codec::{Codec, TrackKind};
use sample::sample;
use stage::Stage;

/// Every picture is in the file and decodes, and the file lasts as long as the sample.
async fn assert_whole(name: &str, codec_in_file: &str) {
    let sample = sample(name);
    let mut stage = Stage::new(name).await;
    let file = stage.record(&sample, &[sample.codec, Codec::Opus]).await;
    let streams = streams(&file);
    assert_eq!([&streams[0].codec, &streams[1].codec], [codec_in_file, "opus"]);
    assert_eq!(streams[0].packets, sample.pictures(), "{streams:?}");
    assert_eq!(decoded_pictures(&file), sample.pictures());
    assert!((streams[0].duration_s - sample.duration().as_secs_f64()).abs() < 0.1, "{streams:?}");
    println!("{name}: {} pictures, {streams:?}", sample.pictures());
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_is_copied() {
    assert_whole("h264", "h264").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_and_picture_are_in_step() {
    let mut stage = Stage::new("in-step").await;
    for late in [0.0, 0.7] {
        let late = Duration::from_secs_f64(late);
        let sample = sample("h264").keep(|packet| packet.kind == TrackKind::Video || packet.at >= late);
        let file = stage.record(&sample, &[Codec::H264, Codec::Opus]).await;
        let offsets = offsets(&file);
        println!("late by {late:?}: {offsets:?}");
        assert!(offsets.len() >= 2 && offsets.iter().all(|offset| offset.abs() < 0.05), "{offsets:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_codecs_of_this_ffmpeg_are_found() {
    let began = std::time::Instant::now();
    let stage = Stage::new("probe").await;
    println!("probed in {:?}", began.elapsed());
    for codec in [Codec::Opus, Codec::H264, Codec::H265, Codec::Vp8, Codec::Vp9] {
        assert!(stage.recorder.recordable().contains(codec), "{codec}");
    }
}

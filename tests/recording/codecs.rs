//! Each codec, from encoders and from browsers.

use std::time::Instant;

use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::message::RecordingState;

use super::media::{decoded_pictures, shown_size, streams};
use super::sample::sample;
use super::stage::Stage;

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

/// x264enc cuts pictures into slices, and h264parse puts parameter sets in front of each of a keyframe's.
#[tokio::test(flavor = "multi_thread")]
async fn h264_with_parameter_sets_between_its_slices_is_copied() {
    assert_whole("gstreamer-h264", "h264", (640, 360)).await;
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

/// ffmpeg reads AV1 from version 8 on. Before that the recording is refused in plain words.
#[tokio::test(flavor = "multi_thread")]
async fn av1_is_copied_or_refused() {
    let mut stage = Stage::new("av1-refused").await;
    if stage.recorder.recordable().contains(Codec::Av1) {
        assert_whole("av1", "av1", (640, 360)).await;
        return assert_whole("chromium-av1", "av1", (640, 360)).await;
    }
    let recording = stage.play(&sample("av1"), &[Codec::Av1, Codec::Opus]).await;
    let told = stage.end().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].recording, told[0].state, &told[0].file), (recording, RecordingState::Failed, &None));
    assert_eq!(told[0].error.as_deref(), Some("this server's ffmpeg cannot record av1"));
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

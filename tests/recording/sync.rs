//! Sound and picture in step, whatever the tracks do.

use std::time::Duration;

use onair::rtp::codec::{Codec, TrackKind};

use super::media::offsets;
use super::sample::{Sample, SamplePacket, sample};
use super::stage::Stage;

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
    let delay = |index: usize, packet: &SamplePacket| match packet.kind {
        TrackKind::Video => Duration::from_millis(20 + (index as u64 * 7919) % 60),
        TrackKind::Audio => Duration::from_millis(5 + (index as u64 * 7919) % 30),
    };
    assert_in_step("no-reports", sample("h264").arriving(delay).reports_from(None)).await;
}

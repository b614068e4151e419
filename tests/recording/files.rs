//! Which files a broadcast becomes.

use std::time::{Duration, Instant};

use onair::record::{RemoveError, remove};
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::BroadcastId;
use onair::signal::message::RecordingState;

use super::media::{decoded_pictures, offsets, streams};
use super::sample::{SamplePacket, noise, sample};
use super::stage::{Stage, config, empty_dir, feed, list, on_disk};

#[tokio::test(flavor = "multi_thread")]
async fn sound_alone_and_picture_alone() {
    let sound = sample("h264").only(TrackKind::Audio);
    let file = Stage::new("sound-alone").await.record(&sound, &[Codec::Opus]).await;
    let told = streams(&file);
    assert_eq!((told.len(), told[0].codec.as_str()), (1, "opus"));
    assert!((told[0].duration_s - sound.duration_of(TrackKind::Audio)).abs() < 0.1, "{told:?}");

    let picture = sample("h264").only(TrackKind::Video);
    let file = Stage::new("picture-alone").await.record(&picture, &[Codec::H264]).await;
    let told = streams(&file);
    assert_eq!((told.len(), told[0].codec.as_str(), told[0].packets), (1, "h264", picture.pictures()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_that_was_announced_and_never_comes() {
    let picture = sample("vp9").only(TrackKind::Video);
    let file = Stage::new("no-sound").await.record(&picture, &[Codec::Vp9, Codec::Opus]).await;
    let told = streams(&file);
    assert_eq!((told.len(), told[0].packets), (1, picture.pictures()), "{told:?}");

    let sound = sample("vp9").only(TrackKind::Audio);
    let file = Stage::new("no-picture").await.record(&sound, &[Codec::Vp9, Codec::Opus]).await;
    let told = streams(&file);
    assert_eq!((told.len(), told[0].codec.as_str()), (1, "opus"));
    assert!((told[0].duration_s - sound.duration_of(TrackKind::Audio)).abs() < 0.1, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_comes_much_later_begins_a_file_of_both() {
    let late = Duration::from_secs(8);
    let sample = sample("h264").repeated(4).keep(|packet| packet.kind == TrackKind::Audio || packet.at >= late);
    let mut stage = Stage::new("late-picture").await;
    stage.play(&sample, &[Codec::H264, Codec::Opus]).await;
    let files = stage.files().await;
    let told: Vec<_> = files.iter().map(|file| streams(file)).collect();
    assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2], "{told:?}");
    assert!(told[0][0].duration_s > 8.0, "from the first sound on: {told:?}");
    assert!(offsets(&files[1]).iter().all(|offset| offset.abs() < 0.05));
}

/// Sound that was taken in while the picture's place was not yet known must not go into the file ahead of the picture:
/// ffmpeg would look at it for a second, see no picture, and leave the picture out.
#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_begins_after_the_sound_is_in_the_file() {
    for name in ["vp9", "h264", "vp8"] {
        // A keyframe is large: it and what follows it take a while to get through.
        let later = |_: usize, packet: &SamplePacket| match packet.kind {
            TrackKind::Video => Duration::from_millis(600) + Duration::from_millis(300).saturating_sub(packet.at / 2),
            TrackKind::Audio => Duration::ZERO,
        };
        let sample = sample(name).arriving(later).reports_from(None);
        let file = Stage::new(&format!("late-{name}")).await.record(&sample, &[sample.codec, Codec::Opus]).await;
        let told = streams(&file);
        assert_eq!((told.len(), told[0].packets), (2, sample.pictures()), "{told:?}");
        assert!(told.iter().all(|stream| stream.begin_s < 0.02), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_codec_begins_a_file() {
    let (before, after) = (sample("h264"), sample("vp9").sent_by_another_source(1, Duration::from_millis(3100)));
    let mut stage = Stage::new("codec-change").await;
    let (_, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
    let begin = Instant::now();
    feed(&packets, &before, begin).await;
    feed(&packets, &after, begin).await;
    drop(packets);
    let files = stage.files().await;
    assert_eq!(files.len(), 2, "{files:?}");
    let told: Vec<_> = files.iter().map(|file| streams(file)).collect();
    assert_eq!((told[0][0].codec.as_str(), told[0][0].packets), ("h264", before.pictures()));
    assert_eq!((told[1][0].codec.as_str(), told[1][0].packets), ("vp9", after.pictures()));
    assert!(files.iter().flat_map(|file| offsets(file)).all(|offset| offset.abs() < 0.05));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_source_goes_on_in_the_file() {
    let before = sample("h264");
    let after = sample("h264").sent_by_another_source(1, Duration::from_millis(4500));
    let mut stage = Stage::new("source-change").await;
    let (_, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
    let begin = Instant::now();
    feed(&packets, &before, begin).await;
    feed(&packets, &after, begin).await;
    drop(packets);
    let files = stage.files().await;
    assert_eq!(files.len(), 1, "{files:?}");
    let told = streams(&files[0]);
    assert_eq!(told[0].packets, before.pictures() + after.pictures());
    assert!((told[0].duration_s - 7.6).abs() < 0.1, "{told:?}");
    let offsets = offsets(&files[0]);
    assert!(offsets.len() >= 6 && offsets.iter().all(|offset| offset.abs() < 0.05), "{offsets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_that_comes_back_begins_a_file() {
    let sample = sample("h264");
    let mut stage = Stage::new("republish").await;
    let first = stage.play(&sample, &[Codec::H264, Codec::Opus]).await;
    let second = stage.play(&sample, &[Codec::H264, Codec::Opus]).await;
    let dir = stage.dir.clone();
    let told = stage.end().await;
    let finished: Vec<_> = told.iter().filter(|told| told.state == RecordingState::Finished).collect();
    assert_eq!(finished.len(), 2, "{told:?}");
    assert!(
        finished.iter().any(|told| told.recording == first) && finished.iter().any(|told| told.recording == second)
    );
    assert_ne!(finished[0].file, finished[1].file);

    let listed = list(&dir).await;
    assert_eq!(listed.len(), 2);
    for recording in &listed {
        assert!(finished.iter().any(|told| told.file.as_ref() == Some(&recording.path)), "{recording:?}");
        assert_eq!(recording.broadcast.to_string(), "room/user");
        assert!((recording.duration_s - 3.1).abs() < 0.1, "{recording:?}");
        assert_eq!(recording.size_bytes, std::fs::metadata(dir.join(&recording.path)).unwrap().len());
        assert!(recording.started.ends_with('Z'), "{recording:?}");
    }
    assert!(listed[0].started >= listed[1].started, "newest first");
}

/// The timestamps of the picture wrap after 13 hours and 15 minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_outlasts_its_timestamps() {
    let day = sample("h264").paced(Duration::from_secs(8), 24 * 60 * 60 / 8);
    let mut config = config(&empty_dir("whole-day"));
    config.segment = Duration::from_secs(24 * 60 * 60);
    let file = Stage::with(config).await.unwrap().record(&day, &[Codec::H264, Codec::Opus]).await;
    let told = streams(&file);
    assert_eq!((told[0].packets, told[1].begin_s), (day.pictures(), 0.0), "{told:?}");
    assert!(told.iter().all(|stream| (stream.duration_s - 86_400.0).abs() < 10.0), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_overtake_each_other_cost_nothing() {
    for seed in [1, 2] {
        let delay = |index: usize, _: &SamplePacket| Duration::from_millis(noise(seed, index) % 120);
        let shuffled = sample("h264").arriving(delay);
        let file = Stage::new(&format!("shuffled-{seed}")).await.record(&shuffled, &[Codec::H264, Codec::Opus]).await;
        assert_eq!(decoded_pictures(&file), shuffled.pictures(), "seed {seed}");
        let offsets = offsets(&file);
        assert!(offsets.len() >= 3 && offsets.iter().all(|offset| offset.abs() < 0.05), "seed {seed}: {offsets:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_after_losses_decodes_in_step() {
    for (seed, name) in [(3, "h264"), (4, "vp8"), (5, "vp9")] {
        let whole = sample(name).repeated(4);
        let lossy = whole.clone().losing(|index| noise(seed, index).is_multiple_of(200));
        let mut stage = Stage::new(&format!("lossy-{name}")).await;
        let (_, packets) = stage.announce("room/user", &[lossy.codec, Codec::Opus]).await;
        feed(&packets, &lossy, Instant::now()).await;
        drop(packets);
        assert_eq!(stage.told().await.state, RecordingState::Started);
        let finished = stage.told().await;
        assert_eq!(finished.state, RecordingState::Finished, "{finished:?}");
        assert!(stage.keyframes_asked > 0, "a loss asks for a keyframe");
        let metrics = stage.recorder.metrics();
        assert!(metrics.packets_dropped > 0 && metrics.packets > 0, "{metrics:?}");
        let file = stage.dir.join(finished.file.unwrap());
        let decoded = decoded_pictures(&file);
        println!("seed {seed}: {decoded} of {} pictures, {metrics:?}", whole.pictures());
        assert!(decoded > 0 && decoded < whole.pictures());
        let offsets = offsets(&file);
        assert!(!offsets.is_empty() && offsets.iter().all(|offset| offset.abs() < 0.05), "seed {seed}: {offsets:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_not_written_to() {
    let dir = empty_dir("full-disk");
    let mut config = config(&dir);
    config.min_free_bytes = u64::MAX / 2;
    let mut stage = Stage::with(config).await.unwrap();
    stage.play(&sample("h264"), &[Codec::H264, Codec::Opus]).await;
    let (recorder, mut port) = (stage.recorder, stage.port);
    recorder.finish(Duration::from_secs(30)).await;
    let (mut recordable, mut paused, mut told) = (Vec::new(), Vec::new(), 0);
    while let Ok(request) = port.requests.try_recv() {
        match request {
            onair::handle::Request::Order(onair::hub::io::Order::Recordable(codecs)) => recordable.push(codecs),
            onair::handle::Request::Order(onair::hub::io::Order::RecordingPaused(now)) => paused.push(now),
            onair::handle::Request::Order(onair::hub::io::Order::RecordingOver(_)) => {}
            onair::handle::Request::Order(onair::hub::io::Order::Recording { file, error: Some(error), .. }) => {
                assert!(file.is_none() && error.contains("full"), "{error}");
                told += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, 1, "the broadcaster hears why");
    // What ffmpeg can do is another question than whether there is space.
    assert!(recordable.len() == 1 && recordable[0].contains(Codec::H264), "{recordable:?}");
    assert_eq!(paused, [true]);
    assert_eq!(list(&dir).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_be_kept_goes_and_the_server_says_how_much() {
    let dir = empty_dir("retention");
    let old = dir.join("room/user/20250102-030405.mp4");
    std::fs::create_dir_all(old.parent().unwrap()).unwrap();
    std::fs::write(&old, "a recording").unwrap();
    std::fs::write(dir.join("room/user/notes.txt"), "no recording").unwrap();
    let mut config = config(&dir);
    config.retention.max_bytes = Some(10);
    let stage = Stage::with(config).await.unwrap();
    let (recorder, _port) = (stage.recorder, stage.port);
    let gone = async {
        while recorder.metrics().removed == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it is removed");
    assert!(!old.exists());
    assert!(dir.join("room/user/notes.txt").exists());
    recorder.finish(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grows_is_not_removed_and_what_is_finished_goes_with_its_directories() {
    let config = config(&empty_dir("removal"));
    let (dir, growing) = (config.dir.clone(), config.growing.clone());
    let mut stage = Stage::with(config).await.unwrap();
    let broadcast: BroadcastId = "room/user".parse().unwrap();
    let (recording, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
    feed(&packets, &sample("h264"), Instant::now()).await;
    let started = stage.told().await;
    assert_eq!((started.recording, started.state), (recording, RecordingState::Started));
    let name = started.file.unwrap();
    let file = name.strip_prefix("room/user/").unwrap();
    let part = file.replace(".mp4", ".part.mp4");
    let remove = async |file: &str| {
        let (dir, growing, broadcast, file) = (dir.clone(), growing.clone(), broadcast.clone(), file.to_owned());
        on_disk(move |turn| remove(turn, &dir, &growing, &broadcast, &file)).await
    };
    assert!(matches!(remove(&part).await, Err(RemoveError::Grows)));
    assert!(matches!(remove(file).await, Err(RemoveError::None)), "it does not stand there yet");
    // As an operator ends it: the broadcast goes on elsewhere.
    drop(packets);
    let finished = stage.told().await;
    assert_eq!((finished.state, finished.file.as_deref()), (RecordingState::Finished, Some(name.as_str())));
    stage.until_over(recording).await;
    assert_eq!(streams(&dir.join(&name)).len(), 2, "it can be played");
    remove(file).await.unwrap();
    assert!(!dir.join("room").exists());
    // What comes next finds its place again.
    stage.record(&sample("h264"), &[Codec::H264, Codec::Opus]).await;
}

//! ffmpeg or the server fails while it records.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onair::record::RecordError;
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::message::RecordingState;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};

use super::media::{decoded_pictures, offsets, streams};
use super::sample::{Sample, sample};
use super::stage::{Stage, config, empty_dir, feed};

/// Names the directory in which a process that is to be killed records.
const DOOMED: &str = "ONAIR_TEST_DOOMED";

/// The ffmpegs that write below a directory.
pub fn ffmpegs_in(dir: &Path) -> Vec<Pid> {
    let dir = dir.to_str().unwrap().to_owned();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = processes.filter_map(|process| {
        let pid: i32 = process.file_name().to_str()?.parse().ok()?;
        let command = String::from_utf8(std::fs::read(process.path().join("cmdline")).ok()?).ok()?;
        (command.contains("-sdp_flags") && command.contains(&dir)).then(|| Pid::from_raw(pid))
    });
    pids.collect()
}

/// Sends a sample's packets at the pace at which they came, as long as they are taken.
async fn feed_at_pace(packets: &mpsc::Sender<onair::hub::io::MediaPacket>, sample: &Sample, begin: Instant) {
    for packet in sample.media(begin) {
        sleep_until(packet.arrival.into()).await;
        if packets.send(packet).await.is_err() {
            return;
        }
    }
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = timeout(Duration::from_secs(30), async {
        while !holds() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_ffmpeg_leaves_a_file_that_plays_and_another_one_goes_on() {
    let sample = sample("h264").repeated(5);
    let mut stage = Stage::new("killed-ffmpeg").await;
    let (_, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
    let begin = Instant::now();
    let played = Duration::from_secs(6);
    feed_at_pace(&packets, &sample.clone().keep(|packet| packet.at < played), begin).await;
    let [ffmpeg] = ffmpegs_in(&stage.dir)[..] else {
        panic!("one ffmpeg writes");
    };
    let started = stage.told().await;
    assert_eq!(started.state, RecordingState::Started);
    kill(ffmpeg, Signal::SIGKILL).unwrap();
    let failed = stage.told().await;
    assert_eq!((failed.state, &failed.file), (RecordingState::Failed, &started.file));
    let error = failed.error.unwrap();
    assert!(error.contains("signal: 9") && !error.contains('\n'), "{error}");
    let file = stage.dir.join(failed.file.unwrap());
    let told = streams(&file);
    println!("killed after {played:?}: {told:?}");
    assert!(told[0].duration_s > 4.0, "all but the last two seconds: {told:?}");
    assert_eq!(decoded_pictures(&file), told[0].packets);

    feed(&packets, &sample.keep(|packet| packet.at >= played), begin).await;
    drop(packets);
    let restarted = stage.told().await;
    assert_eq!(restarted.state, RecordingState::Started);
    let finished = stage.told().await;
    assert_eq!((finished.state, &finished.file), (RecordingState::Finished, &restarted.file));
    let offsets = offsets(&stage.dir.join(finished.file.unwrap()));
    assert!(!offsets.is_empty() && offsets.iter().all(|offset| offset.abs() < 0.05), "{offsets:?}");
    let metrics = stage.recorder.metrics();
    assert_eq!((metrics.started, metrics.finished, metrics.failed, metrics.running), (2, 1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_ffmpeg_is_killed_and_another_one_goes_on() {
    let sample = sample("h264").repeated(14);
    let mut stage = Stage::new("stalled-ffmpeg").await;
    let (_, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
    let begin = Instant::now();
    let played = Duration::from_secs(4);
    feed(&packets, &sample.clone().keep(|packet| packet.at < played), begin).await;
    let started = stage.told().await;
    let dir = stage.dir.clone();
    until("the first file has three fragments, of about a second each", || {
        let part = started.file.as_ref().unwrap().replace(".mp4", ".part.mp4");
        let written = std::fs::read(dir.join(part)).unwrap_or_default();
        // The one that begins last may not be whole.
        written.windows(4).filter(|kind| *kind == b"moof").count() > 3
    })
    .await;
    let [ffmpeg] = ffmpegs_in(&stage.dir)[..] else {
        panic!("one ffmpeg writes");
    };
    kill(ffmpeg, Signal::SIGSTOP).unwrap();
    feed(&packets, &sample.keep(|packet| packet.at >= played), begin).await;
    drop(packets);
    let mut told = vec![stage.told().await];
    while told.len() < 3 {
        told.push(stage.told().await);
    }
    let failed = told.iter().find(|told| told.state == RecordingState::Failed).unwrap();
    assert!(failed.error.as_ref().unwrap().contains("took nothing for 5 s"), "{failed:?}");
    assert_eq!(failed.file, started.file);
    assert!(streams(&stage.dir.join(failed.file.as_ref().unwrap()))[0].duration_s > 1.0);
    let finished = told.iter().find(|told| told.state == RecordingState::Finished).unwrap();
    assert!(decoded_pictures(&stage.dir.join(finished.file.as_ref().unwrap())) > 100);
    assert_eq!(ffmpegs_in(&stage.dir), []);
}

/// What the process does that is to be killed.
async fn record_until_killed(dir: &Path) {
    let mut stage = Stage::with(config(dir)).await.unwrap();
    let (_, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
    feed_at_pace(&packets, &sample("h264").repeated(20), Instant::now()).await;
}

/// Starts a process that records into a directory until it is killed.
pub fn start_doomed(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::what_a_killed_server_left_is_completed_by_the_next_one"])
        .env(DOOMED, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_left_is_completed_by_the_next_one() {
    if let Some(dir) = std::env::var_os(DOOMED) {
        return record_until_killed(Path::new(&dir)).await;
    }
    let dir = empty_dir("killed-server");
    let mut server = start_doomed(&dir);
    until("it records", || !ffmpegs_in(&dir).is_empty()).await;
    sleep(Duration::from_secs(5)).await;

    let taken = Stage::with(config(&dir)).await.err();
    assert!(matches!(taken, Some(RecordError::Taken(_))), "two servers in one directory: {taken:?}");

    server.kill().unwrap();
    server.wait().unwrap();
    until("its ffmpeg ends by itself", || ffmpegs_in(&dir).is_empty()).await;
    // Of another recording nothing was written, and a third was being completed.
    let user = dir.join("room/user");
    std::fs::write(user.join("20200101-000000.part.mp4"), []).unwrap();
    std::fs::write(user.join("20200101-000001.tmp"), [0; 100]).unwrap();

    let stage = Stage::with(config(&dir)).await.unwrap();
    let names = || {
        let entries = std::fs::read_dir(&user).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.collect::<Vec<_>>()
    };
    until(
        "the file is completed and the rest is gone",
        || matches!(&names()[..], [name] if name.ends_with(".mp4") && !name.ends_with(".part.mp4")),
    )
    .await;
    let file = user.join(&names()[0]);
    let told = streams(&file);
    println!("killed after 5 s: {told:?}");
    assert!(told[0].duration_s > 3.0, "all but the last two seconds: {told:?}");
    assert!(offsets(&file).iter().all(|offset| offset.abs() < 0.05));
    drop(stage);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_transcodes_than_cores_are_refused() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let sample = sample("vp8").only(TrackKind::Video);
    let mut stage = Stage::new("transcodes").await;
    let mut senders = Vec::new();
    for number in 0..=cores {
        let (_, packets) = stage.announce(&format!("room/user{number}"), &[Codec::Vp8]).await;
        feed(&packets, &sample, Instant::now()).await;
        senders.push(packets);
    }
    let mut told = Vec::new();
    while told.len() <= cores {
        told.push(stage.told().await);
    }
    let refused: Vec<_> = told.iter().filter(|told| told.state == RecordingState::Failed).collect();
    assert_eq!(refused.len(), 1, "{told:?}");
    assert!(refused[0].error.as_ref().unwrap().contains("as many as this machine has cores"), "{refused:?}");
}

//! A disk that hangs, fills up, vanishes or becomes read-only while a broadcast is recorded on it: the cause is told, nothing
//! waits for it, and recording goes on by itself when the disk does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use onair::rtp::codec::Codec;
use onair::signal::message::RecordingState;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{sleep, sleep_until};

use super::media::decoded_pictures;
use super::mount::Mount;
use super::sample::sample;
use super::stage::{Stage, Told, config};

/// A broadcast that goes on until it is told to end, as the hub hands it on: it waits for nobody.
struct Live {
    ends: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl Live {
    async fn begin(stage: &mut Stage) -> Self {
        let (_, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
        let live = Self { ends: Arc::default(), refused: Arc::default() };
        let (ends, refused) = (Arc::clone(&live.ends), Arc::clone(&live.refused));
        tokio::spawn(async move {
            for packet in sample("h264").repeated(60).media(Instant::now()) {
                sleep_until(packet.arrival.into()).await;
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(TrySendError::Full(_)) = packets.try_send(packet) {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        live
    }
}

async fn told(stage: &mut Stage, what: &str, wanted: impl Fn(&Told) -> bool) -> Told {
    loop {
        let told = stage.told().await;
        println!("{what}: {told:?}");
        if wanted(&told) {
            return told;
        }
    }
}

/// Records, breaks the disk, sees the cause told, mends it, and sees the recording go on. Returns both files' names.
async fn goes_on(dir: &Path, cause: &str, breaks: impl FnOnce(), mends: impl FnOnce()) -> [PathBuf; 2] {
    let mut config = config(dir);
    config.min_free_bytes = 4 << 20;
    let mut stage = Stage::with(config).await.unwrap();
    let live = Live::begin(&mut stage).await;
    let is_started = |told: &Told| told.state == RecordingState::Started;
    let first = told(&mut stage, cause, is_started).await.file.unwrap();
    sleep(Duration::from_secs(3)).await;
    breaks();
    let is_the_cause = |told: &Told| told.error.as_ref().is_some_and(|error| error.contains(cause));
    told(&mut stage, cause, is_the_cause).await;
    mends();
    let second = told(&mut stage, cause, is_started).await.file.unwrap();
    sleep(Duration::from_secs(3)).await;
    live.ends.store(true, Ordering::Relaxed);
    let second_finished = |told: &Told| told.state == RecordingState::Finished && told.file.as_ref() == Some(&second);
    told(&mut stage, cause, second_finished).await;
    assert_eq!(live.refused.load(Ordering::Relaxed), 0, "{cause}: the recorder's queue was full");
    stage.end().await;
    [dir.join(first), dir.join(second)]
}

async fn finished(file: &Path) {
    let there = async {
        while !file.exists() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), there).await.unwrap_or_else(|_| panic!("{}", file.display()));
}

/// All at once, for they mostly wait.
#[tokio::test(flavor = "multi_thread")]
async fn recording_goes_on_by_itself_when_its_disk_does() {
    let hangs = tokio::spawn(a_disk_that_hangs());
    let is_slow = tokio::spawn(a_disk_that_is_slow());
    let fills = tokio::spawn(a_disk_that_fills_up());
    let is_read_only = tokio::spawn(a_disk_that_is_read_only());
    let is_unmounted = tokio::spawn(a_disk_that_is_unmounted());
    let is_removed = tokio::spawn(a_directory_that_is_removed());
    for outcome in [hangs, is_slow, fills, is_read_only, is_unmounted, is_removed] {
        outcome.await.unwrap();
    }
}

async fn a_disk_that_hangs() {
    let disk = Mount::bindfs();
    let dir = disk.path().join("recordings");
    let [first, second] = goes_on(&dir, "does not answer", || disk.hang(), || disk.go_on()).await;
    assert!(decoded_pictures(&second) > 60);
    // Nothing of the first is lost either, but for what it could not take while the disk hung.
    finished(&first).await;
    assert!(decoded_pictures(&first) > 60);
}

/// A disk that answers now and then: nothing fails, and nothing is lost.
async fn a_disk_that_is_slow() {
    let disk = Arc::new(Mount::bindfs());
    let mut config = config(&disk.path().join("recordings"));
    config.min_free_bytes = 4 << 20;
    let dir = config.dir.clone();
    let mut stage = Stage::with(config).await.unwrap();
    let live = Live::begin(&mut stage).await;
    let file = told(&mut stage, "slow", |told| told.state == RecordingState::Started).await.file.unwrap();
    for _ in 0..16 {
        disk.hang();
        sleep(Duration::from_millis(450)).await;
        disk.go_on();
        sleep(Duration::from_millis(50)).await;
    }
    live.ends.store(true, Ordering::Relaxed);
    let next = told(&mut stage, "slow", |_| true).await;
    assert_eq!((next.state, next.file.as_ref()), (RecordingState::Finished, Some(&file)), "{next:?}");
    assert_eq!(live.refused.load(Ordering::Relaxed), 0);
    assert_eq!(stage.recorder.metrics().packets_dropped, 0);
    assert!(decoded_pictures(&dir.join(file)) > 200);
    stage.end().await;
}

async fn a_disk_that_fills_up() {
    let disk = Mount::tmpfs("64m");
    let filling = disk.path().join("filling");
    let fill = || std::fs::write(&filling, vec![0; 61 << 20]).unwrap();
    let empty = || std::fs::remove_file(&filling).unwrap();
    let [first, second] = goes_on(&disk.path(), "is full", fill, empty).await;
    assert!(decoded_pictures(&first) > 60 && decoded_pictures(&second) > 60);
}

/// The kernel makes no file system read-only while a file on it is open for writing, so the broadcast comes afterwards.
async fn a_disk_that_is_read_only() {
    let disk = Mount::tmpfs("64m");
    let mut config = config(&disk.path());
    config.min_free_bytes = 4 << 20;
    let mut stage = Stage::with(config).await.unwrap();
    disk.remount("ro");
    let live = Live::begin(&mut stage).await;
    let is_the_cause =
        |told: &Told| told.error.as_ref().is_some_and(|error| error.to_lowercase().contains("read-only"));
    told(&mut stage, "read-only", is_the_cause).await;
    disk.remount("rw");
    let file = told(&mut stage, "read-only", |told| told.state == RecordingState::Started).await.file;
    sleep(Duration::from_secs(3)).await;
    live.ends.store(true, Ordering::Relaxed);
    told(&mut stage, "read-only", |told| told.state == RecordingState::Finished && told.file == file).await;
    stage.end().await;
    assert!(decoded_pictures(&disk.path().join(file.unwrap())) > 60);
}

async fn a_disk_that_is_unmounted() {
    let disk = Mount::tmpfs("64m");
    let [_, second] = goes_on(&disk.path(), "not mounted", || disk.unmount(), || disk.mount_tmpfs("64m")).await;
    assert!(decoded_pictures(&second) > 60);
}

/// The file that was being written goes with the directory; the next one begins as soon as it has been made again.
async fn a_directory_that_is_removed() {
    let disk = Mount::tmpfs("64m");
    let dir = disk.path().join("recordings");
    let mut config = config(&dir);
    config.min_free_bytes = 4 << 20;
    let mut stage = Stage::with(config).await.unwrap();
    let live = Live::begin(&mut stage).await;
    let is_started = |told: &Told| told.state == RecordingState::Started;
    let first = told(&mut stage, "removed", is_started).await.file;
    sleep(Duration::from_secs(1)).await;
    std::fs::remove_dir_all(&dir).unwrap();
    let second = told(&mut stage, "removed", is_started).await.file;
    assert!(second != first || dir.join(second.as_ref().unwrap().replace(".mp4", ".part.mp4")).exists());
    sleep(Duration::from_secs(3)).await;
    live.ends.store(true, Ordering::Relaxed);
    told(&mut stage, "removed", |told| told.state == RecordingState::Finished && told.file == second).await;
    assert!(decoded_pictures(&dir.join(second.unwrap())) > 60);
    stage.end().await;
}

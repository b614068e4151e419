//! Servers that are killed at any moment: what they recorded plays after the next start, to its last two seconds.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use tokio::time::sleep;

use super::faults::{ffmpegs_in, start_doomed, until};
use super::media::{decoded_pictures, offsets, streams};
use super::sample::noise;
use super::stage::{Stage, config, empty_dir};

/// Kills in all, and at a time.
const KILLS: usize = 20;
const AT_ONCE: usize = 10;

/// The finished files below a directory.
fn finished(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir.join("room/user")) else { return Vec::new() };
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|file| file.to_str().is_some_and(|name| name.ends_with(".mp4") && !name.contains(".part."))).collect()
}

/// One server that records, is killed after so long, and is followed by another.
async fn kill_one(number: usize) {
    let dir = empty_dir(&format!("kill-{number}"));
    let mut server = start_doomed(&dir);
    until("it records", || !ffmpegs_in(&dir).is_empty()).await;
    let since = Instant::now();
    sleep(Duration::from_millis(2500 + noise(77, number) % 5000)).await;
    let recorded = since.elapsed();
    // Each second time its ffmpeg goes with it, as when all of a container is killed.
    let ffmpegs = if number.is_multiple_of(2) { ffmpegs_in(&dir) } else { Vec::new() };
    server.kill().unwrap();
    for ffmpeg in ffmpegs {
        // It may have ended by itself in this moment.
        let _ = kill(ffmpeg, Signal::SIGKILL);
    }
    server.wait().unwrap();
    until("its ffmpeg has ended", || ffmpegs_in(&dir).is_empty()).await;

    let stage = Stage::with(config(&dir)).await.unwrap();
    until("the file is completed", || finished(&dir).len() == 1).await;
    stage.end().await;
    let file = &finished(&dir)[0];
    let told = streams(file);
    println!("{number}: killed after {recorded:.1?}: {told:?}");
    assert!(told[0].duration_s > recorded.as_secs_f64() - 2.0, "{number}: {recorded:?}: {told:?}");
    assert_eq!(decoded_pictures(file), told[0].packets, "{number}");
    assert!(offsets(file).iter().all(|offset| offset.abs() < 0.05), "{number}");
    assert_eq!(std::fs::read_dir(dir.join("room/user")).unwrap().count(), 1, "{number}: nothing else is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_servers_are_killed_and_every_file_plays() {
    for first in (0..KILLS).step_by(AT_ONCE) {
        let kills: Vec<_> = (first..first + AT_ONCE).map(|number| tokio::spawn(kill_one(number))).collect();
        for killed in kills {
            killed.await.unwrap();
        }
    }
}

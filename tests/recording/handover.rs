//! The operator's command for each finished file.

use std::path::Path;
use std::time::{Duration, Instant};

use onair::rtp::codec::Codec;

use super::sample::sample;
use super::stage::{Stage, config, empty_dir, feed};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the command has written, line by line.
fn lines(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_runs_once_for_each_file_and_is_told_its_facts() {
    let (dir, out) = (empty_dir("handover"), empty_dir("handover-out"));
    std::fs::create_dir_all(&out).unwrap();
    let mut config = config(&dir);
    config.segment = Duration::from_secs(2);
    let file = out.join("told");
    let variables =
        "$ONAIR_PATH|$ONAIR_BROADCAST|$ONAIR_ROOM|$ONAIR_USER|$ONAIR_STARTED|$ONAIR_DURATION_S|$ONAIR_SIZE_BYTES";
    config.on_recording = Some(format!("test -s \"$ONAIR_FILE\" && echo \"{variables}\" >> {}", file.display()));
    let mut stage = Stage::with(config).await.unwrap();
    stage.play(&sample("h264").repeated(3), &[Codec::H264, Codec::Opus]).await;
    let files = stage.files().await;
    let told = lines(&file);
    assert_eq!(told.len(), files.len(), "{told:?}");
    for file in &files {
        let name = file.strip_prefix(&dir).unwrap().to_str().unwrap();
        let line = told.iter().find(|line| line.split('|').next() == Some(name)).unwrap();
        let parts: Vec<&str> = line.split('|').collect();
        assert_eq!(parts[1..4], ["room/user", "room", "user"]);
        assert!(parts[4].ends_with('Z') && parts[5].parse::<f64>().unwrap() > 1.0, "{line}");
        assert_eq!(parts[6].parse::<u64>().unwrap(), std::fs::metadata(file).unwrap().len());
    }
    assert_eq!(std::fs::read_dir(dir.join(".onair.pending")).unwrap().count(), 0, "nothing waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_is_told_and_run_again_after_a_restart() {
    let (dir, out) = (empty_dir("handover-fails"), empty_dir("handover-fails-out"));
    std::fs::create_dir_all(&out).unwrap();
    let (ready, told) = (out.join("ready"), out.join("told"));
    let command = format!("test -e {} && echo \"$ONAIR_PATH\" >> {}", ready.display(), told.display());
    let with = || {
        let mut config = config(&dir);
        config.on_recording = Some(command.clone());
        config
    };
    let mut stage = Stage::with(with()).await.unwrap();
    let (_, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
    feed(&packets, &sample("h264"), Instant::now()).await;
    drop(packets);
    let name = stage.told().await.file.unwrap();
    let failed = async {
        while stage.recorder.metrics().handovers_failed == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.expect("it fails");
    stage.end().await;
    assert!(dir.join(&name).exists() && lines(&told).is_empty());

    std::fs::write(&ready, "").unwrap();
    let stage = Stage::with(with()).await.unwrap();
    let taken = async {
        while stage.recorder.metrics().handovers == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("it is run again");
    assert_eq!(lines(&told), [name]);
    stage.end().await;
}

/// A recording that a killed server left is finished at the next start, and handed over like any other.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_unfinished_is_handed_over_too() {
    let (dir, out) = (empty_dir("handover-left"), empty_dir("handover-left-out"));
    std::fs::create_dir_all(&out).unwrap();
    let file = Stage::with(config(&dir)).await.unwrap().record(&sample("h264"), &[Codec::H264, Codec::Opus]).await;
    let name = file.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned();
    std::fs::rename(&file, file.with_extension("part.mp4")).unwrap();
    let mut config = config(&dir);
    let told = out.join("told");
    config.on_recording = Some(format!("echo \"$ONAIR_PATH\" >> {}", told.display()));
    let stage = Stage::with(config).await.unwrap();
    let taken = async {
        while stage.recorder.metrics().handovers == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("it is handed over");
    assert_eq!(lines(&told), [name]);
    stage.end().await;
}

/// A command may leave something running: it counts by its own end.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_in_the_background_holds_nothing_up() {
    let (dir, out) = (empty_dir("handover-background"), empty_dir("handover-background-out"));
    std::fs::create_dir_all(&out).unwrap();
    let mut config = config(&dir);
    let pid = out.join("pid");
    config.on_recording = Some(format!("sleep 300 & echo $! > {}", pid.display()));
    let mut stage = Stage::with(config).await.unwrap();
    let (_, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
    feed(&packets, &sample("h264"), Instant::now()).await;
    drop(packets);
    let taken = async {
        while stage.recorder.metrics().handovers == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("it counts by its own end");
    let child = nix::unistd::Pid::from_raw(lines(&pid)[0].parse().unwrap());
    nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).expect("what it left goes on");
    stage.end().await;
}

/// The directory is elsewhere when the command is to be run again, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_away_is_no_reason_to_forget_a_file() {
    let (dir, out) = (empty_dir("handover-away"), empty_dir("handover-away-out"));
    std::fs::create_dir_all(&out).unwrap();
    let (away, told) = (out.join("away"), out.join("told"));
    let mut config = config(&dir);
    // The first run takes the directory away, as an unmount would, and fails.
    let line = format!(
        "echo \"$ONAIR_PATH\" >> {0}; test $(wc -l < {0}) -gt 1 || {{ mv {1} {2}; exit 1; }}",
        told.display(),
        dir.display(),
        away.display()
    );
    config.on_recording = Some(line);
    let mut stage = Stage::with(config).await.unwrap();
    let (_, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
    feed(&packets, &sample("h264"), Instant::now()).await;
    drop(packets);
    let lasting = async {
        while stage.recorder.metrics().handovers_failed == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Long enough for the next run to find nothing.
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert_eq!(stage.recorder.metrics().handovers, 0);
        // The recorder has made the directory again by now.
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::rename(&away, &dir).unwrap();
        while stage.recorder.metrics().handovers == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, lasting).await.expect("it is run when the disk is back");
    assert_eq!(lines(&told).len(), 2);
    stage.end().await;
}

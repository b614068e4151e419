//! Directories that are removed, unmounted, full or read-only.

use std::path::Path;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::live::{PATIENCE, Scratch, onair};
use super::mount::Mount;
use super::recorder;

const LOCK: &str = ".onair.lock";

/// Two looks at the directory and a bit.
const LOOKS: Duration = Duration::from_secs(7);

async fn until_there(path: &Path) {
    let there = async {
        while !path.exists() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, there).await.unwrap_or_else(|_| panic!("{} does not come", path.display()));
}

/// What a second server on the same directory says.
async fn refusal(dir: &Path) -> String {
    let scratch = Scratch::new();
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record-dir", dir.to_str().unwrap()];
    let child = onair(&scratch, &args, &[]).spawn().unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_removed_is_made_again_and_stays_ours() {
    let scratch = Scratch::new();
    let dir = scratch.path().join("some/where/recordings");
    let mut server = recorder(&dir, &["--record-min-free", "1MiB"]).await;
    assert!(refusal(&dir).await.contains("another server records"));
    std::fs::remove_dir_all(scratch.path().join("some")).unwrap();
    until_there(&dir.join(LOCK)).await;
    server.logged("generation=1").await;
    assert!(refusal(&dir).await.contains("another server records"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_point_without_its_disk_is_not_written_to() {
    for below in ["", "recordings"] {
        let disk = Mount::tmpfs("64m");
        disk.unmount();
        // As a server leaves one that runs before the disk is mounted.
        std::fs::write(disk.path().join(LOCK), "").unwrap();
        disk.mount_tmpfs("64m");
        let dir = disk.path().join(below);
        let mut server = recorder(&dir, &["--record-min-free", "1MiB"]).await;
        disk.unmount();
        server.logged("is not mounted: nothing is recorded").await;
        sleep(LOOKS).await;
        let names = std::fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), [LOCK], "nothing is written to the bare mount point");
        disk.mount_tmpfs("64m");
        server.logged("the recordings' disk is ready").await;
        until_there(&dir.join(LOCK)).await;
        assert!(refusal(&dir).await.contains("another server records"));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_becomes_read_only_is_told_and_used_again() {
    let disk = Mount::tmpfs("64m");
    let mut server = recorder(&disk.path(), &["--record-min-free", "1MiB"]).await;
    disk.remount("ro");
    server.logged("is read-only: nothing is recorded").await;
    disk.remount("rw");
    server.logged("the recordings' disk is ready").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_disk_left_unfinished_is_completed_when_there_is_space() {
    let disk = Mount::tmpfs("64m");
    let user = disk.path().join("room/user");
    std::fs::create_dir_all(&user).unwrap();
    let part = user.join("20260102-030405.part.mp4");
    let made = std::process::Command::new("ffmpeg")
        .args([
            "-loglevel",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc=duration=2",
            "-movflags",
            "frag_keyframe+empty_moov",
        ])
        .arg(&part)
        .status();
    assert!(made.expect("ffmpeg is missing").success());
    let filling = disk.path().join("filling");
    std::fs::write(&filling, vec![0; 50 << 20]).unwrap();
    let mut server = recorder(&disk.path(), &["--record-min-free", "32MiB"]).await;
    server.logged("too full to complete the file").await;
    assert!(part.exists());
    std::fs::remove_file(filling).unwrap();
    server.logged("completed a recording that was left unfinished").await;
    assert!(!part.exists());
    assert!(user.join("20260102-030405.mp4").exists());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_is_told_and_used_again() {
    let disk = Mount::tmpfs("64m");
    let mut server = recorder(&disk.path(), &["--record-min-free", "32MiB"]).await;
    let filling = disk.path().join("filling");
    std::fs::write(&filling, vec![0; 48 << 20]).unwrap();
    let line = server.logged("nothing is recorded").await;
    assert!(line.contains("the recordings' disk is full: 1"), "{line}");
    std::fs::remove_file(filling).unwrap();
    server.logged("the recordings' disk is ready").await;
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("onair_recording_disk_ready 1"), "{}", metrics.text());
    server.stop().await;
}

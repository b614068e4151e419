//! A disk that hangs: the server goes on, says so, and recovers.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::Signal;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::live::{self, PATIENCE};
use super::mount::Mount;
use super::recorder;

/// Far more than any answer takes that does not wait for the disk.
const PROMPT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_up_nothing_else() {
    let disk = Mount::bindfs();
    let dir = disk.path().join("recordings");
    std::fs::create_dir_all(dir.join("room/user")).unwrap();
    std::fs::write(dir.join("room/user/20260102-030405.mp4"), "0123456789").unwrap();
    let mut server = recorder(&dir, &["--record-min-free", "1MiB", "--record-keep", "1000d"]).await;
    assert_eq!(server.get("/api/recordings").await.json().as_array().unwrap().len(), 1);
    let url = format!("ws://{}/ws", server.http);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();

    disk.hang();
    // More than any quota: lists, downloads and removals that all wait for the disk.
    let file = "/recordings/room/user/20260102-030405.mp4";
    let waiting: Vec<_> = (0..60)
        .map(|number| {
            let (http, path) = (server.http, if number % 2 == 0 { "/api/recordings" } else { file });
            tokio::spawn(async move { live::request(http, "GET", path, &[], b"").await })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        for path in ["/healthz", "/"] {
            let since = Instant::now();
            assert_eq!(server.get(path).await.status, 200, "{path}");
            slowest = slowest.max(since.elapsed());
        }
        sleep(Duration::from_millis(300)).await;
    }
    println!("the slowest answer beside a disk that hangs took {slowest:?}");
    assert!(slowest < PROMPT, "{slowest:?}");
    for answer in waiting {
        let answer = answer.await.unwrap();
        answer.problem(503);
        assert!(answer.json()["detail"].as_str().unwrap().contains("disk does not answer"), "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    server.logged("the recordings' disk does not answer: nothing is recorded").await;
    socket.send(Message::Ping("still there".into())).await.unwrap();
    let answered = async {
        while let Some(message) = socket.next().await {
            if matches!(message.unwrap(), Message::Pong(_)) {
                return;
            }
        }
        panic!("the WebSocket was closed");
    };
    timeout(PATIENCE, answered).await.expect("the WebSocket answers");

    disk.go_on();
    server.logged("the recordings' disk is ready").await;
    assert_eq!(server.get(file).await.text(), "0123456789");
    assert_eq!(server.get("/api/recordings").await.json().as_array().unwrap().len(), 1);
    server.stop().await;
}

/// Whether a program's first thread runs. The kernel lets the process go when its last thread is out of the disk's hands: a
/// call that FUSE has begun to answer cannot be broken off, not even by SIGKILL.
fn runs(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_disk_hangs_ends_and_another_says_why_it_does_not_start() {
    let disk = Mount::bindfs();
    let mut server = recorder(&disk.path(), &["--record-min-free", "1MiB"]).await;
    disk.hang();
    let waiting = tokio::spawn(live::request(server.http, "GET", "/api/recordings", &[], b""));
    assert!(waiting.await.unwrap().status == 503);
    server.signal(Signal::SIGTERM);
    server.logged("stopped").await;
    let ended = async {
        while runs(server.pid()) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("the program waits for no thread that hangs");

    let scratch = live::Scratch::new();
    let path = disk.path();
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record-dir", path.to_str().unwrap()];
    let child = live::onair(&scratch, &args, &[]).spawn().unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.lines().last().unwrap().contains("disk does not answer"), "{log}");
    disk.go_on();
    assert_eq!(server.ended().await.0.code(), Some(0));
}

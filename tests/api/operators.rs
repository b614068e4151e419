//! What operators do over HTTP: ending a broadcast, ending a recording, removing a file.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::events::Listener;
use crate::live::{self, Scratch, Server, script, written};
use crate::wire::{self, until};

const FILE: &str = "/api/recordings/room/user/20260102-030405.mp4";

async fn delete(server: &Server, path: &str) -> live::Response {
    server.request("DELETE", path, &[], b"").await
}

#[tokio::test]
async fn a_kicked_encoder_loses_its_session_and_its_viewers_hear_why() {
    let server = Server::start(&[]).await;
    delete(&server, "/api/broadcasts/r/u").await.problem(404);
    let mut encoder = wire::live(&server, 1, "r/u").await;
    let mut listener = Listener::connect(&server, "").await;
    listener.told().await;
    delete(&server, "/api/broadcasts/r/other").await.problem(404);
    // Nothing records here.
    assert_eq!(delete(&server, "/api/broadcasts/r/u/recording").await.problem(409).as_deref(), Some("bad-state"));
    let kicked = delete(&server, "/api/broadcasts/r/u").await;
    assert_eq!((kicked.status, kicked.body.len()), (204, 0), "{kicked:?}");
    let (name, data) = listener.told().await;
    assert_eq!((name.as_str(), &data["reason"]), ("broadcaster-disconnected", &json!("kicked")));
    until("DTLS is closed", &mut [&mut encoder], |wires| wires[0].client.is_closed).await;
    server.request("DELETE", &encoder.location, &[], b"").await.problem(404);
    assert_eq!(server.get("/api/broadcasts").await.json(), json!([]));
    delete(&server, "/api/broadcasts/r/u").await.problem(404);
    delete(&server, "/api/broadcasts/r/u/recording").await.problem(404);
    server.stop().await;
}

#[tokio::test]
async fn a_recording_is_removed_and_nothing_else_is() {
    let scratch = Scratch::new();
    for name in
        ["room/user/20260102-030405.mp4", "room/user/notes.txt", "room/20260102-030405.mp4", "20260102-030405.mp4"]
    {
        scratch.write(&format!("media/{name}"), "0123456789");
    }
    scratch.write("media/other/user/20260102-030405-2.mp4", "0123456789");
    scratch.write("secret.mp4", "secret");
    std::fs::create_dir_all(scratch.path().join("media/room/user/20260102-030406.mp4")).unwrap();
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--record-dir", "media"];
    let server = Server::start_with(scratch, &args, &[]).await;
    let exists = |name: &str| server.scratch.path().join("media").join(name).exists();
    for path in [
        "/api/recordings/room/user/20990102-030405.mp4",
        "/api/recordings/room/user/20260102-030406.mp4",
        "/api/recordings/room/user/notes.txt",
        "/api/recordings/room/..%2f/20260102-030405.mp4",
        "/api/recordings/room/%2e%2e/20260102-030405.mp4",
        "/api/recordings/%2e%2e/%2e%2e/20260102-030405.mp4",
        "/api/recordings/room/user/%2e%2e%2f20260102-030405.mp4",
        "/api/recordings/room/user/..%2f..%2f..%2fsecret.mp4",
        "/api/recordings/room/user/20260102-030405.mp4%00",
        "/api/recordings/room/user",
        "/api/recordings/room/user/",
    ] {
        delete(&server, path).await.problem(404);
    }
    for method in ["GET", "POST", "PUT"] {
        server.request(method, FILE, &[], b"").await.problem(405);
    }
    assert_eq!(delete(&server, FILE).await.status, 204);
    delete(&server, FILE).await.problem(404);
    assert!(!exists("room/user/20260102-030405.mp4"));
    for name in
        ["room/user/notes.txt", "room/user/20260102-030406.mp4", "room/20260102-030405.mp4", "20260102-030405.mp4"]
    {
        assert!(exists(name), "{name}");
    }
    assert_eq!(delete(&server, "/api/recordings/other/user/20260102-030405-2.mp4").await.status, 204);
    assert!(!exists("other") && exists("room"));
    assert_eq!(server.get("/api/recordings").await.json(), json!([]));
    server.stop().await;
}

#[tokio::test]
async fn a_recording_is_started_stopped_and_started_again_on_request() {
    const RECORDING: &str = "/api/broadcasts/r/u/recording";
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "stage/*", "--record-min-free", "0"];
    let server = Server::start_with(Scratch::new(), &args, &[]).await;
    let post = || server.request("POST", RECORDING, &[], b"");
    post().await.problem(404);
    let mut encoder = wire::live(&server, 1, "r/u").await;
    let mut listener = Listener::connect(&server, "").await;
    listener.told().await;
    assert_eq!(delete(&server, RECORDING).await.problem(409).as_deref(), Some("bad-state"));
    let mut files = Vec::new();
    for _ in 0..2 {
        let started = post().await;
        assert_eq!((started.status, started.body.len()), (204, 0), "{started:?}");
        let refused = post().await;
        assert_eq!(refused.problem(409).as_deref(), Some("bad-state"));
        assert!(refused.text().contains("already being recorded"), "{refused:?}");
        let file = loop {
            let mut wires = [&mut encoder];
            let told = tokio::select! {
                told = listener.told() => told.1,
                () = until("it is told", &mut wires, |_| false) => unreachable!(),
            };
            if told["state"] == "started" {
                break told["file"].clone();
            }
        };
        files.push(file);
        assert_eq!(delete(&server, RECORDING).await.status, 204);
        assert_eq!(delete(&server, RECORDING).await.problem(409).as_deref(), Some("bad-state"));
    }
    assert_ne!(files[0], files[1], "each is a file of its own");
    server.stop().await;
}

#[tokio::test]
async fn a_recorder_without_ffmpeg_is_tried_again_at_the_next_request() {
    const RECORDING: &str = "/api/broadcasts/r/u/recording";
    let scratch = Scratch::new();
    let ffmpeg = scratch.path().join("ffmpeg-later");
    let server = Server::start_with(scratch, &off(ffmpeg.to_str().unwrap()), &[]).await;
    let mut encoder = wire::live(&server, 1, "r/u").await;
    for _ in 0..2 {
        let refused = server.request("POST", RECORDING, &[], b"").await;
        refused.problem(503);
        assert!(refused.text().contains("no usable ffmpeg"), "{refused:?}");
        assert!(!refused.text().contains("ffmpeg-later"), "{refused:?}");
    }
    let real = std::env::var("ONAIR_FFMPEG").unwrap_or_else(|_| "ffmpeg".to_owned());
    script(&server.scratch, "ffmpeg-later", &format!("exec {real} \"$@\""));
    let started = server.request("POST", RECORDING, &[], b"").await;
    assert_eq!(started.status, 204, "{started:?}");
    let directory = server.scratch.path().join("recordings/r/u");
    until("a file is there", &mut [&mut encoder], |_| std::fs::read_dir(&directory).is_ok()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_recorder_that_does_not_get_started_does_not_hold_the_stop_up() {
    let scratch = Scratch::new();
    let began = scratch.path().join("began");
    let ffmpeg = script(&scratch, "ffmpeg-hangs", &format!("echo $$ > {}\nexec sleep 100", began.display()));
    let server = Server::start_with(scratch, &off(ffmpeg.to_str().unwrap()), &[]).await;
    let _encoder = wire::live(&server, 1, "r/u").await;
    let http = server.http;
    let asked =
        tokio::spawn(async move { live::request(http, "POST", "/api/broadcasts/r/u/recording", &[], b"").await });
    written(&began).await;
    let since = Instant::now();
    server.signal(Signal::SIGTERM);
    let refused = asked.await.unwrap();
    refused.problem(503);
    assert!(refused.text().contains("the server is stopping"), "{refused:?}");
    let (status, ..) = server.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
}

/// A server that records on request alone, with this ffmpeg.
fn off(ffmpeg: &str) -> [&str; 10] {
    ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--record-min-free", "0", "--ffmpeg", ffmpeg]
}

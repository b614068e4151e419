//! Recordings as files: ranges for seeking, and no way to any other file.

use super::live::{Scratch, Server};

const FILE: &str = "/recordings/room/user/20260102-030405.mp4";

async fn server() -> Server {
    let scratch = Scratch::new();
    scratch.write("secret.mp4", "secret");
    scratch.write("media/20260102-030405.mp4", "secret");
    scratch.write("media/room/20260102-030405.mp4", "secret");
    scratch.write("media/room/user/20260102-030405.mp4", "0123456789");
    scratch.write("media/room/user/20260102-030405-2.part.mp4", "growing");
    scratch.write("media/room/user/notes.txt", "secret");
    scratch.write("media/room/user/.lock", "secret");
    std::fs::create_dir_all(scratch.path().join("media/room/user/20260102-030406.mp4")).unwrap();
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--record-dir", "media"];
    Server::start_with(scratch, &args, &[]).await
}

#[tokio::test]
async fn a_recording_is_served_whole_and_in_ranges() {
    let server = server().await;
    let whole = server.get(FILE).await;
    assert_eq!((whole.status, whole.text()), (200, "0123456789"));
    assert_eq!(whole.header("content-type"), Some("video/mp4"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.header("cache-control"), Some("no-cache"));
    for (range, content_range, body) in [
        ("bytes=2-5", "bytes 2-5/10", "2345"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-3", "bytes 7-9/10", "789"),
        ("bytes=0-0", "bytes 0-0/10", "0"),
    ] {
        let part = server.request("GET", FILE, &[("Range", range)], b"").await;
        assert_eq!((part.status, part.text()), (206, body), "{range}");
        assert_eq!(part.header("content-range"), Some(content_range), "{range}");
    }
    let beyond = server.request("GET", FILE, &[("Range", "bytes=10-")], b"").await;
    beyond.problem(416);
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    let head = server.request("HEAD", FILE, &[], b"").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("10"), 0));
    let growing = server.get("/recordings/room/user/20260102-030405-2.part.mp4").await;
    assert_eq!((growing.status, growing.text()), (200, "growing"));
    server.stop().await;
}

#[tokio::test]
async fn nothing_but_recordings_is_served() {
    let server = server().await;
    for path in [
        "/recordings/room/user/20990102-030405.mp4",
        "/recordings/room/user/20260102-030406.mp4",
        "/recordings/room/user/notes.txt",
        "/recordings/room/user/.lock",
        "/recordings/room/user/",
        "/recordings/room/user",
        "/recordings/room",
        "/recordings/",
        "/recordings/room/../20260102-030405.mp4",
        "/recordings/room/..%2f/20260102-030405.mp4",
        "/recordings/room/%2e%2e/20260102-030405.mp4",
        "/recordings/%2e%2e/%2e%2e/20260102-030405.mp4",
        "/recordings/room/./20260102-030405.mp4",
        "/recordings/room/user/..%2f20260102-030405.mp4",
        "/recordings/room/user/%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret.mp4",
        "/recordings/room/user/20260102-030405.mp4%00",
    ] {
        server.get(path).await.problem(404);
    }
    server.request("DELETE", FILE, &[], b"").await.problem(405);
    server.stop().await;
}

#[tokio::test]
async fn the_list_names_recordings_and_nothing_else() {
    let server = server().await;
    let list = server.get("/api/recordings").await;
    assert_eq!((list.status, list.header("cache-control")), (200, Some("no-store")));
    let list = list.json();
    let paths: Vec<_> = list.as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    // Newest first.
    assert_eq!(paths, ["room/user/20260102-030405-2.part.mp4", "room/user/20260102-030405.mp4"]);
    for entry in list.as_array().unwrap() {
        assert_eq!((&entry["broadcast"], &entry["started"]), (&"room/user".into(), &"2026-01-02T03:04:05Z".into()));
        let path = format!("/recordings/{}", entry["path"].as_str().unwrap());
        let file = server.get(&path).await;
        assert_eq!((file.status, Some(file.body.len() as u64)), (200, entry["size_bytes"].as_u64()), "{entry}");
        assert!(entry["duration_s"].is_f64(), "{entry}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_yet_is_an_empty_list() {
    let server = Server::start(&[]).await;
    assert_eq!(server.get("/api/recordings").await.json(), serde_json::json!([]));
    server.stop().await;
}

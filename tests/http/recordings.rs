//! Recordings as files: ranges for seeking, and no way to any other file.

use super::live::{Scratch, Server, written};

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
    // Without ffmpeg nobody completes the unfinished one.
    Server::start_with(scratch, &[&args[..], &["--ffmpeg", "/nonexistent/ffmpeg"]].concat(), &[]).await
}

#[tokio::test]
async fn what_an_earlier_run_left_is_taken_up_without_a_request() {
    let scratch = Scratch::new();
    let part = scratch.write("media/room/user/20260102-030405.part.mp4", "");
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--record-dir", "media"];
    let mut server = Server::start_with(scratch, &args, &[]).await;
    server.logged("removed an unfinished recording that held nothing").await;
    assert!(!part.exists());
    server.stop().await;

    let scratch = Scratch::new();
    scratch.write("media/room/user/20260102-030405.mp4", "0123456789");
    let mark = scratch.write("media/.onair.pending/room/user/20260102-030405.mp4", "");
    let told = scratch.path().join("told");
    let command = format!("echo \"$ONAIR_PATH\" > {}", told.display());
    let server = Server::start_with(scratch, &[&args[..], &["--on-recording", &command]].concat(), &[]).await;
    assert_eq!(written(&told).await, "room/user/20260102-030405.mp4\n");
    server.stop().await;
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_directory_in_which_nothing_is_left_is_not_taken() {
    let scratch = Scratch::new();
    scratch.write("media/room/user/20260102-030405.mp4", "0123456789");
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--record-dir", "media"];
    let server = Server::start_with(scratch, &args, &[]).await;
    // The look at the directory needs a moment.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(!server.scratch.path().join("media/.onair.lock").exists());
    server.stop().await;
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

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let scratch = Scratch::new();
    for (user, count) in [("anna", 25), ("ben", 5)] {
        for number in 1..=count {
            // All in one second.
            scratch.write(&format!("media/room/{user}/20260102-030405-{number}.mp4"), "x");
        }
    }
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--record-dir", "media"];
    let server = Server::start_with(scratch, &args, &[]).await;
    let (mut paths, mut next) = (Vec::new(), Some("/api/recordings?limit=10&token=hidden&user=anna".to_owned()));
    let mut pages = Vec::new();
    while let Some(address) = next {
        let page = server.get(&address).await;
        assert_eq!(page.status, 200, "{page:?}");
        let rows = page.json();
        pages.push(rows.as_array().unwrap().len());
        paths.extend(rows.as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap().to_owned()));
        next = page.header("link").map(|link| {
            let address = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
            address.unwrap_or_else(|| panic!("{link}")).to_owned()
        });
        assert!(next.as_ref().is_none_or(|next| !next.contains("token") && next.contains("user=anna")), "{next:?}");
    }
    assert_eq!(pages, [10, 10, 5]);
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 25);
    assert_eq!(server.get("/api/recordings?room=room").await.json().as_array().unwrap().len(), 30);
    assert_eq!(server.get("/api/recordings?room=other").await.json(), serde_json::json!([]));
    let before = server.get("/api/recordings?before=2026-01-02T03:04:05Z").await;
    assert_eq!((before.json(), before.header("link")), (serde_json::json!([]), None));
    for bad in ["limit=0", "limit=x", "room=a%2Fb", "user=", "before=x"] {
        server.get(&format!("/api/recordings?{bad}")).await.problem(400);
    }
    server.stop().await;
}

#[tokio::test]
async fn old_recordings_go_without_a_recorder_too() {
    let scratch = Scratch::new();
    let old = scratch.write("media/room/user/20260102-030405.mp4", "0123456789");
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--record-dir", "media"];
    let args = [&args[..], &["--record-max-size", "5B"]].concat();
    let mut server = Server::start_with(scratch, &args, &[]).await;
    server.logged("recording removed").await;
    assert!(!old.exists());
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("onair_recordings_removed_total 1"), "{}", metrics.text());
    server.stop().await;
}

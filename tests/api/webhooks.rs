//! What the webhook is told: the life of broadcasts and recordings, signed, in order, and until it has taken it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::hook::{Asked, Hook, SECRET};
use crate::live::{Scratch, Server};
use crate::wire::{self, Wire, until};

async fn server(hook: &Hook, args: &[&str]) -> Server {
    let all = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--webhook", &hook.url];
    Server::start_with(Scratch::new(), &[&all[..], args].concat(), &[("ONAIR_WEBHOOK_SECRET", SECRET)]).await
}

/// The next that it is told, and not asked, while `wires` live.
async fn told(hook: &mut Hook, wires: &mut [&mut Wire]) -> Asked {
    loop {
        let asked = tokio::select! {
            asked = hook.next() => asked,
            () = until("it is told", wires, |_| false) => unreachable!(),
        };
        if asked.content["type"] != "publish" {
            return asked;
        }
    }
}

fn brief(asked: &Asked) -> (Value, Value) {
    assert!(asked.content["timestamp"].as_str().is_some_and(|text| text.ends_with('Z')), "{asked:?}");
    (asked.content["type"].clone(), asked.content["user"].clone())
}

#[tokio::test]
async fn what_it_did_not_take_it_is_told_again_by_the_same_id_and_in_order() {
    let failures = AtomicU32::new(0);
    let mut hook = Hook::start(move |content| {
        let is_first = content["type"] == "broadcast-started" && content["user"] == "u";
        Some(if is_first && failures.fetch_add(1, Ordering::Relaxed) == 0 { 503 } else { 200 })
    })
    .await;
    let server = server(&hook, &["--record", "off"]).await;
    let mut encoder = wire::live(&server, 1, "r/u").await;
    let first = told(&mut hook, &mut [&mut encoder]).await;
    let refused_at = Instant::now();
    assert_eq!(brief(&first), (json!("broadcast-started"), json!("u")));
    assert_eq!(first.content["tracks"], json!([{"kind": "audio", "codec": "opus"}, {"kind": "video", "codec": "vp8"}]));
    assert_eq!(server.request("DELETE", &encoder.location, &[], b"").await.status, 200);

    // Another broadcast's news pass meanwhile.
    let mut other = wire::live(&server, 2, "r/v").await;
    let passing = told(&mut hook, &mut [&mut other]).await;
    assert_eq!(brief(&passing), (json!("broadcast-started"), json!("v")));

    let again = told(&mut hook, &mut [&mut other]).await;
    assert!(refused_at.elapsed() > Duration::from_secs(3), "{:?}", refused_at.elapsed());
    assert_eq!((&again.id, &again.content), (&first.id, &first.content));
    assert!(again.timestamp_s > first.timestamp_s, "each try is signed anew");
    let ended = told(&mut hook, &mut [&mut other]).await;
    assert_eq!(brief(&ended), (json!("broadcast-ended"), json!("u")));
    assert_eq!(ended.content["reason"], "left");
    assert_ne!(ended.id, first.id);
    let metrics = server.get("/metrics").await;
    for line in ["\"broadcast-started\",outcome=\"refused\"} 1\n", "\"broadcast-started\",outcome=\"accepted\"} 2\n"] {
        assert!(metrics.text().contains(line), "{line} in {}", metrics.text());
    }

    let log = server.stop().await;
    let last = hook.next().await;
    assert_eq!(brief(&last), (json!("broadcast-ended"), json!("v")));
    assert_eq!(last.content["reason"], "shutdown", "{log:?}");
    assert!(!log.iter().any(|line| line.contains("not told")), "{log:?}");
}

#[tokio::test]
async fn a_stop_waits_a_moment_for_the_webhook_and_no_longer() {
    let mut hook = Hook::start(|content| (content["type"] != "broadcast-ended").then_some(200)).await;
    let server = server(&hook, &["--record", "off"]).await;
    let mut encoder = wire::live(&server, 1, "r/u").await;
    assert_eq!(told(&mut hook, &mut [&mut encoder]).await.content["type"], "broadcast-started");
    let begun = Instant::now();
    let log = server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(
        log.iter().any(|line| line.contains("the webhook is not told") && line.contains("the server stops")),
        "{log:?}"
    );
    assert_eq!(hook.next().await.content["type"], "broadcast-ended");
}

#[tokio::test]
async fn how_a_recording_ended_is_told_though_the_server_stops_meanwhile() {
    let mut hook = Hook::start(|_| Some(200)).await;
    let server = server(&hook, &["--record", "all", "--record-min-free", "0"]).await;
    let mut encoder = wire::live(&server, 1, "r/u").await;
    let mut heard = Vec::new();
    while heard.last() != Some(&json!("recording-started")) {
        heard.push(told(&mut hook, &mut [&mut encoder]).await.content["type"].clone());
    }
    assert_eq!(heard, ["broadcast-started", "recording-started"]);
    until("some is recorded", &mut [&mut encoder], |wires| {
        wires[0].client.outgoing.iter().all(|track| track.encoder.sent.len() > 60)
    })
    .await;
    server.stop().await;
    let rest: Vec<Value> = hook.rest().into_iter().map(|asked| asked.content).collect();
    let kinds: Vec<&str> = rest.iter().map(|content| content["type"].as_str().unwrap()).collect();
    // These pictures are none that ffmpeg could decode.
    assert_eq!(kinds, ["broadcast-ended", "recording-failed"], "{rest:?}");
    assert!(rest[1]["error"].as_str().is_some_and(|error| error.contains("ffmpeg")), "{rest:?}");
}

//! A session's number in the log: one search tells its story, from the request to the file.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::live::{Scratch, Server};
use crate::wire::{self, until};

/// The lines about a session: what was logged, by which floor, and its fields.
fn story(log: &[String], session: u64) -> Vec<(String, String, Value)> {
    let lines =
        log.iter().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
    let about = lines.filter(|line| line["fields"]["session"] == session);
    about
        .map(|line| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&line["fields"]["message"]), text(&line["target"]), line["fields"].clone())
        })
        .collect()
}

#[tokio::test]
async fn one_number_follows_an_encoder_through_door_hub_and_recorder() {
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record-dir", "media", "--record-min-free", "1MiB"];
    let server = Server::start_with(Scratch::new(), &[&args[..], &["--log-format", "json"]].concat(), &[]).await;
    let mut other = wire::live(&server, 1, "other/u").await;
    let mut encoder = wire::live(&server, 2, "r/u").await;
    let begun =
        || std::fs::read_dir(server.scratch.path().join("media/r/u")).is_ok_and(|mut files| files.next().is_some());
    until("a file is begun", &mut [&mut other, &mut encoder], |_| begun()).await;
    assert_eq!(server.request("DELETE", &encoder.location, &[], b"").await.status, 200);
    let log = server.stop().await;
    let number = log.iter().find_map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["fields"]["broadcast"] == "r/u").then(|| line["fields"]["session"].as_u64().unwrap())
    });
    let story = story(&log, number.expect("a line about the broadcast"));
    let told: Vec<_> = story.iter().map(|(message, target, _)| format!("{target}: {message}")).collect();
    let at = |wanted: &str| {
        told.iter().position(|line| line.starts_with(wanted)).unwrap_or_else(|| panic!("{wanted}: {told:#?}"))
    };
    // One after the other, as they came about on each thread.
    let [registered, live, started] =
        ["onair::hub::publish: registered", "onair::hub::lives: live", "onair::record::context: recording started"]
            .map(at);
    let ended = at("onair::hub::lives: broadcast ended");
    assert!(registered < live && live < ended, "{told:#?}");
    assert!(live < started, "the recorder takes its time: {told:#?}");
    assert!(told[started..].iter().any(|line| line.starts_with("onair::record::context: recording f")), "{told:#?}");
    let requests: Vec<_> = story.iter().filter(|(message, ..)| message == "request").collect();
    let methods: Vec<_> = requests.iter().map(|(.., fields)| (&fields["method"], &fields["status"])).collect();
    assert_eq!(methods, [(&"POST".into(), &201.into()), (&"DELETE".into(), &200.into())]);
    for (.., fields) in &story {
        assert!(fields.get("broadcast").is_none_or(|broadcast| broadcast == "r/u"), "nobody else's: {fields}");
    }
}

#[tokio::test]
async fn the_same_for_a_websocket() {
    let server = Server::start(&["--log-format", "json"]).await;
    let stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{}/ws", server.http), stream).await.unwrap();
    let offer = include_str!("../data/sdp/publish/chromium-camera-mic-data.sdp");
    let register = json!({"type": "register", "room": "r", "user": "u", "sdp": offer});
    socket.send(Message::text(register.to_string())).await.unwrap();
    let Some(Ok(Message::Text(reply))) = socket.next().await else { panic!("no reply") };
    assert!(reply.contains("\"registered\""), "{reply}");
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    let log = server.stop().await;
    let told: Vec<_> = story(&log, 1).into_iter().map(|(message, ..)| message).collect();
    assert_eq!((told[0].as_str(), told[1].as_str()), ("a WebSocket begins", "registered"));
    for end in ["broadcast ended", "a WebSocket ended"] {
        assert!(told.iter().any(|line| line == end), "{end}: {told:?}");
    }
}

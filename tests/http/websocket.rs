//! The WebSocket of the real server: replies with their ids, and every reason to close.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::live::{PATIENCE, Server};

const OFFER: &str = include_str!("../data/sdp/publish/chromium-camera-mic-data.sdp");
const FRAME_MAX_BYTES: usize = 64 * 1024;

pub struct Client(WebSocketStream<TcpStream>);

impl Client {
    pub async fn connect(server: &Server) -> Self {
        Self::connect_with(server, "").await
    }

    /// With a query in the address, such as `?token=TOKEN`.
    pub async fn connect_with(server: &Server, query: &str) -> Self {
        let stream = TcpStream::connect(server.http).await.unwrap();
        let (socket, response) = client_async(format!("ws://{}/ws{query}", server.http), stream).await.unwrap();
        assert_eq!(response.status(), 101);
        Self(socket)
    }

    pub async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    pub async fn receive(&mut self) -> Value {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("an answer").unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    pub async fn ask(&mut self, message: Value) -> Value {
        self.send(message).await;
        self.receive().await
    }

    /// Asks whether the server lives, by a ping of the protocol's own.
    pub async fn pong(&mut self) {
        self.0.send(Message::Ping(b"?".to_vec().into())).await.unwrap();
        let answer = timeout(PATIENCE, self.0.next()).await.expect("a pong").unwrap().unwrap();
        assert_eq!(answer, Message::Pong(b"?".to_vec().into()));
    }

    /// Leaves, and waits until the server has closed its side.
    pub async fn leave(mut self) {
        self.0.close(None).await.unwrap();
        let closed = async { while self.0.next().await.is_some_and(|frame| frame.is_ok()) {} };
        timeout(PATIENCE, closed).await.expect("the server answers the close");
    }

    /// What the server closes with; messages before it are let pass.
    async fn close_code(&mut self) -> u16 {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a close").expect("a close frame").unwrap() {
                Message::Close(Some(frame)) => return frame.code.into(),
                Message::Close(None) => panic!("a close without a code"),
                _ => {}
            }
        }
    }

    async fn raw(&mut self, code: OpCode, is_final: bool, payload: Vec<u8>) {
        let header = FrameHeader { is_final, opcode: code, mask: Some([1, 2, 3, 4]), ..FrameHeader::default() };
        let mut bytes = Vec::new();
        Frame::from_payload(header, payload.into()).format(&mut bytes).unwrap();
        self.0.get_mut().write_all(&bytes).await.unwrap();
    }
}

/// Waits until the metrics say so: what follows an end is cleared up in the server's own time.
async fn measured(server: &Server, line: &str) {
    let said = async {
        while !server.get("/metrics").await.text().contains(line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("the metrics never said {line}"));
}

#[tokio::test]
async fn replies_carry_the_ids_of_their_requests() {
    let server = Server::start(&[]).await;
    let mut client = Client::connect(&server).await;
    assert_eq!(client.ask(json!({"type": "ping", "id": "1"})).await, json!({"type": "pong", "id": "1"}));
    assert_eq!(client.ask(json!({"type": "ping", "more": true})).await, json!({"type": "pong"}));
    for (message, code) in [
        (json!({"type": "dance", "id": "2"}), "bad-message"),
        (json!({"type": "register", "room": "r", "id": "2"}), "bad-message"),
        (json!({"type": "register", "room": "r", "user": "u", "sdp": 7, "id": "2"}), "bad-message"),
        (json!({"type": "subscribe", "room": "../r", "id": "2"}), "bad-name"),
        (json!({"type": "register", "room": "r", "user": "u", "sdp": "v=0", "id": "2"}), "bad-sdp"),
        (json!({"type": "unregister", "id": "2"}), "bad-state"),
        (json!({"type": "answer", "sdp": OFFER, "seq": 1, "id": "2"}), "bad-state"),
    ] {
        let error = client.ask(message.clone()).await;
        assert_eq!(
            (&error["type"], &error["code"], &error["id"]),
            (&json!("error"), &json!(code), &json!("2")),
            "{message}"
        );
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()) && error.get("fatal").is_none());
    }
    for text in ["", "{", "[]", "null", "7", "\"ping\"", "{\"type\":7}"] {
        client.0.send(Message::text(text)).await.unwrap();
        assert_eq!(client.receive().await["code"], "bad-message", "{text:?}");
    }
    let registered = client.ask(json!({"type": "register", "room": "r", "user": "u", "sdp": OFFER, "id": "3"})).await;
    assert_eq!((&registered["type"], &registered["id"]), (&json!("registered"), &json!("3")), "{registered}");
    assert_eq!((&registered["broadcast"], &registered["recording"]), (&json!("r/u"), &json!(false)));
    let again = client.ask(json!({"type": "subscribe", "room": "r", "id": "4"})).await;
    assert_eq!((&again["code"], &again["id"]), (&json!("bad-state"), &json!("4")));
    assert_eq!(client.ask(json!({"type": "unregister", "id": "5"})).await, json!({"type": "unregistered", "id": "5"}));

    // The same WebSocket may begin again.
    let subscribed = client.ask(json!({"type": "subscribe", "room": "r", "user": "u", "id": "6"})).await;
    assert_eq!(subscribed, json!({"type": "subscribed", "room": "r", "user": "u", "broadcasts": [], "id": "6"}));
    let offer = client.receive().await;
    assert_eq!((&offer["type"], &offer["tracks"]), (&json!("offer"), &json!([])));
    assert!(offer["sdp"].as_str().unwrap().contains("m=application") && offer["seq"].is_u64());
    server.stop().await;
}

#[tokio::test]
async fn frames_that_may_not_be_close_with_their_code() {
    let server = Server::start(&[]).await;
    let text = OpCode::Data(Data::Text);
    let long = FRAME_MAX_BYTES + 1;
    for (code, frames) in [
        (1009, vec![(text, true, vec![b' '; long])]),
        // Still being sent when the server has already answered.
        (1009, vec![(text, true, vec![b' '; 8 << 20])]),
        (
            1009,
            vec![(text, false, vec![b' '; long / 2 + 1]), (OpCode::Data(Data::Continue), true, vec![b' '; long / 2])],
        ),
        (1009, vec![(OpCode::Data(Data::Binary), true, vec![0; long])]),
        (1003, vec![(OpCode::Data(Data::Binary), true, b"{\"type\":\"ping\"}".to_vec())]),
        (1003, vec![(OpCode::Data(Data::Binary), true, Vec::new())]),
        (1007, vec![(text, true, vec![0xff, 0xfe])]),
        (1002, vec![(OpCode::Data(Data::Reserved(3)), true, Vec::new())]),
    ] {
        let mut client = Client::connect(&server).await;
        for (opcode, is_final, payload) in frames.clone() {
            client.raw(opcode, is_final, payload).await;
        }
        assert_eq!(client.close_code().await, code, "{:?}", frames[0].0);
    }
    // The longest that may be is answered.
    let mut client = Client::connect(&server).await;
    let mut ping = "{\"type\":\"ping\",\"id\":\"long\"}".to_owned();
    ping.push_str(&" ".repeat(FRAME_MAX_BYTES - ping.len()));
    client.0.send(Message::text(ping)).await.unwrap();
    assert_eq!(client.receive().await, json!({"type": "pong", "id": "long"}));
    server.stop().await;
}

#[tokio::test]
async fn a_flood_is_closed_and_others_go_on() {
    let server = Server::start(&[]).await;
    let mut calm = Client::connect(&server).await;
    for frame in [Message::text("{\"type\":\"ping\"}"), Message::text("nonsense"), Message::Ping(Vec::new().into())] {
        let mut flood = Client::connect(&server).await;
        for _ in 0..2_000 {
            if flood.0.feed(frame.clone()).await.is_err() {
                break;
            }
        }
        let _ = flood.0.flush().await;
        assert_eq!(flood.close_code().await, 1008, "{frame:?}");
        assert_eq!(calm.ask(json!({"type": "ping", "id": "a"})).await, json!({"type": "pong", "id": "a"}));
    }
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("onair_websocket_closes_total{code=\"1008\"} 3\n"), "{}", metrics.text());
    measured(&server, "onair_websockets 1\n").await;
    server.stop().await;
}

#[tokio::test]
async fn the_stop_is_told_to_every_websocket() {
    let server = Server::start(&[]).await;
    let (mut idle, mut viewer) = (Client::connect(&server).await, Client::connect(&server).await);
    assert_eq!(viewer.ask(json!({"type": "subscribe", "room": "r"})).await["type"], "subscribed");
    assert_eq!(idle.ask(json!({"type": "ping"})).await["type"], "pong");
    server.signal(Signal::SIGTERM);
    assert_eq!(idle.close_code().await, 1001);
    assert_eq!(viewer.close_code().await, 1001);
    let (status, ..) = server.ended().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_close_is_answered_and_ends_the_session() {
    let server = Server::start(&[]).await;
    let mut client = Client::connect(&server).await;
    assert_eq!(
        client.ask(json!({"type": "register", "room": "r", "user": "u", "sdp": OFFER})).await["type"],
        "registered"
    );
    client.0.close(None).await.unwrap();
    while let Some(frame) = timeout(PATIENCE, client.0.next()).await.expect("an end") {
        assert!(frame.is_ok(), "the closing handshake is completed: {frame:?}");
    }
    measured(&server, "onair_sessions 0.0\n").await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_handshake_is_told_what_is_missing() {
    let server = Server::start(&[]).await;
    let plain = server.get("/ws").await;
    plain.problem(426);
    assert_eq!((plain.header("upgrade"), plain.header("sec-websocket-version")), (Some("websocket"), Some("13")));
    // HTTP/1.0 knows no upgrade.
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream
        .write_all(
            b"GET /ws HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(" 400 "), "{answer}");
    server.stop().await;
}

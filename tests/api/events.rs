//! `GET /api/events`: what is live at the beginning, and all that befalls it from there on.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::live::{PATIENCE, Scratch, Server};
use crate::wire::{self, Wire, until};

/// A listener, as a browser's `EventSource` is one.
pub struct Listener {
    stream: BufReader<TcpStream>,
    text: String,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    pub name: String,
    pub id: u64,
    pub data: Value,
}

impl Listener {
    pub async fn connect(server: &Server, query: &str) -> Self {
        let mut stream = BufReader::new(TcpStream::connect(server.http).await.unwrap());
        let head =
            format!("GET /api/events{query} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n", server.http);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = timeout(PATIENCE, stream.read_line(&mut head)).await.expect("an answer").unwrap();
            assert_ne!(read, 0, "{head}");
        }
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        for header in ["content-type: text/event-stream\r", "cache-control: no-store\r", "transfer-encoding: chunked\r"]
        {
            assert!(head.contains(header), "{head}");
        }
        Self { stream, text: String::new() }
    }

    /// The next event, or `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Heard> {
        timeout(PATIENCE, self.read()).await.expect("an event, or the end")
    }

    async fn read(&mut self) -> Option<Heard> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                let heard = field("data").map(|data| Heard {
                    name: field("event").unwrap().to_owned(),
                    id: field("id").unwrap().parse().unwrap(),
                    data: serde_json::from_str(data).unwrap(),
                });
                let rest = rest.to_owned();
                self.text = rest;
                match heard {
                    Some(heard) => return Some(heard),
                    // A comment, which keeps the connection alive.
                    None => continue,
                }
            }
            let mut size = String::new();
            self.stream.read_line(&mut size).await.unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).await.unwrap();
            if size == 0 {
                assert_eq!(self.text, "", "the stream ends with a whole event");
                return None;
            }
            self.text.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
        }
    }

    /// The next event's name and data, which says the same.
    pub async fn told(&mut self) -> (String, Value) {
        let heard = self.next().await.expect("an event");
        assert_eq!(heard.data["type"], heard.name, "{heard:?}");
        (heard.name, heard.data)
    }
}

fn disconnected(reason: &str) -> Value {
    json!({"type": "broadcaster-disconnected", "broadcast": "r/u", "reason": reason})
}

#[tokio::test]
async fn the_life_of_a_broadcast_is_told_and_the_stream_ends_with_the_server() {
    let server = Server::start(&[]).await;
    let mut early = Listener::connect(&server, "").await;
    assert_eq!(early.told().await.1, json!({"type": "broadcasts", "broadcasts": []}));
    let mut encoder = wire::live(&server, 1, "r/u").await;
    assert_eq!(early.told().await.1, json!({"type": "broadcaster-connected", "broadcast": "r/u"}));

    let mut late = Listener::connect(&server, "").await;
    let beginning = late.next().await.unwrap();
    let listed = server.get("/api/broadcasts").await.json();
    let (told, listed) = (&beginning.data["broadcasts"][0], &listed[0]);
    for field in ["id", "since", "tracks", "viewers", "recording"] {
        assert_eq!(told[field], listed[field], "{field} of {beginning:?}");
        assert_ne!(told[field], Value::Null, "{field}");
    }

    let mut player = Wire::play(&server, 2, "r/u").await;
    for count in [1, 0] {
        let mut wires = [&mut encoder, &mut player];
        let told = tokio::select! {
            told = early.next() => told.unwrap(),
            () = until("it is told", &mut wires, |_| false) => unreachable!(),
        };
        assert_eq!(told.data, json!({"type": "viewers", "broadcast": "r/u", "count": count}));
        assert_eq!(late.next().await.unwrap(), told);
        if count == 1 {
            assert_eq!(server.request("DELETE", &player.location, &[], b"").await.status, 200);
        }
    }

    assert_eq!(server.request("DELETE", &encoder.location, &[], b"").await.status, 200);
    let end = early.next().await.unwrap();
    assert_eq!((&end.data, end.id), (&disconnected("left"), beginning.id + 3));
    assert_eq!(late.next().await.unwrap(), end);

    let _encoder = wire::live(&server, 3, "r/u").await;
    for listener in [&mut early, &mut late] {
        assert_eq!(listener.told().await.0, "broadcaster-connected");
    }
    let stopped = tokio::spawn(server.stop());
    for listener in [&mut early, &mut late] {
        assert_eq!(listener.told().await.1, disconnected("shutdown"));
        assert_eq!(listener.next().await, None);
    }
    stopped.await.unwrap();
}

#[tokio::test]
async fn each_hears_of_what_they_may_see() {
    let scratch = Scratch::new();
    scratch.write(
        "auth.toml",
        "[[anonymous]]\ncan = [\"publish\", \"watch\"]\nrooms = [\"open\"]\n\
         [[token]]\ntoken = \"everywhere-0123456789\"\ncan = [\"publish\", \"watch\"]\n",
    );
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--auth", "auth.toml"];
    let server = Server::start_with(scratch, &args, &[]).await;
    let mut everyone = Listener::connect(&server, "").await;
    let mut trusted = Listener::connect(&server, "?token=everywhere-0123456789").await;
    for listener in [&mut everyone, &mut trusted] {
        assert_eq!(listener.told().await.0, "broadcasts");
    }
    let mut hidden = Wire::publish(&server, 1, "closed/u?token=everywhere-0123456789").await;
    until("it is connected", &mut [&mut hidden], |wires| wires[0].client.connected_at.is_some()).await;
    let mut open = wire::live(&server, 2, "open/u").await;
    let sent = open.client.outgoing.len();
    until("media flows", &mut [&mut hidden, &mut open], |wires| {
        wires.iter().all(|wire| wire.client.outgoing.iter().all(|track| track.encoder.sent.len() > sent))
    })
    .await;
    let mut ids = vec![trusted.told().await.1["broadcast"].clone(), trusted.told().await.1["broadcast"].clone()];
    ids.sort_by_key(ToString::to_string);
    assert_eq!(ids, ["closed/u", "open/u"]);
    assert_eq!(everyone.told().await.1["broadcast"], "open/u");
    let mut late = Listener::connect(&server, "").await;
    let begun = late.told().await.1;
    assert_eq!(begun["broadcasts"].as_array().unwrap().len(), 1, "{begun}");
    // The end of the hidden one is not heard, that of the other is.
    for wire in [&hidden, &open] {
        server.request("DELETE", &wire.location, &[], b"").await;
    }
    for listener in [&mut everyone, &mut late] {
        assert_eq!(listener.told().await.1["broadcast"], "open/u");
    }
    server.stop().await;
}

#[tokio::test]
async fn streams_are_counted_and_let_go_with_their_clients() {
    let server = Server::start(&[]).await;
    let listeners = [Listener::connect(&server, "").await, Listener::connect(&server, "").await];
    let gauge = |metrics: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix("onair_event_streams ").map(str::to_owned));
        line.unwrap_or_else(|| panic!("{metrics}"))
    };
    assert_eq!(gauge(server.get("/metrics").await.text()), "2");
    drop(listeners);
    let gone = async {
        while gauge(server.get("/metrics").await.text()) != "0" {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("they are let go");
    server.stop().await;
}

//! A client on the line: str0m with a UDP socket and a WebSocket of its own, against the real server.
//!
//! **Invariant:** what it hears from the server it deals with at once and in order; what the server refuses ends it with a
//! panic that says what was said.

#![allow(dead_code, reason = "each program uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a client that cannot go on must fail")]

pub mod reception;
#[path = "../simulation/mod.rs"]
pub mod simulation;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use onair::hub::io::SessionId;
use onair::rtp::codec::{Codec, TrackKind};
use serde_json::{Value, json};
use simulation::client::{Client, Offered, Outgoing};
use simulation::media::Encoder;
use simulation::network::{Conditions, Datagram, Network};
use str0m::media::{Direction, Mid};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::sleep_until;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longer than any datagram of the server.
const DATAGRAM_MAX_BYTES: usize = 2_048;

/// A client with its connections.
pub struct Line {
    /// The peer connection, and what came over it.
    pub client: Client,
    socket: UdpSocket,
    signaling: WebSocketStream<MaybeTlsStream<TcpStream>>,
    outbox: Network,
    random: fastrand::Rng,
    tracks: BTreeMap<Mid, TrackKind>,
    buffer: Vec<u8>,
}

impl Line {
    /// Connects to the server whose page is at `http`; it knows Opus and `codecs`.
    pub async fn open(http: SocketAddr, seed: u64, codecs: &[Codec]) -> Self {
        let (signaling, _) = connect_async(format!("ws://{http}/ws")).await.expect("a WebSocket");
        // The address of this machine that is on the way to the server.
        let way = std::net::UdpSocket::bind(if http.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("a socket");
        way.connect(http).expect("a way to the server");
        let here = way.local_addr().expect("a bound socket").ip();
        let socket = UdpSocket::bind((here, 0)).await.expect("a socket");
        let address = socket.local_addr().expect("a bound socket");
        let client = Client::new(SessionId(seed), address, codecs, Instant::now());
        let mut outbox = Network::new(seed);
        outbox.conditions = Conditions { delay: Duration::ZERO, ..Conditions::GOOD };
        let random = fastrand::Rng::with_seed(seed);
        let buffer = vec![0; DATAGRAM_MAX_BYTES];
        Self { client, socket, signaling, outbox, random, tracks: BTreeMap::new(), buffer }
    }

    /// Begins to broadcast sound and VP8.
    pub async fn register(&mut self, room: &str, user: &str) {
        let sdp = self.client.offer([true, true], Direction::SendOnly, &["health-check", "video-check"]);
        self.say(json!({"type": "register", "room": room, "user": user, "sdp": sdp})).await;
    }

    /// Begins to watch one broadcast of a room, or all of them.
    pub async fn subscribe(&mut self, room: &str, user: Option<&str>) {
        let mut request = json!({"type": "subscribe", "room": room});
        if let Some(user) = user {
            request["user"] = json!(user);
        }
        self.say(request).await;
    }

    /// Ends watching.
    pub async fn unsubscribe(&mut self) {
        self.say(json!({"type": "unsubscribe"})).await;
    }

    /// Closes the WebSocket.
    pub async fn hang_up(mut self) {
        let _ = self.signaling.close(None).await;
    }

    /// What the server last said that an m-line carries.
    pub fn kind_of(&self, mid: Mid) -> Option<TrackKind> {
        self.tracks.get(&mid).copied()
    }

    async fn say(&mut self, message: Value) {
        self.signaling.send(Message::text(message.to_string())).await.expect("the server listens");
    }

    /// Waits for the next thing that happens, and deals with it.
    pub async fn step(&mut self) {
        let wake_at = self.client.wake_at().unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
        tokio::select! {
            message = self.signaling.next() => match message {
                Some(Ok(Message::Text(text))) => self.hear(&serde_json::from_str(&text).expect("a message")).await,
                Some(Ok(_)) => {}
                end => panic!("the server ended the WebSocket: {end:?}"),
            },
            received = self.socket.recv_from(&mut self.buffer) => {
                let (len_bytes, from) = received.expect("the socket works");
                self.take(from, len_bytes);
                // What else is there comes along.
                while let Ok((len_bytes, from)) = self.socket.try_recv_from(&mut self.buffer) {
                    self.take(from, len_bytes);
                }
            }
            () = sleep_until(wake_at.into()) => self.client.wake(Instant::now(), &mut self.outbox),
        }
        while let Some(datagram) = self.outbox.receive(Instant::now()) {
            // A full send buffer loses datagrams, as networks do.
            let _ = self.socket.send_to(&datagram.bytes, datagram.to).await;
        }
    }

    fn take(&mut self, from: SocketAddr, len_bytes: usize) {
        let datagram = Datagram::udp(from, self.client.address, self.buffer[..len_bytes].to_vec());
        self.client.receive(&datagram, Instant::now(), &mut self.outbox);
    }

    async fn hear(&mut self, message: &Value) {
        let sdp = message["sdp"].as_str().unwrap_or_default().to_owned();
        match message["type"].as_str().unwrap_or_default() {
            "registered" => {
                self.client.take_answer(&sdp);
                let now = Instant::now();
                for (codec, mid) in [Codec::Opus, Codec::Vp8].into_iter().zip(self.client.mids) {
                    let encoder = Encoder::new(codec, 1, now, &mut self.random);
                    let mid = mid.expect("both were offered");
                    self.client.outgoing.push(Outgoing { mid, encoder, latency: Duration::ZERO });
                }
            }
            "offer" => {
                for track in message["tracks"].as_array().into_iter().flatten() {
                    let kind = if track["kind"] == "audio" { TrackKind::Audio } else { TrackKind::Video };
                    self.tracks.insert(track["mid"].as_str().expect("a mid").into(), kind);
                }
                let seq = message["seq"].as_u64().expect("a number");
                let answer = self.client.answer(&Offered { sdp, seq });
                self.say(json!({"type": "answer", "sdp": answer, "seq": seq})).await;
            }
            "error" => panic!("the server refuses: {message}"),
            _ => {}
        }
        self.client.poke(Instant::now());
    }
}

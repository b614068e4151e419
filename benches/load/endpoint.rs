//! One client's connections: its UDP socket, its WebSocket, and the str0m client between them.
//!
//! **Invariant:** nothing here ever waits, save for opening the WebSocket.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, setsockopt};
use onair::hub::io::SessionId;
use onair::rtp::codec::{Codec, TrackKind};
use serde_json::{Value, json};
use socket2::SockRef;
use str0m::media::Mid;
use tokio_tungstenite::tungstenite::client::client;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use crate::simulation::client::{Client, Offered};
use crate::simulation::network::{Conditions, Datagram, Network};

/// What each socket may hold, in bytes: more than the load ever lets come together.
const BUFFER_BYTES: usize = 4 << 20;

/// WebSockets are looked at so often.
const LISTEN_EVERY: Duration = Duration::from_millis(250);

/// A client with its connections.
pub struct Endpoint {
    /// Its peer connection.
    pub client: Client,
    /// Its socket.
    pub socket: UdpSocket,
    /// What it receives, by m-line.
    pub tracks: BTreeMap<Mid, TrackKind>,
    signaling: WebSocket<TcpStream>,
    listens_at: Instant,
    outbox: Network,
}

impl Endpoint {
    /// Opens both connections.
    pub fn open(http: SocketAddr, number: u64, now: Instant) -> Self {
        let stream = TcpStream::connect(http).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP option");
        let (signaling, _) = client(format!("ws://{http}/ws"), stream).expect("a WebSocket");
        signaling.get_ref().set_nonblocking(true).expect("a TCP option");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("a UDP option");
        if setsockopt(&socket, RcvBufForce, &BUFFER_BYTES).is_err() {
            let _ = SockRef::from(&socket).set_recv_buffer_size(BUFFER_BYTES);
        }
        let address = socket.local_addr().expect("an address");
        let mut outbox = Network::new(number);
        outbox.conditions = Conditions { delay: Duration::ZERO, ..Conditions::GOOD };
        let client = Client::new(SessionId(number), address, &[Codec::Vp8], now);
        Self { client, socket, tracks: BTreeMap::new(), signaling, listens_at: now, outbox }
    }

    /// Whether the peer connection stands.
    pub fn is_connected(&self) -> bool {
        self.client.connected_at.is_some()
    }

    /// Says something to the server.
    pub fn say(&mut self, message: &Value) {
        self.signaling.send(Message::text(message.to_string())).expect("the server listens");
    }

    /// Takes a datagram for str0m.
    pub fn take(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) {
        let datagram = Datagram::udp(from, self.client.address, bytes.to_vec());
        self.client.receive(&datagram, now, &mut self.outbox);
        self.send(now);
    }

    /// Does what is due, save for media.
    pub fn wake(&mut self, now: Instant) {
        // What comes before the connection stands is waited for.
        if now >= self.listens_at || !self.is_connected() {
            self.listens_at = now + LISTEN_EVERY;
            self.listen(now);
        }
        if self.client.wake_at().is_some_and(|at| at <= now) {
            self.client.wake(now, &mut self.outbox);
            self.send(now);
        }
    }

    /// Lets str0m have what was written, and sends what it makes of it, all at once.
    pub fn send_written(&mut self, now: Instant) {
        self.client.wake(now, &mut self.outbox);
        self.send(now);
    }

    fn send(&mut self, now: Instant) {
        let mut datagrams = Vec::new();
        while let Some(datagram) = self.outbox.receive(now) {
            datagrams.push(datagram);
        }
        if datagrams.is_empty() {
            return;
        }
        let slices: Vec<[IoSlice<'_>; 1]> = datagrams.iter().map(|it| [IoSlice::new(&it.bytes)]).collect();
        let destinations: Vec<_> = datagrams.iter().map(|it| Some(SockaddrStorage::from(it.to))).collect();
        let mut headers = MultiHeaders::preallocate(datagrams.len(), None);
        let fd = self.socket.as_raw_fd();
        let sent =
            sendmmsg(fd, &mut headers, &slices, &destinations, [], MsgFlags::empty()).expect("it is sent").count();
        assert_eq!(sent, datagrams.len(), "a client's own send buffer is never full");
    }

    fn listen(&mut self, now: Instant) {
        loop {
            match self.signaling.read() {
                Ok(Message::Text(text)) => self.hear(&serde_json::from_str(&text).expect("a message"), now),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("the server ended the WebSocket: {error}"),
            }
        }
        // Pongs wait for it.
        self.signaling.flush().expect("the server listens");
    }

    fn hear(&mut self, message: &Value, now: Instant) {
        let sdp = message["sdp"].as_str().unwrap_or_default().to_owned();
        match message["type"].as_str().unwrap_or_default() {
            "registered" => self.client.take_answer(&sdp),
            "offer" => {
                for track in message["tracks"].as_array().into_iter().flatten() {
                    let kind = if track["kind"] == "audio" { TrackKind::Audio } else { TrackKind::Video };
                    self.tracks.insert(Mid::from(track["mid"].as_str().expect("a mid")), kind);
                }
                let seq = message["seq"].as_u64().expect("a number");
                let answer = self.client.answer(&Offered { sdp, seq });
                self.say(&json!({"type": "answer", "sdp": answer, "seq": seq}));
            }
            "error" => panic!("the server refuses: {message}"),
            _ => {}
        }
        self.client.poke(now);
    }
}

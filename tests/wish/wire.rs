//! A WHIP or WHEP client over real UDP: str0m with full ICE and real DTLS, and what it publishes or plays.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::select_all;
use onair::hub::io::SessionId;
use onair::rtp::codec::Codec;
use onair::signal::sdpfrag::{FragCredentials, SdpFrag};
use str0m::media::Direction;
use tokio::net::UdpSocket;
use tokio::time::{sleep_until, timeout};

use crate::live::{PATIENCE, Response, Server};
use crate::simulation::client::{Client, Outgoing};
use crate::simulation::media::Encoder;
use crate::simulation::network::{Conditions, Datagram, Network};
use crate::{ANY, FRAGMENT, SDP};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A client with its socket, and the resource that it was given.
pub struct Wire {
    pub client: Client,
    /// What its POST was answered with.
    pub created: Response,
    /// Its session's path.
    pub location: String,
    socket: UdpSocket,
    outbox: Network,
    number: u16,
}

impl Wire {
    /// Publishes VP8 and Opus.
    pub async fn publish(server: &Server, number: u16, broadcast: &str) -> Self {
        Self::publish_from(LOOPBACK, server, number, broadcast).await
    }

    /// Publishes from an address of `ip`.
    pub async fn publish_from(ip: IpAddr, server: &Server, number: u16, broadcast: &str) -> Self {
        let mut wire = Self::post(ip, server, number, &format!("/whip/{broadcast}"), Direction::SendOnly).await;
        let mids = wire.client.mids.into_iter().flatten();
        for (mid, codec) in mids.zip([Codec::Opus, Codec::Vp8]) {
            let mut random = fastrand::Rng::with_seed(u64::from(number));
            let encoder = Encoder::new(codec, number, Instant::now(), &mut random);
            wire.client.outgoing.push(Outgoing { mid, encoder, latency: Duration::ZERO });
        }
        wire
    }

    /// Plays.
    pub async fn play(server: &Server, number: u16, broadcast: &str) -> Self {
        Self::play_from(LOOPBACK, server, number, broadcast).await
    }

    /// Plays at an address of `ip`.
    pub async fn play_from(ip: IpAddr, server: &Server, number: u16, broadcast: &str) -> Self {
        Self::post(ip, server, number, &format!("/whep/{broadcast}"), Direction::RecvOnly).await
    }

    async fn post(ip: IpAddr, server: &Server, number: u16, path: &str, direction: Direction) -> Self {
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut client = Client::new(SessionId(number.into()), address, &[Codec::Vp8], Instant::now());
        let offer = client.offer([true, true], direction, &[]);
        let created = server.request("POST", path, &[SDP], offer.as_bytes()).await;
        assert_eq!(created.status, 201, "{created:?}");
        client.take_answer(created.text());
        client.poke(Instant::now());
        let location = created.header("location").unwrap().to_owned();
        let mut outbox = Network::new(number.into());
        outbox.conditions = Conditions { delay: Duration::ZERO, ..Conditions::GOOD };
        Self { client, created, location, socket, outbox, number }
    }

    /// Restarts ICE by PATCH, and returns what it was answered with.
    pub async fn restart_ice(&mut self, server: &Server) -> Response {
        let offer = self.client.offer_ice_restart();
        let fragment = SdpFrag::of_answer(&offer).unwrap().to_string();
        let response = server.request("PATCH", &self.location, &[FRAGMENT, ANY], fragment.as_bytes()).await;
        assert_eq!(response.status, 200, "{response:?}");
        let frag = SdpFrag::parse(response.text()).unwrap();
        let FragCredentials { ufrag, password } = frag.credentials.unwrap();
        let lines = self.created.text().lines().map(|line| match line.split_once(':') {
            Some(("a=ice-ufrag", _)) => format!("a=ice-ufrag:{ufrag}\r\n"),
            Some(("a=ice-pwd", _)) => format!("a=ice-pwd:{password}\r\n"),
            _ => format!("{line}\r\n"),
        });
        let answer: String = lines.collect();
        self.client.take_answer(&answer);
        self.client.poke(Instant::now());
        response
    }

    /// Goes on from another port.
    pub async fn move_away(&mut self) {
        self.socket = UdpSocket::bind((self.client.address.ip(), 0)).await.unwrap();
        self.client.move_to(self.socket.local_addr().unwrap());
    }

    /// How many packets of each kind it has received of encoders of that number.
    pub fn received_of(&self, number: u16) -> [usize; 2] {
        self.client.mids.map(|mid| {
            let received = self.client.received.iter();
            received.filter(|it| Some(it.mid) == mid && it.token.encoder == number).count()
        })
    }

    /// Its number, which its encoders bear too.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Takes what has come, does what is due, and sends what comes of it.
    fn turn(&mut self) {
        let now = Instant::now();
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = self.socket.try_recv_from(&mut buffer) {
            let datagram = Datagram::udp(from, self.client.address, buffer[..len].to_vec());
            self.client.receive(&datagram, now, &mut self.outbox);
        }
        if self.client.wake_at().is_some_and(|at| at <= now) {
            self.client.wake(now, &mut self.outbox);
        }
        while let Some(Datagram { to, bytes, .. }) = self.outbox.receive(now) {
            // A full buffer of loopback loses a packet, as networks do.
            let _ = self.socket.try_send_to(&bytes, to);
        }
    }

    /// Where the server takes media: transport and address.
    pub fn candidates(&self) -> Vec<(String, SocketAddr)> {
        let lines = crate::values(self.created.text(), "a=candidate:").into_iter();
        let words = lines.map(|line| line.split(' ').collect::<Vec<_>>());
        let address = |words: &[&str]| SocketAddr::new(words[4].parse().unwrap(), words[5].parse().unwrap());
        words.map(|words| (words[2].to_owned(), address(&words))).collect()
    }
}

/// Lets clients live until `done`.
pub async fn until(what: &str, wires: &mut [&mut Wire], mut done: impl FnMut(&[&mut Wire]) -> bool) {
    let life = async {
        loop {
            wires.iter_mut().for_each(|wire| wire.turn());
            if done(wires) {
                return;
            }
            let next = wires.iter().filter_map(|wire| wire.client.wake_at()).min();
            let next = next.unwrap_or_else(|| Instant::now() + PATIENCE);
            let readable = select_all(wires.iter().map(|wire| Box::pin(wire.socket.readable())));
            tokio::select! {
                _ = readable => {}
                () = sleep_until(next.into()) => {}
            }
        }
    };
    timeout(PATIENCE, life).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// A broadcast that is live.
pub async fn live(server: &Server, number: u16, broadcast: &str) -> Wire {
    live_from(LOOPBACK, server, number, broadcast).await
}

/// A broadcast that is live, from an address of `ip`.
pub async fn live_from(ip: IpAddr, server: &Server, number: u16, broadcast: &str) -> Wire {
    let mut publisher = Wire::publish_from(ip, server, number, broadcast).await;
    until("the broadcaster is connected", &mut [&mut publisher], |wires| wires[0].client.connected_at.is_some()).await;
    // Live is what has sent something.
    loop {
        let sent = publisher.client.outgoing.iter().map(|track| track.encoder.sent.len()).sum::<usize>();
        until("media is sent", &mut [&mut publisher], |wires| {
            wires[0].client.outgoing.iter().map(|track| track.encoder.sent.len()).sum::<usize>() > sent
        })
        .await;
        if server.get("/api/broadcasts").await.json().as_array().is_some_and(|live| !live.is_empty()) {
            return publisher;
        }
    }
}

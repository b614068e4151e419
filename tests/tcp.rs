//! ICE over TCP against the real server: media by connections that clients make, and what others do with that port.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test is what these are for")]

mod live;
#[allow(dead_code, reason = "other tests share it: none needs all of it")]
mod simulation;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::select_all;
use live::{PATIENCE, Server};
use onair::egress::sink::Transport;
use onair::hub::io::SessionId;
use onair::net::tcp::framing::Unframer;
use onair::rtp::codec::Codec;
use simulation::client::{Client, Outgoing};
use simulation::media::Encoder;
use simulation::network::{Conditions, Datagram, Network};
use str0m::media::Direction;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

const SDP: (&str, &str) = ("Content-Type", "application/sdp");

/// A WHIP or WHEP client that has nothing but TCP.
struct Tcp {
    client: Client,
    server: SocketAddr,
    stream: TcpStream,
    unframer: Unframer,
    outbox: Network,
    /// What the stream has not taken yet.
    unwritten: Vec<u8>,
}

impl Tcp {
    async fn publish(server: &Server, number: u16, broadcast: &str) -> Self {
        let mut it = Self::post(server, number, &format!("/whip/{broadcast}"), Direction::SendOnly).await;
        let mids = it.client.mids.into_iter().flatten();
        for (mid, codec) in mids.zip([Codec::Opus, Codec::Vp8]) {
            let mut random = fastrand::Rng::with_seed(u64::from(number));
            let encoder = Encoder::new(codec, number, Instant::now(), &mut random);
            it.client.outgoing.push(Outgoing { mid, encoder, latency: Duration::ZERO });
        }
        it
    }

    async fn play(server: &Server, number: u16, broadcast: &str) -> Self {
        Self::post(server, number, &format!("/whep/{broadcast}"), Direction::RecvOnly).await
    }

    async fn post(server: &Server, number: u16, path: &str, direction: Direction) -> Self {
        // On the number of the UDP port.
        let stream = TcpStream::connect(server.udp).await.unwrap();
        let address = stream.local_addr().unwrap();
        let mut client = Client::new(SessionId(number.into()), address, &[Codec::Vp8], Instant::now());
        client.use_tcp();
        let offer = client.offer([true, true], direction, &[]);
        let created = server.request("POST", path, &[SDP], offer.as_bytes()).await;
        assert_eq!(created.status, 201, "{created:?}");
        client.take_answer(created.text());
        client.poke(Instant::now());
        let mut outbox = Network::new(number.into());
        outbox.conditions = Conditions { delay: Duration::ZERO, ..Conditions::GOOD };
        let server = server.udp;
        Self { client, server, stream, unframer: Unframer::default(), outbox, unwritten: Vec::new() }
    }

    /// Loses its connection, and makes another.
    async fn connect_again(&mut self) {
        self.stream = TcpStream::connect(self.server).await.unwrap();
        self.unframer = Unframer::default();
        self.unwritten.clear();
    }

    /// Takes what has come, does what is due, and sends what comes of it.
    fn turn(&mut self) {
        let now = Instant::now();
        let mut buffer = [0; 4_096];
        let mut came = Vec::new();
        while let Ok(len_bytes @ 1..) = self.stream.try_read(&mut buffer) {
            self.unframer.feed(&buffer[..len_bytes], |datagram| came.push(datagram.to_vec())).unwrap();
        }
        for bytes in came {
            let datagram = Datagram { transport: Transport::Tcp, from: self.server, to: self.client.address, bytes };
            self.client.receive(&datagram, now, &mut self.outbox);
        }
        if self.client.wake_at().is_some_and(|at| at <= now) {
            self.client.wake(now, &mut self.outbox);
        }
        while let Some(Datagram { transport, bytes, .. }) = self.outbox.receive(now) {
            assert_eq!(transport, Transport::Tcp);
            self.unwritten.extend((bytes.len() as u16).to_be_bytes());
            self.unwritten.extend(bytes);
        }
        while let Ok(len_bytes @ 1..) = self.stream.try_write(&self.unwritten) {
            self.unwritten.drain(..len_bytes);
        }
    }
}

/// Lets clients live until `done`.
async fn until(what: &str, clients: &mut [&mut Tcp], mut done: impl FnMut(&[&mut Tcp]) -> bool) {
    let life = async {
        loop {
            clients.iter_mut().for_each(|client| client.turn());
            if done(clients) {
                return;
            }
            let next = clients.iter().filter_map(|client| client.client.wake_at()).min();
            let next = next.unwrap_or_else(|| Instant::now() + PATIENCE);
            let readable = select_all(clients.iter().map(|client| Box::pin(client.stream.readable())));
            tokio::select! {
                _ = readable => {}
                () = sleep_until(next.into()) => {}
            }
        }
    };
    timeout(PATIENCE, life).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn metric(server: &Server, name: &str) -> f64 {
    let metrics = server.get("/metrics").await;
    let line = metrics.text().lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn who_has_nothing_but_tcp_publishes_and_watches_and_may_come_back_by_another_connection() {
    let server = Server::start(&[]).await;
    let mut publisher = Tcp::publish(&server, 1, "r/u").await;
    let is_live = |clients: &[&mut Tcp]| clients[0].client.outgoing.iter().all(|track| track.encoder.sent.len() > 5);
    until("the broadcaster sends", &mut [&mut publisher], is_live).await;
    let mut viewer = Tcp::play(&server, 2, "r/u").await;
    let both_kinds = |clients: &[&mut Tcp], more_than: usize| {
        let client = &clients[1].client;
        let of = |mid| client.received.iter().filter(|packet| Some(packet.mid) == mid).count();
        client.mids.into_iter().all(|mid| of(mid) > more_than)
    };
    until("sound and pictures arrive", &mut [&mut publisher, &mut viewer], |all| both_kinds(all, 50)).await;
    assert_eq!(metric(&server, "onair_tcp_connections ").await, 2.0);
    assert!(metric(&server, "onair_tcp_sent_datagrams_total").await > 100.0);

    viewer.client.received.clear();
    viewer.connect_again().await;
    until("they arrive again", &mut [&mut publisher, &mut viewer], |all| both_kinds(all, 50)).await;
    let log = server.stop().await;
    assert!(!log.iter().any(|line| line.contains("panic") || line.contains("ERROR")), "{log:?}");
}

#[tokio::test]
async fn each_family_comes_by_tcp_to_one_port_for_both() {
    let loopback = ["--http", "[::]:0", "--udp", "[::]:0", "--public-ip", "127.0.0.1", "--public-ip", "::1"];
    let args = [&loopback[..], &["--record", "off"]].concat();
    let mut server = Server::start_with(live::Scratch::new(), &args, &[]).await;
    server.udp.set_ip([127, 0, 0, 1].into());
    let mut publisher = Tcp::publish(&server, 1, "r/u").await;
    let is_live = |clients: &[&mut Tcp]| clients[0].client.outgoing.iter().all(|track| track.encoder.sent.len() > 5);
    until("the broadcaster sends by IPv4", &mut [&mut publisher], is_live).await;
    server.udp.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
    let mut viewer = Tcp::play(&server, 2, "r/u").await;
    assert!(viewer.client.address.is_ipv6());
    until("the viewer receives by IPv6", &mut [&mut publisher, &mut viewer], |all| all[1].client.received.len() > 50)
        .await;
    server.stop().await;
}

/// What is left of a connection after the server has closed it.
async fn closed(mut stream: TcpStream) {
    let end = async { while matches!(stream.read(&mut [0; 256]).await, Ok(1..)) {} };
    timeout(PATIENCE, end).await.expect("the server closes it");
}

#[tokio::test]
async fn whatever_strangers_send_to_the_tcp_port_ends_their_connections_alone() {
    let server = Server::start(&[]).await;
    let mut publisher = Tcp::publish(&server, 1, "r/u").await;
    let is_live = |clients: &[&mut Tcp]| clients[0].client.outgoing.iter().all(|track| track.encoder.sent.len() > 5);
    until("the broadcaster sends", &mut [&mut publisher], is_live).await;
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(100_000).collect();
    let short_frames = [&[0, 20][..], &[0x80; 20]].concat().repeat(1_000);
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    for bytes in [noise, short_frames, http, vec![0xff; 2], vec![0; 40_000]] {
        let mut stream = TcpStream::connect(server.udp).await.unwrap();
        // The server may hang up before it has all.
        let _ = stream.write_all(&bytes).await;
        closed(stream).await;
    }
    // One that leaves in the middle of a frame, and one that says nothing.
    TcpStream::connect(server.udp).await.unwrap().write_all(&[4, 0, 1]).await.unwrap();
    let _silent = TcpStream::connect(server.udp).await.unwrap();
    let sent = publisher.client.outgoing.iter().map(|track| track.encoder.sent.len()).sum::<usize>();
    until("the broadcast goes on", &mut [&mut publisher], |clients| {
        clients[0].client.outgoing.iter().map(|track| track.encoder.sent.len()).sum::<usize>() > sent + 20
    })
    .await;
    assert_eq!(server.get("/api/broadcasts").await.json().as_array().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn without_it_there_is_no_tcp_port_and_with_a_taken_one_the_server_says_so() {
    let server = Server::start(&["--ice-tcp", "off"]).await;
    assert!(TcpStream::connect(server.udp).await.is_err());
    server.stop().await;

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args = ["--http", "127.0.0.1:0", "--udp", &address, "--record", "off"];
    let mut server = Server::start_with(live::Scratch::new(), &args, &[]).await;
    let line = server.logged("no TCP port").await;
    assert!(line.contains("--ice-tcp off"), "{line}");
    server.stop().await;
}

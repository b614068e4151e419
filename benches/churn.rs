//! The real server for five minutes under viewers that come and go: does its memory stay where it was?
//!
//! `cargo bench --bench churn`, or shorter: `cargo bench --bench churn -- --seconds 10`. It starts the program as a child,
//! with one broadcaster, two viewers that stay and 200 that come and go, each a str0m client with a UDP socket and a
//! WebSocket of its own on loopback. It prints one line of JSON and fails where the resident memory after the last round is
//! more than 5 % above that after the second, a viewer that stays has lost a packet, or a peer panicked in the server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench that cannot measure must fail, and tells what it measured"
)]

#[path = "../tests/line/mod.rs"]
mod line;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use line::Line;
use line::reception::Reception;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onair::rtp::codec::Codec;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

const CHURNERS: u64 = 200;
const ROUNDS: usize = 5;

/// Resident memory may have grown so much from the second round to the last.
const GROWTH_MAX_PERCENT: f64 = 5.0;

/// Longer than every deadline of the server.
const DEADLINES: Duration = Duration::from_secs(12);

const WAIT_MAX: Duration = Duration::from_secs(30);

/// The server, ended when this is dropped.
struct Server {
    child: Child,
    http: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_onair"))
            .args(["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--log", "warn"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let http = out.lines().find_map(|line| line.ok()?.strip_prefix("listening http://")?.parse().ok());
        Self { child, http: http.expect("the server says where it listens") }
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident set");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// A counter or gauge of `/metrics`.
    async fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.http).await.expect("the server listens");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let mut lines = response.lines().filter_map(|line| line.rsplit_once(' '));
        let value = lines.find(|(found, _)| *found == name || *found == format!("{name}_total"));
        let value: f64 = value.unwrap_or_else(|| panic!("{name} in {response}")).1.parse().expect("a number");
        value as u64
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// What the viewers that stay have counted.
#[derive(Default)]
struct Tally {
    received: AtomicU64,
    lost: AtomicI64,
    joins: AtomicU64,
    connected: AtomicU64,
}

/// Broadcasts until `stop`.
async fn broadcast(http: SocketAddr, stop: watch::Receiver<bool>) {
    let mut line = Line::open(http, 1, &[Codec::Vp8]).await;
    line.register("r", "live").await;
    while !*stop.borrow() {
        line.step().await;
        line.client.forget();
    }
}

/// Watches until `stop`, and counts gaps.
async fn stay(http: SocketAddr, seed: u64, tally: Arc<Tally>, stop: watch::Receiver<bool>) {
    let mut line = Line::open(http, seed, &[Codec::Vp8]).await;
    line.subscribe("r", Some("live")).await;
    let mut reception = Reception::default();
    while !*stop.borrow() {
        line.step().await;
        reception.take_from(&mut line);
        let counts = reception.take();
        tally.received.fetch_add(counts.packets, Ordering::Relaxed);
        tally.lost.fetch_add(counts.lost, Ordering::Relaxed);
    }
}

/// Comes and goes until `until`, in one of the ways there are.
async fn churn(http: SocketAddr, seed: u64, tally: Arc<Tally>, until: Instant) {
    let mut random = fastrand::Rng::with_seed(seed);
    loop {
        tokio::time::sleep(Duration::from_millis(random.u64(1..10_000))).await;
        if Instant::now() >= until {
            return;
        }
        let mut line = Line::open(http, random.u64(..), &[Codec::Vp8]).await;
        line.subscribe("r", random.bool().then_some("live")).await;
        tally.joins.fetch_add(1, Ordering::Relaxed);
        let leaves_at = (Instant::now() + Duration::from_millis(random.u64(1..20_000))).min(until);
        while Instant::now() < leaves_at {
            let step = tokio::time::timeout_at(leaves_at.into(), line.step());
            let _ = step.await;
            line.client.received.clear();
        }
        tally.connected.fetch_add(u64::from(line.client.connected_at.is_some()), Ordering::Relaxed);
        match random.u32(..3) {
            // Both connections end without a word.
            0 => {}
            1 => line.unsubscribe().await,
            _ => line.hang_up().await,
        }
    }
}

async fn measure(round: Duration) -> ExitCode {
    let server = Server::start();
    let http = server.http;
    let tally = Arc::new(Tally::default());
    let (stop, stopped) = watch::channel(false);
    let mut lasting = JoinSet::new();
    lasting.spawn_local(broadcast(http, stopped.clone()));
    for seed in [2, 3] {
        lasting.spawn_local(stay(http, seed, Arc::clone(&tally), stopped.clone()));
    }
    let begun = Instant::now();
    while tally.received.load(Ordering::Relaxed) < 1_000 {
        assert!(begun.elapsed() < WAIT_MAX, "nothing arrives at the viewers");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut resident_kib = vec![server.resident_kib()];
    for number in 1..=ROUNDS {
        let until = Instant::now() + round;
        let mut churners = JoinSet::new();
        for churner in 0..CHURNERS {
            churners.spawn_local(churn(http, number as u64 * 1_000 + churner, Arc::clone(&tally), until));
        }
        while let Some(churner) = churners.join_next().await {
            churner.expect("a viewer does not fail");
        }
        tokio::time::sleep(DEADLINES).await;
        assert!(lasting.try_join_next().is_none(), "those that stay, stay");
        assert_eq!(server.metric("onair_viewers").await, 2, "all others have gone");
        resident_kib.push(server.resident_kib());
        eprintln!("round {number}: {} KiB resident", resident_kib[number]);
    }
    let panics = server.metric("onair_peer_panics").await;
    let _ = stop.send(true);
    while let Some(one) = lasting.join_next().await {
        one.expect("those that stay do not fail");
    }
    let growth_percent = (resident_kib[ROUNDS] as f64 / resident_kib[2] as f64 - 1.0) * 100.0;
    let [received, joins, connected] =
        [&tally.received, &tally.joins, &tally.connected].map(|count| count.load(Ordering::Relaxed));
    let lost = tally.lost.load(Ordering::Relaxed);
    let result = json!({
        "churners": CHURNERS, "rounds": ROUNDS, "round_s": round.as_secs(), "joins": joins, "connected": connected,
        "resident_kib": resident_kib, "growth_from_second_round_percent": (growth_percent * 100.0).round() / 100.0,
        "stayers_received": received, "stayers_lost": lost, "panics": panics,
    });
    println!("{result}");
    let is_good = growth_percent <= GROWTH_MAX_PERCENT && lost == 0 && panics == 0 && connected > joins / 2;
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn main() -> ExitCode {
    let mut seconds = 60;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => seconds = arguments.next().and_then(|it| it.parse().ok()).expect("--seconds takes a number"),
            // Cargo's own.
            "--bench" => {}
            other => panic!("{other} is unknown: --seconds N is all there is"),
        }
    }
    str0m::crypto::from_feature_flags().install_process_default();
    // One thread for all clients: the server is to have the other cores.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, measure(Duration::from_secs(seconds)))
}

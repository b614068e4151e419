//! Viewers for a broadcast of a running server: str0m clients, each with a UDP socket and a WebSocket of its own.
//!
//! `cargo run --release --example viewers -- 127.0.0.1:8080 lobby/ada 8` lets eight of them watch. When all of them see the
//! picture it prints `{"viewers":8}`. Each line on standard input (Enter) makes it print a line of JSON with what each
//! viewer received since the line before; the end of standard input (Ctrl-D) ends it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "viewers that cannot watch must fail, and what they saw goes to standard output"
)]

#[path = "../tests/line/mod.rs"]
mod line;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use line::Line;
use line::reception::Reception;
use onair::rtp::codec::Codec;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

/// How long the viewers may take until all of them see the picture.
const BEGIN_MAX: Duration = Duration::from_secs(30);

const CODECS: [Codec; 4] = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1];

#[derive(Clone)]
struct Wish {
    http: SocketAddr,
    room: String,
    user: String,
    viewers: usize,
}

impl Wish {
    fn from_arguments() -> Option<Self> {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let [http, broadcast, viewers] = arguments.as_slice() else {
            return None;
        };
        let (room, user) = broadcast.split_once('/')?;
        let http = http.strip_prefix("http://").unwrap_or(http);
        Some(Self { http: http.parse().ok()?, room: room.into(), user: user.into(), viewers: viewers.parse().ok()? })
    }
}

/// Watches for ever; tells `begun` at the first frame.
async fn watch(wish: Wish, seed: u64, reception: Rc<RefCell<Reception>>, begun: mpsc::UnboundedSender<()>) {
    let mut line = Line::open(wish.http, seed, &CODECS).await;
    line.subscribe(&wish.room, Some(&wish.user)).await;
    let mut begun = Some(begun);
    loop {
        line.step().await;
        let mut reception = reception.borrow_mut();
        reception.take_from(&mut line);
        if reception.has_begun()
            && let Some(begun) = begun.take()
        {
            let _ = begun.send(());
        }
    }
}

/// The lines of standard input, until it ends.
fn lines() -> mpsc::UnboundedReceiver<()> {
    let (asks, asked) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            let _ = asks.send(());
        }
    });
    asked
}

async fn run(wish: Wish) {
    let receptions: Vec<_> = (0..wish.viewers).map(|_| Rc::new(RefCell::new(Reception::default()))).collect();
    let (begins, mut begun) = mpsc::unbounded_channel();
    let mut viewers = JoinSet::new();
    for (seed, reception) in (1..).zip(&receptions) {
        viewers.spawn_local(watch(wish.clone(), seed, Rc::clone(reception), begins.clone()));
    }
    drop(begins);
    let all_begin = async { while begun.recv().await.is_some() {} };
    tokio::select! {
        in_time = timeout(BEGIN_MAX, all_begin) => in_time.expect("all viewers see the picture"),
        ended = viewers.join_next() => panic!("a viewer ended: {ended:?}"),
    }
    println!("{}", json!({"viewers": wish.viewers}));
    let mut asked = lines();
    loop {
        tokio::select! {
            line = asked.recv() => if line.is_none() { return },
            ended = viewers.join_next() => panic!("a viewer ended: {ended:?}"),
        }
        let taken = receptions.iter().map(|reception| {
            let counts = reception.borrow_mut().take();
            json!({
                "packets": counts.packets, "lost": counts.lost, "frames": counts.frames, "freezes": counts.freezes,
                "longest_gap_ms": counts.longest_gap.as_millis() as u64,
            })
        });
        println!("{}", json!({"viewers": taken.collect::<Vec<_>>()}));
    }
}

fn main() {
    let wish = Wish::from_arguments().expect("usage: viewers ADDRESS:PORT ROOM/USER COUNT");
    str0m::crypto::from_feature_flags().install_process_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, run(wish));
}

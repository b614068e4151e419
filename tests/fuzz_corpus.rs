//! The inputs that fuzzing kept, replayed: nothing bad may come of any of them again, and they must reach far.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and names its input"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use onair::signal::ServerMessage;

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

/// Says which input it was that failed.
struct Named<'a>(&'a Path);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed on {}", self.0.display());
        }
    }
}

/// Runs a target with each input of its corpus.
fn replay<R>(target: &str, run: fn(&[u8]) -> R) -> Vec<R> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 5, "the corpus of {target} is there");
    let results = inputs.iter().map(|path| {
        let named = Named(path);
        let result = run(&fs::read(path).unwrap());
        drop(named);
        result
    });
    results.collect()
}

#[test]
fn message() {
    replay("message", fuzz::message);
}

#[test]
fn sdp() {
    replay("sdp", fuzz::sdp);
}

#[test]
fn sdpfrag() {
    replay("sdpfrag", fuzz::sdpfrag);
}

#[test]
fn rtp() {
    replay("rtp", fuzz::rtp);
}

#[test]
fn framing() {
    replay("framing", fuzz::framing);
}

#[test]
fn token() {
    replay("token", fuzz::token);
}

#[test]
fn datagram() {
    replay("datagram", fuzz::datagram);
}

#[test]
fn handshake() {
    replay("handshake", fuzz::handshake);
}

#[test]
fn signaling_reaches_every_reply() {
    let heard: BTreeSet<_> = replay("signaling", fuzz::signaling).iter().flatten().map(name).collect();
    let replies =
        ["registered", "answer", "offer", "subscribed", "unregistered", "unsubscribed", "selected", "pong", "error"];
    let missing: Vec<_> = replies.into_iter().filter(|reply| !heard.contains(reply)).collect();
    assert!(missing.is_empty(), "no input is answered by {missing:?}");
}

fn name(message: &ServerMessage) -> &'static str {
    match message {
        ServerMessage::Registered { .. } => "registered",
        ServerMessage::Answer { .. } => "answer",
        ServerMessage::Offer { .. } => "offer",
        ServerMessage::Subscribed { .. } => "subscribed",
        ServerMessage::Unregistered => "unregistered",
        ServerMessage::Unsubscribed => "unsubscribed",
        ServerMessage::Selected => "selected",
        ServerMessage::Pong => "pong",
        ServerMessage::Error { .. } => "error",
        _ => "notice",
    }
}

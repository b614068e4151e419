//! WHIP and WHEP, requirement by requirement: each test is named by the section that it holds the server to, over real HTTP
//! and, where media matters, real UDP.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod live;
#[allow(dead_code, reason = "each test binary uses a part")]
mod simulation;

#[path = "wish/wire.rs"]
mod wire;

#[path = "wish/whep.rs"]
mod whep;
#[path = "wish/whip.rs"]
mod whip;

const SDP: (&str, &str) = ("Content-Type", "application/sdp");
const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");
const ANY: (&str, &str) = ("If-Match", "*");

/// The values of all lines that begin with `prefix`.
fn values<'a>(sdp: &'a str, prefix: &'a str) -> Vec<&'a str> {
    sdp.lines().filter_map(|line| line.strip_prefix(prefix)).collect()
}

/// A fragment as a client sends it to restart ICE.
fn fragment(ufrag: &str, password: &str, candidates: &str) -> Vec<u8> {
    let head = "a=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n";
    format!("{head}a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n{candidates}").into_bytes()
}

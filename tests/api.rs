//! What programs use: the events, what operators may do, the description of it all, and the log, on the real server with
//! real media.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod live;
#[allow(dead_code, reason = "each test binary uses a part")]
mod simulation;

#[path = "live/hook.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod hook;
#[path = "wish/wire.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod wire;

#[path = "api/events.rs"]
mod events;
#[path = "api/openapi.rs"]
mod openapi;
#[path = "api/operators.rs"]
mod operators;
#[path = "api/sessions.rs"]
mod sessions;
#[path = "api/webhooks.rs"]
mod webhooks;

const SDP: (&str, &str) = ("Content-Type", "application/sdp");
const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");
const ANY: (&str, &str) = ("If-Match", "*");

/// The values of all lines that begin with `prefix`.
fn values<'a>(sdp: &'a str, prefix: &'a str) -> Vec<&'a str> {
    sdp.lines().filter_map(|line| line.strip_prefix(prefix)).collect()
}

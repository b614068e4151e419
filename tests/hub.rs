//! The hub, driven on a simulated network by real clients, through whole lives of broadcasts and viewers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and names its seed"
)]

#[path = "hub/answers.rs"]
mod answers;
#[path = "hub/caps.rs"]
mod caps;
#[path = "hub/channels.rs"]
mod channels;
#[path = "hub/churn.rs"]
mod churn;
#[path = "hub/codecs.rs"]
mod codecs;
#[path = "hub/dtls.rs"]
mod dtls;
#[path = "hub/feedback.rs"]
mod feedback;
#[path = "hub/first_frames.rs"]
mod first_frames;
#[path = "hub/half_open.rs"]
mod half_open;
#[path = "hub/handshakes.rs"]
mod handshakes;
#[path = "hub/lips.rs"]
mod lips;
#[path = "hub/notices.rs"]
mod notices;
#[path = "hub/offers.rs"]
mod offers;
#[path = "hub/operators.rs"]
mod operators;
#[path = "hub/oracle.rs"]
mod oracle;
#[path = "hub/out_of_turn.rs"]
mod out_of_turn;
#[path = "hub/paths.rs"]
mod paths;
#[path = "hub/players.rs"]
mod players;
#[path = "hub/recordings.rs"]
mod recordings;
#[path = "hub/repair.rs"]
mod repair;
#[path = "hub/restarts.rs"]
mod restarts;
#[path = "hub/returns.rs"]
mod returns;
#[allow(dead_code, reason = "other tests share it: none needs all of it")]
mod simulation;
#[path = "hub/stragglers.rs"]
mod stragglers;
#[path = "hub/strangers.rs"]
mod strangers;
#[path = "hub/tcp.rs"]
mod tcp;
#[path = "hub/walls.rs"]
mod walls;

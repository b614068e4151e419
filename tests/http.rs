//! The doors of the real binary: pages, origin rule, API, metrics, recordings, WHIP and WHEP, TLS, WebSocket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

#[path = "live/hook.rs"]
mod hook;
mod live;
#[path = "live/tls.rs"]
mod live_tls;

#[path = "http/access.rs"]
mod access;
#[path = "http/origin.rs"]
mod origin;
#[path = "http/pages.rs"]
mod pages;
#[path = "http/recordings.rs"]
mod recordings;
#[path = "http/resources.rs"]
mod resources;
#[path = "http/tls.rs"]
mod tls;
#[path = "http/webhooks.rs"]
mod webhooks;
#[path = "http/websocket.rs"]
mod websocket;

//! A WebRTC broadcast server: broadcasters publish, viewers watch with sub-second delay, every broadcast is recorded.
//!
//! [`signal`] and [`hub`] are pure, and what touches the world stands above them. [`server::run`] puts everything
//! together.

pub mod access;
pub mod config;
pub mod dtls;
pub mod egress;
pub mod handle;
pub mod http;
pub mod hub;
pub mod net;
pub mod record;
pub mod rtp;
pub mod server;
pub mod signal;

//! A WebRTC broadcast server: broadcasters publish, viewers watch with sub-second delay, every broadcast is recorded.
//!
//! The library does not listen on anything by itself: [`signal`] and `hub` are pure, and what touches the world stands
//! above them.

pub mod egress;
pub mod handle;
pub mod hub;
pub mod net;
pub mod rtp;
pub mod signal;

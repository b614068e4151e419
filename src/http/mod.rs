//! The doors for people and programs: web page, WebSocket, WHIP and WHEP, API, recordings, health and metrics.
//!
//! **Invariant:** everything a client can make grow (connections, bodies, headers, messages, resources) has a cap here,
//! and what a client asks of the hub goes through [`HubHandle`](crate::handle::HubHandle) alone.

pub mod assets;
pub mod ice_server;
pub mod ice_url;
pub mod listener;
pub mod metrics;
pub mod origin;
pub mod policy;
pub mod problem;
pub mod router;
pub mod state;
pub mod tls;
pub mod turn_secret;
pub mod webhook;

mod access;
mod allowance;
mod api;
mod caller;
mod client;
mod connection;
mod cors;
mod download;
mod events;
mod gate;
mod handshake;
mod listing;
mod offer;
mod openapi;
mod operate;
mod recordings;
mod resource;
mod sample;
mod stop;
mod whep;
mod whip;
mod ws;

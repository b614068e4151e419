//! The hub: rooms, broadcasts, peers and what passes between them, as a state machine.
//!
//! **Invariant:** the hub knows no socket, no clock and no task: datagrams, commands and the time come in as arguments,
//! datagrams go out into a [`DatagramSink`](crate::egress::sink::DatagramSink), and facts are polled as [`io::Event`]s.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod io;

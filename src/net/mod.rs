//! The UDP socket, its batches, the TCP port, and the loop that drives the hub.
//!
//! **Invariant:** everything that reads the clock or touches a socket of media is in here, on one thread.

pub mod addresses;
pub mod driver;
pub mod metrics;
pub mod receive;
pub mod send;
pub mod socket;
pub mod tcp;
pub mod thread_time;
pub mod transports;

mod arena;
mod call;
mod outboxes;
mod ports;
mod receive_drops;
mod sendmmsg;
mod waiting;

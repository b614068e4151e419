//! The UDP socket, its batches, and the loop that drives the hub.
//!
//! **Invariant:** everything that reads the clock or touches the UDP socket is in here, on one thread.

pub mod addresses;
pub mod driver;
pub mod metrics;
pub mod receive;
pub mod send;
pub mod socket;

mod arena;
mod call;
mod outboxes;
mod sendmmsg;

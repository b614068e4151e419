//! What a subscriber is sent, and where outgoing datagrams are put.
//!
//! **Invariant:** whoever sends is lent a slot of the batch and fills it in place; nothing here owns a socket.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod fanout;
pub mod sink;

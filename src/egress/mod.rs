//! What a subscriber is sent: the fan-out of a track, the rewritten headers, SRTP, retransmission and reports; and where
//! outgoing datagrams are put.
//!
//! **Invariant:** whoever sends is lent a slot of the batch and fills it in place; nothing here owns a socket, and nothing
//! is allocated for a packet.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod cipher;
pub mod extensions;
pub mod fanout;
pub mod keytap;
pub mod outlet;
pub mod packet;
pub mod replay;
pub mod ring;
pub mod sink;
pub mod srtp;
pub mod stream;

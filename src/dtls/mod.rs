//! DTLS 1.2 of every peer, on OpenSSL: the handshake of DTLS-SRTP (RFC 5764) and the records that carry data channels.
//!
//! OpenSSL shakes hands: it knows the protocol and any kind of certificate. Here is what it leaves to its user, does by the
//! wall clock, or does at too high a price: datagrams in and out, retransmission, caps, and the records under the keys.
//!
//! **Invariant:** time is what str0m says it is, and nothing that a stranger sends is kept without a cap.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod flight;
pub mod instance;
pub mod protection;
pub mod provider;
pub mod record;
pub mod timer;
mod wire;

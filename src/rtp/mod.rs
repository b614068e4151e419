//! RTP and RTCP as bytes: headers, codecs and the arithmetic of sequence numbers and timestamps.
//!
//! **Invariant:** nothing here does I/O, reads a clock or knows what a peer is.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod codec;

//! What the fuzz targets call, one function each, and what `tests/fuzz_corpus.rs` replays their corpora with.
//!
//! **Invariant:** a function here takes any bytes at all; it fails by panicking, and only where the library broke a promise.

mod handshake;
mod parsers;
#[allow(dead_code, reason = "the whole simulation is used by the tests of the hub")]
#[path = "../../tests/simulation/mod.rs"]
mod simulation;
mod stage;

pub use handshake::handshake;
pub use parsers::{framing, message, rtp, sdp, sdpfrag, token};
pub use stage::{datagram, signaling};

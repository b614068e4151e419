//! RTP and RTCP as bytes: headers, codecs and the arithmetic of sequence numbers and timestamps.
//!
//! **Invariant:** nothing here does I/O, reads a clock or knows what a peer is.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod b_frames;
mod bits;
pub mod codec;
pub mod frame_size;
pub mod header;
pub mod keyframe;
mod nal;
pub mod ntp;
pub mod packet;
pub mod rewrite;
pub mod rtcp;
#[cfg(test)]
mod samples;
pub mod vp8;
pub mod vp9;

/// The moment at which the tests of these modules begin.
#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an Instant has no other constructor, and only distances matter")]
pub(crate) fn test_epoch() -> std::time::Instant {
    std::time::Instant::now()
}

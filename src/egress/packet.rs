//! One packet on its way from its publisher to all its subscribers.
//!
//! **Invariant:** it is plain data that no subscriber changes: what differs among them is written into the slots of the
//! send batch.

use std::time::Instant;

use str0m::format::CodecSpec;

use crate::rtp::packet::MediaPacket;
use crate::rtp::rewrite::SourcePacket;
use crate::rtp::vp8::Vp8Descriptor;

/// The header extensions that pass through, as they stand on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassedExtensions {
    /// Voice activity and level (RFC 6464).
    pub audio_level: Option<u8>,
    /// Coordination of video orientation (3GPP TS 26.114 §7.4.5).
    pub video_orientation: Option<u8>,
    /// Playout delay: twice 12 bits, in units of 10 ms.
    pub playout_delay: Option<[u8; 3]>,
}

/// A packet to be forwarded.
#[derive(Debug, Clone)]
pub struct RelayPacket {
    /// The packet itself.
    pub media: MediaPacket,
    /// Names the track's format (codec and its parameters): when it changes, payload types are looked up anew.
    pub format: u32,
    /// What `format` names.
    pub spec: CodecSpec,
    /// Whether a decoder can begin here: true for each packet of audio.
    pub begins: bool,
    /// When it was captured, on our clock, less a constant.
    pub captured: Instant,
    /// Its header extensions.
    pub extensions: PassedExtensions,
    /// Where its VP8 ids stand.
    pub vp8: Option<Vp8Descriptor>,
}

impl RelayPacket {
    /// What the packet is told apart by.
    #[must_use]
    pub fn source(&self) -> SourcePacket {
        SourcePacket {
            epoch: u64::from(self.media.epoch),
            sequence: self.media.sequence,
            timestamp: self.media.timestamp,
            vp8: self.vp8.map(|descriptor| descriptor.ids()),
        }
    }
}

/// Any format, for tests.
#[cfg(test)]
pub fn test_spec() -> CodecSpec {
    use str0m::format::{Codec, FormatParams};
    CodecSpec {
        codec: Codec::H264,
        clock_rate: str0m::media::Frequency::NINETY_KHZ,
        channels: None,
        format: FormatParams::default(),
    }
}

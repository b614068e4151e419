//! One packet of a publisher, as it is forwarded and recorded.

use std::sync::Arc;
use std::time::Instant;

use super::codec::{Codec, TrackKind};

/// One RTP packet of a publisher, decrypted, without header extensions and padding.
#[derive(Debug, Clone)]
pub struct MediaPacket {
    /// Audio or video.
    pub kind: TrackKind,
    /// The codec, by the packet's payload type.
    pub codec: Codec,
    /// Rises when the source of the track changes (another SSRC or publisher): sequence numbers and timestamps of
    /// different epochs have nothing in common.
    pub epoch: u32,
    /// The extended sequence number.
    pub sequence: u64,
    /// The RTP timestamp, in the codec's clock rate.
    pub timestamp: u32,
    /// The marker bit: of video, the last packet of a picture.
    pub marker: bool,
    /// The payload.
    pub payload: Arc<[u8]>,
    /// When it arrived.
    pub arrival: Instant,
    /// The publisher's latest sender report for this track.
    pub sender_report: Option<SenderReport>,
}

/// The clock mapping of an RTCP sender report (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The publisher's NTP timestamp, 32.32 fixed point seconds.
    pub ntp: u64,
    /// The RTP timestamp at that moment.
    pub rtp: u32,
}

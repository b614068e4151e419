//! Where a track's packets go: one m-line of one subscriber, with its stream.
//!
//! **Invariant:** a line's outlet is that of its subscriber; it is taken out of every fan-out before its outlet is closed.

use str0m::media::Mid;

use super::keys::{BroadcastKey, PeerKey};
use crate::egress::fanout::TargetKey;
use crate::egress::outlet::OutletKey;
use crate::egress::stream::Stream;

/// Names one m-line of one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineRef {
    /// The subscriber.
    pub peer: PeerKey,
    /// Its m-line.
    pub mid: Mid,
}

/// What a fan-out writes to.
#[derive(Debug)]
pub struct Line {
    /// The m-line.
    pub line: LineRef,
    /// The subscriber's transport.
    pub outlet: OutletKey,
    /// What is sent on the m-line.
    pub stream: Stream,
}

impl Line {
    /// Whether it is `peer`'s and sends `ssrc`.
    pub fn sends(&self, peer: PeerKey, ssrc: u32) -> bool {
        self.line.peer == peer && self.stream.has_ssrc(ssrc)
    }
}

/// Where a line hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// The broadcast.
    pub broadcast: BroadcastKey,
    /// The place in its track's fan-out.
    pub target: TargetKey,
}

//! The m-lines of one subscriber, two by two.
//!
//! A *lane* is an audio and a video m-line with one stream id, so that a browser keeps them in step; it carries one
//! broadcast at a time.
//!
//! **Invariant:** an m-line that was made stays: it becomes inactive and is used again.

use str0m::change::SdpApi;
use str0m::media::{Direction, Mid};

use super::line::{Attachment, Line};
use crate::egress::fanout::Target;
use crate::rtp::codec::TrackKind;
use crate::signal::BroadcastId;

/// One m-line.
#[derive(Debug)]
pub struct Slot {
    /// Its mid.
    pub mid: Mid,
    /// Audio or video.
    pub kind: TrackKind,
    /// The last offer made it send.
    pub(super) offered: bool,
    /// The last answer took it.
    pub(super) accepted: bool,
    /// The client refused it for good.
    pub(super) rejected: bool,
    /// The SSRCs that are sent on it: the media's and that of its retransmissions.
    pub ssrcs: [Option<u32>; 2],
    /// Where its line hangs.
    pub attached: Option<Attachment>,
    /// Its line while it hangs nowhere.
    pub parked: Option<Box<Target<Line>>>,
}

impl Slot {
    pub(super) fn new(mid: Mid, kind: TrackKind) -> Self {
        Self {
            mid,
            kind,
            offered: false,
            accepted: false,
            rejected: false,
            ssrcs: [None; 2],
            attached: None,
            parked: None,
        }
    }

    /// Whether packets may be sent on it.
    pub fn is_open(&self) -> bool {
        self.offered && self.accepted && !self.rejected
    }
}

/// An audio and a video m-line that belong together.
#[derive(Debug)]
pub struct Lane {
    pub(super) stream_id: String,
    /// The broadcast it carries now.
    pub current: Option<BroadcastId>,
    pub(super) last: Option<BroadcastId>,
    pub(super) kinds: [bool; 2],
    pub(super) slots: [Option<Slot>; 2],
    /// The broadcast it carries began after the last offer was made: another is owed, even if no m-line changes.
    pub(super) begun: bool,
    /// The client was told that it cannot play the video of the broadcast.
    pub(super) told_refused: bool,
}

impl Lane {
    /// Its m-lines.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().flatten()
    }

    /// Its m-lines.
    pub fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().flatten()
    }

    /// Makes its m-lines, as they are, part of the next offer; packets wait for the answer, which shows that the client
    /// has learned what they now carry.
    pub(super) fn offer_again(&mut self, api: &mut SdpApi<'_>) {
        for slot in self.slots_mut().filter(|slot| slot.offered && !slot.rejected) {
            // str0m offers what has changed, be it there and back.
            api.set_direction(slot.mid, Direction::Inactive);
            api.set_direction(slot.mid, Direction::SendOnly);
            slot.accepted = false;
        }
    }
}

//! What one viewer has received of a broadcast, in numbers.
//!
//! **Invariant:** a packet that was asked for again and came is not lost; a packet that came twice is one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use str0m::media::Mid;

use super::simulation::client::Received;
use super::{Line, TrackKind};

/// A picture freezes when the next frame takes so much longer than the usual one
/// (<https://www.w3.org/TR/webrtc-stats/#dom-rtcinboundrtpstreamstats-freezecount>).
const FREEZE_FACTOR: u32 = 3;
const FREEZE_BEYOND: Duration = Duration::from_millis(150);

/// The usual one is the mean of about so many frames.
const USUAL_OF_FRAMES: u32 = 30;

/// Counts of what came since they were last taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Packets of all tracks.
    pub packets: u64,
    /// Packets that did not come. Less than nothing where one of an earlier count came after all.
    pub lost: i64,
    /// Frames whose last packet came.
    pub frames: u64,
    /// How often the picture stood still.
    pub freezes: u64,
    /// The longest time between two frames.
    pub longest_gap: Duration,
}

/// The reception of one viewer.
#[derive(Debug, Default)]
pub struct Reception {
    /// For each m-line the highest sequence number that came.
    latest: BTreeMap<Mid, u64>,
    frame_at: Option<Instant>,
    usual: Option<Duration>,
    counts: Counts,
}

impl Reception {
    /// Counts all that `line` received, and forgets it there.
    pub fn take_from(&mut self, line: &mut Line) {
        for packet in std::mem::take(&mut line.client.received) {
            let is_video = line.kind_of(packet.mid) == Some(TrackKind::Video);
            self.note(&packet, is_video);
        }
        line.client.forget();
    }

    /// Returns the counts and begins new ones.
    pub fn take(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Whether something came yet.
    pub fn has_begun(&self) -> bool {
        self.frame_at.is_some()
    }

    fn note(&mut self, packet: &Received, is_video: bool) {
        self.counts.packets += 1;
        match self.latest.entry(packet.mid) {
            Entry::Vacant(place) => {
                place.insert(packet.sequence);
            }
            // A late one fills the gap that was counted before.
            Entry::Occupied(latest) if packet.sequence < *latest.get() => self.counts.lost -= 1,
            Entry::Occupied(mut latest) => {
                self.counts.lost += (packet.sequence - latest.get()) as i64 - 1;
                latest.insert(packet.sequence);
            }
        }
        if is_video && packet.marker {
            self.note_frame(packet.at);
        }
    }

    fn note_frame(&mut self, at: Instant) {
        self.counts.frames += 1;
        let Some(before) = self.frame_at.replace(at) else {
            return;
        };
        let gap = at.saturating_duration_since(before);
        self.counts.longest_gap = self.counts.longest_gap.max(gap);
        let usual = self.usual.unwrap_or(gap);
        if gap > (usual * FREEZE_FACTOR).max(usual + FREEZE_BEYOND) {
            self.counts.freezes += 1;
        }
        self.usual = Some((usual * (USUAL_OF_FRAMES - 1) + gap) / USUAL_OF_FRAMES);
    }
}

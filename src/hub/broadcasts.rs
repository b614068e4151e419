//! Broadcasts: one publisher's stint each, with its tracks and who receives them.
//!
//! **Invariant:** a broadcast lives as long as its publisher's peer; a return or a takeover is another broadcast under the
//! same id, whose packets carry another epoch.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use slab::Slab;
use str0m::format::CodecSpec;
use str0m::media::Mid;

use super::clock::SourceClock;
use super::config::{BROADCAST_TICK, DEADLINE, OVERTAKEN_MAX};
use super::io::TrackInfo;
use super::keyframes::KeyframeRequests;
use super::keys::{BroadcastKey, PeerKey};
use super::line::Line;
use super::recording::Recording;
use crate::egress::fanout::Fanout;
use crate::egress::packet::RelayPacket;
use crate::egress::ring::PacketRing;
use crate::rtp::codec::{Codec, TrackKind};
use crate::rtp::keyframe::KeyframeStart;
use crate::signal::BroadcastId;

/// One track of a publisher.
#[derive(Debug)]
pub struct Track {
    /// The publisher's m-line.
    pub mid: Mid,
    /// Audio or video.
    pub kind: TrackKind,
    /// What it sends, or by its negotiation will.
    pub codec: Codec,
    /// The source that sends now, and its epoch.
    pub source: Option<Source>,
    /// Who receives it.
    pub fanout: Fanout<Line>,
    /// What has come since the last flush, and is passed on by the next.
    pub run: Vec<RelayPacket>,
    /// Its latest packets, for retransmission. Of video alone: lost sound is not worth the wait.
    pub ring: PacketRing,
    /// When it is asked for a keyframe.
    pub keyframes: KeyframeRequests,
    /// Whether B-frames have come.
    pub has_b_frames: bool,
    /// Where its keyframes begin.
    pub keyframe_start: KeyframeStart,
    /// The newest packet.
    latest: Option<Latest>,
    /// How the present source took over from another.
    takeover: Option<Takeover>,
}

/// The beginning of a source that took over from another.
#[derive(Debug, Clone, Copy)]
struct Takeover {
    /// The SSRC before.
    from: u32,
    at: Instant,
    /// The first timestamp of the source that took over.
    timestamp: u32,
}

/// The packet with the highest sequence number of the present source.
#[derive(Debug, Clone, Copy)]
struct Latest {
    epoch: u32,
    sequence: u64,
    at: Instant,
}

/// Where a packet stands among those of its track that came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is newer than all of them.
    Newest {
        /// How many sequence numbers lie between it and the newest of them.
        skipped: u64,
    },
    /// It was overtaken, or sent again.
    Late,
}

/// A longer gap is no loss (`MAX_DROPOUT` of RFC 3550, A.1).
const SKIPPED_MAX: u64 = 3_000;

/// The stream that feeds a track.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Its SSRC.
    pub ssrc: u32,
    /// Unlike that of any other source of any track.
    pub epoch: u32,
    /// Its payload type.
    pub payload_type: u8,
    /// What the payload type stands for.
    pub spec: CodecSpec,
    /// Names `spec` among all formats of all tracks.
    pub format: u32,
}

impl Track {
    /// A track that was negotiated and has sent nothing.
    pub fn new(mid: Mid, kind: TrackKind, codec: Codec) -> Self {
        Self {
            mid,
            kind,
            codec,
            source: None,
            fanout: Fanout::default(),
            run: Vec::new(),
            ring: PacketRing::default(),
            keyframes: KeyframeRequests::default(),
            has_b_frames: false,
            keyframe_start: KeyframeStart::default(),
            latest: None,
            takeover: None,
        }
    }

    /// Takes note of a packet, and tells where it stands among those before it.
    pub fn place(&mut self, epoch: u32, sequence: u64, at: Instant) -> Place {
        let place = match self.latest {
            Some(latest) if (latest.epoch, latest.sequence) >= (epoch, sequence) => return Place::Late,
            Some(latest) if latest.epoch == epoch => match sequence - latest.sequence - 1 {
                skipped @ 0..SKIPPED_MAX => Place::Newest { skipped },
                // An encoder that began anew.
                _ => Place::Newest { skipped: 0 },
            },
            _ => Place::Newest { skipped: 0 },
        };
        self.latest = Some(Latest { epoch, sequence, at });
        place
    }

    /// Another source, or the same in another format, feeds it from now on, beginning with `timestamp`; returns the SSRCs
    /// that no longer do.
    pub fn switch(&mut self, source: Source, timestamp: u32, at: Instant) -> [Option<u32>; 2] {
        self.keyframe_start.reset();
        match self.source.replace(source) {
            Some(before) if before.epoch != source.epoch => {
                self.keyframes.reset();
                let gone = self.takeover.replace(Takeover { from: before.ssrc, at, timestamp });
                [gone.map(|gone| gone.from), Some(before.ssrc)]
            }
            _ => [None; 2],
        }
    }

    /// Whether a packet with `ssrc` is but one that was overtaken by the switch to the present source.
    pub fn is_of_the_past(&self, ssrc: u32, now: Instant) -> bool {
        self.takeover.is_some_and(|takeover| {
            let latest_at = self.latest.map_or(takeover.at, |latest| latest.at);
            takeover.from == ssrc && now < latest_at + OVERTAKEN_MAX
        })
    }

    /// Whether a retransmission with `timestamp`, which is that of its original, repairs what was sent before the switch to
    /// the present source. Its SSRC does not tell.
    pub fn repairs_the_past(&self, timestamp: u32, now: Instant) -> bool {
        self.takeover.filter(|takeover| now < takeover.at + OVERTAKEN_MAX).is_some_and(|takeover| {
            let ticks = 2 * OVERTAKEN_MAX.as_secs() * u64::from(self.codec.clock_rate_hz());
            u64::from(timestamp.wrapping_sub(takeover.timestamp)) > ticks
        })
    }

    /// Whether a packet of the present source that is not of its format is but one that was overtaken by the change of
    /// formats: it must not bring back what was before.
    pub fn is_overtaken(&self, ssrc: u32, sequence: u64) -> bool {
        self.source.zip(self.latest).is_some_and(|(source, latest)| {
            source.ssrc == ssrc && latest.epoch == source.epoch && sequence < latest.sequence
        })
    }

    /// When a keyframe can be asked for; not before there is a source to ask.
    pub fn keyframe_due(&self, now: Instant) -> Option<Instant> {
        self.source.and_then(|_| self.keyframes.due(now))
    }
}

/// One publisher's stint.
#[derive(Debug)]
pub struct Broadcast {
    /// Its id.
    pub id: BroadcastId,
    /// Who sends it.
    pub publisher: Option<PeerKey>,
    /// Audio, and video.
    pub tracks: [Option<Track>; 2],
    /// Since when media has flowed.
    pub live_since: Option<Instant>,
    /// By when the first media must have come.
    pub media_by: Instant,
    /// The publisher's clock.
    pub clock: SourceClock,
    /// Connected subscribers.
    pub viewers: BTreeSet<PeerKey>,
    /// The count last told to the publisher.
    pub viewers_told: usize,
    /// Its recording.
    pub recording: Recording,
    /// When video came last.
    pub video_at: Option<Instant>,
    /// When it is brought up to date next.
    pub tick_at: Instant,
    bytes: u64,
    measured: (Instant, u64),
    /// Payload bits that came a second, of late.
    pub bitrate_bps: u64,
}

impl Broadcast {
    /// A broadcast whose publisher has yet to connect.
    pub fn new(id: BroadcastId, now: Instant) -> Self {
        Self {
            id,
            publisher: None,
            tracks: [None, None],
            live_since: None,
            media_by: now + DEADLINE,
            clock: SourceClock::default(),
            viewers: BTreeSet::new(),
            viewers_told: 0,
            recording: Recording::default(),
            video_at: None,
            tick_at: now + BROADCAST_TICK,
            bytes: 0,
            measured: (now, 0),
            bitrate_bps: 0,
        }
    }

    /// The track of one kind.
    pub fn track(&self, kind: TrackKind) -> Option<&Track> {
        self.tracks.get(kind as usize)?.as_ref()
    }

    /// The track of one kind.
    pub fn track_mut(&mut self, kind: TrackKind) -> Option<&mut Track> {
        self.tracks.get_mut(kind as usize)?.as_mut()
    }

    /// Both tracks, as far as there are.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().flatten()
    }

    /// Its tracks for the API and the recorder.
    pub fn track_infos(&self) -> Vec<TrackInfo> {
        self.tracks().map(|track| TrackInfo { kind: track.kind, codec: track.codec }).collect()
    }

    /// Which kinds it has.
    pub fn kinds(&self) -> [bool; 2] {
        [TrackKind::Audio, TrackKind::Video].map(|kind| self.track(kind).is_some())
    }

    /// Counts payload that came in.
    pub fn count(&mut self, bytes: usize) {
        self.bytes = self.bytes.wrapping_add(bytes as u64);
    }

    /// Brings the bitrate up to date.
    pub fn measure(&mut self, now: Instant) {
        let (since, before) = self.measured;
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= Duration::from_millis(900) {
            let bits = u128::from(self.bytes.wrapping_sub(before)) * 8;
            self.bitrate_bps = (bits * 1000 / elapsed.as_millis().max(1)) as u64;
            self.measured = (now, self.bytes);
        }
    }

    /// When it has something to do next.
    pub fn wake_at(&self, now: Instant) -> Instant {
        let mut at = self.tick_at;
        if self.live_since.is_none() {
            at = at.min(self.media_by);
        }
        if let Some(due) = self.track(TrackKind::Video).and_then(|track| track.keyframe_due(now)) {
            at = at.min(due);
        }
        at
    }
}

/// All broadcasts, live or about to be.
#[derive(Debug, Default)]
pub struct Broadcasts {
    slab: Slab<(u32, Broadcast)>,
    next_generation: u32,
}

impl Broadcasts {
    /// Takes a broadcast in.
    pub fn insert(&mut self, broadcast: Broadcast) -> BroadcastKey {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let index = self.slab.insert((generation, broadcast)) as u32;
        BroadcastKey { index, generation }
    }

    /// Takes a broadcast out.
    pub fn remove(&mut self, key: BroadcastKey) -> Option<Broadcast> {
        self.get(key)?;
        Some(self.slab.remove(key.index as usize).1)
    }

    /// The broadcast of `key`, unless it is over.
    pub fn get(&self, key: BroadcastKey) -> Option<&Broadcast> {
        let (generation, broadcast) = self.slab.get(key.index as usize)?;
        (*generation == key.generation).then_some(broadcast)
    }

    /// The broadcast of `key`, unless it is over.
    pub fn get_mut(&mut self, key: BroadcastKey) -> Option<&mut Broadcast> {
        let (generation, broadcast) = self.slab.get_mut(key.index as usize)?;
        (*generation == key.generation).then_some(broadcast)
    }

    /// All broadcasts.
    pub fn iter(&self) -> impl Iterator<Item = &Broadcast> {
        self.slab.iter().map(|(_, (_, broadcast))| broadcast)
    }
}

//! The way of a broadcast's packets to whole units in their place: reordered, gathered into pictures, put on a timeline.
//!
//! **Invariant:** pure: it knows no clock but the arrival times and the moments it is handed.

pub mod access_unit;
pub mod picture;
pub mod reorder;
pub mod timeline;

use std::time::{Duration, Instant};

use self::picture::Pictures;
use self::reorder::{Ordered, Reorder};
use self::timeline::{Placed, Timeline, Unit};
use crate::hub::io::MediaPacket;
use crate::rtp::codec::TrackKind;

/// One broadcast's intake.
#[derive(Debug)]
pub struct Intake {
    audio: Reorder,
    video: Reorder,
    pictures: Pictures,
    timeline: Timeline,
    latest: Option<Instant>,
    latest_video: Option<Instant>,
}

impl Intake {
    /// An intake for a broadcast that announced this many tracks.
    pub fn new(tracks: usize) -> Self {
        Self {
            audio: Reorder::default(),
            video: Reorder::default(),
            pictures: Pictures::default(),
            timeline: Timeline::new(tracks),
            latest: None,
            latest_video: None,
        }
    }

    /// Takes a packet as it came, and puts out what is whole and placed.
    pub fn take(&mut self, packet: MediaPacket, out: &mut Vec<Placed>) {
        let arrival = packet.arrival;
        self.latest = Some(arrival);
        let (mut sound, mut video) = (Vec::new(), Vec::new());
        match packet.kind {
            TrackKind::Audio => self.audio.push(packet, &mut sound),
            TrackKind::Video => {
                self.latest_video = Some(arrival);
                self.video.push(packet, &mut video);
            }
        }
        self.audio.release(arrival, &mut sound);
        self.video.release(arrival, &mut video);
        self.admit(sound, video, out);
    }

    /// Puts out what has waited long enough.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Placed>) {
        let (mut sound, mut video) = (Vec::new(), Vec::new());
        self.audio.release(now, &mut sound);
        self.video.release(now, &mut video);
        self.admit(sound, video, out);
        self.timeline.tick(now, out);
    }

    /// Puts out all that is held: nothing more comes.
    pub fn flush(&mut self, out: &mut Vec<Placed>) {
        let (mut sound, mut video) = (Vec::new(), Vec::new());
        self.audio.flush(&mut sound);
        self.video.flush(&mut video);
        self.admit(sound, video, out);
        self.timeline.flush(out);
    }

    /// Whether video comes of which nothing can be used before a keyframe.
    pub fn awaits_keyframe(&self) -> bool {
        self.has_video() && self.pictures.awaits_keyframe()
    }

    /// Whether any packet of video has come.
    pub fn has_video(&self) -> bool {
        self.latest_video.is_some()
    }

    /// Whether a packet of video has come within this time of the latest packet of all.
    pub fn video_flows(&self, within: Duration) -> bool {
        let pause = self.latest.zip(self.latest_video).map(|(any, video)| any.saturating_duration_since(video));
        pause.is_some_and(|pause| pause <= within)
    }

    /// Packets that were lost on the way, or dropped with what they belonged to.
    pub fn dropped(&self) -> u64 {
        self.audio.lost.saturating_add(self.video.lost).saturating_add(self.pictures.dropped)
    }

    fn admit(&mut self, sound: Vec<Ordered>, video: Vec<Ordered>, out: &mut Vec<Placed>) {
        for ordered in sound {
            if let Ordered::Packet(packet) = ordered {
                self.timeline.admit(Unit::Sound(packet), out);
            }
        }
        let mut pictures = Vec::new();
        for ordered in video {
            self.pictures.push(ordered, &mut pictures);
        }
        for picture in pictures {
            self.timeline.admit(Unit::Picture(picture), out);
        }
    }
}

//! One track's packets, spread over its subscribers.
//!
//! **Invariant:** a subscriber's video begins at the first packet of a keyframe, never in the middle of a picture group;
//! forwarding allocates nothing here, and a subscriber that cannot take a packet never holds up the next.

use std::time::Instant;

use crate::rtp::codec::{Codec, TrackKind};
use crate::rtp::packet::MediaPacket;
use crate::rtp::rewrite::{Mapped, SourcePacket, TrackRewrite};
use crate::rtp::vp8::Vp8Descriptor;

/// What seals a packet for one subscriber and puts it where it leaves: the seam between the fan-out and the sender.
pub trait PacketWriter<T> {
    /// The payload type under which `to` takes the track's present format; `None` when it cannot play it.
    fn payload_type(&mut self, to: &T) -> Option<u8>;

    /// Sends the packet at hand to `to` as `mapped`.
    fn write(&mut self, to: &T, mapped: Mapped, payload_type: u8);
}

/// Where one subscriber stands with one track.
#[derive(Debug)]
pub struct Target<T> {
    /// Whom the packets are for.
    pub to: T,
    rewrite: TrackRewrite,
    /// For video: nothing passes until a keyframe begins.
    waits_for_keyframe: bool,
    /// The format last looked up, and the payload type it got.
    format: Option<(u32, Option<u8>)>,
}

impl<T> Target<T> {
    /// A subscriber that has been sent nothing yet.
    pub fn new(to: T, rewrite: TrackRewrite) -> Self {
        Self { to, rewrite, waits_for_keyframe: true, format: None }
    }
}

/// What became of one packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// How many subscribers it was written for.
    pub sent: usize,
    /// Subscribers that still wait for a keyframe.
    pub waiting: usize,
}

/// The subscribers of one track.
#[derive(Debug)]
pub struct Fanout<T> {
    targets: Vec<Target<T>>,
}

impl<T> Default for Fanout<T> {
    fn default() -> Self {
        Self { targets: Vec::new() }
    }
}

impl<T: PartialEq> Fanout<T> {
    /// Adds a subscriber. Its video starts with the next keyframe.
    pub fn attach(&mut self, mut target: Target<T>) {
        target.waits_for_keyframe = true;
        target.format = None;
        // It may come from another track, whose source is younger or older than this one's.
        target.rewrite.resume_later();
        self.targets.push(target);
    }

    /// Takes a subscriber out, with all that must not be lost between two broadcasts on one m-line.
    pub fn detach(&mut self, to: &T) -> Option<Target<T>> {
        let index = self.targets.iter().position(|target| target.to == *to)?;
        Some(self.targets.swap_remove(index))
    }

    /// Takes every subscriber out.
    pub fn drain(&mut self) -> impl Iterator<Item = Target<T>> + '_ {
        self.targets.drain(..)
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether nobody receives this track.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Whether some subscriber cannot begin before a keyframe comes.
    #[must_use]
    pub fn waits_for_keyframe(&self) -> bool {
        self.targets.iter().any(|target| target.waits_for_keyframe)
    }

    /// Writes one packet for each subscriber that is ready for it.
    ///
    /// `starts_keyframe`: a decoder can begin here; true for each packet of audio. `format` names the track's format
    /// (codec and its parameters): when it changes, payload types are looked up anew.
    pub fn forward<W: PacketWriter<T>>(
        &mut self,
        packet: &MediaPacket,
        starts_keyframe: bool,
        format: u32,
        now: Instant,
        writer: &mut W,
    ) -> Forwarded {
        let source = SourcePacket {
            epoch: u64::from(packet.epoch),
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            vp8: (packet.codec == Codec::Vp8)
                .then(|| Vp8Descriptor::parse(&packet.payload).ok())
                .flatten()
                .map(|descriptor| descriptor.ids()),
        };
        let mut result = Forwarded::default();
        for target in &mut self.targets {
            let payload_type = match target.format {
                Some((known, payload_type)) if known == format => payload_type,
                _ => {
                    let payload_type = writer.payload_type(&target.to);
                    target.format = Some((format, payload_type));
                    target.waits_for_keyframe = true;
                    payload_type
                }
            };
            let Some(payload_type) = payload_type else {
                continue;
            };
            if packet.kind == TrackKind::Video {
                let goes_on = !target.waits_for_keyframe && target.rewrite.continues(source.epoch);
                if !goes_on && !starts_keyframe {
                    target.waits_for_keyframe = true;
                    result.waiting += 1;
                    continue;
                }
                if target.waits_for_keyframe {
                    // Packets were left out on purpose: the receiver is not to take them for lost.
                    target.rewrite.resume_later();
                    target.waits_for_keyframe = false;
                }
            }
            if let Some(mapped) = target.rewrite.map(source, now) {
                writer.write(&target.to, mapped, payload_type);
                result.sent += 1;
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Default)]
    struct Log {
        written: Vec<(u32, u64, u8)>,
        plays: Option<u8>,
    }

    impl PacketWriter<u32> for Log {
        fn payload_type(&mut self, _: &u32) -> Option<u8> {
            self.plays
        }

        fn write(&mut self, to: &u32, mapped: Mapped, payload_type: u8) {
            self.written.push((*to, mapped.sequence, payload_type));
        }
    }

    fn packet(kind: TrackKind, sequence: u64) -> MediaPacket {
        MediaPacket {
            kind,
            codec: if kind == TrackKind::Audio { Codec::Opus } else { Codec::H264 },
            epoch: 1,
            sequence,
            timestamp: sequence as u32 * 3000,
            marker: false,
            payload: Arc::from([0_u8; 4]),
            arrival: crate::rtp::test_epoch(),
            sender_report: None,
        }
    }

    fn target(to: u32) -> Target<u32> {
        Target::new(to, TrackRewrite::new(100, 0, 90_000))
    }

    #[test]
    fn video_begins_at_a_keyframe_and_then_flows() {
        let mut fanout = Fanout::default();
        fanout.attach(target(1));
        let mut log = Log { plays: Some(96), ..Log::default() };
        let mut forward = |fanout: &mut Fanout<u32>, sequence, starts| {
            let packet = packet(TrackKind::Video, sequence);
            fanout.forward(&packet, starts, 1, packet.arrival, &mut log)
        };
        assert_eq!(forward(&mut fanout, 5, false), Forwarded { sent: 0, waiting: 1 });
        assert!(fanout.waits_for_keyframe());
        assert_eq!(forward(&mut fanout, 6, true).sent, 1);
        assert_eq!(forward(&mut fanout, 7, false).sent, 1);
        fanout.attach(target(2));
        assert_eq!(forward(&mut fanout, 8, false), Forwarded { sent: 1, waiting: 1 });
        assert_eq!(forward(&mut fanout, 9, true).sent, 2);
        assert_eq!(log.written, [(1, 100, 96), (1, 101, 96), (1, 102, 96), (1, 103, 96), (2, 100, 96)]);
    }

    #[test]
    fn audio_waits_for_nothing() {
        let mut fanout = Fanout::default();
        fanout.attach(target(1));
        let mut log = Log { plays: Some(111), ..Log::default() };
        let packet = packet(TrackKind::Audio, 5);
        assert_eq!(fanout.forward(&packet, true, 1, packet.arrival, &mut log).sent, 1);
    }

    #[test]
    fn a_subscriber_goes_on_with_another_track_whose_source_is_older() {
        let mut log = Log { plays: Some(111), ..Log::default() };
        let mut younger = Fanout::default();
        younger.attach(target(1));
        let packet = MediaPacket { epoch: 9, ..packet(TrackKind::Audio, 5) };
        younger.forward(&packet, true, 1, packet.arrival, &mut log);
        let mut older = Fanout::default();
        older.attach(younger.detach(&1).unwrap());
        let packet = MediaPacket { epoch: 3, ..packet };
        assert_eq!(older.forward(&packet, true, 1, packet.arrival, &mut log).sent, 1);
        assert_eq!(log.written, [(1, 100, 111), (1, 101, 111)]);
    }

    #[test]
    fn who_cannot_play_a_format_gets_nothing_and_is_asked_once() {
        let mut fanout = Fanout::default();
        fanout.attach(target(1));
        let mut log = Log::default();
        let packet = packet(TrackKind::Video, 5);
        assert_eq!(fanout.forward(&packet, true, 1, packet.arrival, &mut log), Forwarded::default());
        log.plays = Some(97);
        assert_eq!(fanout.forward(&packet, true, 1, packet.arrival, &mut log), Forwarded::default());
        assert_eq!(fanout.forward(&packet, true, 2, packet.arrival, &mut log).sent, 1);
        assert!(fanout.detach(&1).is_some() && fanout.is_empty());
    }
}

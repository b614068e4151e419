//! One track's packets, spread over its subscribers.
//!
//! **Invariant:** a subscriber's video begins at the first packet of a keyframe, never in the middle of a picture group;
//! forwarding allocates nothing here, and a subscriber that cannot take a packet never holds up the next.

use std::time::Instant;

use slab::Slab;

use super::packet::RelayPacket;
use crate::rtp::codec::TrackKind;
use crate::rtp::rewrite::{Mapped, TrackRewrite};

/// The payload types under which a subscriber takes a track's present format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadTypes {
    /// The format's own.
    pub media: u8,
    /// That of its retransmissions.
    pub rtx: Option<u8>,
}

/// What seals a packet for one subscriber and puts it where it leaves: the seam between the fan-out and the sender.
pub trait PacketWriter<T> {
    /// The payload types under which `to` takes the packet's format; `None` when it cannot play it.
    fn payload_types(&mut self, to: &T, packet: &RelayPacket) -> Option<PayloadTypes>;

    /// Sends the packet to `to` as `mapped`.
    fn write(&mut self, to: &mut T, packet: &RelayPacket, mapped: Mapped, payload_types: PayloadTypes);
}

/// Where one subscriber stands with one track.
#[derive(Debug)]
pub struct Target<T> {
    /// Whom the packets are for.
    pub to: T,
    rewrite: TrackRewrite,
    /// For video: nothing passes until a keyframe begins.
    waits_for_keyframe: bool,
    /// The format last looked up, and the payload types it got.
    format: Option<(u32, Option<PayloadTypes>)>,
}

impl<T> Target<T> {
    /// A subscriber that has been sent nothing yet.
    pub fn new(to: T, rewrite: TrackRewrite) -> Self {
        Self { to, rewrite, waits_for_keyframe: true, format: None }
    }

    /// How packets are mapped.
    pub fn rewrite(&self) -> &TrackRewrite {
        &self.rewrite
    }

    /// The payload types of `format`, if that is what was sent last.
    pub fn payload_types(&self, format: u32) -> Option<PayloadTypes> {
        self.format.filter(|(known, _)| *known == format)?.1
    }

    fn forward<W: PacketWriter<T>>(&mut self, packet: &RelayPacket, now: Instant, writer: &mut W) -> Step {
        let payload_types = match self.format {
            Some((known, payload_types)) if known == packet.format => payload_types,
            _ => {
                let payload_types = writer.payload_types(&self.to, packet);
                self.format = Some((packet.format, payload_types));
                self.waits_for_keyframe = true;
                payload_types
            }
        };
        let Some(payload_types) = payload_types else {
            return Step::Refused;
        };
        let source = packet.source();
        if packet.media.kind == TrackKind::Video {
            let goes_on = !self.waits_for_keyframe && self.rewrite.continues(source.epoch);
            if !goes_on && !packet.begins {
                self.waits_for_keyframe = true;
                return Step::Waits;
            }
            if self.waits_for_keyframe {
                // Packets were left out on purpose: the receiver is not to take them for lost.
                self.rewrite.resume_later();
                self.waits_for_keyframe = false;
            }
        }
        match self.rewrite.map(source, now) {
            Some(mapped) => {
                writer.write(&mut self.to, packet, mapped, payload_types);
                Step::Sent
            }
            None => Step::Refused,
        }
    }
}

/// What became of one packet for one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Sent,
    Waits,
    Refused,
}

/// What became of a run of packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// How many packets were written, for all subscribers.
    pub sent: usize,
    /// Subscribers that still wait for a keyframe.
    pub waiting: usize,
}

/// Names a subscriber of a [`Fanout`] for as long as it is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetKey(usize);

/// The subscribers of one track.
#[derive(Debug)]
pub struct Fanout<T> {
    targets: Slab<Target<T>>,
}

impl<T> Default for Fanout<T> {
    fn default() -> Self {
        Self { targets: Slab::new() }
    }
}

impl<T> Fanout<T> {
    /// Adds a subscriber. Its video starts with the next keyframe.
    pub fn attach(&mut self, mut target: Target<T>) -> TargetKey {
        target.waits_for_keyframe = true;
        target.format = None;
        // It may come from another track, whose source is younger or older than this one's.
        target.rewrite.resume_later();
        TargetKey(self.targets.insert(target))
    }

    /// Takes a subscriber out, with all that must not be lost between two broadcasts on one m-line.
    pub fn detach(&mut self, key: TargetKey) -> Option<Target<T>> {
        self.targets.try_remove(key.0)
    }

    /// A subscriber.
    pub fn get_mut(&mut self, key: TargetKey) -> Option<&mut Target<T>> {
        self.targets.get_mut(key.0)
    }

    /// All subscribers.
    pub fn targets(&self) -> impl Iterator<Item = &Target<T>> {
        self.targets.iter().map(|(_, target)| target)
    }

    /// Takes every subscriber out.
    pub fn drain(&mut self) -> impl Iterator<Item = Target<T>> + '_ {
        self.targets.drain()
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
        self.targets.iter().any(|(_, target)| target.waits_for_keyframe)
    }

    /// Starts each subscriber that waits for a keyframe with `kept`, which begins with one.
    pub fn catch_up<'a, W: PacketWriter<T>>(
        &mut self,
        kept: impl Iterator<Item = &'a RelayPacket> + Clone,
        now: Instant,
        writer: &mut W,
    ) -> Forwarded {
        let mut result = Forwarded::default();
        for (_, target) in self.targets.iter_mut().filter(|(_, target)| target.waits_for_keyframe) {
            for packet in kept.clone() {
                result.sent += usize::from(target.forward(packet, now, writer) == Step::Sent);
            }
            result.waiting += usize::from(target.waits_for_keyframe);
        }
        result
    }

    /// Writes a run of packets for each subscriber that is ready for them: all of one subscriber's, then the next one's.
    ///
    /// So its keys and counters are fetched once, and its datagrams lie side by side.
    pub fn forward<W: PacketWriter<T>>(&mut self, run: &[RelayPacket], now: Instant, writer: &mut W) -> Forwarded {
        let mut result = Forwarded::default();
        for (_, target) in &mut self.targets {
            let mut last = Step::Refused;
            for packet in run {
                last = target.forward(packet, now, writer);
                result.sent += usize::from(last == Step::Sent);
            }
            result.waiting += usize::from(last == Step::Waits);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::egress::packet::{PassedExtensions, test_spec};
    use crate::rtp::codec::Codec;
    use crate::rtp::packet::MediaPacket;

    #[derive(Default)]
    struct Log {
        written: Vec<(u32, u64, u8)>,
        plays: Option<PayloadTypes>,
    }

    impl PacketWriter<u32> for Log {
        fn payload_types(&mut self, _: &u32, _: &RelayPacket) -> Option<PayloadTypes> {
            self.plays
        }

        fn write(&mut self, to: &mut u32, _: &RelayPacket, mapped: Mapped, payload_types: PayloadTypes) {
            self.written.push((*to, mapped.sequence, payload_types.media));
        }
    }

    impl Log {
        fn playing(media: u8) -> Self {
            Self { plays: Some(PayloadTypes { media, rtx: None }), ..Self::default() }
        }
    }

    fn packet(kind: TrackKind, sequence: u64, begins: bool) -> RelayPacket {
        let arrival = crate::rtp::test_epoch();
        let media = MediaPacket {
            kind,
            codec: if kind == TrackKind::Audio { Codec::Opus } else { Codec::H264 },
            epoch: 1,
            sequence,
            timestamp: sequence as u32 * 3000,
            marker: false,
            payload: Arc::from([0_u8; 4]),
            arrival,
            sender_report: None,
        };
        let extensions = PassedExtensions::default();
        RelayPacket { media, format: 1, spec: test_spec(), begins, captured: arrival, extensions, vp8: None }
    }

    fn target(to: u32) -> Target<u32> {
        Target::new(to, TrackRewrite::new(100, 0, 90_000))
    }

    fn forward(fanout: &mut Fanout<u32>, packet: RelayPacket, log: &mut Log) -> Forwarded {
        let now = packet.media.arrival;
        fanout.forward(&[packet], now, log)
    }

    #[test]
    fn video_begins_at_a_keyframe_and_then_flows() {
        let mut fanout = Fanout::default();
        fanout.attach(target(1));
        let mut log = Log::playing(96);
        let mut forward =
            |fanout: &mut _, sequence, begins| forward(fanout, packet(TrackKind::Video, sequence, begins), &mut log);
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
    fn a_run_goes_to_one_subscriber_after_the_other() {
        let mut fanout = Fanout::default();
        fanout.attach(target(1));
        fanout.attach(target(2));
        let mut log = Log::playing(96);
        let run =
            [(4, false), (5, true), (6, false)].map(|(sequence, begins)| packet(TrackKind::Video, sequence, begins));
        let forwarded = fanout.forward(&run, run[0].media.arrival, &mut log);
        assert_eq!(forwarded, Forwarded { sent: 4, waiting: 0 });
        assert_eq!(log.written, [(1, 100, 96), (1, 101, 96), (2, 100, 96), (2, 101, 96)]);
    }

    #[test]
    fn audio_waits_for_nothing() {
        let mut fanout = Fanout::default();
        fanout.attach(target(1));
        assert_eq!(forward(&mut fanout, packet(TrackKind::Audio, 5, true), &mut Log::playing(111)).sent, 1);
    }

    #[test]
    fn a_subscriber_goes_on_with_another_track_whose_source_is_older() {
        let mut log = Log::playing(111);
        let mut younger = Fanout::default();
        let key = younger.attach(target(1));
        let mut packet = packet(TrackKind::Audio, 5, true);
        packet.media.epoch = 9;
        forward(&mut younger, packet.clone(), &mut log);
        let mut older = Fanout::default();
        older.attach(younger.detach(key).unwrap());
        assert!(younger.detach(key).is_none());
        packet.media.epoch = 3;
        assert_eq!(forward(&mut older, packet, &mut log).sent, 1);
        assert_eq!(log.written, [(1, 100, 111), (1, 101, 111)]);
    }

    #[test]
    fn who_cannot_play_a_format_gets_nothing_and_is_asked_once() {
        let mut fanout = Fanout::default();
        let key = fanout.attach(target(1));
        let mut log = Log::default();
        let packet = packet(TrackKind::Video, 5, true);
        assert_eq!(forward(&mut fanout, packet.clone(), &mut log), Forwarded::default());
        log.plays = Log::playing(97).plays;
        assert_eq!(forward(&mut fanout, packet.clone(), &mut log), Forwarded::default());
        assert_eq!(forward(&mut fanout, RelayPacket { format: 2, ..packet }, &mut log).sent, 1);
        assert!(fanout.detach(key).is_some() && fanout.is_empty());
    }
}

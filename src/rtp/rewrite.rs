//! What a subscriber sees of one track: one unbroken RTP stream, whoever sends it at the other end.
//!
//! **Invariant:** two source packets never map to one output sequence number, as long as the caller drops the source's
//! duplicates; and within one source epoch the distance of two packets is the same before and after.
//!
//! A *run* is a stretch in which output sequence numbers keep a fixed distance from the source's. A run ends with a
//! switch of the source epoch (a publisher's return, a takeover, a new SSRC), with [`TrackRewrite::resume_later`], or with
//! a gap so long that a receiver's rollover counter (RFC 3711 §3.3.1) could be led astray.
//!
//! A clean start is the caller's: where [`TrackRewrite::continues`] is false for a video packet, it holds the track back
//! until a packet for which [`starts_keyframe`](super::keyframe::starts_keyframe) is true, and maps from there on.

use std::time::{Duration, Instant};

use super::vp8::{PictureId, Vp8Ids};

/// The first output sequence number is below this, so that a receiver that misses the first packets still guesses a
/// rollover counter of 0.
pub const FIRST_SEQUENCE_MAX: u64 = 1 << 15;

/// The longest gap in the source's sequence numbers that is kept as a gap.
pub const GAP_MAX: u64 = 1 << 14;

/// The longest silence by which timestamps advance: half their range at 90 kHz is 6.6 h, and beyond that they would seem
/// to go back.
const SILENCE_MAX: Duration = Duration::from_secs(3600);

/// What a source packet is told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePacket {
    /// Grows by any amount when the stream behind the track becomes another one; unique among all sources.
    pub epoch: u64,
    /// The sequence number, extended by its rollovers.
    pub sequence: u64,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// The running ids of a VP8 packet.
    pub vp8: Option<Vp8Ids>,
}

/// The same packet as its subscriber gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// The sequence number with its rollovers: the lower 16 bits go into the header.
    pub sequence: u64,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// The ids to be patched into a VP8 packet's descriptor, in the widths they had; `None` where they stay.
    pub vp8: Option<Vp8Ids>,
}

/// The state of one track toward one subscriber.
#[derive(Debug, Clone)]
pub struct TrackRewrite {
    clock_rate_hz: u32,
    run: Option<Run>,
    resume_later: bool,
    /// The highest output sequence number so far; before the first packet, one below the first.
    highest_sequence: u64,
    latest_timestamp: u32,
    latest_at: Option<Instant>,
    highest_picture_id: Option<u16>,
    highest_tl0_pic_idx: Option<u8>,
}

/// The mapping in force.
#[derive(Debug, Clone, Copy)]
struct Run {
    epoch: u64,
    first_source: u64,
    first_output: u64,
    highest_source: u64,
    timestamp_offset: u32,
    picture_id_offset: Option<u16>,
    tl0_pic_idx_offset: Option<u8>,
}

impl TrackRewrite {
    /// A track that has sent nothing yet.
    ///
    /// `first_sequence` is random and reduced below [`FIRST_SEQUENCE_MAX`]; `first_timestamp` is random.
    #[must_use]
    pub fn new(first_sequence: u16, first_timestamp: u32, clock_rate_hz: u32) -> Self {
        Self {
            clock_rate_hz,
            run: None,
            resume_later: false,
            highest_sequence: (u64::from(first_sequence) % FIRST_SEQUENCE_MAX).wrapping_sub(1),
            latest_timestamp: first_timestamp,
            latest_at: None,
            highest_picture_id: None,
            highest_tl0_pic_idx: None,
        }
    }

    /// Whether a packet of `epoch` goes on with the run in force, so that no clean start is needed.
    #[must_use]
    pub fn continues(&self, epoch: u64) -> bool {
        !self.resume_later && self.run.is_some_and(|run| run.epoch == epoch)
    }

    /// Tells that packets will be left out on purpose, or that the track turns to another source, of whichever epoch: the
    /// next packet begins a new run, without a gap.
    pub fn resume_later(&mut self) {
        self.resume_later = true;
    }

    /// What is added (wrapping) to the source's timestamps in the run in force: sender reports need it.
    #[must_use]
    pub fn timestamp_offset(&self) -> Option<u32> {
        self.run.map(|run| run.timestamp_offset)
    }

    /// The timestamp that this subscriber would see at `now` if the track went on without a source, before which nothing
    /// was sent: `None`.
    #[must_use]
    pub fn timestamp_at(&self, now: Instant) -> Option<u32> {
        self.latest_at.map(|at| self.latest_timestamp.wrapping_add(self.ticks(now.saturating_duration_since(at))))
    }

    /// The source packet (epoch and sequence number) that was sent as `output`, if it lies within the run in force.
    #[must_use]
    pub fn source_of(&self, output: u64) -> Option<(u64, u64)> {
        let run = self.run.as_ref()?;
        if output < run.first_output || output > self.highest_sequence {
            return None;
        }
        Some((run.epoch, run.first_source.wrapping_add(output - run.first_output)))
    }

    /// Maps one source packet that arrived at `now`.
    ///
    /// `None` for a packet of an epoch that is over, and for a late one from before the run's first packet: neither has
    /// an output sequence number left.
    pub fn map(&mut self, source: SourcePacket, now: Instant) -> Option<Mapped> {
        let mut run = match self.run {
            // After a pause, an older epoch is another broadcast's that this track turned to.
            Some(run) if source.epoch < run.epoch && !self.resume_later => return None,
            Some(run) if source.epoch == run.epoch => {
                let gap = source.sequence.saturating_sub(run.highest_source);
                if self.resume_later && source.sequence <= run.highest_source {
                    return None;
                }
                if self.resume_later || gap > GAP_MAX {
                    self.begin_run(source, now, Some(run.timestamp_offset))
                } else {
                    run
                }
            }
            _ => self.begin_run(source, now, None),
        };
        let distance = source.sequence.checked_sub(run.first_source)?;
        let sequence = run.first_output.wrapping_add(distance);
        let timestamp = source.timestamp.wrapping_add(run.timestamp_offset);
        let vp8 = source.vp8.map(|ids| self.map_vp8(&mut run, ids));

        self.resume_later = false;
        if run.highest_source <= source.sequence {
            run.highest_source = source.sequence;
            self.highest_sequence = sequence;
        }
        let is_newer = timestamp.wrapping_sub(self.latest_timestamp) < 1 << 31;
        if self.latest_at.is_none() || is_newer {
            self.latest_timestamp = timestamp;
            self.latest_at = Some(now);
        }
        self.run = Some(run);
        Some(Mapped { sequence, timestamp, vp8 })
    }

    /// How a packet of the run in force was mapped, once more: for its retransmission.
    #[must_use]
    pub fn repeat(&self, source: SourcePacket) -> Option<Mapped> {
        let run = self.run.filter(|run| run.epoch == source.epoch && source.sequence <= run.highest_source)?;
        let distance = source.sequence.checked_sub(run.first_source)?;
        let vp8 = source.vp8.map(|ids| Vp8Ids {
            picture_id: ids
                .picture_id
                .zip(run.picture_id_offset)
                .map(|(id, offset)| PictureId::new(id.value.wrapping_add(offset), id.long)),
            tl0_pic_idx: ids.tl0_pic_idx.zip(run.tl0_pic_idx_offset).map(|(index, offset)| index.wrapping_add(offset)),
        });
        Some(Mapped {
            sequence: run.first_output.wrapping_add(distance),
            timestamp: source.timestamp.wrapping_add(run.timestamp_offset),
            vp8,
        })
    }

    /// The highest output sequence number so far; before the first packet, one below the first.
    #[must_use]
    pub fn highest_sequence(&self) -> u64 {
        self.highest_sequence
    }

    /// The run that begins with `source`. The timestamps of an epoch that goes on keep their offset, unless it was silent
    /// for so long that they could seem to go back.
    fn begin_run(&self, source: SourcePacket, now: Instant, same_epoch: Option<u32>) -> Run {
        let silence = self.latest_at.map(|at| now.saturating_duration_since(at));
        let timestamp_offset = match (same_epoch, silence) {
            (Some(offset), Some(silence)) if silence < SILENCE_MAX => offset,
            _ => {
                // At least one tick: two frames must not share a timestamp.
                let advance = silence.map_or(0, |silence| self.ticks(silence).max(1));
                self.latest_timestamp.wrapping_add(advance).wrapping_sub(source.timestamp)
            }
        };
        Run {
            epoch: source.epoch,
            first_source: source.sequence,
            first_output: self.highest_sequence.wrapping_add(1),
            highest_source: source.sequence,
            timestamp_offset,
            picture_id_offset: None,
            tl0_pic_idx_offset: None,
        }
    }

    /// A silence in units of the RTP clock, capped so that it never looks like the past.
    fn ticks(&self, silence: Duration) -> u32 {
        let silence_ns = silence.min(SILENCE_MAX).as_nanos();
        let ticks = silence_ns * u128::from(self.clock_rate_hz) / 1_000_000_000;
        u32::try_from(ticks).unwrap_or(u32::MAX).min(u32::MAX / 2)
    }

    /// Picture ids and TL0PICIDX run on from the highest sent; the very first source keeps its own.
    fn map_vp8(&mut self, run: &mut Run, ids: Vp8Ids) -> Vp8Ids {
        let picture_id = ids.picture_id.map(|source| {
            let offset = *run.picture_id_offset.get_or_insert_with(|| {
                self.highest_picture_id.map_or(0, |highest| highest.wrapping_add(1).wrapping_sub(source.value))
            });
            let output = PictureId::new(source.value.wrapping_add(offset), source.long);
            let highest = self.highest_picture_id.get_or_insert(output.value);
            let ahead = PictureId::new(output.value.wrapping_sub(*highest), source.long).value;
            if ahead < if source.long { 1 << 14 } else { 1 << 6 } {
                *highest = output.value;
            }
            output
        });
        let tl0_pic_idx = ids.tl0_pic_idx.map(|source| {
            let offset = *run.tl0_pic_idx_offset.get_or_insert_with(|| {
                self.highest_tl0_pic_idx.map_or(0, |highest| highest.wrapping_add(1).wrapping_sub(source))
            });
            let output = source.wrapping_add(offset);
            let highest = self.highest_tl0_pic_idx.get_or_insert(output);
            if output.wrapping_sub(*highest) < 1 << 7 {
                *highest = output;
            }
            output
        });
        Vp8Ids { picture_id, tl0_pic_idx }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_epoch;
    use proptest::prelude::*;

    fn packet(epoch: u64, sequence: u64, timestamp: u32) -> SourcePacket {
        SourcePacket { epoch, sequence, timestamp, vp8: None }
    }

    fn vp8(epoch: u64, sequence: u64, picture_id: u16, tl0: u8) -> SourcePacket {
        let ids = Vp8Ids { picture_id: Some(PictureId::new(picture_id, true)), tl0_pic_idx: Some(tl0) };
        SourcePacket { vp8: Some(ids), ..packet(epoch, sequence, 0) }
    }

    fn ids(mapped: Option<Mapped>) -> (u16, u8) {
        let ids = mapped.unwrap().vp8.unwrap();
        (ids.picture_id.unwrap().value, ids.tl0_pic_idx.unwrap())
    }

    #[test]
    fn the_first_packet_takes_the_start_whatever_the_source_counts() {
        let mut track = TrackRewrite::new(0xffff, 77, 90_000);
        let mapped = track.map(packet(1, 1 << 40, 5), test_epoch()).unwrap();
        assert_eq!((mapped.sequence, mapped.timestamp), (0x7fff, 77));
        let mut track = TrackRewrite::new(0, 0, 90_000);
        assert_eq!(track.map(packet(1, 9, 5), test_epoch()).unwrap().sequence, 0);
    }

    #[test]
    fn gaps_stay_gaps_and_late_packets_fill_them() {
        let now = test_epoch();
        let mut track = TrackRewrite::new(100, 0, 90_000);
        let mut map = |sequence| track.map(packet(1, sequence, 0), now).map(|m| m.sequence);
        assert_eq!(map(1000), Some(100));
        assert_eq!(map(1004), Some(104));
        assert_eq!(map(1002), Some(102));
        assert_eq!(map(1005), Some(105));
        assert_eq!(map(999), None, "before the first forwarded packet");
    }

    #[test]
    fn sequence_numbers_pass_their_16_bit_wrap_and_timestamps_their_32_bit_one() {
        let now = test_epoch();
        let mut track = TrackRewrite::new(0x7fff, u32::MAX - 1, 90_000);
        for i in 0..70_000_u64 {
            let source = packet(1, 65_000 + i, (u32::MAX - 10).wrapping_add(i as u32));
            let mapped = track.map(source, now).unwrap();
            assert_eq!(mapped.sequence, 0x7fff + i);
            assert_eq!(mapped.timestamp, (u32::MAX - 1).wrapping_add(i as u32));
        }
    }

    #[test]
    fn a_switch_runs_on_in_sequence_and_by_the_wall_clock() {
        let now = test_epoch();
        let mut track = TrackRewrite::new(10, 1_000, 90_000);
        track.map(packet(1, 500, 70_000), now);
        track.map(packet(1, 502, 73_000), now + Duration::from_millis(33));
        let later = now + Duration::from_millis(33) + Duration::from_secs(2);
        let mapped = track.map(packet(2, 7, 123), later).unwrap();
        assert_eq!(mapped.sequence, 13);
        assert_eq!(mapped.timestamp, 4_000 + 180_000);
        assert_eq!(track.timestamp_offset(), Some(184_000_u32.wrapping_sub(123)));
        assert_eq!(track.map(packet(1, 501, 73_000), later), None, "the older epoch is over");
        assert_eq!(track.map(packet(2, 6, 100), later), None, "before the epoch's first packet");
    }

    #[test]
    fn a_switch_in_no_time_still_moves_the_timestamp() {
        let now = test_epoch();
        let mut track = TrackRewrite::new(10, 1_000, 90_000);
        track.map(packet(1, 1, 5), now);
        assert_eq!(track.map(packet(2, 1, 5), now).unwrap().timestamp, 1_001);
    }

    #[test]
    fn a_long_absence_never_looks_like_the_past() {
        let now = test_epoch();
        let mut track = TrackRewrite::new(10, 0, 90_000);
        track.map(packet(1, 1, 5), now);
        let mapped = track.map(packet(2, 1, 5), now + Duration::from_secs(40 * 3600)).unwrap();
        assert!((1..1 << 31).contains(&mapped.timestamp));
    }

    #[test]
    fn a_gap_beyond_the_rollover_window_is_closed_and_timestamps_keep_their_distance() {
        let now = test_epoch();
        let mut track = TrackRewrite::new(10, 0, 90_000);
        track.map(packet(1, 1, 0), now);
        let mapped = track.map(packet(1, 2 + GAP_MAX, 900_000), now).unwrap();
        assert_eq!((mapped.sequence, mapped.timestamp), (11, 900_000));
        assert_eq!(track.map(packet(1, 2, 0), now), None);
    }

    #[test]
    fn a_track_left_out_on_purpose_resumes_without_a_gap() {
        let now = test_epoch();
        let mut track = TrackRewrite::new(10, 0, 90_000);
        track.map(packet(1, 1, 0), now);
        assert!(track.continues(1));
        track.resume_later();
        assert!(!track.continues(1));
        assert_eq!(track.map(packet(1, 1, 0), now), None, "sent before the pause");
        let mapped = track.map(packet(1, 5_000, 90_000), now).unwrap();
        assert_eq!((mapped.sequence, mapped.timestamp), (11, 90_000));
        assert!(track.continues(1) && !track.continues(2));
    }

    #[test]
    fn a_track_may_turn_to_a_source_of_an_older_epoch() {
        let now = test_epoch();
        let mut track = TrackRewrite::new(10, 0, 90_000);
        track.map(packet(7, 1, 0), now);
        assert_eq!(track.map(packet(5, 900, 0), now), None);
        track.resume_later();
        assert_eq!(track.map(packet(5, 900, 0), now).unwrap().sequence, 11);
        assert_eq!(track.map(packet(5, 901, 0), now).unwrap().sequence, 12);
    }

    #[test]
    fn a_nack_finds_its_source_within_the_run() {
        let now = test_epoch();
        let mut track = TrackRewrite::new(10, 0, 90_000);
        track.map(packet(4, 100, 0), now);
        track.map(packet(4, 103, 0), now);
        assert_eq!(track.source_of(12), Some((4, 102)));
        assert_eq!(track.source_of(9), None);
        assert_eq!(track.source_of(14), None, "not sent yet");
        track.map(packet(5, 7, 0), now);
        assert_eq!(track.source_of(13), None, "an older epoch");
        assert_eq!(track.source_of(14), Some((5, 7)));
    }

    #[test]
    fn vp8_ids_run_on_across_a_switch_and_wrap_at_their_widths() {
        let now = test_epoch();
        let mut track = TrackRewrite::new(10, 0, 90_000);
        assert_eq!(ids(track.map(vp8(1, 1, 0x7ffe, 254), now)), (0x7ffe, 254));
        assert_eq!(ids(track.map(vp8(1, 3, 0x0000, 0), now)), (0, 0));
        assert_eq!(ids(track.map(vp8(1, 2, 0x7fff, 255), now)), (0x7fff, 255), "late");
        assert_eq!(ids(track.map(vp8(2, 50, 900, 77), now)), (1, 1), "the next ones");
        assert_eq!(ids(track.map(vp8(2, 51, 901, 77), now)), (2, 1));
    }

    #[test]
    fn a_source_without_vp8_ids_in_between_does_not_lose_the_count() {
        let now = test_epoch();
        let mut track = TrackRewrite::new(10, 0, 90_000);
        track.map(vp8(1, 1, 20, 3), now);
        let bare = SourcePacket { vp8: Some(Vp8Ids::default()), ..packet(2, 1, 0) };
        assert_eq!(track.map(bare, now).unwrap().vp8, Some(Vp8Ids::default()));
        assert_eq!(ids(track.map(vp8(3, 1, 500, 60), now)), (21, 4));
    }

    proptest! {
        #[test]
        fn no_two_source_packets_share_an_output_number(
            packets in prop::collection::vec((0_u64..4, 0_u64..40_000, any::<u32>(), any::<bool>()), 1..200),
        ) {
            let now = test_epoch();
            let mut track = TrackRewrite::new(1, 2, 48_000);
            let mut seen = std::collections::BTreeMap::new();
            for (epoch, sequence, timestamp, pause) in packets {
                if pause {
                    track.resume_later();
                }
                if let Some(mapped) = track.map(packet(epoch, sequence, timestamp), now) {
                    let source = (epoch, sequence);
                    prop_assert_eq!(*seen.entry(mapped.sequence).or_insert(source), source);
                }
            }
        }

        #[test]
        fn extremes_do_not_panic(
            packets in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u32>(), any::<u16>(), any::<u8>(), any::<bool>(), any::<u32>()), 1..50),
        ) {
            let mut now = test_epoch();
            let mut track = TrackRewrite::new(1, 2, u32::MAX);
            for (epoch, sequence, timestamp, picture_id, tl0, long, elapsed_ms) in packets {
                now += Duration::from_millis(u64::from(elapsed_ms));
                let ids = Vp8Ids { picture_id: Some(PictureId::new(picture_id, long)), tl0_pic_idx: Some(tl0) };
                track.map(SourcePacket { vp8: Some(ids), ..packet(epoch, sequence, timestamp) }, now);
            }
        }
    }
}

//! RTP samples from `tests/data/rtp/sessions`, as a publisher's packets.
//!
//! Format: `u32 ms | u8 stream (0 video, 1 audio) | u8 rtcp | u16 length | bytes`, all big endian, repeated.

use std::path::Path;
use std::time::{Duration, Instant};

use onair::hub::io::{MediaPacket, SenderReport};
use onair::rtp::codec::{Codec, TrackKind};
use onair::rtp::keyframe::starts_keyframe;

/// Where the publisher's NTP clock stands when a sample begins.
const NTP_BEGIN: u64 = 3_950_000_000 << 32;

/// One packet of a sample.
#[derive(Debug, Clone)]
pub struct SamplePacket {
    /// Audio or video.
    pub kind: TrackKind,
    /// When it arrived, by its own timestamp: pictures and sound of one moment arrive together.
    pub at: Duration,
    /// The sequence number, extended.
    pub sequence: u64,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A sample and how it is to be sent.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The codec of its video.
    pub codec: Codec,
    /// Its packets in the order in which they arrive.
    pub packets: Vec<SamplePacket>,
    /// The first timestamps of video and sound, which belong to one moment.
    first: [u32; 2],
    /// From when on the packets carry sender reports.
    pub reports_from: Option<Duration>,
    /// The epoch of its packets.
    pub epoch: u32,
    /// When its first timestamps were.
    later: Duration,
}

/// Reads a sample; its name ends with its codec.
pub fn sample(name: &str) -> Sample {
    let codec: Codec = name.rsplit('-').next().unwrap().parse().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rtp/sessions").join(format!("{name}.rtpd"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut rest, mut packets) = (bytes.as_slice(), Vec::new());
    let mut first = [None; 2];
    let mut latest = [None::<u64>; 2];
    while let [_, _, _, _, stream, rtcp, high, low, body @ ..] = rest {
        let (packet, after) = body.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        rest = after;
        if *rtcp != 0 {
            continue;
        }
        let stream = usize::from(*stream);
        let short = u64::from(u16::from_be_bytes([packet[2], packet[3]]));
        let sequence = latest[stream].map_or(short | 0x10000, |latest| {
            let forward = (short as u16).wrapping_sub(latest as u16).cast_signed();
            latest.wrapping_add_signed(i64::from(forward))
        });
        latest[stream] = Some(sequence);
        let timestamp = u32::from_be_bytes(packet[4..8].try_into().unwrap());
        let first = *first[stream].get_or_insert(timestamp);
        let rate_hz = if stream == 0 { 90_000.0 } else { 48_000.0 };
        packets.push(SamplePacket {
            kind: if stream == 0 { TrackKind::Video } else { TrackKind::Audio },
            at: Duration::from_secs_f64(f64::from(timestamp.wrapping_sub(first)) / rate_hz),
            sequence,
            timestamp,
            marker: packet[1] & 0x80 != 0,
            payload: packet[12..].to_vec(),
        });
    }
    packets.sort_by_key(|packet| packet.at);
    Sample {
        codec,
        packets,
        first: first.map(Option::unwrap),
        reports_from: Some(Duration::ZERO),
        epoch: 0,
        later: Duration::ZERO,
    }
}

/// A number that looks random and is the same each time (SplitMix64).
pub fn noise(seed: u64, index: usize) -> u64 {
    let mut z = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Sample {
    /// Leaves out what the test does not want.
    pub fn keep(mut self, wanted: impl Fn(&SamplePacket) -> bool) -> Self {
        self.packets.retain(wanted);
        self
    }

    /// Loses packets by their place in the order of arrival.
    pub fn losing(mut self, is_lost: impl Fn(usize) -> bool) -> Self {
        let mut index = 0;
        self.packets.retain(|_| {
            index += 1;
            !is_lost(index)
        });
        self
    }

    /// Only the video, or only the sound.
    pub fn only(self, kind: TrackKind) -> Self {
        self.keep(|packet| packet.kind == kind)
    }

    /// From when on sender reports come with the packets.
    pub fn reports_from(mut self, from: Option<Duration>) -> Self {
        self.reports_from = from;
        self
    }

    /// Makes its packets arrive in another order or at other times.
    pub fn arriving(mut self, delay: impl Fn(usize, &SamplePacket) -> Duration) -> Self {
        for (index, packet) in self.packets.iter_mut().enumerate() {
            packet.at += delay(index, packet);
        }
        self.packets.sort_by_key(|packet| packet.at);
        self
    }

    /// Plays it so many times, one time after the other, as one stream.
    pub fn repeated(mut self, times: u32) -> Self {
        let pictures = self.pictures() as u32;
        let length = Duration::from_millis(u64::from(pictures) * 1000 / 30);
        let once = self.packets.clone();
        let numbers = |kind| once.iter().filter(|packet| packet.kind == kind).count() as u64;
        for time in 1..times {
            self.packets.extend(once.iter().cloned().map(|mut packet| {
                let rate_hz = if packet.kind == TrackKind::Video { 90 } else { 48 };
                packet.at += length * time;
                packet.sequence += numbers(packet.kind) * u64::from(time);
                let ticks = (u64::from(pictures) * 1000 * rate_hz / 30) as u32;
                packet.timestamp = packet.timestamp.wrapping_add(ticks.wrapping_mul(time));
                packet
            }));
        }
        self.packets.sort_by_key(|packet| packet.at);
        self
    }

    /// One picture and one packet of sound again and again, so far apart and so often.
    pub fn paced(mut self, apart: Duration, times: u64) -> Self {
        let key = self.packets.iter().position(|packet| packet.kind == TrackKind::Video).unwrap();
        let key = self.packets[key].timestamp;
        let picture: Vec<_> =
            self.packets.iter().filter(|p| p.kind == TrackKind::Video && p.timestamp == key).collect();
        let sound = self.packets.iter().find(|packet| packet.kind == TrackKind::Audio).unwrap();
        let once: Vec<SamplePacket> = picture.into_iter().chain([sound]).cloned().collect();
        let numbers = (once.len() - 1) as u64;
        self.packets.clear();
        for time in 0..times {
            self.packets.extend(once.iter().cloned().map(|mut packet| {
                let is_picture = packet.kind == TrackKind::Video;
                let rate_hz = if is_picture { 90_000 } else { 48_000 };
                packet.at += apart * time as u32;
                packet.sequence += time * if is_picture { numbers } else { 1 };
                packet.timestamp = packet.timestamp.wrapping_add((apart.as_secs() * time * rate_hz) as u32);
                packet
            }));
        }
        self
    }

    /// The same as another source sends it: later, and with numbers of its own.
    pub fn sent_by_another_source(mut self, epoch: u32, later: Duration) -> Self {
        for packet in &mut self.packets {
            packet.at += later;
            packet.sequence += 1 << 20;
            packet.timestamp = packet.timestamp.wrapping_add(0x1234_5678);
        }
        self.first = self.first.map(|first| first.wrapping_add(0x1234_5678));
        self.epoch = epoch;
        self.later = later;
        self
    }

    /// Leaves out every keyframe but the first, as if the encoder had never made another.
    pub fn with_one_keyframe(mut self) -> Self {
        let is_video = |packet: &SamplePacket| packet.kind == TrackKind::Video;
        let key = |packet: &SamplePacket| is_video(packet) && starts_keyframe(self.codec, &packet.payload);
        let mut keys: Vec<u32> =
            self.packets.iter().filter(|packet| key(packet)).map(|packet| packet.timestamp).collect();
        keys.dedup();
        let first = keys[0];
        let first_sequence = self.packets.iter().find(|packet| is_video(packet)).unwrap().sequence;
        self.packets
            .retain(|packet| !is_video(packet) || packet.timestamp == first || !keys.contains(&packet.timestamp));
        let video = self.packets.iter_mut().filter(|packet| is_video(packet));
        video.zip(first_sequence..).for_each(|(packet, sequence)| packet.sequence = sequence);
        self
    }

    /// How many pictures it holds.
    pub fn pictures(&self) -> usize {
        let mut timestamps: Vec<u32> = self
            .packets
            .iter()
            .filter(|packet| packet.kind == TrackKind::Video)
            .map(|packet| packet.timestamp)
            .collect();
        timestamps.sort_unstable();
        timestamps.dedup();
        timestamps.len()
    }

    /// How long one of its tracks lasts, in seconds, from its first timestamp to its last.
    pub fn duration_of(&self, kind: TrackKind) -> f64 {
        let at = || self.packets.iter().filter(|packet| packet.kind == kind).map(|packet| packet.at);
        let (first, last) = (at().min().unwrap_or_default(), at().max().unwrap_or_default());
        (last - first).as_secs_f64()
    }

    /// Its packets as the hub hands them on, when the sample begins at `begin`.
    pub fn media(&self, begin: Instant) -> impl Iterator<Item = MediaPacket> + '_ {
        self.packets.iter().map(move |packet| {
            let codec = if packet.kind == TrackKind::Video { self.codec } else { Codec::Opus };
            let whole_s = packet.at.saturating_sub(self.later).as_secs();
            let sender_report = self.reports_from.filter(|from| packet.at >= *from).map(|_| SenderReport {
                ntp: NTP_BEGIN + (whole_s << 32) + ((self.later.as_micros() << 32) / 1_000_000) as u64,
                rtp: self.first[usize::from(packet.kind == TrackKind::Audio)]
                    .wrapping_add((whole_s as u32).wrapping_mul(codec.clock_rate_hz())),
            });
            MediaPacket {
                kind: packet.kind,
                codec,
                epoch: self.epoch,
                sequence: packet.sequence,
                timestamp: packet.timestamp,
                marker: packet.marker,
                payload: packet.payload.as_slice().into(),
                arrival: begin + packet.at,
                sender_report,
            }
        })
    }
}

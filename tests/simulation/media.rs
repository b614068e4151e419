//! Synthetic sound and pictures, packetised as real encoders do, each packet with a token that names it.
//!
//! **Invariant:** what a keyframe begins with is what the codec's payload format says, so that the server finds it; no two
//! packets of one simulation have the same token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use onair::rtp::codec::{Codec, TrackKind};
use onair::rtp::keyframe::starts_keyframe;
use onair::rtp::vp8::Vp8Descriptor;
use str0m::media::{Frequency, MediaTime};
use str0m::rtp::ExtensionValues;

/// How much of a frame's bytes one packet holds.
const PACKET_BYTES: usize = 160;

/// Names one packet of one stint of a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    /// Which encoder of the simulation made it.
    pub encoder: u16,
    /// Its place among all that this encoder made.
    pub index: u32,
}

impl Token {
    /// Of what no encoder of the simulation made.
    pub const NONE: Self = Self { encoder: u16::MAX, index: u32::MAX };

    /// The token that `payload` ends with. A browser's packet, which bears none, may be shorter than one.
    pub fn of(payload: &[u8]) -> Self {
        let Some(bytes) = payload.last_chunk::<6>() else {
            return Self::NONE;
        };
        Self {
            encoder: u16::from_be_bytes([bytes[0], bytes[1]]),
            index: u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]),
        }
    }

    fn bytes(self) -> [u8; 6] {
        let (encoder, index) = (self.encoder.to_be_bytes(), self.index.to_be_bytes());
        [encoder[0], encoder[1], index[0], index[1], index[2], index[3]]
    }
}

/// One packet as it was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The extended sequence number.
    pub sequence: u64,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// Whether a frame ends with it.
    pub marker: bool,
    /// The payload.
    pub payload: Arc<[u8]>,
    /// The header extensions.
    pub extensions: ExtensionValues,
    /// When its frame was captured.
    pub captured: Instant,
    /// Whether it is the first of a keyframe.
    pub starts_keyframe: bool,
}

/// One track's encoder and packetiser.
#[derive(Debug)]
pub struct Encoder {
    /// The codec.
    pub codec: Codec,
    /// Everything it made, in order.
    pub sent: Vec<Sent>,
    /// When the next frame is captured.
    pub next_at: Instant,
    /// When the next keyframe is due; `None` while nobody asked for one.
    pub keyframe_at: Option<Instant>,
    /// Packets of a delta frame.
    pub delta_packets: usize,
    /// Frames are so far apart.
    pub interval: Duration,
    /// Its name in tokens.
    pub number: u16,
    sequence: u64,
    start: Instant,
    first_timestamp: u32,
    picture_id: u16,
    tl0_pic_idx: u8,
}

/// Packets of a keyframe.
const KEYFRAME_PACKETS: usize = 7;

impl Encoder {
    /// An encoder whose first frame is captured at `start`.
    pub fn new(codec: Codec, number: u16, start: Instant, random: &mut fastrand::Rng) -> Self {
        let is_video = codec.kind() == TrackKind::Video;
        Self {
            codec,
            sent: Vec::new(),
            next_at: start,
            keyframe_at: is_video.then_some(start),
            delta_packets: 2,
            interval: if is_video { Duration::from_micros(33_333) } else { Duration::from_millis(20) },
            number,
            sequence: random.u64(..65_000),
            start,
            first_timestamp: random.u32(..),
            picture_id: random.u16(..0x8000),
            tl0_pic_idx: random.u8(..),
        }
    }

    /// Goes on counting where another encoder of the same stream stopped: what an encoder does that changes its codec.
    pub fn continuing(mut self, before: &Self) -> Self {
        self.sequence = before.sequence;
        self.first_timestamp = before.first_timestamp;
        self.start = before.start;
        self
    }

    /// Captures its first frame at `start`.
    pub fn starts_at(&mut self, start: Instant) {
        self.start = start;
        self.next_at = start;
    }

    /// Someone asks for a keyframe.
    pub fn request_keyframe(&mut self, at: Instant) {
        self.keyframe_at.get_or_insert(at);
    }

    /// Captures the frame that is due now, and returns where its packets begin in [`sent`](Self::sent).
    pub fn capture(&mut self) -> usize {
        let captured = self.next_at;
        self.next_at += self.interval;
        let is_key = self.keyframe_at.is_some_and(|at| at <= captured);
        if is_key {
            self.keyframe_at = None;
        }
        let first = self.sent.len();
        let elapsed_ns = (captured - self.start).as_nanos();
        let ticks = elapsed_ns * u128::from(self.codec.clock_rate_hz()) / 1_000_000_000;
        let timestamp = self.first_timestamp.wrapping_add(ticks as u32);
        let mut heads = match self.codec {
            Codec::Vp8 => self.vp8_heads(is_key),
            Codec::H264 => self.h264_heads(is_key),
            Codec::Vp9 => self.vp9_heads(is_key),
            Codec::Av1 => self.av1_heads(is_key),
            Codec::Opus => vec![vec![0x78]],
            other => panic!("no encoder for {other}"),
        };
        let last = heads.len() - 1;
        for (place, head) in heads.iter_mut().enumerate() {
            let token = Token { encoder: self.number, index: (first + place) as u32 };
            let mut payload = std::mem::take(head);
            if self.codec != Codec::Opus {
                payload.resize(PACKET_BYTES + place, 0x55);
            }
            payload.extend(token.bytes());
            let is_start = is_key && place == 0;
            assert!(!is_start || starts_keyframe(self.codec, &payload), "the payload made is no keyframe");
            self.sent.push(Sent {
                sequence: self.sequence,
                timestamp,
                marker: self.codec != Codec::Opus && place == last,
                payload: payload.into(),
                extensions: extensions(self.codec.kind(), token.index),
                captured,
                starts_keyframe: is_start,
            });
            self.sequence += 1;
        }
        first
    }

    /// RFC 7741: a descriptor with a long PictureID and TL0PICIDX, then the frame's tag.
    fn vp8_heads(&mut self, is_key: bool) -> Vec<Vec<u8>> {
        let packets = if is_key { KEYFRAME_PACKETS } else { self.delta_packets };
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        self.tl0_pic_idx = self.tl0_pic_idx.wrapping_add(1);
        let [high, low] = self.picture_id.to_be_bytes();
        (0..packets)
            .map(|place| {
                let start = if place == 0 { 0x10 } else { 0 };
                let mut head = vec![0x80 | start, 0xe0, 0x80 | high, low, self.tl0_pic_idx, 0];
                if place == 0 {
                    head.push(if is_key { 0x10 } else { 0x11 });
                    if is_key {
                        head.extend([0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00]);
                    }
                }
                head
            })
            .collect()
    }

    /// RFC 9628: a descriptor with a long PictureID and no layer indices, then the frame's header.
    fn vp9_heads(&mut self, is_key: bool) -> Vec<Vec<u8>> {
        let packets = if is_key { KEYFRAME_PACKETS } else { self.delta_packets };
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        let [high, low] = self.picture_id.to_be_bytes();
        let predicted = if is_key { 0 } else { 0x40 };
        (0..packets)
            .map(|place| {
                let begins = if place == 0 { 0x08 } else { 0 };
                let ends = if place + 1 == packets { 0x04 } else { 0 };
                let mut head = vec![0x80 | predicted | begins | ends, 0x80 | high, low];
                if place == 0 && is_key {
                    // Frame marker, profile 0, a keyframe that is shown; the sync code; 320 by 180 of 8 bits, 4:2:0.
                    head.extend([0x82, 0x49, 0x83, 0x42, 0x20, 0x13, 0xf0, 0x0b, 0x30]);
                }
                head
            })
            .collect()
    }

    /// The AV1 payload format: an aggregation header of one element that runs through all packets of the frame.
    fn av1_heads(&mut self, is_key: bool) -> Vec<Vec<u8>> {
        let packets = if is_key { KEYFRAME_PACKETS } else { self.delta_packets };
        (0..packets)
            .map(|place| {
                let goes_on = if place == 0 { 0 } else { 0x80 };
                let to_go_on = if place + 1 == packets { 0 } else { 0x40 };
                let begins_sequence = if is_key && place == 0 { 0x08 } else { 0 };
                vec![goes_on | to_go_on | 0x10 | begins_sequence, if place == 0 { 0x32 } else { 0x55 }]
            })
            .collect()
    }

    /// RFC 6184: of a keyframe, SPS and PPS in packets of their own, then one slice in FU-A fragments.
    fn h264_heads(&mut self, is_key: bool) -> Vec<Vec<u8>> {
        let mut heads = Vec::new();
        if is_key {
            heads.push(vec![0x67, 0x42, 0xe0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0x90]);
            heads.push(vec![0x68, 0xce, 0x3c, 0x80]);
        }
        let fragments = if is_key { KEYFRAME_PACKETS - 2 } else { self.delta_packets };
        let kind = if is_key { 5 } else { 1 };
        for place in 0..fragments {
            let start = if place == 0 { 0x80 } else { 0 };
            let end = if place + 1 == fragments { 0x40 } else { 0 };
            heads.push(vec![0x7c, start | end | kind, if place == 0 { 0x88 } else { 0x21 }]);
        }
        heads
    }
}

/// Header extensions that differ from packet to packet, some of which have none.
fn extensions(kind: TrackKind, index: u32) -> ExtensionValues {
    let mut values = ExtensionValues::default();
    match kind {
        TrackKind::Audio if !index.is_multiple_of(5) => {
            values.audio_level = Some(-((index % 128) as i8));
            values.voice_activity = Some(index.is_multiple_of(3));
        }
        TrackKind::Video => {
            use str0m::rtp::VideoOrientation::{Deg0, Deg90, Deg180, Deg270};
            let orientations = [None, Some(Deg0), Some(Deg90), Some(Deg180), Some(Deg270)];
            values.video_orientation = orientations[index as usize % orientations.len()];
            if index.is_multiple_of(3) {
                let hundredths = |count| Some(MediaTime::new(count, Frequency::HUNDREDTHS));
                values.play_delay_min = hundredths(u64::from(index % 0xff0));
                values.play_delay_max = hundredths(u64::from(index % 0xff0 + 5));
            }
        }
        TrackKind::Audio => {}
    }
    values
}

/// A payload without what is rewritten on its way.
pub fn without_ids(codec: Codec, payload: &[u8]) -> &[u8] {
    match codec {
        Codec::Vp8 => &payload[Vp8Descriptor::parse(payload).expect("a VP8 payload").len_bytes()..],
        _ => payload,
    }
}

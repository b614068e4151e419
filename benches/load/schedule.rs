//! What a broadcast sends, and when: the same for the broadcaster and for the bare sender.
//!
//! **Invariant:** one schedule is one sequence of bursts, in the order of their times, and its video keeps the bitrate
//! exactly in the long run.

use std::time::Duration;

use onair::rtp::codec::TrackKind;

/// The most that a packet of video carries, in bytes.
pub const PAYLOAD_MAX_BYTES: u64 = 1_100;

/// What a packet of sound carries: 48 kbit/s.
const SOUND_BYTES: u64 = 120;

const SOUND_INTERVAL: Duration = Duration::from_millis(20);
const FRAMES_PER_SECOND: u32 = 30;

/// libwebrtc's pacer looks so often at what it has to send, …
const PACER_INTERVAL: Duration = Duration::from_millis(5);

/// … and sends at so many times the bitrate, in quarters.
const PACER_QUARTERS: u64 = 10;

/// What leaves the broadcaster at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// What a browser's pacer lets go.
    Paced,
    /// A whole frame.
    Frame,
}

/// Packets that leave together.
#[derive(Debug, Clone)]
pub struct Burst {
    /// When, after the beginning.
    pub at: Duration,
    /// When what they carry was captured.
    pub captured: Duration,
    /// Of which track.
    pub kind: TrackKind,
    /// What each carries, in bytes.
    pub payloads_bytes: Vec<usize>,
    /// Whether a frame begins with the first.
    pub starts_frame: bool,
    /// Whether a frame ends with the last.
    pub ends_frame: bool,
}

/// All bursts of a broadcast, without end.
#[derive(Debug)]
pub struct Schedule {
    shape: Shape,
    bitrate_bps: u64,
    frames: u32,
    sounds: u32,
    /// Bits that the bitrate allowed and that were not sent yet.
    credit_bits: u64,
    /// What is left of the present frame, last burst first.
    pending: Vec<Burst>,
    random: fastrand::Rng,
}

impl Schedule {
    /// A broadcast that begins now.
    pub fn new(bitrate_bps: u64, shape: Shape) -> Self {
        let random = fastrand::Rng::with_seed(1);
        Self { shape, bitrate_bps, frames: 0, sounds: 0, credit_bits: 0, pending: Vec::new(), random }
    }

    fn capture(&mut self) {
        let captured = Duration::from_secs(1) * self.frames / FRAMES_PER_SECOND;
        self.frames += 1;
        self.credit_bits += self.bitrate_bps / u64::from(FRAMES_PER_SECOND);
        let payloads = self.packetize();
        let at_once = match self.shape {
            Shape::Frame => payloads.len(),
            Shape::Paced => {
                let budget_bits = self.bitrate_bps * PACER_QUARTERS / 4 * PACER_INTERVAL.as_millis() as u64 / 1_000;
                (budget_bits.div_ceil(PAYLOAD_MAX_BYTES * 8) as usize).min(payloads.len())
            }
        };
        let bursts = payloads.chunks(at_once);
        let last = bursts.len() - 1;
        let bursts = bursts.enumerate().map(|(place, payloads)| Burst {
            at: captured + PACER_INTERVAL * place as u32,
            captured,
            kind: TrackKind::Video,
            payloads_bytes: payloads.to_vec(),
            starts_frame: place == 0,
            ends_frame: place == last,
        });
        self.pending = bursts.rev().collect();
    }

    /// A frame's bytes in packets whose sizes differ by one byte at most, as libwebrtc's packetisers split them.
    fn packetize(&mut self) -> Vec<usize> {
        let bytes = self.credit_bits / 8;
        let packets = (bytes / PAYLOAD_MAX_BYTES).max(1);
        let most = bytes.min(PAYLOAD_MAX_BYTES * packets).max(64);
        let frame = most - self.random.u64(..10 * packets).min(most / 10);
        self.credit_bits = self.credit_bits.saturating_sub(frame * 8);
        let (size, larger) = (frame / packets, frame % packets);
        (0..packets).map(|place| (size + u64::from(place >= packets - larger)) as usize).collect()
    }
}

impl Iterator for Schedule {
    type Item = Burst;

    fn next(&mut self) -> Option<Burst> {
        if self.pending.is_empty() {
            self.capture();
        }
        let sound_at = SOUND_INTERVAL * self.sounds;
        if self.pending.last().is_some_and(|video| video.at <= sound_at) {
            return self.pending.pop();
        }
        self.sounds += 1;
        Some(Burst {
            at: sound_at,
            captured: sound_at,
            kind: TrackKind::Audio,
            payloads_bytes: vec![SOUND_BYTES as usize],
            starts_frame: true,
            ends_frame: false,
        })
    }
}

//! The broadcaster: sends the schedule, each packet with the time of its sending.
//!
//! **Invariant:** while it pauses nothing of its media is under way, so that what was sent and what arrived can be held
//! against each other.

use std::iter::Peekable;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use onair::net::receive::ReceiveBatch;
use onair::rtp::codec::{Codec, TrackKind};
use serde_json::json;
use str0m::media::{Direction, Mid};
use str0m::rtp::RtpWrite;

use super::endpoint::Endpoint;
use super::schedule::{Burst, Schedule};
use super::stamp::Stamp;

/// Where one of its tracks stands.
#[derive(Debug, Clone, Copy)]
struct Track {
    mid: Mid,
    payload_type: u8,
    sequence: u64,
}

/// The broadcaster.
pub struct Publisher {
    /// Its connections.
    pub endpoint: Endpoint,
    /// Packets that it has sent.
    pub sent: u64,
    /// What those of video carried, in bytes.
    pub video_bytes: u64,
    /// How much later than planned each burst left.
    pub lateness: Vec<Duration>,
    started_at: Instant,
    tracks: Option<[Track; 2]>,
    running: Option<(Instant, Peekable<Schedule>)>,
    stamp: Stamp,
    picture_id: u16,
}

impl Publisher {
    /// Registers `room/user`.
    pub fn register(http: SocketAddr, room: &str, user: &str, stamp: Stamp, now: Instant) -> Self {
        let mut endpoint = Endpoint::open(http, 1, now);
        let sdp = endpoint.client.offer([true, true], Direction::SendOnly, &["health-check"]);
        endpoint.say(&json!({"type": "register", "room": room, "user": user, "sdp": sdp}));
        Self {
            endpoint,
            sent: 0,
            video_bytes: 0,
            lateness: Vec::new(),
            started_at: now,
            tracks: None,
            running: None,
            stamp,
            picture_id: 0,
        }
    }

    /// Begins, or goes on.
    pub fn resume(&mut self, schedule: Schedule, now: Instant) {
        self.tracks.get_or_insert_with(|| {
            let client = &self.endpoint.client;
            [(0, Codec::Opus), (1, Codec::Vp8)].map(|(index, codec)| {
                let mid = client.mids[index].expect("both were offered");
                Track { mid, payload_type: client.payload_type(mid, codec), sequence: 1_000 }
            })
        });
        self.running = Some((now, schedule.peekable()));
    }

    /// Sends nothing more until it goes on.
    pub fn pause(&mut self) {
        self.running = None;
    }

    /// When the next burst is due.
    pub fn due_at(&mut self) -> Option<Instant> {
        let (begun_at, schedule) = self.running.as_mut()?;
        Some(*begun_at + schedule.peek()?.at)
    }

    /// Sends the bursts that are due.
    pub fn send_due(&mut self) {
        loop {
            let now = Instant::now();
            if self.due_at().is_none_or(|at| at > now) {
                return;
            }
            let Some((begun_at, schedule)) = &mut self.running else {
                return;
            };
            let Some(burst) = schedule.next() else {
                return;
            };
            let begun_at = *begun_at;
            self.lateness.push(now.saturating_duration_since(begun_at + burst.at));
            self.send(&burst, begun_at + burst.captured, now);
        }
    }

    fn send(&mut self, burst: &Burst, captured: Instant, now: Instant) {
        let Some(track) = self.tracks.as_mut().map(|tracks| &mut tracks[usize::from(burst.kind == TrackKind::Video)])
        else {
            return;
        };
        let starts_picture = burst.kind == TrackKind::Video && burst.starts_frame;
        let is_key = starts_picture && !std::mem::take(&mut self.endpoint.client.keyframe_requests).is_empty();
        self.picture_id = self.picture_id.wrapping_add(u16::from(starts_picture));
        let rate_hz: u128 = if burst.kind == TrackKind::Video { 90_000 } else { 48_000 };
        let timestamp = ((captured - self.started_at).as_nanos() * rate_hz / 1_000_000_000) as u32;
        let mut api = self.endpoint.client.rtc.direct_api();
        let stream = api.stream_tx_by_mid(track.mid, None).expect("a stream for each track");
        let last = burst.payloads_bytes.len() - 1;
        for (place, len_bytes) in burst.payloads_bytes.iter().enumerate() {
            let is_first = burst.starts_frame && place == 0;
            let mut payload = match burst.kind {
                TrackKind::Audio => vec![0x78],
                TrackKind::Video => vp8_head(self.picture_id, is_first, is_first && is_key),
            };
            payload.resize(*len_bytes, Stamp::FILLER);
            self.stamp.write(now, &mut payload);
            let write = RtpWrite::new(track.payload_type.into(), track.sequence.into(), timestamp, captured, payload)
                .marker(burst.ends_frame && place == last)
                .nackable(burst.kind == TrackKind::Video);
            stream.write_rtp(write);
            track.sequence += 1;
        }
        self.sent += burst.payloads_bytes.len() as u64;
        if burst.kind == TrackKind::Video {
            self.video_bytes += burst.payloads_bytes.iter().sum::<usize>() as u64;
        }
        self.endpoint.send_written(now);
    }

    /// Takes what came for it.
    pub fn drain(&mut self, inbox: &mut ReceiveBatch) {
        let now = Instant::now();
        while inbox.fill(&self.endpoint.socket).expect("the socket works") {
            for datagram in inbox.datagrams() {
                self.endpoint.take(datagram.source, datagram.bytes, now);
            }
        }
    }
}

/// RFC 7741: a descriptor with a long PictureID and TL0PICIDX, then, where a frame begins, its tag and key frame header.
fn vp8_head(picture_id: u16, starts_frame: bool, is_key: bool) -> Vec<u8> {
    let [high, low] = picture_id.to_be_bytes();
    let mut head = vec![0x80 | u8::from(starts_frame) << 4, 0xe0, 0x80 | high, low, low, 0];
    if starts_frame {
        head.push(if is_key { 0x10 } else { 0x11 });
    }
    if is_key {
        head.extend([0x00, 0x00, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02]);
    }
    head
}

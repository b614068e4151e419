//! The RTP streams that go into one ffmpeg.
//!
//! The streams are ours: SSRCs, payload types, unbroken sequence numbers, and timestamps that begin where the file does.
//! A sender report for each goes ahead of the first packet and follows each second, since ffmpeg places both streams by
//! them, and reads timestamps as distances to the latest one.
//!
//! **Invariant:** the packets of a picture go out with nothing between them (ffmpeg's AV1 reader needs it), and the
//! timestamps of a stream rise.

use std::io;

use super::command::Streams;
use super::process::Input;
use super::quirks::readable;
use super::sdp::{self, describe};
use crate::rtp::codec::{Codec, TrackKind};
use crate::rtp::header::{FIXED_HEADER_BYTES, FixedHeader};

/// Where the file's clock begins, in NTP seconds. Any moment does.
const NTP_BASE_S: u64 = 3_900_000_000;

/// One stream towards ffmpeg.
#[derive(Debug)]
struct RtpStream {
    payload_type: u8,
    ssrc: u32,
    rate_hz: u32,
    sequence: u16,
    /// The timestamp of the last packet.
    latest: Option<u32>,
    /// Whether a moment came that lay before an earlier one.
    went_back: bool,
}

impl RtpStream {
    fn new(kind: TrackKind, rate_hz: u32) -> Self {
        let sdp::Stream { payload_type, ssrc } = sdp::stream(kind);
        Self { payload_type, ssrc, rate_hz, sequence: 0, latest: None, went_back: false }
    }

    /// The timestamp for a moment of the file: later than the last one.
    fn stamp(&mut self, at_ns: u64) -> u32 {
        let ticks = (u128::from(at_ns) * u128::from(self.rate_hz) + 500_000_000) / 1_000_000_000;
        // RTP timestamps wrap (RFC 3550 §5.1).
        let mut stamp = ticks as u32;
        if let Some(latest) = self.latest
            && stamp.wrapping_sub(latest).cast_signed() <= 0
        {
            let back_ticks = latest.wrapping_sub(stamp);
            if !self.went_back && back_ticks > self.rate_hz / 1000 {
                self.went_back = true;
                tracing::warn!(
                    "pictures come in another order than they are shown in: turn B-frames off in the encoder"
                );
            }
            stamp = latest.wrapping_add(1);
        }
        self.latest = Some(stamp);
        stamp
    }

    fn header(&mut self, timestamp: u32, marker: bool) -> FixedHeader {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        FixedHeader { marker, payload_type: self.payload_type, sequence, timestamp, ssrc: self.ssrc }
    }

    /// A sender report (RFC 3550 §6.4.1) for a whole second of the file.
    fn report(&self, second: u64) -> [u8; 28] {
        let mut report = [0; 28];
        let ntp_s = NTP_BASE_S.wrapping_add(second) as u32;
        let rtp = second.wrapping_mul(u64::from(self.rate_hz)) as u32;
        let words = [0x80c8_0006, self.ssrc, ntp_s, 0, rtp, 0, 0];
        for (chunk, word) in report.chunks_exact_mut(4).zip(words) {
            chunk.copy_from_slice(&word.to_be_bytes());
        }
        report
    }
}

/// What one ffmpeg is fed.
#[derive(Debug)]
pub struct Feed {
    input: Input,
    streams: Streams,
    video: RtpStream,
    audio: RtpStream,
    next_report_s: u64,
    buffer: Vec<u8>,
}

impl Feed {
    /// Tells ffmpeg what will come.
    ///
    /// # Errors
    ///
    /// As [`Input::send`].
    pub async fn begin(input: Input, streams: Streams) -> io::Result<Self> {
        input.begin(&describe(streams.video, streams.audio.is_some())).await?;
        Ok(Self {
            input,
            streams,
            video: RtpStream::new(TrackKind::Video, Codec::H264.clock_rate_hz()),
            audio: RtpStream::new(TrackKind::Audio, Codec::Opus.clock_rate_hz()),
            next_report_s: 0,
            buffer: Vec::with_capacity(2048),
        })
    }

    /// Sends the packets of one picture, or one packet of sound, for a moment of the file; returns how many were sent.
    ///
    /// # Errors
    ///
    /// As [`Input::send`].
    pub async fn send(
        &mut self,
        kind: TrackKind,
        at_ns: u64,
        codec: Codec,
        payloads: &[impl AsRef<[u8]>],
    ) -> io::Result<u64> {
        self.report_until(at_ns).await?;
        let stream = match kind {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
        };
        let timestamp = stream.stamp(at_ns);
        // Layers above the base are left out, so the last packet that goes out must bear the marker.
        let last = payloads.iter().rposition(|payload| readable(codec, payload.as_ref()).is_some());
        let mut count = 0_u64;
        for (index, payload) in payloads.iter().enumerate() {
            let Some((first, rest)) = readable(codec, payload.as_ref()) else {
                continue;
            };
            let marker = kind == TrackKind::Video && last == Some(index);
            self.buffer.clear();
            self.buffer.resize(FIXED_HEADER_BYTES, 0);
            stream.header(timestamp, marker).write(&mut self.buffer).map_err(io::Error::other)?;
            self.buffer.extend(first);
            self.buffer.extend_from_slice(rest);
            self.input.send(&self.buffer).await?;
            count = count.saturating_add(1);
        }
        Ok(count)
    }

    /// Tells ffmpeg that nothing more comes, and gives back the input, which must stay until ffmpeg has ended.
    pub fn end(self) -> Input {
        self.input.end();
        self.input
    }

    /// Sends the reports that are due at this moment of the file.
    async fn report_until(&mut self, at_ns: u64) -> io::Result<()> {
        let second = at_ns / 1_000_000_000;
        if second < self.next_report_s {
            return Ok(());
        }
        self.next_report_s = second.saturating_add(1);
        if self.streams.video.is_some() {
            self.input.send(&self.video.report(second)).await?;
        }
        if self.streams.audio.is_some() {
            self.input.send(&self.audio.report(second)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_rise_even_where_moments_do_not() {
        let mut stream = RtpStream::new(TrackKind::Video, 90_000);
        assert_eq!(
            [0, 33_333_333, 33_333_333, 10, 66_666_667].map(|at_ns| stream.stamp(at_ns)),
            [0, 3000, 3001, 3002, 6000]
        );
    }

    #[test]
    fn pictures_that_are_shown_in_another_order_are_noticed() {
        let mut stream = RtpStream::new(TrackKind::Video, 90_000);
        for at_ns in [0, 33_333_333, 33_333_333] {
            stream.stamp(at_ns);
        }
        assert!(!stream.went_back);
        for at_ns in [133_333_333, 66_666_667] {
            stream.stamp(at_ns);
        }
        assert!(stream.went_back);
    }

    #[test]
    fn timestamps_go_on_behind_the_wrap() {
        let mut stream = RtpStream::new(TrackKind::Video, 90_000);
        let day_ns = 86_400_000_000_000;
        assert_eq!(stream.stamp(day_ns), (86_400_u64 * 90_000) as u32);
        assert_eq!(stream.stamp(day_ns + 1_000_000_000), (86_401_u64 * 90_000) as u32);
    }

    #[test]
    fn a_report_maps_a_second_of_the_file_to_the_streams_clock() {
        let report = RtpStream::new(TrackKind::Audio, 48_000).report(2);
        assert_eq!(report[..4], [0x80, 200, 0, 6]);
        assert_eq!(report[8..12], 3_900_000_002_u32.to_be_bytes());
        assert_eq!(report[16..20], 96_000_u32.to_be_bytes());
    }
}

//! What ffmpeg is told to do.
//!
//! **Invariant:** every option here is understood by FFmpeg 5.1 and all later ones.

use std::ffi::OsString;
use std::path::Path;

use crate::rtp::codec::Codec;

/// `AVIO_FLAG_DIRECT | AVIO_FLAG_WRITE`: without it ffmpeg spins for ever when it writes its first receiver report.
const AVIO_READ_WRITE_DIRECT: &str = "32770";

/// The first picture has no timestamp (the parser's, for packets without a position in a file), and the decoding times
/// that ffmpeg guesses for what it takes for reordered pictures delay the picture by one. WebRTC reorders none: both
/// times are the packet's, and the first picture is the beginning.
const PARSED_TIMES: &str = r"setts=pts=if(eq(N\,0)\,0\,PTS):dts=if(eq(N\,0)\,0\,PTS)";

/// What a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// The video codec as it comes.
    pub video: Option<Codec>,
    /// Whether there may be sound.
    pub audio: bool,
    /// The size that a transcoded picture is scaled to.
    pub canvas: Option<(u16, u16)>,
}

impl Streams {
    /// Whether the picture is transcoded: MP4 does not hold VP8.
    pub fn is_transcoded(&self) -> bool {
        self.video == Some(Codec::Vp8)
    }
}

/// Where the file goes.
#[derive(Debug, Clone, Copy)]
pub enum Output<'a> {
    /// A file that exists and may be overwritten.
    File(&'a Path),
    /// Standard output.
    Pipe,
}

/// The arguments that record RTP from standard input.
pub fn record(streams: Streams, output: Output<'_>) -> Vec<OsString> {
    let mut arguments = words(&[
        "-nostdin -hide_banner -loglevel error -y",
        "-protocol_whitelist pipe,fd",
        // How long the streams are looked at before the file begins: sound that comes later is known from the SDP.
        "-analyzeduration 1000000 -fpsprobesize 0",
        "-avioflags",
        AVIO_READ_WRITE_DIRECT,
        "-f sdp -sdp_flags custom_io -reorder_queue_size 0 -i pipe:0",
        // Times are ours from the first packet on, also where the sound begins later.
        "-copyts",
        // Else a silent track would hold the other one back for ten seconds.
        "-max_interleave_delta 500000",
    ]);
    // By itself ffmpeg would leave out a stream of which it has not seen a packet yet.
    arguments.extend(words(&["-map 0 -c:a copy"]));
    match streams.video {
        Some(Codec::Vp8) => {
            arguments.extend(words(&[
                "-c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p",
                "-fps_mode vfr -enc_time_base 1:90000",
                "-force_key_frames expr:gte(t,n_forced*2)",
            ]));
            if let Some((width, height)) = streams.canvas {
                arguments.push("-vf".into());
                arguments.push(format!("scale={width}:{height},setsar=1").into());
            }
        }
        // ffmpeg's RTP reader never marks a VP9 keyframe.
        Some(Codec::Vp9) => arguments.extend(words(&["-c:v copy -copyinkf"])),
        Some(Codec::H264 | Codec::H265) => {
            arguments.extend(words(&["-c:v copy -bsf:v"]));
            arguments.push(PARSED_TIMES.into());
        }
        Some(Codec::Av1 | Codec::Opus) | None => arguments.extend(words(&["-c:v copy"])),
    }
    arguments.extend(words(&[
        "-movflags +frag_keyframe+empty_moov+default_base_moof+delay_moov",
        "-frag_duration 1000000 -flush_packets 1 -f mp4",
    ]));
    arguments.push(target(output));
    arguments
}

/// The arguments that copy a fragmented file into one with its index at the front.
pub fn complete(part: &Path, temporary: &Path) -> Vec<OsString> {
    let mut arguments = words(&["-nostdin -hide_banner -loglevel error -y -i"]);
    arguments.push(target(Output::File(part)));
    arguments.extend(words(&["-map 0 -c copy -movflags +faststart -f mp4"]));
    arguments.push(target(Output::File(temporary)));
    arguments
}

/// Told with its protocol, so that a colon in a path is no protocol.
fn target(output: Output<'_>) -> OsString {
    match output {
        Output::Pipe => "pipe:1".into(),
        Output::File(path) => {
            let mut target = OsString::from("file:");
            target.push(path);
            target
        }
    }
}

fn words(lines: &[&str]) -> Vec<OsString> {
    lines.iter().flat_map(|line| line.split(' ')).map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(streams: Streams) -> String {
        record(streams, Output::File(Path::new("a b.mp4"))).join(std::ffi::OsStr::new("|")).into_string().unwrap()
    }

    #[test]
    fn only_vp8_is_transcoded() {
        for codec in Codec::VIDEO {
            let streams = Streams { video: Some(codec), audio: true, canvas: Some((640, 360)) };
            assert_eq!(line(streams).contains("libx264"), codec == Codec::Vp8, "{codec}");
            assert_eq!(line(streams).contains("-c:v|copy"), codec != Codec::Vp8, "{codec}");
            assert_eq!(streams.is_transcoded(), codec == Codec::Vp8);
        }
    }

    #[test]
    fn a_path_stays_one_argument() {
        assert!(line(Streams { video: None, audio: true, canvas: None }).ends_with("|file:a b.mp4"));
    }
}

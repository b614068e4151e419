//! What ffmpeg is told to do.
//!
//! **Invariant:** every option here is understood by FFmpeg 5.1 and all later ones, but for what `Ability` found out.

use std::ffi::OsString;
use std::path::Path;

use super::quirks;
use crate::rtp::codec::Codec;

/// What the sound becomes in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AudioFormat {
    /// Opus as it came.
    #[default]
    Copy,
    /// AAC, for players that do not know Opus in MP4.
    Aac,
}

/// What a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// The video codec as it comes.
    pub video: Option<Codec>,
    /// What the sound becomes, if there may be any.
    pub audio: Option<AudioFormat>,
    /// The size that a transcoded picture is scaled to.
    pub canvas: Option<(u16, u16)>,
}

impl Streams {
    /// Whether the picture is transcoded: MP4 does not hold VP8.
    pub fn is_transcoded(&self) -> bool {
        self.video == Some(Codec::Vp8)
    }

    /// Whether ffmpeg has to encode anything, which costs CPU.
    pub fn is_encoded(&self) -> bool {
        self.is_transcoded() || self.audio == Some(AudioFormat::Aac)
    }
}

/// Where the file goes.
#[derive(Debug, Clone, Copy)]
pub enum Output<'a> {
    /// A file that exists and may be overwritten; `hybrid`: it becomes whole at its end.
    File {
        /// Where.
        path: &'a Path,
        /// See [`quirks::HYBRID`].
        hybrid: bool,
    },
    /// Standard output.
    Pipe,
}

/// The arguments that record RTP from standard input.
pub fn record(streams: Streams, output: Output<'_>) -> Vec<OsString> {
    let [probing, reading, times] = quirks::INPUT;
    let mut arguments = words(&["-nostdin -hide_banner -loglevel error -y", probing]);
    arguments.extend(words(&["-avioflags", quirks::READ_WRITE_DIRECT, reading, "-i pipe:0", times]));
    arguments.extend(words(&[quirks::INTERLEAVING, "-map 0"]));
    match streams.audio {
        Some(AudioFormat::Aac) => arguments.extend(words(&["-c:a aac -b:a 128k", quirks::FILL_GAPS])),
        Some(AudioFormat::Copy) | None => arguments.extend(words(&["-c:a copy"])),
    }
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
        Some(codec @ (Codec::H264 | Codec::H265)) => {
            arguments.extend(words(&["-c:v copy", quirks::KEEP_LEADING_PICTURES, "-bsf:v"]));
            arguments.push(quirks::PARSED_TIMES.into());
            if codec == Codec::H265 {
                arguments.extend(words(&[quirks::H265_TAG]));
            }
        }
        Some(Codec::Vp9 | Codec::Av1 | Codec::Opus) | None => {
            arguments.extend(words(&["-c:v copy", quirks::KEEP_LEADING_PICTURES]));
        }
    }
    let is_hybrid = matches!(output, Output::File { hybrid: true, .. });
    arguments.push("-movflags".into());
    arguments.push(format!("{}{}", quirks::FRAGMENTED, if is_hybrid { quirks::HYBRID } else { "" }).into());
    arguments.extend(words(&["-frag_duration 1000000 -flush_packets 1 -f mp4"]));
    arguments.push(match output {
        Output::File { path, .. } => file(path),
        Output::Pipe => "pipe:1".into(),
    });
    arguments
}

/// The arguments that copy a fragmented file into one with its index at the front.
pub fn complete(part: &Path, temporary: &Path) -> Vec<OsString> {
    let mut arguments = words(&["-nostdin -hide_banner -loglevel error -y -i"]);
    arguments.push(file(part));
    arguments.extend(words(&["-map 0 -c copy", quirks::KEEP_LEADING_PICTURES, "-bsf:a", quirks::LAST_SOUND]));
    arguments.extend(words(&["-movflags +faststart -f mp4"]));
    arguments.push(file(temporary));
    arguments
}

/// Told with its protocol, so that a colon in a path is no protocol.
fn file(path: &Path) -> OsString {
    let mut target = OsString::from("file:");
    target.push(path);
    target
}

fn words(lines: &[&str]) -> Vec<OsString> {
    lines.iter().flat_map(|line| line.split(' ')).map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(streams: Streams, hybrid: bool) -> String {
        let output = Output::File { path: Path::new("a b.mp4"), hybrid };
        record(streams, output).join(std::ffi::OsStr::new("|")).into_string().unwrap()
    }

    fn sound(audio: AudioFormat) -> Streams {
        Streams { video: None, audio: Some(audio), canvas: None }
    }

    #[test]
    fn only_vp8_is_transcoded() {
        for codec in Codec::VIDEO {
            let streams = Streams { video: Some(codec), canvas: Some((640, 360)), ..sound(AudioFormat::Copy) };
            assert_eq!(line(streams, false).contains("libx264"), codec == Codec::Vp8, "{codec}");
            assert_eq!(line(streams, false).contains("-c:v|copy|-copyinkf"), codec != Codec::Vp8, "{codec}");
            assert_eq!(line(streams, false).contains("-tag:v|hvc1"), codec == Codec::H265, "{codec}");
            assert_eq!((streams.is_transcoded(), streams.is_encoded()), (codec == Codec::Vp8, codec == Codec::Vp8));
        }
    }

    #[test]
    fn sound_is_copied_unless_it_is_to_be_aac() {
        assert!(line(sound(AudioFormat::Copy), false).contains("-c:a|copy"));
        assert!(line(sound(AudioFormat::Aac), false).contains("-c:a|aac") && sound(AudioFormat::Aac).is_encoded());
    }

    #[test]
    fn a_path_stays_one_argument_and_a_file_is_hybrid_where_that_is_known() {
        assert!(line(sound(AudioFormat::Copy), false).ends_with("|file:a b.mp4"));
        assert!(!line(sound(AudioFormat::Copy), false).contains("hybrid"));
        assert!(line(sound(AudioFormat::Copy), true).contains("+delay_moov+hybrid_fragmented|"));
    }
}

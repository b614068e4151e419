//! Tries ffmpeg at start: which codecs can it record?
//!
//! **Invariant:** a codec counts only where the whole way, RTP on standard input to MP4, was gone.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::task::JoinSet;

use super::command::{AudioFormat, Output, Streams, record};
use super::feed::Feed;
use super::process::{Input, Priority, Process};
use super::quirks;
use crate::rtp::codec::{Codec, CodecSet, TrackKind};

/// How long one try may take before ffmpeg counts as hung. Each needs a tenth of a second of a core.
const TRY_MAX: Duration = Duration::from_secs(30);

/// Pictures, or packets of sound, that are sent.
const UNITS: u64 = 3;

/// What all of them are apart.
const APART_NS: u64 = 40_000_000;

/// The codecs in the order in which they are told.
const TRIED: [Codec; 6] = [Codec::Opus, Codec::H264, Codec::H265, Codec::Vp9, Codec::Vp8, Codec::Av1];

/// What can be recorded, and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ability {
    /// What can be recorded.
    pub codecs: CodecSet,
    /// Whether a file becomes whole at its end by itself ([`quirks::HYBRID`]).
    pub hybrid: bool,
    /// The same in one line, for the log.
    pub said: String,
}

/// Finds out what this ffmpeg can record, with sound of this format.
pub async fn probe(ffmpeg: &Path, audio: AudioFormat) -> Ability {
    let version = match version(ffmpeg).await {
        Ok(version) => version,
        Err(error) => {
            let said = format!(
                "nothing is recorded: `{}` could not be run ({error}); install ffmpeg 5.1 or later (Debian: apt install \
                 ffmpeg) or name one with --ffmpeg",
                ffmpeg.display()
            );
            return Ability { codecs: CodecSet::EMPTY, hybrid: false, said };
        }
    };
    // They end with this call, and their processes with them: a server that stops waits for none.
    let mut tries = JoinSet::new();
    for codec in TRIED {
        let ffmpeg = ffmpeg.to_owned();
        tries.spawn(async move { can_record(&ffmpeg, codec, audio).await.then_some(codec) });
    }
    let mut codecs = CodecSet::EMPTY;
    while let Some(tried) = tries.join_next().await {
        if let Ok(Some(codec)) = tried {
            codecs = codecs.with(codec);
        }
    }
    // Without sound nothing is of use.
    if !codecs.contains(Codec::Opus) {
        codecs = CodecSet::EMPTY;
    }
    Ability { codecs, hybrid: knows_hybrid(ffmpeg).await, said: say(codecs, &version, audio) }
}

/// Whether its MP4 writer knows the form that needs no copy.
async fn knows_hybrid(ffmpeg: &Path) -> bool {
    let arguments = ["-hide_banner", "-h", "muxer=mp4"].map(Into::into);
    let Ok(mut process) = Process::start_leashed(ffmpeg, &arguments, Stdio::null(), Priority::Equal) else {
        return false;
    };
    let told = process.ended_within(TRY_MAX).await.map(|exit| exit.output).unwrap_or_default();
    String::from_utf8_lossy(&told).contains(quirks::HYBRID_KNOWN)
}

fn say(codecs: CodecSet, version: &str, audio: AudioFormat) -> String {
    let named = |wanted: bool| {
        let video = TRIED.into_iter().filter(|codec| codec.kind() == TrackKind::Video);
        let chosen = video.filter(|codec| codecs.contains(*codec) == wanted);
        let names = chosen.map(|codec| match (codec, wanted) {
            (Codec::Vp8, true) => "vp8 (transcoded)".to_owned(),
            (Codec::Vp8, false) => "vp8 (needs libx264)".to_owned(),
            (Codec::Av1, false) => format!("av1 (needs ffmpeg {})", quirks::AV1_SINCE),
            _ => codec.name().to_owned(),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    if codecs.is_empty() && audio == AudioFormat::Aac {
        return format!(
            "nothing is recorded: ffmpeg {version} makes no AAC of Opus: leave out --record-audio aac, or name another \
             ffmpeg with --ffmpeg"
        );
    }
    if codecs.is_empty() {
        return format!(
            "nothing is recorded: ffmpeg {version} cannot do it, 5.1 or later is needed (Debian: apt install ffmpeg)"
        );
    }
    match (named(true), named(false)) {
        (all, none) if none.is_empty() => format!("recording {all} with ffmpeg {version}"),
        (none, some) if none.is_empty() => format!("recording sound alone with ffmpeg {version}; not {some}"),
        (some, others) => format!("recording {some} with ffmpeg {version}; not {others}"),
    }
}

/// The version that ffmpeg tells, without the packager's suffix.
async fn version(ffmpeg: &Path) -> io::Result<String> {
    let started = Process::start_leashed(ffmpeg, &["-version".into()], Stdio::null(), Priority::Equal);
    let mut process = started.map_err(io::Error::other)?;
    let exit = process.ended_within(TRY_MAX).await.map_err(io::Error::other)?;
    let told = String::from_utf8_lossy(&exit.output);
    let version = told.strip_prefix("ffmpeg version ").and_then(|rest| rest.split([' ', '-']).next());
    version.map(str::to_owned).ok_or_else(|| io::Error::other("it does not tell its version"))
}

/// Records a moment of this codec.
async fn can_record(ffmpeg: &Path, codec: Codec, audio: AudioFormat) -> bool {
    match record_moment(ffmpeg, codec, audio).await {
        Ok(file) => {
            [&b"moof"[..], sample_entry(codec, audio)].iter().all(|tag| file.windows(4).any(|four| four == *tag))
        }
        Err(error) => {
            tracing::debug!(%codec, %error, "ffmpeg cannot record");
            false
        }
    }
}

async fn record_moment(ffmpeg: &Path, codec: Codec, audio: AudioFormat) -> io::Result<Vec<u8>> {
    let streams = Streams {
        video: (codec.kind() == TrackKind::Video).then_some(codec),
        audio: (codec.kind() == TrackKind::Audio).then_some(audio),
        canvas: Some((64, 64)),
    };
    let (input, stdin) = Input::pair()?;
    let started = Process::start_leashed(ffmpeg, &record(streams, Output::Pipe), stdin, Priority::Equal);
    let mut process = started.map_err(io::Error::other)?;
    let mut feed = Feed::begin(input, streams).await?;
    for unit in 0..UNITS {
        feed.send(codec.kind(), unit.saturating_mul(APART_NS), codec, moment(codec)).await?;
    }
    feed.end();
    let exit = process.ended_within(TRY_MAX).await.map_err(io::Error::other)?;
    if exit.success { Ok(exit.output) } else { Err(io::Error::other(exit.said)) }
}

/// The four-character code under which MP4 holds the codec.
fn sample_entry(codec: Codec, audio: AudioFormat) -> &'static [u8] {
    match codec {
        Codec::Opus if audio == AudioFormat::Aac => b"mp4a",
        Codec::Opus => b"Opus",
        Codec::H264 | Codec::Vp8 => b"avc1",
        Codec::H265 => b"hvc1",
        Codec::Vp9 => b"vp09",
        Codec::Av1 => b"av01",
    }
}

/// The payloads of a black picture of 64x64, or of a moment of silence.
fn moment(codec: Codec) -> &'static [&'static [u8]] {
    match codec {
        Codec::Opus => OPUS,
        Codec::H264 => H264,
        Codec::H265 => H265,
        Codec::Vp8 => VP8,
        Codec::Vp9 => VP9,
        Codec::Av1 => AV1,
    }
}

/// SPS, PPS and IDR slice.
const H264: &[&[u8]] = &[
    b"\x67\x42\xc0\x0a\xd9\x04\x26\xc0\x44\x00\x00\x03\x00\x04\x00\x00\x03\x00\xc8\x3c\x48\x99\x20",
    b"\x68\xcb\x83\xcb\x20",
    b"\x65\x88\x84\x0a\xf2\x62\x80\x00\xa7\xbc\x9c\x9c\x9d\x75\xd7\x5d\x75\xd7\x5d\x75\xd7\x5e",
];

/// VPS, SPS, PPS and IDR slice.
const H265: &[&[u8]] = &[
    b"\x40\x01\x0c\x01\xff\xff\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x1e\x95\x98\x09",
    b"\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x1e\xa0\x20\x81\x05\x96\x56\
      \x69\x24\xca\xf0\x16\x80\x80\x00\x00\x03\x00\x80\x00\x00\x0c\x84",
    b"\x44\x01\xc1\x72\xb4\x22\x40",
    b"\x28\x01\xaf\x1d\x80\xf7\x01\x5b\xff\xf2\x4e\xfe\xcc\xf0",
];

/// The descriptor of a first partition, and a keyframe.
const VP8: &[&[u8]] =
    &[b"\x10\xf0\x02\x00\x9d\x01\x2a\x40\x00\x40\x00\x00\x47\x08\x85\x85\x88\x85\x84\x88\x02\x02\x00\x06\
      \x70\x3c\x42\x60\x0a\xb2\x20\xf7\x30\x00\xfe\xff\xab\x50\x80"];

/// The descriptor of a whole frame, and a keyframe.
const VP9: &[&[u8]] =
    &[b"\x0c\x82\x49\x83\x42\x00\x03\xf0\x03\xf6\x00\x38\x24\x1c\x18\x4a\x00\x00\x30\x60\x00\x00\x67\x3f\
      \xff\xff\x56\x45\x64\xee\xcc\x00"];

/// An aggregation header, a sequence header and a frame.
const AV1: &[&[u8]] =
    &[b"\x28\x0b\x08\x00\x00\x00\x02\xaf\xff\x9b\x5f\x20\x08\x30\x10\x00\xc0\x00\x00\x02\x80\x00\x00\x0a\
      \x05\x77\x64\x80"];

/// 20 ms of silence.
const OPUS: &[&[u8]] = &[b"\xf8\xff\xfe"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::keyframe::starts_keyframe;

    #[test]
    fn the_moments_are_keyframes() {
        for codec in TRIED {
            assert!(moment(codec).iter().any(|payload| starts_keyframe(codec, payload)), "{codec}");
        }
    }

    #[test]
    fn what_can_be_recorded_is_said_in_one_line() {
        let all: CodecSet = TRIED.into_iter().collect();
        assert_eq!(
            say(all, "8.0", AudioFormat::Copy),
            "recording h264, h265, vp9, vp8 (transcoded), av1 with ffmpeg 8.0"
        );
        let most: CodecSet = TRIED.into_iter().filter(|codec| *codec != Codec::Av1).collect();
        assert_eq!(
            say(most, "5.1.9", AudioFormat::Copy),
            "recording h264, h265, vp9, vp8 (transcoded) with ffmpeg 5.1.9; not av1 (needs ffmpeg 8)"
        );
        assert!(say(CodecSet::EMPTY, "4.2", AudioFormat::Copy).contains("5.1 or later is needed"));
    }

    #[tokio::test]
    async fn an_ffmpeg_that_is_not_there_records_nothing() {
        let ability = probe(Path::new("/nonexistent/ffmpeg"), AudioFormat::Copy).await;
        assert!(ability.codecs.is_empty());
        assert!(ability.said.contains("install ffmpeg"), "{}", ability.said);
    }
}

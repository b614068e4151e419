//! Whether a picture can go into a file that was begun for others.
//!
//! **Invariant:** a picture never goes into a file of another codec.

use super::ffmpeg::command::Streams;
use super::intake::picture::Picture;

/// Whether a picture can go into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It can.
    Yes,
    /// It can, but a new file would be better at the next keyframe.
    Better,
    /// It cannot.
    No,
}

/// How a picture fits into a file of these streams.
pub fn fits(streams: Streams, picture: &Picture, has_audio: bool) -> Fit {
    let outgrows = |canvas, size| u64::from(area(size)) * 10 > u64::from(area(canvas)) * 13;
    let grew = match (streams.canvas, picture.size) {
        (Some(canvas), Some(size)) => streams.is_transcoded() && outgrows(canvas, size),
        _ => false,
    };
    if streams.video != Some(picture.codec) {
        Fit::No
    } else if grew || (has_audio && !streams.audio) {
        Fit::Better
    } else {
        Fit::Yes
    }
}

/// How many pixels a size has.
pub fn area((width, height): (u16, u16)) -> u32 {
    u32::from(width) * u32::from(height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::codec::Codec;

    fn picture(codec: Codec, size: Option<(u16, u16)>) -> Picture {
        Picture {
            codec,
            epoch: 0,
            timestamp: 0,
            payloads: Vec::new(),
            is_keyframe: size.is_some(),
            size,
            arrival: std::time::Instant::now(),
            sender_report: None,
        }
    }

    fn streams(video: Option<Codec>, audio: bool) -> Streams {
        Streams { video, audio, canvas: Some((640, 360)) }
    }

    #[test]
    fn vp8_that_grows_noticeably_wants_a_new_file_and_what_is_copied_does_not() {
        let grown = |codec, size| fits(streams(Some(codec), true), &picture(codec, Some(size)), true);
        assert_eq!(grown(Codec::Vp8, (640, 360)), Fit::Yes);
        assert_eq!(grown(Codec::Vp8, (320, 180)), Fit::Yes);
        assert_eq!(grown(Codec::Vp8, (720, 404)), Fit::Yes);
        assert_eq!(grown(Codec::Vp8, (960, 540)), Fit::Better);
        assert_eq!(grown(Codec::H264, (960, 540)), Fit::Yes);
    }

    #[test]
    fn another_codec_or_a_new_track_needs_a_new_file() {
        assert_eq!(fits(streams(Some(Codec::H264), true), &picture(Codec::Vp9, None), true), Fit::No);
        assert_eq!(fits(streams(None, true), &picture(Codec::Vp9, None), true), Fit::No);
        assert_eq!(fits(streams(Some(Codec::Vp9), false), &picture(Codec::Vp9, None), true), Fit::Better);
        assert_eq!(fits(streams(Some(Codec::Vp9), false), &picture(Codec::Vp9, None), false), Fit::Yes);
    }
}

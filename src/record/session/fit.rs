//! Whether a picture can go into a file that was begun for others.
//!
//! **Invariant:** a picture never goes into a file of another codec, nor of other parameter sets where the file holds them
//! once.

use std::sync::Arc;

use crate::record::ffmpeg::command::Streams;
use crate::record::intake::picture::Picture;
use crate::rtp::codec::Codec;

/// What a file was begun for.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Its streams.
    pub streams: Streams,
    /// The parameter sets of its first picture.
    pub sets: Arc<[Arc<[u8]>]>,
}

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

impl Shape {
    /// How a picture fits into the file.
    pub fn fits(&self, picture: &Picture, has_audio: bool) -> Fit {
        let streams = self.streams;
        let outgrows = |canvas, size| u64::from(area(size)) * 10 > u64::from(area(canvas)) * 13;
        let grew = match (streams.canvas, picture.size) {
            (Some(canvas), Some(size)) => streams.is_transcoded() && outgrows(canvas, size),
            _ => false,
        };
        let has_other_sets = picture.codec == Codec::H265 && self.sets != picture.sets;
        if streams.video != Some(picture.codec) || has_other_sets {
            Fit::No
        } else if grew || (has_audio && streams.audio.is_none()) {
            Fit::Better
        } else {
            Fit::Yes
        }
    }
}

/// How many pixels a size has.
pub fn area((width, height): (u16, u16)) -> u32 {
    u32::from(width) * u32::from(height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ffmpeg::command::AudioFormat;

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
            sets: Arc::from([]),
        }
    }

    fn shape(video: Option<Codec>, audio: bool) -> Shape {
        let streams = Streams { video, audio: audio.then_some(AudioFormat::Copy), canvas: Some((640, 360)) };
        Shape { streams, sets: Arc::from([]) }
    }

    #[test]
    fn vp8_that_grows_noticeably_wants_a_new_file_and_what_is_copied_does_not() {
        let grown = |codec, size| shape(Some(codec), true).fits(&picture(codec, Some(size)), true);
        assert_eq!(grown(Codec::Vp8, (640, 360)), Fit::Yes);
        assert_eq!(grown(Codec::Vp8, (320, 180)), Fit::Yes);
        assert_eq!(grown(Codec::Vp8, (720, 404)), Fit::Yes);
        assert_eq!(grown(Codec::Vp8, (960, 540)), Fit::Better);
        assert_eq!(grown(Codec::H264, (960, 540)), Fit::Yes);
    }

    #[test]
    fn another_codec_or_a_new_track_needs_a_new_file() {
        assert_eq!(shape(Some(Codec::H264), true).fits(&picture(Codec::Vp9, None), true), Fit::No);
        assert_eq!(shape(None, true).fits(&picture(Codec::Vp9, None), true), Fit::No);
        assert_eq!(shape(Some(Codec::Vp9), false).fits(&picture(Codec::Vp9, None), true), Fit::Better);
        assert_eq!(shape(Some(Codec::Vp9), false).fits(&picture(Codec::Vp9, None), false), Fit::Yes);
    }

    #[test]
    fn h265_of_other_parameter_sets_needs_a_new_file() {
        let with = |codec, sets: &[&[u8]]| Picture {
            sets: sets.iter().map(|set| Arc::from(*set)).collect(),
            ..picture(codec, Some((640, 360)))
        };
        let began = |codec| Shape { sets: with(codec, &[&[1], &[2]]).sets, ..shape(Some(codec), true) };
        assert_eq!(began(Codec::H265).fits(&with(Codec::H265, &[&[1], &[2]]), true), Fit::Yes);
        assert_eq!(began(Codec::H265).fits(&with(Codec::H265, &[&[1], &[3]]), true), Fit::No);
        assert_eq!(began(Codec::H264).fits(&with(Codec::H264, &[&[1], &[3]]), true), Fit::Yes);
    }
}

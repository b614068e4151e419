//! What a recording's plan is given, and what it has done.
//!
//! **Invariant:** steps are plain data; they are carried out in the order in which they were told.

use crate::hub::io::MediaPacket;
use crate::record::ffmpeg::command::{AudioFormat, Streams};
use crate::record::intake::picture::Picture;
use crate::rtp::codec::Codec;

/// What an operator has set.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How long a file may become before the next keyframe ends it, in nanoseconds.
    pub segment_ns: i64,
    /// How far apart keyframes may be before one is asked for, in nanoseconds.
    pub keyframes_ns: Option<i64>,
    /// What the sound becomes.
    pub audio: AudioFormat,
}

/// One file of a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Step {
    /// Begin a file.
    Begin {
        /// Which one.
        file: FileId,
        /// What it is made of.
        streams: Streams,
        /// Where it begins on the timeline.
        begin_ns: i64,
    },
    /// Write a picture.
    Picture(FileId, i64, Picture),
    /// Write a packet of sound.
    Sound(FileId, i64, MediaPacket),
    /// End a file in good order.
    End(FileId),
}

/// Why a file did not begin, or was not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It broke off, or could not be begun.
    Broken,
    /// This machine or its ffmpeg does not take the codec on now.
    Refused(Codec),
}

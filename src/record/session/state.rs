//! The states of a recording, and what each holds.
//!
//! | state | picture | keyframe | sound | disk away, failure |
//! |---|---|---|---|---|
//! | `Barred` | is left out | is left out, or begins a file when the time is over | is kept for 6 s | stays; the later end counts |
//! | `Idle` | asks for a keyframe | begins a file; of VP8: `Settling` | is kept; begins a file where no video flows | `Barred` |
//! | `Settling` | is held | is held | is kept | `Barred`; what is held is left out |
//! | `Writing` | is written; past the limit: `Turning` | the same; ends an unfit file and begins the next | is written behind the picture of its time | `Barred` |
//! | `Turning` | is written; 30 s later begins the next file | begins the next file: `Writing` | the same | `Barred` |
//!
//! **Invariant:** a state holds all that is known only in it: a file that is written exists in `Writing` and `Turning` alone.

use std::time::Instant;

use super::fit::Shape;
use super::step::FileId;
use crate::record::intake::picture::Picture;
use crate::rtp::codec::Codec;

/// Until when no file may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bar {
    /// Until this moment of the timeline, after a failure.
    Until(i64),
    /// Until this moment, for this codec; others may.
    Refused(Codec, i64),
    /// Until the disk takes files again.
    Disk,
}

impl Bar {
    /// Whether it has been waited long enough.
    pub fn is_over(&self, now_ns: i64) -> bool {
        match self {
            Self::Until(until_ns) | Self::Refused(_, until_ns) => now_ns >= *until_ns,
            Self::Disk => false,
        }
    }

    /// Sees that it ends at this moment of the timeline at the latest.
    pub fn end_by(&mut self, at_ns: i64) {
        if let Self::Until(until_ns) | Self::Refused(_, until_ns) = self {
            *until_ns = (*until_ns).min(at_ns);
        }
    }
}

/// What the recording of a broadcast is doing.
#[derive(Debug)]
pub enum State {
    /// No file may begin.
    Barred(Bar),
    /// A file begins with the next keyframe, or with sound.
    Idle,
    /// A VP8 file waits for its picture's size to settle.
    Settling {
        /// What it will begin with.
        pictures: Vec<(i64, Picture)>,
        /// When it begins, on the timeline.
        due_ns: i64,
        /// When the first picture arrived.
        since: Instant,
    },
    /// A file is written.
    Writing(Current),
    /// A file is written on, and the next one is due since this moment of the timeline.
    Turning(Current, i64),
}

impl State {
    /// The file that is written, if there is one.
    pub fn current(&self) -> Option<&Current> {
        match self {
            Self::Writing(current) | Self::Turning(current, _) => Some(current),
            Self::Barred(_) | Self::Idle | Self::Settling { .. } => None,
        }
    }
}

/// The file that is written.
#[derive(Debug)]
pub struct Current {
    /// Which one.
    pub file: FileId,
    /// What it was begun for.
    pub shape: Shape,
    /// Where it begins.
    pub begin_ns: i64,
    /// The latest picture: the earliest moment there is before the first, the latest where there is no video.
    pub latest_picture_ns: i64,
    /// The latest keyframe.
    pub keyframe_ns: i64,
}

/// The file before, while sound of its time may come.
#[derive(Debug, Clone, Copy)]
pub struct Previous {
    /// Which one.
    pub file: FileId,
    /// Where the next one began.
    pub until_ns: i64,
}

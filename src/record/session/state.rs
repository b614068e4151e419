//! The states of a recording, and what each holds.
//!
//! | state | picture | keyframe | sound | disk not ready, failure |
//! |---|---|---|---|---|
//! | `Barred` | the plan drops it | the plan drops it, or begins a file after the pause | the plan keeps 6 s | the state stays `Barred` |
//! | `Idle` | the plan asks for a keyframe | the plan begins a file; VP8 goes to `Settling` | the plan keeps 6 s, or begins a file without video | `Barred` |
//! | `Settling` | the plan holds it | the plan holds it | the plan keeps 6 s | `Barred`; the plan drops the held pictures |
//! | `Writing` | the file gets it; after the limit: `Turning` | the file gets it; an unfit file ends and the next begins | the file gets it after the picture of its time | `Barred` |
//! | `Turning` | the file gets it; after 30 s the next file begins | the next file begins: `Writing` | as in `Writing` | `Barred` |
//!
//! **Invariant:** only `Writing` and `Turning` have an open file.

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

//! The recorder: one `.mp4` for each broadcast, written by an ffmpeg that gets RTP on its standard input.
//!
//! Look at [`Recorder`] first: it takes new recordings from the hub and runs one task for each. Packets go through
//! `reorder` and `picture`, get their place in time from `timeline` (all three pure, joined by `intake`), and a `session`
//! decides into which file they go. A `segment` is one such file: its ffmpeg gets what `feed` makes of them, and what
//! ffmpeg leaves is completed by `finish`.
//!
//! **Invariant:** nothing here can hold up or harm the live side: packets come out of a bounded queue that the hub never
//! waits for, and every failure ends as a message, a counter and a log line.

mod access_unit;
mod command;
mod counters;
mod desk;
mod feed;
mod ffmpeg;
mod files;
mod finish;
mod fit;
mod growing;
mod intake;
mod listing;
mod mp4;
mod picture;
mod probe;
mod recorder;
mod removal;
mod reorder;
mod retention;
mod sdp;
mod segment;
mod session;
mod space;
mod timeline;

pub use counters::RecorderMetrics;
pub use desk::RecorderConfig;
pub use growing::Growing;
pub use listing::{RecordingFile, list};
pub use recorder::{RecordError, Recorder};
pub use removal::{RemoveError, remove};
pub use retention::Retention;

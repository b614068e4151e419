//! The recorder: one `.mp4` for each broadcast, written by an ffmpeg that gets RTP on its standard input.
//!
//! Look at [`Recorder`] first: it takes new recordings from the hub and runs one task for each. Packets go through
//! `reorder` and `picture`, get their place in time from `timeline` (all three pure, joined by `intake`), and a `session`
//! decides into which file they go. A `segment` is one such file: its ffmpeg gets what `feed` makes of them, and what
//! ffmpeg leaves is completed by `finish`.
//!
//! **Invariant:** nothing here can hold up or harm the live side: packets come out of a bounded queue that the hub never
//! waits for, and every failure ends as a message, a counter and a log line.

mod complete;
mod context;
mod counters;
mod ffmpeg;
mod files;
mod handover;
mod intake;
mod leftovers;
mod recorder;
mod retention_task;
mod session;

pub use context::RecorderConfig;
pub use counters::RecorderMetrics;
pub use ffmpeg::command::AudioFormat;
pub use files::catalogue::Catalogue;
pub use files::directory::DiskState;
pub use files::disk::{DEADLINE as DISK_DEADLINE, Disk, DiskError, Turn};
pub use files::growing::Growing;
pub use files::listing::{Before, Page, Position, Query, RecordingFile};
pub use files::reading::{OpenRecording, metadata as recording_metadata};
pub use files::removal::{RemoveError, remove};
pub use files::retention::Retention;
pub use recorder::{RecordError, Recorder};
pub use retention_task::RetentionTask;

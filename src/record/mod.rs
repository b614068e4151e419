//! The recorder: one `.mp4` for each broadcast, written by an ffmpeg that gets RTP on its standard input.
//!
//! Read [`Recorder`] first: it takes new recordings from the hub and runs one `session` for each. The folder `intake` puts a
//! session's packets in order, makes whole pictures of them and places them on one timeline. `session::plan` decides which
//! files they become, and the session carries that out: each file has an ffmpeg of its own (folder `ffmpeg`). `complete`
//! gives a file its final name, and `handover` the file to the operator's command. The folder `files` alone calls the disk.
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
pub use files::disk::{DEADLINE as DISK_DEADLINE, Disk, DiskError, DiskOwned, Turn};
pub use files::growing::Growing;
pub use files::left::has_leftovers;
pub use files::listing::{Before, Page, Position, Query, RecordingFile};
pub use files::reading::{OpenRecording, metadata as recording_metadata};
pub use files::removal::{RemoveError, remove};
pub use files::retention::Retention;
pub use recorder::{RecordError, Recorder};
pub use retention_task::RetentionTask;

//! Recordings made by real ffmpegs from the RTP of encoders and browsers, fed faster than they arrived.

#![allow(clippy::print_stdout, reason = "what was measured is shown beside what was asked of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by it"
)]

#[path = "recording/codecs.rs"]
mod codecs;
#[path = "recording/disks.rs"]
mod disks;
#[path = "recording/faults.rs"]
mod faults;
#[path = "recording/files.rs"]
mod files;
#[path = "recording/handover.rs"]
mod handover;
#[path = "recording/kills.rs"]
mod kills;
mod live;
#[path = "recording/media.rs"]
mod media;
#[path = "disk/mount.rs"]
mod mount;
#[path = "recording/never_lost.rs"]
mod never_lost;
#[path = "recording/sample.rs"]
mod sample;
#[path = "recording/segments.rs"]
mod segments;
#[path = "recording/stage.rs"]
mod stage;
#[path = "recording/sync.rs"]
mod sync;

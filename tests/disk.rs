//! The real server on disks that hang, fill up, vanish or become read-only.
//!
//! The disks are real: a FUSE file system (bindfs) that is stopped hangs as a network mount does without its server; tmpfs
//! is small, and is unmounted and remounted at will. That needs root, `/dev/fuse` and bindfs; without them the tests fail
//! and say so.

#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "what was measured is shown beside what was asked of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod live;
#[path = "disk/mount.rs"]
mod mount;

#[path = "disk/hung.rs"]
mod hung;
#[path = "disk/lost.rs"]
mod lost;

use live::{Scratch, Server};

/// A server that records into `dir`.
async fn recorder(dir: &std::path::Path, args: &[&str]) -> Server {
    let scratch = Scratch::new();
    let dir = dir.to_str().unwrap();
    let mut all = vec!["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record-dir", dir];
    all.extend(args);
    Server::start_with(scratch, &all, &[]).await
}

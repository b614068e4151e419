//! The list of recordings for the API.
//!
//! **Invariant:** the list is read from the directory each time: there is nothing that could differ from it.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::mp4;
use super::path::{Found, PART, began, find};
use crate::signal::BroadcastId;

/// Recordings listed, at most: the newest.
const LISTED_MAX: usize = 1000;

/// Directory entries looked at, at most.
const ENTRIES_MAX: usize = 100_000;

/// A finished or running recording.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RecordingFile {
    /// The path below the recordings' directory, with `/` between its parts. It ends with `.part.mp4` while it grows.
    pub path: String,
    /// Whose it is.
    #[schema(value_type = String, example = "kitchen/anna")]
    pub broadcast: BroadcastId,
    /// When it began, in the form of RFC 3339.
    #[schema(format = DateTime)]
    pub started: String,
    /// How long it lasts, in seconds.
    pub duration_s: f64,
    /// Its size.
    pub size_bytes: u64,
}

/// The recordings of `wanted` broadcasts below `root`, newest first. It reads the disk: call it where that may block.
///
/// # Errors
///
/// Where `root` cannot be read.
pub fn list(root: &Path, wanted: impl Fn(&BroadcastId) -> bool) -> io::Result<Vec<RecordingFile>> {
    let mut found: Vec<((OffsetDateTime, u32), Found)> = find(root, ENTRIES_MAX)?
        .into_iter()
        .filter(|found| found.file_name.ends_with(".mp4") && wanted(&found.broadcast))
        .filter_map(|found| Some((began(&found.file_name)?, found)))
        .collect();
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    // A file that vanished between the two looks is not listed.
    let files = found.into_iter().filter_map(|((began, _), found)| describe(root, began, found));
    Ok(files.take(LISTED_MAX).collect())
}

fn describe(root: &Path, began: OffsetDateTime, found: Found) -> Option<RecordingFile> {
    let path = format!("{}/{}", found.broadcast, found.file_name);
    let metadata = fs::symlink_metadata(root.join(&path)).ok().filter(fs::Metadata::is_file)?;
    let duration_s = if found.file_name.ends_with(PART) {
        // It is written to each second while it grows.
        let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        (OffsetDateTime::from(written) - began).as_seconds_f64().max(0.0)
    } else {
        let file = File::open(root.join(&path)).ok()?;
        mp4::duration(&file).ok().flatten().unwrap_or_default().as_secs_f64()
    };
    Some(RecordingFile {
        path,
        broadcast: found.broadcast,
        started: began.format(&Rfc3339).ok()?,
        duration_s: (duration_s * 1000.0).round() / 1000.0,
        size_bytes: metadata.len(),
    })
}

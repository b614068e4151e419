//! Completes a file: from fragments that survive a crash to one index at the front.
//!
//! **Invariant:** the fragments are removed only after the complete file is on the disk under its name.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::ffmpeg::command::complete as completion;
use super::ffmpeg::process::{FfmpegError, Process};
use super::files::disk::{self, Disk, DiskError, Turn};
use super::files::growing::Growth;
use super::files::ledger::{Reservation, SpaceLedger};
use super::files::mp4;
use super::files::path::RecordingPath;

/// How long the copy of a file may take. It runs at the speed of the disk.
const COPY_MAX: Duration = Duration::from_secs(1800);

/// How long the disk may take to keep the finished file.
const PUBLISH_MAX: Duration = Duration::from_secs(120);

/// Why a file was not completed.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// It holds nothing that could be played; it is removed.
    #[error("nothing that could be played had been written")]
    Empty,
    /// The disk holds no copy; the fragments stay.
    #[error("the disk is too full to complete the file: it stays as it is and is completed when there is space")]
    NoSpace,
    /// ffmpeg could not copy it; the fragments stay.
    #[error("the file could not be completed: {0}")]
    Copy(String),
    /// The disk failed; the fragments stay.
    #[error("the file could not be completed: {0}")]
    Disk(#[from] DiskError),
    /// ffmpeg could not be run; the fragments stay.
    #[error("the file could not be completed: {0}")]
    Ffmpeg(#[from] FfmpegError),
}

impl FinishError {
    /// Whether there was no file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Disk(DiskError::Io(error)) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// What completions share: space, and how many run at a time.
#[derive(Debug)]
pub struct Completions {
    ledger: SpaceLedger,
    slots: Arc<Semaphore>,
}

impl Completions {
    /// At most `max` completions at a time.
    pub fn new(ledger: SpaceLedger, max: usize) -> Self {
        Self { ledger, slots: Arc::new(Semaphore::new(max)) }
    }
}

/// Completes what was written to the growing file.
///
/// `growth` lasts until the disk has done all it was asked for, even after the deadline: until then nobody else may begin to
/// complete the file, since both would write to the same copy.
///
/// # Errors
///
/// [`FinishError`]
pub async fn complete(
    disk: &Disk,
    completions: &Completions,
    ffmpeg: &Path,
    path: &RecordingPath,
    growth: Growth,
    largest: Option<(u16, u16)>,
) -> Result<(), FinishError> {
    let _slot = completions.slots.acquire().await.map_err(|closed| DiskError::Io(io::Error::other(closed)))?;
    let (part, ledger) = (path.clone(), completions.ledger.clone());
    let reserve = move |turn: &Turn| reserve(turn, &part, &ledger);
    let Some(reserved) = disk.run("measuring a file", disk::DEADLINE, reserve).await? else {
        return Err(FinishError::Empty);
    };
    let _reservation = reserved.ok_or(FinishError::NoSpace)?;
    let copied = copy(ffmpeg, path).await;
    let path = path.clone();
    let publish = move |turn: &Turn| {
        let _growth = growth;
        match copied {
            Ok(()) => publish(turn, &path, largest),
            Err(error) => {
                // It is missing where ffmpeg did not come so far.
                let _ = path.remove_temporary(turn);
                Ok(Err(error))
            }
        }
    };
    disk.run("completing a file", PUBLISH_MAX, publish).await?
}

/// Space for the copy, if there is any; `None` for a file that holds nothing, which is removed.
#[allow(clippy::option_option, reason = "nothing to copy, or too little space")]
fn reserve(turn: &Turn, path: &RecordingPath, ledger: &SpaceLedger) -> io::Result<Option<Option<Reservation>>> {
    let size_bytes = path.part_bytes(turn)?;
    if size_bytes == 0 {
        path.remove_part(turn)?;
        return Ok(None);
    }
    ledger.reserve(turn, size_bytes).map(Some)
}

async fn copy(ffmpeg: &Path, path: &RecordingPath) -> Result<(), FinishError> {
    let arguments = completion(&path.part(), &path.temporary());
    let mut process = Process::start_leashed(ffmpeg, &arguments, Stdio::null())?;
    let exit = process.ended_within(COPY_MAX).await?;
    if exit.success { Ok(()) } else { Err(FinishError::Copy(exit.said)) }
}

fn publish(turn: &Turn, path: &RecordingPath, largest: Option<(u16, u16)>) -> io::Result<Result<(), FinishError>> {
    let file = path.open_temporary(turn)?;
    if mp4::duration(turn, &file)?.is_none_or(|duration| duration.is_zero()) {
        path.remove_temporary(turn)?;
        path.remove_part(turn)?;
        return Ok(Err(FinishError::Empty));
    }
    if let Some((width, height)) = largest {
        mp4::set_size(turn, &file, width, height)?;
    }
    path.publish(turn).map(Ok)
}

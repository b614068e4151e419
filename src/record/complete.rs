//! Completes a file: from fragments that survive a crash to one index at the front.
//!
//! **Invariant:** the fragments are removed only after the complete file is on the disk under its name.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::ffmpeg::command::complete as completion;
use super::ffmpeg::process::{FfmpegError, Process};
use super::files::path::RecordingPath;
use super::files::{mp4, space};

/// How long the copy of a file may take. It runs at the speed of the disk.
const COPY_MAX: Duration = Duration::from_secs(1800);

/// Why a file was not completed.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// It holds nothing that could be played; it is removed.
    #[error("nothing that could be played had been written")]
    Empty,
    /// The disk holds no copy; the fragments stay.
    #[error("the disk is too full to complete the file: it stays as it is and is completed at the next start")]
    NoSpace,
    /// ffmpeg could not copy it; the fragments stay.
    #[error("the file could not be completed: {0}")]
    Copy(String),
    /// The disk failed; the fragments stay.
    #[error("the file could not be completed: {0}")]
    Disk(#[from] io::Error),
    /// ffmpeg could not be run; the fragments stay.
    #[error("the file could not be completed: {0}")]
    Ffmpeg(#[from] FfmpegError),
}

/// Completes what was written to the growing file.
///
/// # Errors
///
/// [`FinishError`]
pub async fn complete(ffmpeg: &Path, path: &RecordingPath, largest: Option<(u16, u16)>) -> Result<(), FinishError> {
    let part = path.part();
    let size_bytes = tokio::fs::metadata(&part).await?.len();
    if size_bytes == 0 {
        path.remove_part()?;
        return Err(FinishError::Empty);
    }
    if !space::holds_copy(&part, size_bytes) {
        return Err(FinishError::NoSpace);
    }
    let copied = copy(ffmpeg, path).await;
    let path = path.clone();
    // fsync may take its time.
    let published = tokio::task::spawn_blocking(move || match copied {
        Ok(()) => publish(&path, largest),
        Err(error) => {
            // It is missing where ffmpeg did not come so far.
            let _ = std::fs::remove_file(path.temporary());
            Err(error)
        }
    });
    published.await.map_err(io::Error::other)?
}

async fn copy(ffmpeg: &Path, path: &RecordingPath) -> Result<(), FinishError> {
    let arguments = completion(&path.part(), &path.temporary());
    let mut process = Process::start_leashed(ffmpeg, &arguments, Stdio::null())?;
    let exit = process.ended_within(COPY_MAX).await?;
    if exit.success { Ok(()) } else { Err(FinishError::Copy(exit.said)) }
}

fn publish(path: &RecordingPath, largest: Option<(u16, u16)>) -> Result<(), FinishError> {
    let file = File::options().read(true).write(true).open(path.temporary())?;
    if mp4::duration(&file)?.is_none_or(|duration| duration.is_zero()) {
        std::fs::remove_file(path.temporary())?;
        path.remove_part()?;
        return Err(FinishError::Empty);
    }
    if let Some((width, height)) = largest {
        mp4::set_size(&file, width, height)?;
    }
    path.publish()?;
    Ok(())
}

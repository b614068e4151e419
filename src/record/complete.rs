//! Completes a file: what ffmpeg left becomes a whole file under its final name, and nothing of it is lost on the way.
//!
//! An ffmpeg that knows the hybrid form has made its file whole already: it gets its name. Fragments, of an older ffmpeg or
//! of one that was killed, are copied by ffmpeg into a file with one index at the front. The copy takes some 40 MB of memory
//! for each hour of a broadcast with sound, and the file's size once more on the disk.
//!
//! **Invariant:** the fragments are removed only after a file that holds at least as many samples is on the disk under its
//! name, or when it is proven that they hold none.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::ffmpeg::command::complete as completion;
use super::ffmpeg::process::{FfmpegError, Priority, Process};
use super::files::mp4::{self, Survey};
use super::files::path::RecordingPath;
use super::files::space;
use crate::hub::io::FileFacts;

/// How long a copy may take at least.
const COPY_MIN: Duration = Duration::from_secs(600);

/// The slowest disk that a copy is waited for, in bytes a second. Each byte is written twice.
const COPY_SLOWEST_BYTES: u64 = 2 << 20;

/// A file of more samples is not copied, for that would take gigabytes of memory: more than a day at 75 a second, which only
/// a server without `--record-segment` left behind. It gets its name as it is, in fragments, and plays.
const COPY_MAX_SAMPLES: u64 = 7_000_000;

/// Why a file was not completed.
#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    /// It holds nothing that could be played; it is removed.
    #[error("nothing that could be played had been written")]
    Empty,
    /// The disk holds no copy; the fragments stay.
    #[error("too little free space to complete the file: it plays as it is, and is completed when there is space")]
    NoSpace,
    /// ffmpeg could not copy it; the fragments stay.
    #[error("the file could not be completed: {0}")]
    Copy(String),
    /// The copy lacks some of it; the fragments stay.
    #[error("the file could not be completed: its copy would hold {kept} of {held} samples")]
    Lossy {
        /// Samples of the copy.
        kept: u64,
        /// Samples of the fragments.
        held: u64,
    },
    /// The disk failed; the fragments stay.
    #[error("the file could not be completed: {0}")]
    Disk(#[from] io::Error),
    /// ffmpeg could not be run; the fragments stay.
    #[error("the file could not be completed: {0}")]
    Ffmpeg(#[from] FfmpegError),
}

/// What stands in the growing file.
#[derive(Debug)]
struct Part {
    survey: Survey,
    size_bytes: u64,
}

/// Completes what was written to the growing file.
///
/// # Errors
///
/// [`CompleteError`]
pub async fn complete(
    ffmpeg: &Path,
    path: &RecordingPath,
    largest: Option<(u16, u16)>,
) -> Result<FileFacts, CompleteError> {
    let part = on_disk(path, |path| look(&path.part())).await?;
    if part.survey.is_proven_empty() {
        on_disk(path, RecordingPath::remove_part).await?;
        return Err(CompleteError::Empty);
    }
    let fragments = part.survey.fragmented_total();
    if (part.survey.is_whole() && fragments == 0) || fragments > COPY_MAX_SAMPLES {
        return on_disk(path, move |path| place(path, largest)).await;
    }
    let size_bytes = part.size_bytes;
    if !on_disk(path, move |path| Ok(space::holds_copy(&path.part(), size_bytes))).await? {
        return Err(CompleteError::NoSpace);
    }
    let copied = match copy(ffmpeg, path, size_bytes).await {
        Ok(()) => on_disk(path, move |path| Ok(publish(path, &part.survey, largest))).await?,
        Err(error) => Err(error),
    };
    if copied.is_err() {
        // It is missing where ffmpeg did not come so far.
        let _ = on_disk(path, |path| std::fs::remove_file(path.temporary())).await;
    }
    copied
}

async fn on_disk<T: Send + 'static>(
    path: &RecordingPath,
    work: impl FnOnce(&RecordingPath) -> io::Result<T> + Send + 'static,
) -> Result<T, CompleteError> {
    let path = path.clone();
    Ok(tokio::task::spawn_blocking(move || work(&path)).await.map_err(io::Error::other)??)
}

fn look(part: &Path) -> io::Result<Part> {
    let file = File::open(part)?;
    Ok(Part { survey: mp4::survey(&file)?, size_bytes: file.metadata()?.len() })
}

async fn copy(ffmpeg: &Path, path: &RecordingPath, size_bytes: u64) -> Result<(), CompleteError> {
    let arguments = completion(&path.part(), &path.temporary());
    let mut process = Process::start_leashed(ffmpeg, &arguments, Stdio::null(), Priority::Last)?;
    let limit = COPY_MIN + Duration::from_secs(size_bytes / COPY_SLOWEST_BYTES);
    let exit = process.ended_within(limit).await?;
    if exit.success { Ok(()) } else { Err(CompleteError::Copy(exit.said)) }
}

/// Gives the growing file its final name as it is.
fn place(path: &RecordingPath, largest: Option<(u16, u16)>) -> io::Result<FileFacts> {
    let facts = prepare(&path.part(), largest)?;
    path.publish_part()?;
    Ok(facts)
}

/// Puts the copy in the place of the fragments, if it holds all of them.
fn publish(path: &RecordingPath, part: &Survey, largest: Option<(u16, u16)>) -> Result<FileFacts, CompleteError> {
    let copy = look(&path.temporary())?.survey;
    if !copy.is_whole() {
        return Err(CompleteError::Copy("ffmpeg could read none of it".to_owned()));
    }
    if !copy.holds_all_of(part) {
        let kept = copy.listed.values().sum();
        return Err(CompleteError::Lossy { kept, held: part.fragmented_total() });
    }
    let facts = prepare(&path.temporary(), largest)?;
    path.publish()?;
    Ok(facts)
}

/// Writes the largest size into a file that is about to get its final name, and tells what it holds.
fn prepare(file: &Path, largest: Option<(u16, u16)>) -> io::Result<FileFacts> {
    let file = File::options().read(true).write(true).open(file)?;
    if let Some((width, height)) = largest {
        mp4::set_size(&file, width, height)?;
    }
    Ok(FileFacts { duration: mp4::survey(&file)?.duration, size_bytes: file.metadata()?.len() })
}

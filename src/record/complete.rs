//! Completes a file: what ffmpeg left becomes a whole file under its final name, and nothing of it is lost on the way.
//!
//! An ffmpeg that knows the hybrid form has made its file whole already: it gets its name. Fragments, of an older ffmpeg or
//! of one that was killed, are copied by ffmpeg into a file with one index at the front. The copy takes some 40 MB of memory
//! for each hour of a broadcast with sound, and the file's size once more on the disk.
//!
//! **Invariant:** the fragments are removed only after a file that holds at least as many samples is on the disk under its
//! name, or when it is proven that they hold none.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::ffmpeg::command::complete as completion;
use super::ffmpeg::process::{FfmpegError, Priority, Process};
use super::files::disk::{Disk, DiskError, Turn};
use super::files::growing::Growth;
use super::files::ledger::SpaceLedger;
use super::files::mp4::{self, Survey};
use super::files::path::RecordingPath;
use super::files::pending;
use crate::hub::io::FileFacts;

/// How long the disk may take to be looked through, or to keep a finished file: an index of hours is read, and all that was
/// written must reach the disk.
const DISK_MAX: Duration = Duration::from_secs(120);

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
    /// There is no file.
    #[error("the file was removed while it was written, or its disk was unmounted")]
    Missing,
    /// The disk holds no copy; the fragments stay.
    #[error("the disk is too full to complete the file: it plays as it is, and is completed when there is space")]
    NoSpace,
    /// Another file has its name; it was given another one.
    #[error("another file has the recording's name: what was written is {0} now, and is completed under that name")]
    Renamed(String),
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
    Disk(#[from] DiskError),
    /// ffmpeg could not be run; the fragments stay.
    #[error("the file could not be completed: {0}")]
    Ffmpeg(#[from] FfmpegError),
}

/// What completions share: space, and how many run at a time.
#[derive(Debug)]
pub struct Completions {
    ledger: SpaceLedger,
    slots: Arc<Semaphore>,
    /// The directory, where the operator's command waits for files.
    marks: Option<PathBuf>,
}

impl Completions {
    /// As many at a time as there are cores. With `marks`, each file is marked in that directory for the operator's command.
    pub fn new(ledger: SpaceLedger, marks: Option<PathBuf>) -> Self {
        let slots = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8));
        Self { ledger, slots: Arc::new(Semaphore::new(slots)), marks }
    }
}

/// Completes what was written to the growing file.
///
/// `growth` lasts until the disk has done all it was asked for, even after the deadline: until then nobody else may begin to
/// complete the file, since both would write to the same copy.
///
/// # Errors
///
/// [`CompleteError`]
pub async fn complete(
    disk: &Disk,
    completions: &Completions,
    ffmpeg: &Path,
    path: &RecordingPath,
    growth: Growth,
    largest: Option<(u16, u16)>,
) -> Result<FileFacts, CompleteError> {
    let on_disk = OnDisk { disk, path, growth: Arc::new(growth) };
    let _slot = completions.slots.acquire().await.map_err(|closed| DiskError::Io(io::Error::other(closed)))?;
    let part = match on_disk.run("looking through a file", look).await? {
        Found::Nothing => return Err(CompleteError::Missing),
        Found::Finished(facts) => return Ok(facts),
        Found::Renamed(name) => return Err(CompleteError::Renamed(name)),
        Found::Part(part) => part,
    };
    let size_bytes = part.size_bytes;
    if part.is_proven_empty() {
        on_disk.run("removing a file", |turn, path| path.remove_part(turn)).await?;
        return Err(CompleteError::Empty);
    }
    let marks = completions.marks.clone();
    // A track of which nothing came is left out by the copy alone.
    if part.is_complete() || part.total() > COPY_MAX_SAMPLES {
        let place = move |turn: &Turn, path: &RecordingPath| {
            let facts = prepare(turn, path, largest, false)?;
            mark(turn, marks.as_deref(), path)?;
            path.publish_part(turn).map(|()| facts)
        };
        return Ok(on_disk.run("keeping a file", place).await?);
    }
    let ledger = completions.ledger.clone();
    let reserve = move |turn: &Turn, _: &RecordingPath| ledger.reserve(turn, size_bytes);
    let _reservation = on_disk.run("looking for space", reserve).await?.ok_or(CompleteError::NoSpace)?;
    let completed = match copy(ffmpeg, path, size_bytes).await {
        Ok(()) => {
            let publish =
                move |turn: &Turn, path: &RecordingPath| publish(turn, path, &part, largest, marks.as_deref());
            on_disk.run("keeping a file", publish).await.unwrap_or_else(|error| Err(error.into()))
        }
        Err(error) => Err(error),
    };
    // What a disk that does not answer has yet to do, it does with that copy.
    if completed.as_ref().is_err_and(|error| !matches!(error, CompleteError::Disk(error) if error.is_silent())) {
        // It is missing where ffmpeg did not come so far.
        let _ = on_disk.run("removing a copy", |turn, path| path.remove_temporary(turn)).await;
    }
    completed
}

/// What stands where a growing file should.
#[derive(Debug)]
enum Found {
    /// It, to be completed.
    Part(Survey),
    /// Nothing.
    Nothing,
    /// The finished file: an earlier completion has come so far.
    Finished(FileFacts),
    /// It had the name of another finished file, and has this one now.
    Renamed(String),
}

fn look(turn: &Turn, path: &RecordingPath) -> io::Result<Found> {
    let finished = match path.open_finished(turn) {
        Ok(file) => Some(mp4::survey(turn, &file)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let part = match path.open_part(turn) {
        Ok(file) => mp4::survey(turn, &file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(finished.map_or(Found::Nothing, |finished| Found::Finished(facts_of(&finished))));
        }
        Err(error) => return Err(error),
    };
    match finished {
        None => Ok(Found::Part(part)),
        // A server that was killed had published the copy, and not yet removed the fragments.
        Some(finished) if finished.is_whole() && finished.holds_all_of(&part) => {
            path.remove_part(turn)?;
            Ok(Found::Finished(facts_of(&finished)))
        }
        Some(_) => path.renumber(turn).map(Found::Renamed),
    }
}

/// Marks a file for the operator's command, before it is there: so none is forgotten.
fn mark(turn: &Turn, marks: Option<&Path>, path: &RecordingPath) -> io::Result<()> {
    marks.map_or(Ok(()), |root| pending::mark(turn, root, &path.name()))
}

fn facts_of(survey: &Survey) -> FileFacts {
    FileFacts { duration: survey.duration, size_bytes: survey.size_bytes }
}

/// One file on its disk.
#[derive(Debug)]
struct OnDisk<'a> {
    disk: &'a Disk,
    path: &'a RecordingPath,
    growth: Arc<Growth>,
}

impl OnDisk<'_> {
    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Turn, &RecordingPath) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DiskError> {
        let (path, growth) = (self.path.clone(), Arc::clone(&self.growth));
        let work = move |turn: &Turn| {
            let _growth = growth;
            work(turn, &path)
        };
        self.disk.run(doing, DISK_MAX, work).await
    }
}

async fn copy(ffmpeg: &Path, path: &RecordingPath, size_bytes: u64) -> Result<(), CompleteError> {
    let arguments = completion(&path.part(), &path.temporary());
    let mut process = Process::start_leashed(ffmpeg, &arguments, Stdio::null(), Priority::Last)?;
    let limit = COPY_MIN + Duration::from_secs(size_bytes / COPY_SLOWEST_BYTES);
    let exit = process.ended_within(limit).await?;
    if exit.success { Ok(()) } else { Err(CompleteError::Copy(exit.said)) }
}

/// Puts the copy in the place of the fragments, if it holds all of them.
fn publish(
    turn: &Turn,
    path: &RecordingPath,
    part: &Survey,
    largest: Option<(u16, u16)>,
    marks: Option<&Path>,
) -> io::Result<Result<FileFacts, CompleteError>> {
    let copy = mp4::survey(turn, &path.open_temporary(turn)?)?;
    if !copy.is_whole() {
        return Ok(Err(CompleteError::Copy("ffmpeg could read none of it".to_owned())));
    }
    if !copy.holds_all_of(part) {
        let kept = copy.listed.values().sum();
        return Ok(Err(CompleteError::Lossy { kept, held: part.total() }));
    }
    let facts = prepare(turn, path, largest, true)?;
    mark(turn, marks, path)?;
    path.publish(turn).map(|()| Ok(facts))
}

/// Writes the largest size into a file that is about to get its final name, and tells what it holds.
fn prepare(turn: &Turn, path: &RecordingPath, largest: Option<(u16, u16)>, is_copy: bool) -> io::Result<FileFacts> {
    let file = if is_copy { path.open_temporary(turn)? } else { path.open_part(turn)? };
    if let Some((width, height)) = largest {
        mp4::set_size(turn, &file, width, height)?;
    }
    Ok(facts_of(&mp4::survey(turn, &file)?))
}

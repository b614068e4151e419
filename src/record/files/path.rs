//! The recordings' directory: names, the lock, and what is left unfinished in it.
//!
//! `DIR/{room}/{user}/{YYYYMMDD-HHMMSS}[-N].mp4`, in UTC; `.part.mp4` while it grows, `.tmp` while it is completed.
//!
//! **Invariant:** a finished file never replaces another one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::signal::{BroadcastId, RoomId};

/// What a growing file's name ends with.
pub const PART: &str = ".part.mp4";

/// What the name of a file that is being completed ends with.
const TEMPORARY: &str = ".tmp";

/// What a finished file's name ends with.
pub const FINAL: &str = ".mp4";

/// The file whose lock keeps two servers apart. No room can have this name.
const LOCK: &str = ".onair.lock";

/// Files that begin in one second under one broadcast's name, at most.
const SAME_SECOND_MAX: u32 = 1000;

const STAMP: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]-[hour][minute][second]");

/// How long such a stamp is.
const STAMP_CHARACTERS: usize = 15;

/// One recording's three paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingPath {
    root: PathBuf,
    /// Below the root, with `/` between its parts and without an ending.
    stem: String,
}

impl RecordingPath {
    /// Reserves a name for a file that begins at `now`, by creating the growing file.
    ///
    /// # Errors
    ///
    /// Where the directory or the file cannot be created.
    pub fn reserve(root: &Path, broadcast: &BroadcastId, now: OffsetDateTime) -> io::Result<Self> {
        let directory = format!("{}/{}", broadcast.room, broadcast.user);
        let create = || fs::DirBuilder::new().recursive(true).mode(0o755).create(root.join(&directory));
        create()?;
        let stamp = now.to_offset(time::UtcOffset::UTC).format(STAMP).map_err(io::Error::other)?;
        for number in 1..=SAME_SECOND_MAX {
            let stem = match number {
                1 => format!("{directory}/{stamp}"),
                _ => format!("{directory}/{stamp}-{number}"),
            };
            let path = Self { root: root.to_owned(), stem };
            if fs::symlink_metadata(path.finished()).is_ok() {
                continue;
            }
            match OpenOptions::new().write(true).create_new(true).open(path.part()) {
                Ok(_) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // Its last file was removed just now, and it with that. The next number is as good.
                Err(error) if error.kind() == io::ErrorKind::NotFound => create()?,
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The growing file.
    pub fn part(&self) -> PathBuf {
        self.root.join(self.part_name())
    }

    /// The file that is being completed.
    pub fn temporary(&self) -> PathBuf {
        self.root.join(format!("{}{TEMPORARY}", self.stem))
    }

    /// The finished file.
    pub fn finished(&self) -> PathBuf {
        self.root.join(self.name())
    }

    /// The finished file below the root, as clients are told.
    pub fn name(&self) -> String {
        format!("{}{FINAL}", self.stem)
    }

    /// The growing file below the root.
    pub fn part_name(&self) -> String {
        format!("{}{PART}", self.stem)
    }

    /// Puts the completed file in its place and removes the growing one.
    ///
    /// # Errors
    ///
    /// Where the disk fails, or the place is taken; the growing file stays then.
    pub fn publish(&self) -> io::Result<()> {
        File::open(self.temporary())?.sync_all()?;
        rename_to_free(&self.temporary(), &self.finished())?;
        self.sync_directory()?;
        self.remove_part()
    }

    fn sync_directory(&self) -> io::Result<()> {
        match self.finished().parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Gives the growing file its final name: it is complete.
    ///
    /// # Errors
    ///
    /// Where the disk fails, or the place is taken; the growing file stays then.
    pub fn publish_part(&self) -> io::Result<()> {
        File::open(self.part())?.sync_all()?;
        rename_to_free(&self.part(), &self.finished())?;
        self.sync_directory()
    }

    /// Removes the growing file.
    ///
    /// # Errors
    ///
    /// Where the disk fails.
    pub fn remove_part(&self) -> io::Result<()> {
        fs::remove_file(self.part())
    }
}

/// Renames without replacing.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // Some file systems do not know the flag. The name was free when it was reserved, and the lock keeps others out.
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        result => Ok(result?),
    }
}

/// The lock on a recordings' directory. It ends with this value, or with the process.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: Flock<File>,
}

impl DirectoryLock {
    /// Creates the directory where it is missing, and locks it. `None` where another process holds the lock.
    ///
    /// # Errors
    ///
    /// Where it cannot be created or written to.
    pub fn take(root: &Path) -> io::Result<Option<Self>> {
        fs::create_dir_all(root)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(root.join(LOCK))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { _file: file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }
}

/// A file found below the root, two directories deep.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Whose it is.
    pub broadcast: BroadcastId,
    /// Its name without its directory.
    pub file_name: String,
}

/// The files below `root` that lie where recordings lie, in no particular order, at most `max` of them.
///
/// # Errors
///
/// Where `root` cannot be read.
pub fn find(root: &Path, max: usize) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for room in names_in(root)? {
        let Ok(room_id) = room.parse::<RoomId>() else { continue };
        // A directory that vanished or is none holds no recordings.
        for user in names_in(&root.join(&room)).unwrap_or_default() {
            let Ok(user_id) = user.parse() else { continue };
            let broadcast = BroadcastId::new(room_id.clone(), user_id);
            for file_name in names_in(&root.join(&room).join(&user)).unwrap_or_default() {
                if found.len() >= max {
                    return Ok(found);
                }
                found.push(Found { broadcast: broadcast.clone(), file_name });
            }
        }
    }
    Ok(found)
}

fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

/// When the recording of this name began, and its number among those of that second.
pub fn began(file_name: &str) -> Option<(OffsetDateTime, u32)> {
    let (stamp, rest) = file_name.split_at_checked(STAMP_CHARACTERS)?;
    let began = PrimitiveDateTime::parse(stamp, STAMP).ok()?.assume_utc();
    let number = rest.strip_prefix('-').and_then(|rest| rest.split('.').next()?.parse().ok());
    Some((began, number.unwrap_or(1)))
}

/// The recordings that a server left unfinished. What it was completing is removed: it begins anew.
///
/// # Errors
///
/// Where `root` cannot be read.
pub fn unfinished(root: &Path) -> io::Result<Vec<RecordingPath>> {
    let mut paths = Vec::new();
    for Found { broadcast, file_name } in find(root, usize::MAX)? {
        if began(&file_name).is_none() {
            continue;
        }
        let path = |stem: &str| RecordingPath { root: root.to_owned(), stem: format!("{broadcast}/{stem}") };
        if let Some(stem) = file_name.strip_suffix(TEMPORARY) {
            if let Err(error) = fs::remove_file(path(stem).temporary()) {
                tracing::warn!(%error, file = %file_name, "a temporary recording could not be removed");
            }
        } else if let Some(stem) = file_name.strip_suffix(PART) {
            paths.push(path(stem));
        }
    }
    paths.sort_by(|a, b| a.stem.cmp(&b.stem));
    Ok(paths)
}

/// Whether a process has the file open: the ffmpeg of a server that was killed may still be completing it.
pub fn is_open(path: &Path) -> bool {
    let Ok(path) = fs::canonicalize(path) else {
        return false;
    };
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    processes.filter_map(Result::ok).any(|process| {
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            return false;
        };
        descriptors.filter_map(Result::ok).any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn temporary_dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("onair-files-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn files_of_one_second_get_numbers_and_never_replace_each_other() {
        let dir = temporary_dir("names");
        let broadcast = "room/user".parse().unwrap();
        let now = datetime!(2026-02-03 04:05:06 UTC);
        let first = RecordingPath::reserve(&dir, &broadcast, now).unwrap();
        assert_eq!(first.name(), "room/user/20260203-040506.mp4");
        assert_eq!(first.part_name(), "room/user/20260203-040506.part.mp4");
        fs::write(first.temporary(), "first").unwrap();
        first.publish().unwrap();
        let second = RecordingPath::reserve(&dir, &broadcast, now).unwrap();
        let third = RecordingPath::reserve(&dir, &broadcast, now).unwrap();
        assert_eq!(
            (second.name().as_str(), third.name().as_str()),
            ("room/user/20260203-040506-2.mp4", "room/user/20260203-040506-3.mp4")
        );
        fs::write(second.finished(), "someone else's").unwrap();
        fs::write(second.temporary(), "second").unwrap();
        assert_eq!(second.publish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(second.finished()).unwrap(), "someone else's");
        assert!(second.part().exists(), "what was recorded is not lost");
        assert_eq!(fs::read_to_string(first.finished()).unwrap(), "first");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_name_tells_when_the_recording_began() {
        let at = datetime!(2026-02-03 04:05:06 UTC);
        assert_eq!(began("20260203-040506.mp4"), Some((at, 1)));
        assert_eq!(began("20260203-040506-12.part.mp4"), Some((at, 12)));
        for name in ["", "holiday.mp4", "20261303-040506.mp4", "ää20260203-040506"] {
            assert_eq!(began(name), None, "{name}");
        }
    }

    #[test]
    fn only_what_lies_where_recordings_lie_is_unfinished() {
        let dir = temporary_dir("unfinished");
        fs::create_dir_all(dir.join("room/user")).unwrap();
        fs::create_dir_all(dir.join(".hidden/user")).unwrap();
        for name in ["room/user/20260203-040506.part.mp4", "room/user/mine.part.mp4", "room/user/20260203-040507.mp4"] {
            fs::write(dir.join(name), "").unwrap();
        }
        fs::write(dir.join("room/user/20260203-040508.tmp"), "").unwrap();
        fs::write(dir.join(".hidden/user/20260203-040506.part.mp4"), "").unwrap();
        let left: Vec<String> = unfinished(&dir).unwrap().iter().map(RecordingPath::name).collect();
        assert_eq!(left, ["room/user/20260203-040506.mp4"]);
        assert!(!dir.join("room/user/20260203-040508.tmp").exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_is_open_while_a_process_holds_it() {
        let dir = temporary_dir("open");
        let path = dir.join("file");
        let file = File::create(&path).unwrap();
        assert!(is_open(&path));
        drop(file);
        assert!(!is_open(&path));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_lock_is_one_for_all() {
        let dir = temporary_dir("lock");
        let lock = DirectoryLock::take(&dir).unwrap();
        assert!(lock.is_some());
        assert!(DirectoryLock::take(&dir).unwrap().is_none());
        drop(lock);
        assert!(DirectoryLock::take(&dir).unwrap().is_some());
        fs::remove_dir_all(dir).unwrap();
    }
}

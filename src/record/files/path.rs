//! The names of recordings, and the files that stand under them.
//!
//! `DIR/{room}/{user}/{YYYYMMDD-HHMMSS}[-N].mp4`, in UTC; `.part.mp4` while it grows, `.tmp` while it is completed.
//!
//! **Invariant:** a finished file never replaces another one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::disk::Turn;
use super::growing::{Growing, Growth};
use crate::signal::{BroadcastId, RoomId};

/// What a growing file's name ends with.
pub const PART: &str = ".part.mp4";

/// What the name of a file that is being completed ends with.
const TEMPORARY: &str = ".tmp";

/// What a finished file's name ends with.
pub const FINAL: &str = ".mp4";

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
    /// Reserves a name for a file that begins at `now`, by creating the growing file. It is in the list of `growing` before
    /// it is on the disk, so that nobody takes it for a leftover.
    ///
    /// # Errors
    ///
    /// Where the directory or the file cannot be created.
    pub fn reserve(
        turn: &Turn,
        root: &Path,
        growing: &Growing,
        broadcast: &BroadcastId,
        now: OffsetDateTime,
    ) -> io::Result<(Self, Growth)> {
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
            if path.finished_exists(turn) {
                continue;
            }
            let Some(growth) = growing.try_begin(path.name()) else { continue };
            match OpenOptions::new().write(true).create_new(true).open(path.part()) {
                Ok(_) => return Ok((path, growth)),
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

    /// Orders recordings from the oldest to the newest, by the time in their names.
    pub fn age(&self) -> (&str, &str) {
        (self.stem.rsplit('/').next().unwrap_or_default(), &self.stem)
    }

    /// A path that is nowhere on the disk.
    #[cfg(test)]
    pub fn for_tests(stem: &str) -> Self {
        Self { root: "/nonexistent".into(), stem: stem.to_owned() }
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
    pub fn publish(&self, turn: &Turn) -> io::Result<()> {
        File::open(self.temporary())?.sync_all()?;
        rename_to_free(turn, &self.temporary(), &self.finished())?;
        self.sync_directory()?;
        self.remove_part(turn)
    }

    /// Gives the growing file its final name: it is complete.
    ///
    /// # Errors
    ///
    /// Where the disk fails, or the place is taken; the growing file stays then.
    pub fn publish_part(&self, turn: &Turn) -> io::Result<()> {
        File::open(self.part())?.sync_all()?;
        rename_to_free(turn, &self.part(), &self.finished())?;
        self.sync_directory()
    }

    fn sync_directory(&self) -> io::Result<()> {
        match self.finished().parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Removes the growing file.
    ///
    /// # Errors
    ///
    /// Where the disk fails.
    pub fn remove_part(&self, _turn: &Turn) -> io::Result<()> {
        fs::remove_file(self.part())
    }

    /// Removes what was completed so far, if there is any.
    ///
    /// # Errors
    ///
    /// Where the disk fails.
    pub fn remove_temporary(&self, _turn: &Turn) -> io::Result<()> {
        match fs::remove_file(self.temporary()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Opens the finished file, to read it.
    ///
    /// # Errors
    ///
    /// Where there is none, or the disk fails.
    pub fn open_finished(&self, _turn: &Turn) -> io::Result<File> {
        File::open(self.finished())
    }

    /// Gives the growing file another name, since a finished file has taken the one that it would get. Returns it.
    ///
    /// # Errors
    ///
    /// Where the disk fails, or no name is left.
    pub fn renumber(&self, turn: &Turn) -> io::Result<String> {
        for number in 2..=SAME_SECOND_MAX {
            // Its own number stays in front: `20260203-040506-2` may become `20260203-040506-2000`.
            let stem = match self.stem.rsplit('/').next().map(|name| name.len() > STAMP_CHARACTERS) {
                Some(true) => format!("{}{number:03}", self.stem),
                _ => format!("{}-{number}", self.stem),
            };
            let other = Self { root: self.root.clone(), stem };
            if !other.finished_exists(turn) && rename_to_free(turn, &self.part(), &other.part()).is_ok() {
                return Ok(other.part_name());
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Opens the growing file, to read and to correct it.
    ///
    /// # Errors
    ///
    /// Where there is none, or the disk fails.
    pub fn open_part(&self, _turn: &Turn) -> io::Result<File> {
        File::options().read(true).write(true).open(self.part())
    }

    /// Opens what was completed so far, to read and to correct it.
    ///
    /// # Errors
    ///
    /// Where the disk fails.
    pub fn open_temporary(&self, _turn: &Turn) -> io::Result<File> {
        File::options().read(true).write(true).open(self.temporary())
    }

    fn finished_exists(&self, _turn: &Turn) -> bool {
        fs::symlink_metadata(self.finished()).is_ok()
    }
}

/// Renames without replacing.
fn rename_to_free(_turn: &Turn, from: &Path, to: &Path) -> io::Result<()> {
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
pub fn find(turn: &Turn, root: &Path, max: usize) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for room in names_in(turn, root)? {
        let Ok(room_id) = room.parse::<RoomId>() else { continue };
        // A directory that vanished or is none holds no recordings.
        for user in names_in(turn, &root.join(&room)).unwrap_or_default() {
            let Ok(user_id) = user.parse() else { continue };
            let broadcast = BroadcastId::new(room_id.clone(), user_id);
            for file_name in names_in(turn, &root.join(&room).join(&user)).unwrap_or_default() {
                if found.len() >= max {
                    return Ok(found);
                }
                found.push(Found { broadcast: broadcast.clone(), file_name });
            }
        }
    }
    Ok(found)
}

/// The names in a directory.
///
/// # Errors
///
/// Where it cannot be read.
pub fn names_in(_turn: &Turn, directory: &Path) -> io::Result<Vec<String>> {
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

/// What nobody works on any more.
#[derive(Debug, Default)]
pub struct Abandoned {
    /// Recordings that were not finished, the oldest first.
    pub unfinished: Vec<RecordingPath>,
    /// Files whose completion was interrupted. It starts again from the fragments.
    pub temporary: Vec<RecordingPath>,
}

/// What stands below `root` that this process neither writes nor completes. Another process may: see
/// [`is_open`](super::open::is_open).
///
/// # Errors
///
/// Where `root` cannot be read.
pub fn abandoned(turn: &Turn, root: &Path, growing: &Growing) -> io::Result<Abandoned> {
    let mut abandoned = Abandoned::default();
    for Found { broadcast, file_name } in find(turn, root, usize::MAX)? {
        if began(&file_name).is_none() {
            continue;
        }
        let path = |stem: &str| RecordingPath { root: root.to_owned(), stem: format!("{broadcast}/{stem}") };
        let (list, path) = if let Some(stem) = file_name.strip_suffix(TEMPORARY) {
            (&mut abandoned.temporary, path(stem))
        } else if let Some(stem) = file_name.strip_suffix(PART) {
            (&mut abandoned.unfinished, path(stem))
        } else {
            continue;
        };
        if !growing.holds(&path.name()) {
            list.push(path);
        }
    }
    abandoned.unfinished.sort_by(|a, b| a.age().cmp(&b.age()));
    Ok(abandoned)
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
        let (turn, growing) = (Turn::for_tests(), Growing::default());
        let reserve = || RecordingPath::reserve(&turn, &dir, &growing, &broadcast, now).unwrap();
        let (first, growth) = reserve();
        assert!(growing.holds(&first.name()));
        assert_eq!(first.name(), "room/user/20260203-040506.mp4");
        assert_eq!(first.part_name(), "room/user/20260203-040506.part.mp4");
        fs::write(first.temporary(), "first").unwrap();
        first.publish(&turn).unwrap();
        drop(growth);
        let (second, _second) = reserve();
        let (third, _third) = reserve();
        assert_eq!(
            (second.name().as_str(), third.name().as_str()),
            ("room/user/20260203-040506-2.mp4", "room/user/20260203-040506-3.mp4")
        );
        fs::write(second.finished(), "someone else's").unwrap();
        fs::write(second.temporary(), "second").unwrap();
        assert_eq!(second.publish(&turn).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
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
        let growing = Growing::default();
        let found = || abandoned(&Turn::for_tests(), &dir, &growing).unwrap();
        let names = |paths: &[RecordingPath]| paths.iter().map(RecordingPath::name).collect::<Vec<_>>();
        assert_eq!(names(&found().unfinished), ["room/user/20260203-040506.mp4"]);
        assert_eq!(names(&found().temporary), ["room/user/20260203-040508.mp4"]);
        let _growth = growing.begin("room/user/20260203-040506.mp4".to_owned());
        assert!(found().unfinished.is_empty(), "this process is at it");
        fs::remove_dir_all(dir).unwrap();
    }
}

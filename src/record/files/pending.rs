//! Finished recordings that the operator's command has yet to take: an empty file for each, below a directory of their own.
//!
//! A mark is made before the command runs for the first time, and removed when it has succeeded; so a server that is killed
//! or stopped in between runs it again.
//!
//! **Invariant:** marks lie where no recording can lie.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::disk::Turn;
use super::path::{began, find};
use super::removal::prune;

/// The directory of the marks. No room can have this name.
const MARKS: &str = ".onair.pending";

/// Marks that are read, at most. The rest is found when those are done.
const MARKS_MAX: usize = 10_000;

fn marks(root: &Path) -> PathBuf {
    root.join(MARKS)
}

/// Marks a recording by its path below the root.
///
/// # Errors
///
/// Where the disk fails.
pub fn mark(_turn: &Turn, root: &Path, name: &str) -> io::Result<()> {
    let mark = marks(root).join(name);
    if let Some(directory) = mark.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    File::create(mark)?.sync_all()
}

/// Whether a recording is marked.
pub fn is_marked(_turn: &Turn, root: &Path, name: &str) -> bool {
    fs::symlink_metadata(marks(root).join(name)).is_ok()
}

/// Removes a mark.
///
/// # Errors
///
/// Where the disk fails. A mark that is not there is no error.
pub fn unmark(turn: &Turn, root: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(marks(root).join(name)) {
        Ok(()) => {
            prune(turn, &marks(root), name);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The recordings that are marked, the oldest first.
///
/// # Errors
///
/// Where the disk fails.
pub fn marked(turn: &Turn, root: &Path) -> io::Result<Vec<String>> {
    let found = match find(turn, &marks(root), MARKS_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let named = found.into_iter().filter_map(|found| {
        let began = began(&found.file_name)?;
        Some((began, format!("{}/{}", found.broadcast, found.file_name)))
    });
    let mut named: Vec<_> = named.collect();
    named.sort();
    Ok(named.into_iter().map(|(_, name)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_oldest_first_until_they_are_removed() {
        let turn = Turn::for_tests();
        let root = std::env::temp_dir().join(format!("onair-pending-{}", std::process::id()));
        assert_eq!(marked(&turn, &root).unwrap(), [""; 0]);
        let (older, newer) = ("r/v/20260102-030405.mp4", "r/u/20260102-030406.mp4");
        for name in [newer, older, older] {
            mark(&turn, &root, name).unwrap();
        }
        assert_eq!(marked(&turn, &root).unwrap(), [older, newer]);
        unmark(&turn, &root, older).unwrap();
        unmark(&turn, &root, older).unwrap();
        assert_eq!(marked(&turn, &root).unwrap(), [newer]);
        unmark(&turn, &root, newer).unwrap();
        assert_eq!(fs::read_dir(marks(&root)).unwrap().count(), 0);
        fs::remove_dir_all(root).unwrap();
    }
}

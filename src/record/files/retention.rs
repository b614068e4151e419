//! How long recordings are kept, and how much of the disk they may take.
//!
//! A recording that was left unfinished is kept and removed as a finished one is: otherwise one that can never be completed
//! would push every finished one out.
//!
//! **Invariant:** what a process writes or completes is neither counted nor removed; the rest goes the oldest first, and
//! nothing that is not a recording.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use super::disk::Turn;
use super::growing::Growing;
use super::open::OpenFiles;
use super::path::{FINAL, PART, began, find};
use super::removal::prune;

/// How often the directory is looked through.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Directory entries looked at, at most: what lies beyond is looked at when some of those are gone.
const ENTRIES_MAX: usize = 1_000_000;

/// What is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// For how long after it was last written to. `None`: for ever.
    pub keep: Option<Duration>,
    /// How many bytes recordings may take together, those that grow left out. `None`: as many as there are.
    pub max_bytes: Option<u64>,
}

impl Retention {
    /// Whether everything is kept.
    pub fn is_endless(self) -> bool {
        self == Self::default()
    }
}

/// Why a recording goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It was kept long enough.
    Age,
    /// All together are too big.
    Size,
}

/// A recording that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Its path below the root.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Why.
    pub cause: Cause,
}

/// A recording that nobody writes to.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    began: (OffsetDateTime, u32),
    changed: SystemTime,
    bytes: u64,
}

/// Removes what is not to be kept.
///
/// # Errors
///
/// Where `root` cannot be read. A file that cannot be removed is logged, and tried again the next time.
pub fn sweep(
    turn: &Turn,
    root: &Path,
    retention: Retention,
    growing: &Growing,
    now: SystemTime,
) -> io::Result<Vec<Removed>> {
    let found = find(turn, root, ENTRIES_MAX)?;
    // Only unfinished recordings can be written by others; most directories hold none.
    let has_parts = found.iter().any(|found| found.file_name.ends_with(PART));
    let open = if has_parts { OpenFiles::look(turn) } else { OpenFiles::default() };
    let entries = found.into_iter().filter_map(|found| {
        let began = began(&found.file_name).filter(|_| found.file_name.ends_with(FINAL))?;
        let name = format!("{}/{}", found.broadcast, found.file_name);
        let path = root.join(&name);
        let grows = growing.holds(&finished_name(&name)) || (name.ends_with(PART) && open.hold(turn, &path));
        let metadata = fs::symlink_metadata(path).ok().filter(|metadata| metadata.is_file() && !grows)?;
        Some(Entry { name, began, changed: metadata.modified().ok()?, bytes: metadata.len() })
    });
    let doomed = doomed(entries.collect(), retention, now);
    Ok(doomed.into_iter().filter(|removed| remove(turn, root, growing, removed)).collect())
}

/// The name that the recording has, or will have, when it is finished.
fn finished_name(name: &str) -> String {
    name.strip_suffix(PART).map_or_else(|| name.to_owned(), |stem| format!("{stem}{FINAL}"))
}

fn remove(turn: &Turn, root: &Path, growing: &Growing, removed: &Removed) -> bool {
    // Somebody may have begun to complete it since.
    let Some(_growth) = growing.try_begin(finished_name(&removed.name)) else {
        return false;
    };
    let result = fs::remove_file(root.join(&removed.name));
    match &result {
        Ok(()) => prune(turn, root, &removed.name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(%error, file = %removed.name, "a recording that is not to be kept cannot be removed");
        }
    }
    result.is_ok()
}

/// What is not to be kept of all that is there.
fn doomed(mut entries: Vec<Entry>, retention: Retention, now: SystemTime) -> Vec<Removed> {
    entries.sort_by(|a, b| a.began.cmp(&b.began).then_with(|| a.name.cmp(&b.name)));
    let mut total_bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let mut doomed = Vec::new();
    for entry in entries {
        // A file from the future is young.
        let age = now.duration_since(entry.changed).unwrap_or_default();
        let cause = if retention.keep.is_some_and(|keep| age > keep) {
            Cause::Age
        } else if retention.max_bytes.is_some_and(|max_bytes| total_bytes > max_bytes) {
            Cause::Size
        } else {
            continue;
        };
        total_bytes = total_bytes.saturating_sub(entry.bytes);
        doomed.push(Removed { name: entry.name, bytes: entry.bytes, cause });
    }
    doomed
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> SystemTime {
        SystemTime::from(datetime!(2026-02-10 00:00 UTC))
    }

    /// One that began so many days ago and took an hour.
    fn entry(days: u32, bytes: u64, name: &str) -> Entry {
        let began = now() - DAY * days;
        let changed = began + Duration::from_secs(3600);
        let name = format!("room/user/{name}");
        Entry { name, began: (OffsetDateTime::from(began), 1), changed, bytes }
    }

    fn names(entries: &[Entry], retention: Retention) -> Vec<(String, Cause)> {
        let doomed = doomed(entries.to_vec(), retention, now());
        doomed.into_iter().map(|removed| (removed.name.replace("room/user/", ""), removed.cause)).collect()
    }

    #[test]
    fn what_was_finished_longer_ago_goes() {
        let entries = [entry(1, 1, "new.mp4"), entry(3, 1, "old.mp4"), entry(2, 1, "left.part.mp4")];
        let keep = |keep| Retention { keep: Some(keep), max_bytes: None };
        assert_eq!(names(&entries, keep(DAY * 2)), [("old.mp4".to_owned(), Cause::Age)]);
        let two = [("old.mp4".to_owned(), Cause::Age), ("left.part.mp4".to_owned(), Cause::Age)];
        assert_eq!(names(&entries, keep(DAY)), two, "a leftover as well");
        assert_eq!(names(&entries, keep(DAY * 3 - Duration::from_secs(3600))), [], "it ended an hour after it began");
        assert_eq!(names(&entries, Retention::default()), []);
        assert!(Retention::default().is_endless() && !keep(DAY).is_endless());
    }

    #[test]
    fn the_oldest_go_until_the_rest_is_small_enough() {
        let entries = [
            entry(1, 40, "new.mp4"),
            entry(4, 10, "oldest.mp4"),
            entry(2, 30, "middle.mp4"),
            entry(3, 25, "left.part.mp4"),
        ];
        let max = |max_bytes| Retention { keep: None, max_bytes: Some(max_bytes) };
        assert_eq!(names(&entries, max(105)), []);
        assert_eq!(names(&entries, max(104)), [("oldest.mp4".to_owned(), Cause::Size)]);
        let two = [("oldest.mp4".to_owned(), Cause::Size), ("left.part.mp4".to_owned(), Cause::Size)];
        assert_eq!(names(&entries, max(70)), two, "a leftover in its turn, and no more than it");
        assert_eq!(names(&entries, max(0)).len(), 4);
        let both = Retention { keep: Some(DAY * 3), max_bytes: Some(70) };
        assert_eq!(
            names(&entries, both).iter().map(|(_, cause)| *cause).collect::<Vec<_>>(),
            [Cause::Age, Cause::Size]
        );
    }

    #[test]
    fn only_recordings_that_nobody_writes_are_removed() {
        let dir = std::env::temp_dir().join(format!("onair-retention-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("room/user")).unwrap();
        fs::create_dir_all(dir.join("room/user/20250203-040506.mp4")).unwrap();
        let files = [
            "20260203-040506.mp4",
            "20260203-040507.part.mp4",
            "20260203-040508.part.mp4",
            "20260203-040509.part.mp4",
            "20260203-040510.tmp",
            "notes.mp4",
            "a.txt",
        ];
        for name in files {
            fs::write(dir.join("room/user").join(name), "12345").unwrap();
        }
        let (turn, growing) = (Turn::for_tests(), Growing::default());
        let growth = growing.begin("room/user/20260203-040507.mp4".to_owned());
        let others = fs::File::open(dir.join("room/user/20260203-040508.part.mp4")).unwrap();
        let sweep = |max_bytes| {
            let retention = Retention { keep: None, max_bytes: Some(max_bytes) };
            let removed = sweep(&turn, &dir, retention, &growing, now()).unwrap();
            removed.into_iter().map(|removed| removed.name.replace("room/user/", "")).collect::<Vec<_>>()
        };
        assert_eq!(sweep(10), Vec::<String>::new(), "what is being written does not count");
        assert_eq!(sweep(0), ["20260203-040506.mp4", "20260203-040509.part.mp4"]);
        drop((growth, others));
        assert_eq!(sweep(5), ["20260203-040507.part.mp4"]);
        assert_eq!(fs::read_dir(dir.join("room/user")).unwrap().count(), 5);
        fs::remove_dir_all(dir).unwrap();
    }
}

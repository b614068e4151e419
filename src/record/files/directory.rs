//! The recordings' directory as a place: whether it is there, is ours, and can be written to.
//!
//! The lock is held on a file in the directory. When the directory is removed or unmounted, that file is no longer what
//! stands at the path; so each look compares the two. A mount point without its file system looks like an empty
//! directory: nothing is written there, since the recordings would land on another disk and be hidden by the next mount.
//!
//! **Invariant:** in the state [`DiskState::Ready`] this process holds the lock on the file at the path, and no other
//! server records there.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::disk::Turn;
use super::space;

/// The file whose lock keeps two servers apart. No room can have this name.
const LOCK: &str = ".onair.lock";

/// A file that is made and removed to see whether the disk can be written to.
const PROBE: &str = ".onair.probe";

/// How often that is done while all is well. It costs a write to the disk.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

/// Whether recordings can be written, else why not. As text: one line without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskState {
    /// They can.
    Ready,
    /// There is too little free space.
    Full {
        /// Bytes that are free.
        free_bytes: u64,
        /// Bytes that must be free.
        min_free_bytes: u64,
    },
    /// The disk does not answer.
    Silent,
    /// The file system of the directory was unmounted.
    NotMounted,
    /// The file system is mounted read-only.
    ReadOnly,
    /// Another server records there.
    Taken,
    /// Anything else, with the system's reason.
    Failed(String),
}

impl DiskState {
    /// The name of [`Self::Ready`] in metrics.
    pub const READY: &'static str = "ready";

    /// The names of all states in metrics.
    pub const NAMES: [&'static str; 7] = [Self::READY, "full", "silent", "not-mounted", "read-only", "taken", "failed"];

    /// The state's name in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let [ready, full, silent, not_mounted, read_only, taken, failed] = Self::NAMES;
        match self {
            Self::Ready => ready,
            Self::Full { .. } => full,
            Self::Silent => silent,
            Self::NotMounted => not_mounted,
            Self::ReadOnly => read_only,
            Self::Taken => taken,
            Self::Failed(_) => failed,
        }
    }

    /// Whether recordings can be written.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self == Self::Ready
    }

    /// Whether files that are there can be worked on.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Ready | Self::Full { .. })
    }

    fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for DiskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("the recordings' disk is ready"),
            Self::Full { free_bytes, min_free_bytes } => {
                let mib = |bytes: &u64| *bytes >> 20;
                let (free, needed) = (mib(free_bytes), mib(min_free_bytes));
                write!(f, "the recordings' disk is full: {free} MiB are free, {needed} MiB are needed")
            }
            Self::Silent => f.write_str("the recordings' disk does not answer"),
            Self::NotMounted => f.write_str("the disk of the recordings' directory is not mounted"),
            Self::ReadOnly => f.write_str("the recordings' disk is read-only"),
            Self::Taken => f.write_str("another server records into the recordings' directory"),
            Self::Failed(reason) => write!(f, "the recordings' directory cannot be used: {reason}"),
        }
    }
}

/// The state, and which directory it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskStatus {
    /// Whether recordings can be written.
    pub state: DiskState,
    /// Rises when another directory stands at the path: files that are being written are then lost from it.
    pub generation: u64,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// State and generation.
    pub status: DiskStatus,
    /// Free bytes; `None` where the directory cannot be used.
    pub free_bytes: Option<u64>,
}

/// What makes a file the same one: device and inode.
type Identity = (u64, u64);

/// The lock, and the file that it is on.
#[derive(Debug)]
struct Held {
    _lock: Flock<File>,
    file: Identity,
}

/// Where the directory was when it was locked.
#[derive(Debug)]
struct Place {
    directory: Identity,
    /// Held open, so that no other directory gets this one's inode. `None` where its file system was unmounted: an open file
    /// would keep that busy.
    open: Option<File>,
    /// The topmost directory on the same device: the mount point, or `/`.
    top: PathBuf,
}

impl Place {
    fn of(root: &Path) -> io::Result<Self> {
        let mut top = fs::canonicalize(root)?;
        let open = File::open(&top)?;
        let directory = identity(&open.metadata()?);
        while let Some(parent) = top.parent()
            && fs::metadata(parent)?.dev() == directory.0
        {
            top = parent.to_owned();
        }
        Ok(Self { directory, open: Some(open), top })
    }

    /// Whether its file system is no longer mounted.
    fn is_unmounted(&self) -> bool {
        let Some(above) = self.top.parent() else {
            return false;
        };
        match (fs::metadata(&self.top), fs::metadata(above)) {
            (Ok(top), Ok(above)) => top.dev() == above.dev(),
            // A mount point cannot be removed while it is one.
            _ => true,
        }
    }
}

/// The directory that one recorder writes to.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    min_free_bytes: u64,
    held: Option<Held>,
    place: Option<Place>,
    generation: u64,
    had_space: bool,
    /// When the last probe went well.
    probed: Option<Instant>,
}

impl Directory {
    /// Touches nothing yet.
    #[must_use]
    pub fn new(root: PathBuf, min_free_bytes: u64) -> Self {
        Self { root, min_free_bytes, held: None, place: None, generation: 0, had_space: true, probed: None }
    }

    /// Sees whether recordings can be written; makes and locks the directory where it is missing.
    pub fn look(&mut self, turn: &Turn) -> Look {
        let (state, free_bytes) = match self.hold().and_then(|()| self.measure(turn)) {
            Ok((state, free_bytes)) => (state, Some(free_bytes)),
            Err(state) => (state, None),
        };
        if !state.is_ready() {
            // The next look does not trust the last probe.
            self.probed = None;
        }
        Look { status: DiskStatus { state, generation: self.generation }, free_bytes }
    }

    /// Holds the lock on what stands at the path.
    fn hold(&mut self) -> Result<(), DiskState> {
        if let Some(held) = &self.held {
            // Opened for writing: that alone tells a disk that has become read-only.
            match OpenOptions::new().write(true).open(self.root.join(LOCK)).and_then(|file| file.metadata()) {
                Ok(found) if identity(&found) == held.file => return Ok(()),
                Ok(_) => {}
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(DiskState::of_error(&error)),
            }
            // Another directory stands there, or none. A lock that is kept would keep a lost file system busy.
            self.held = None;
        }
        // A lock file proves nothing: a server that ran before the disk was mounted has left one there.
        if let Some(place) = self.place.as_mut().filter(|place| place.is_unmounted()) {
            place.open = None;
            return Err(DiskState::NotMounted);
        }
        self.take().map_err(|error| DiskState::of_error(&error))?.then_some(()).ok_or(DiskState::Taken)
    }

    /// Makes the directory where it is missing, and locks it. False where another process holds the lock.
    fn take(&mut self) -> io::Result<bool> {
        fs::create_dir_all(&self.root)?;
        let path = self.root.join(LOCK);
        OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        // Held open for reading only: a file that is open for writing forbids to remount its disk read-only.
        let file = File::open(&path)?;
        let found = identity(&file.metadata()?);
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => self.held = Some(Held { _lock: lock, file: found }),
            Err((_, Errno::EWOULDBLOCK)) => return Ok(false),
            Err((_, errno)) => return Err(errno.into()),
        }
        let place = Place::of(&self.root)?;
        if self.place.as_ref().is_some_and(|before| before.open.is_none() || before.directory != place.directory) {
            self.generation = self.generation.saturating_add(1);
        }
        self.place = Some(place);
        Ok(true)
    }

    /// Free space, and whether a file can be made.
    fn measure(&mut self, turn: &Turn) -> Result<(DiskState, u64), DiskState> {
        let free_bytes = space::free_bytes(turn, &self.root).map_err(|error| DiskState::of_error(&error))?;
        let full = DiskState::Full { free_bytes, min_free_bytes: self.min_free_bytes };
        let is_probed = self.probed.is_some_and(|probed| probed.elapsed() < PROBE_INTERVAL);
        if !is_probed {
            match self.probe() {
                Ok(()) => self.probed = Some(Instant::now()),
                Err(error) if is_full(&error) => {
                    self.had_space = false;
                    return Ok((full, free_bytes));
                }
                Err(error) => return Err(DiskState::of_error(&error)),
            }
        }
        self.had_space = space::is_enough(free_bytes, self.min_free_bytes, self.had_space);
        Ok((if self.had_space { DiskState::Ready } else { full }, free_bytes))
    }

    fn probe(&self) -> io::Result<()> {
        let path = self.root.join(PROBE);
        let written = File::create(&path).and_then(|mut file| file.write_all(b"1"));
        let removed = fs::remove_file(&path);
        written.and(removed)
    }
}

fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("onair-directory-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn ready(generation: u64) -> DiskStatus {
        DiskStatus { state: DiskState::Ready, generation }
    }

    #[test]
    fn one_recorder_holds_the_directory() {
        let (root, turn) = (scratch("lock"), Turn::for_tests());
        let mut first = Directory::new(root.clone(), 0);
        let mut second = Directory::new(root.clone(), 0);
        assert_eq!(first.look(&turn).status, ready(0));
        assert_eq!(second.look(&turn).status.state, DiskState::Taken);
        assert_eq!(first.look(&turn).status, ready(0));
        drop(first);
        assert_eq!(second.look(&turn).status, ready(0));
        assert!(!root.join(PROBE).exists());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_directory_that_was_removed_is_made_and_locked_again() {
        let (root, turn) = (scratch("removed"), Turn::for_tests());
        let mut directory = Directory::new(root.clone(), 0);
        assert_eq!(directory.look(&turn).status, ready(0));
        fs::remove_file(root.join(LOCK)).unwrap();
        assert_eq!(directory.look(&turn).status, ready(0), "only the lock's file was lost");
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(directory.look(&turn).status, ready(1));
        let mut other = Directory::new(root.clone(), 0);
        assert_eq!(other.look(&turn).status.state, DiskState::Taken, "the lock holds in the new directory");
        // Another server is faster.
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(other.look(&turn).status.state, DiskState::Ready);
        assert_eq!(directory.look(&turn).status.state, DiskState::Taken);
        drop(other);
        assert_eq!(directory.look(&turn).status, ready(2));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_full_disk_and_a_path_that_cannot_be_are_told() {
        let (root, turn) = (scratch("full"), Turn::for_tests());
        let look = Directory::new(root.clone(), u64::MAX / 2).look(&turn);
        assert!(matches!(look.status.state, DiskState::Full { .. }), "{look:?}");
        assert!(look.status.state.to_string().contains("MiB are free"));
        fs::write(root.join("file"), "").unwrap();
        let look = Directory::new(root.join("file/below"), 0).look(&turn);
        assert!(matches!(look.status.state, DiskState::Failed(_)), "{look:?}");
        assert_eq!(look.free_bytes, None);
        fs::remove_dir_all(root).unwrap();
    }
}

//! Free space where the recordings go, and who may use it.
//!
//! **Invariant:** what completions have reserved together was free when the last of them asked.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::sync::watch;

use super::directory::{DiskState, DiskStatus};
use super::disk::Turn;

/// How often the disk is asked.
pub const INTERVAL: Duration = Duration::from_secs(3);

/// What a completion leaves free on a full disk.
const LAST_BYTES: u64 = 16 << 20;

/// Bytes that we may still write below `path`.
///
/// # Errors
///
/// Where the disk does not tell.
pub fn free_bytes(_turn: &Turn, path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// Whether files may be begun and written, given whether they might until now.
///
/// Once the disk was full a tenth more than the limit must be free, or files would be begun and ended in turns.
pub fn is_enough(free_bytes: u64, min_free_bytes: u64, was_enough: bool) -> bool {
    let limit = if was_enough { min_free_bytes } else { min_free_bytes.saturating_add(min_free_bytes / 10) };
    free_bytes >= limit
}

/// The space that completions will use, so that several at once do not count on the same bytes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SpaceLedger {
    root: PathBuf,
    min_free_bytes: u64,
    status: watch::Receiver<DiskStatus>,
    reserved_bytes: Arc<Mutex<u64>>,
}

/// Space that one completion may use, given back on drop.
#[derive(Debug)]
#[must_use = "the space is given back when this is dropped"]
pub struct Reservation {
    bytes: u64,
    ledger: SpaceLedger,
}

impl SpaceLedger {
    /// A ledger with nothing reserved.
    pub fn new(root: PathBuf, min_free_bytes: u64, status: watch::Receiver<DiskStatus>) -> Self {
        Self { root, min_free_bytes, status, reserved_bytes: Arc::default() }
    }

    /// Reserves space for a copy of this size; `None` where there is too little.
    ///
    /// While broadcasts are recorded a copy leaves them `min_free_bytes`. On a full disk nothing is being written, so a copy
    /// may use that reserve: it replaces the larger of two files, and cannot free space without taking some first.
    ///
    /// # Errors
    ///
    /// Where the disk does not tell its free space.
    pub fn reserve(&self, turn: &Turn, bytes: u64) -> io::Result<Option<Reservation>> {
        Ok(self.reserve_of(free_bytes(turn, &self.root)?, bytes))
    }

    fn reserve_of(&self, free_bytes: u64, bytes: u64) -> Option<Reservation> {
        let kept_bytes = match self.status.borrow().state {
            DiskState::Full { .. } => LAST_BYTES,
            _ => self.min_free_bytes.max(LAST_BYTES),
        };
        let mut reserved_bytes = self.lock();
        // What a copy has written already counts twice: as reserved, and as no longer free. That errs to the safe side.
        let available_bytes = free_bytes.saturating_sub(*reserved_bytes).saturating_sub(kept_bytes);
        if bytes > available_bytes {
            return None;
        }
        *reserved_bytes = reserved_bytes.saturating_add(bytes);
        Some(Reservation { bytes, ledger: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.reserved_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut reserved_bytes = self.ledger.lock();
        *reserved_bytes = reserved_bytes.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_was_full_must_be_freed_a_little_further() {
        assert!(is_enough(100, 100, true));
        assert!(!is_enough(99, 100, true));
        assert!(!is_enough(109, 100, false));
        assert!(is_enough(110, 100, false));
    }

    #[test]
    fn a_disk_that_is_not_there_is_an_error() {
        let turn = Turn::for_tests();
        assert!(free_bytes(&turn, Path::new("/nonexistent/recordings")).is_err());
        assert!(free_bytes(&turn, Path::new("/")).unwrap() > 0);
    }

    #[test]
    fn completions_share_what_is_free_and_give_it_back() {
        const MIB: u64 = 1 << 20;
        let status = |state| DiskStatus { state, generation: 0 };
        let (sender, receiver) = watch::channel(status(DiskState::Ready));
        let ledger = SpaceLedger::new("/".into(), 100 * MIB, receiver);
        let first = ledger.reserve_of(200 * MIB, 60 * MIB).expect("down to the minimum");
        assert!(ledger.reserve_of(200 * MIB, 60 * MIB).is_none(), "the first has most of it");
        let second = ledger.reserve_of(200 * MIB, 40 * MIB).expect("the rest");
        drop((first, second));
        assert!(ledger.reserve_of(200 * MIB, 101 * MIB).is_none(), "running broadcasts keep theirs");
        sender.send_replace(status(DiskState::Full { free_bytes: 0, min_free_bytes: 100 * MIB }));
        assert!(ledger.reserve_of(200 * MIB, 184 * MIB).is_some(), "nothing is being written");
        assert!(ledger.reserve_of(200 * MIB, 185 * MIB).is_none());
    }
}

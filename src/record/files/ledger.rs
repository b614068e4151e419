//! Who may use the free space to complete files.
//!
//! **Invariant:** what completions have reserved together was free when the last of them asked.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::directory::{DiskState, DiskStatus};
use super::disk::Turn;
use super::space::free_bytes;

/// What a completion leaves free on a full disk.
const LAST_BYTES: u64 = 16 << 20;

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

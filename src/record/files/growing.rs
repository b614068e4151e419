//! The recordings that are not finished: being written, or being completed.
//!
//! **Invariant:** a name is in the list exactly as long as its [`Growth`] lives.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The recordings that this process writes or completes, by the names that they will have. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Growing(Arc<Mutex<BTreeSet<String>>>);

/// One of them, for as long as it lives.
#[derive(Debug)]
pub struct Growth {
    name: String,
    growing: Growing,
}

impl Growing {
    /// Notes one; `name` lies below the recordings' directory.
    #[must_use]
    pub fn begin(&self, name: String) -> Growth {
        self.lock().insert(name.clone());
        Growth { name, growing: self.clone() }
    }

    /// Notes one that is not noted yet; `None` where somebody else is at it.
    #[must_use]
    pub fn try_begin(&self, name: String) -> Option<Growth> {
        self.lock().insert(name.clone()).then(|| Growth { name, growing: self.clone() })
    }

    /// Whether `name` is one of them.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.lock().contains(name)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // Every critical section is one call on the set, which leaves it sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        self.growing.lock().remove(&self.name);
    }
}

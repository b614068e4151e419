//! Which indices were seen: the replay list of RFC 3711 §3.3.2, and its mirror image on the sending side.
//!
//! **Invariant:** an index counts as seen for ever once it was inserted; what lies too far back to tell counts as seen.

/// How far back an index may lie behind the highest.
pub const WINDOW: u64 = 1024;

const WORDS: usize = (WINDOW / 64) as usize;

/// A sliding window of indices.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    highest: Option<u64>,
    bits: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { highest: None, bits: [0; WORDS] }
    }
}

impl ReplayWindow {
    /// Whether `index` was seen, or lies too far back to tell.
    #[must_use]
    pub fn contains(&self, index: u64) -> bool {
        match self.highest {
            None => false,
            Some(highest) if index > highest => false,
            Some(highest) if highest - index >= WINDOW => true,
            Some(_) => self.bits.get(word(index)).is_none_or(|bits| bits & bit(index) != 0),
        }
    }

    /// Notes that `index` was seen. One that lies too far back changes nothing.
    pub fn insert(&mut self, index: u64) {
        let highest = *self.highest.get_or_insert(index);
        if highest >= WINDOW && index <= highest - WINDOW {
            return;
        }
        if index > highest {
            if index - highest >= WINDOW {
                self.bits.fill(0);
            } else {
                for skipped in highest + 1..index {
                    self.set(skipped, false);
                }
            }
            self.highest = Some(index);
        }
        self.set(index, true);
    }

    fn set(&mut self, index: u64, seen: bool) {
        if let Some(bits) = self.bits.get_mut(word(index)) {
            *bits = if seen { *bits | bit(index) } else { *bits & !bit(index) };
        }
    }
}

fn word(index: u64) -> usize {
    (index / 64) as usize % WORDS
}

fn bit(index: u64) -> u64 {
    1 << (index % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_index_passes_once() {
        let mut window = ReplayWindow::default();
        for index in [5, 3, 4, 900, 6, 2000] {
            assert!(!window.contains(index), "{index}");
            window.insert(index);
            assert!(window.contains(index), "{index}");
        }
        assert!(window.contains(5), "too far back to tell");
        assert!(!window.contains(977));
        assert!(window.contains(976), "2000 - 1024");
    }

    proptest! {
        #[test]
        fn no_index_is_seen_twice_and_recent_ones_pass(indices in prop::collection::vec(0_u64..5_000, 1..400)) {
            let mut window = ReplayWindow::default();
            let mut seen = BTreeSet::new();
            for index in indices {
                let highest = seen.last().copied().unwrap_or(index);
                let known = seen.contains(&index);
                let old = highest >= WINDOW && index <= highest - WINDOW;
                prop_assert_eq!(window.contains(index), known || old);
                if !window.contains(index) {
                    window.insert(index);
                    seen.insert(index);
                }
            }
        }
    }
}

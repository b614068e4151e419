//! Free space where the recordings go.
//!
//! **Invariant:** a disk that cannot be asked counts as full: nothing begins there.

use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::statvfs;

/// How often the disk is asked.
pub const INTERVAL: Duration = Duration::from_secs(3);

/// What the final copy of a file needs beside its own size.
const COPY_MARGIN_BYTES: u64 = 16 << 20;

/// Bytes that we may still write below `path`.
pub fn free_bytes(path: &Path) -> u64 {
    match statvfs(path) {
        Ok(stat) => stat.blocks_available().saturating_mul(stat.fragment_size()),
        Err(error) => {
            tracing::warn!(%error, "the recordings' disk does not tell its free space");
            0
        }
    }
}

/// Whether files may be begun and written, given whether they might until now.
///
/// Once the disk was full a tenth more than the limit must be free, or files would be begun and ended in turns.
pub fn is_enough(free_bytes: u64, min_free_bytes: u64, was_enough: bool) -> bool {
    let limit = if was_enough { min_free_bytes } else { min_free_bytes.saturating_add(min_free_bytes / 10) };
    free_bytes >= limit
}

/// Whether a file of this size can be copied.
pub fn holds_copy(path: &Path, size_bytes: u64) -> bool {
    free_bytes(path) >= size_bytes.saturating_add(COPY_MARGIN_BYTES)
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
    fn a_disk_that_is_not_there_is_full() {
        assert_eq!(free_bytes(Path::new("/nonexistent/recordings")), 0);
        assert!(free_bytes(Path::new("/")) > 0);
    }
}

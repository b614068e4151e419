//! Free space where the recordings go.
//!
//! **Invariant:** what the disk does not tell is an error, never a guess.

use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::statvfs;

use super::disk::Turn;

/// How often the disk is asked.
pub const INTERVAL: Duration = Duration::from_secs(3);

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
}

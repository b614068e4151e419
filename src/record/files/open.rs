//! Which files processes have open, by `/proc`.
//!
//! **Invariant:** a file that cannot be looked at counts as not open.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::disk::Turn;

/// The files that are open in any process that can be looked into, at one moment.
#[derive(Debug, Default)]
pub struct OpenFiles(HashSet<PathBuf>);

impl OpenFiles {
    /// Looks at all processes, once for many files.
    pub fn look(_turn: &Turn) -> Self {
        let Ok(processes) = fs::read_dir("/proc") else {
            return Self::default();
        };
        let mut open = HashSet::new();
        for process in processes.filter_map(Result::ok) {
            let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
            // Sockets and pipes have no path.
            let targets = descriptors.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
            open.extend(targets.filter(|target| target.is_absolute()));
        }
        Self(open)
    }

    /// Whether `path` is among them.
    pub fn hold(&self, _turn: &Turn, path: &Path) -> bool {
        fs::canonicalize(path).is_ok_and(|path| self.0.contains(&path))
    }
}

/// Whether a process has the file open: the ffmpeg of a server that was killed may still be completing it.
pub fn is_open(turn: &Turn, path: &Path) -> bool {
    OpenFiles::look(turn).hold(turn, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_open_while_a_process_holds_it() {
        let turn = Turn::for_tests();
        let path = std::env::temp_dir().join(format!("onair-open-{}", std::process::id()));
        let file = fs::File::create(&path).unwrap();
        assert!(is_open(&turn, &path));
        drop(file);
        assert!(!is_open(&turn, &path));
        fs::remove_file(path).unwrap();
    }
}

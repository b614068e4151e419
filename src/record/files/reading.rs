//! A recording that is being read, for those who download it.
//!
//! **Invariant:** it is a regular file, and each read is of bounded length.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::disk::Turn;
use super::mp4;
use crate::hub::io::FileFacts;

/// An open recording.
#[derive(Debug)]
pub struct OpenRecording(File);

impl OpenRecording {
    /// Opens it, and tells its size and times.
    ///
    /// # Errors
    ///
    /// `NotFound` where there is no regular file, or those of the disk.
    pub fn open(turn: &Turn, path: &Path) -> io::Result<(Self, Metadata)> {
        // A named pipe would be waited for.
        if !metadata(turn, path)?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok((Self(file), metadata))
    }

    /// At most `max_bytes` from `offset` on; nothing at the end.
    ///
    /// # Errors
    ///
    /// Those of the disk.
    pub fn read_at(&self, _turn: &Turn, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; max_bytes];
        let count = self.0.read_at(&mut bytes, offset)?;
        bytes.truncate(count);
        Ok(bytes)
    }
}

/// How long a recording lasts, and how large it is.
///
/// # Errors
///
/// As [`OpenRecording::open`].
pub fn facts(turn: &Turn, path: &Path) -> io::Result<FileFacts> {
    let (OpenRecording(file), metadata) = OpenRecording::open(turn, path)?;
    let duration = mp4::duration(turn, &file)?.unwrap_or_default();
    Ok(FileFacts { duration, size_bytes: metadata.len() })
}

/// What stands at the path.
///
/// # Errors
///
/// `NotFound` where nothing does, or those of the disk.
pub fn metadata(_turn: &Turn, path: &Path) -> io::Result<Metadata> {
    std::fs::metadata(path)
}

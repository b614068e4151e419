//! Takes recordings off the disk.
//!
//! **Invariant:** nothing but recordings is removed, none that grows, and directories only when they are empty.

use std::fs;
use std::io;
use std::path::Path;

use super::disk::Turn;
use super::growing::Growing;
use super::open::is_open;
use super::path::{FINAL, PART, began};
use crate::signal::BroadcastId;

/// Why a recording was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// There is none of that name.
    #[error("there is no such recording")]
    None,
    /// It is being written, or completed.
    #[error("this recording is being written: it can be removed when it is finished")]
    Grows,
    /// The disk failed.
    #[error("the recording could not be removed: {0}")]
    Disk(#[from] io::Error),
}

/// Removes a broadcast's recording.
///
/// # Errors
///
/// [`RemoveError`]
pub fn remove(
    turn: &Turn,
    root: &Path,
    growing: &Growing,
    broadcast: &BroadcastId,
    file_name: &str,
) -> Result<(), RemoveError> {
    let stem = file_name.strip_suffix(PART).or_else(|| file_name.strip_suffix(FINAL)).ok_or(RemoveError::None)?;
    // Whatever else stands in the name, it names nothing elsewhere.
    if began(stem).is_none() || !stem.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return Err(RemoveError::None);
    }
    let name = format!("{broadcast}/{file_name}");
    let path = root.join(&name);
    if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
        return Err(RemoveError::None);
    }
    // Held until it is gone, so that nobody begins to complete it meanwhile.
    let Some(_growth) = growing.try_begin(format!("{broadcast}/{stem}{FINAL}")) else {
        return Err(RemoveError::Grows);
    };
    // The ffmpeg of a server that was killed may write on for a moment; it is not in the list of this one.
    if file_name.ends_with(PART) && is_open(turn, &path) {
        return Err(RemoveError::Grows);
    }
    match fs::remove_file(&path) {
        Ok(()) => prune(turn, root, &name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(RemoveError::None),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Removes the directories of a recording that was removed, `ROOM/USER/FILE`, where nothing else is in them.
pub fn prune(_turn: &Turn, root: &Path, name: &str) {
    // Those that are not empty stay.
    let mut below_root = Path::new(name).ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
    while let Some(directory) = below_root.next()
        && fs::remove_dir(root.join(directory)).is_ok()
    {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_recordings_go_with_their_empty_directories_and_nothing_else_does() {
        let root = std::env::temp_dir().join(format!("onair-removal-{}", std::process::id()));
        let write = |name: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        for name in ["20260102-030405.mp4", "20260102-030405-2.part.mp4", "20260102-030406.part.mp4", "notes.mp4"] {
            write(&format!("r/u/{name}"));
        }
        write("r/v/20260102-030405.mp4");
        write("20260102-030405.mp4");
        let (growing, turn) = (Growing::default(), Turn::for_tests());
        let growth = growing.begin("r/u/20260102-030406.mp4".to_owned());
        let remove =
            |user: &str, name: &str| remove(&turn, &root, &growing, &format!("r/{user}").parse().unwrap(), name);
        for name in [
            "notes.mp4",
            "20260102-030407.mp4",
            "20260102-030405",
            "20260102-030405.tmp",
            "../20260102-030405.mp4",
            "20260102-030405/../notes.mp4",
            "20260102-030405.part.part.mp4",
            "",
        ] {
            assert!(matches!(remove("u", name), Err(RemoveError::None)), "{name}");
        }
        assert!(matches!(remove("u", "20260102-030406.part.mp4"), Err(RemoveError::Grows)));
        remove("u", "20260102-030405-2.part.mp4").unwrap();
        remove("u", "20260102-030405.mp4").unwrap();
        assert!(matches!(remove("u", "20260102-030405.mp4"), Err(RemoveError::None)));
        drop(growth);
        let open = fs::File::open(root.join("r/u/20260102-030406.part.mp4")).unwrap();
        assert!(matches!(remove("u", "20260102-030406.part.mp4"), Err(RemoveError::Grows)), "another process writes");
        drop(open);
        remove("u", "20260102-030406.part.mp4").unwrap();
        assert!(root.join("r/u/notes.mp4").exists());
        remove("v", "20260102-030405.mp4").unwrap();
        assert!(!root.join("r/v").exists() && root.join("r").exists());
        fs::remove_file(root.join("r/u/notes.mp4")).unwrap();
        prune(&turn, &root, "r/u/notes.mp4");
        assert!(!root.join("r").exists() && root.join("20260102-030405.mp4").exists());
        fs::remove_dir_all(root).unwrap();
    }
}

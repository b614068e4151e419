//! Whether an earlier run left anything to do in the recordings' directory.
//!
//! **Invariant:** looking makes and changes nothing, not even the directory.

use std::io;
use std::path::Path;

use super::disk::Turn;
use super::growing::Growing;
use super::path::abandoned;
use super::pending::marked;

/// Whether there are unfinished recordings that this process does not write, or, where finished ones are handed over,
/// marks of such that were not.
///
/// # Errors
///
/// Where the directory cannot be read. One that is not there is no error.
pub fn has_leftovers(turn: &Turn, root: &Path, growing: &Growing, hands_over: bool) -> io::Result<bool> {
    let abandoned = match abandoned(turn, root, growing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    if !abandoned.unfinished.is_empty() || !abandoned.temporary.is_empty() {
        return Ok(true);
    }
    Ok(hands_over && !marked(turn, root)?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::files::pending::{mark, unmark};
    use std::fs;

    #[test]
    fn unfinished_files_and_marks_are_left_and_finished_files_are_not() {
        let (turn, growing) = (Turn::for_tests(), Growing::default());
        let root = std::env::temp_dir().join(format!("onair-left-{}", std::process::id()));
        let has = |hands_over: bool| has_leftovers(&turn, &root, &growing, hands_over).unwrap();
        assert!(!has(true) && !root.exists());
        let directory = root.join("r/u");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("20260102-030405.mp4"), "x").unwrap();
        assert!(!has(true));
        for name in ["20260102-030406.part.mp4", "20260102-030406.tmp"] {
            fs::write(directory.join(name), "x").unwrap();
            assert!(has(false), "{name}");
            let growth = growing.begin("r/u/20260102-030406.mp4".to_owned());
            assert!(!has(false), "{name} is being written");
            drop(growth);
            fs::remove_file(directory.join(name)).unwrap();
        }
        mark(&turn, &root, "r/u/20260102-030405.mp4").unwrap();
        assert!(has(true) && !has(false));
        unmark(&turn, &root, "r/u/20260102-030405.mp4").unwrap();
        assert!(!has(true));
        fs::remove_dir_all(root).unwrap();
    }
}

//! The recordings' directory: names, lists, removal, free space, and what stands in a file.
//!
//! **Invariant:** a path is made of checked names alone, and no finished file is ever replaced.

pub mod growing;
pub mod listing;
pub mod mp4;
pub mod path;
pub mod removal;
pub mod retention;
pub mod space;

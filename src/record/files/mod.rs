//! The recordings' directory: names, lists, removal, free space, and what stands in a file.
//!
//! **Invariant:** a path is made of checked names alone, no finished file is ever replaced, and what calls the disk takes a
//! [`Turn`](disk::Turn).

pub mod catalogue;
pub mod directory;
pub mod disk;
pub mod growing;
pub mod ledger;
pub mod left;
pub mod listing;
pub mod mp4;
pub mod open;
pub mod path;
pub mod pending;
pub mod reading;
pub mod removal;
pub mod retention;
pub mod space;

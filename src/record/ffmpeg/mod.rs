//! ffmpeg as a child process: what it is told, what it is fed, and what it can do.
//!
//! **Invariant:** nothing outside this folder knows an option of ffmpeg or the form of its input.

pub mod command;
pub mod feed;
pub mod probe;
pub mod process;
pub mod quirks;
pub mod sdp;

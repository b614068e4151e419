//! The `onair` program.

fn main() {}

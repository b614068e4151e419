//! What the file of `--auth` grants, and to whom.
//!
//! **Invariant:** of a token only the hash is kept, and it is compared in constant time.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use super::pattern::Pattern;
use crate::signal::BroadcastId;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Be the broadcaster, also by taking over from another.
    Publish,
    /// Watch, and see that it is live.
    Watch,
    /// See, play and download recordings.
    Recordings,
    /// Start and stop recordings.
    Record,
    /// See the metrics, and do what operators do.
    Operate,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Publish, Self::Watch, Self::Recordings, Self::Record, Self::Operate];

    /// As the file of `--auth` writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Watch => "watch",
            Self::Recordings => "recordings",
            Self::Record => "record",
            Self::Operate => "operate",
        }
    }
}

/// Some rights on some broadcasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The rights.
    pub rights: Vec<Right>,
    /// In which rooms.
    pub rooms: Vec<Pattern>,
    /// With which users.
    pub users: Vec<Pattern>,
}

impl Grant {
    /// Whether it grants this somewhere. Operators may start and stop recordings, too.
    pub fn grants(&self, right: Right) -> bool {
        self.rights.contains(&right) || (right == Right::Record && self.rights.contains(&Right::Operate))
    }

    /// Whether it grants this with a broadcast.
    pub fn covers(&self, right: Right, broadcast: &BroadcastId) -> bool {
        self.covers_room(right, broadcast.room.as_str())
            && self.users.iter().any(|user| user.matches(broadcast.user.as_str()))
    }

    /// Whether it grants this with some of a room.
    pub fn covers_room(&self, right: Right, room: &str) -> bool {
        self.grants(right) && self.rooms.iter().any(|pattern| pattern.matches(room))
    }
}

/// The SHA-256 of a token.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// That of a token.
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }

    /// One that stands in the file.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Whether both are of the same token.
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

/// A token of the file, and what it grants.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its hash.
    pub hash: TokenHash,
    /// What it grants.
    pub grant: Arc<Grant>,
}

//! A recording as the API lists it, and what a caller asks of the list.
//!
//! **Invariant:** the order of recordings follows from their paths alone, so a page can begin after a path whose file is gone.

use std::cmp::Reverse;

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::path::{FINAL, began};
use crate::signal::{BroadcastId, RoomId, UserId};

/// A finished or running recording.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RecordingFile {
    /// The path below the recordings' directory, with `/` between its parts. It ends with `.part.mp4` while it grows.
    pub path: String,
    /// Whose it is.
    #[schema(value_type = String, example = "kitchen/anna")]
    pub broadcast: BroadcastId,
    /// When it began, in the form of RFC 3339.
    #[schema(format = DateTime)]
    pub started: String,
    /// How long it lasts, in seconds.
    pub duration_s: f64,
    /// Its size.
    pub size_bytes: u64,
}

/// Which recordings are asked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Of this room alone.
    pub room: Option<RoomId>,
    /// Of this user alone, in all rooms where none is named.
    pub user: Option<UserId>,
    /// Where the page begins. `None`: with the newest.
    pub before: Option<Before>,
    /// Recordings on a page.
    pub limit: usize,
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// With the newest recording that began before this.
    Time(OffsetDateTime),
    /// After this recording, which need not exist any more.
    Row(Position),
}

impl Before {
    /// Whether a recording lies beyond.
    pub fn is_passed_by(&self, broadcast: &BroadcastId, row: &Row) -> bool {
        match self {
            Self::Time(time) => row.began.0 < *time,
            Self::Row(position) => position.key() < row.key(broadcast),
        }
    }
}

/// The place of a recording in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    broadcast: BroadcastId,
    row: Row,
}

impl Position {
    /// The place of the recording at this path, `ROOM/USER/FILE`.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let (broadcast, file_name) = path.rsplit_once('/')?;
        Some(Self { broadcast: broadcast.parse().ok()?, row: Row::of(file_name)? })
    }

    fn key(&self) -> Key<'_> {
        self.row.key(&self.broadcast)
    }
}

/// Sorts the newest first, and files that began together by name.
pub type Key<'a> = (Reverse<(OffsetDateTime, u32)>, &'a BroadcastId, &'a str);

/// A recording among those of its broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// When it began, and its number among those of that second.
    pub began: (OffsetDateTime, u32),
    /// Its name without its directory.
    pub file_name: String,
}

impl Row {
    /// `None` for a name that no recording has.
    pub fn of(file_name: &str) -> Option<Self> {
        let began = began(file_name).filter(|_| file_name.ends_with(FINAL))?;
        Some(Self { began, file_name: file_name.to_owned() })
    }

    /// Its place in the list.
    pub fn key<'a>(&'a self, broadcast: &'a BroadcastId) -> Key<'a> {
        (Reverse(self.began), broadcast, &self.file_name)
    }
}

/// A part of the list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The recordings, the newest first.
    pub recordings: Vec<RecordingFile>,
    /// Whether there are older ones.
    pub has_more: bool,
}

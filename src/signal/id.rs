//! Names of rooms, users and broadcasts.
//!
//! **Invariant:** a `RoomId`, `UserId` or `BroadcastId` that exists has been checked, so it is safe as a path component,
//! in a log line and in a URL.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name of a room or a user, in bytes.
pub const NAME_MAX_BYTES: usize = 64;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty or longer than [`NAME_MAX_BYTES`].
    #[error("a name has 1 to {NAME_MAX_BYTES} characters")]
    Length,
    /// The name holds a character outside `A–Z a–z 0–9 . _ -`, or begins with one of `. _ -`.
    #[error("a name holds A-Z a-z 0-9 . _ - only and begins with a letter or digit")]
    Character,
    /// A broadcast id is not of the form `room/user`.
    #[error("a broadcast is named room/user")]
    Form,
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > NAME_MAX_BYTES {
        return Err(NameError::Length);
    }
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let all_allowed = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if begins_well && all_allowed { Ok(()) } else { Err(NameError::Character) }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                check(name)?;
                Ok(Self(name.into()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                name.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The checked name of a room.
    RoomId
}

name! {
    /// The checked name of a user within a room.
    UserId
}

/// One user's broadcast in one room, written `room/user`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BroadcastId {
    /// The room that holds the broadcast.
    pub room: RoomId,
    /// The user who sends it.
    pub user: UserId,
}

impl BroadcastId {
    /// The broadcast of `user` in `room`.
    #[must_use]
    pub fn new(room: RoomId, user: UserId) -> Self {
        Self { room, user }
    }
}

impl FromStr for BroadcastId {
    type Err = NameError;

    fn from_str(id: &str) -> Result<Self, NameError> {
        let (room, user) = id.split_once('/').ok_or(NameError::Form)?;
        Ok(Self::new(room.parse()?, user.parse()?))
    }
}

impl TryFrom<String> for BroadcastId {
    type Error = NameError;

    fn try_from(id: String) -> Result<Self, NameError> {
        id.parse()
    }
}

impl From<BroadcastId> for String {
    fn from(id: BroadcastId) -> String {
        id.to_string()
    }
}

impl fmt::Display for BroadcastId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.room, self.user)
    }
}

impl fmt::Debug for BroadcastId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_allowed_character_pass() {
        for name in ["a", "7", "Room.1_x-y", &"z".repeat(NAME_MAX_BYTES)] {
            assert_eq!(name.parse::<RoomId>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_could_climb_out_of_a_directory_are_refused() {
        for name in ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "a\0", &"z".repeat(NAME_MAX_BYTES + 1)] {
            assert!(name.parse::<UserId>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_broadcast_id_is_room_slash_user() {
        let id: BroadcastId = "r/u".parse().unwrap();
        assert_eq!((id.room.as_str(), id.user.as_str()), ("r", "u"));
        assert_eq!(id.to_string(), "r/u");
        assert_eq!("r".parse::<BroadcastId>(), Err(NameError::Form));
        assert!("r/u/v".parse::<BroadcastId>().is_err());
    }
}

//! Which broadcasts are recorded without a request.
//!
//! **Invariant:** each pattern of a rule names a room and a user.

use std::str::FromStr;

use crate::access::Pattern;
use crate::signal::BroadcastId;

/// The value of `--record`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordRule {
    /// Every broadcast is recorded.
    All,
    /// Broadcasts are recorded by request only.
    Off,
    /// Broadcasts that match one of these are recorded, others by request only.
    Matching(Vec<BroadcastPattern>),
}

/// `ROOM/USER`, where `*` stands for any characters of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastPattern {
    room: Pattern,
    user: Pattern,
}

impl RecordRule {
    /// Whether a broadcast is recorded without a request.
    #[must_use]
    pub fn wants(&self, id: &BroadcastId) -> bool {
        match self {
            Self::All => true,
            Self::Off => false,
            Self::Matching(patterns) => patterns.iter().any(|pattern| pattern.matches(id)),
        }
    }
}

impl BroadcastPattern {
    fn matches(&self, id: &BroadcastId) -> bool {
        self.room.matches(id.room.as_str()) && self.user.matches(id.user.as_str())
    }
}

impl FromStr for BroadcastPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (room, user) = text
            .split_once('/')
            .ok_or_else(|| format!("`{text}` is not `all`, not `off` and no pattern of room/user like stage/*"))?;
        Ok(Self { room: Pattern::parse(room)?, user: Pattern::parse(user)? })
    }
}

impl FromStr for RecordRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            [] => Err("write `all`, `off` or patterns of room/user like stage/*".to_owned()),
            ["all"] => Ok(Self::All),
            ["off"] => Ok(Self::Off),
            _ => match parts.iter().find(|part| ["all", "off"].contains(part)) {
                Some(word) => Err(format!("`{word}` stands alone, without patterns")),
                None => parts.iter().map(|part| part.parse()).collect::<Result<_, _>>().map(Self::Matching),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(rule: &str, id: &str) -> bool {
        rule.parse::<RecordRule>().unwrap().wants(&id.parse().unwrap())
    }

    #[test]
    fn a_rule_names_all_none_or_some() {
        assert!(wants("all", "r/u") && !wants("off", "r/u"));
        assert!(wants("stage/*", "stage/ada") && !wants("stage/*", "stages/ada"));
        assert!(wants("*/host", "lobby/host") && !wants("*/host", "lobby/ada"));
        for (id, wanted) in [("stage/cam-1", true), ("stage/ada", false), ("lobby/ada", true), ("yard/ada", false)] {
            assert_eq!(wants("stage/cam-*, lobby/*,", id), wanted, "{id}");
        }
    }

    #[test]
    fn what_is_no_rule_is_told_how_one_is_written() {
        for (text, named) in [
            ("", "stage/*"),
            (",", "stage/*"),
            ("some", "room/user like stage/*"),
            ("stage", "`stage` is not `all`"),
            ("stage/*,lobby", "`lobby`"),
            ("all,stage/*", "`all` stands alone"),
            ("off,all", "`off` stands alone"),
            ("a/b/c", "`b/c` is no name"),
            ("stage/", "is no name"),
            ("a b/c", "`a b` is no name"),
        ] {
            let error = text.parse::<RecordRule>().unwrap_err();
            assert!(error.contains(named) && !error.contains('\n'), "{text:?}: {error}");
        }
    }
}

//! What a caller may do, by the token it shows.
//!
//! **Invariant:** all tokens of the file are looked at for each that is shown, whichever fits.

use std::sync::Arc;

use super::file::{self, PolicyError, Rules};
use super::grant::{Grant, Right, TokenHash};
use super::pattern::Pattern;
use crate::signal::BroadcastId;

/// The longest token that is looked at, in bytes.
const TOKEN_MAX_BYTES: usize = 4_096;

/// The token that was shown is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this token is not known here, or its time is over")]
pub struct BadToken;

/// What one caller may do.
#[derive(Debug, Clone)]
pub struct Permit {
    /// `None`: everything.
    grants: Option<Arc<[Arc<Grant>]>>,
    has_token: bool,
}

impl Permit {
    /// Leave to do everything.
    #[must_use]
    pub fn everything() -> Self {
        Self { grants: None, has_token: false }
    }

    /// Whether it may do this with a broadcast.
    #[must_use]
    pub fn may(&self, right: Right, broadcast: &BroadcastId) -> bool {
        self.grants.as_ref().is_none_or(|grants| grants.iter().any(|grant| grant.covers(right, broadcast)))
    }

    /// Whether it may do this with every broadcast of a room, whoever's.
    #[must_use]
    pub fn may_in_all_of(&self, right: Right, room: &str) -> bool {
        self.grants.as_ref().is_none_or(|grants| {
            grants.iter().any(|grant| grant.covers_room(right, room) && grant.users.iter().any(Pattern::is_any))
        })
    }

    /// Whether it may do this with some broadcast.
    #[must_use]
    pub fn may_somewhere(&self, right: Right) -> bool {
        let somewhere = |grant: &Arc<Grant>| grant.grants(right) && !grant.rooms.is_empty() && !grant.users.is_empty();
        self.grants.as_ref().is_none_or(|grants| grants.iter().any(somewhere))
    }

    /// Whether it may do this everywhere.
    #[must_use]
    pub fn may_everywhere(&self, right: Right) -> bool {
        let everywhere = |grant: &Arc<Grant>| {
            grant.grants(right)
                && [&grant.rooms, &grant.users].iter().all(|patterns| patterns.iter().any(Pattern::is_any))
        };
        self.grants.as_ref().is_none_or(|grants| grants.iter().any(everywhere))
    }

    /// Whether a token was shown for it: whoever showed none is told to.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.has_token
    }
}

/// Who may do what.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// `None`: everyone may do everything.
    rules: Option<Rules>,
}

impl Policy {
    /// Everyone may do everything.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Reads the text of the file of `--auth`, where it names no other.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], one line that names what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Self::parse_beside(text, &|name| Err(format!("{name} cannot be read here")))
    }

    /// Reads the text of the file of `--auth`; `beside` fetches the key files that it names.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], one line that names what is wrong, and where.
    pub fn parse_beside(text: &str, beside: &dyn Fn(&str) -> Result<String, String>) -> Result<Self, PolicyError> {
        Ok(Self { rules: Some(file::parse(text, beside)?) })
    }

    /// Whether everyone may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rules.is_none()
    }

    /// What whoever shows `token`, or none, may do at `unix_s`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`BadToken`], also where everyone may do the same without one.
    pub fn permit(&self, token: Option<&str>, unix_s: u64) -> Result<Permit, BadToken> {
        let Some(rules) = &self.rules else {
            return Ok(Permit::everything());
        };
        let Some(token) = token else {
            return Ok(Permit { grants: Some(rules.anonymous.as_slice().into()), has_token: false });
        };
        if token.len() > TOKEN_MAX_BYTES {
            return Err(BadToken);
        }
        let shown = TokenHash::of(token);
        let mut grants = Vec::new();
        for known in &rules.tokens {
            if known.hash.is(&shown) {
                grants.push(Arc::clone(&known.grant));
            }
        }
        if grants.is_empty() {
            let grant = rules.issuers.iter().find_map(|issuer| issuer.grant(token, unix_s));
            grants.push(Arc::new(grant.ok_or(BadToken)?));
        }
        grants.extend(rules.anonymous.iter().cloned());
        Ok(Permit { grants: Some(grants.into()), has_token: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[anonymous]]
        can = ["watch"]
        rooms = ["open-*"]

        [[token]]
        token = "studio-secret-0123"
        can = ["publish", "watch"]
        rooms = ["stage"]
        users = ["ada", "cam-*"]

        [[token]]
        token = "studio-secret-0123"
        can = ["recordings"]

        [[token]]
        # printf %s operator-secret-45 | sha256sum
        sha256 = "0c0b6e4e3bf4e8be9e8b1a5ed1a1a3b4d6cf4c3e2c1bd0f9e8d7c6b5a4938271"
        can = ["operate"]
    "#;

    fn id(text: &str) -> BroadcastId {
        text.parse().unwrap()
    }

    #[test]
    fn without_rules_everyone_may_do_everything() {
        for token in [None, Some("anything")] {
            let permit = Policy::open().permit(token, 0).unwrap();
            assert!(Right::ALL.iter().all(|right| permit.may(*right, &id("r/u")) && permit.may_everywhere(*right)));
        }
    }

    #[test]
    fn who_shows_no_token_may_what_everyone_may() {
        let permit = Policy::parse(FILE).unwrap().permit(None, 0).unwrap();
        assert!(permit.may(Right::Watch, &id("open-air/ada")) && permit.may_in_all_of(Right::Watch, "open-air"));
        assert!(!permit.may(Right::Watch, &id("stage/ada")) && !permit.may(Right::Publish, &id("open-air/ada")));
        assert!(!permit.may_everywhere(Right::Watch) && !permit.has_token());
        assert!(permit.may_somewhere(Right::Watch) && !permit.may_somewhere(Right::Publish));
    }

    #[test]
    fn a_token_grants_what_all_its_entries_and_everyones_do() {
        let permit = Policy::parse(FILE).unwrap().permit(Some("studio-secret-0123"), 0).unwrap();
        assert!(permit.has_token());
        for user in ["ada", "cam-3"] {
            assert!(permit.may(Right::Publish, &id(&format!("stage/{user}"))), "{user}");
        }
        assert!(!permit.may(Right::Publish, &id("stage/eve")) && !permit.may(Right::Publish, &id("other/ada")));
        assert!(!permit.may_in_all_of(Right::Watch, "stage"), "only some of its users");
        assert!(permit.may_everywhere(Right::Recordings), "by its second entry");
        assert!(permit.may(Right::Watch, &id("open-air/eve")), "as everyone");
        assert!(!permit.may_everywhere(Right::Operate));
    }

    #[test]
    fn another_token_is_bad_even_where_none_is_needed() {
        let policy = Policy::parse(FILE).unwrap();
        for token in ["", "studio-secret-012", "studio-secret-01234", "Studio-Secret-0123", &"x".repeat(10_000)] {
            assert_eq!(policy.permit(Some(token), 0).unwrap_err(), BadToken, "{token}");
        }
    }

    #[test]
    fn a_hash_in_the_file_stands_for_its_token() {
        let hash: String = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"operator-secret-45")
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let text = format!("[[token]]\nsha256 = \"{hash}\"\ncan = [\"operate\"]");
        let permit = Policy::parse(&text).unwrap().permit(Some("operator-secret-45"), 0).unwrap();
        assert!(permit.may_everywhere(Right::Operate) && !permit.may_everywhere(Right::Watch));
    }

    #[test]
    fn operators_may_record_and_who_may_record_is_no_operator() {
        let permit = |can: &str| {
            let text = format!("[[token]]\ntoken = \"some-secret-012345\"\ncan = [{can}]");
            Policy::parse(&text).unwrap().permit(Some("some-secret-012345"), 0).unwrap()
        };
        let operator = permit("\"operate\"");
        assert!(operator.may(Right::Record, &id("r/u")) && operator.may_somewhere(Right::Record));
        let broadcaster = permit("\"publish\", \"record\"");
        assert!(broadcaster.may(Right::Record, &id("r/u")) && !broadcaster.may(Right::Operate, &id("r/u")));
        assert!(!permit("\"publish\", \"watch\", \"recordings\"").may(Right::Record, &id("r/u")));
    }

    #[test]
    fn the_example_grants_what_it_says() {
        let example = include_str!("../../deploy/auth.example.toml");
        let error = Policy::parse(example).unwrap_err().to_string();
        assert!(error.contains("make one with"), "its secrets are everyone's: {error}");
        let filled = example.replace("replace-me", "a-secret-of-ours");
        let error = Policy::parse(&filled).unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal digits"), "nor is its hash anyone's: {error}");
        let policy =
            Policy::parse(&filled.replace("\"a-secret-of-ours\"", &format!("\"{}\"", "0c".repeat(32)))).unwrap();
        assert!(policy.permit(None, 0).unwrap().may(Right::Watch, &id("open-air/ada")));
        let studio = policy.permit(Some("a-secret-of-ours-studio"), 0).unwrap();
        assert!(studio.may(Right::Publish, &id("stage/cam-2")) && !studio.may(Right::Publish, &id("stage/eve")));
        let viewer = policy.permit(Some("a-secret-of-ours-viewer"), 0).unwrap();
        assert!(viewer.may_in_all_of(Right::Watch, "stage") && !viewer.may_everywhere(Right::Recordings));
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", Policy::parse(FILE).unwrap());
        assert!(!shown.contains("secret") && !shown.contains("0c0b"), "{shown}");
    }
}

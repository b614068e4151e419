//! Names with stars, as the file of `--auth` writes them.
//!
//! **Invariant:** matching takes time in proportion to pattern times name, whatever either is.

use std::fmt;

/// The longest pattern, in bytes: that of a name is 64.
const LEN_MAX_BYTES: usize = 128;

/// A name in which `*` stands for any characters, also for none.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern of characters that names have, and stars.
    ///
    /// # Errors
    ///
    /// One line that says what a pattern is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*".contains(&byte);
        if text.is_empty() || text.len() > LEN_MAX_BYTES || !text.bytes().all(fits) {
            let text: String = text.chars().take(LEN_MAX_BYTES).collect();
            return Err(format!("`{text}` is no name: letters, digits, `.`, `_`, `-`, and `*` for any of them"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The pattern that every name matches.
    #[must_use]
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether every name matches.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// Whether a name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        // Where the pattern goes on when what a star stood for turns out too short.
        let mut retry: Option<(&[u8], &[u8])> = None;
        let (mut pattern, mut name) = (self.0.as_bytes(), name.as_bytes());
        loop {
            match (pattern.split_first(), name.split_first()) {
                (Some((b'*', rest)), _) => {
                    retry = Some((rest, name));
                    pattern = rest;
                }
                (Some((wanted, pattern_rest)), Some((found, name_rest))) if wanted == found => {
                    (pattern, name) = (pattern_rest, name_rest);
                }
                (None, None) => return true,
                _ => {
                    let Some((after_star, [_, shorter @ ..])) = retry else {
                        return false;
                    };
                    retry = Some((after_star, shorter));
                    (pattern, name) = (after_star, shorter);
                }
            }
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, matching, other) in [
            ("ada", vec!["ada"], vec!["", "ad", "adam", "Ada"]),
            ("*", vec!["", "x", "a-b.c"], vec![]),
            ("cam-*", vec!["cam-", "cam-1"], vec!["cam", "xcam-1"]),
            ("*-stage", vec!["-stage", "main-stage", "a-stage-stage"], vec!["stage", "main-stages"]),
            ("a*b*c", vec!["abc", "aXbYc", "abbcc", "abcbc"], vec!["ab", "acb", "abcd"]),
            ("**", vec!["", "x"], vec![]),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            assert!(matching.iter().all(|name| pattern.matches(name)), "{pattern:?}");
            assert!(other.iter().all(|name| !pattern.matches(name)), "{pattern:?}");
        }
        assert!(Pattern::parse("**").unwrap().is_any() && !Pattern::parse("a*").unwrap().is_any());
    }

    #[test]
    fn what_no_name_holds_is_no_pattern() {
        for text in ["", "a/b", "ä", "a b", "?", &"x".repeat(LEN_MAX_BYTES + 1)] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    /// What a pattern means, said in the simplest way.
    fn means(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|taken| means(rest, &name[taken..])),
            Some((byte, rest)) => name.first() == Some(byte) && means(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_matches_as_it_is_meant(pattern in "[ab*]{1,8}", name in "[ab]{0,8}") {
            let meant = means(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(Pattern::parse(&pattern).unwrap().matches(&name), meant);
        }
    }
}

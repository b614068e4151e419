//! One Rust file as the house rules see it: its text without comments and literals, and which of it is shipped.
//!
//! **Invariant**: blanking never moves anything: byte offsets and line numbers are those of the file on disk.

use std::ops::Range;

/// A file under `src/`, in the three forms the rules look at.
pub struct Source {
    /// Path below `src/`, with forward slashes: `hub/peer.rs`.
    pub path: String,
    /// The file as it is on disk.
    pub raw: String,
    /// `raw` with comments and literals blanked.
    pub code: String,
    /// `code` with everything under `#[cfg(test)]` and `#[test]` blanked.
    pub shipped: String,
    /// How many lines are not part of a test.
    pub shipped_lines: usize,
}

impl Source {
    pub fn new(path: &str, raw: &str) -> Self {
        let code = without_comments_and_literals(raw);
        let tests = test_ranges(&code);
        let mut shipped = code.clone().into_bytes();
        for range in &tests {
            blank(&mut shipped, range.clone());
        }
        Self {
            path: path.to_owned(),
            raw: raw.to_owned(),
            shipped_lines: raw.lines().count() - lines_inside(raw, &tests),
            shipped: text(shipped),
            code,
        }
    }

    /// Makes the whole file count as a test: its `mod` line stands under `#[cfg(test)]`.
    pub fn mark_as_test(&mut self) {
        self.shipped = text(vec![b' '; self.code.len()]);
        self.shipped_lines = 0;
    }

    /// The names in `#[cfg(test)] mod name;` lines.
    pub fn test_modules(&self) -> Vec<String> {
        let mut names = Vec::new();
        for range in test_ranges(&self.code) {
            let tokens = tokens(&self.code[range]);
            for window in tokens.windows(3) {
                if let [(_, Token::Word("mod")), (_, Token::Word(name)), (_, Token::Punct(b';'))] = window {
                    names.push((*name).to_owned());
                }
            }
        }
        names
    }
}

/// A lexical token of blanked code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// An identifier, keyword or number.
    Word(&'a str),
    /// `::`
    PathSeparator,
    /// Any other byte that is not white space.
    Punct(u8),
}

/// Splits blanked code into tokens, each with its byte offset.
pub fn tokens(code: &str) -> Vec<(usize, Token<'_>)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        if is_word(bytes[at]) {
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
            found.push((start, Token::Word(&code[start..at])));
        } else if bytes[at..].starts_with(b"::") {
            at += 2;
            found.push((start, Token::PathSeparator));
        } else {
            at += 1;
            if !bytes[start].is_ascii_whitespace() {
                found.push((start, Token::Punct(bytes[start])));
            }
        }
    }
    found
}

/// The line, counted from 1, that holds this byte offset.
pub fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// Replaces comments, string and character literals by spaces.
pub fn without_comments_and_literals(raw: &str) -> String {
    let bytes = raw.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let starts_word = at == 0 || !is_word(bytes[at - 1]);
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            block_comment_length(rest)
        } else if rest[0] == b'"' {
            string_length(rest)
        } else if starts_word && raw_string_length(rest) > 0 {
            raw_string_length(rest)
        } else if rest[0] == b'\'' {
            char_length(rest)
        } else {
            0
        };
        if length > 0 {
            blank(&mut out, at..at + length);
        }
        at += length.max(1);
    }
    text(out)
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `r"…"`, `r#"…"#`, `br"…"` or `cr"…"` at the start, or 0.
fn raw_string_length(rest: &[u8]) -> usize {
    let prefix = rest.iter().take_while(|byte| matches!(byte, b'b' | b'c' | b'r')).count();
    if prefix == 0 || rest[prefix - 1] != b'r' {
        return 0;
    }
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return 0;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = &rest[open + 1..];
    let end = body.windows(close.len()).position(|window| window == close);
    end.map_or(rest.len(), |end| open + 1 + end + close.len())
}

/// The length of a character literal at the start, or 0 for a lifetime.
fn char_length(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let end = rest[2..].iter().skip(1).position(|byte| *byte == b'\'');
        return end.map_or(rest.len(), |end| end + 4);
    }
    let Some(length) = std::str::from_utf8(&rest[1..rest.len().min(5)])
        .or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]))
        .ok()
        .and_then(|start| start.chars().next())
        .map(char::len_utf8)
    else {
        return 0;
    };
    if rest.get(1 + length) == Some(&b'\'') { length + 2 } else { 0 }
}

/// Where the code is only compiled for tests.
fn test_ranges(code: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while let Some(offset) = code[at..].find('#') {
        let start = at + offset;
        at = start + 1;
        let inner = code[at..].starts_with('!');
        let open = at + usize::from(inner);
        if !code[open..].starts_with('[') {
            continue;
        }
        let end = group_end(code.as_bytes(), open);
        if is_for_tests(&code[open..end]) {
            let stop = if inner { code.len() } else { item_end(code.as_bytes(), end) };
            found.push(start..stop);
            at = stop;
        }
    }
    found
}

fn is_for_tests(attribute: &str) -> bool {
    let squeezed: String = attribute.split_whitespace().collect();
    squeezed == "[test]" || squeezed == "[cfg(test)]" || squeezed.starts_with("[cfg(all(test,")
}

/// The offset just past the group whose opening bracket is at `open`.
fn group_end(bytes: &[u8], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}

/// The offset just past the item, statement or field that an attribute ending at `from` belongs to.
fn item_end(bytes: &[u8], from: usize) -> usize {
    const ITEM_WORDS: &[&str] = &[
        "async",
        "const",
        "enum",
        "extern",
        "fn",
        "impl",
        "let",
        "macro_rules",
        "mod",
        "pub",
        "static",
        "struct",
        "trait",
        "type",
        "unsafe",
        "use",
    ];
    let mut at = from;
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if !bytes[at..].starts_with(b"#[") {
            break;
        }
        at = group_end(bytes, at + 1);
    }
    let word_length = bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
    let first_word = std::str::from_utf8(&bytes[at..at + word_length]).unwrap_or_default();
    let is_item = ITEM_WORDS.contains(&first_word);
    let is_use = bytes[at..].starts_with(b"use ") || bytes[at..].starts_with(b"pub use ");
    while at < bytes.len() {
        match bytes[at] {
            b'(' | b'[' => at = group_end(bytes, at),
            b'{' if is_use => at = group_end(bytes, at),
            b'{' => return group_end(bytes, at),
            b';' => return at + 1,
            b',' if !is_item => return at + 1,
            b'}' | b')' | b']' => return at,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn lines_inside(raw: &str, ranges: &[Range<usize>]) -> usize {
    let mut start = 0;
    let mut count = 0;
    for line in raw.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        let first = start + (line.len() - line.trim_start().len()).min(line.trim_end().len());
        if ranges.iter().any(|range| range.start <= first && end <= range.end) {
            count += 1;
        }
        start += line.len();
    }
    count
}

fn blank(bytes: &mut [u8], range: Range<usize>) {
    let end = range.end.min(bytes.len());
    for byte in &mut bytes[range.start..end] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("whole literals and comments were blanked, so the rest is still UTF-8")
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_in_place() {
        let raw = "a(\"crate::x \\\" y\"); // crate::y\nb(r#\"crate::\"z\"#, 'c', '\\'', '“'); /* crate /* :: */ w */ c::<'a>()";
        let code = without_comments_and_literals(raw);
        assert_eq!(code.len(), raw.len());
        assert!(!code.contains("crate"), "{code}");
        assert!(code.contains("c::<'a>()"), "a lifetime is no literal: {code}");
        assert_eq!(line_at(&code, code.find("b(").unwrap()), 2);
    }

    #[test]
    fn raw_identifiers_and_words_ending_in_r_are_no_raw_strings() {
        let code = without_comments_and_literals("r#type::new(); for x in iter\"s\" {}");
        assert!(code.starts_with("r#type::new(); for x in iter"), "{code}");
        assert!(!code.contains('s'), "{code}");
    }

    #[test]
    fn tests_are_not_shipped() {
        let raw = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nuse b::{c, d};\n#[cfg(not(test))]\nfn e() {}\n#[cfg(test)]\nmod tests {\n    fn f() {}\n}\n";
        let source = Source::new("x.rs", raw);
        for kept in ["fn a", "fn e"] {
            assert!(source.shipped.contains(kept), "{kept}");
        }
        for gone in ["b::", "fn f", "mod tests"] {
            assert!(!source.shipped.contains(gone), "{gone}");
        }
        assert_eq!(source.shipped_lines, 3);
    }

    #[test]
    fn a_test_only_field_ends_at_its_comma() {
        let source = Source::new("x.rs", "struct A { #[cfg(test)] b: u8, c: Instant }");
        assert!(!source.shipped.contains("b: u8"));
        assert!(source.shipped.contains("c: Instant"));
    }

    #[test]
    fn modules_declared_for_tests_are_found() {
        let source = Source::new("x.rs", "mod a;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod c { }\n");
        assert_eq!(source.test_modules(), ["tests"]);
    }
}

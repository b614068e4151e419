//! Who imports whom: every path in the code, resolved to the file that defines what it names.
//!
//! **Invariant**: a path is followed through re-exports, so an edge points at the file that holds the thing, not at the one that passes it on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::source::{Source, Token, line_at, tokens};

/// The library's own name, by which `main.rs` reaches it.
const CRATE_NAME: &str = "onair";

/// Re-exports are followed this far; longer chains do not occur in honest code.
const MAX_REEXPORTS: usize = 8;

/// A path as written, before it is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// `crate::a::B` as `["crate", "a", "B"]`; a glob ends with `"*"`.
    pub segments: Vec<String>,
    /// The name a `use` binds here; none for a path in an expression.
    pub binds: Option<String>,
    /// The inline modules (`mod tests { … }`) around it.
    pub inside: Vec<String>,
    /// Line, counted from 1.
    pub line: usize,
}

/// One file's use of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub from: String,
    pub to: String,
    pub line: usize,
    /// The path as written.
    pub path: String,
}

/// Every path in blanked code: all of `use` trees, and whatever has a `::` elsewhere.
pub fn written_paths(code: &str) -> Vec<Written> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < tokens.len() {
        let (offset, token) = tokens[at];
        match token {
            Token::Punct(b'{') => depth += 1,
            Token::Punct(b'}') => {
                depth = depth.saturating_sub(1);
                if inside.last().is_some_and(|(_, opened)| *opened == depth) {
                    inside.pop();
                }
            }
            Token::Word("mod") => {
                if let (Some((_, Token::Word(name))), Some((_, Token::Punct(b'{')))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    inside.push(((*name).to_owned(), depth));
                    depth += 1;
                    at += 2;
                }
            }
            Token::Word("use") => {
                let around: Vec<String> = inside.iter().map(|(name, _)| name.clone()).collect();
                let line = line_at(code, offset);
                at += 1;
                use_tree(&tokens, &mut at, &[], &mut |segments, binds| {
                    found.push(Written { segments, binds, inside: around.clone(), line });
                });
                continue;
            }
            Token::Word(_) if at == 0 || !matches!(tokens[at - 1].1, Token::PathSeparator | Token::Punct(b'.')) => {
                let mut segments = Vec::new();
                while let Some((_, Token::Word(word))) = tokens.get(at) {
                    segments.push((*word).to_owned());
                    if !matches!(tokens.get(at + 1), Some((_, Token::PathSeparator))) {
                        break;
                    }
                    at += 2;
                }
                if segments.len() > 1 {
                    let inside = inside.iter().map(|(name, _)| name.clone()).collect();
                    found.push(Written { segments, binds: None, inside, line: line_at(code, offset) });
                }
                // What stopped the path (a turbofish, a glob) is looked at by itself.
                if !matches!(tokens.get(at), Some((_, Token::Word(_)))) {
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads one branch of a `use` tree at `at` and reports each leaf.
fn use_tree(
    tokens: &[(usize, Token<'_>)],
    at: &mut usize,
    prefix: &[String],
    leaf: &mut impl FnMut(Vec<String>, Option<String>),
) {
    let mut segments = prefix.to_vec();
    loop {
        match tokens.get(*at).map(|(_, token)| *token) {
            Some(Token::Word(word)) => {
                segments.push(word.to_owned());
                *at += 1;
                match tokens.get(*at).map(|(_, token)| *token) {
                    Some(Token::PathSeparator) => *at += 1,
                    Some(Token::Word("as")) => {
                        let alias = match tokens.get(*at + 1) {
                            Some((_, Token::Word(alias))) => Some((*alias).to_owned()),
                            _ => None,
                        };
                        *at += 2;
                        return leaf(ending_in_self_dropped(segments), alias);
                    }
                    _ => {
                        let segments = ending_in_self_dropped(segments);
                        let name = segments.last().cloned();
                        return leaf(segments, name);
                    }
                }
            }
            Some(Token::PathSeparator) => *at += 1,
            Some(Token::Punct(b'*')) => {
                *at += 1;
                segments.push("*".to_owned());
                return leaf(segments, None);
            }
            Some(Token::Punct(b'{')) => {
                *at += 1;
                while let Some((_, token)) = tokens.get(*at) {
                    match token {
                        Token::Punct(b'}') => {
                            *at += 1;
                            return;
                        }
                        Token::Punct(b',') => *at += 1,
                        _ => use_tree(tokens, at, &segments, leaf),
                    }
                }
                return;
            }
            _ => {
                *at += 1;
                return;
            }
        }
    }
}

/// `a::{self, b}` names `a` itself.
fn ending_in_self_dropped(mut segments: Vec<String>) -> Vec<String> {
    if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
        segments.pop();
    }
    segments
}

/// The module path of a file below `src/`: `hub/peer.rs` is `["hub", "peer"]`, `lib.rs` is `[]`.
pub fn module_of(path: &str) -> Vec<String> {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    if stem == "lib" {
        return Vec::new();
    }
    let mut parts: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// All files of the library and what each one's `use` lines bind.
pub struct Modules {
    file_of: BTreeMap<Vec<String>, String>,
    bindings: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Modules {
    pub fn new(sources: &[Source]) -> Self {
        let file_of = sources.iter().map(|source| (module_of(&source.path), source.path.clone())).collect();
        let mut modules = Self { file_of, bindings: BTreeMap::new() };
        for source in sources {
            let module = module_of(&source.path);
            let mut bound = BTreeMap::new();
            for written in written_paths(&source.code) {
                if let Some(name) = &written.binds
                    && written.inside.is_empty()
                    && let Some(absolute) = modules.absolute(&source.path, &module, &written.segments)
                {
                    bound.insert(name.clone(), absolute);
                }
            }
            modules.bindings.insert(source.path.clone(), bound);
        }
        modules
    }

    /// What `code`, the whole of `path` or its shipped part, uses of other files.
    pub fn edges(&self, path: &str, code: &str) -> Vec<Edge> {
        let mut found = Vec::new();
        for written in written_paths(code) {
            let mut module = module_of(path);
            module.extend(written.inside.iter().cloned());
            let Some(absolute) = self.absolute(path, &module, &written.segments) else { continue };
            let Some(to) = self.file_defining(&absolute) else { continue };
            if to != path {
                let path_written = written.segments.join("::");
                found.push(Edge { from: path.to_owned(), to, line: written.line, path: path_written });
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// The path from the crate's root, or none when it leaves the crate.
    fn absolute(&self, file: &str, module: &[String], segments: &[String]) -> Option<Vec<String>> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            CRATE_NAME => Some(rest.to_vec()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let mut module = module;
                let mut rest = segments;
                while let [head, tail @ ..] = rest {
                    if head != "super" {
                        break;
                    }
                    module = module.split_last()?.1;
                    rest = tail;
                }
                Some([module, rest].concat())
            }
            name => {
                let child = [module, &[name.to_owned()]].concat();
                if self.file_of.contains_key(&child) {
                    return Some([child.as_slice(), rest].concat());
                }
                let bound = self.bindings.get(file)?.get(name)?;
                self.file_of.contains_key(bound).then(|| [bound.as_slice(), rest].concat())
            }
        }
    }

    /// The file that holds what an absolute path names, through re-exports.
    fn file_defining(&self, absolute: &[String]) -> Option<String> {
        let mut wanted = absolute.to_vec();
        for _ in 0..MAX_REEXPORTS {
            let (module, file) = (0..=wanted.len()).rev().find_map(|length| {
                self.file_of.get_key_value(&wanted[..length]).map(|(key, file)| (key.len(), file))
            })?;
            let passed_on = wanted.get(module).and_then(|name| self.bindings.get(file)?.get(name));
            match passed_on {
                Some(target) => wanted = [target.as_slice(), &wanted[module + 1..]].concat(),
                None => return Some(file.clone()),
            }
        }
        None
    }
}

/// Every circle among the edges, each as the files in order, the first one repeated at the end.
pub fn circles(edges: &BTreeSet<(String, String)>) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut seen: BTreeSet<BTreeSet<String>> = BTreeSet::new();
    for (from, to) in edges {
        let Some(mut way) = shortest_way(edges, to, from) else { continue };
        if seen.insert(way.iter().cloned().collect()) {
            way.insert(0, from.clone());
            found.push(way);
        }
    }
    found
}

fn shortest_way(edges: &BTreeSet<(String, String)>, start: &str, goal: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(here) = queue.pop_front() {
        if here == goal {
            let mut way = vec![goal.to_owned()];
            let mut at = goal;
            while at != start {
                at = came_from[at];
                way.insert(0, at.to_owned());
            }
            return Some(way);
        }
        for (_, next) in edges.iter().filter(|(from, _)| from == here) {
            if next != start && !came_from.contains_key(next.as_str()) {
                came_from.insert(next, here);
                queue.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_written(code: &str) -> Vec<String> {
        written_paths(code).into_iter().map(|written| written.segments.join("::")).collect()
    }

    fn edges(files: &[(&str, &str)]) -> BTreeSet<(String, String)> {
        let sources: Vec<Source> = files.iter().map(|(path, raw)| Source::new(path, raw)).collect();
        let modules = Modules::new(&sources);
        let all = sources.iter().flat_map(|source| modules.edges(&source.path, &source.code));
        all.map(|edge| (edge.from, edge.to)).collect()
    }

    fn edge(from: &str, to: &str) -> (String, String) {
        (from.to_owned(), to.to_owned())
    }

    #[test]
    fn use_groups_are_taken_apart() {
        let code = "pub use crate::{a::{self, B, c::*}, d as e};\nfn f() { crate::g::h::<u8>(x.i::<j::K>()); }";
        assert_eq!(all_written(code), ["crate::a", "crate::a::B", "crate::a::c::*", "crate::d", "crate::g::h", "j::K"]);
    }

    #[test]
    fn inline_modules_are_noted() {
        let written = written_paths("mod a { fn x() {} use super::B; } use super::C;");
        assert_eq!(written[0].inside, ["a"]);
        assert!(written[1].inside.is_empty());
    }

    #[test]
    fn paths_of_every_form_lead_to_their_file() {
        let files = [
            ("lib.rs", "pub mod hub; pub mod rtp;"),
            ("rtp/mod.rs", "pub mod header; pub mod ring;"),
            ("rtp/header.rs", "pub struct Header;"),
            ("rtp/ring.rs", "use super::header::Header;"),
            ("hub/mod.rs", "mod peer; pub struct Hub(peer::Peer);"),
            ("hub/peer.rs", "use crate::rtp; pub struct Peer(rtp::ring::Ring);"),
            ("main.rs", "use onair::hub::Hub;"),
        ];
        let found = edges(&files);
        for wanted in [
            edge("rtp/ring.rs", "rtp/header.rs"),
            edge("hub/mod.rs", "hub/peer.rs"),
            edge("hub/peer.rs", "rtp/mod.rs"),
            edge("hub/peer.rs", "rtp/ring.rs"),
            edge("main.rs", "hub/mod.rs"),
        ] {
            assert!(found.contains(&wanted), "{wanted:?} is not in {found:?}");
        }
        assert_eq!(found.len(), 5, "{found:?}");
    }

    #[test]
    fn reexports_are_followed_to_the_definition() {
        let files = [
            ("hub/mod.rs", "mod error; mod peer; pub use error::HubError;"),
            ("hub/error.rs", "pub enum HubError {}"),
            ("hub/peer.rs", "use super::HubError;"),
        ];
        let found = edges(&files);
        assert!(found.contains(&edge("hub/peer.rs", "hub/error.rs")), "{found:?}");
        assert!(circles(&found).is_empty(), "{found:?}");
    }

    #[test]
    fn planted_circles_are_found() {
        let siblings = edges(&[
            ("a/mod.rs", "mod b; mod c;"),
            ("a/b.rs", "use super::c::C;"),
            ("a/c.rs", "fn f() { crate::a::b::g(); }"),
        ]);
        assert_eq!(circles(&siblings), [["a/b.rs", "a/c.rs", "a/b.rs"]]);

        let child = edges(&[("a/mod.rs", "mod b; use b::B; pub struct A;"), ("a/b.rs", "use super::A;")]);
        assert_eq!(circles(&child).len(), 1, "{child:?}");

        let declared_only = edges(&[("a/mod.rs", "mod b; pub struct A;"), ("a/b.rs", "use super::A;")]);
        assert!(circles(&declared_only).is_empty(), "{declared_only:?}");
    }

    #[test]
    fn the_tests_of_a_file_may_look_at_the_file() {
        let found = edges(&[("a.rs", "#[cfg(test)] mod tests { use super::*; use super::B; }")]);
        assert!(found.is_empty(), "{found:?}");
    }
}

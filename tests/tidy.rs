//! The house rules that neither rustc nor clippy knows: floors, circles, length, headers, names and loose ends.
//!
//! Each rule is a function from sources to complaints, so that the tests below can plant a violation and see it found.
//! An exception stands in a table with its reason; one that is no longer needed is itself a complaint.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot read the tree must fail"
)]

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/page.rs"]
mod page;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use imports::{Modules, circles, module_of, written_paths};
use page::{PageFile, loads_from_the_net, module_circles};
use source::{Source, Token, line_at, tokens};

/// Imports point down only: a room may use its own floor and those below.
const FLOORS: &[(&str, u8)] = &[
    ("rtp", 0),
    ("signal", 0),
    ("access", 1),
    ("dtls", 1),
    ("egress", 1),
    ("hub", 2),
    ("handle", 3),
    ("http", 4),
    ("record", 4),
    ("net", 4),
    ("config", 5),
    ("server", 5),
    ("main", 5),
];

/// Up to this floor everything is pure: no clock, no socket, no runtime.
const TOP_PURE_FLOOR: u8 = 2;

/// Longest a file may be, its tests not counted.
const MAX_LINES: usize = 450;

/// Files that may be longer: path, limit of its own, reason.
const LONG_FILES: &[(&str, usize, &str)] = &[];

/// Uses that may close a circle: from, to, reason.
const CIRCLES: &[(&str, &str, &str)] = &[];

/// Rooms whose code runs on tokio's workers or on the hub's thread, where a disk that hangs must hold nobody up.
const ROOMS_WITHOUT_DISK: &[&str] = &["handle", "http", "hub", "net", "record"];

/// Files of those rooms that may call the disk: path or folder, reason.
const DISK_CALLERS: &[(&str, &str)] = &[
    ("record/files/", "each function takes a Turn, which only Disk::run hands out, on a blocking thread"),
    ("http/tls/acme.rs", "the issuer and the keeper call it by spawn_blocking"),
    ("http/tls/kept.rs", "its callers run by spawn_blocking, or before the server listens"),
    ("http/tls/pair.rs", "the keeper reads pairs by spawn_blocking"),
    ("http/tls/source.rs", "the keeper looks at the files by spawn_blocking"),
    ("net/receive_drops.rs", "it reads /proc, which is no disk"),
    ("net/thread_time.rs", "it reads /proc, which is no disk"),
];

/// Methods of paths that call the disk.
const DISK_METHODS: &[&str] = &[
    "canonicalize",
    "exists",
    "is_dir",
    "is_file",
    "is_symlink",
    "metadata",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "try_exists",
];

/// Where Rust files stand that are not the library's.
const FOLDERS_BESIDE_THE_LIBRARY: &[&str] = &["benches", "examples", "fuzz/fuzz_targets", "fuzz/src", "tests"];

/// Names that say nothing about what a file holds.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "manager", "managers"];

#[test]
fn imports_point_down() {
    report(upward_imports(&library()));
}

#[test]
fn no_two_files_import_each_other_in_a_circle() {
    report(import_circles(&library(), CIRCLES));
}

#[test]
fn the_lower_floors_know_no_clock_no_socket_and_no_runtime() {
    report(impurities(&library()));
}

#[test]
fn the_disk_is_called_only_where_a_thread_may_block() {
    report(disk_calls(&library(), DISK_CALLERS));
}

#[test]
fn files_are_short() {
    report(long_files(&library(), LONG_FILES));
}

#[test]
fn files_say_what_they_own() {
    report(missing_headers(&library()));
}

#[test]
fn file_names_are_nouns_of_the_field() {
    report(empty_names(&library()));
}

#[test]
fn nothing_is_left_undone() {
    let mut sources = library();
    for folder in FOLDERS_BESIDE_THE_LIBRARY {
        sources.extend(sources_under(folder));
    }
    report(loose_ends(&sources));
}

#[test]
fn the_page_needs_nothing_from_the_net() {
    report(loads_from_the_net(&page()));
}

#[test]
fn the_modules_of_the_page_make_no_circle() {
    report(module_circles(&page()));
}

#[test]
fn the_modules_of_the_page_are_short() {
    let long = page().into_iter().filter(|file| file.path.ends_with(".js") && file.text.lines().count() > MAX_LINES);
    report(long.map(|file| format!("web/{}: more than {MAX_LINES} lines", file.path)).collect());
}

/// Paths from a lower to a higher floor, in tests too, and rooms without a floor.
fn upward_imports(sources: &[Source]) -> Vec<String> {
    let modules = Modules::new(sources);
    let mut complaints = Vec::new();
    for source in sources {
        let Some(own) = floor_of(&source.path) else {
            complaints.push(format!("{}: its room has no floor: give it one in FLOORS of tests/tidy.rs", source.path));
            continue;
        };
        for edge in modules.edges(&source.path, &source.code) {
            if floor_of(&edge.to).is_some_and(|floor| floor > own) {
                complaints.push(format!(
                    "{}:{}: `{}` leads up to {}: a lower floor must not know a higher one",
                    edge.from, edge.line, edge.path, edge.to
                ));
            }
        }
    }
    complaints
}

fn import_circles(sources: &[Source], exceptions: &[(&str, &str, &str)]) -> Vec<String> {
    let modules = Modules::new(sources);
    let uses = sources.iter().flat_map(|source| modules.edges(&source.path, &source.shipped));
    let mut edges: BTreeSet<(String, String)> = uses.map(|edge| (edge.from, edge.to)).collect();
    let mut complaints = Vec::new();
    for (from, to, _) in exceptions {
        if !edges.remove(&((*from).to_owned(), (*to).to_owned())) {
            complaints.push(format!("{from} no longer uses {to}: take it out of CIRCLES"));
        }
    }
    complaints.extend(circles(&edges).iter().map(|circle| format!("a circle: {}", circle.join(" → "))));
    complaints
}

fn impurities(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| floor_of(&source.path).is_some_and(|floor| floor <= TOP_PURE_FLOOR)) {
        for written in written_paths(&source.shipped) {
            let names: Vec<&str> = written.segments.iter().map(String::as_str).collect();
            let impure = match names.as_slice() {
                ["tokio", ..] => "a runtime",
                [.., "Instant" | "SystemTime", "now"] => "a clock",
                ["std", "thread", ..] | ["thread", "spawn" | "sleep"] => "threads",
                ["std", "fs", ..] => "files",
                ["getrandom", ..] => "a source of randomness",
                _ if names.iter().any(|name| ["UdpSocket", "TcpStream", "TcpListener"].contains(name)) => "a socket",
                _ => continue,
            };
            let path = names.join("::");
            complaints.push(format!(
                "{}:{}: `{path}`: {impure}, which floors 0 to 2 must be handed",
                source.path, written.line
            ));
        }
        for window in tokens(&source.shipped).windows(3) {
            if let [(_, Token::Punct(b'.')), (offset, Token::Word("elapsed")), (_, Token::Punct(b'('))] = window {
                let line = line_at(&source.shipped, *offset);
                complaints.push(format!("{}:{line}: `.elapsed()` reads the clock", source.path));
            }
        }
    }
    for source in sources.iter().filter(|source| module_of(&source.path).len() == 1) {
        let pure = floor_of(&source.path).is_some_and(|floor| floor <= TOP_PURE_FLOOR);
        let squeezed: String = source.code.split_whitespace().collect();
        let denied = ["clippy::disallowed_methods", "clippy::disallowed_types"].iter().all(|lint| {
            squeezed.split("#![deny(").skip(1).any(|after| after.split(')').next().unwrap().contains(lint))
        });
        if pure && !denied {
            complaints.push(format!(
                "{}: must say #![deny(clippy::disallowed_methods, clippy::disallowed_types)]",
                source.path
            ));
        }
    }
    complaints
}

/// Calls to the disk outside the files that may make them, and files that no longer need to.
fn disk_calls(sources: &[Source], exceptions: &[(&str, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut needed = BTreeSet::new();
    for source in sources {
        let room = module_of(&source.path).first().cloned().unwrap_or_default();
        if !ROOMS_WITHOUT_DISK.contains(&room.as_str()) {
            continue;
        }
        let calls = disk_calls_in(source);
        if let Some((path, _)) = exceptions.iter().find(|(path, _)| source.path.starts_with(path)) {
            needed.extend((!calls.is_empty()).then_some(*path));
            continue;
        }
        complaints.extend(calls.iter().map(|(line, call)| {
            format!(
                "{}:{line}: `{call}` calls the disk, which may hang: do it under record/files, in Disk::run",
                source.path
            )
        }));
    }
    let unneeded = exceptions.iter().filter(|(path, _)| !needed.contains(path));
    complaints.extend(unneeded.map(|(path, _)| format!("{path} calls no disk: take it out of DISK_CALLERS")));
    complaints
}

/// The calls to the disk in shipped code, each with its line.
fn disk_calls_in(source: &Source) -> Vec<(usize, String)> {
    let mut calls = Vec::new();
    for written in written_paths(&source.shipped) {
        let names: Vec<&str> = written.segments.iter().map(String::as_str).collect();
        let is_call = match names.as_slice() {
            // Extension traits, and metadata that was read elsewhere, touch nothing by themselves.
            ["std", "fs", "Metadata"] | ["std", "os", ..] | ["tower_http", ..] => false,
            ["std" | "tokio", "fs", ..] | ["fs", _, ..] => true,
            ["File" | "OpenOptions" | "DirBuilder", _, ..] => true,
            _ => names.iter().any(|name| name.starts_with("statvfs")),
        };
        if is_call {
            calls.push((written.line, names.join("::")));
        }
    }
    let words = tokens(&source.shipped);
    for window in words.windows(3) {
        if let [(_, Token::Punct(b'.')), (offset, Token::Word(name)), (_, Token::Punct(b'('))] = window
            && DISK_METHODS.contains(name)
        {
            calls.push((line_at(&source.shipped, *offset), format!(".{name}()")));
        }
    }
    calls
}

fn long_files(sources: &[Source], exceptions: &[(&str, usize, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let exception = exceptions.iter().find(|(path, ..)| *path == source.path);
        let limit = exception.map_or(MAX_LINES, |(_, limit, _)| *limit);
        if source.shipped_lines > limit {
            complaints.push(format!(
                "{}: {} lines before its tests, {limit} are allowed: look for the second noun in it",
                source.path, source.shipped_lines
            ));
        }
    }
    for (path, ..) in exceptions {
        let needed = sources.iter().any(|source| source.path == *path && source.shipped_lines > MAX_LINES);
        if !needed {
            complaints.push(format!("{path} is short enough: take it out of LONG_FILES"));
        }
    }
    complaints
}

fn missing_headers(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        if !source.raw.starts_with("//!") {
            complaints.push(format!("{}: must open with `//!` and say what it owns", source.path));
        }
    }
    complaints
}

fn empty_names(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for part in source.path.trim_end_matches(".rs").split('/') {
            if EMPTY_NAMES.contains(&part) {
                complaints.push(format!("{}: `{part}` says nothing: name the noun it holds", source.path));
            }
        }
    }
    complaints
}

fn loose_ends(sources: &[Source]) -> Vec<String> {
    let marks = [concat!("FIX", "ME"), concat!("XX", "X")];
    let mut complaints = Vec::new();
    for source in sources {
        for (offset, token) in tokens(&source.raw) {
            if let Token::Word(word) = token
                && marks.contains(&word)
            {
                complaints.push(format!("{}:{}: {word}", source.path, line_at(&source.raw, offset)));
            }
        }
        for window in tokens(&source.code).windows(3) {
            let complaint = match window {
                [(_, Token::Word(name @ ("todo" | "unimplemented"))), (_, Token::Punct(b'!')), _] => format!("{name}!"),
                [(_, Token::Punct(b'#')), (_, Token::Punct(b'[')), (_, Token::Word("ignore"))] => {
                    "#[ignore]: a test that is not run is no test".to_owned()
                }
                _ => continue,
            };
            let line = line_at(&source.code, window[0].0);
            complaints.push(format!("{}:{line}: {complaint}", source.path));
        }
    }
    complaints
}

/// The floor of a file's room; `lib.rs`, which declares the rooms, stands above them all.
fn floor_of(path: &str) -> Option<u8> {
    let module = module_of(path);
    let Some(room) = module.first() else { return Some(u8::MAX) };
    FLOORS.iter().find(|(name, _)| name == room).map(|(_, floor)| *floor)
}

/// All of `src/`, with the files that are only compiled for tests marked.
fn library() -> Vec<Source> {
    let mut sources = sources_under("src");
    let mut test_modules: Vec<Vec<String>> = Vec::new();
    for source in &sources {
        for name in source.test_modules() {
            test_modules.push([module_of(&source.path), vec![name]].concat());
        }
    }
    for source in &mut sources {
        let module = module_of(&source.path);
        if test_modules.iter().any(|test| module.starts_with(test)) {
            source.mark_as_test();
        }
    }
    sources
}

fn sources_under(folder: &str) -> Vec<Source> {
    files_under(folder, &["rs"]).iter().map(|(path, text)| Source::new(path, text)).collect()
}

fn page() -> Vec<PageFile> {
    let files = files_under("web", &["css", "html", "js", "svg"]);
    files.into_iter().map(|(path, text)| PageFile { path, text }).collect()
}

/// The files below a folder that end so, each with its path below the folder, in the order of their paths.
fn files_under(folder: &str, extensions: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(here) = folders.pop() {
        for entry in fs::read_dir(&here).unwrap_or_else(|error| panic!("{}: {error}", here.display())) {
            let path = entry.unwrap().path();
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if path.is_dir() {
                folders.push(path);
            } else if extensions.contains(&extension) {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

fn report(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

mod planted {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Vec<Source> {
        files.iter().map(|(path, raw)| Source::new(path, raw)).collect()
    }

    fn only(complaints: Vec<String>, wanted: &str) {
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].contains(wanted), "{complaints:?}");
    }

    const PURE: &str = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]\n";

    #[test]
    fn an_upward_import_is_found_in_every_form() {
        for upward in [
            "use crate::net::Driver;",
            "use crate::{hub::Hub, net::{self, Driver}};",
            "fn f() { crate::net::go(); }",
            "use super::super::net::Driver;",
            "use crate as onair; use crate::net as below; fn f() { below::go(); }",
            "#[cfg(test)] mod tests { use crate::net::Driver; }",
        ] {
            let files = sources(&[("hub/peer.rs", upward), ("net/mod.rs", ""), ("hub/mod.rs", ""), ("lib.rs", "")]);
            assert!(!upward_imports(&files).is_empty(), "{upward}");
        }
    }

    #[test]
    fn words_in_comments_and_strings_are_no_imports() {
        let innocent = "// use crate::net::Driver;\n/// [`crate::net`]\nconst A: &str = \"use crate::net::Driver;\";";
        let files = sources(&[("hub/peer.rs", innocent), ("net/mod.rs", "use crate::hub::Hub;"), ("hub/mod.rs", "")]);
        assert!(upward_imports(&files).is_empty());
    }

    #[test]
    fn a_room_without_a_floor_is_found() {
        only(upward_imports(&sources(&[("attic/mod.rs", "")])), "no floor");
    }

    #[test]
    fn a_circle_is_found_unless_excepted_and_stale_exceptions_are_too() {
        let files =
            [("hub/mod.rs", "mod a; mod b;"), ("hub/a.rs", "use super::b::B;"), ("hub/b.rs", "use super::a::A;")];
        only(import_circles(&sources(&files), &[]), "hub/a.rs → hub/b.rs → hub/a.rs");
        let excepted = [("hub/a.rs", "hub/b.rs", "planted")];
        assert!(import_circles(&sources(&files), &excepted).is_empty());
        let tests_only = [files[0], files[1], ("hub/b.rs", "#[cfg(test)] mod tests { use crate::hub::a::A; }")];
        assert!(import_circles(&sources(&tests_only), &[]).is_empty());
        only(import_circles(&sources(&[("hub/a.rs", "")]), &excepted), "take it out");
    }

    #[test]
    fn impurity_is_found_below_the_io_floor_only() {
        for impure in [
            "use tokio::sync::mpsc;",
            "fn f() { std::time::Instant::now(); }",
            "use std::time::Instant; fn f() { Instant::now(); }",
            "fn f() { SystemTime::now(); }",
            "use std::{io, net::{IpAddr, UdpSocket}};",
            "fn f(t: Instant) { t.elapsed(); }",
            "use std::fs;",
        ] {
            only(impurities(&sources(&[("hub/peer.rs", impure)])), "hub/peer.rs:1");
            assert!(impurities(&sources(&[("net/driver.rs", impure)])).is_empty());
            let test = format!("#[cfg(test)] mod tests {{ {impure} }}");
            assert!(impurities(&sources(&[("hub/peer.rs", &test)])).is_empty(), "{test}");
        }
    }

    #[test]
    fn a_call_to_the_disk_is_found_outside_the_files_that_may() {
        for call in [
            "use std::fs;",
            "use std::{fs::File, io};",
            "fn f() { std::fs::read(p); }",
            "fn f() { fs::read(p); }",
            "async fn f() { tokio::fs::metadata(p).await; }",
            "fn f() { File::open(p); }",
            "fn f() { OpenOptions::new(); }",
            "use nix::sys::statvfs::statvfs;",
            "fn f(p: &Path) -> bool { p.exists() }",
            "fn f(p: &Path) -> bool { p.is_file() || x }",
            "fn f(p: &Path) { p.metadata(); }",
            "fn f(p: &Path) { p.symlink_metadata(); }",
            "fn f(p: &Path) { p.canonicalize(); }",
            "fn f(p: &Path) { p.read_dir(); }",
        ] {
            for path in ["record/session.rs", "http/api.rs", "hub/mod.rs", "net/driver.rs", "handle.rs"] {
                let found = disk_calls(&sources(&[(path, call)]), &[]);
                assert!(found.iter().any(|complaint| complaint.starts_with(&format!("{path}:1"))), "{path}: {call}");
            }
            let innocent =
                [("record/session.rs", format!("#[cfg(test)] mod tests {{ {call} }}")), ("config.rs", call.to_owned())];
            for (path, code) in innocent {
                assert!(disk_calls(&sources(&[(path, &code)]), &[]).is_empty(), "{path}: {code}");
            }
            let excepted = [("record/files/", "planted")];
            assert!(disk_calls(&sources(&[("record/files/path.rs", call)]), &excepted).is_empty());
        }
        let innocent = "use std::fs::Metadata; use tower_http::services::fs::File; fn f() { Output::File(x); }";
        assert!(disk_calls(&sources(&[("http/download.rs", innocent)]), &[]).is_empty());
        only(disk_calls(&sources(&[("http/api.rs", "")]), &[("http/api.rs", "planted")]), "take it out");
    }

    #[test]
    fn a_pure_room_must_deny_the_lints() {
        only(impurities(&sources(&[("hub/mod.rs", "//! Hub.")])), "must say");
        assert!(impurities(&sources(&[("hub/mod.rs", PURE), ("net/mod.rs", "")])).is_empty());
    }

    #[test]
    fn an_over_long_file_is_found_and_its_tests_do_not_count() {
        let long = "fn a() {}\n".repeat(MAX_LINES + 1);
        only(long_files(&sources(&[("hub/mod.rs", &long)]), &[]), "451 lines");
        let excepted = [("hub/mod.rs", 500, "planted")];
        assert!(long_files(&sources(&[("hub/mod.rs", &long)]), &excepted).is_empty());
        let tests = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert!(long_files(&sources(&[("hub/mod.rs", &tests)]), &[]).is_empty());
        only(long_files(&sources(&[("hub/mod.rs", &tests)]), &excepted), "short enough");
    }

    #[test]
    fn a_file_without_header_is_found() {
        only(missing_headers(&sources(&[("hub/mod.rs", "use a;\n//! late")])), "hub/mod.rs");
        assert!(missing_headers(&sources(&[("hub/mod.rs", "//! Owns the rooms.")])).is_empty());
    }

    #[test]
    fn an_empty_name_is_found() {
        only(empty_names(&sources(&[("net/socket_options.rs", ""), ("hub/utils.rs", "")])), "utils");
        only(empty_names(&sources(&[("common/ring.rs", "")])), "common");
    }

    #[test]
    fn loose_ends_are_found() {
        let mark = format!("// {}: later", concat!("FIX", "ME"));
        for loose in ["fn f() { todo!() }", "fn f() { unimplemented!(\"x\") }", "#[ignore = \"slow\"] fn f() {}", &mark]
        {
            only(loose_ends(&sources(&[("hub/mod.rs", loose)])), "hub/mod.rs:1");
        }
        assert!(loose_ends(&sources(&[("hub/mod.rs", "// not todo!() yet\nfn todo() {}")])).is_empty());
    }
}

//! What the documents promise of the command line is what the program says of itself.

#![allow(clippy::expect_used, reason = "a program that cannot tell its flags must fail the test")]

use std::collections::BTreeMap;
use std::process::Command;

const README: &str = include_str!("../README.md");

/// Each flag of `--help` with its default, if it has one.
fn flags_of_the_program() -> BTreeMap<String, Option<String>> {
    let output = Command::new(env!("CARGO_BIN_EXE_onair")).arg("--help").output().expect("the program starts");
    let help = String::from_utf8(output.stdout).expect("help is text");
    let mut flags = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in help.lines().map(str::trim_start) {
        if let Some(flag) = line.split(", ").find(|part| part.starts_with("--")).filter(|_| line.starts_with('-')) {
            let name = flag.split([' ', '=']).next().unwrap_or_default().to_owned();
            flags.insert(name.clone(), None);
            current = Some(name);
        } else if let (Some(default), Some(name)) = (line.strip_prefix("[default: "), &current)
            && let Some(default) = default.strip_suffix(']')
        {
            flags.insert(name.clone(), Some(default.to_owned()));
        }
    }
    flags.remove("--help");
    flags.remove("--version");
    flags
}

/// Each row of the README's table of flags, with the default it names.
fn flags_of_the_readme() -> BTreeMap<String, String> {
    let rows = README.lines().filter(|line| line.starts_with("| `--"));
    rows.map(|row| {
        let row = row.replace("\\|", "/");
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let flag = cells.get(1).and_then(|cell| cell.trim_matches('`').split(' ').next()).unwrap_or_default();
        (flag.to_owned(), cells.get(2).unwrap_or(&"").trim_matches('`').to_owned())
    })
    .collect()
}

#[test]
fn the_readme_lists_every_flag_with_its_default() {
    let program = flags_of_the_program();
    let readme = flags_of_the_readme();
    assert!(program.len() > 10, "too few flags, is --help read rightly? {program:?}");
    for (flag, default) in &program {
        let told = readme.get(flag).unwrap_or_else(|| panic!("the README's table lacks {flag}"));
        if let Some(default) = default {
            assert_eq!(told, default, "the default of {flag}");
        }
    }
    for flag in readme.keys() {
        assert!(program.contains_key(flag), "the README's table has {flag}, which the program does not know");
    }
}

#[test]
fn the_examples_of_who_may_do_what_are_sound() {
    let section = README.split("## Who may do what").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("its end");
    let examples: Vec<&str> =
        section.split("```toml\n").skip(1).map(|rest| rest.split("```").next().expect("its end")).collect();
    assert_eq!(examples.len(), 2);
    for example in &examples {
        onair::access::Policy::parse(example).expect("a sound file");
    }
    let policy = onair::access::Policy::parse(examples[0]).expect("a sound file");
    let studio = policy.permit(Some("studio-4f1c9e0b2d7a"), 0).expect("its token");
    let stage = |user: &str| format!("stage/{user}").parse().expect("an id");
    assert!(studio.may(onair::access::Right::Publish, &stage("cam-1")));
    assert!(!studio.may(onair::access::Right::Publish, &stage("ada")));
}

#[test]
fn the_readme_says_what_each_fuzz_target_does() {
    let targets = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/fuzz_targets")).expect("the targets");
    let names = targets.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()));
    let mut count = 0;
    for name in names {
        let is_told = README.lines().any(|row| {
            let first = row.strip_prefix("| ").and_then(|row| row.split(" |").next());
            first.is_some_and(|cell| cell.split(", ").any(|target| target == format!("`{name}`")))
        });
        assert!(is_told, "the README's table of fuzz targets lacks {name}");
        count += 1;
    }
    assert!(count > 5, "too few targets: {count}");
}

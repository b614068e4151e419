//! The house rules for the web page: its modules hang together without circles, and it needs nothing from the net.
//!
//! **Invariant**: only what a browser would load counts; an address in prose or in a message is none of it.

use std::collections::BTreeSet;

use crate::imports::circles;

/// A file below `web/`.
pub struct PageFile {
    /// Path below `web/`, with forward slashes: `views/home.js`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// What stands before an address that a browser loads.
const LOADS: &[&str] =
    &["src=", "href=", "from ", "import ", "import(", "url(", "fetch(", "@import ", "Worker(", "WebSocket("];

/// Addresses of other machines that the page would load from.
pub fn loads_from_the_net(files: &[PageFile]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            for load in LOADS {
                for after in line.split(load).skip(1) {
                    let address = after.trim_start_matches(['"', '\'', '`', ' ']);
                    if ["http:", "https:", "ws:", "wss:", "//"].iter().any(|scheme| address.starts_with(scheme)) {
                        complaints.push(format!("web/{}:{}: `{load}` another machine", file.path, number + 1));
                    }
                }
            }
        }
    }
    complaints
}

/// Circles among the page's modules, and imports of files that are not there.
pub fn module_circles(files: &[PageFile]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut edges = BTreeSet::new();
    for file in files.iter().filter(|file| file.path.ends_with(".js")) {
        for target in imported(&file.text) {
            let path = resolved(&file.path, &target);
            if !files.iter().any(|other| other.path == path) {
                complaints.push(format!("web/{} imports {target}, which is not there", file.path));
            }
            edges.insert((file.path.clone(), path));
        }
    }
    complaints.extend(circles(&edges).iter().map(|circle| format!("a circle: web/{}", circle.join(" → "))));
    complaints
}

/// The module specifiers of static and dynamic imports and of re-exports.
fn imported(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for quote in ['"', '\''] {
        for opening in ["from ", "import ", "import("] {
            for after in text.split(&format!("{opening}{quote}")).skip(1) {
                let target = after.split(quote).next().unwrap_or_default();
                if target.starts_with('.') || target.starts_with('/') {
                    found.push(target.to_owned());
                }
            }
        }
    }
    found
}

/// `../a.js` as seen from `views/b.js` is `a.js`.
fn resolved(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Vec<PageFile> {
        files.iter().map(|(path, text)| PageFile { path: (*path).to_owned(), text: (*text).to_owned() }).collect()
    }

    #[test]
    fn loading_from_the_net_is_found_and_prose_is_not() {
        for line in [
            "<script src=\"https://cdn.example/x.js\">",
            "<link rel=stylesheet href='//cdn.example/x.css'>",
            "import { a } from \"https://cdn.example/x.js\";",
            "const a = await import('https://cdn.example/x.js');",
            "@font-face { src: url(https://cdn.example/x.woff2) }",
            "fetch(`http://api.example/`)",
        ] {
            assert_eq!(loads_from_the_net(&files(&[("index.html", line)])).len(), 1, "{line}");
        }
        for line in ["say('open http://localhost:8080');", "xmlns=\"http://www.w3.org/2000/svg\"", "src=\"app.js\""] {
            assert!(loads_from_the_net(&files(&[("index.html", line)])).is_empty(), "{line}");
        }
    }

    #[test]
    fn circles_and_missing_modules_are_found() {
        let circle =
            files(&[("a.js", "import { b } from \"./views/b.js\";"), ("views/b.js", "export * from '../a.js';")]);
        assert_eq!(module_circles(&circle), ["a circle: web/a.js → views/b.js → a.js"]);
        let missing = files(&[("a.js", "import './gone.js';")]);
        assert_eq!(module_circles(&missing), ["web/a.js imports ./gone.js, which is not there"]);
        let line = files(&[("a.js", "import { b } from './b.js';"), ("b.js", "")]);
        assert!(module_circles(&line).is_empty());
    }
}

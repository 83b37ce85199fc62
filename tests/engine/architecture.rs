//! The house is as `docs/architecture.md` draws it: doors between rooms, what only some rooms may touch, file lengths.
//!
//! The map is read from that document, so drawing and rule cannot differ. Unit tests and comments in a file are not
//! looked at. Every rule is shown to be able to fail.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::source::{Source, code_of};

/// The longest a source file may be (lines).
const LONGEST: usize = 500;

/// What only some places may touch: the words, the places (folders end in `/`), and why.
const KEEPERS: &[(&[&str], &[&str], &str)] = &[
    (
        &["std::fs", "std::process::Command", "rustix::fs", "tempfile"],
        // The terminal is a device that happens to be opened like a file.
        &["src/node/", "src/report/prompt.rs"],
        "files and processes are touched in node/ only",
    ),
    (
        &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "ToSocketAddrs", "ssh2", "ureq"],
        &["src/node/"],
        "sockets are touched in node/ only",
    ),
    (
        &["now_utc", "now_local", "SystemTime::now", "Utc::now"],
        // A node's own clock is a fact about that node.
        &["src/node/", "src/cli/session.rs"],
        "the clock is read once, in cli/session.rs",
    ),
    (
        &["println!", "eprintln!", "print!", "eprint!", "io::stdout", "io::stderr", "dbg!"],
        // A test in there says aloud what it could not compare with.
        &["src/main.rs", "src/report/", "src/node/ssh/program.rs"],
        "printing happens in main.rs and report/ only",
    ),
    (
        &["comfy_table", "indicatif", "anstyle", "jmespath"],
        &["src/report/"],
        "tables, bars and colours are known in report/ only",
    ),
    (&["clap", "clap_complete"], &["src/cli/"], "options are known in cli/ only"),
    (&["PrivateKey::generate"], &["src/apply/mint.rs"], "keys are made in apply/mint.rs only"),
    (&["KeyPair::generate"], &["src/pki/private_key.rs"], "keys are made through PrivateKey only"),
    (&["process::exit", "process::abort"], &["src/main.rs"], "a run ends by returning"),
];

/// Which rooms each room may enter, as the block under `## Doors` draws it.
fn doors(document: &str) -> BTreeMap<String, Option<Vec<String>>> {
    let block = document.split("## Doors").nth(1).and_then(|rest| rest.split("```").nth(1)).expect("a map");
    let arrows = || block.lines().filter_map(|line| line.split_once("->"));
    let names = |text: &str| -> Vec<String> {
        text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').map(str::to_owned).collect()
    };
    let rooms: Vec<String> = arrows().flat_map(|(from, _)| names(from)).filter(|name| !name.is_empty()).collect();
    let mut doors = BTreeMap::new();
    for (from, to) in arrows() {
        let mut allowed = names(to);
        let is_everything = allowed.iter().any(|word| word == "everything");
        allowed.retain(|word| rooms.contains(word));
        for room in names(from).into_iter().filter(|name| !name.is_empty()) {
            doors.insert(room, (!is_everything).then(|| allowed.clone()));
        }
    }
    doors
}

/// Everything in `files` (path below the repository, content) that breaks a rule.
fn faults(files: &[(String, String)], doors: &BTreeMap<String, Option<Vec<String>>>) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in files {
        let length = text.lines().count();
        if length > LONGEST {
            faults.push(format!("{path}: {length} lines, {LONGEST} at most: find the two things it is about"));
        }
        if !text.starts_with("//!") {
            faults.push(format!("{path}: does not say at its top what it is for"));
        }
        if !path.starts_with("src/") || path.ends_with("/tests.rs") {
            continue;
        }
        let source = Source::new(path, text);
        for (words, places, reason) in KEEPERS {
            let is_keeper = places.iter().any(|place| path.starts_with(place));
            for word in words.iter().filter(|word| !is_keeper && source.mentions(word)) {
                faults.push(format!("{path}: `{word}`, but {reason}"));
            }
        }
        // `lib.rs` and `main.rs` are the front door: they name every room.
        let Some(room) = source.room() else { continue };
        let known = if room == "error" { Some(&Some(Vec::new())) } else { doors.get(room) };
        let Some(allowed) = known else {
            faults.push(format!("{path}: the room {room} has no door in docs/architecture.md"));
            continue;
        };
        for other in source.rooms_entered() {
            let is_open = allowed.as_ref().is_none_or(|allowed| allowed.contains(&other));
            if other != room && other != "error" && !is_open {
                faults.push(format!("{path}: no door leads from {room} to {other}"));
            }
        }
    }
    faults
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(below: &Path, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(below) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(repository()).unwrap().display().to_string();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

fn map() -> BTreeMap<String, Option<Vec<String>>> {
    doors(&fs::read_to_string(repository().join("docs/architecture.md")).unwrap())
}

#[test]
fn the_house_is_as_it_is_drawn() {
    let mut files = Vec::new();
    for folder in ["src", "tests", "examples", "benches"] {
        rust_files(&repository().join(folder), &mut files);
    }
    assert!(files.len() > 20, "the source was not found");
    files.sort();
    let faults = faults(&files, &map());
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_map_is_read_as_it_is_drawn() {
    let map = map();
    assert_eq!(map["cli"], None);
    assert_eq!(map["pki"], Some(vec![]));
    assert_eq!(map["apply"], Some(["plan", "live", "node", "pki"].map(str::to_owned).to_vec()));
    assert!(map["report"].as_ref().unwrap().contains(&"diagnose".to_owned()));
}

#[test]
fn every_rule_can_fail() {
    let cases = [
        ("src/plan/x.rs", "use std::fs;", "files and processes"),
        ("src/cli/x.rs", "use std::{fs, io};", "files and processes"),
        ("src/apply/x.rs", "std::process::Command::new(a)", "files and processes"),
        ("src/observe.rs", "use std::net::{IpAddr, TcpStream};", "sockets"),
        ("src/diagnose/x.rs", "let now = OffsetDateTime::now_utc();", "the clock"),
        ("src/apply/x.rs", "println!(\"a\")", "printing"),
        ("src/cli/x.rs", "std::io::stdout().lock()", "printing"),
        ("src/cli/x.rs", "use comfy_table::Table;", "tables"),
        ("src/report/x.rs", "#[derive(clap::Args)]", "options"),
        ("src/plan/x.rs", "PrivateKey::generate(a)", "keys are made in"),
        ("src/apply/x.rs", "EcdsaKeyPair::generate(a)", "keys are made through"),
        ("src/cli/x.rs", "std::process::exit(1)", "a run ends"),
        ("src/pki/x.rs", "use crate::plan::operation::Operation;", "no door leads from pki to plan"),
        ("src/plan/a/b.rs", "use super::super::super::node::Node;", "no door leads from plan to node"),
        ("src/diagnose/mod.rs", "use super::{apply::mint, pki};", "no door leads from diagnose to apply"),
        ("src/snapshot.rs", "fn a() { crate::observe::run() }", "no door leads from snapshot to observe"),
        ("src/report/x.rs", "use crate::{error::Failure, cli};", "no door leads from report to cli"),
        ("src/error.rs", "use crate::pki::san::San;", "no door leads from error to pki"),
        ("src/garage/x.rs", "", "has no door"),
    ];
    for (path, line, message) in cases {
        let files = [(path.to_owned(), format!("//! A file.\n{line}\n"))];
        let faults = faults(&files, &map());
        assert!(matches!(faults.as_slice(), [fault] if fault.contains(message)), "{path} {line}: {faults:?}");
    }
    let long = format!("//! A file.\n{}", "// a\n".repeat(LONGEST));
    assert_eq!(faults(&[("src/plan/x.rs".into(), long)], &map()).len(), 1);
    assert_eq!(faults(&[("tests/x.rs".into(), "fn a() {}".into())], &map()).len(), 1);
}

#[test]
fn what_only_looks_like_a_breach_is_none() {
    let harmless = r##"//! A file about std::fs and println!.
// use crate::cli;
/* use crate::cli; /* nested */ use std::fs; */
use std::net::IpAddr;
use super::operation::Operation;
use crate::{error, pki::san::San};
const A: &str = "std::fs println! crate::cli";
const B: &str = r#"use "crate::cli" "#;
const C: [char; 2] = ['"', '\''];
fn a<'a>(clapped: &'a str) -> &'a str { clapped }
#[cfg(test)]
mod tests {
    use crate::cli;
}
"##;
    assert_eq!(faults(&[("src/plan/x.rs".into(), harmless.into())], &map()), Vec::<String>::new());
    assert!(code_of("a /* b */ c // d\n\"e\"").contains('c'));
}

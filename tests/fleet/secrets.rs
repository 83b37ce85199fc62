//! The new keys of a rotation over SSH: in their files, and nowhere else that anybody could look.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::judge::data;
use crate::machines::{Fleet, NAMES};

/// Arguments and environments of all processes that are there now.
fn processes(seen: &mut HashSet<Vec<u8>>) {
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        if entry.file_name().as_encoded_bytes()[0].is_ascii_digit() {
            seen.extend(["cmdline", "environ"].iter().filter_map(|file| fs::read(entry.path().join(file)).ok()));
        }
    }
}

/// Pieces of every private key of the nodes that hold secret bits, as PEM and as kubeconfigs have it.
fn pieces(fleet: &Fleet) -> BTreeMap<String, String> {
    let mut pieces = BTreeMap::new();
    for name in NAMES {
        let files = fleet.files_in_use().into_keys();
        for path in files.filter(|path| path.starts_with(fleet.at(name, ""))) {
            let text = fs::read_to_string(&path).unwrap();
            let is_config = path.extension().is_some_and(|extension| extension == "conf");
            let pem = if is_config { data(&text, "client-key-data") } else { text.clone() };
            let inside =
                pem.lines().filter(|line| pem.contains("PRIVATE KEY") && line.len() >= 40 && !line.contains("--"));
            // The first bytes say which algorithm it is; the key comes after.
            for line in inside {
                pieces.insert(line[line.len() - 20..].to_owned(), path.display().to_string());
            }
            if is_config {
                let line = text.lines().find(|line| line.contains("client-key-data")).unwrap();
                pieces.insert(line[line.len() / 2..line.len() / 2 + 30].to_owned(), path.display().to_string());
            }
        }
    }
    pieces
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn new_keys_appear_in_no_output_no_arguments_and_no_log() {
    let Some(fleet) = Fleet::with_certificates("new_keys_appear_in_no_output_no_arguments_and_no_log") else { return };
    let old = pieces(&fleet);
    let mut seen = HashSet::new();
    let mut rounds = 0;
    let mut child = fleet.begin(&["rotate-certs", "--only", "leaf", "--yes", "--debug", "-o", "json"]);
    while child.try_wait().unwrap().is_none() {
        processes(&mut seen);
        rounds += 1;
    }
    assert!(child.wait().unwrap().success() && rounds > 3, "{rounds} looks");
    let new = pieces(&fleet);
    let fresh = new.keys().filter(|piece| !old.contains_key(*piece)).count();
    assert!(fresh > 30, "too few new keys to look for: {fresh}");
    let mut places: Vec<(String, Vec<u8>)> = seen.into_iter().map(|words| ("a process".to_owned(), words)).collect();
    // Everything on the workstation: both outputs, and what is kept in the home folder.
    places.extend(
        files(&fleet.here.at("")).into_iter().map(|path| (path.display().to_string(), fs::read(&path).unwrap())),
    );
    places
        .extend(NAMES.iter().map(|name| (format!("sshd of {name}"), fs::read(fleet.server(name).at("log")).unwrap())));
    assert!(places.iter().any(|(place, bytes)| place.ends_with("/err") && bytes.len() > 200), "--debug says something");
    for (piece, path) in old.iter().chain(&new) {
        let holds = |bytes: &[u8]| bytes.windows(piece.len()).any(|window| window == piece.as_bytes());
        let found: Vec<&str> =
            places.iter().filter(|(_, bytes)| holds(bytes)).map(|(place, _)| place.as_str()).collect();
        assert!(found.is_empty(), "the key of {path} is in {found:?}");
    }
}

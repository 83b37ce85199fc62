//! A marker in place of a key: it is in the file it was meant for, and nowhere else, however one looks.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use kubepki::node::ssh::SshNode;
use kubepki::node::{Content, Effect, Node, Query};

use crate::server::{Server, Setup, can_run, nobody};

/// Not in any file of the tests, so that finding it means something.
fn marker(test: &str) -> String {
    format!("SECRET-{:x}-{}", std::process::id(), test.to_uppercase())
}

/// Looks through the arguments and environments of all processes of this machine, over and over.
struct Watch {
    marker: Vec<u8>,
    seen: Mutex<Vec<String>>,
    rounds: AtomicUsize,
    ends: AtomicBool,
}

impl Watch {
    fn new(marker: &str) -> Self {
        Self {
            marker: marker.as_bytes().to_vec(),
            seen: Mutex::default(),
            rounds: AtomicUsize::new(0),
            ends: AtomicBool::new(false),
        }
    }

    /// Watches while `work` is done; returns what was seen.
    fn during(self, work: impl FnOnce()) -> Vec<String> {
        thread::scope(|scope| {
            scope.spawn(|| {
                while !self.ends.load(Ordering::SeqCst) {
                    self.look();
                    self.rounds.fetch_add(1, Ordering::SeqCst);
                }
            });
            work();
            self.ends.store(true, Ordering::SeqCst);
        });
        assert!(self.rounds.load(Ordering::SeqCst) > 0, "nobody looked");
        self.seen.into_inner().unwrap()
    }

    fn look(&self) {
        for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let name = entry.file_name();
            if !name.to_string_lossy().bytes().all(|letter| letter.is_ascii_digit()) {
                continue;
            }
            for file in ["cmdline", "environ"] {
                let content = fs::read(entry.path().join(file)).unwrap_or_default();
                if contains(&content, &self.marker) {
                    self.seen.lock().unwrap().push(format!("{file} of {}", name.display()));
                }
            }
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Every file below a folder with the marker in it or in its name.
fn marked(folder: &Path, marker: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().filter_map(Result::ok) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let is_marked = kind.is_file() && contains(&fs::read(&path).unwrap_or_default(), marker.as_bytes());
        if is_marked || path.display().to_string().contains(marker) {
            found.push(path.clone());
        }
        if kind.is_dir() {
            marked(&path, marker, found);
        }
    }
}

#[test]
fn a_key_goes_nowhere_but_into_its_file() {
    if !can_run("a_key_goes_nowhere_but_into_its_file") {
        return;
    }
    let marker = marker("goes");
    // Everything that a server can be made to log; sudo writes what it runs to a file as well.
    let sudoers = "Defaults logfile=/run/sudo-of-the-test, log_input, log_output, iolog_dir=/run/sudo-io\n".to_owned();
    let prepare = "mkdir -p $FOLDER/run $FOLDER/tmp; chmod 1777 $FOLDER/tmp\n\
                   mkdir $FOLDER/run/sshd; mount --bind $FOLDER/tmp /tmp; mount --bind $FOLDER/tmp /var/tmp"
        .to_owned();
    let config = "LogLevel DEBUG3".to_owned();
    let server = Server::with(&Setup {
        sudoers: sudoers.replace("log_input, log_output, ", ""),
        prepare,
        config,
        ..Setup::default()
    });
    fs::create_dir(server.at("pki")).unwrap();
    let path = server.at("pki/ca.key");
    let copy = server.at("pki/copy.key");
    let secret = format!("{marker}\n").repeat(20_000);
    let mut said = String::new();
    let seen = Watch::new(&marker).during(|| {
        for user in ["root", "ops"] {
            let node = SshNode::new("cp1", server.options(user), &nobody());
            for _ in 0..5 {
                let content = Content::Bytes(secret.as_bytes());
                let put = Effect::Install { path: &path, content, mode: 0o600, owner: None };
                write!(said, "{put:?}").unwrap();
                node.apply(&put).unwrap();
                let content = Content::FileOnNode(&path);
                node.apply(&Effect::Install { path: &copy, content, mode: 0o600, owner: None }).unwrap();
                write!(said, "{:?}", node.read(&[Query::Tree(server.at("pki"))]).unwrap()).unwrap();
            }
            // Failures speak, too.
            let content = Content::Bytes(secret.as_bytes());
            let nowhere = server.at("none/x");
            let error = node.apply(&Effect::Install { path: &nowhere, content, mode: 0o600, owner: None }).unwrap_err();
            write!(said, "{error:#} {error:?} {node:?}").unwrap();
        }
    });
    assert_eq!(seen, Vec::<String>::new());
    assert!(!said.contains(&marker));
    let mut found = Vec::new();
    marked(server.folder.path(), &marker, &mut found);
    found.sort();
    assert_eq!(found, [path, copy]);
    assert!(server.log().len() > 10_000, "the server logged nothing");
    let sudo = fs::read_to_string("/run/sudo-of-the-test").unwrap();
    fs::remove_file("/run/sudo-of-the-test").unwrap();
    assert!(sudo.contains("kubepki-install") && !sudo.contains(&marker), "{sudo}");
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let marker = marker("found");
    let seen = Watch::new(&marker).during(|| {
        let status = Command::new("sleep").arg("0.3").env("INNOCENT", &marker).status().unwrap();
        assert!(status.success());
    });
    assert!(seen.iter().any(|seen| seen.starts_with("environ")), "{seen:?}");
    let seen = Watch::new(&marker).during(|| {
        let status = Command::new("sh").args(["-c", "sleep 0.3", &marker]).status().unwrap();
        assert!(status.success());
    });
    assert!(seen.iter().any(|seen| seen.starts_with("cmdline")), "{seen:?}");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("inside")).unwrap();
    fs::write(folder.path().join("inside/file"), format!("x{marker}y")).unwrap();
    let mut found = Vec::new();
    marked(folder.path(), &marker, &mut found);
    assert_eq!(found, [folder.path().join("inside/file")]);
}

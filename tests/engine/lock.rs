//! One operation at a time, with real processes: who holds the lock is named, and whoever dies loses it.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use kubepki::error::{ExitCode, exit_code, hints};
use kubepki::node::local::LocalNode;
use kubepki::node::{LockOwner, Node};

use crate::support::probe;
use crate::support::root::{TestRoot, operator};
use crate::support::skip::root_only;

const LOCK: &str = "/etc/kubernetes/tmp/kubepki/lock";

/// Not a test of its own: takes the lock of the root it is told, says so, and holds it until its input ends.
#[test]
#[allow(clippy::print_stdout, reason = "the test that started it waits for the word")]
fn a_process_that_holds_the_lock() {
    let Some(root) = probe::words() else { return };
    let node = LocalNode::open("cp1", root).unwrap();
    let guard = node.lock(Path::new(LOCK), &operator("rotate-certs")).unwrap();
    println!("\nheld");
    std::io::stdin().lines().for_each(drop);
    drop(guard);
}

/// A holder that has the lock; its output must stay open until it ends.
fn holder(root: &TestRoot) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = probe::process(&[], "lock::a_process_that_holds_the_lock", root.at("/").to_str().unwrap());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap() == "held"), "the holder ended without the lock");
    (child, lines)
}

#[test]
fn a_held_lock_names_its_holder_and_what_to_do() {
    let root = TestRoot::new();
    let (mut child, _output) = holder(&root);
    let later = LockOwner { since: operator("").since + time::Duration::minutes(12), ..operator("create-certs") };
    let error = root.node.lock(Path::new(LOCK), &later).unwrap_err();
    assert_eq!(exit_code(&error), ExitCode::Failed);
    let text = error.to_string();
    for part in [
        "cp1",
        LOCK,
        "rotate-certs",
        "admin@workstation",
        &format!("process {}", child.id()),
        "2026-01-02T03:04:05Z, 12 min ago",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert_eq!(hints(&error).len(), 1);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(!root.at(LOCK).exists(), "given back, the file goes too");
    drop(root.node.lock(Path::new(LOCK), &operator("create-certs")).unwrap());
}

#[test]
fn a_killed_holder_loses_the_lock_at_once() {
    let root = TestRoot::new();
    let (mut child, _output) = holder(&root);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(root.at(LOCK).exists(), "kill -9 leaves the file behind");
    let guard = root.node.lock(Path::new(LOCK), &operator("create-certs")).unwrap();
    let written: LockOwner = serde_json::from_slice(&root.content(LOCK)).unwrap();
    assert_eq!(written, operator("create-certs"));
    drop(guard);
}

#[test]
fn lock_and_folder_are_private() {
    let root = TestRoot::new();
    let _guard = root.node.lock(Path::new(LOCK), &operator("rotate-certs")).unwrap();
    assert_eq!(root.mode(LOCK), 0o600);
    assert_eq!(root.mode("/etc/kubernetes/tmp/kubepki"), 0o700);
}

#[test]
fn of_many_that_ask_over_and_over_only_one_is_inside() {
    let root = TestRoot::new();
    let inside = std::sync::atomic::AtomicU32::new(0);
    let taken = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Each has its own node: `flock` is between open files, not between threads.
                let node = LocalNode::open("cp1", root.at("/")).unwrap();
                for _ in 0..300 {
                    match node.lock(Path::new(LOCK), &operator("rotate-certs")) {
                        Ok(guard) => {
                            use std::sync::atomic::Ordering::SeqCst;
                            assert_eq!(inside.fetch_add(1, SeqCst), 0, "two hold the lock");
                            taken.fetch_add(1, SeqCst);
                            std::thread::yield_now();
                            inside.fetch_sub(1, SeqCst);
                            drop(guard);
                        }
                        Err(error) => assert!(error.to_string().contains("kubepki"), "{error}"),
                    }
                }
            });
        }
    });
    assert!(taken.into_inner() >= 8);
    assert!(!root.at(LOCK).exists());
}

#[test]
fn a_lock_file_that_somebody_else_made_is_refused() {
    if !root_only("a_lock_file_that_somebody_else_made_is_refused") {
        return;
    }
    let root = TestRoot::new();
    root.put("/etc/passwd", "root", 0o644);
    root.link(LOCK, "/etc/passwd");
    let error = root.node.lock(Path::new(LOCK), &operator("rotate-certs")).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    std::fs::remove_file(root.at(LOCK)).unwrap();
    root.put(LOCK, "mine", 0o666);
    root.give(LOCK, 4711);
    let error = root.node.lock(Path::new(LOCK), &operator("rotate-certs")).unwrap_err();
    assert!(error.to_string().contains("belongs to user 4711"), "{error}");
    assert_eq!(root.content(LOCK), b"mine");
    assert_eq!(root.content("/etc/passwd"), b"root");
}

//! All or nothing at every step: a node that goes away, a process that is killed, a disk that is full.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kubepki::apply::user_kubeconfig::{Callbacks, Destination, Outcome, Wanted, merge};
use kubepki::node::Node;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::judge::credential;
use crate::machine::Machine;
use crate::support::crashing::{Crash, Crashing};
use crate::support::probe::installed;
use crate::support::root::TestRoot;
use crate::support::skip::{root_only, skipped};

const FILE: &str = "/home/ann/.kube/config";
const BACKUP: &str = "/home/ann/.kubepki/backups/1";
const OLD: &str = "# mine\nusers:\n- name: clusterUser_lab\n  user: {token: t}\n";

fn lab() -> Wanted {
    Wanted { credential: credential("lab"), unasked: Vec::new() }
}

fn add(node: &dyn Node) -> anyhow::Result<Outcome> {
    let to = Destination {
        node,
        file: Path::new(FILE),
        backup: Some(Path::new(BACKUP)),
        set_current: true,
        only_look: false,
        is_root: false,
    };
    merge(&to, &mut Callbacks { wanted: &mut |_| Ok(lab()), agree: &mut |_| Ok(()), lock: &|_| Ok(Vec::new()) })
}

#[test]
fn stopped_after_any_effect_the_file_is_the_old_or_the_new_one_and_the_next_run_ends_well() {
    for old in [Some(OLD), Some(""), None] {
        let make = || {
            let root = TestRoot::in_memory();
            root.folder("/home/ann", 0o700);
            if let Some(old) = old {
                root.put(FILE, old, 0o640);
            }
            root
        };
        let finished = make();
        add(&finished.node).unwrap();
        let new = finished.content(FILE);
        for crash in [Crash::Before, Crash::After, Crash::Once] {
            for at in 0.. {
                let root = make();
                let node = Crashing::new(&root.node, crash, at);
                let result = add(&node);
                if !node.is_gone() {
                    result.unwrap();
                    break;
                }
                let found = std::fs::read(root.at(FILE)).ok();
                let is_old = found.as_deref() == old.map(str::as_bytes);
                assert!(is_old || found.as_deref() == Some(&new), "{crash:?} at {at}");
                if found.as_deref() == Some(&new) && old == Some(OLD) {
                    assert_eq!(root.content(BACKUP), OLD.as_bytes(), "the copy comes first");
                }
                add(&root.node).unwrap();
                assert_eq!(root.content(FILE), new, "{crash:?} at {at}");
                let folder = std::fs::read_dir(root.at("/home/ann/.kube")).unwrap();
                assert_eq!(folder.count(), 1, "{crash:?} at {at}: something was left behind");
            }
        }
    }
}

#[test]
fn what_somebody_else_wrote_meanwhile_is_kept_or_asked_about() {
    let root = TestRoot::in_memory();
    root.put(FILE, "users: []\n", 0o600);
    let (mut asked, mut calls) = (Vec::new(), 0);
    let to = Destination {
        node: &root.node,
        file: Path::new(FILE),
        backup: Some(Path::new(BACKUP)),
        set_current: false,
        only_look: false,
        is_root: false,
    };
    let outcome = merge(
        &to,
        &mut Callbacks {
            wanted: &mut |_| {
                calls += 1;
                Ok(lab())
            },
            agree: &mut |entries| {
                asked.push(entries.iter().map(ToString::to_string).collect::<Vec<_>>());
                Ok(())
            },
            lock: &|path| {
                // Between the decision and the lock another program adds an entry of the very same name.
                let file = root.at(path);
                if std::fs::read_to_string(&file).unwrap() == "users: []\n" {
                    std::fs::write(&file, OLD).unwrap();
                }
                Ok(Vec::new())
            },
        },
    )
    .unwrap();
    assert_eq!((calls, asked), (2, vec![vec!["user \"clusterUser_lab\"".to_owned()]]));
    assert_eq!(outcome.replaced.len(), 1);
    assert_eq!(root.content(BACKUP), OLD.as_bytes());
    assert!(String::from_utf8(root.content(FILE)).unwrap().starts_with("# mine\n"));
}

/// Runs get-credentials and kills it when it enters one of `calls` for the `number`th time; whether it was.
fn killed(machine: &Machine, calls: &str, number: usize) -> bool {
    let injected = format!("inject={calls}:signal=KILL:when={number}");
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &injected]);
    command.arg(env!("CARGO_BIN_EXE_kubepki")).args(Machine::line(&["--overwrite-existing"]));
    command
        .current_dir(machine.stage.at(""))
        .env_clear()
        .env("HOME", machine.stage.home())
        .env("PATH", "/usr/bin:/bin");
    !command.stdin(Stdio::null()).output().unwrap().status.success()
}

#[test]
fn killed_at_any_call_that_changes_something_the_next_run_ends_well() {
    let test = "killed_at_any_call_that_changes_something_the_next_run_ends_well";
    if !installed("strace") || !killed(&Machine::new(), "renameat", 1) {
        return skipped(test, "strace is not installed, or may not trace here");
    }
    let old = "# mine\nusers:\n- name: clusterUser_kubernetes\n  user: {token: t}\n";
    let mut kills = 0;
    for call in ["linkat", "renameat", "unlinkat", "mkdirat", "fsync", "fchmod", "flock"] {
        for number in 1.. {
            let machine = Machine::new();
            machine.stage.put("home/.kube/config", old);
            if !killed(&machine, call, number) {
                break;
            }
            kills += 1;
            let story = format!("killed at {call} {number}");
            if std::fs::read_to_string(machine.default_file()).unwrap() != old {
                assert!(
                    machine.config().user("clusterUser_kubernetes").is_some_and(|user| user.token.is_none()),
                    "{story}"
                );
            }
            let run = machine.get(&["--overwrite-existing"]).expect(0);
            assert!(!run.err.contains("waiting"), "{story}: {}", run.err);
            assert!(
                machine.config().user("clusterUser_kubernetes").is_some_and(|user| user.token.is_none()),
                "{story}"
            );
            let left = std::fs::read_dir(machine.stage.home().join(".kube")).unwrap();
            let left: Vec<PathBuf> = left.map(|entry| entry.unwrap().path()).collect();
            assert_eq!(left, [machine.default_file()], "{story}");
        }
    }
    assert!(kills > 10, "only {kills} kills: the calls have other names here");
}

#[test]
fn a_full_disk_loses_nothing() {
    let test = "a_full_disk_loses_nothing";
    if !root_only(test) {
        return;
    }
    let machine = Machine::new();
    let small = machine.stage.at("small");
    std::fs::create_dir(&small).unwrap();
    let options = std::ffi::CString::new("size=64k,mode=700").unwrap();
    if mount("none", &small, "tmpfs", MountFlags::empty(), options.as_c_str()).is_err() {
        return skipped(test, "no file system can be mounted here");
    }
    let old = format!("# mine\nx-pad: {}\n", "x".repeat(40 * 1024));
    std::fs::write(small.join("config"), &old).unwrap();
    let run = machine.get(&["-f", "small/config"]);
    let found = std::fs::read_to_string(small.join("config")).unwrap();
    let left = std::fs::read_dir(&small).unwrap().count();
    unmount(&small, UnmountFlags::DETACH).unwrap();
    let run = run.expect(1);
    assert!(run.err.contains("no space left") && run.err.contains("free some space"), "{}", run.err);
    assert_eq!((found, left), (old, 1));
}

//! Many at once, and locks that others hold or left behind.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use crate::judge::kubectl_reads;
use crate::machine::Machine;
use crate::support::probe::installed;
use crate::support::skip::skipped;

const OTHERS: &str = "# mine\nclusters:\n- cluster:\n    server: https://other # keep\n  name: other\ncontexts:\nusers: []\nx-mine: 1e3\n";

fn start(machine: &Machine, words: &[&str]) -> Child {
    let mut command = machine.stage.command(&Machine::line(words));
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn forty_at_once_leave_forty_contexts_and_everything_else_as_it_was() {
    let machine = Machine::new();
    let file = machine.stage.put("home/.kube/config", OTHERS);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let names: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
    let running: Vec<Child> = names.iter().map(|name| start(&machine, &["--context", name])).collect();
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let config = machine.config();
    assert_eq!((config.clusters.len(), config.users.len(), config.contexts.len()), (41, 40, 40));
    assert!(names.iter().all(|name| config.context(name).is_some_and(|context| context.cluster == *name)));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# mine\nclusters:\n- cluster:\n    server: https://other # keep\n  name: other\n"));
    assert!(text.contains("\nx-mine: 1e3\n"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(
        std::fs::read_dir(machine.stage.home().join(".kube")).unwrap().count(),
        1,
        "locks and temporary files stay"
    );
    if let Some(read) = kubectl_reads(text.as_bytes()) {
        assert_eq!(read.unwrap()["contexts"].as_array().unwrap().len(), 40);
    }
}

#[test]
fn the_same_entry_wanted_by_many_is_there_once() {
    let machine = Machine::new();
    let running: Vec<Child> = (0..12).map(|_| start(&machine, &["--admin"])).collect();
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(machine.config().contexts.len(), 1);
}

#[test]
fn a_lock_of_kubectl_is_waited_for_and_never_removed() {
    let machine = Machine::new();
    machine.stage.put("home/.kube/config", OTHERS);
    let lock = machine.stage.put("home/.kube/config.lock", "");
    // As kubectl makes it: without any permission.
    std::fs::set_permissions(&lock, std::fs::Permissions::from_mode(0o000)).unwrap();
    let waiting = start(&machine, &["--context", "patient"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(std::fs::read_to_string(machine.default_file()).unwrap(), OTHERS);
    std::fs::remove_file(&lock).unwrap();
    assert!(waiting.wait_with_output().unwrap().status.success());
    assert!(machine.config().context("patient").is_some());

    let before = std::fs::read(machine.default_file()).unwrap();
    std::fs::write(&lock, "").unwrap();
    let run = machine.get(&["--context", "stuck"]).expect(1);
    assert!(run.err.contains("waiting for ") && run.err.contains("probably kubectl"), "{}", run.err);
    assert!(run.err.contains(&format!("rm {}", lock.display())), "{}", run.err);
    assert!(lock.exists());
    assert_eq!(std::fs::read(machine.default_file()).unwrap(), before);
}

#[test]
fn a_lock_left_by_a_killed_kubepki_is_taken_over() {
    let machine = Machine::new();
    machine.stage.put("home/.kube/config", OTHERS);
    let owner = r#"{"command":"get-credentials","who":"ann@host","pid":1,"since":"2026-01-02T03:04:05Z"}"#;
    let lock = machine.stage.put("home/.kube/config.lock", owner);
    let run = machine.get(&["--context", "next"]).expect(0);
    assert!(!run.err.contains("waiting"), "{}", run.err);
    assert!(!lock.exists() && machine.config().context("next").is_some());
    // Held by a living one, it is waited for.
    let held = machine.stage.put("home/.kube/config.lock", owner);
    let file = std::fs::File::open(&held).unwrap();
    file.lock().unwrap();
    let waiting = start(&machine, &["--context", "later"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(machine.config().context("later").is_none());
    drop(file);
    assert!(waiting.wait_with_output().unwrap().status.success());
    assert!(machine.config().context("later").is_some() && !held.exists());
}

#[test]
fn kubectl_does_not_write_while_kubepki_does() {
    let Ok(kubectl) = std::process::Command::new("kubectl").arg("version").arg("--client").output() else {
        return skipped("kubectl_does_not_write_while_kubepki_does", "kubectl is not installed");
    };
    if !kubectl.status.success() || !installed("strace") {
        return skipped("kubectl_does_not_write_while_kubepki_does", "kubectl or strace does not work here");
    }
    let machine = Machine::new();
    machine.stage.put("home/.kube/config", OTHERS);
    // kubepki is held up where it has the lock and is about to rename; the register is written before.
    let inject = "inject=renameat,renameat2:delay_enter=3000000:when=1+";
    let mut slow = std::process::Command::new("strace");
    slow.args(["-f", "-o", "/dev/null", "-e", "trace=renameat,renameat2", "-e", inject, env!("CARGO_BIN_EXE_kubepki")]);
    slow.args(Machine::line(&["--context", "slow"])).current_dir(machine.stage.at(""));
    slow.env("HOME", machine.stage.home()).env_remove("KUBECONFIG").stdin(Stdio::null()).stderr(Stdio::piped());
    let slow = slow.spawn().unwrap();
    let lock = machine.stage.home().join(".kube/config.lock");
    for _ in 0..2000 {
        if lock.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    if !lock.exists() {
        drop(slow.wait_with_output());
        return skipped("kubectl_does_not_write_while_kubepki_does", "strace may not trace here");
    }
    let mut kubectl = std::process::Command::new("kubectl");
    kubectl
        .args(["config", "set-cluster", "fast", "--server", "https://fast", "--kubeconfig"])
        .arg(machine.default_file());
    let refused = kubectl.output().unwrap();
    assert!(!refused.status.success(), "kubectl did not respect the lock");
    assert!(slow.wait_with_output().unwrap().status.success());
    assert!(kubectl.output().unwrap().status.success());
    let config = machine.config();
    assert!(config.context("slow").is_some() && config.cluster("fast").is_some());
}

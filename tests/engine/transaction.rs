//! A transaction that goes well, and everything that keeps one from beginning.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use kubepki::apply::change::{Change, ChangeKind, Expected, FileMode, sha256};
use kubepki::apply::progress::Event;
use kubepki::apply::transaction::Transactions;
use kubepki::error::{ExitCode, exit_code, hints};
use kubepki::node::Node;
use kubepki::node::interrupt::Interrupt;
use kubepki::plan::operation::{FileAction, NodeReport, NodeState, PhaseReport, ProvisioningState};

use crate::support::root::{TestRoot, operator};
use crate::support::skip::root_only;
use crate::support::tree::{Entry, Tree, picture};
use crate::support::world::{
    ID, STATE, after, before, changes, look, operation, quiet, report, request, transactions, write,
};

fn file<'a>(tree: &'a Tree, path: &str) -> (&'a str, u32, (u32, u32)) {
    match &tree[std::path::Path::new(path)] {
        Entry::File { mode, owner, content } => (content, *mode, *owner),
        other => panic!("{path} is {other:?}"),
    }
}

fn backup(name: &str) -> String {
    format!("{STATE}/{ID}/backup/{name}")
}

/// The whole node, kubepki's own folder included.
fn everything(root: &TestRoot) -> Tree {
    picture(&root.at("/"), &[])
}

#[test]
fn every_kind_of_change_is_made_and_nothing_else() {
    let root = before();
    let mut expected = look(&root);
    let operation = transactions(&root.node, &quiet).run(request(ID, changes())).unwrap();
    let now = look(&root);
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let is_root = own.0 == 0;
    let pki = "etc/kubernetes/pki";
    assert_eq!(file(&now, &format!("{pki}/ca.key")), ("new ca key", 0o600, own), "mode kept");
    let owner = if is_root { (4711, 4712) } else { own };
    assert_eq!(file(&now, &format!("{pki}/ca.crt")), ("new ca certificate", 0o644, owner), "owner kept");
    assert_eq!(file(&now, &format!("{pki}/apiserver.key")), ("new key", 0o600, own), "mode corrected");
    assert_eq!(file(&now, &format!("{pki}/apiserver.crt")), ("new certificate", 0o644, own));
    assert_eq!(file(&now, &format!("{pki}/etcd/deep/ca.key")), ("etcd key", 0o600, own));
    assert_eq!(file(&now, &format!("{pki}/same.crt")), ("only its mode changes", 0o644, own));
    assert_eq!(file(&now, "srv/shared/front-proxy.crt"), ("new, still behind a link", 0o644, own));
    let owner = if is_root { (4713, 4714) } else { own };
    assert_eq!(file(&now, &format!("{pki}/owned.key")), ("for etcd", 0o640, owner));
    let link = |target: &str| Entry::Link { target: target.into(), owner: own };
    for (path, entry) in [
        (format!("{pki}/becomes-link.crt"), link("untouched.crt")),
        ("var/lib/kubelet/pki/current.pem".to_owned(), link("/var/lib/kubelet/pki/two.pem")),
        ("var/lib/kubelet/pki/new.pem".to_owned(), link("two.pem")),
        (format!("{pki}/etcd"), Entry::Folder { mode: 0o755, owner: own }),
        (format!("{pki}/etcd/deep"), Entry::Folder { mode: 0o755, owner: own }),
    ] {
        assert_eq!(now[std::path::Path::new(&path)], entry, "{path}");
    }
    // All that is left is as it was.
    for change in changes() {
        expected.remove(std::path::Path::new(change.report.path.trim_start_matches('/')));
    }
    expected.remove(std::path::Path::new("srv/shared/front-proxy.crt"));
    for (path, entry) in &expected {
        assert_eq!(now.get(path), Some(entry), "{}", path.display());
    }
    assert_eq!(operation.provisioning_state, ProvisioningState::Succeeded);
    assert_eq!(operation.started_at, Some(operator("").since));
    assert!(operation.ended_at >= operation.started_at);
    assert_eq!(operation.next_steps, ["restart kube-apiserver"]);
    let [node] = operation.nodes.as_slice() else { panic!("{:?}", operation.nodes) };
    assert_eq!((node.name.as_str(), node.state, node.files.len()), ("cp1", NodeState::Finished, 15));
    assert_eq!(transactions(&root.node, &quiet).last().unwrap(), Some(operation));
    assert!(transactions(&root.node, &quiet).unfinished().unwrap().is_none());
}

#[test]
fn the_backup_can_be_checked_and_restored_without_kubepki() {
    let root = before();
    let old = look(&root);
    transactions(&root.node, &quiet).run(request(ID, changes())).unwrap();
    assert!(!root.at(format!("{STATE}/{ID}/stage")).exists(), "staged keys are gone");
    assert!(!root.at(format!("{STATE}/lock")).exists());
    for (path, mode) in
        [(STATE.to_owned(), 0o700), (format!("{STATE}/{ID}"), 0o700), (backup(""), 0o700), (backup("0001"), 0o600)]
    {
        assert_eq!(root.mode(&path), mode, "{path}");
    }
    assert_eq!(root.mode(&format!("{STATE}/{ID}/journal.json")), 0o600);
    assert_eq!(root.content(&backup("0001")), b"old ca key");
    assert!(!root.at(backup("0004")).exists(), "nothing was there to save");
    let saved = std::fs::metadata(root.at(backup("0002"))).unwrap();
    let owner = if rustix::process::geteuid().is_root() { (4711, 4712) } else { (saved.uid(), saved.gid()) };
    assert_eq!((saved.uid(), saved.gid(), saved.mode() & 0o7777), (owner.0, owner.1, 0o644), "owner and mode kept");
    let check = |program: &str, arguments: &[&str]| {
        let output =
            std::process::Command::new(program).args(arguments).current_dir(root.at(backup(""))).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    check("sha256sum", &["--strict", "-c", "SHA256SUMS"]);
    check("sh", &["restore.sh", root.at("/").to_str().unwrap()]);
    let restored = look(&root);
    for name in ["ca.key", "ca.crt", "apiserver.key", "same.crt", "it's old.crt"] {
        let path = std::path::PathBuf::from(format!("etc/kubernetes/pki/{name}"));
        assert_eq!(restored.get(&path), old.get(&path), "{name}");
    }
    assert_eq!(file(&restored, "etc/kubernetes/pki/untouched.crt").0, "stays", "links are left to people");
}

#[test]
fn files_that_stay_are_kept_in_the_result_and_progress_is_told() {
    let root = before();
    let heard = Mutex::new(Vec::new());
    let listen = |event: Event<'_>| heard.lock().unwrap().push(format!("{event:?}"));
    let mut request = request(ID, changes().into_iter().take(2).collect());
    let files = vec![
        report("/etc/kubernetes/pki/untouched.crt", FileAction::Unchanged),
        report("/etc/kubernetes/pki/ca.crt", FileAction::Unchanged),
    ];
    let state = NodeState::Pending;
    request.operation.nodes.push(NodeReport { name: "cp1".into(), state, files, restarts: Vec::new(), error: None });
    request.operation.phases.push(PhaseReport {
        name: "files".into(),
        started_at: None,
        ended_at: None,
        nodes: Vec::new(),
    });
    let operation = transactions(&root.node, &listen).run(request).unwrap();
    let files: BTreeMap<_, _> = operation.nodes[0].files.iter().map(|file| (file.path.as_str(), file.action)).collect();
    assert_eq!(
        files.into_iter().collect::<Vec<_>>(),
        [
            ("/etc/kubernetes/pki/ca.crt", FileAction::Replaced),
            ("/etc/kubernetes/pki/ca.key", FileAction::Replaced),
            ("/etc/kubernetes/pki/untouched.crt", FileAction::Unchanged)
        ]
    );
    assert_eq!(operation.phases[0].ended_at, operation.ended_at);
    assert_eq!(
        heard.into_inner().unwrap(),
        [
            "Started { files: 2 }",
            "Staged { number: 1 }",
            "Staged { number: 2 }",
            "Committed",
            "Changed { number: 1, path: \"/etc/kubernetes/pki/ca.key\" }",
            "Changed { number: 2, path: \"/etc/kubernetes/pki/ca.crt\" }",
        ]
    );
}

#[test]
fn without_changes_nothing_is_touched() {
    let root = before();
    let old = everything(&root);
    let operation = transactions(&root.node, &quiet).run(request(ID, Vec::new())).unwrap();
    assert_eq!(operation.provisioning_state, ProvisioningState::Succeeded);
    assert_eq!(everything(&root), old);
}

#[test]
fn a_file_that_is_not_what_the_plan_saw_stops_everything_before_it_begins() {
    for path in ["ca.key", "ca.crt", "apiserver.crt", "it's old.crt", "becomes-link.crt", "never-there.crt"] {
        let root = before();
        root.put(&format!("/etc/kubernetes/pki/{path}"), "somebody else", 0o644);
        let old = everything(&root);
        let error = transactions(&root.node, &quiet).run(request(ID, changes())).unwrap_err();
        assert_eq!(exit_code(&error), ExitCode::Failed, "{error:#}");
        assert!(error.to_string().contains(&format!("cp1: /etc/kubernetes/pki/{path} is no longer")), "{error:#}");
        assert!(hints(&error)[0].contains("again"));
        assert_eq!(everything(&root), old, "{path}");
    }
    let root = before();
    std::fs::remove_file(root.at("/var/lib/kubelet/pki/current.pem")).unwrap();
    root.link("/var/lib/kubelet/pki/current.pem", "two.pem");
    let old = everything(&root);
    assert!(transactions(&root.node, &quiet).run(request(ID, changes())).is_err());
    assert_eq!(everything(&root), old);
}

/// Requests that cannot be carried out, each with words its error must have.
fn impossible(root: &TestRoot) -> Vec<(&'static str, Change)> {
    let new = |path: &str| write(path, "x", FileMode::KeepOr(0o600), None);
    root.link("/etc/nowhere.crt", "/no/such/file");
    root.link("/etc/nofolder", "/no/such/folder");
    root.folder("/etc/folder.crt", 0o755);
    root.folder("/open", 0o777);
    let mut anything = new("/etc/folder.crt");
    anything.expected = Expected::Anything;
    vec![
        ("does not exist", new("/etc/nowhere.crt")),
        ("leads nowhere", new("/etc/nofolder/x.key")),
        ("it is a folder", anything),
        ("it is not a folder", new("/etc/kubernetes/pki/ca.crt/x.key")),
        ("everybody may rename files in /open", new("/open/x.key")),
        ("not the plain absolute path", new("relative/x.key")),
        ("not the plain absolute path", new("/etc/../x.key")),
        ("own folder", new(&format!("{STATE}/x.key"))),
        ("change twice", new("/etc/kubernetes/pki/ca.key")),
    ]
}

#[test]
fn what_cannot_be_done_is_found_out_before_anything_is_done() {
    for number in 0..impossible(&before()).len() {
        let root = before();
        let (words, change) = impossible(&root).swap_remove(number);
        let old = everything(&root);
        let mut changes = changes();
        changes.push(change);
        let error = transactions(&root.node, &quiet).run(request(ID, changes)).unwrap_err();
        assert!(format!("{error:#}").contains(words), "{words:?} is not in {error:#}");
        assert!(format!("{error:#}").contains("cp1: "), "{error:#}");
        assert_eq!(exit_code(&error), ExitCode::Failed, "{error:#}");
        assert_eq!(everything(&root), old, "{words}");
    }
    let root = before();
    let error = transactions(&root.node, &quiet).run(request("../../evil", changes())).unwrap_err();
    assert!(error.to_string().contains("not the id"), "{error}");
}

#[test]
fn an_ordinary_user_is_refused_before_anything_is_done() {
    if !root_only("an_ordinary_user_is_refused_before_anything_is_done") {
        return;
    }
    let root = before();
    std::os::unix::fs::chown(root.at("/"), Some(4711), Some(4711)).unwrap();
    let old = everything(&root);
    let error = crate::support::root::as_user(4711, || {
        transactions(&root.node, &quiet).run(request(ID, changes())).unwrap_err()
    });
    assert_eq!(exit_code(&error), ExitCode::Failed, "{error:#}");
    assert_eq!(everything(&root), old);
}

#[test]
fn a_held_lock_and_an_interrupt_stop_it_before_it_begins() {
    let root = before();
    let lock = root.node.lock(&std::path::Path::new(STATE).join("lock"), &operator("create-certs")).unwrap();
    let old = everything(&root);
    let error = transactions(&root.node, &quiet).run(request(ID, changes())).unwrap_err();
    assert!(error.to_string().contains("create-certs is already running"), "{error:#}");
    assert_eq!(everything(&root), old);
    drop(lock);
    std::fs::remove_dir(root.at(STATE)).unwrap();
    let old = everything(&root);
    let interrupt = Interrupt::default();
    interrupt.ask();
    let error = Transactions { interrupt, ..transactions(&root.node, &quiet) }.run(request(ID, changes())).unwrap_err();
    assert_eq!(exit_code(&error), ExitCode::Interrupted);
    assert_eq!(everything(&root), old);
}

#[test]
fn an_interrupt_between_two_files_keeps_the_state_and_can_be_continued() {
    let root = before();
    let interrupt = Interrupt::default();
    let stop = |event: Event<'_>| {
        if matches!(event, Event::Changed { number: 3, .. }) {
            interrupt.ask();
        }
    };
    let error = Transactions { interrupt: interrupt.clone(), ..transactions(&root.node, &stop) }
        .run(request(ID, changes()))
        .unwrap_err();
    assert_eq!(exit_code(&error), ExitCode::Interrupted, "{error:#}");
    let hint = hints(&error).join(" ");
    assert!(hint.contains("`kubepki rotate-certs --root /mnt --continue`"), "{hint}");
    assert!(hint.contains("`kubepki rotate-certs --root /mnt --abort`"), "{hint}");
    let again = transactions(&root.node, &quiet);
    let journal = again.unfinished().unwrap().unwrap();
    assert_eq!(journal.operation.provisioning_state, ProvisioningState::CertificateRotating);
    assert_eq!(again.last().unwrap().unwrap().provisioning_state, ProvisioningState::CertificateRotating);
    let second = again.run(request("20260103T030405Z-0000000b", changes())).unwrap_err();
    assert_eq!(exit_code(&second), ExitCode::Partial);
    assert!(second.to_string().contains("an earlier rotate-certs has begun and is not finished"), "{second}");
    assert_eq!(again.resume().unwrap().provisioning_state, ProvisioningState::Succeeded);
    assert_eq!(look(&root), after());
}

#[test]
fn the_last_five_backups_are_kept_and_rubbish_is_removed() {
    let root = before();
    let transactions = transactions(&root.node, &quiet);
    root.put(&format!("{STATE}/20251231T000000Z-00000000/stage/0001"), "crashed before its journal", 0o600);
    root.put(&format!("{STATE}/notes.txt"), "the admin's own", 0o600);
    for number in 1..=8 {
        let old = if number == 1 { "old ca key".to_owned() } else { format!("key {}", number - 1) };
        let new = format!("key {number}");
        let change = write("/etc/kubernetes/pki/ca.key", &new, FileMode::KeepOr(0o600), Some(&old));
        transactions.run(request(&format!("2026010{number}T000000Z-00000000"), vec![change])).unwrap();
    }
    let mut names: Vec<String> = std::fs::read_dir(root.at(STATE))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected: Vec<String> = (4..=8).map(|number| format!("2026010{number}T000000Z-00000000")).collect();
    assert_eq!(names[..5], expected);
    assert_eq!(names[5..], ["notes.txt"]);
    for name in &expected {
        assert!(!root.at(format!("{STATE}/{name}/stage")).exists());
        assert!(root.at(format!("{STATE}/{name}/backup/0001")).exists());
    }
}

#[test]
fn hard_links_to_old_files_keep_the_old_content() {
    let root = before();
    let other = root.at("/etc/kubernetes/other-name.key");
    std::fs::hard_link(root.at("/etc/kubernetes/pki/ca.key"), &other).unwrap();
    transactions(&root.node, &quiet).run(request(ID, changes())).unwrap();
    assert_eq!(std::fs::read(&other).unwrap(), b"old ca key");
    assert_eq!(std::fs::metadata(&other).unwrap().nlink(), 1);
    assert_eq!(std::fs::metadata(root.at(backup("0001"))).unwrap().nlink(), 1);
    assert_eq!(root.content("/etc/kubernetes/pki/ca.key"), b"new ca key");
}

#[test]
fn a_plan_that_does_not_care_replaces_what_is_there() {
    let root = before();
    let mut change = write("/etc/kubernetes/pki/ca.key", "new", FileMode::Exactly(0o640), None);
    change.expected = Expected::Anything;
    assert!(matches!(change.kind, ChangeKind::Write { .. }));
    transactions(&root.node, &quiet).run(request(ID, vec![change])).unwrap();
    assert_eq!(
        (root.content("/etc/kubernetes/pki/ca.key"), root.mode("/etc/kubernetes/pki/ca.key")),
        (b"new".to_vec(), 0o640)
    );
    assert_eq!(sha256(b"old ca key"), sha256(&root.content(&backup("0001"))));
    assert_eq!(operation(ID).command, "rotate-certs");
}

#[test]
fn a_file_that_changes_while_it_is_saved_stops_everything_before_it_begins() {
    let root = before();
    let meddle = |event: Event<'_>| {
        if event == (Event::Staged { number: 4 }) {
            root.put("/etc/kubernetes/pki/ca.crt", "renewed by somebody else", 0o644);
        }
    };
    let mut old = everything(&root);
    let error = transactions(&root.node, &meddle).run(request(ID, changes())).unwrap_err();
    assert_eq!(exit_code(&error), ExitCode::Failed);
    assert!(error.to_string().contains("/etc/kubernetes/pki/ca.crt is no longer what the plan"), "{error:#}");
    let path = std::path::PathBuf::from("etc/kubernetes/pki/ca.crt");
    let mut now = everything(&root);
    assert_eq!(file(&now, "etc/kubernetes/pki/ca.crt").0, "renewed by somebody else");
    now.remove(&path);
    old.remove(&path);
    assert_eq!(now, old);
}

#[test]
fn a_file_that_somebody_overwrites_meanwhile_is_not_reported_as_done() {
    let root = before();
    let meddle = |event: Event<'_>| {
        if matches!(event, Event::Changed { number: 5, .. }) {
            root.put("/etc/kubernetes/pki/ca.crt", "renewed by somebody else", 0o644);
        }
    };
    let error = transactions(&root.node, &meddle).run(request(ID, changes())).unwrap_err();
    assert_eq!(exit_code(&error), ExitCode::Partial);
    assert!(format!("{error:#}").contains("/etc/kubernetes/pki/ca.crt is not what was just written"), "{error:#}");
    let last = transactions(&root.node, &quiet).last().unwrap().unwrap();
    assert_eq!((last.provisioning_state, last.nodes[0].state), (ProvisioningState::Failed, NodeState::Failed));
}

#[test]
fn copies_that_are_not_what_they_should_be_stop_everything_before_it_begins() {
    for folder in ["stage", "backup"] {
        let root = before();
        let old = everything(&root);
        let meddle = |event: Event<'_>| {
            if event == (Event::Staged { number: 4 }) {
                std::fs::write(root.at(format!("{STATE}/{ID}/{folder}/0001")), "rot").unwrap();
            }
        };
        let error = transactions(&root.node, &meddle).run(request(ID, changes())).unwrap_err();
        assert_eq!(exit_code(&error), ExitCode::Failed);
        assert!(format!("{error:#}").contains(&format!("{folder}/0001 is missing or damaged")), "{error:#}");
        assert_eq!(everything(&root), old);
    }
}

#[test]
fn rubbish_goes_even_when_the_run_that_finds_it_is_refused() {
    let root = before();
    let rubbish = format!("{STATE}/20251231T000000Z-00000000/stage/0001");
    root.put(&rubbish, "a key that was staged when the power went", 0o600);
    root.put("/etc/kubernetes/pki/ca.key", "somebody else", 0o600);
    assert!(transactions(&root.node, &quiet).run(request(ID, changes())).is_err());
    assert!(!root.at(rubbish).exists());
}

//! A node with every kind of change waiting for it: replaced, created, linked, relinked, removed.

use std::path::{Path, PathBuf};

use kubepki::apply::change::{Change, ChangeKind, Expected, FileMode, Request, sha256};
use kubepki::apply::progress::Event;
use kubepki::apply::transaction::Transactions;
use kubepki::node::interrupt::Interrupt;
use kubepki::node::{Node, Owner};
use kubepki::plan::operation::{FileAction, FileReport, Operation, ProvisioningState};
use zeroize::Zeroizing;

use super::root::{TestRoot, operator};
use super::tree::{Tree, picture};

/// kubepki's own folder on the node.
pub const STATE: &str = "/etc/kubernetes/tmp/kubepki";

/// An id that a test can foresee.
pub const ID: &str = "20260102T030405Z-0000000a";

/// A node before the operation.
pub fn before() -> TestRoot {
    let root = TestRoot::in_memory();
    root.put("/etc/kubernetes/pki/ca.key", "old ca key", 0o600);
    root.put("/etc/kubernetes/pki/ca.crt", "old ca certificate", 0o644);
    root.put("/etc/kubernetes/pki/apiserver.key", "old key, too open", 0o666);
    root.put("/etc/kubernetes/pki/same.crt", "only its mode changes", 0o666);
    root.put("/etc/kubernetes/pki/it's old.crt", "goes", 0o640);
    root.put("/etc/kubernetes/pki/becomes-link.crt", "a file", 0o604);
    root.put("/etc/kubernetes/pki/untouched.crt", "stays", 0o644);
    root.put("/var/lib/kubelet/pki/one.pem", "pair one", 0o600);
    root.put("/var/lib/kubelet/pki/two.pem", "pair two", 0o600);
    root.put("/srv/shared/front-proxy.crt", "behind a link", 0o644);
    root.link("/var/lib/kubelet/pki/current.pem", "/var/lib/kubelet/pki/one.pem");
    root.link("/var/lib/kubelet/pki/spare.pem", "two.pem");
    root.link("/etc/kubernetes/pki/front-proxy.crt", "/srv/shared/front-proxy.crt");
    root.folder("/etc/kubernetes/tmp", 0o700);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(root.at("/etc/kubernetes/pki/ca.crt"), Some(4711), Some(4712)).unwrap();
    }
    root
}

/// A file's report, as a plan makes it.
pub fn report(path: &str, action: FileAction) -> FileReport {
    let name = Path::new(path).file_stem().unwrap().to_string_lossy().into_owned();
    FileReport {
        path: path.to_owned(),
        name,
        action,
        old_serial_number: None,
        new_serial_number: Some("0a0b".to_owned()),
        differences: Vec::new(),
        not_after: None,
    }
}

/// A file that gets new content.
pub fn write(path: &str, content: &str, mode: FileMode, old: Option<&str>) -> Change {
    let action = if old.is_some() { FileAction::Replaced } else { FileAction::Created };
    Change {
        report: report(path, action),
        kind: ChangeKind::Write { content: Zeroizing::new(content.as_bytes().to_vec()), mode, owner: None },
        step: 0,
        expected: old.map_or(Expected::Absent, |old| Expected::Sha256(sha256(old.as_bytes()))),
    }
}

fn link(path: &str, target: &str, action: FileAction, expected: Expected) -> Change {
    Change { report: report(path, action), kind: ChangeKind::Link { target: target.into() }, step: 0, expected }
}

fn remove(path: &str, expected: Expected) -> Change {
    Change { report: report(path, FileAction::Removed), kind: ChangeKind::Remove, step: 0, expected }
}

/// Every kind of change at once.
pub fn changes() -> Vec<Change> {
    use FileAction::{Created, Replaced};
    use FileMode::{Exactly, KeepOr};
    let pki = |name: &str| format!("/etc/kubernetes/pki/{name}");
    let mut owned = write(&pki("owned.key"), "for etcd", Exactly(0o640), None);
    if let (ChangeKind::Write { owner, .. }, true) = (&mut owned.kind, rustix::process::geteuid().is_root()) {
        *owner = Some(Owner { uid: 4713, gid: 4714 });
    }
    let to_link = Expected::Sha256(sha256(b"a file"));
    let current = Expected::LinkTo(PathBuf::from("/var/lib/kubelet/pki/one.pem"));
    vec![
        write(&pki("ca.key"), "new ca key", KeepOr(0o644), Some("old ca key")),
        write(&pki("ca.crt"), "new ca certificate", KeepOr(0o600), Some("old ca certificate")),
        write(&pki("apiserver.key"), "new key", Exactly(0o600), Some("old key, too open")),
        write(&pki("apiserver.crt"), "new certificate", KeepOr(0o644), None),
        write(&pki("etcd/deep/ca.key"), "etcd key", KeepOr(0o600), None),
        write(&pki("etcd/deep/ca.crt"), "etcd certificate", KeepOr(0o644), None),
        write(&pki("same.crt"), "only its mode changes", Exactly(0o644), Some("only its mode changes")),
        write(&pki("front-proxy.crt"), "new, still behind a link", KeepOr(0o644), Some("behind a link")),
        owned,
        link(&pki("becomes-link.crt"), "untouched.crt", Replaced, to_link),
        link("/var/lib/kubelet/pki/current.pem", "/var/lib/kubelet/pki/two.pem", Replaced, current),
        link("/var/lib/kubelet/pki/new.pem", "two.pem", Created, Expected::Absent),
        remove(&pki("it's old.crt"), Expected::Sha256(sha256(b"goes"))),
        remove("/var/lib/kubelet/pki/spare.pem", Expected::Anything),
        remove(&pki("never-there.crt"), Expected::Absent),
    ]
}

/// An operation that has not begun.
pub fn operation(id: &str) -> Operation {
    Operation {
        kind: "Operation".to_owned(),
        id: id.to_owned(),
        command: "rotate-certs".to_owned(),
        provisioning_state: ProvisioningState::Planned,
        started_at: None,
        ended_at: None,
        unavailability_seconds: None,
        phases: Vec::new(),
        nodes: Vec::new(),
        next_steps: vec!["restart kube-apiserver".to_owned()],
    }
}

pub fn request(id: &str, changes: Vec<Change>) -> Request {
    Request {
        operation: operation(id),
        changes,
        directory_mode: 0o755,
        restarting: Vec::new(),
        steps: Vec::new(),
        words: Vec::new(),
    }
}

/// The transactions of a node, as the command line has them.
pub fn transactions<'a>(node: &'a dyn Node, progress: &'a (dyn Fn(Event<'_>) + Sync)) -> Transactions<'a> {
    Transactions {
        node,
        state_folder: PathBuf::from(STATE),
        owner: operator("rotate-certs"),
        target_words: "--root /mnt".to_owned(),
        interrupt: Interrupt::default(),
        progress,
    }
}

/// Hears nothing.
pub fn quiet(_: Event<'_>) {}

/// Everything on the node except kubepki's own folder.
pub fn look(root: &TestRoot) -> Tree {
    picture(&root.at("/"), &[STATE])
}

/// What the node looks like when the operation has gone through.
pub fn after() -> Tree {
    let root = before();
    transactions(&root.node, &quiet).run(request(ID, changes())).unwrap();
    look(&root)
}

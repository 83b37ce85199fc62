//! This machine, or a mounted root, as a node: what is found, and what never leaves the root.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use kubepki::node::local::LocalNode;
use kubepki::node::{Effect, Found, FoundState, LARGEST_FILE, Node, Query};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::root::TestRoot;
use crate::support::skip::root_only;

fn content(found: &Found) -> &[u8] {
    match &found.state {
        FoundState::File(content) => content,
        other => panic!("{} is {other:?}", found.path.display()),
    }
}

fn reason(found: &Found) -> &str {
    match &found.state {
        FoundState::Unreadable(reason) => reason,
        other => panic!("{} is {other:?}", found.path.display()),
    }
}

fn tree(root: &TestRoot, path: &str) -> Vec<Found> {
    root.node.read(&[Query::Tree(path.into())]).unwrap()
}

fn paths(found: &[Found]) -> Vec<&str> {
    found.iter().map(|found| found.path.to_str().unwrap()).collect()
}

#[test]
fn a_file_is_found_with_content_mode_owner_and_size() {
    let root = TestRoot::new();
    root.put("/etc/kubernetes/pki/ca.key", "secret", 0o600);
    let found = root.find(Query::File("/etc/kubernetes/pki/ca.key".into()));
    assert_eq!(content(&found), b"secret");
    assert_eq!(found.link, None);
    let metadata = found.metadata.unwrap();
    assert_eq!((metadata.mode, metadata.size), (0o600, 6));
    assert_eq!(metadata.uid, rustix::process::geteuid().as_raw());
    assert_eq!(format!("{:?}", found.state), "File(6 bytes)");
    let found = root.find(Query::Metadata("/etc/kubernetes/pki/ca.key".into()));
    assert!(matches!(found.state, FoundState::Unread));
    assert_eq!(found.metadata.unwrap(), metadata);
}

#[test]
fn what_is_not_there_is_missing_whatever_part_of_the_path_is_absent() {
    let root = TestRoot::new();
    root.put("/etc/file", "", 0o644);
    root.link("/etc/nowhere", "/no/such/file");
    root.link("/etc/circle", "circle");
    for path in ["/etc/absent", "/no/folder/at/all", "/etc/file/below", "/etc/nowhere", "/etc/circle"] {
        let found = root.find(Query::File(path.into()));
        assert!(matches!(found.state, FoundState::Missing), "{path}: {:?}", found.state);
        assert!(found.metadata.is_none());
    }
    assert_eq!(root.find(Query::File("/etc/nowhere".into())).link.unwrap(), Path::new("/no/such/file"));
    assert_eq!(root.find(Query::File("/etc/circle".into())).link.unwrap(), Path::new("circle"));
    assert_eq!(reason(&root.find(Query::File("relative/path".into()))), "not an absolute path");
}

#[test]
fn links_are_resolved_inside_the_root_and_reported_as_written() {
    let root = TestRoot::new();
    root.put("/var/lib/kubelet/pki/kubelet-client-2026.pem", "the pair", 0o600);
    root.link("/var/lib/kubelet/pki/kubelet-client-current.pem", "/var/lib/kubelet/pki/kubelet-client-2026.pem");
    root.link("/etc/up", "../../../../../../../var/lib/kubelet/pki/kubelet-client-current.pem");
    root.link("/etc/kubelet", "/var/lib/kubelet");
    for path in [
        "/var/lib/kubelet/pki/kubelet-client-current.pem",
        "/etc/up",
        "/etc/kubelet/pki/kubelet-client-current.pem",
        "/../../etc/kubelet/../kubelet/pki/./kubelet-client-current.pem",
    ] {
        let found = root.find(Query::File(path.into()));
        assert_eq!(content(&found), b"the pair", "{path}");
        assert!(found.link.is_some(), "{path}");
        assert_eq!(found.metadata.unwrap().mode, 0o600);
    }
    let current = root.find(Query::Metadata("/var/lib/kubelet/pki/kubelet-client-current.pem".into()));
    assert_eq!(current.link.unwrap(), Path::new("/var/lib/kubelet/pki/kubelet-client-2026.pem"));
}

#[test]
fn nothing_outside_the_root_can_be_read() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "of the workstation").unwrap();
    let root = TestRoot::new();
    let secret = outside.path().join("secret");
    root.link("/etc/out", secret.to_str().unwrap());
    root.link("/etc/folder", outside.path().to_str().unwrap());
    root.link("/etc/proc", "/proc/self/root");
    for path in ["/etc/out", "/etc/folder/secret", "/etc/proc/etc/passwd", secret.to_str().unwrap()] {
        let found = root.find(Query::File(path.into()));
        assert!(matches!(found.state, FoundState::Missing), "{path}: {:?}", found.state);
    }
    assert!(matches!(tree(&root, "/etc/folder")[0].state, FoundState::Missing));
}

#[test]
fn a_tree_is_listed_by_path_without_kubepkis_own_files() {
    let root = TestRoot::new();
    for path in ["/pki/sa.pub", "/pki/etcd/ca.crt", "/pki/ca.crt", "/pki/etcd-old.crt", "/pki/etcd/deeper/x", "/pki/z"]
    {
        root.put(path, path, 0o644);
    }
    root.put("/pki/.kubepki/20260102T030405Z-00000000/backup/0001", "old key", 0o600);
    root.put("/pki/.kubepki-0123456789abcdef.tmp", "half a key", 0o600);
    root.folder("/pki/empty", 0o755);
    let found = tree(&root, "/pki");
    let expected =
        ["/pki/ca.crt", "/pki/etcd/ca.crt", "/pki/etcd/deeper/x", "/pki/etcd-old.crt", "/pki/sa.pub", "/pki/z"];
    assert_eq!(paths(&found), expected);
    assert!(found.iter().all(|file| content(file) == file.path.as_os_str().as_bytes()));
    assert_eq!(content(&tree(&root, "/pki/ca.crt")[0]), b"/pki/ca.crt");
    let own = tree(&root, "/pki/.kubepki");
    assert_eq!(paths(&own), ["/pki/.kubepki/20260102T030405Z-00000000/backup/0001"]);
}

#[test]
fn a_linked_folder_is_entered_once_and_circles_end() {
    let root = TestRoot::new();
    root.put("/srv/pki/ca.crt", "ca", 0o644);
    root.put("/etc/kubernetes/pki/own.crt", "own", 0o644);
    root.link("/etc/kubernetes/pki/aaa", "own-folder");
    root.put("/etc/kubernetes/pki/own-folder/leaf.crt", "leaf", 0o644);
    root.link("/etc/kubernetes/pki/shared", "/srv/pki");
    root.put("/srv/first/x.crt", "x", 0o644);
    root.link("/etc/kubernetes/pki/a-first", "/srv/first");
    root.link("/srv/pki/back", "/etc/kubernetes/pki");
    root.link("/srv/pki/self", ".");
    let found = tree(&root, "/etc/kubernetes/pki");
    let expected = [
        "/etc/kubernetes/pki/a-first/x.crt",
        "/etc/kubernetes/pki/own-folder/leaf.crt",
        "/etc/kubernetes/pki/own.crt",
        "/etc/kubernetes/pki/shared/ca.crt",
    ];
    assert_eq!(paths(&found), expected);
    root.link("/pki", "/etc/kubernetes/pki");
    assert_eq!(tree(&root, "/pki").len(), 4, "the top itself may be a link");
}

#[test]
fn a_tree_that_is_too_deep_ends_with_a_reason() {
    let root = TestRoot::new();
    let deep: PathBuf = std::iter::once("/pki").chain(std::iter::repeat_n("d", 80)).collect();
    root.put(&format!("{}/x.crt", deep.display()), "x", 0o644);
    let found = tree(&root, "/pki");
    assert_eq!(found.len(), 1);
    assert_eq!(reason(&found[0]), "more than 64 folders deep");
}

#[test]
fn a_folder_lists_what_lies_directly_in_it_without_content() {
    let root = TestRoot::new();
    root.put("/etc/kubepki/b/journal.json", "{}", 0o600);
    root.put("/etc/kubepki/a", "x", 0o600);
    let found = root.node.read(&[Query::Folder("/etc/kubepki".into()), Query::Folder("/none".into())]).unwrap();
    assert_eq!(paths(&found), ["/etc/kubepki/a", "/etc/kubepki/b", "/none"]);
    assert!(matches!(found[0].state, FoundState::Unread));
    assert!(matches!(found[1].state, FoundState::Directory));
    assert!(matches!(found[2].state, FoundState::Missing));
}

#[test]
fn what_is_no_regular_file_is_named_and_never_opened() {
    let root = TestRoot::new();
    root.folder("/pki", 0o755);
    mknodat(CWD, root.at("/pki/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _listener = UnixListener::bind(root.at("/pki/socket")).unwrap();
    root.link("/pki/to-pipe", "pipe");
    // A pipe that nobody writes to would block whoever opens it.
    let found = tree(&root, "/pki");
    assert_eq!(paths(&found), ["/pki/pipe", "/pki/socket", "/pki/to-pipe"]);
    for found in &found {
        assert_eq!(reason(found), "not a regular file");
        assert_eq!(reason(&root.find(Query::File(found.path.clone()))), "not a regular file");
    }
}

#[test]
fn a_file_that_is_too_large_says_its_size() {
    let root = TestRoot::new();
    root.put("/pki/huge", "", 0o644);
    let file = std::fs::File::options().write(true).open(root.at("/pki/huge")).unwrap();
    file.set_len(LARGEST_FILE + 1_000_000).unwrap();
    let found = root.find(Query::File("/pki/huge".into()));
    assert_eq!(reason(&found), "too large to be a certificate or key: 68108864 bytes");
    assert_eq!(found.metadata.unwrap().size, LARGEST_FILE + 1_000_000);
}

#[test]
fn files_whose_size_the_system_does_not_tell_are_read_to_the_end() {
    let node = LocalNode::open("local", "/").unwrap();
    let found = node.read(&[Query::File("/proc/self/cmdline".into())]).unwrap().remove(0);
    assert_eq!(found.metadata.as_ref().unwrap().size, 0);
    assert!(!content(&found).is_empty());
}

#[test]
fn a_folder_of_many_files_is_read_completely_and_in_order() {
    let root = TestRoot::new();
    let names: Vec<String> = (0..3000).map(|number| format!("/pki/{number:05}.crt")).collect();
    for name in &names {
        root.put(name, name, 0o644);
    }
    let found = tree(&root, "/pki");
    assert_eq!(paths(&found), names);
    assert!(found.iter().all(|file| content(file) == file.path.as_os_str().as_bytes()));
}

#[test]
fn what_the_user_may_not_read_is_reported_with_its_metadata() {
    // Root may read everything, so another user has to look.
    if !root_only("what_the_user_may_not_read_is_reported_with_its_metadata") {
        return;
    }
    let root = TestRoot::new();
    root.put("/pki/ca.key", "secret", 0o600);
    root.put("/pki/private/ca.key", "secret", 0o600);
    root.folder("/pki/private", 0o700);
    std::os::unix::fs::chown(root.at("/"), Some(4711), Some(4711)).unwrap();
    let found = crate::support::root::as_user(4711, || {
        root.node.read(&[Query::Tree("/pki".into()), Query::File("/pki/private/ca.key".into())]).unwrap()
    });
    assert_eq!(paths(&found), ["/pki/ca.key", "/pki/private", "/pki/private/ca.key"]);
    assert!(found.iter().all(|found| reason(found) == "permission denied"), "{found:?}");
    assert_eq!(found[0].metadata.as_ref().unwrap().mode, 0o600);
}

#[test]
fn the_host_name_of_a_mounted_root_is_the_one_written_there() {
    let root = TestRoot::new();
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(root.node.facts().unwrap().host_name, own);
    root.put("/etc/hostname", "# the first control plane\n cp1.example.com \n", 0o644);
    let facts = root.node.facts().unwrap();
    assert_eq!(facts.host_name, "cp1.example.com");
    assert_eq!(facts.uid, rustix::process::geteuid().as_raw());
    assert!(facts.addresses.iter().all(|address| !address.is_loopback()));
    assert_eq!(LocalNode::open("local", "/").unwrap().facts().unwrap().host_name, own);
}

#[test]
fn a_root_that_is_no_folder_is_a_usage_error_that_names_it() {
    let error = LocalNode::open("local", "/no/such/root").unwrap_err();
    assert_eq!(kubepki::error::exit_code(&error), kubepki::error::ExitCode::Usage);
    assert!(error.to_string().contains("/no/such/root"), "{error}");
}

#[test]
fn kubepki_removes_only_its_own_folders() {
    let root = TestRoot::new();
    root.put("/etc/kubernetes/tmp/kubepki/20260102T030405Z-00000000/stage/0001", "x", 0o600);
    root.put("/etc/kubernetes/pki/ca.key", "x", 0o600);
    root.put("/pki/.kubepki/a/b", "x", 0o600);
    root.link("/pki/.kubepki/a/link", "/etc/kubernetes/pki");
    for path in ["/etc/kubernetes/pki", "/", "/pki/.kubepki/../../etc/kubernetes/pki", "/pki/.kubepki-x"] {
        let error = root.apply(&Effect::RemoveTree { path: Path::new(path) }).unwrap_err();
        assert!(error.to_string().contains("not kubepki's own"), "{path}: {error}");
    }
    for path in ["/etc/kubernetes/tmp/kubepki/20260102T030405Z-00000000", "/pki/.kubepki", "/pki/.kubepki"] {
        root.apply(&Effect::RemoveTree { path: Path::new(path) }).unwrap();
        assert!(!root.at(path).exists());
    }
    assert_eq!(root.content("/etc/kubernetes/pki/ca.key"), b"x", "links are removed, not followed");
}

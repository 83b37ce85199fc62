//! The install recipe: whole or not at all, never through somebody else's link, never for others to read.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kubepki::error::{ExitCode, exit_code, hints};
use kubepki::node::local::LocalNode;
use kubepki::node::{Content, Effect, Node, Owner};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::probe;
use crate::support::root::{TestRoot, as_user};
use crate::support::skip::{root_only, skipped};
use crate::support::tree::picture;

const KEY: &str = "/etc/kubernetes/pki/ca.key";

fn install<'a>(path: &'a str, content: &'a [u8], mode: u32) -> Effect<'a> {
    Effect::Install { path: Path::new(path), content: Content::Bytes(content), mode, owner: None }
}

/// The extended attribute in which Linux keeps a POSIX access list.
const ACCESS_LIST: &str = "system.posix_acl_access";

/// The names in the folder of [`KEY`].
fn names(root: &TestRoot) -> Vec<String> {
    let entries = std::fs::read_dir(root.at("/etc/kubernetes/pki")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_replaced_by_a_new_one_and_never_written_in_place() {
    let root = TestRoot::new();
    root.put(KEY, "old", 0o644);
    std::fs::hard_link(root.at(KEY), root.at("/etc/kubernetes/backup.key")).unwrap();
    root.apply(&install(KEY, b"new", 0o600)).unwrap();
    assert_eq!(root.content(KEY), b"new");
    assert_eq!(root.mode(KEY), 0o600);
    assert_eq!(root.content("/etc/kubernetes/backup.key"), b"old");
    assert_eq!(std::fs::metadata(root.at(KEY)).unwrap().nlink(), 1);
    assert_eq!(names(&root), ["ca.key"]);
}

#[test]
fn a_copy_on_the_node_is_a_file_of_its_own() {
    let root = TestRoot::new();
    root.put("/stage/0001", "new", 0o600);
    root.folder("/etc/kubernetes/pki", 0o755);
    let content = Content::FileOnNode(Path::new("/stage/0001"));
    root.apply(&Effect::Install { path: Path::new(KEY), content, mode: 0o640, owner: None }).unwrap();
    assert_eq!(root.content(KEY), b"new");
    assert_eq!(root.mode(KEY), 0o640);
    assert_eq!(std::fs::metadata(root.at(KEY)).unwrap().nlink(), 1);
    let content = Content::FileOnNode(Path::new("/stage/0002"));
    let effect = Effect::Install { path: Path::new(KEY), content, mode: 0o640, owner: None };
    let error = root.apply(&effect).unwrap_err();
    assert!(error.to_string().contains("/stage/0002: it is not there"), "{error}");
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let root = TestRoot::new();
    root.apply(&Effect::MakeDirectory { path: Path::new("/etc/kubernetes/pki"), mode: 0o777 }).unwrap();
    root.apply(&install(KEY, b"new", 0o666)).unwrap();
    assert_eq!((root.mode("/etc/kubernetes"), root.mode("/etc/kubernetes/pki"), root.mode(KEY)), (0o777, 0o777, 0o666));
}

#[test]
fn a_folder_that_is_there_keeps_its_mode_and_a_file_in_the_way_is_named() {
    let root = TestRoot::new();
    root.folder("/etc/kubernetes", 0o711);
    let pki = Effect::MakeDirectory { path: Path::new("/etc/kubernetes/pki/etcd"), mode: 0o700 };
    root.apply(&pki).unwrap();
    root.apply(&pki).unwrap();
    assert_eq!((root.mode("/etc/kubernetes"), root.mode("/etc/kubernetes/pki/etcd")), (0o711, 0o700));
    root.put("/etc/file", "", 0o600);
    let error = root.apply(&Effect::MakeDirectory { path: Path::new("/etc/file/below"), mode: 0o700 }).unwrap_err();
    assert!(error.to_string().contains("/etc/file"), "{error}");
}

#[test]
fn links_of_root_and_the_caller_are_followed() {
    let root = TestRoot::new();
    root.put("/var/lib/kubelet/pki/pair-1.pem", "old", 0o600);
    root.link("/var/lib/kubelet/pki/current.pem", "/var/lib/kubelet/pki/pair-1.pem");
    root.link("/kubelet", "/var/lib/kubelet");
    root.apply(&install("/kubelet/pki/current.pem", b"new", 0o600)).unwrap();
    assert_eq!(root.content("/var/lib/kubelet/pki/pair-1.pem"), b"new");
    assert!(root.at("/var/lib/kubelet/pki/current.pem").is_symlink());
}

#[test]
fn links_of_others_are_refused_wherever_they_are_on_the_way() {
    if !root_only("links_of_others_are_refused_wherever_they_are_on_the_way") {
        return;
    }
    let root = TestRoot::new();
    root.put("/etc/shadow", "root", 0o600);
    root.put("/srv/pki/tls.key", "old", 0o600);
    root.link("/home/bob/final.key", "/etc/shadow");
    root.link("/home/bob/kube", "/etc");
    root.link("/home/first", "/home/bob/kube");
    for link in ["/home/bob/final.key", "/home/bob/kube"] {
        root.give(link, 4711);
    }
    let before = picture(&root.at("/"), &[]);
    for path in ["/home/bob/final.key", "/home/bob/kube/shadow", "/home/first/shadow", "/home/bob/kube/new/x"] {
        for effect in [
            install(path, b"evil", 0o600),
            Effect::Install {
                path: Path::new(path),
                content: Content::FileOnNode(Path::new("/srv/pki/tls.key")),
                mode: 0o644,
                owner: None,
            },
        ] {
            let error = root.apply(&effect).unwrap_err();
            assert_eq!(exit_code(&error), ExitCode::Failed);
            assert!(error.to_string().contains("belongs to user 4711"), "{path}: {error}");
            assert_eq!(hints(&error).len(), 1, "{path}");
        }
    }
    for effect in [
        Effect::Remove { path: Path::new("/home/bob/kube/shadow") },
        Effect::Link { path: Path::new("/home/bob/kube/shadow"), target: Path::new("x") },
        Effect::MakeDirectory { path: Path::new("/home/bob/kube/kubepki"), mode: 0o700 },
        Effect::RemoveTree { path: Path::new("/home/bob/kube/kubepki") },
        Effect::Sweep { path: Path::new("/home/bob/kube/shadow") },
    ] {
        assert!(root.apply(&effect).is_err(), "{effect:?}");
    }
    assert_eq!(picture(&root.at("/"), &[]), before);
}

#[test]
fn a_file_of_others_behind_a_link_is_refused() {
    if !root_only("a_file_of_others_behind_a_link_is_refused") {
        return;
    }
    let root = TestRoot::new();
    root.put("/home/bob/config", "bob's", 0o600);
    root.give("/home/bob/config", 4711);
    root.link("/root/config", "/home/bob/config");
    let error = root.apply(&install("/root/config", b"new", 0o644)).unwrap_err();
    assert!(error.to_string().contains("the file it leads to belongs to user 4711"), "{error}");
    root.apply(&install("/home/bob/config", b"new", 0o644)).unwrap();
    assert_eq!(root.content("/home/bob/config"), b"new");
}

#[test]
fn the_caller_follows_own_links_but_not_those_of_a_third() {
    if !root_only("the_caller_follows_own_links_but_not_those_of_a_third") {
        return;
    }
    let root = TestRoot::new();
    root.put("/home/bob/real", "old", 0o600);
    root.link("/home/bob/own", "real");
    root.link("/home/bob/third", "real");
    for path in ["/", "/home/bob", "/home/bob/real", "/home/bob/own"] {
        std::os::unix::fs::lchown(root.at(path), Some(4711), Some(4711)).unwrap();
    }
    root.give("/home/bob/third", 4712);
    let (own, third) = as_user(4711, || {
        (root.apply(&install("/home/bob/own", b"new", 0o600)), root.apply(&install("/home/bob/third", b"no", 0o600)))
    });
    own.unwrap();
    assert!(third.unwrap_err().to_string().contains("belongs to user 4712"));
    assert_eq!(root.content("/home/bob/real"), b"new");
}

#[test]
fn private_files_are_not_put_where_others_could_exchange_them() {
    if !root_only("private_files_are_not_put_where_others_could_exchange_them") {
        return;
    }
    let root = TestRoot::new();
    root.folder("/open", 0o777);
    let error = root.apply(&install("/open/ca.key", b"key", 0o600)).unwrap_err();
    assert!(error.to_string().contains("/open/ca.key: everybody may rename files in /open"), "{error}");
    root.apply(&install("/open/ca.crt", b"no secret", 0o644)).unwrap();
    root.folder("/sticky", 0o1777);
    root.apply(&install("/sticky/ca.key", b"key", 0o600)).unwrap();
    root.folder("/home/bob", 0o755);
    root.give("/home/bob", 4711);
    let error = root.apply(&install("/home/bob/ca.key", b"key", 0o600)).unwrap_err();
    assert!(error.to_string().contains("/home/bob belongs to user 4711"), "{error}");
    let owner = Some(Owner { uid: 4711, gid: 4711 });
    let path = Path::new("/home/bob/his.key");
    root.apply(&Effect::Install { path, content: Content::Bytes(b"key"), mode: 0o600, owner }).unwrap();
    let metadata = std::fs::metadata(root.at(path)).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), root.mode("/home/bob/his.key")), (4711, 4711, 0o600));
}

#[test]
fn what_is_no_regular_file_is_not_replaced() {
    let root = TestRoot::new();
    root.folder("/etc/kubernetes/pki/ca.key", 0o755);
    mknodat(CWD, root.at("/etc/kubernetes/pki/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    for path in [KEY, "/etc/kubernetes/pki/pipe"] {
        let error = root.apply(&install(path, b"x", 0o600)).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
    assert!(root.apply(&install("/etc/kubernetes/missing/ca.key", b"x", 0o600)).is_err());
    assert!(root.apply(&install("relative", b"x", 0o600)).is_err());
    assert!(root.apply(&install("/", b"x", 0o600)).is_err());
    assert_eq!(names(&root), ["ca.key", "pipe"]);
}

#[test]
fn links_are_made_and_replaced_in_one_rename() {
    let root = TestRoot::new();
    root.put(KEY, "file", 0o600);
    for target in ["one", "/absolute/two"] {
        root.apply(&Effect::Link { path: Path::new(KEY), target: Path::new(target) }).unwrap();
        assert_eq!(std::fs::read_link(root.at(KEY)).unwrap(), Path::new(target));
    }
    assert_eq!(names(&root), ["ca.key"]);
    root.folder("/etc/folder", 0o755);
    assert!(root.apply(&Effect::Link { path: Path::new("/etc/folder"), target: Path::new("x") }).is_err());
    root.apply(&Effect::Remove { path: Path::new(KEY) }).unwrap();
    root.apply(&Effect::Remove { path: Path::new(KEY) }).unwrap();
    root.apply(&Effect::Remove { path: Path::new("/no/folder/at/all") }).unwrap();
    assert!(names(&root).is_empty());
    root.apply(&Effect::RemoveDirectory { path: Path::new("/etc/kubernetes") }).unwrap();
    assert!(root.at("/etc/kubernetes/pki").exists(), "not empty: stays");
    root.apply(&Effect::RemoveDirectory { path: Path::new("/etc/kubernetes/pki") }).unwrap();
    root.apply(&Effect::RemoveDirectory { path: Path::new("/etc/kubernetes/pki") }).unwrap();
    assert!(!root.at("/etc/kubernetes/pki").exists());
}

#[test]
fn access_lists_survive_a_replacement() {
    let root = TestRoot::new();
    root.put(KEY, "old", 0o640);
    // Version 2; then tag, permissions and id: owner rw, user 4711 r, group none, mask r, others none (acl(5)).
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1, 6, u32::MAX), (2, 4, 4711), (4, 0, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)]
    {
        list.extend(u16::to_le_bytes(tag));
        list.extend(u16::to_le_bytes(permissions));
        list.extend(u32::to_le_bytes(id));
    }
    if rustix::fs::setxattr(root.at(KEY), ACCESS_LIST, &list, XattrFlags::empty()).is_err() {
        return skipped("access_lists_survive_a_replacement", "the temporary folder has no access lists");
    }
    root.apply(&install(KEY, b"new", 0o640)).unwrap();
    let mut found = vec![0; 1024];
    let length = rustix::fs::getxattr(root.at(KEY), ACCESS_LIST, &mut found[..]).unwrap();
    assert_eq!(&found[..length], list);
    root.apply(&install(KEY, b"key", 0o600)).unwrap();
    let length = rustix::fs::getxattr(root.at(KEY), ACCESS_LIST, &mut found[..]).unwrap();
    let mask = length - 16;
    assert_eq!(found[mask..mask + 4], [0x10, 0, 0, 0], "a private mode takes away what the list granted");
}

#[test]
fn a_full_disk_changes_nothing_and_leaves_nothing() {
    const NAME: &str = "a_full_disk_changes_nothing_and_leaves_nothing";
    if !root_only(NAME) {
        return;
    }
    let root = TestRoot::new();
    root.folder("/etc/kubernetes/pki", 0o755);
    let at = root.at("/etc/kubernetes/pki");
    if let Err(errno) = mount("tmpfs", &at, "tmpfs", MountFlags::empty(), c"size=64k,mode=755") {
        return skipped(NAME, &format!("cannot mount a tmpfs: {errno}"));
    }
    root.put(KEY, "old", 0o600);
    let results = (root.apply(&install(KEY, &vec![7; 200_000], 0o600)), root.content(KEY), names(&root));
    let second = root.apply(&install(KEY, b"fits", 0o600));
    unmount(&at, UnmountFlags::DETACH).unwrap();
    let (answer, content, names) = results;
    let error = answer.unwrap_err();
    assert_eq!(exit_code(&error), ExitCode::Failed);
    assert!(error.to_string().contains("no space left on device"), "{error}");
    assert!(hints(&error)[0].contains("free some space"));
    assert_eq!(content, b"old");
    assert_eq!(names, ["ca.key"]);
    second.unwrap();
}

#[test]
fn a_sweep_takes_what_killed_runs_left_and_nothing_else() {
    let root = TestRoot::new();
    let dead = "/etc/kubernetes/pki/.kubepki-0000000000000001.tmp";
    let alive = "/etc/kubernetes/pki/.kubepki-0000000000000002.tmp";
    root.put(KEY, "key", 0o600);
    root.put(dead, "half", 0o600);
    root.put(alive, "half", 0o600);
    root.put("/etc/kubernetes/pki/.kubepki-x", "not ours", 0o600);
    root.link("/etc/kubernetes/pki/.kubepki-0000000000000003.tmp", "gone");
    root.put("/var/lib/pair.pem", "", 0o600);
    root.put("/var/lib/.kubepki-0000000000000004.tmp", "half", 0o600);
    root.link("/etc/kubernetes/pki/current.pem", "/var/lib/pair.pem");
    let writer = std::fs::File::open(root.at(alive)).unwrap();
    writer.lock().unwrap();
    root.apply(&Effect::Sweep { path: Path::new("/etc/kubernetes/pki/current.pem") }).unwrap();
    assert_eq!(names(&root), [".kubepki-0000000000000002.tmp", ".kubepki-x", "ca.key", "current.pem"]);
    assert!(!root.at("/var/lib/.kubepki-0000000000000004.tmp").exists());
    root.apply(&Effect::Sweep { path: Path::new("/no/such/folder/x") }).unwrap();
}

#[test]
fn many_writers_and_sweeps_at_once_leave_one_whole_file() {
    let root = TestRoot::new();
    root.folder("/etc/kubernetes/pki", 0o755);
    std::thread::scope(|scope| {
        for letter in b'a'..=b'f' {
            let root = &root;
            scope.spawn(move || {
                for _ in 0..60 {
                    root.apply(&install(KEY, &vec![letter; 30_000], 0o600)).unwrap();
                    root.apply(&Effect::Sweep { path: Path::new(KEY) }).unwrap();
                    root.apply(&Effect::Link { path: Path::new("/etc/kubernetes/pki/l"), target: Path::new("x") })
                        .unwrap();
                }
            });
        }
    });
    let content = root.content(KEY);
    assert_eq!(content.len(), 30_000);
    assert!(content.iter().all(|letter| *letter == content[0]));
    assert_eq!(names(&root), ["ca.key", "l"]);
}

/// Not a test of its own: one install, for strace to watch.
#[test]
fn a_process_that_installs_one_file() {
    let Some(root) = probe::words() else { return };
    let node = LocalNode::open("cp1", root).unwrap();
    let effect = Effect::Install {
        path: Path::new(KEY),
        content: Content::Bytes(b"the new key"),
        mode: 0o640,
        owner: Some(Owner { uid: rustix::process::geteuid().as_raw(), gid: 4711 }),
    };
    node.apply(&effect).unwrap();
}

#[test]
fn owner_and_mode_come_before_content_and_flushes_around_the_rename() {
    const NAME: &str = "owner_and_mode_come_before_content_and_flushes_around_the_rename";
    if !root_only(NAME) {
        return;
    }
    if !probe::installed("strace") {
        return skipped(NAME, "strace is not installed");
    }
    let root = TestRoot::new();
    root.put(KEY, "old", 0o640);
    let log = root.at("/log");
    let calls = "trace=openat,fchown,fchmod,write,fsync,fdatasync,rename,renameat,renameat2";
    let before = ["strace", "-f", "-y", "-e", calls, "-o", log.to_str().unwrap()];
    let test = "install::a_process_that_installs_one_file";
    let output = probe::process(&before, test, root.at("/").to_str().unwrap()).output().unwrap();
    if !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("PTRACE") {
        return skipped(NAME, "strace may not trace here");
    }
    assert!(output.status.success(), "{output:?}");
    let log = std::fs::read_to_string(log).unwrap();
    let step = |what: &str, parts: &[&str]| {
        let position = log.lines().position(|line| parts.iter().all(|part| line.contains(part)));
        position.unwrap_or_else(|| panic!("no {what} in\n{log}"))
    };
    let steps = [
        step("private temporary file", &["openat(", ".kubepki-", "O_CREAT|O_EXCL", "O_NOFOLLOW", "0600"]),
        step("owner", &["fchown(", ".kubepki-", "4711"]),
        step("mode", &["fchmod(", ".kubepki-", "0640"]),
        step("content", &["write(", ".kubepki-", "the new key"]),
        step("flush of the file", &["fsync(", ".kubepki-"]),
        step("rename", &["rename", ".kubepki-", "ca.key"]),
        step("flush of the folder", &["fsync(", "/etc/kubernetes/pki>"]),
    ];
    assert!(steps.is_sorted(), "{steps:?}\n{log}");
    assert_eq!(root.content(KEY), b"the new key");
}

#[test]
fn an_error_of_the_disk_at_any_call_leaves_the_old_file_alone() {
    const NAME: &str = "an_error_of_the_disk_at_any_call_leaves_the_old_file_alone";
    if !root_only(NAME) {
        return;
    }
    if !probe::installed("strace") {
        return skipped(NAME, "strace is not installed");
    }
    for (call, error) in [("fchown", "EPERM"), ("fchmod", "EIO"), ("fsync", "EIO"), ("renameat", "EIO")] {
        let root = TestRoot::new();
        root.put(KEY, "old", 0o640);
        let injected = format!("inject={call}:error={error}:when=1");
        let before = ["strace", "-f", "-o", "/dev/null", "-e", &injected];
        let test = "install::a_process_that_installs_one_file";
        let output = probe::process(&before, test, root.at("/").to_str().unwrap()).output().unwrap();
        assert!(!output.status.success(), "{call} did not fail: {output:?}");
        assert_eq!(root.content(KEY), b"old", "{call}");
        assert_eq!(names(&root), ["ca.key"], "{call}");
    }
}

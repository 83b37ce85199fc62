//! Scenarios: every change, whole or not at all, never through somebody else's link, never for others to read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kubepki::error::hints;
use kubepki::node::{Content, Effect, LARGEST_FILE, Owner};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::worlds::{World, on_every_node};

on_every_node!(
    a_file_is_replaced_by_a_new_one_and_never_written_in_place,
    owner_and_mode_are_those_asked_for,
    content_of_any_bytes_and_any_size_arrives,
    a_copy_on_the_node_is_a_file_of_its_own,
    what_cannot_be_copied_is_named,
    folders_are_made_with_their_parents_and_an_own_mode,
    links_of_root_are_followed_and_those_of_others_refused_wherever_they_are,
    a_file_of_others_behind_a_link_is_refused,
    private_files_are_not_put_where_others_could_exchange_them,
    what_is_no_regular_file_is_not_replaced,
    links_are_made_and_replaced_in_one_rename,
    files_and_empty_folders_are_removed_and_nothing_there_is_fine,
    kubepki_removes_only_its_own_folders,
    a_sweep_takes_what_killed_runs_left_and_nothing_else,
    a_rehearsal_finds_what_would_fail_and_leaves_no_trace,
    names_of_any_bytes_can_be_written_and_removed,
    a_path_that_names_no_file_is_refused,
    access_lists_survive_a_replacement,
);

fn put<'a>(path: &'a Path, content: &'a [u8], mode: u32) -> Effect<'a> {
    Effect::Install { path, content: Content::Bytes(content), mode, owner: None }
}

fn refused(world: &World, effect: &Effect<'_>) -> String {
    let error = world.apply(effect).unwrap_err();
    let hints = hints(&error).join("; ");
    format!("{error:#} [{hints}]")
}

fn assert_names(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

fn a_file_is_replaced_by_a_new_one_and_never_written_in_place(world: &World) {
    world.put("/pki/ca.key", "old", 0o644);
    std::fs::hard_link(world.at("/pki/ca.key"), world.at("/backup.key")).unwrap();
    world.apply(&put(&world.path("/pki/ca.key"), b"new", 0o600)).unwrap();
    assert_eq!((world.content("/pki/ca.key"), world.mode("/pki/ca.key")), (b"new".to_vec(), 0o600));
    assert_eq!(world.content("/backup.key"), b"old");
    assert_eq!(std::fs::metadata(world.at("/pki/ca.key")).unwrap().nlink(), 1);
    assert_eq!(world.names("/pki"), ["ca.key"]);
    world.apply(&put(&world.path("/pki/new.crt"), b"", 0o644)).unwrap();
    assert_eq!((world.content("/pki/new.crt"), world.mode("/pki/new.crt")), (Vec::new(), 0o644));
    let text = refused(world, &put(&world.path("/none/at/all"), b"x", 0o644));
    assert_names(&text, &["cp1: cannot reach", "/none/at/all: no such file or directory"]);
    world.put("/file", "x", 0o644);
    let text = refused(world, &put(&world.path("/file/below"), b"x", 0o644));
    assert_names(&text, &["cp1: cannot reach", "/file/below: not a directory"]);
}

fn owner_and_mode_are_those_asked_for(world: &World) {
    world.folder("/pki", 0o755);
    for mode in [0o600, 0o640, 0o644, 0o400, 0o666, 0o4755] {
        let path = world.path("/pki/file");
        let owner = Some(Owner { uid: 4711, gid: 4712 });
        world.apply(&Effect::Install { path: &path, content: Content::Bytes(b"x"), mode, owner }).unwrap();
        assert_eq!((world.mode("/pki/file"), world.owner("/pki/file")), (mode, (4711, 4712)));
    }
    world.apply(&put(&world.path("/pki/file"), b"x", 0o600)).unwrap();
    assert_eq!(world.owner("/pki/file"), (0, 0), "not said is the caller's own");
}

fn content_of_any_bytes_and_any_size_arrives(world: &World) {
    world.folder("/pki", 0o755);
    let every: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    for content in [&b""[..], b"\n", b"\0", b"no line end", b"\\0101\\n$(id)", &every] {
        world.apply(&put(&world.path("/pki/file"), content, 0o600)).unwrap();
        assert!(world.content("/pki/file") == content, "{} bytes", content.len());
    }
}

fn a_copy_on_the_node_is_a_file_of_its_own(world: &World) {
    world.put("/stage/0001", "new", 0o600);
    world.folder("/pki", 0o755);
    let (path, source) = (world.path("/pki/ca.key"), world.path("/stage/0001"));
    let content = Content::FileOnNode(&source);
    world.apply(&Effect::Install { path: &path, content, mode: 0o640, owner: None }).unwrap();
    assert_eq!((world.content("/pki/ca.key"), world.mode("/pki/ca.key")), (b"new".to_vec(), 0o640));
    assert_eq!(std::fs::metadata(world.at("/pki/ca.key")).unwrap().nlink(), 1);
}

fn what_cannot_be_copied_is_named(world: &World) {
    world.put("/pki/ca.key", "old", 0o600);
    world.folder("/stage/folder", 0o755);
    mknodat(CWD, world.at("/stage/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    world.put("/stage/huge", "", 0o600);
    std::fs::File::options().write(true).open(world.at("/stage/huge")).unwrap().set_len(LARGEST_FILE + 1).unwrap();
    for (source, reason) in [
        ("/stage/none", "it is not there"),
        ("/stage/folder", "it is a folder"),
        ("/stage/pipe", "not a regular file"),
        ("/stage/huge", "too large to be a certificate or key: 67108865 bytes"),
    ] {
        let (path, from) = (world.path("/pki/ca.key"), world.path(source));
        let content = Content::FileOnNode(&from);
        let text = refused(world, &Effect::Install { path: &path, content, mode: 0o600, owner: None });
        assert_names(&text, &["cp1: cannot copy ", &format!("{source}: {reason}")]);
    }
    assert_eq!(world.content("/pki/ca.key"), b"old");
    assert_eq!(world.names("/pki"), ["ca.key"]);
}

fn folders_are_made_with_their_parents_and_an_own_mode(world: &World) {
    world.folder("/etc", 0o711);
    let path = world.path("/etc/a b/pki/etcd");
    let make = Effect::MakeDirectory { path: &path, mode: 0o750 };
    world.apply(&make).unwrap();
    world.apply(&make).unwrap();
    assert_eq!(
        ["/etc", "/etc/a b", "/etc/a b/pki", "/etc/a b/pki/etcd"].map(|path| world.mode(path)),
        [0o711, 0o750, 0o750, 0o750]
    );
    world.folder("/srv", 0o755);
    world.link("/etc/linked", "/srv");
    world.apply(&Effect::MakeDirectory { path: &world.path("/etc/linked/new"), mode: 0o777 }).unwrap();
    assert_eq!(world.mode("/srv/new"), 0o777);
    world.put("/etc/file", "", 0o600);
    let text = refused(world, &Effect::MakeDirectory { path: &world.path("/etc/file/below"), mode: 0o700 });
    assert_names(&text, &["cp1: ", "/etc/file", "not a directory"]);
    let text = refused(world, &Effect::MakeDirectory { path: &world.path("/etc/file"), mode: 0o700 });
    assert_names(&text, &["cp1: ", "/etc/file is in the way: it is not a folder"]);
}

fn links_of_root_are_followed_and_those_of_others_refused_wherever_they_are(world: &World) {
    world.put("/srv/pki/real.key", "old", 0o600);
    world.folder("/etc", 0o755);
    world.link("/etc/pki", "../srv/pki");
    world.link("/srv/pki/ca.key", "/srv/pki/real.key");
    world.apply(&put(&world.path("/etc/pki/../pki/./ca.key"), b"new", 0o600)).unwrap();
    assert_eq!(world.content("/srv/pki/real.key"), b"new");
    assert!(world.at("/srv/pki/ca.key").is_symlink());

    for (link, path) in [("/etc/pki", "/etc/pki/new.key"), ("/srv/pki/ca.key", "/srv/pki/ca.key")] {
        world.give(link, 4711);
        let effects = [put(&world.path(path), b"stolen", 0o600)].map(|effect| refused(world, &effect));
        for text in effects {
            assert_names(
                &text,
                &["will not write through the symbolic link", link, "belongs to user 4711", "chown -h root"],
            );
        }
        if link == "/etc/pki" {
            let path = world.path(path);
            let make = Effect::MakeDirectory { path: &path, mode: 0o700 };
            let target = Path::new("x");
            for effect in [make, Effect::Link { path: &path, target }, Effect::Remove { path: &path }] {
                assert_names(&refused(world, &effect), &["will not write through the symbolic link"]);
            }
        }
        world.give(link, 0);
    }
    assert_eq!(world.content("/srv/pki/real.key"), b"new");
    assert_eq!(world.names("/srv/pki"), ["ca.key", "real.key"]);
    world.link("/etc/loop", "loop");
    assert_names(
        &refused(world, &put(&world.path("/etc/loop/x"), b"x", 0o600)),
        &["too many levels of symbolic links"],
    );
}

fn a_file_of_others_behind_a_link_is_refused(world: &World) {
    world.put("/home/victim", "old", 0o644);
    world.give("/home/victim", 4711);
    world.folder("/etc", 0o755);
    world.link("/etc/config", "/home/victim");
    let text = refused(world, &put(&world.path("/etc/config"), b"new", 0o600));
    assert_names(&text, &["/etc/config", "the file it leads to belongs to user 4711"]);
    world.apply(&put(&world.path("/home/victim"), b"new", 0o600)).unwrap();
    assert_eq!(world.content("/home/victim"), b"new");
}

fn private_files_are_not_put_where_others_could_exchange_them(world: &World) {
    world.folder("/open", 0o777);
    world.folder("/sticky", 0o1777);
    world.folder("/theirs", 0o755);
    world.give("/theirs", 4711);
    let text = refused(world, &put(&world.path("/open/ca.key"), b"x", 0o600));
    assert_names(&text, &["private file", "everybody may rename files in", "/open", "chmod o-w"]);
    let text = refused(world, &put(&world.path("/theirs/ca.key"), b"x", 0o600));
    assert_names(&text, &["private file", "/theirs belongs to user 4711", "chown root"]);
    for folder in ["/open", "/theirs"] {
        assert!(world.names(folder).is_empty());
    }
    // Without /proc there is no safe way to give a file away where somebody else may rename it.
    if world.has_proc() {
        let (path, owner) = (world.path("/theirs/own.key"), Some(Owner { uid: 4711, gid: 4711 }));
        let content = Content::Bytes(b"x");
        world.apply(&Effect::Install { path: &path, content, mode: 0o600, owner }).unwrap();
        assert_eq!((world.mode("/theirs/own.key"), world.owner("/theirs/own.key")), (0o600, (4711, 4711)));
        world.apply(&put(&world.path("/sticky/ca.key"), b"x", 0o600)).unwrap();
        world.apply(&put(&world.path("/open/ca.crt"), b"x", 0o644)).unwrap();
    } else {
        let text = refused(world, &put(&world.path("/open/ca.crt"), b"x", 0o644));
        assert_names(&text, &["/proc is not mounted"]);
        assert!(world.names("/open").is_empty());
    }
}

fn what_is_no_regular_file_is_not_replaced(world: &World) {
    world.folder("/pki/folder", 0o755);
    mknodat(CWD, world.at("/pki/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    for name in ["/pki/folder", "/pki/pipe"] {
        assert_names(
            &refused(world, &put(&world.path(name), b"x", 0o644)),
            &["will not replace", name, "not a regular file"],
        );
    }
    assert_eq!(world.names("/pki"), ["folder", "pipe"]);
}

fn links_are_made_and_replaced_in_one_rename(world: &World) {
    world.folder("/pki/folder", 0o755);
    let path = world.path("/pki/current.pem");
    let odd = OsStr::from_bytes(b"-rf a\nb \xff'\\");
    for target in [Path::new("client-1.pem"), Path::new("/abs/client-2.pem"), Path::new(odd), Path::new("folder")] {
        world.apply(&Effect::Link { path: &path, target }).unwrap();
        assert_eq!(std::fs::read_link(world.at("/pki/current.pem")).unwrap(), target);
    }
    // The link that leads to a folder is replaced, not entered.
    world.apply(&Effect::Link { path: &path, target: Path::new("x") }).unwrap();
    assert_eq!(std::fs::read_link(world.at("/pki/current.pem")).unwrap(), Path::new("x"));
    world.put("/pki/file", "x", 0o644);
    world.apply(&Effect::Link { path: &world.path("/pki/file"), target: Path::new("y") }).unwrap();
    assert_eq!(world.names("/pki"), ["current.pem", "file", "folder"]);
    let text = refused(world, &Effect::Link { path: &world.path("/pki/folder"), target: Path::new("x") });
    assert_names(&text, &["cp1: cannot link", "/pki/folder"]);
    assert_eq!(world.names("/pki"), ["current.pem", "file", "folder"]);
    assert!(world.names("/pki/folder").is_empty());
}

fn files_and_empty_folders_are_removed_and_nothing_there_is_fine(world: &World) {
    world.put("/pki/file", "x", 0o400);
    world.put("/pki/full/x", "x", 0o644);
    world.folder("/pki/empty", 0o755);
    world.link("/pki/link", "full");
    let remove = |path: &str| world.apply(&Effect::Remove { path: &world.path(path) });
    let remove_folder = |path: &str| world.apply(&Effect::RemoveDirectory { path: &world.path(path) });
    for path in ["/pki/file", "/pki/link", "/pki/none", "/none/at/all"] {
        remove(path).unwrap();
    }
    assert_eq!(world.names("/pki"), ["empty", "full"]);
    assert!(format!("{:#}", remove("/pki/full").unwrap_err()).contains("cannot remove"));
    for path in ["/pki/empty", "/pki/full", "/pki/full/x", "/pki/none", "/none/at/all"] {
        remove_folder(path).unwrap();
    }
    assert_eq!(world.names("/pki"), ["full"]);
    assert_eq!(world.content("/pki/full/x"), b"x");
}

fn kubepki_removes_only_its_own_folders(world: &World) {
    world.put("/k/tmp/kubepki/20260102T030405Z-00000000/stage/0001", "x", 0o600);
    world.put("/k/pki/ca.key", "x", 0o600);
    world.put("/pki/.kubepki/a/b", "x", 0o600);
    world.link("/pki/.kubepki/a/link", "/k/pki");
    for path in ["/k/pki", "/pki/.kubepki/../../k/pki", "/pki/.kubepki-x"] {
        // The folder of the test itself has kubepki in its name.
        if world.is_root() {
            let text = refused(world, &Effect::RemoveTree { path: Path::new(path) });
            assert_names(&text, &["not kubepki's own"]);
        }
    }
    for path in ["/k/tmp/kubepki/20260102T030405Z-00000000", "/pki/.kubepki", "/pki/.kubepki", "/none/kubepki"] {
        world.apply(&Effect::RemoveTree { path: &world.path(path) }).unwrap();
        assert!(!world.at(path).exists());
    }
    assert_eq!(world.content("/k/pki/ca.key"), b"x", "links are removed, not followed");
}

fn a_sweep_takes_what_killed_runs_left_and_nothing_else(world: &World) {
    let left = ["/srv/.kubepki-0123456789abcdef.tmp", "/pki/.kubepki-fedcba9876543210.tmp"];
    for path in left {
        world.put(path, "half", 0o600);
    }
    world.link("/pki/.kubepki-00000000000000aa.tmp", "nowhere");
    world.put("/srv/real.key", "x", 0o600);
    world.put("/pki/.kubepki-other", "x", 0o600);
    world.link("/pki/ca.key", "/srv/real.key");
    world.folder("/pki/.kubepki-folder.tmp", 0o755);
    // Somebody is writing this one: an open file with a lock on it.
    world.put("/pki/.kubepki-1111111111111111.tmp", "busy", 0o600);
    let busy = std::fs::File::open(world.at("/pki/.kubepki-1111111111111111.tmp")).unwrap();
    busy.lock().unwrap();
    world.apply(&Effect::Sweep { path: &world.path("/pki/ca.key") }).unwrap();
    assert_eq!(world.names("/srv"), ["real.key"]);
    let mut expected = vec![".kubepki-folder.tmp", ".kubepki-other", "ca.key"];
    // Without flock nobody can tell; then the lock of the operation is all there is.
    if world.has_flock() {
        expected.insert(0, ".kubepki-1111111111111111.tmp");
    }
    assert_eq!(world.names("/pki"), expected);
    world.apply(&Effect::Sweep { path: &world.path("/none/at/all") }).unwrap();
}

fn a_rehearsal_finds_what_would_fail_and_leaves_no_trace(world: &World) {
    world.put("/pki/ca.key", "old", 0o600);
    world.put("/pki/.kubepki-0123456789abcdef.tmp", "half", 0o600);
    world.folder("/open", 0o777);
    world.folder("/pki/folder", 0o755);
    world.link("/pki/link", "/open");
    let rehearse = |path: &str, follow: bool, owner: Option<Owner>, size: u64| {
        world.apply(&Effect::Rehearse { path: &world.path(path), follow, mode: 0o600, owner, size })
    };
    rehearse("/pki/ca.key", true, None, 0).unwrap();
    assert_eq!(world.names("/pki"), [".kubepki-0123456789abcdef.tmp", "ca.key", "folder", "link"]);
    rehearse("/pki/ca.key", true, Some(Owner { uid: 4711, gid: 4711 }), 100_000).unwrap();
    rehearse("/pki/new.key", true, None, 1).unwrap();
    rehearse("/pki/link", false, None, 1).unwrap();
    for (path, follow, size, reason) in [
        ("/none/x", true, 1, "no such file or directory"),
        ("/open/x", true, 1, "everybody may rename files in"),
        ("/pki/folder", true, 1, "not a regular file"),
        ("/pki/link", true, 1, "not a regular file"),
        ("/pki/huge", true, 1 << 50, "space left on device"),
    ] {
        let text = format!("{:#}", rehearse(path, follow, None, size).unwrap_err());
        assert!(text.contains(reason) || (size > 1 && text.contains("file too large")), "{path}: {text}");
    }
    assert_eq!(world.names("/pki"), ["ca.key", "folder", "link"]);
    assert!(world.names("/open").is_empty());
    assert_eq!((world.content("/pki/ca.key"), world.owner("/pki/ca.key")), (b"old".to_vec(), (0, 0)));
}

fn names_of_any_bytes_can_be_written_and_removed(world: &World) {
    let every: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    let (low, high) = every.split_at(127);
    let names: [&[u8]; 12] = [
        low,
        high,
        b"-rf",
        b"--help",
        b" leading",
        b"trailing ",
        b"line\nbreak\n",
        b"\n",
        b"*",
        b"'quote\"",
        b"$(id)`id`$HOME",
        b"back\\slash\\0101",
    ];
    for name in names {
        let folder = Path::new("/odd").join(OsStr::from_bytes(name));
        let file = folder.join(OsStr::from_bytes(name));
        world.apply(&Effect::MakeDirectory { path: &world.path(&folder), mode: 0o755 }).unwrap();
        world.apply(&put(&world.path(&file), name, 0o600)).unwrap();
        assert_eq!((world.content(&file), world.mode(&file)), (name.to_vec(), 0o600));
        world
            .apply(&Effect::Link { path: &world.path(folder.join("l")), target: Path::new(OsStr::from_bytes(name)) })
            .unwrap();
        world.apply(&put(&world.path(folder.join("l")), b"through", 0o600)).unwrap();
        assert_eq!(world.content(&file), b"through");
        for path in [folder.join("l"), file] {
            world.apply(&Effect::Remove { path: &world.path(path) }).unwrap();
        }
        world.apply(&Effect::RemoveDirectory { path: &world.path(folder) }).unwrap();
    }
    assert!(world.names("/odd").is_empty());
}

fn a_path_that_names_no_file_is_refused(world: &World) {
    world.folder("/pki", 0o755);
    for path in [Path::new("relative"), Path::new("/"), &world.path("/pki/.."), Path::new("")] {
        assert_names(&refused(world, &put(path, b"x", 0o600)), &["is not the absolute path of a file"]);
    }
}

fn access_lists_survive_a_replacement(world: &World) {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    const ATTRIBUTE: &str = "system.posix_acl_access";
    // Version 2; owner rw, user 4711 r, group none, mask r, others none.
    let list: Vec<u8> = [2u32.to_le_bytes().to_vec()]
        .into_iter()
        .chain([(1u16, 6u16, u32::MAX), (2, 4, 4711), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)].map(
            |(tag, permissions, id)| [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat(),
        ))
        .flatten()
        .collect();
    world.put("/pki/ca.key", "old", 0o600);
    let at = world.at("/pki/ca.key");
    // Not every file system has access lists, and not every machine the programs for them.
    if !world.has_access_lists() || setxattr(&at, ATTRIBUTE, &list, XattrFlags::empty()).is_err() {
        return;
    }
    world.apply(&put(&world.path("/pki/ca.key"), b"new", 0o640)).unwrap();
    let mut found = vec![0; 256];
    let length = getxattr(&at, ATTRIBUTE, &mut found[..]).unwrap();
    assert_eq!(found[..length], list);
    assert_eq!(world.content("/pki/ca.key"), b"new");
}

//! Scenarios: what is found, of every kind and under every name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use kubepki::node::{FoundState, LARGEST_FILE, Query};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::worlds::{World, content, on_every_node, reason};

on_every_node!(
    a_file_is_found_with_content_mode_owner_size_and_time,
    what_is_not_there_is_missing_whatever_part_of_the_path_is_absent,
    links_are_followed_and_reported_as_written,
    a_tree_is_listed_by_path_without_kubepkis_own_files,
    a_linked_folder_is_entered_once_and_circles_end,
    a_tree_that_is_too_deep_ends_with_a_reason,
    a_folder_lists_what_lies_directly_in_it_without_content,
    what_is_no_regular_file_is_named_and_never_opened,
    a_file_that_is_too_large_says_its_size,
    a_folder_of_many_files_is_read_completely_and_in_order,
    names_of_any_bytes_come_back_unchanged,
    content_of_any_bytes_comes_back_unchanged,
    many_queries_are_answered_in_order,
    the_machine_tells_its_name_clock_and_user,
);

fn a_file_is_found_with_content_mode_owner_size_and_time(world: &World) {
    world.put("/pki/ca.key", "secret", 0o640);
    world.give("/pki/ca.key", 4711);
    let found = world.file("/pki/ca.key");
    assert_eq!(content(&found), b"secret");
    assert_eq!((found.link.as_deref(), found.path.as_path()), (None, world.path("/pki/ca.key").as_path()));
    let metadata = found.metadata.unwrap();
    assert_eq!((metadata.mode, metadata.uid, metadata.gid, metadata.size), (0o640, 4711, 4711, 6));
    let real = std::fs::metadata(world.at("/pki/ca.key")).unwrap();
    let modified = i128::from(real.mtime()) * 1_000_000_000 + i128::from(real.mtime_nsec());
    assert_eq!(metadata.modified.unix_timestamp_nanos(), modified);
    let found = world.find(Query::Metadata(world.path("/pki/ca.key")));
    assert!(matches!(found.state, FoundState::Unread));
    assert_eq!(found.metadata.unwrap(), metadata);
    assert!(matches!(world.file("/pki").state, FoundState::Directory));
}

fn what_is_not_there_is_missing_whatever_part_of_the_path_is_absent(world: &World) {
    world.put("/etc/file", "", 0o644);
    world.link("/etc/nowhere", "/no/such/file");
    world.link("/etc/circle", "circle");
    let paths = ["/etc/absent", "/no/folder/at/all", "/etc/file/below", "/etc/nowhere", "/etc/circle"];
    let queries: Vec<Query> = paths.iter().map(|path| Query::File(world.path(path))).collect();
    for found in world.node.read(&queries).unwrap() {
        assert!(matches!(found.state, FoundState::Missing), "{found:?}");
        assert!(found.metadata.is_none());
    }
    assert_eq!(world.file("/etc/nowhere").link.unwrap(), world.path("/no/such/file"));
    assert_eq!(world.file("/etc/circle").link.unwrap(), Path::new("circle"));
    assert_eq!(reason(&world.find(Query::File("relative/path".into()))), "not an absolute path");
    assert_eq!(reason(&world.find(Query::File(world.path("/etc/circle/below")))), "too many levels of symbolic links");
    let found = world.read(Query::Tree(world.path("/etc/absent")));
    assert!(matches!(found[..], [kubepki::node::Found { state: FoundState::Missing, .. }]), "{found:?}");
    let found = world.read(Query::Folder(world.path("/etc/file")));
    assert!(
        matches!(found[..], [kubepki::node::Found { state: FoundState::Missing, metadata: None, .. }]),
        "{found:?}"
    );
}

fn links_are_followed_and_reported_as_written(world: &World) {
    world.put("/kubelet/pki/client-2026.pem", "the pair", 0o600);
    world.link("/kubelet/pki/current.pem", "/kubelet/pki/client-2026.pem");
    world.link("/etc/kubelet", "../kubelet");
    for path in
        ["/kubelet/pki/current.pem", "/etc/kubelet/pki/current.pem", "/etc/kubelet/../kubelet/./pki//current.pem"]
    {
        let found = world.file(path);
        assert_eq!(content(&found), b"the pair", "{path}");
        assert_eq!(found.link.unwrap(), world.path("/kubelet/pki/client-2026.pem"));
        assert_eq!(found.metadata.unwrap().mode, 0o600);
    }
    let odd = OsStr::from_bytes(b"a\nb \\ \xff\x81 '\"");
    world.put(Path::new("/odd").join(odd), "x", 0o644);
    std::os::unix::fs::symlink(odd, world.at("/odd/link")).unwrap();
    assert_eq!(world.file("/odd/link").link.unwrap(), odd);
}

fn a_tree_is_listed_by_path_without_kubepkis_own_files(world: &World) {
    let paths =
        ["/pki/sa.pub", "/pki/etcd/ca.crt", "/pki/ca.crt", "/pki/etcd-old.crt", "/pki/etcd/deeper/x", "/pki/.z"];
    for path in paths {
        world.put(path, path, 0o644);
    }
    world.put("/pki/.kubepki/20260102T030405Z-00000000/backup/0001", "old key", 0o600);
    world.put("/pki/.kubepki-0123456789abcdef.tmp", "half a key", 0o600);
    world.folder("/pki/empty", 0o755);
    let found = world.read(Query::Tree(world.path("/pki")));
    let expected =
        ["/pki/.z", "/pki/ca.crt", "/pki/etcd/ca.crt", "/pki/etcd/deeper/x", "/pki/etcd-old.crt", "/pki/sa.pub"];
    assert_eq!(world.paths(&found), expected.map(PathBuf::from));
    for (found, path) in found.iter().zip(expected) {
        assert_eq!(content(found), path.as_bytes());
    }
    assert_eq!(content(&world.find(Query::Tree(world.path("/pki/ca.crt")))), b"/pki/ca.crt");
    let own = world.read(Query::Tree(world.path("/pki/.kubepki")));
    assert_eq!(world.paths(&own), [PathBuf::from("/pki/.kubepki/20260102T030405Z-00000000/backup/0001")]);
}

fn a_linked_folder_is_entered_once_and_circles_end(world: &World) {
    world.put("/srv/pki/ca.crt", "ca", 0o644);
    world.put("/k/pki/own.crt", "own", 0o644);
    world.link("/k/pki/aaa", "own-folder");
    world.put("/k/pki/own-folder/leaf.crt", "leaf", 0o644);
    world.link("/k/pki/shared", "/srv/pki");
    world.link("/srv/pki/back", "/k/pki");
    world.link("/srv/pki/self", ".");
    let found = world.read(Query::Tree(world.path("/k/pki")));
    let expected = ["/k/pki/own-folder/leaf.crt", "/k/pki/own.crt", "/k/pki/shared/ca.crt"];
    assert_eq!(world.paths(&found), expected.map(PathBuf::from));
    world.link("/pki", "/k/pki");
    let found = world.read(Query::Tree(world.path("/pki")));
    assert_eq!(world.paths(&found)[0], Path::new("/pki/own-folder/leaf.crt"), "the top itself may be a link");
    assert_eq!(found.len(), 3);
}

fn a_tree_that_is_too_deep_ends_with_a_reason(world: &World) {
    let deep: PathBuf = std::iter::once("/pki").chain(std::iter::repeat_n("d", 80)).collect();
    world.put(deep.join("x.crt"), "x", 0o644);
    let found = world.read(Query::Tree(world.path("/pki")));
    assert_eq!(found.len(), 1);
    assert_eq!(reason(&found[0]), "more than 64 folders deep");
}

fn a_folder_lists_what_lies_directly_in_it_without_content(world: &World) {
    world.put("/kubepki/b/journal.json", "{}", 0o600);
    world.put("/kubepki/a", "x", 0o600);
    world.link("/kubepki/c", "b");
    let found = world.node.read(&[Query::Folder(world.path("/kubepki")), Query::Folder(world.path("/none"))]).unwrap();
    assert_eq!(world.paths(&found), ["/kubepki/a", "/kubepki/b", "/kubepki/c", "/none"].map(PathBuf::from));
    assert!(matches!(found[0].state, FoundState::Unread));
    assert!(matches!((&found[1].state, &found[1].link), (FoundState::Directory, None)));
    assert!(matches!((&found[2].state, &found[2].link), (FoundState::Directory, Some(_))));
    assert!(matches!(found[3].state, FoundState::Missing));
}

fn what_is_no_regular_file_is_named_and_never_opened(world: &World) {
    world.folder("/pki", 0o755);
    mknodat(CWD, world.at("/pki/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _listener = UnixListener::bind(world.at("/pki/socket")).unwrap();
    world.link("/pki/to-pipe", "pipe");
    // A pipe that nobody writes to would block whoever opens it.
    let found = world.read(Query::Tree(world.path("/pki")));
    assert_eq!(world.paths(&found), ["/pki/pipe", "/pki/socket", "/pki/to-pipe"].map(PathBuf::from));
    for found in &found {
        assert_eq!(reason(found), "not a regular file");
        assert_eq!(reason(&world.find(Query::File(found.path.clone()))), "not a regular file");
    }
}

fn a_file_that_is_too_large_says_its_size(world: &World) {
    world.put("/pki/huge", "", 0o644);
    world.put("/pki/small", "x", 0o644);
    let file = std::fs::File::options().write(true).open(world.at("/pki/huge")).unwrap();
    file.set_len(LARGEST_FILE + 1).unwrap();
    let found = world.read(Query::Tree(world.path("/pki")));
    assert_eq!(reason(&found[0]), "too large to be a certificate or key: 67108865 bytes");
    assert_eq!(found[0].metadata.as_ref().unwrap().size, LARGEST_FILE + 1);
    assert_eq!(content(&found[1]), b"x");
}

fn a_folder_of_many_files_is_read_completely_and_in_order(world: &World) {
    let names: Vec<PathBuf> = (0..700).map(|number| PathBuf::from(format!("/pki/{number:05}.crt"))).collect();
    for name in &names {
        world.put(name, name.as_os_str().as_bytes(), 0o644);
    }
    let found = world.read(Query::Tree(world.path("/pki")));
    assert_eq!(world.paths(&found), names);
    for (found, name) in found.iter().zip(&names) {
        assert_eq!(content(found), name.as_os_str().as_bytes());
    }
}

fn names_of_any_bytes_come_back_unchanged(world: &World) {
    let every: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    let (low, high) = every.split_at(127);
    let names: [&[u8]; 14] = [
        low,
        high,
        b"-rf",
        b"--help",
        b" leading",
        b"trailing ",
        b"line\nbreak\n",
        b"\n",
        b"*",
        b"[a]*?",
        b"'quote\"",
        b"$(id)`id`$HOME",
        b"back\\slash\\0101",
        b"\xff\xfe\x81\x88",
    ];
    for (number, name) in names.iter().enumerate() {
        world.put(Path::new("/odd").join(OsStr::from_bytes(name)), number.to_string(), 0o644);
    }
    let found = world.read(Query::Tree(world.path("/odd")));
    let mut expected: Vec<PathBuf> =
        names.iter().map(|name| world.path("/odd").join(OsStr::from_bytes(name))).collect();
    expected.sort();
    assert_eq!(found.iter().map(|found| found.path.clone()).collect::<Vec<_>>(), expected);
    for (number, name) in names.iter().enumerate() {
        let path = world.path("/odd").join(OsStr::from_bytes(name));
        assert_eq!(
            content(&world.find(Query::File(path.clone()))),
            number.to_string().as_bytes(),
            "{}",
            path.display()
        );
        let absent = Query::File(world.path("/none").join(OsStr::from_bytes(name)));
        assert!(matches!(world.find(absent).state, FoundState::Missing), "{}", path.display());
    }
}

fn content_of_any_bytes_comes_back_unchanged(world: &World) {
    let every: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let contents: [&[u8]; 6] = [b"", b"\n", b"\0", b"no line end", b"\nT 0123456789abcdef\nend\n", &every];
    for (number, content) in contents.iter().enumerate() {
        world.put(format!("/pki/{number}"), content, 0o600);
    }
    let found = world.read(Query::Tree(world.path("/pki")));
    assert_eq!(found.iter().map(content).collect::<Vec<_>>(), contents);
}

fn many_queries_are_answered_in_order(world: &World) {
    for number in 0..40 {
        world.put(format!("/files/{number}"), number.to_string(), 0o644);
    }
    let mut queries = vec![Query::File("".into())];
    for number in (0..40).rev() {
        queries.push(Query::File(world.path(format!("/files/{number}"))));
        queries.push(Query::Metadata(world.path(format!("/files/absent {number}"))));
    }
    let found = world.node.read(&queries).unwrap();
    assert_eq!(found.len(), 81);
    assert_eq!(reason(&found[0]), "not an absolute path");
    for (pair, number) in found[1..].chunks(2).zip((0..40).rev()) {
        assert_eq!(content(&pair[0]), number.to_string().as_bytes());
        assert!(matches!(pair[1].state, FoundState::Missing));
    }
    assert!(world.node.read(&[]).unwrap().is_empty());
}

fn the_machine_tells_its_name_clock_and_user(world: &World) {
    let before = std::time::Instant::now();
    let facts = world.node.facts().unwrap();
    // The same clock, so the difference is what measuring got wrong: half of the way, and of a second where whole ones
    // are counted.
    let most = before.elapsed() + std::time::Duration::from_secs(1);
    assert!(facts.clock_skew.unsigned_abs() < most, "{}", facts.clock_skew);
    assert_eq!(facts.uid, 0);
    assert!(!facts.host_name.is_empty());
    assert!(facts.addresses.iter().all(|address| !address.is_loopback()));
}

//! The wire breaks, or the machine dies, at every point of every change: the file is the old or the new one, never half
//! of one, and what is left lying about goes with the next run.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use kubepki::node::ssh::{SshNode, SshOptions};
use kubepki::node::{Content, Effect, Node, Query};

use crate::proxy::{Direction, Proxy};
use crate::server::{Server, can_run, nobody};

/// A server behind a wire, and a folder to write to.
struct Scene {
    server: Server,
    proxy: Proxy,
    options: SshOptions,
}

impl Scene {
    fn new() -> Self {
        let server = Server::start();
        let proxy = Proxy::to(server.port());
        let mut options = server.options("root");
        let known = fs::read_to_string(server.at("known_hosts")).unwrap();
        let through = known.replace(&server.port().to_string(), &proxy.port().to_string());
        fs::write(server.at("known_hosts"), known + &through).unwrap();
        options.port = Some(proxy.port());
        fs::create_dir(server.at("pki")).unwrap();
        Self { server, proxy, options }
    }

    /// A node that is connected through the wire.
    fn connected(&self) -> SshNode {
        self.proxy.count_from_now(Direction::ToServer, None);
        self.proxy.count_from_now(Direction::ToClient, None);
        let node = SshNode::new("cp1", self.options.clone(), &nobody());
        node.connect().unwrap();
        node
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.server.at("pki")).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Tidies up as the next run does, and waits for a script that has not noticed yet that nobody listens.
    fn swept(&self, path: &Path) -> Vec<String> {
        let node = self.server.node("root");
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            node.apply(&Effect::Sweep { path }).unwrap();
            let names = self.names();
            if !names.iter().any(|name| name.starts_with(".kubepki-")) || Instant::now() > limit {
                return names;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Some points of a stretch: its first and last bytes, and evenly spread ones between.
fn points(length: usize, count: usize) -> Vec<usize> {
    let mut points: Vec<usize> = (0..count).map(|number| number * length / count).collect();
    points.extend([1, 2, length.saturating_sub(2), length.saturating_sub(1)]);
    points.sort_unstable();
    points.dedup();
    points
}

#[test]
fn an_upload_that_is_cut_anywhere_leaves_the_old_file_or_the_new_one() {
    if !can_run("an_upload_that_is_cut_anywhere_leaves_the_old_file_or_the_new_one") {
        return;
    }
    let scene = Scene::new();
    let path = scene.server.at("pki/ca.key");
    let old: Vec<u8> = b"old ".repeat(10_000);
    let new: Vec<u8> = b"new!".repeat(50_000);
    let put = Effect::Install { path: &path, content: Content::Bytes(&new), mode: 0o600, owner: None };
    let mut length = 0;
    let mut seen = [0, 0];
    for direction in [Direction::ToServer, Direction::ToClient] {
        // How much a whole one takes.
        let node = scene.connected();
        node.facts().unwrap();
        scene.proxy.count_from_now(direction, None);
        node.apply(&put).unwrap();
        let whole = scene.proxy.passed(direction);
        length += whole;
        for point in points(whole, if direction == Direction::ToServer { 40 } else { 12 }) {
            fs::write(&path, &old).unwrap();
            let node = scene.connected();
            node.facts().unwrap();
            scene.proxy.count_from_now(direction, Some(point));
            let result = node.apply(&put);
            assert_eq!(scene.swept(&path), ["ca.key"], "cut after {point} bytes {direction:?}");
            let found = fs::read(&path).unwrap();
            assert!(found == old || found == new, "torn after {point} bytes {direction:?}: {} bytes", found.len());
            match result {
                // Cut before the other side knew of anything, so a new connection was as good, or after its answer.
                Ok(()) => assert!(found == new, "success was reported for nothing"),
                Err(error) => assert!(error.to_string().contains("cp1: the connection broke"), "{error}"),
            }
            seen[usize::from(found == new)] += 1;
            // The same command again ends it.
            scene.proxy.count_from_now(direction, None);
            node.apply(&put).unwrap();
            assert!(fs::read(&path).unwrap() == new);
        }
    }
    assert!(length > new.len(), "the wire carried nothing");
    assert!(seen[0] > 20 && seen[1] > 0, "{seen:?}: the cuts were all on one side of the change");
}

#[test]
fn every_other_change_is_made_or_not_made_when_the_wire_is_cut() {
    if !can_run("every_other_change_is_made_or_not_made_when_the_wire_is_cut") {
        return;
    }
    let scene = Scene::new();
    let at = |name: &str| scene.server.at(&format!("pki/{name}"));
    let (link, file, folder, own, copy) = (at("link"), at("file"), at("a/b/c"), at("kubepki"), at("copy"));
    let before = || {
        for name in scene.names() {
            let path = at(&name);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        std::os::unix::fs::symlink("old", &link).unwrap();
        fs::write(&file, "content").unwrap();
        fs::write(&copy, "old").unwrap();
        fs::create_dir(&own).unwrap();
        fs::write(own.join("journal"), "x").unwrap();
    };
    let shown = |path: &PathBuf| match fs::read_link(path) {
        Ok(target) => target.display().to_string(),
        Err(_) if path.is_dir() => "folder".to_owned(),
        Err(_) => fs::read_to_string(path).unwrap_or_default(),
    };
    let content = Content::FileOnNode(&file);
    let changes: [(Effect<'_>, &PathBuf, [&str; 2]); 5] = [
        (Effect::Link { path: &link, target: Path::new("new") }, &link, ["old", "new"]),
        (Effect::Remove { path: &file }, &file, ["content", ""]),
        (Effect::MakeDirectory { path: &folder, mode: 0o700 }, &folder, ["", "folder"]),
        (Effect::RemoveTree { path: &own }, &own, ["folder", ""]),
        (Effect::Install { path: &copy, content, mode: 0o600, owner: None }, &copy, ["old", "content"]),
    ];
    for (effect, path, states) in changes {
        for direction in [Direction::ToServer, Direction::ToClient] {
            before();
            let node = scene.connected();
            node.facts().unwrap();
            scene.proxy.count_from_now(direction, None);
            node.apply(&effect).unwrap();
            assert_eq!(shown(path), states[1], "{effect:?}");
            for point in points(scene.proxy.passed(direction), 6) {
                before();
                let node = scene.connected();
                node.facts().unwrap();
                scene.proxy.count_from_now(direction, Some(point));
                let result = node.apply(&effect);
                let names = scene.swept(path);
                assert!(!names.iter().any(|name| name.starts_with(".kubepki-")), "{effect:?}: {names:?}");
                let state = shown(path);
                assert!(states.contains(&state.as_str()), "{effect:?} cut after {point}: {state}");
                assert!(result.is_err() || state == states[1], "{effect:?}: success was reported for nothing");
                scene.proxy.count_from_now(direction, None);
                node.apply(&effect).unwrap();
                assert_eq!(shown(path), states[1], "{effect:?}");
            }
        }
    }
}

#[test]
fn a_machine_that_dies_during_an_upload_has_the_old_file_or_the_new_one() {
    if !can_run("a_machine_that_dies_during_an_upload_has_the_old_file_or_the_new_one") {
        return;
    }
    let folder = tempfile::Builder::new().prefix("kubepki-files-").tempdir_in("/run").unwrap();
    let path = folder.path().join("ca.key");
    let old: Vec<u8> = b"old ".repeat(500_000);
    let new: Vec<u8> = b"new!".repeat(2_000_000);
    let put = Effect::Install { path: &path, content: Content::Bytes(&new), mode: 0o600, owner: None };
    let mut left_over = 0;
    for round in 0..12 {
        fs::write(&path, &old).unwrap();
        let mut server = Server::start();
        let node = server.node("root");
        node.facts().unwrap();
        // All its processes end at once, the script too, so nobody tidies up: the later the round, the later that is.
        let moment = usize::try_from(round).unwrap() * new.len() / 8;
        let result = thread::scope(|scope| {
            let upload = scope.spawn(|| node.apply(&put));
            let limit = Instant::now() + Duration::from_secs(60);
            while largest_temporary(folder.path()) < moment as u64 && !upload.is_finished() && Instant::now() < limit {
                thread::yield_now();
            }
            server.kill();
            upload.join().unwrap()
        });
        let found = fs::read(&path).unwrap();
        assert!(found == old || found == new, "torn: {} bytes", found.len());
        assert!(result.is_err() || found == new, "success was reported for nothing");
        let names = || fs::read_dir(folder.path()).unwrap().count();
        left_over += names() - 1;
        let again = Server::start();
        again.node("root").apply(&Effect::Sweep { path: &path }).unwrap();
        assert_eq!(names(), 1);
    }
    assert!(left_over > 0, "no round died in the middle of the upload");
}

/// The length of the largest temporary file.
fn largest_temporary(folder: &Path) -> u64 {
    let temporary = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(".kubepki-");
    let entries = fs::read_dir(folder).unwrap().filter_map(Result::ok);
    let lengths = entries.filter(|entry| temporary(&entry.file_name())).filter_map(|entry| entry.metadata().ok());
    lengths.map(|metadata| metadata.len() + 1).max().unwrap_or(0)
}

#[test]
fn reading_goes_on_through_a_new_connection() {
    if !can_run("reading_goes_on_through_a_new_connection") {
        return;
    }
    let scene = Scene::new();
    fs::write(scene.server.at("pki/ca.crt"), "public").unwrap();
    let node = scene.connected();
    for _ in 0..3 {
        let found = node.read(&[Query::File(scene.server.at("pki/ca.crt"))]).unwrap();
        assert_eq!(crate::worlds::content(&found[0]), b"public");
        scene.proxy.cut_all();
    }
    // In the middle of an answer too.
    fs::write(scene.server.at("pki/ca.crt"), "public ".repeat(100_000)).unwrap();
    let node = scene.connected();
    node.facts().unwrap();
    scene.proxy.count_from_now(Direction::ToClient, Some(200_000));
    let found = thread::scope(|scope| {
        let reading = scope.spawn(|| node.read(&[Query::File(scene.server.at("pki/ca.crt"))]));
        while scene.proxy.passed(Direction::ToClient) < 200_000 {
            thread::yield_now();
        }
        scene.proxy.count_from_now(Direction::ToClient, None);
        reading.join().unwrap()
    });
    // Whether the wire is whole again in time is chance; a wrong answer never is.
    match found {
        Ok(found) => assert_eq!(crate::worlds::content(&found[0]).len(), 700_000),
        Err(error) => assert!(
            error.to_string().contains("the connection broke") || error.to_string().contains("talk SSH"),
            "{error}"
        ),
    }
    assert_eq!(
        crate::worlds::content(&node.read(&[Query::File(scene.server.at("pki/ca.crt"))]).unwrap()[0]).len(),
        700_000
    );
}

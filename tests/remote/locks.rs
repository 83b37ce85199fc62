//! Scenarios and accidents of the lock: held, named, given back, lost with its connection, broken on purpose.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kubepki::error::hints;
use kubepki::node::local::LocalNode;
use kubepki::node::ssh::{SshNode, SshOptions};
use kubepki::node::{Content, Effect, LockOwner, Node};
use time::macros::datetime;

use crate::proxy::Proxy;
use crate::server::{Server, can_run, nobody};
use crate::worlds::{World, on_every_node};

on_every_node!(
    a_held_lock_is_named_and_given_back,
    lock_and_folder_are_private,
    what_kubepki_did_not_make_is_no_lock,
    a_lock_that_nobody_holds_is_taken_over,
    several_locks_of_one_node_stand_beside_each_other,
);

const LOCK: &str = "/k/tmp/kubepki/lock";

fn owner(command: &str) -> LockOwner {
    LockOwner {
        command: command.to_owned(),
        who: "admin@workstation".to_owned(),
        pid: 4242,
        since: datetime!(2026-01-02 03:04:05 UTC),
    }
}

fn refusal(node: &dyn Node, path: &Path) -> String {
    let later = LockOwner { since: owner("").since + time::Duration::minutes(12), ..owner("create-certs") };
    let error = node.lock(path, &later).unwrap_err();
    format!("{error:#} [{}]", hints(&error).join("; "))
}

/// Waits for something that another process does.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < limit, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn a_held_lock_is_named_and_given_back(world: &World) {
    let path = world.path(LOCK);
    let guard = world.node.lock(&path, &owner("rotate-certs")).unwrap();
    let text = refusal(world.another().as_ref(), &path);
    for part in [
        "cp1: kubepki rotate-certs is already running here",
        "admin@workstation (process 4242)",
        "2026-01-02T03:04:05Z, 12 min ago",
        &path.display().to_string(),
        "wait until it has ended, or end process 4242 of admin@workstation",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    // The holder itself may go on.
    let file = world.path("/k/file");
    world.apply(&Effect::Install { path: &file, content: Content::Bytes(b"x"), mode: 0o600, owner: None }).unwrap();
    drop(guard);
    assert!(world.names("/k/tmp/kubepki").is_empty(), "given back, the file goes too");
    drop(world.another().lock(&path, &owner("create-certs")).unwrap());
}

fn lock_and_folder_are_private(world: &World) {
    let _guard = world.node.lock(&world.path(LOCK), &owner("rotate-certs")).unwrap();
    let mode = if world.has_flock() || world.is_here() { 0o600 } else { 0o700 };
    assert_eq!((world.mode("/k/tmp"), world.mode("/k/tmp/kubepki"), world.mode(LOCK)), (0o700, 0o700, mode));
}

fn what_kubepki_did_not_make_is_no_lock(world: &World) {
    world.folder("/k/tmp/kubepki", 0o700);
    world.link(LOCK, "elsewhere");
    let text = refusal(world.node.as_ref(), &world.path(LOCK));
    for part in ["cp1: cannot lock", "it is a symbolic link", "kubepki did not make it"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    fs::remove_file(world.at(LOCK)).unwrap();
    if world.has_flock() || world.is_here() {
        world.put(LOCK, "", 0o666);
        world.give(LOCK, 4711);
        let text = refusal(world.node.as_ref(), &world.path(LOCK));
        assert!(text.contains("it belongs to user 4711"), "{text}");
    } else {
        // Nobody can tell here whether a file is locked.
        world.put(LOCK, serde_json::to_vec(&owner("rotate-certs")).unwrap(), 0o600);
        let text = refusal(world.node.as_ref(), &world.path(LOCK));
        assert!(text.contains("kubepki rotate-certs is already running here"), "{text}");
    }
    assert_eq!(world.names("/k/tmp/kubepki"), ["lock"]);
}

fn a_lock_that_nobody_holds_is_taken_over(world: &World) {
    let text = serde_json::to_vec(&owner("rotate-certs")).unwrap();
    if world.has_flock() || world.is_here() {
        world.put(LOCK, text, 0o600);
    } else if world.has_proc() {
        world.put(format!("{LOCK}/owner"), text, 0o600);
        // A process of that number exists, but it is another one.
        world.put(format!("{LOCK}/holder"), "1 1 00000000-0000-0000-0000-000000000000\n", 0o600);
    } else {
        return;
    }
    drop(world.node.lock(&world.path(LOCK), &owner("create-certs")).unwrap());
    assert!(world.names("/k/tmp/kubepki").is_empty());
}

fn several_locks_of_one_node_stand_beside_each_other(world: &World) {
    let first = world.node.lock(&world.path(LOCK), &owner("rotate-certs")).unwrap();
    let second = world.node.lock(&world.path("/pki/.kubepki/lock"), &owner("rotate-certs")).unwrap();
    let file = world.path("/k/file");
    let put = || world.apply(&Effect::Install { path: &file, content: Content::Bytes(b"x"), mode: 0o600, owner: None });
    put().unwrap();
    drop(first);
    put().unwrap();
    assert!(refusal(world.another().as_ref(), &world.path("/pki/.kubepki/lock")).contains("already running here"));
    drop(second);
    put().unwrap();
}

#[test]
fn locks_over_ssh_and_on_the_machine_itself_exclude_each_other() {
    if !can_run("locks_over_ssh_and_on_the_machine_itself_exclude_each_other") {
        return;
    }
    let server = Server::start();
    let (here, there) = (LocalNode::open("cp1", "/").unwrap(), server.node("root"));
    let path = server.at("kubepki/lock");
    let guard = there.lock(&path, &owner("rotate-certs")).unwrap();
    let text = refusal(&here, &path);
    assert!(text.contains("kubepki rotate-certs is already running here"), "{text}");
    assert!(text.contains("kill ") && text.contains("on the node"), "{text}");
    drop(guard);
    let guard = here.lock(&path, &owner("rotate-certs")).unwrap();
    assert!(refusal(&there, &path).contains("kubepki rotate-certs is already running here"));
    drop(guard);
    drop(there.lock(&path, &owner("rotate-certs")).unwrap());
}

#[test]
fn a_lock_is_lost_with_its_connection_and_nothing_is_written_without_it() {
    if !can_run("a_lock_is_lost_with_its_connection_and_nothing_is_written_without_it") {
        return;
    }
    let server = Server::start();
    let proxy = Proxy::to(server.port());
    let mut options = server.options("root");
    let known = fs::read_to_string(options.known_hosts_file.as_ref().unwrap()).unwrap();
    let through = known.replace(&server.port().to_string(), &proxy.port().to_string());
    fs::write(server.at("known_hosts"), known + &through).unwrap();
    options.port = Some(proxy.port());
    let first = SshNode::new("cp1", options, &nobody());
    let path = server.at("kubepki/lock");
    let guard = first.lock(&path, &owner("rotate-certs")).unwrap();
    proxy.cut_all();
    wait_for("the lock to be given back", || !path.exists());
    let file = server.at("file");
    let put = |node: &SshNode| {
        node.apply(&Effect::Install { path: &file, content: Content::Bytes(b"x"), mode: 0o600, owner: None })
    };
    // Another run begins before the first one notices.
    let second = server.node("root");
    let others = second.lock(&path, &owner("create-certs")).unwrap();
    for _ in 0..2 {
        let text = format!("{:#}", put(&first).unwrap_err());
        assert!(text.contains("cp1: the connection broke"), "{text}");
        assert!(!file.exists());
    }
    put(&second).unwrap();
    drop(others);
    let text = format!("{:#}", put(&first).unwrap_err());
    assert!(text.contains("and with it the lock of this operation"), "{text}");
    drop(guard);
    put(&first).unwrap();
}

#[test]
fn a_holder_that_falls_silent_loses_the_lock() {
    if !can_run("a_holder_that_falls_silent_loses_the_lock") {
        return;
    }
    let server = Server::start();
    let proxy = Proxy::to(server.port());
    let options = server.options("root");
    let known = fs::read_to_string(server.at("known_hosts")).unwrap();
    fs::write(server.at("known_hosts"), known.replace(&server.port().to_string(), &proxy.port().to_string())).unwrap();
    let keepalive = Duration::from_millis(300);
    let options = SshOptions { port: Some(proxy.port()), keepalive, ..options };
    let node = SshNode::new("cp1", options, &nobody());
    let path = server.at("kubepki/lock");
    let guard = node.lock(&path, &owner("rotate-certs")).unwrap();
    // As long as the holder is there it keeps the lock, however little it does.
    std::thread::sleep(Duration::from_secs(4));
    assert!(path.exists(), "signs of life keep the lock");
    // Nothing arrives any more, and nobody is told that the connection is dead.
    proxy.hold_everything();
    wait_for("the lock to be given back", || !path.exists());
    proxy.cut_all();
    drop(guard);
}

#[test]
fn a_lock_can_be_broken_on_purpose() {
    if !can_run("a_lock_can_be_broken_on_purpose") {
        return;
    }
    let server = Server::start();
    let node = server.node("root");
    let path = server.at("kubepki/lock");
    let guard = node.lock(&path, &owner("rotate-certs")).unwrap();
    let text = refusal(&server.node("root"), &path);
    let holder = text.split("kill ").nth(1).unwrap().split(' ').next().unwrap();
    // The number is one of the server's own namespace: there it has to be used.
    let kill = server.enter(&["kill", holder]);
    assert!(kill.status.success(), "{kill:?}");
    let others = {
        let mut others = None;
        wait_for("the lock to be free", || {
            others = server.node("root").lock(&path, &owner("create-certs")).ok();
            others.is_some()
        });
        others
    };
    let file = server.at("file");
    let put = Effect::Install { path: &file, content: Content::Bytes(b"x"), mode: 0o600, owner: None };
    assert!(format!("{:#}", node.apply(&put).unwrap_err()).contains("the lock of this operation"));
    drop(others);
    drop(guard);
    node.apply(&put).unwrap();
}

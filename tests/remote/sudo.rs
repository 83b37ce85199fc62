//! Users who are not root: sudo without a password, everything that can be in its way, and no sudo at all.

use std::fs;
use std::path::Path;

use kubepki::error::hints;
use kubepki::node::ssh::{SshNode, SshOptions, Sudo};
use kubepki::node::{Content, Effect, FoundState, Node, Query};

use crate::server::{Server, Setup, can_run, nobody};

fn refusal(options: SshOptions) -> String {
    let node = SshNode::new("cp1", options, &nobody());
    let error = node.facts().unwrap_err();
    format!("{error:#} [{}]", hints(&error).join("; "))
}

fn uid(options: SshOptions) -> u32 {
    SshNode::new("cp1", options, &nobody()).facts().unwrap().uid
}

#[test]
fn sudo_is_used_when_needed_always_or_never() {
    if !can_run("sudo_is_used_when_needed_always_or_never") {
        return;
    }
    let server = Server::start();
    let cases =
        [("root", Sudo::Auto, 0), ("root", Sudo::Always, 0), ("ops", Sudo::Auto, 0), ("ops", Sudo::Never, 6001)];
    for (user, sudo, expected) in cases {
        assert_eq!(uid(SshOptions { sudo, ..server.options(user) }), expected, "{user} {sudo:?}");
    }
}

#[test]
fn a_password_is_never_asked_for_and_the_refusal_says_how_to_do_without() {
    if !can_run("a_password_is_never_asked_for_and_the_refusal_says_how_to_do_without") {
        return;
    }
    let server = Server::start();
    for user in ["typist", "guest"] {
        let text = refusal(server.options(user));
        for part in ["cp1: sudo asks for a password", "NOPASSWD", "log in as root"] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
}

#[test]
fn other_obstacles_before_root_are_told_apart() {
    if !can_run("other_obstacles_before_root_are_told_apart") {
        return;
    }
    let sudoers = "Defaults:ops requiretty\nguest ALL=(ALL) NOPASSWD: /bin/true\n".to_owned();
    let server = Server::with(&Setup { sudoers, ..Setup::default() });
    assert!(refusal(server.options("ops")).contains("requiretty"));
    assert!(refusal(server.options("guest")).contains("NOPASSWD"));
    let prepare = "mkdir -p $FOLDER/files/bin $FOLDER/files/dev; cp /bin/busybox $FOLDER/files/bin\n\
                   chroot $FOLDER/files /bin/busybox --install -s /bin; mknod -m 666 $FOLDER/files/dev/null c 1 3\n\
                   cp $FOLDER/files/bin/busybox $FOLDER/files/bin/bash";
    let config = "ChrootDirectory $FOLDER/files".to_owned();
    let server = Server::with(&Setup { config, prepare: prepare.to_owned(), ..Setup::default() });
    let text = refusal(server.options("guest"));
    assert!(text.contains("the user is not root and there is no sudo"), "{text}");
}

#[test]
fn a_login_shell_that_runs_nothing_is_named() {
    if !can_run("a_login_shell_that_runs_nothing_is_named") {
        return;
    }
    let prepare = "mount --bind /usr/sbin/nologin /bin/dash".to_owned();
    let server = Server::with(&Setup { prepare, ..Setup::default() });
    let text = refusal(server.options("guest"));
    assert!(text.contains("the login shell does not run commands"), "{text}");
    let server = Server::with(&Setup { config: "ForceCommand echo only this".to_owned(), ..Setup::default() });
    let text = refusal(server.options("root"));
    assert!(text.contains("the login shell does not run commands") && text.contains("exit status 0"), "{text}");
}

#[test]
fn without_sudo_a_user_does_what_a_user_may() {
    if !can_run("without_sudo_a_user_does_what_a_user_may") {
        return;
    }
    let server = Server::start();
    let node = SshNode::new("cp1", SshOptions { sudo: Sudo::Never, ..server.options("guest") }, &nobody());
    fs::create_dir_all(server.at("pki/private")).unwrap();
    fs::write(server.at("pki/private/x"), "x").unwrap();
    fs::write(server.at("pki/ca.key"), "secret").unwrap();
    fs::write(server.at("pki/ca.crt"), "public").unwrap();
    fs::set_permissions(server.at("pki/private"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    fs::set_permissions(server.at("pki/ca.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let queries = [Query::Tree(server.at("pki")), Query::File(server.at("pki/private/x"))];
    let found = node.read(&queries).unwrap();
    let paths: Vec<_> = found.iter().map(|found| found.path.strip_prefix(server.folder.path()).unwrap()).collect();
    assert_eq!(paths, ["pki/ca.crt", "pki/ca.key", "pki/private", "pki/private/x"].map(Path::new));
    assert!(matches!(&found[0].state, FoundState::File(content) if &***content == b"public"));
    for found in &found[1..] {
        assert!(matches!(&found.state, FoundState::Unreadable(reason) if reason == "permission denied"), "{found:?}");
    }
    assert_eq!(found[1].metadata.as_ref().unwrap().mode, 0o600);

    let put =
        |path: &Path| node.apply(&Effect::Install { path, content: Content::Bytes(b"mine"), mode: 0o600, owner: None });
    let text = format!("{:#}", put(&server.at("pki/ca.crt")).unwrap_err());
    assert!(text.contains("cannot create a temporary file for") && text.contains("permission denied"), "{text}");
    assert_eq!(fs::read(server.at("pki/ca.crt")).unwrap(), b"public");
    put(&server.at("guest/own.key")).unwrap();
    assert_eq!(fs::read(server.at("guest/own.key")).unwrap(), b"mine");
    let owner = Some(kubepki::node::Owner { uid: 0, gid: 0 });
    let content = Content::Bytes(b"x");
    let path = server.at("guest/own.key");
    let error = node.apply(&Effect::Install { path: &path, content, mode: 0o600, owner }).unwrap_err();
    assert!(format!("{error:#}").contains("cannot give user 0 and group 0 the file"), "{error:#}");
    assert_eq!(fs::read(server.at("guest/own.key")).unwrap(), b"mine");
    let names: Vec<_> = fs::read_dir(server.at("guest")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

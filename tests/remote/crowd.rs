//! Many machines at once.

use std::fs;

use kubepki::node::ssh::{SshNode, SshOptions};
use kubepki::node::{Content, Effect, Node, Query};

use crate::server::{Server, Setup, can_run, nobody};

#[test]
fn a_hundred_sessions_work_side_by_side() {
    if !can_run("a_hundred_sessions_work_side_by_side") {
        return;
    }
    let server = Server::with(&Setup { ports: 10, ..Setup::default() });
    fs::create_dir(server.at("pki")).unwrap();
    fs::write(server.at("pki/ca.crt"), "public").unwrap();
    let access = nobody();
    let nodes: Vec<SshNode> = (0..100)
        .map(|number| {
            let port = Some(server.ports[number % server.ports.len()]);
            SshNode::new(format!("n{number}"), SshOptions { port, ..server.options("root") }, &access)
        })
        .collect();
    // All are connected before any is used.
    std::thread::scope(|scope| {
        for group in nodes.chunks(10) {
            scope.spawn(|| group.iter().for_each(|node| node.connect().unwrap()));
        }
    });
    std::thread::scope(|scope| {
        for (number, node) in nodes.iter().enumerate() {
            let server = &server;
            scope.spawn(move || {
                let found = node.read(&[Query::File(server.at("pki/ca.crt"))]).unwrap();
                assert_eq!(crate::worlds::content(&found[0]), b"public");
                let path = server.at(&format!("pki/{number}.key"));
                let content = node.name().as_bytes();
                node.apply(&Effect::Install {
                    path: &path,
                    content: Content::Bytes(content),
                    mode: 0o600,
                    owner: None,
                })
                .unwrap();
            });
        }
    });
    for number in 0..100 {
        assert_eq!(fs::read_to_string(server.at(&format!("pki/{number}.key"))).unwrap(), format!("n{number}"));
    }
    assert_eq!(server.log().matches("Accepted publickey").count(), 100);
}

#[test]
fn a_server_that_turns_connections_away_is_asked_again() {
    if !can_run("a_server_that_turns_connections_away_is_asked_again") {
        return;
    }
    // Every second connection beyond three that have not logged in yet is dropped.
    let server = Server::with(&Setup { config: "MaxStartups 3:50:1000".to_owned(), ..Setup::default() });
    let access = nobody();
    std::thread::scope(|scope| {
        for number in 0..12 {
            let (server, access) = (&server, &access);
            scope.spawn(move || {
                SshNode::new(format!("n{number}"), server.options("root"), access).connect().unwrap();
            });
        }
    });
}

//! Connections to servers as the node sees them: on this machine and through SSH logins, beside everything else that
//! happens on the node.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kubepki::node::local::LocalNode;
use kubepki::node::probe::{self, Endpoint};
use kubepki::node::ssh::{SshNode, SshOptions};
use kubepki::node::wire::{NoWire, Wire};
use kubepki::node::{LockOwner, Node, Query};
use time::macros::datetime;

use crate::proxy::Proxy;
use crate::server::{Server, Setup, can_run, nobody};

const LIMIT: Duration = Duration::from_secs(60);

/// A server that sends back whatever it gets, and its port.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut &stream, &mut back);
                let _ = back.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    port
}

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Sends `bytes` over a new connection and expects them back.
fn prove_echo(node: &dyn Node, port: u16, bytes: &[u8]) {
    let mut wire = node.dial("127.0.0.1", port, LIMIT).unwrap();
    wire.set_patience(Some(LIMIT)).unwrap();
    let mut back = Vec::new();
    for chunk in bytes.chunks(10_000) {
        wire.write_all(chunk).unwrap();
        let mut answer = vec![0; chunk.len()];
        wire.read_exact(&mut answer).unwrap();
        back.extend_from_slice(&answer);
    }
    assert!(back == bytes, "the bytes changed on their way");
}

/// An `openssl s_server` with a certificate of its own.
struct Tls {
    child: Child,
    port: u16,
}

impl Tls {
    fn start(folder: &Path, common_name: &str) -> Self {
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-days", "30", "-subj", &format!("/CN={common_name}"), "-out"])
            .arg(&certificate)
            .arg("-keyout")
            .arg(&key)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = closed_port();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert"])
            .arg(&certificate)
            .arg("-key")
            .arg(&key)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let limit = Instant::now() + LIMIT;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < limit, "openssl s_server does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn logins(server: &Server) -> usize {
    server.log().matches("Accepted publickey for").count()
}

/// The words of a failure that says nothing about the port.
#[track_caller]
fn unknown(answer: Result<Box<dyn Wire>, NoWire>) -> String {
    match answer.unwrap_err() {
        NoWire::Unknown(words) => words,
        NoWire::Closed(words) => panic!("it counts as closed: {words}"),
    }
}

/// How many connections sshd was asked to make to `port`.
fn forwarded(server: &Server, port: u16) -> usize {
    server.log().matches(&format!("target 127.0.0.1 port {port}")).count()
}

#[test]
fn this_machine_connects_by_itself_and_a_mounted_root_does_not() {
    let port = echo();
    let here = LocalNode::open("cp1", "/").unwrap();
    prove_echo(&here, port, &vec![7; 100_000]);
    let said = here.dial("127.0.0.1", closed_port(), LIMIT).unwrap_err();
    assert_eq!(said, NoWire::Closed("nothing listens there: connection refused".to_owned()));
    let folder = tempfile::tempdir().unwrap();
    let mounted = LocalNode::open("cp1", folder.path()).unwrap();
    let said = unknown(mounted.dial("127.0.0.1", port, LIMIT));
    assert!(said.contains("nothing runs below"), "{said}");
}

#[test]
fn bytes_go_both_ways_through_the_login_that_read_the_node() {
    if !can_run("bytes_go_both_ways_through_the_login_that_read_the_node") {
        return;
    }
    let every: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let (server, jump) = (Server::start(), Server::start());
    let mut behind = server.options("ops");
    let known = behind.known_hosts_file.clone().unwrap();
    fs::write(&known, fs::read_to_string(&known).unwrap() + &jump.host_line("ed25519")).unwrap();
    behind.jump_host = Some(format!("guest@127.0.0.1:{}", jump.port()));
    for options in [server.options("root"), behind] {
        let (port, before) = (echo(), logins(&server));
        let node = SshNode::new("cp1", options, &nobody());
        node.facts().unwrap();
        prove_echo(&node, port, &every);
        assert_eq!((logins(&server) - before, forwarded(&server, port)), (1, 1), "one login does both");
        // Reading afterwards works, through a login of its own, and leaves the first to the connections.
        node.facts().unwrap();
        prove_echo(&node, port, &every);
        assert_eq!((logins(&server) - before, forwarded(&server, port)), (2, 2));
    }
}

#[test]
fn many_connections_at_once_share_one_login() {
    if !can_run("many_connections_at_once_share_one_login") {
        return;
    }
    let (server, port) = (Server::start(), echo());
    let node = server.node("root");
    thread::scope(|scope| {
        for number in 0..12_u8 {
            let node = &node;
            scope.spawn(move || prove_echo(node, port, &vec![number; 300_000]));
        }
    });
    assert_eq!((logins(&server), forwarded(&server, port)), (1, 12));
}

#[test]
fn a_lock_that_is_held_stays_held_while_connections_are_made() {
    if !can_run("a_lock_that_is_held_stays_held_while_connections_are_made") {
        return;
    }
    let (server, port) = (Server::start(), echo());
    let owner = LockOwner {
        command: "rotate-certs".to_owned(),
        who: "admin@workstation".to_owned(),
        pid: 4242,
        since: datetime!(2026-01-02 03:04:05 UTC),
    };
    let (node, other, path) = (server.node("root"), server.node("root"), server.at("kubepki/lock"));
    let guard = node.lock(&path, &owner).unwrap();
    prove_echo(&node, port, &vec![1; 50_000]);
    assert!(other.lock(&path, &owner).unwrap_err().to_string().contains("already running here"));
    prove_echo(&node, port, &vec![2; 50_000]);
    drop(guard);
    drop(other.lock(&path, &owner).unwrap());
}

#[test]
fn what_cannot_be_reached_is_told_from_what_is_not_allowed() {
    if !can_run("what_cannot_be_reached_is_told_from_what_is_not_allowed") {
        return;
    }
    let (server, port) = (Server::start(), echo());
    let node = server.node("root");
    let closed = NoWire::Closed("nothing listens there, or the node cannot reach it".to_owned());
    assert_eq!(node.dial("127.0.0.1", closed_port(), LIMIT).unwrap_err(), closed);
    assert_eq!(node.dial("no-such-host.invalid", 1, LIMIT).unwrap_err(), closed);
    prove_echo(&node, port, b"as good as before");

    let strict = Server::with(&Setup { config: "AllowTcpForwarding no".to_owned(), ..Setup::default() });
    let node = strict.node("root");
    let said = unknown(node.dial("127.0.0.1", port, LIMIT));
    assert!(said.contains(&format!("does not forward to [127.0.0.1]:{port}; look at AllowTcpForwarding")), "{said}");
    node.facts().unwrap();

    let away = SshOptions { port: Some(closed_port()), ..server.options("root") };
    let said = unknown(SshNode::new("cp1", away, &nobody()).dial("127.0.0.1", port, LIMIT));
    assert!(said.starts_with("cannot connect to root@"), "{said}");
}

#[test]
fn a_machine_that_went_away_has_no_closed_ports() {
    if !can_run("a_machine_that_went_away_has_no_closed_ports") {
        return;
    }
    let (server, port) = (Server::start(), closed_port());
    let node = server.node("root");
    assert!(matches!(node.dial("127.0.0.1", port, LIMIT), Err(NoWire::Closed(_))));
    server.cut();
    // Whatever listened there before, nobody can tell that it has ended.
    unknown(node.dial("127.0.0.1", port, LIMIT));
    server.revive();
    assert!(matches!(node.dial("127.0.0.1", port, LIMIT), Err(NoWire::Closed(_))));
}

#[test]
fn a_login_that_broke_is_replaced_by_the_next_connection() {
    if !can_run("a_login_that_broke_is_replaced_by_the_next_connection") {
        return;
    }
    let (server, port) = (Server::start(), echo());
    let proxy = Proxy::to(server.port());
    let mut options = server.options("root");
    let known = fs::read_to_string(server.at("known_hosts")).unwrap();
    let through = known.replace(&server.port().to_string(), &proxy.port().to_string());
    fs::write(server.at("known_hosts"), known + &through).unwrap();
    options.port = Some(proxy.port());
    let node = SshNode::new("cp1", options, &nobody());
    for _ in 0..2 {
        node.facts().unwrap();
        let mut wire = node.dial("127.0.0.1", port, LIMIT).unwrap();
        wire.set_patience(Some(LIMIT)).unwrap();
        proxy.cut_all();
        // Whoever is connected learns of it.
        let mut rest = Vec::new();
        let ended = wire.write_all(b"x").and_then(|()| wire.read_to_end(&mut rest));
        assert!(!matches!(ended, Ok(count) if count > 0), "{ended:?}");
        prove_echo(&node, port, b"again");
    }
    // A connection for scripts that died while nobody looked is no tunnel.
    let fresh = SshNode::new("cp1", server.options("root"), &nobody());
    fresh.read(&[Query::Metadata("/".into())]).unwrap();
    prove_echo(&fresh, port, b"fresh");
}

#[test]
fn certificates_are_shown_through_the_node_as_they_are_directly() {
    if !can_run("certificates_are_shown_through_the_node_as_they_are_directly") {
        return;
    }
    let server = Server::start();
    let tls = Tls::start(server.folder.path(), "only-behind-the-node");
    let endpoint: Endpoint = format!("127.0.0.1:{}", tls.port).parse().unwrap();
    let direct = probe::chain(&endpoint, None, LIMIT).unwrap();
    assert_eq!(direct.len(), 1);
    let through = probe::chain_through(&server.node("root"), &endpoint, None, LIMIT).unwrap();
    assert!(through == direct);
    assert_eq!(forwarded(&server, tls.port), 1);

    // A server that accepts and says nothing is given up in time, through the node too.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint: Endpoint = silent.local_addr().unwrap().to_string().parse().unwrap();
    let said = probe::chain_through(&server.node("root"), &endpoint, None, Duration::from_millis(500)).unwrap_err();
    assert_eq!(said, "no answer within 0.5 s");
}

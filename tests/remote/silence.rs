//! Machines that are not there, do not answer, or never come to an end: nothing waits longer than it was told to.

use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use kubepki::error::{ExitCode, exit_code};
use kubepki::node::Node;
use kubepki::node::interrupt::Interrupt;
use kubepki::node::ssh::{ConfigFile, NobodyToAsk, SshAccess, SshNode, SshOptions};

use crate::proxy::Proxy;
use crate::server::{Server, Setup, can_run, nobody};

fn options(port: u16) -> SshOptions {
    SshOptions {
        port: Some(port),
        user: Some("root".to_owned()),
        config: ConfigFile::Nothing,
        connect_timeout: Duration::from_millis(300),
        ..SshOptions::new("127.0.0.1")
    }
}

fn refusal(options: SshOptions) -> String {
    let error = SshNode::new("cp1", options, &nobody()).facts().unwrap_err();
    assert_eq!(exit_code(&error), ExitCode::Failed);
    format!("{error:#}")
}

/// A server that says `words` to everybody and then nothing more.
fn that_says(words: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut streams = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(words);
            streams.push(stream);
        }
    });
    port
}

#[test]
fn who_is_not_there_or_says_nothing_is_given_up() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let text = refusal(options(closed));
    assert!(text.contains(&format!("cp1: cannot connect to root@[127.0.0.1]:{closed}: connection refused")), "{text}");
    let text = refusal(options(that_says(b"")));
    assert!(text.contains("cannot talk SSH with") && text.contains("no answer within 300 ms"), "{text}");
    let text = refusal(options(that_says(b"SSH-2.0-OpenSSH_9.2\r\n")));
    assert!(text.contains("no answer within 300 ms"), "{text}");
    let text = refusal(SshOptions { host: "no-such-host.invalid".to_owned(), ..options(22) });
    assert!(text.contains("there is no such host") || text.contains("no answer within"), "{text}");
}

#[test]
fn what_is_no_ssh_server_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let text = refusal(options(port));
    assert!(text.contains("cannot talk SSH with"), "{text}");
}

#[test]
fn a_command_that_does_not_end_is_given_up() {
    if !can_run("a_command_that_does_not_end_is_given_up") {
        return;
    }
    let server = Server::with(&Setup { config: "ForceCommand sleep 1000".to_owned(), ..Setup::default() });
    let options = SshOptions { command_deadline: Duration::from_millis(500), ..server.options("root") };
    let text = refusal(options);
    assert!(text.contains("cp1: no answer within 500 ms"), "{text}");
    // One that talks for ever is no better.
    let server = Server::with(&Setup { config: "ForceCommand yes".to_owned(), ..Setup::default() });
    let options = SshOptions { command_deadline: Duration::from_secs(600), ..server.options("root") };
    let text = refusal(options);
    assert!(text.contains("it sent more than"), "{text}");
}

#[test]
fn a_dead_wire_is_noticed_although_nobody_says_so() {
    if !can_run("a_dead_wire_is_noticed_although_nobody_says_so") {
        return;
    }
    let server = Server::start();
    let proxy = Proxy::to(server.port());
    let mut options = server.options("root");
    let known = std::fs::read_to_string(server.at("known_hosts")).unwrap();
    let known = known.replace(&server.port().to_string(), &proxy.port().to_string());
    std::fs::write(server.at("known_hosts"), known).unwrap();
    options.port = Some(proxy.port());
    options.keepalive = Duration::from_millis(200);
    options.command_deadline = Duration::from_secs(600);
    options.connect_timeout = Duration::from_secs(3);
    let node = SshNode::new("cp1", options, &nobody());
    node.facts().unwrap();
    proxy.hold_everything();
    let text = format!("{:#}", node.facts().unwrap_err());
    assert!(text.contains("no answer within 3 s") || text.contains("nothing was heard"), "{text}");
}

#[test]
fn an_interrupt_ends_every_wait() {
    let interrupt = Interrupt::default();
    let access = SshAccess::new(NobodyToAsk, interrupt.clone());
    let long = SshOptions { connect_timeout: Duration::from_secs(3600), ..options(that_says(b"")) };
    let error = thread::scope(|scope| {
        let waiting = scope.spawn(|| SshNode::new("cp1", long.clone(), &access).facts().unwrap_err());
        thread::sleep(Duration::from_millis(300));
        interrupt.ask();
        waiting.join().unwrap()
    });
    assert_eq!(exit_code(&error), ExitCode::Interrupted);
}

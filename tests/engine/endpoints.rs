//! Asking for certificates over the wire: servers that are silent, slow, no TLS servers, or not there at all.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use kubepki::node::probe::{self, Endpoint};
use kubepki::observe;
use kubepki::snapshot::{Source, State};

use crate::support::process::free_ports;

const LIMIT: Duration = Duration::from_millis(600);

/// What is said of a server that does `serve` with each connection.
fn asked(serve: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint: Endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    probe::chain(&endpoint, None, LIMIT).unwrap_err()
}

#[test]
fn a_silent_server_is_given_up_in_time() {
    // The connection is kept, so that the silence is not an end.
    let kept = std::sync::Mutex::new(Vec::new());
    let said = asked(move |stream| kept.lock().unwrap().push(stream));
    assert_eq!(said, "no answer within 0.6 s");
}

#[test]
fn a_dripping_server_cannot_stretch_the_time() {
    let said = asked(|mut stream| {
        // A handshake record that promises 16 KiB, and then a byte now and then.
        let _ = stream.write_all(&[0x16, 0x03, 0x03, 0x40, 0x00]);
        while stream.write_all(&[0x02]).is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    assert!(said.starts_with("no answer within") || said.contains("does not speak TLS"), "{said}");
}

#[test]
fn servers_without_tls_are_told_by_what_they_say() {
    let answering = |answer: &'static [u8]| {
        asked(move |mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        })
    };
    assert_eq!(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "it answers in plain HTTP, without TLS");
    assert_eq!(answering(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "it is an SSH server");
    assert_eq!(answering(b"+OK ready\r\n"), "it does not speak TLS");
    let hung_up = "it closed the connection instead of answering; it may not speak TLS";
    assert_eq!(answering(b""), hung_up);
    // An alert record: protocol version.
    let old = answering(&[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46]);
    assert_eq!(old, "it speaks only versions of TLS older than 1.2");
}

#[test]
fn nobody_listening_and_unknown_names_are_said_to_be_so() {
    let port = free_ports(1)[0];
    let closed: Endpoint = format!("127.0.0.1:{port}").parse().unwrap();
    assert_eq!(probe::chain(&closed, None, LIMIT).unwrap_err(), "nothing listens there: connection refused");
    let unknown: Endpoint = "no-such-host.invalid:6443".parse().unwrap();
    let said = probe::chain(&unknown, None, Duration::from_secs(60)).unwrap_err();
    assert!(said.contains("no-such-host.invalid"), "{said}");
}

#[test]
fn each_server_is_an_artifact_in_the_order_asked_for() {
    let port = free_ports(1)[0];
    let servers: Vec<Endpoint> =
        [format!("127.0.0.1:{port}"), format!("[::1]:{port}")].iter().map(|text| text.parse().unwrap()).collect();
    let found = observe::endpoints(&servers, None, LIMIT);
    let paths: Vec<String> = found.iter().map(|artifact| artifact.path.display().to_string()).collect();
    assert_eq!(paths, [format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
    assert!(found.iter().all(|artifact| artifact.source == Source::Endpoint));
    assert!(found.iter().all(|artifact| matches!(artifact.state, State::Unreadable(_))));
}

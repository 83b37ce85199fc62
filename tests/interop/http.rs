//! HTTP over a wire, with real servers: openssl's, and etcd with client certificates.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kubepki::node::http::{Limits, Request, Response, Unanswered, ask};
use kubepki::node::local::LocalNode;
use kubepki::node::probe::Endpoint;
use kubepki::node::tls::{Identity, Tls, Trust};
use kubepki::pki::pem_file::PemFile;
use kubepki::pki::san::San;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::support::cluster::{CLIENT, Pair, SERVER};
use crate::support::etcd::{Etcd, programs};
use crate::support::made::Made;
use crate::support::openssl;
use crate::support::process::{Server, free_ports, wait_for};

const LIMITS: Limits = Limits { time: Duration::from_secs(60), size: 4 * 1024 * 1024 };

fn get(port: u16, tls: Option<&Tls>, path: &str) -> Result<Response, Unanswered> {
    let here = LocalNode::open("cp1", "/").unwrap();
    let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port };
    ask(&here, &endpoint, tls, &Request::get(path), LIMITS)
}

fn ders(pem: &[u8]) -> Vec<Vec<u8>> {
    PemFile::parse(pem).certificates().map(|block| block.der.to_vec()).collect()
}

fn identity(certificate: &str, key: &str) -> Identity {
    let key = PemFile::parse(key.as_bytes()).private_key().unwrap().der.to_vec();
    Identity { chain: ders(certificate.as_bytes()), key: Zeroizing::new(key) }
}

fn authority(name: &str) -> Pair {
    Pair::authority_until(name, OffsetDateTime::now_utc() + time::Duration::days(3650))
}

fn leaf(ca: &Pair, name: &str, server: &[&str]) -> Pair {
    let sans: Vec<San> = server.iter().map(|name| San::parse(name).unwrap()).collect();
    ca.issue_with(name, &[], if server.is_empty() { CLIENT } else { SERVER }, &sans, |template| {
        template.not_before = OffsetDateTime::now_utc() - time::Duration::hours(1);
        template.not_after = OffsetDateTime::now_utc() + time::Duration::days(30);
    })
}

/// `openssl s_server -WWW` in a folder: it sends the files there.
struct Www {
    folder: tempfile::TempDir,
    port: u16,
    _server: Server,
}

impl Www {
    fn start(pair: &Pair, words: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_ports(1)[0];
        fs::write(folder.path().join("tls.crt"), pair.crt()).unwrap();
        fs::write(folder.path().join("tls.key"), pair.pem_key()).unwrap();
        let mut command = Server::command("openssl");
        command.current_dir(folder.path());
        command.args(["s_server", "-WWW", "-accept", &format!("127.0.0.1:{port}")]);
        command.args(["-cert", "tls.crt", "-key", "tls.key"]).args(words);
        let server = Server::start(command, &folder.path().join("log"));
        let is_up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        wait_for("a listening openssl", is_up, || server.words());
        Self { folder, port, _server: server }
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }
}

#[test]
fn a_file_comes_whole_from_a_server_that_is_trusted_for_its_name() {
    if !openssl::is_there("a_file_comes_whole_from_a_server_that_is_trusted_for_its_name") {
        return;
    }
    let (ca, other) = (authority("kubernetes"), authority("kubernetes"));
    let pair = leaf(&ca, "server", &["127.0.0.1", "only.example"]);
    for version in ["-tls1_2", "-tls1_3"] {
        let www = Www::start(&pair, &[version]);
        let large: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
        www.put("large", &large);
        let trusted = [other.certificate.der().to_vec(), ca.certificate.der().to_vec()];
        let tls = Tls::new(Trust::Authorities(&trusted), None).unwrap();
        let answer = get(www.port, Some(&tls), "/large").unwrap();
        assert!(answer.status == 200 && *answer.body == large);
        assert_eq!(answer.shown, [pair.certificate.der().to_vec()]);
        assert_eq!(get(www.port, Some(&tls.clone().for_server("only.example")), "/large").unwrap().status, 200);

        let said = |tls: &Tls| get(www.port, Some(tls), "/large").unwrap_err();
        let expected = Unanswered::Untrusted("its certificate is not for wrong.example".to_owned());
        assert_eq!(said(&tls.clone().for_server("wrong.example")), expected);
        let tls = Tls::new(Trust::Authorities(&trusted[..1]), None).unwrap();
        assert!(matches!(said(&tls), Unanswered::Untrusted(why) if why.starts_with("its certificate is signed by")));
        assert_eq!(get(www.port, Some(&Tls::new(Trust::Anybody, None).unwrap()), "/large").unwrap().status, 200);
    }
}

#[test]
fn a_client_certificate_is_sent_whoever_signed_it_and_the_refusal_is_the_servers() {
    if !openssl::is_there("a_client_certificate_is_sent_whoever_signed_it_and_the_refusal_is_the_servers") {
        return;
    }
    let (ca, old) = (authority("kubernetes"), authority("kubernetes-of-before"));
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("ca.crt");
    fs::write(&trusted, ca.crt()).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let words = [version, "-Verify", "2", "-verify_return_error", "-CAfile", trusted.to_str().unwrap()];
        let www = Www::start(&leaf(&ca, "server", &["127.0.0.1"]), &words);
        www.put("file", "content");
        let with = |pair: Option<Pair>| {
            let identity = pair.map(|pair| identity(&pair.crt(), &pair.pem_key()));
            let tls = Tls::new(Trust::Authorities(&[ca.certificate.der().to_vec()]), identity.as_ref()).unwrap();
            get(www.port, Some(&tls), "/file")
        };
        assert_eq!(with(Some(leaf(&ca, "admin", &[]))).unwrap().body.as_slice(), b"content");
        let said = with(Some(leaf(&old, "admin", &[]))).unwrap_err();
        assert!(matches!(&said, Unanswered::Refused(why) if why.contains("certificate")), "{version}: {said:?}");
        let said = with(None).unwrap_err();
        // TLS 1.2 has no word for it but a failed handshake.
        assert!(matches!(said, Unanswered::Refused(_)) || version == "-tls1_2", "{version}: {said:?}");
    }
    let (one, two) = (leaf(&ca, "one", &[]), leaf(&ca, "two", &[]));
    let said = Tls::new(Trust::Anybody, Some(&identity(&one.crt(), &two.pem_key()))).unwrap_err();
    assert_eq!(said, "the client key does not belong to the client certificate");
}

#[test]
fn servers_that_do_not_answer_properly_are_told_apart() {
    let serving = |answer: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer);
            }
        });
        port
    };
    let here = LocalNode::open("cp1", "/").unwrap();
    let said = |port: u16, tls: bool, limits: Limits| {
        let tls = tls.then(|| Tls::new(Trust::Anybody, None).unwrap());
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port };
        ask(&here, &endpoint, tls.as_ref(), &Request::get("/"), limits).unwrap_err()
    };
    let broken = |words: &str| Unanswered::Broken(words.to_owned());
    let plain = serving(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(said(plain, true, LIMITS), broken("it answers in plain HTTP, without TLS"));
    assert_eq!(said(serving(b"+OK\r\n"), false, LIMITS), broken("it does not answer in HTTP"));
    let cut = serving(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(said(cut, false, LIMITS), broken("it closed the connection before its answer was whole"));
    let long = serving(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789");
    assert_eq!(said(long, false, Limits { size: 9, ..LIMITS }), broken("its answer has more than 9 bytes"));
    let closed = free_ports(1)[0];
    assert!(matches!(said(closed, true, LIMITS), Unanswered::Unreachable(why) if why.contains("refused")));

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let short = Limits { time: Duration::from_millis(300), ..LIMITS };
    for tls in [true, false] {
        assert_eq!(said(silent.local_addr().unwrap().port(), tls, short), broken("no answer within 0.3 s"));
    }
}

#[test]
fn etcd_answers_its_own_clients_and_nobody_else() {
    for program in programs("etcd_answers_its_own_clients_and_nobody_else") {
        judge_etcd(&program);
    }
}

fn judge_etcd(program: &Path) {
    let made = Made::new(&["--node-name", "cp1", "--advertise-address", "127.0.0.1", "--key-algorithm", "ecdsa-p256"]);
    let dirs: Vec<PathBuf> = vec![made.pki("")];
    let etcd = Etcd::start(program, &dirs, "etcd/ca.crt");
    let endpoint: Endpoint = etcd.client_url(0).parse().unwrap();
    let read = |name: &str| fs::read_to_string(made.pki(name)).unwrap();
    let trusted = ders(read("etcd/ca.crt").as_bytes());
    let with = |name: Option<&str>| {
        let identity = name.map(|name| identity(&read(&format!("{name}.crt")), &read(&format!("{name}.key"))));
        let tls = Tls::new(Trust::Authorities(&trusted), identity.as_ref()).unwrap();
        get(endpoint.port, Some(&tls), "/health")
    };
    let answer = with(Some("apiserver-etcd-client")).unwrap();
    assert!(answer.status == 200 && String::from_utf8_lossy(&answer.body).contains("true"), "{answer:?}");
    assert_eq!(answer.shown[0], ders(read("etcd/server.crt").as_bytes())[0]);
    // Signed by the cluster's CA, which is nobody here; and no certificate at all.
    for stranger in [Some("apiserver-kubelet-client"), None] {
        let said = with(stranger).unwrap_err();
        assert!(matches!(said, Unanswered::Refused(_)), "{stranger:?}: {said:?}");
    }
}

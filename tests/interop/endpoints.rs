//! Real TLS servers: openssl's, in every state an administrator finds one in, and a kube-apiserver would not start in.

use std::path::{Path, PathBuf};

use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::support::binary::{Run, Stage};
use crate::support::cluster::{Pair, SERVER};
use crate::support::openssl;
use crate::support::process::{Server, free_ports, wait_for};
use kubepki::pki::san::San;

/// A stage with a CA of today and servers on this machine.
struct Servers {
    stage: Stage,
    ca: Pair,
    running: Vec<Server>,
}

impl Servers {
    fn new() -> Self {
        let ca = Pair::authority_until("kubernetes", now() + Duration::days(3650));
        let stage = Stage::new();
        stage.put("ca.crt", ca.crt());
        Self { stage, ca, running: Vec::new() }
    }

    /// A leaf of the CA for `names`, with these dates.
    fn leaf(&self, names: &[&str], from: OffsetDateTime, to: OffsetDateTime) -> Pair {
        let sans: Vec<San> = names.iter().map(|name| San::parse(name).unwrap()).collect();
        self.ca.issue_with("kube-apiserver", &[], SERVER, &sans, |template| {
            template.not_before = from;
            template.not_after = to;
        })
    }

    fn good(&self, names: &[&str]) -> Pair {
        self.leaf(names, now() - Duration::hours(1), now() + Duration::days(365))
    }

    fn files(&self, name: &str, pair: &Pair) -> (PathBuf, PathBuf) {
        (self.stage.put(&format!("{name}.crt"), pair.crt()), self.stage.put(&format!("{name}.key"), pair.pem_key()))
    }

    /// Starts `openssl s_server` on `host` with that certificate, and returns its port.
    fn start(&mut self, host: &str, certificate: &Path, key: &Path, words: &[&str]) -> u16 {
        let port = free_ports(1)[0];
        let mut command = Server::command("openssl");
        command.args(["s_server", "-accept", &format!("{host}:{port}"), "-quiet", "-cert"]).arg(certificate);
        command.arg("-key").arg(key).args(words);
        let log = self.stage.at(&format!("{port}.log"));
        let mut server = Server::start(command, &log);
        let address = format!("{host}:{port}");
        wait_for(
            "a listening server",
            || {
                assert!(!server.has_ended(), "openssl ended: {}", std::fs::read_to_string(&log).unwrap());
                std::net::TcpStream::connect(&address).is_ok()
            },
            String::new,
        );
        self.running.push(server);
        port
    }

    fn check(&self, words: &[&str]) -> Run {
        self.stage.run(&[&["check-expiry", "-o", "json"], words].concat())
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().replace_nanosecond(0).unwrap()
}

/// The row of `endpoint`, its status and the ids of its findings.
fn judged(run: &Run, endpoint: &str) -> (Value, String, Vec<String>) {
    let document = run.json();
    let lists = ["certificates", "certificateAuthorities"];
    let row = lists.iter().flat_map(|list| document[list].as_array().unwrap()).find(|row| row["path"] == endpoint);
    let row = row.unwrap_or_else(|| panic!("no row {endpoint} in {document:#}")).clone();
    let ids = row["findings"].as_array().unwrap().iter().map(|finding| finding["id"].as_str().unwrap().to_owned());
    (row.clone(), row["status"].as_str().unwrap().to_owned(), ids.collect())
}

#[test]
fn a_server_is_shown_with_its_chain_whatever_state_it_is_in() {
    if !openssl::is_there("a_server_is_shown_with_its_chain_whatever_state_it_is_in") {
        return;
    }
    let mut servers = Servers::new();
    let ca = servers.stage.at("ca.crt").display().to_string();
    let with_ca = |servers: &Servers, port: u16, more: &[&str]| {
        let endpoint = format!("127.0.0.1:{port}");
        let run = servers.check(&[&["--endpoint", &endpoint, "--path", &ca], more].concat());
        (judged(&run, &endpoint), run)
    };

    let good = servers.good(&["127.0.0.1", "api.example.com"]);
    let (certificate, key) = servers.files("good", &good);
    let port = servers.start("127.0.0.1", &certificate, &key, &["-cert_chain", &ca]);
    let ((row, status, ids), run) = with_ca(&servers, port, &[]);
    assert_eq!((status.as_str(), ids.len(), run.code), ("ok", 0, Some(0)), "{row:#}");
    assert_eq!(row["source"], "endpoint");
    assert_eq!(row["fingerprintSha256"], good.certificate.fingerprint_hex());
    let (second, ..) = judged(&run, &format!("127.0.0.1:{port}[1]"));
    assert_eq!(second["fingerprintSha256"], servers.ca.certificate.fingerprint_hex());
    // Judged by name: the one asked for counts.
    let ((_, status, ids), _) = with_ca(&servers, port, &["--server-name", "api.example.com"]);
    assert_eq!((status.as_str(), ids.len()), ("ok", 0));
    let ((_, status, ids), run) = with_ca(&servers, port, &["--server-name", "other.example.com"]);
    assert_eq!((status.as_str(), ids, run.code), ("untrusted", vec!["server-name-wrong".to_owned()], Some(5)));
    // Without a CA there is nothing to judge the chain by.
    let endpoint = format!("127.0.0.1:{port}");
    let alone = servers.check(&["--endpoint", &endpoint]).expect(0);
    assert_eq!(judged(&alone, &endpoint).2, ["issuer-not-seen"]);

    let old = servers.leaf(&["127.0.0.1"], now() - Duration::days(30), now() - Duration::days(2));
    let (certificate, key) = servers.files("old", &old);
    let port = servers.start("127.0.0.1", &certificate, &key, &[]);
    let ((row, status, _), run) = with_ca(&servers, port, &[]);
    assert_eq!((status.as_str(), run.code), ("expired", Some(5)));
    assert!(row["residualTime"].as_i64() < Some(-86_400));

    let stranger = Pair::authority_until("stranger", now() + Duration::days(100));
    let alone = stranger.issue_with("x", &[], SERVER, &[San::parse("127.0.0.1").unwrap()], |template| {
        template.not_before = now() - Duration::hours(1);
        template.not_after = now() + Duration::days(90);
    });
    let (certificate, key) = servers.files("stranger", &alone);
    let port = servers.start("127.0.0.1", &certificate, &key, &[]);
    let ((_, status, ids), _) = with_ca(&servers, port, &[]);
    assert_eq!((status.as_str(), ids), ("untrusted", vec!["issuer-unknown".to_owned()]));
    let itself = servers.stage.at("self.crt").display().to_string();
    let (certificate, key) =
        openssl::self_signed("x", &["-newkey", "rsa:2048", "-addext", "subjectAltName=IP:127.0.0.1"], 30);
    servers.stage.put("self.crt", certificate);
    let key = servers.stage.put("self.key", key);
    let port = servers.start("127.0.0.1", Path::new(&itself), &key, &[]);
    let ((row, status, _), _) = with_ca(&servers, port, &[]);
    assert_eq!((status.as_str(), row["subject"].as_str()), ("untrusted", Some("CN=x")));
}

#[test]
fn old_protocols_client_certificates_names_and_ipv6_are_no_hindrance() {
    if !openssl::is_there("old_protocols_client_certificates_names_and_ipv6_are_no_hindrance") {
        return;
    }
    let mut servers = Servers::new();
    let ca = servers.stage.at("ca.crt").display().to_string();
    let (certificate, key) = servers.files("one", &servers.good(&["127.0.0.1", "::1", "one.example.com"]));
    let (other, other_key) = servers.files("two", &servers.good(&["two.example.com"]));
    for words in [
        &["-tls1_2"][..],
        &["-tls1_3"],
        // A server that insists on a client certificate, in both versions of the protocol.
        &["-tls1_2", "-Verify", "1"],
        &["-tls1_3", "-Verify", "1"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
    ] {
        let port = servers.start("127.0.0.1", &certificate, &key, words);
        let endpoint = format!("127.0.0.1:{port}");
        let run = servers.check(&["--endpoint", &endpoint, "--path", &ca]).expect(0);
        assert_eq!(judged(&run, &endpoint).1, "ok", "{words:?}");
    }
    let old = servers.start("127.0.0.1", &certificate, &key, &["-tls1_1", "-cipher", "ALL@SECLEVEL=0"]);
    let endpoint = format!("127.0.0.1:{old}");
    let run = servers.check(&["--endpoint", &endpoint]).expect(5);
    let (row, status, _) = judged(&run, &endpoint);
    assert_eq!(status, "unreadable");
    assert!(row["findings"][0]["message"].as_str().unwrap().contains("older than 1.2"), "{row:#}");

    let second = [other.to_str().unwrap(), other_key.to_str().unwrap()];
    let words = ["-servername", "two.example.com", "-cert2", second[0], "-key2", second[1]];
    let port = servers.start("127.0.0.1", &certificate, &key, &words);
    let endpoint = format!("127.0.0.1:{port}");
    let named = servers.check(&["--endpoint", &endpoint, "--server-name", "two.example.com", "--path", &ca]).expect(0);
    assert_eq!(judged(&named, &endpoint).0["sans"][0], "DNS:two.example.com");
    let plain = servers.check(&["--endpoint", &endpoint, "--path", &ca]).expect(0);
    assert_eq!(judged(&plain, &endpoint).0["sans"][0], "IP:127.0.0.1");

    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        let port = servers.start("[::1]", &certificate, &key, &[]);
        let endpoint = format!("[::1]:{port}");
        let run = servers.check(&["--endpoint", &endpoint, "--path", &ca]).expect(0);
        assert_eq!(judged(&run, &endpoint).0["path"], endpoint);
    }
}

#[test]
fn a_server_that_was_not_restarted_after_a_renewal_is_told() {
    if !openssl::is_there("a_server_that_was_not_restarted_after_a_renewal_is_told") {
        return;
    }
    let mut servers = Servers::new();
    let old = servers.leaf(&["127.0.0.1"], now() - Duration::days(100), now() + Duration::days(265));
    let (certificate, key) = servers.files("apiserver", &old);
    let port = servers.start("127.0.0.1", &certificate, &key, &[]);
    servers.files("apiserver", &servers.good(&["127.0.0.1"]));
    let (endpoint, folder) = (format!("127.0.0.1:{port}"), servers.stage.at(".").display().to_string());
    let run = servers.check(&["--endpoint", &endpoint, "--path", &folder]).expect(4);
    assert_eq!(judged(&run, &endpoint).2, ["served-differs"]);
}

//! Revocation lists judged by others: openssl reads and believes them, and real etcd members keep out whom they name.

use std::process::Command;
use std::time::Duration;

use kubepki::live::credential::Credential;
use kubepki::live::proof::prove_beside;
use kubepki::node::http::Limits;
use kubepki::node::local::LocalNode;
use kubepki::node::probe::Endpoint;

use super::etcd::{pki_dirs, three_nodes};
use crate::support::etcd::{Etcd, programs};
use crate::support::made::{MACHINE, Made};
use crate::support::process::{said, succeed, wait_for};

fn revoke(made: &Made, words: &[&str]) {
    let root = made.stage.at("root");
    made.stage.run(&[&["revoke", "--root", root.to_str().unwrap(), "--yes", "-o", "none"], words].concat()).expect(0);
}

fn serial(made: &Made, path: &str) -> String {
    let text = succeed(Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(made.pki(path)));
    text.trim().trim_start_matches("serial=").to_owned()
}

#[test]
fn openssl_believes_the_lists_and_refuses_what_they_name() {
    for algorithm in ["rsa-2048", "ecdsa-p384"] {
        let made = Made::new(&[&MACHINE[..], &["--key-algorithm", algorithm]].concat());
        revoke(&made, &["--serial", &serial(&made, "etcd/healthcheck-client.crt"), "--force"]);
        let (ca, list) = (made.pki("etcd/ca.crt"), made.pki("etcd/kubepki/client.crl"));
        let read = |more: &[&str]| {
            let mut command = Command::new("openssl");
            let output =
                command.args(["crl", "-inform", "DER", "-noout", "-in"]).arg(&list).args(more).output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
            said(&output)
        };
        assert!(read(&["-CAfile", ca.to_str().unwrap()]).contains("verify OK"));
        let text = read(&["-text"]);
        assert!(text.contains("Privilege Withdrawn") && text.contains("X509v3 CRL Number"), "{text}");
        let verify = |path: &str| {
            let mut command = Command::new("openssl");
            command.args(["verify", "-crl_check", "-CAfile"]).arg(&ca);
            command.arg("-CRLfile").arg(made.pki("etcd/kubepki/client.crl.pem")).arg(made.pki(path)).output().unwrap()
        };
        assert!(verify("etcd/server.crt").status.success());
        let refused = verify("etcd/healthcheck-client.crt");
        assert!(!refused.status.success() && said(&refused).contains("revoked"), "{}", said(&refused));
        // A new authority signs the lists from then on.
        let root = made.stage.at("root");
        let words = ["rotate-certs", "--root", root.to_str().unwrap(), "--only", "etcd-ca", "--yes", "-o", "none"];
        made.stage.run(&words).expect(0);
        assert!(read(&["-CAfile", ca.to_str().unwrap()]).contains("verify OK"));
        assert!(verify("etcd/healthcheck-client.crt").status.success());
        assert!(read(&["-crlnumber"]).contains('2'));
    }
}

/// The end of a connection is told from silence beside a client that is answered, and not without one.
fn proves_it(etcd: &Etcd, node: &Made) {
    let here = LocalNode::open("local", "/").unwrap();
    let credential = |name: &str| Credential::read_pair(&here, &node.pki(name), &node.pki("etcd/ca.crt")).unwrap();
    let (revoked, known) = (credential("etcd/healthcheck-client"), credential("apiserver-etcd-client"));
    let endpoint: Endpoint = etcd.client_url(0).parse().unwrap();
    let limits = Limits { time: Duration::from_secs(30), size: 1 << 20 };
    let beside = |one: &Credential, other: &Credential| prove_beside(&here, &endpoint, one, other, limits).accepted;
    assert_eq!(beside(&revoked, &known), Some(false));
    assert_eq!(beside(&known, &known), Some(true));
    assert_eq!(beside(&revoked, &revoked), None, "nobody is answered, so nothing is proven");
}

#[test]
fn etcd_keeps_out_a_revoked_client_and_a_revoked_peer_and_nobody_else() {
    for program in programs("etcd_keeps_out_a_revoked_client_and_a_revoked_peer_and_nobody_else") {
        let nodes = three_nodes(&[]);
        // Lists have to be there before etcd is told to read them.
        nodes.iter().for_each(|node| revoke(node, &["--serial", "1234"]));
        let mut etcd = Etcd::start(&program, &pki_dirs(&nodes), "etcd/ca.crt");
        etcd.prove("key", "first");
        let health = |etcd: &Etcd| etcd.ctl_as(0, "etcd/healthcheck-client", &["get", "key"]).status.success();
        assert!(health(&etcd));
        let client = serial(&nodes[0], "etcd/healthcheck-client.crt");
        nodes.iter().for_each(|node| revoke(node, &["--serial", &client, "--force"]));
        for node in &nodes {
            for list in ["client.crl", "peer.crl"] {
                let bytes = std::fs::read(node.pki(&format!("etcd/kubepki/{list}"))).unwrap();
                assert_eq!(bytes[0], 0x30, "etcd takes DER only");
            }
        }
        assert!(!health(&etcd), "no restart is needed");
        proves_it(&etcd, &nodes[0]);
        assert!(
            etcd.ctl_as(1, "etcd/healthcheck-client", &["get", "key"]).status.success(),
            "another node's own is good"
        );
        etcd.prove("key", "second");
        let peer = serial(&nodes[2], "etcd/peer.crt");
        nodes.iter().for_each(|node| revoke(node, &["--serial", &peer, "--force"]));
        etcd.prove("key", "third");
        // Connections that are open stay open; a new one is refused.
        etcd.stop_member(2);
        etcd.start_member(2);
        let words = format!("serial {} revoked", peer.to_lowercase());
        wait_for("a refusal of the third member", || etcd.words().contains(&words), || etcd.words());
        etcd.wait_until_healthy_but(2);
        let put = || etcd.ctl(0, &["put", "key", "fourth"]).status.success();
        wait_for("a write without the third member", put, || etcd.words());
        // Taken back, it comes in again.
        for node in &nodes {
            let root = node.stage.at("root");
            let list =
                node.stage.run(&["revoke", "--root", root.to_str().unwrap(), "--list", "-o", "json"]).expect(0).json();
            for revocation in list.as_array().unwrap() {
                revoke(node, &["--delete", revocation["metadata"]["name"].as_str().unwrap()]);
            }
        }
        etcd.restart_member(2);
        etcd.prove("key", "fifth");
        assert!(health(&etcd));
    }
}

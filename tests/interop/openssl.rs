//! openssl verifies every chain strictly, for every algorithm and profile, and agrees about dates and keys.

use std::path::Path;
use std::process::Command;

use crate::support::made::{MACHINE, Made};
use crate::support::openssl::{is_there, openssl};
use crate::support::process::{said, succeed};

/// Verifies one certificate against the CA that has to have issued it, and nobody else's.
#[track_caller]
pub(crate) fn verify(authority: &Path, certificate: &Path, more: &[&str]) {
    let mut command = Command::new("openssl");
    command.args(["verify", "-x509_strict", "-check_ss_sig", "-no-CApath", "-no-CAstore", "-CAfile"]).arg(authority);
    let output = command.args(more).arg(certificate).output().unwrap();
    assert!(output.status.success(), "{}: {}", certificate.display(), said(&output));
}

/// Every chain of a PKI, for the purposes its usages are for.
pub(crate) fn verify_all(made: &Made) -> usize {
    let mut count = 0;
    for entry in made.entries("authorities") {
        let path = made.authority(entry["name"].as_str().unwrap());
        verify(&path, &path, &[]);
        count += 1;
    }
    for entry in made.entries("certificates") {
        let authority = made.authority(entry["issuer"].as_str().unwrap());
        let path = made.pki(&format!("{}.crt", entry["path"].as_str().unwrap()));
        for usage in entry["usages"].as_array().unwrap() {
            let names: &[&str] = match usage.as_str().unwrap() {
                "serverAuth" => &["-purpose", "sslserver", "-verify_hostname", "cp1", "-verify_ip", "127.0.0.1"],
                _ => &["-purpose", "sslclient"],
            };
            verify(&authority, &path, names);
            count += 1;
        }
        let key = openssl(&["pkey", "-in", path.with_extension("key").to_str().unwrap(), "-pubout"]);
        assert_eq!(openssl(&["x509", "-in", path.to_str().unwrap(), "-noout", "-pubkey"]), key, "{}", path.display());
    }
    for entry in made.entries("kubeconfigs").iter().filter(|entry| entry["onDemand"] != true) {
        let certificate = made.client_of(entry["name"].as_str().unwrap());
        verify(&made.authority(entry["issuer"].as_str().unwrap()), &certificate, &["-purpose", "sslclient"]);
        count += 1;
    }
    let pair = ["sa.key", "sa.pub"].map(|name| made.pki(name).display().to_string());
    assert_eq!(openssl(&["pkey", "-in", &pair[0], "-pubout"]), std::fs::read_to_string(&pair[1]).unwrap());
    count
}

/// The kind of key openssl sees in a certificate, as `2048 bit` or `secp384r1`.
fn kind(certificate: &Path) -> String {
    let text = openssl(&["x509", "-in", certificate.to_str().unwrap(), "-noout", "-text"]);
    let curve = text.lines().find_map(|line| line.trim().strip_prefix("ASN1 OID: "));
    let size = text.lines().find_map(|line| line.trim().strip_prefix("Public-Key: ("));
    curve.or(size).unwrap_or_default().trim_end_matches(')').to_owned()
}

#[test]
fn every_chain_of_every_algorithm_is_strictly_right() {
    if !is_there("every_chain_of_every_algorithm_is_strictly_right") {
        return;
    }
    for (algorithm, seen) in [
        ("rsa-2048", "2048 bit"),
        ("rsa-3072", "3072 bit"),
        ("rsa-4096", "4096 bit"),
        ("ecdsa-p256", "prime256v1"),
        ("ecdsa-p384", "secp384r1"),
    ] {
        let made = Made::new(&[&MACHINE[..], &["--key-algorithm", algorithm]].concat());
        assert_eq!(verify_all(&made), 16);
        for certificate in ["ca.crt", "apiserver.crt", "etcd/server.crt"] {
            assert_eq!(kind(&made.pki(certificate)), seen);
        }
        assert_eq!(kind(&made.client_of("admin.conf")), seen);
    }
}

#[test]
fn every_chain_of_every_profile_is_strictly_right() {
    if !is_there("every_chain_of_every_profile_is_strictly_right") {
        return;
    }
    let arc = Made::new(&[&MACHINE[..], &["--profile", "aks-arc"]].concat());
    assert_eq!(verify_all(&arc), 17);
    assert_eq!(kind(&arc.pki("agent/ca.crt")), "4096 bit");
    // The server certificate leads to the cluster's CA, that of peers to etcd's.
    let crossed = Command::new("openssl")
        .args(["verify", "-CAfile"])
        .args([arc.pki("etcd/ca.crt"), arc.pki("etcd/server.crt")])
        .output()
        .unwrap();
    assert!(!crossed.status.success(), "{}", said(&crossed));
    let days = |path: &str, seconds: u64| {
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-checkend", &seconds.to_string(), "-in"]).arg(arc.pki(path));
        command.output().unwrap().status.success()
    };
    for (path, length) in [("apiserver.crt", 4), ("ca.crt", 3650), ("agent/ca.crt", 365)] {
        assert!(days(path, length * 86_400 - 3600) && !days(path, length * 86_400 + 3600), "{path}");
    }

    let aks = Made::new(&[&MACHINE[..], &["--profile", "aks", "--key-algorithm", "ecdsa-p384"]].concat());
    assert_eq!(verify_all(&aks), 15);
    assert!(!aks.pki("front-proxy-ca.crt").exists());
    // Thirty years end past 2049, so RFC 5280 section 4.1.2.5 wants GeneralizedTime.
    let raw = succeed(Command::new("openssl").args(["asn1parse", "-in"]).arg(aks.pki("ca.crt")));
    assert!(raw.contains("UTCTIME") && raw.contains("GENERALIZEDTIME   :205"), "{raw}");
}

#[test]
fn a_chain_over_an_intermediate_authority_is_complete() {
    if !is_there("a_chain_over_an_intermediate_authority_is_complete") {
        return;
    }
    let stage = crate::support::binary::Stage::new();
    let spec = stage.put(
        "spec.yaml",
        "apiVersion: kubepki.io/v1
kind: CertificateSpec
defaults: {keyAlgorithm: ecdsa-p256}
authorities:
- {name: middle, path: middle, issuer: root, commonName: middle}
- {name: root, path: root, commonName: root}
certificates:
- {name: leaf, path: a/b/leaf, issuer: middle, commonName: leaf, sans: [leaf.example.com], usages: [serverAuth]}
",
    );
    let words = ["create-certs", "--pki-dir", "pki", "--yes", "--spec", spec.to_str().unwrap()];
    stage.run(&words).expect(0);
    let at = |path: &str| stage.at("pki").join(path);
    verify(&at("root.crt"), &at("middle.crt"), &[]);
    // What follows the leaf in its file is all a client needs to get to the root.
    let leaf = at("a/b/leaf.crt");
    verify(&at("root.crt"), &leaf, &["-untrusted", leaf.to_str().unwrap(), "-purpose", "sslserver"]);
    assert_eq!(std::fs::read_to_string(&leaf).unwrap().matches("BEGIN CERTIFICATE").count(), 2);
    assert!(stage.run(&words).expect(0).out.contains("nothing to change"));
}

//! kubeadm's own files against kubepki's, field by field, and kubeadm at work on kubepki's.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::support::binary::Stage;
use crate::support::made::Made;
use crate::support::openssl::openssl;
use crate::support::process::{said, succeed};
use crate::support::skip;
use crate::support::tree::{Entry, picture};

const ENDPOINT: &str = "api.example.com:8443";

pub(crate) fn configuration(algorithm: &str, subnet: &str) -> String {
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: 10.0.0.5, bindPort: 6443}}
nodeRegistration: {{name: cp1}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.36.2
controlPlaneEndpoint: {ENDPOINT}
encryptionAlgorithm: {algorithm}
networking: {{serviceSubnet: '{subnet}', dnsDomain: example.local}}
apiServer: {{certSANs: [extra.example.com, 192.0.2.9, '2001:db8::9']}}
"
    )
}

fn options<'a>(algorithm: &'a str, subnet: &'a str) -> Vec<&'a str> {
    let named = ["--node-name", "cp1", "--advertise-address", "10.0.0.5", "--control-plane-endpoint", ENDPOINT];
    let sans = ["--san", "extra.example.com", "--san", "192.0.2.9", "--san", "2001:db8::9"];
    let rest = ["--key-algorithm", algorithm, "--service-subnet", subnet, "--service-dns-domain", "example.local"];
    [&named[..], &sans, &rest].concat()
}

/// kubeadm inside a root of its own.
pub(crate) fn kubeadm(binaries: &Path, root: &Path, words: &[&str]) -> String {
    let mut command = Command::new(binaries.join("kubeadm"));
    command.env_clear().env("PATH", "/usr/bin:/bin").arg("--rootfs").arg(root).args(words);
    succeed(&mut command)
}

/// What kubeadm makes for a configuration, in a root of its own.
pub(crate) fn by_kubeadm(binaries: &Path, configuration: &str) -> Stage {
    let stage = Stage::new();
    stage.put("root/kubeadm.yaml", configuration);
    let root = stage.at("root");
    kubeadm(binaries, &root, &["init", "phase", "certs", "all", "--config", "/kubeadm.yaml"]);
    kubeadm(binaries, &root, &["init", "phase", "kubeconfig", "all", "--config", "/kubeadm.yaml"]);
    stage
}

/// A certificate as openssl shows it, without what is random: serial number, key, identifiers, signature, dates.
fn shown(pem: &Path) -> Vec<String> {
    let text =
        openssl(&["x509", "-noout", "-text", "-nameopt", "show_type,sep_multiline", "-in", pem.to_str().unwrap()]);
    let is_random = |line: &&str| {
        let plain = line.trim();
        let is_byte = |part: &str| part.is_empty() || part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
        let hex = plain.split(':').all(is_byte);
        hex || plain.starts_with("Serial Number") || plain.starts_with("Not ") || plain.starts_with("keyid:")
    };
    text.lines()
        .filter(|line| !is_random(line))
        .map(|line| line.replace("Certificate Sign, CRL Sign", "Certificate Sign"))
        .collect()
}

/// Seconds of validity, and the raw subject and issuer.
fn measured(pem: &Path) -> (i64, String, String) {
    let certificate = kubepki::pki::pem_file::PemFile::parse(&std::fs::read(pem).unwrap());
    let der = certificate.certificates().next().unwrap().der.to_vec();
    let certificate = kubepki::pki::certificate::Certificate::from_der(&der).unwrap();
    let length = (certificate.not_after() - certificate.not_before()).whole_seconds();
    let hex = |name: &kubepki::pki::name::Name| kubepki::pki::hex(name.der());
    (length, hex(certificate.subject()), hex(certificate.issuer()))
}

#[track_caller]
fn same_measure(own: &Path, other: &Path) {
    let ((length, subject, issuer), (their_length, their_subject, their_issuer)) = (measured(own), measured(other));
    assert_eq!((subject, issuer), (their_subject, their_issuer), "{}", own.display());
    // kubeadm reads the clock twice, so a second may pass between the two dates.
    assert!((length..=length + 5).contains(&their_length), "{}: {length} {their_length}", own.display());
}

/// Names, kinds, modes and PEM labels of everything below a Kubernetes folder but kubepki's own.
fn layout(kubernetes: &Path) -> BTreeMap<String, String> {
    let tree = picture(kubernetes, &["tmp"]);
    let describe = |entry: Entry| match entry {
        Entry::File { mode, content, .. } => {
            let label = content.split("-----").nth(1).unwrap_or_default().to_owned();
            format!("file {mode:o} {label}")
        }
        Entry::Folder { mode, .. } => format!("folder {mode:o}"),
        other => format!("{other:?}"),
    };
    tree.into_iter().map(|(path, entry)| (path.display().to_string(), describe(entry))).collect()
}

/// A kubeconfig's text without its embedded data, and the data.
fn parts(path: &Path) -> (String, Vec<String>) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut data = Vec::new();
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.split_once("-data: ") {
            Some((field, value)) => {
                data.push(value.to_owned());
                format!("{field}-data: …")
            }
            None => line.to_owned(),
        })
        .collect();
    (lines.join("\n"), data)
}

fn compare(binaries: &Path, algorithm: &str, subnet: &str) {
    let theirs = by_kubeadm(binaries, &configuration(&algorithm.to_uppercase(), subnet));
    let ours = Made::new(&options(algorithm, subnet));
    let with_kubelet = [&options(algorithm, subnet)[..], &["--only", "kubelet.conf"]].concat();
    ours.create(&["--yes", "-o", "none"], &with_kubelet).expect(0);
    let their_folder = theirs.at("root/etc/kubernetes");
    assert_eq!(layout(&ours.kubernetes("")), layout(&their_folder));
    let mut compared = 0;
    for path in layout(&their_folder).into_keys() {
        let (own, other) = (ours.kubernetes(&path), their_folder.join(&path));
        let ending = own.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if ending == "crt" {
            assert_eq!(shown(&own), shown(&other), "{path}");
            same_measure(&own, &other);
            compared += 1;
        } else if ending == "conf" {
            let ((text, data), (their_text, their_data)) = (parts(&own), parts(&other));
            assert_eq!(text, their_text, "{path}");
            let files = |stage: &Stage, data: &[String]| {
                let pems: Vec<Vec<u8>> = data.iter().map(|value| base64(value)).collect();
                assert_eq!(pems.len(), 3);
                let labels: Vec<String> =
                    pems.iter().map(|pem| String::from_utf8_lossy(pem).lines().next().unwrap().to_owned()).collect();
                (stage.put("authority.pem", &pems[0]), stage.put("client.pem", &pems[1]), labels)
            };
            let (authority, client, labels) = files(&ours.stage, &data);
            let (their_authority, their_client, their_labels) = files(&theirs, &their_data);
            assert_eq!(labels, their_labels, "{path}");
            assert_eq!(shown(&client), shown(&their_client), "{path}");
            same_measure(&client, &their_client);
            assert_eq!(shown(&authority), shown(&their_authority), "{path}");
            assert_eq!(std::fs::read(authority).unwrap(), std::fs::read(ours.pki("ca.crt")).unwrap());
            compared += 1;
        }
    }
    assert_eq!(compared, 15, "ten certificates and five kubeconfigs");
}

fn base64(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut command = Command::new("base64");
    command.arg("-d").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn everything_is_as_kubeadm_makes_it() {
    let Some(binaries) = skip::kubernetes("everything_is_as_kubeadm_makes_it", skip::KUBEADM) else { return };
    if !skip::root_only("everything_is_as_kubeadm_makes_it") {
        return;
    }
    compare(&binaries, "ecdsa-p256", "10.96.0.0/12");
    compare(&binaries, "ecdsa-p384", "fd00:10::/108,10.96.0.0/16");
    compare(&binaries, "rsa-2048", "172.16.0.0/16,fd00:10::/108");
}

#[test]
fn kubeadm_checks_and_renews_what_kubepki_made() {
    let Some(binaries) = skip::kubernetes("kubeadm_checks_and_renews_what_kubepki_made", skip::KUBEADM) else { return };
    if !skip::root_only("kubeadm_checks_and_renews_what_kubepki_made") {
        return;
    }
    let subnet = "10.96.0.0/12";
    for algorithm in ["rsa-2048", "ecdsa-p384"] {
        let made = Made::new(&options(algorithm, subnet));
        made.stage.put("root/kubeadm.yaml", configuration(&algorithm.to_uppercase(), subnet));
        let root = made.stage.at("root");
        let words = ["certs", "check-expiration", "--config", "/kubeadm.yaml", "-o", "json"];
        let seen: serde_json::Value = serde_json::from_str(&kubeadm(&binaries, &root, &words)).unwrap();
        let rows = |list: &str| seen[list].as_array().cloned().unwrap();
        assert_eq!((rows("certificates").len(), rows("certificateAuthorities").len()), (11, 3));
        for row in rows("certificates").iter().chain(&rows("certificateAuthorities")) {
            assert!(row["missing"] != true && row["externallyManaged"] != true, "{row}");
        }
        kubeadm(&binaries, &root, &["certs", "renew", "all", "--config", "/kubeadm.yaml"]);
        // What kubeadm renewed is still what the spec wants.
        let again = made.create(&[], &options(algorithm, subnet)).expect(0);
        assert!(again.out.contains("nothing to change"), "{}", again.out);
    }
}

#[test]
fn a_directory_of_kubeadm_is_completed_and_otherwise_left_alone() {
    let Some(binaries) = skip::kubernetes("a_directory_of_kubeadm_is_completed", skip::KUBEADM) else { return };
    if !skip::root_only("a_directory_of_kubeadm_is_completed") {
        return;
    }
    let subnet = "10.96.0.0/12";
    for algorithm in ["rsa-2048", "rsa-4096", "ecdsa-p384"] {
        let theirs = by_kubeadm(&binaries, &configuration(&algorithm.to_uppercase(), subnet));
        let kubernetes = theirs.at("root/etc/kubernetes");
        let before = picture(
            &kubernetes,
            &["tmp", "pki/apiserver-etcd-client.crt", "pki/apiserver-etcd-client.key", "pki/sa.pub"],
        );
        for name in ["pki/apiserver-etcd-client.crt", "pki/apiserver-etcd-client.key", "pki/sa.pub"] {
            std::fs::remove_file(kubernetes.join(name)).unwrap();
        }
        let root = theirs.at("root");
        let mut words = vec!["create-certs", "--root", root.to_str().unwrap(), "--yes"];
        // The kind of key is kubeadm's already; nobody has to name it.
        let options = options(algorithm, subnet);
        words.extend(options.iter().filter(|word| **word != "--key-algorithm" && **word != algorithm));
        theirs.run(&words).expect(0);
        let without = ["tmp", "pki/apiserver-etcd-client.crt", "pki/apiserver-etcd-client.key", "pki/sa.pub"];
        assert_eq!(picture(&kubernetes, &without), before);
        let (authority, leaf) = (kubernetes.join("pki/etcd/ca.crt"), kubernetes.join("pki/apiserver-etcd-client.crt"));
        let mut verify = Command::new("openssl");
        verify.args(["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"]).args([authority, leaf]);
        let output = verify.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let public = openssl(&["pkey", "-in", kubernetes.join("pki/sa.key").to_str().unwrap(), "-pubout"]);
        assert_eq!(std::fs::read_to_string(kubernetes.join("pki/sa.pub")).unwrap(), public);
    }
}

//! What check-expiry prints, against what kubeadm and openssl say of the same files.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use serde_json::Value;

use crate::support::binary::Stage;
use crate::support::openssl::{self, openssl};
use crate::support::process::succeed;
use crate::support::skip;

/// A control-plane node made by kubeadm, in a root of its own.
struct Node {
    stage: Stage,
    kubeadm: PathBuf,
}

impl Node {
    fn new(binaries: &Path, algorithm: &str) -> Self {
        let stage = Stage::new();
        stage.put(
            "root/kubeadm.yaml",
            format!(
                "apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: 10.0.0.5}}
nodeRegistration: {{name: cp1}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.36.2
encryptionAlgorithm: {algorithm}
apiServer: {{certSANs: ['*.example.com', '2001:db8::9']}}
"
            ),
        );
        let node = Self { stage, kubeadm: binaries.join("kubeadm") };
        node.kubeadm(&["init", "phase", "certs", "all", "--config", "/kubeadm.yaml"]);
        node.kubeadm(&["init", "phase", "kubeconfig", "all", "--config", "/kubeadm.yaml"]);
        node
    }

    fn kubeadm(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.kubeadm);
        command.env_clear().env("PATH", "/usr/bin:/bin").arg("--rootfs").arg(self.stage.at("root")).args(words);
        succeed(&mut command)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.stage.at("root/etc/kubernetes").join(path)
    }

    /// kubeadm's document and ours, of the same files at nearly the same moment.
    fn both(&self) -> (Value, Value) {
        let theirs = self.kubeadm(&["certs", "check-expiration", "-o", "json"]);
        let root = self.stage.at("root").display().to_string();
        let ours = self.stage.run(&["check-expiry", "--root", &root, "-o", "json", "--no-fail"]).expect(0);
        (serde_json::from_str(&theirs).unwrap(), ours.json())
    }
}

/// That `ours` has every row, key and value of `theirs`; seconds may pass between the two.
#[track_caller]
fn holds_all_of(ours: &Value, theirs: &Value) {
    for (key, value) in theirs.as_object().unwrap() {
        let Some(rows) = value.as_array() else {
            assert_eq!(&ours[key], value, "{key}");
            continue;
        };
        for row in rows {
            let mut own = ours[key].as_array().unwrap().iter().filter(|own| own["name"] == row["name"]);
            let (own, another) = (own.next().unwrap_or_else(|| panic!("no row for {row}")), own.next());
            assert!(another.is_none(), "two rows for {row}");
            for (key, value) in row.as_object().unwrap() {
                if key == "residualTime" {
                    let difference = value.as_i64().unwrap() - own[key].as_i64().unwrap();
                    assert!(difference.abs() <= 60, "{row} {own}");
                    assert_eq!(value.as_i64() == Some(0), own[key] == 0);
                } else {
                    assert_eq!(&own[key], value, "{key} of {own}");
                }
            }
        }
    }
}

#[test]
fn every_row_key_and_value_of_kubeadm_is_there() {
    let test = "every_row_key_and_value_of_kubeadm_is_there";
    let Some(binaries) = skip::kubernetes(test, skip::KUBEADM) else { return };
    if !skip::root_only(test) {
        return;
    }
    for algorithm in ["RSA-2048", "RSA-4096", "ECDSA-P384"] {
        let node = Node::new(&binaries, algorithm);
        let (theirs, ours) = node.both();
        assert_eq!(theirs["certificates"].as_array().unwrap().len(), 11);
        holds_all_of(&ours, &theirs);
        assert!(ours["summary"]["ok"].as_u64() >= Some(15), "{:#}", ours["summary"]);
        let kinds = ours["certificates"].as_array().unwrap().iter().map(|row| row["keyAlgorithm"].as_str().unwrap());
        assert!(kinds.clone().all(|kind| kind == algorithm.to_lowercase()), "{:?}", kinds.collect::<Vec<_>>());
    }
}

#[test]
fn external_authorities_missing_files_and_bundles_are_told_as_kubeadm_tells_them() {
    let test = "external_authorities_missing_files_and_bundles_are_told_as_kubeadm_tells_them";
    let Some(binaries) = skip::kubernetes(test, skip::KUBEADM) else { return };
    if !skip::root_only(test) {
        return;
    }
    for key in ["pki/ca.key", "pki/front-proxy-ca.key", "pki/etcd/ca.key"] {
        let node = Node::new(&binaries, "ECDSA-P256");
        std::fs::remove_file(node.at(key)).unwrap();
        let (theirs, ours) = node.both();
        assert!(theirs.to_string().contains("\"externallyManaged\":true"));
        holds_all_of(&ours, &theirs);
        assert_eq!(ours["summary"]["missing"], 0);
    }
    for file in ["pki/apiserver.crt", "pki/etcd/server.crt", "admin.conf", "super-admin.conf", "scheduler.conf"] {
        let node = Node::new(&binaries, "ECDSA-P256");
        std::fs::remove_file(node.at(file)).unwrap();
        let (theirs, ours) = node.both();
        assert!(theirs.to_string().contains("\"missing\":true"));
        holds_all_of(&ours, &theirs);
    }
    let node = Node::new(&binaries, "ECDSA-P256");
    let ca = std::fs::read(node.at("pki/ca.crt")).unwrap();
    std::fs::write(node.at("pki/ca.crt"), ca.repeat(2)).unwrap();
    std::fs::write(node.at("pki/apiserver.crt"), [std::fs::read(node.at("pki/apiserver.crt")).unwrap(), ca].concat())
        .unwrap();
    let (theirs, ours) = node.both();
    holds_all_of(&ours, &theirs);
}

#[test]
fn a_bare_folder_is_told_as_kubeadm_tells_it() {
    let test = "a_bare_folder_is_told_as_kubeadm_tells_it";
    let Some(binaries) = skip::kubernetes(test, skip::KUBEADM) else { return };
    if !skip::root_only(test) {
        return;
    }
    let node = Node::new(&binaries, "ECDSA-P384");
    // Beside another root, where kubeadm finds no kubeconfigs, as with a folder that was copied away.
    std::fs::create_dir(node.stage.at("root/copied")).unwrap();
    std::fs::rename(node.at("pki"), node.stage.at("root/copied/pki")).unwrap();
    std::fs::remove_dir_all(node.at("")).unwrap();
    let theirs = node.kubeadm(&["certs", "check-expiration", "--cert-dir", "/copied/pki", "-o", "json"]);
    let folder = node.stage.at("root/copied/pki").display().to_string();
    let ours = node.stage.run(&["check-expiry", "--pki-dir", &folder, "-o", "json"]).expect(0).json();
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    assert_eq!(theirs["certificates"].as_array().unwrap().iter().filter(|row| row["missing"] == true).count(), 4);
    holds_all_of(&ours, &theirs);
}

/// What openssl says of one certificate, in the words of a row.
fn by_openssl(pem: &Path) -> Vec<(&'static str, Value)> {
    let path = pem.to_str().unwrap();
    let one =
        |words: &[&str]| openssl(&[&["x509", "-noout", "-in", path], words].concat()).trim_end_matches('\n').to_owned();
    let name = |which: &str| one(&[which, "-nameopt", "RFC2253,-esc_msb,utf8"]).split_once('=').unwrap().1.to_owned();
    let date = |which: &str| {
        let text = one(&[which, "-dateopt", "iso_8601"]).split_once('=').unwrap().1.to_owned();
        text.replace(' ', "T").trim_end_matches('Z').to_owned() + "Z"
    };
    let names = one(&["-ext", "subjectAltName"]);
    let names: Vec<String> = names.lines().skip(1).flat_map(|line| line.trim().split(", ")).map(san).collect();
    vec![
        ("subject", name("-subject").into()),
        ("issuer", name("-issuer").into()),
        ("serialNumber", one(&["-serial"]).replace("serial=", "").to_lowercase().into()),
        (
            "fingerprintSha256",
            one(&["-fingerprint", "-sha256"]).split_once('=').unwrap().1.replace(':', "").to_lowercase().into(),
        ),
        ("notBefore", date("-startdate").into()),
        ("notAfter", date("-enddate").into()),
        ("expirationDate", date("-enddate").into()),
        ("sans", names.into()),
    ]
}

/// openssl reverses the attributes within one relative distinguished name as well, which RFC 4514 leaves open.
fn in_any_order(value: &Value) -> Value {
    match value.as_str().filter(|text| text.contains('+') && !text.contains("\\+")) {
        Some(text) => {
            let sorted = |rdn: &str| {
                let mut parts: Vec<&str> = rdn.split('+').collect();
                parts.sort_unstable();
                parts.join("+")
            };
            text.split(',').map(sorted).collect::<Vec<_>>().join(",").into()
        }
        None => value.clone(),
    }
}

/// `IP Address:FD00:0:0:0:0:0:0:1` as `IP:fd00::1`.
fn san(text: &str) -> String {
    match text.strip_prefix("IP Address:") {
        Some(address) => format!("IP:{}", address.parse::<std::net::IpAddr>().unwrap()),
        None => text.to_owned(),
    }
}

/// The certificate of a row, as a file of its own.
fn certificate_of(stage: &Stage, root: &Path, row: &Value) -> PathBuf {
    let path = row["path"].as_str().unwrap();
    let (path, index) = match path.strip_suffix(']').and_then(|path| path.rsplit_once('[')) {
        Some((path, index)) => (path, index.parse().unwrap()),
        None => (path, 0),
    };
    let (file, entry) = path.split_once('#').map_or((path, None), |(file, entry)| (file, Some(entry)));
    let text = std::fs::read_to_string(root.join(file.trim_start_matches('/'))).unwrap();
    let field =
        entry.map(|entry| if entry.starts_with("user/") { "client-certificate" } else { "certificate-authority" });
    let text = match field {
        Some(field) => {
            let line = text.lines().find(|line| line.trim().starts_with(&format!("{field}-data: "))).unwrap();
            let data = base64::engine::general_purpose::STANDARD.decode(line.split_once(": ").unwrap().1).unwrap();
            String::from_utf8(data).unwrap()
        }
        None => text,
    };
    let end = "-----END CERTIFICATE-----\n";
    stage.put("one.pem", text.split_inclusive(end).nth(index).unwrap())
}

#[track_caller]
fn agrees_with_openssl(document: &Value, stage: &Stage, root: &Path) -> usize {
    let rows =
        ["certificates", "certificateAuthorities"].map(|list| document[list].as_array().unwrap().clone()).concat();
    let with_certificate: Vec<&Value> = rows.iter().filter(|row| !row["notAfter"].is_null()).collect();
    for row in &with_certificate {
        let pem = certificate_of(stage, root, row);
        for (key, value) in by_openssl(&pem) {
            assert_eq!(in_any_order(&row[key]), in_any_order(&value), "{key} of {}", row["path"]);
        }
        // openssl's own judgement of the last second, from both sides.
        let seconds = row["residualTime"].as_i64().unwrap();
        if seconds > 120 {
            let check = |seconds: i64| {
                let seconds = seconds.to_string();
                Command::new("openssl")
                    .args(["x509", "-noout", "-checkend", &seconds, "-in"])
                    .arg(&pem)
                    .output()
                    .unwrap()
            };
            assert!(check(seconds - 120).status.success() && !check(seconds + 120).status.success());
        }
    }
    with_certificate.len()
}

#[test]
fn openssl_agrees_with_every_date_serial_name_and_fingerprint_of_kubeadms_files() {
    let test = "openssl_agrees_with_every_date_serial_name_and_fingerprint_of_kubeadms_files";
    let Some(binaries) = skip::kubernetes(test, skip::KUBEADM) else { return };
    if !skip::root_only(test) || !openssl::is_there(test) {
        return;
    }
    for algorithm in ["RSA-2048", "ECDSA-P384"] {
        let node = Node::new(&binaries, algorithm);
        let (_, ours) = node.both();
        assert_eq!(agrees_with_openssl(&ours, &node.stage, &node.stage.at("root")), 20);
    }
}

#[test]
fn openssl_agrees_on_odd_names_serials_dates_and_alternative_names() {
    let test = "openssl_agrees_on_odd_names_serials_dates_and_alternative_names";
    if !openssl::is_there(test) {
        return;
    }
    let stage = Stage::new();
    let odd = [
        ("/O=one/O=two/CN=plain", "1", "365", "DNS:a.example.com,DNS:*.example.com"),
        ("/CN=comma, plus\\+ quote\" back\\\\slash", "0x0a1b", "36500", "IP:10.0.0.1,IP:fd00::1,IP:::"),
        (
            "/CN=#hash at the start",
            "0x7fffffffffffffffffffffffffffffffffffffff",
            "1",
            "URI:spiffe://cluster.local/ns/x",
        ),
        ("/CN= space at both ends ", "0", "365", "email:a@example.com"),
        ("/C=DE/ST=Bayern/L=M\u{fc}nchen/O=\u{4e2d}\u{6587}/OU=a;b<c>d/CN=\u{e9}t\u{e9}", "-5", "365", "DNS:x"),
        ("/DC=com/DC=example/UID=u1/CN=two dc", "255", "10950", "DNS:x"),
        ("/O=one+OU=two/CN=multi", "256", "365", "DNS:x"),
        ("/CN=tab\there", "0x80", "365", "DNS:x"),
    ];
    for (index, (subject, serial, days, san)) in odd.iter().enumerate() {
        let (certificate, key) = (stage.at(&format!("d/{index}.crt")), stage.at("unused.key"));
        std::fs::create_dir_all(stage.at("d")).unwrap();
        let san = format!("subjectAltName={san}");
        openssl(&[
            "req",
            "-x509",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-utf8",
            "-multivalue-rdn",
            "-subj",
            subject,
            "-set_serial",
            serial,
            "-days",
            days,
            "-addext",
            &san,
            "-out",
            certificate.to_str().unwrap(),
            "-keyout",
            key.to_str().unwrap(),
        ]);
    }
    let folder = stage.at("d").display().to_string();
    let document = stage.run(&["check-expiry", "--path", &folder, "-o", "json", "--no-fail"]).expect(0).json();
    assert_eq!(agrees_with_openssl(&document, &stage, Path::new("/")), odd.len());
}

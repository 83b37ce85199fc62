//! What openssl says of the files of a cluster: every leaf is its authority's and fits its key, no leaf is on two nodes,
//! and what is shared is the same everywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;

use crate::machines::{Fleet, NAMES, is_shared};
use crate::openssl::openssl;
use crate::tree::Entry;

const LEAVES: [(&str, &str); 7] = [
    ("pki/apiserver", "pki/ca"),
    ("pki/apiserver-kubelet-client", "pki/ca"),
    ("pki/front-proxy-client", "pki/front-proxy-ca"),
    ("pki/etcd/server", "pki/etcd/ca"),
    ("pki/etcd/peer", "pki/etcd/ca"),
    ("pki/etcd/healthcheck-client", "pki/etcd/ca"),
    ("pki/apiserver-etcd-client", "pki/etcd/ca"),
];

const KUBECONFIGS: [&str; 3] = ["admin.conf", "controller-manager.conf", "scheduler.conf"];

/// A kubeconfig's field of embedded data, as text.
pub fn data(kubeconfig: &str, field: &str) -> String {
    let mut lines = kubeconfig.lines().filter_map(|line| line.trim().strip_prefix(field)?.strip_prefix(": "));
    let encoded = lines.next().unwrap_or_else(|| panic!("there is no {field} in the kubeconfig"));
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded.trim_matches('"')).unwrap()).unwrap()
}

/// Panics with what is wrong on the nodes.
#[track_caller]
pub fn judge(fleet: &Fleet) {
    let scratch = tempfile::tempdir().unwrap();
    let mut serials: BTreeMap<String, String> = BTreeMap::new();
    for name in NAMES {
        let at = |path: &str| fleet.at(name, path).display().to_string();
        for (leaf, authority) in LEAVES {
            let (crt, key) = (at(&format!("{leaf}.crt")), at(&format!("{leaf}.key")));
            weigh(&at(&format!("{authority}.crt")), &crt, &key, &format!("{name}: {leaf}"), &mut serials);
        }
        let own = if name == "cp1" { &["super-admin.conf"][..] } else { &[] };
        for file in KUBECONFIGS.iter().chain(own) {
            let text = fs::read_to_string(fleet.at(name, file)).unwrap();
            let put = |to: &str, field: &str| {
                let path = scratch.path().join(to);
                fs::write(&path, data(&text, field)).unwrap();
                path.display().to_string()
            };
            let (crt, key) = (put("crt", "client-certificate-data"), put("key", "client-key-data"));
            weigh(&at("pki/ca.crt"), &crt, &key, &format!("{name}: {file}"), &mut serials);
            let trusted = data(&text, "certificate-authority-data");
            assert_eq!(trusted, fs::read_to_string(at("pki/ca.crt")).unwrap(), "{name}: {file} trusts the CA");
            assert!(text.contains("https://api.example.com:6443") || !file.contains("admin"), "{name}: {file}: {text}");
        }
        let names = openssl(&["x509", "-in", &at("pki/apiserver.crt"), "-noout", "-ext", "subjectAltName"]);
        assert!(names.contains(&format!("DNS:{name},")), "{name}: {names}");
    }
    share_what_is_shared(fleet);
}

fn weigh(ca: &str, crt: &str, key: &str, what: &str, serials: &mut BTreeMap<String, String>) {
    openssl(&["verify", "-x509_strict", "-CAfile", ca, crt]);
    let certified = openssl(&["x509", "-in", crt, "-noout", "-pubkey"]);
    assert_eq!(certified, openssl(&["pkey", "-in", key, "-pubout"]), "{what}: key");
    let serial = openssl(&["x509", "-in", crt, "-noout", "-serial"]);
    if let Some(other) = serials.insert(serial, what.to_owned()) {
        panic!("{what} and {other} are one certificate");
    }
}

fn share_what_is_shared(fleet: &Fleet) {
    let look = fleet.look();
    let shared = |name: &str| -> BTreeMap<&Path, &Entry> {
        let files = look[name].0.iter().filter(|(path, entry)| is_shared(path) && matches!(entry, Entry::File { .. }));
        files.map(|(path, entry)| (path.as_path(), entry)).collect()
    };
    assert_eq!(shared("cp1").len(), 8, "{:?}", shared("cp1").keys());
    for name in NAMES {
        assert!(shared(name) == shared("cp1"), "{name} has other authorities or token keys than cp1");
    }
}

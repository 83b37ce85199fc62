//! Hostile content in every file a machine has: it is observed, judged, shown, and a rotation planned.

#![no_main]

use kubepki::diagnose::{Policy, diagnose};
use kubepki::observe::{Keys, Wanted, observe};
use kubepki::pki::pem_file::encode;
use kubepki::plan::rotate::{self, Request};
use kubepki::report::expiry::ExpiryReport;
use kubepki::report::table::Look;
use kubepki::report::{Report as _, monitoring, prometheus, structured};
use kubepki_fuzz::{Files, NOW, assert_harmless};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 12] = [
    "pki/ca.crt",
    "pki/ca.key",
    "pki/apiserver.crt",
    "pki/apiserver.key",
    "pki/sa.pub",
    "pki/etcd/ca.crt",
    "pki/front-proxy-client.crt",
    "pki/apiserver.csr",
    "pki/other.pem",
    "admin.conf",
    "kubelet.conf",
    "super-admin.conf",
];

/// `data` is a list of files: a byte for the path, one for the form, two for the length, then the content.
fn files(mut data: &[u8]) -> Files {
    let mut files: Vec<(std::path::PathBuf, Vec<u8>)> = Vec::new();
    while let [path, form, high, low, rest @ ..] = data {
        let length = (usize::from(*high) << 8 | usize::from(*low)).min(rest.len());
        let (content, rest) = rest.split_at(length);
        data = rest;
        let path = PATHS[usize::from(*path) % PATHS.len()];
        let tag = match form % 6 {
            0 => None,
            1 => Some("CERTIFICATE"),
            2 => Some("PRIVATE KEY"),
            3 => Some("RSA PRIVATE KEY"),
            4 => Some("CERTIFICATE REQUEST"),
            _ => Some("PUBLIC KEY"),
        };
        let content = tag.map_or(content.to_vec(), |tag| encode(tag, content).as_bytes().to_vec());
        let path = std::path::Path::new("/etc/kubernetes").join(path);
        match files.iter_mut().find(|(known, _)| *known == path) {
            Some((_, known)) => known.extend(content),
            None => files.push((path, content)),
        }
    }
    files.sort();
    Files(files)
}

fuzz_target!(|data: &[u8]| {
    let files = files(data);
    let snapshot = observe(&[&files], &Wanted::machine(Keys::PublicHalf), NOW);
    assert!(snapshot.nodes.iter().all(|node| node.error.is_none()));
    let diagnosis = diagnose(&snapshot, &Policy::at(NOW));
    for (path, _) in &files.0 {
        assert!(snapshot.nodes[0].at(path).is_some(), "{} is not in the snapshot", path.display());
    }

    let rows = diagnosis.rows.iter().collect();
    let report =
        ExpiryReport { rows, snapshot: &snapshot, at: NOW, made_at: NOW, renew_all: "kubepki rotate-certs".to_owned() };
    assert_harmless(&report.view(NOW).render(Look { width: Some(100), coloured: false }));
    assert_harmless(&monitoring::line(&report).0);
    assert_harmless(&prometheus::text(&report));
    let value = report.to_value().expect("every report can be written");
    let read: serde_json::Value = serde_json::from_str(&structured::json(&value).expect("JSON")).expect("JSON");
    assert_eq!(read, value);
    structured::yaml(&value).expect("every report can be written");

    let _ = rotate::plan(&snapshot, &Request::default(), NOW);
    let _ = rotate::plan(&snapshot, &Request { same_key: true, ..Request::default() }, NOW);
});

//! Hostile content in every file a machine has: it is observed, judged, shown, and a rotation planned.

#![no_main]

use std::path::Path;

use kubepki::diagnose::{Policy, diagnose};
use kubepki::observe::{Keys, Wanted, observe};
use kubepki::plan::rotate::{self, Request};
use kubepki::report::expiry::ExpiryReport;
use kubepki::report::table::Look;
use kubepki::report::{Report as _, monitoring, prometheus, structured};
use kubepki_fuzz::{NOW, assert_harmless, files};
use libfuzzer_sys::fuzz_target;

const CONFIGURATION: &str = "/var/lib/kubelet/config.yaml";

const USERS: &str = "/root/.kube/config";

const PATHS: [&str; 16] = [
    "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/pki/apiserver.crt",
    "/etc/kubernetes/pki/apiserver.key",
    "/etc/kubernetes/pki/sa.pub",
    "/etc/kubernetes/pki/etcd/ca.crt",
    "/etc/kubernetes/pki/front-proxy-client.crt",
    "/etc/kubernetes/pki/apiserver.csr",
    "/etc/kubernetes/pki/other.pem",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/super-admin.conf",
    CONFIGURATION,
    "/var/lib/kubelet/pki/kubelet.crt",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
    USERS,
];

fuzz_target!(|data: &[u8]| {
    let files = files(data, &PATHS);
    let snapshot = observe(&[&files], &Wanted::machine(Keys::PublicHalf), NOW);
    assert!(snapshot.nodes.iter().all(|node| node.error.is_none()));
    let diagnosis = diagnose(&snapshot, &Policy::at(NOW));
    // What a configuration or a user's own kubeconfig does not hold is nobody's concern.
    let shown = files.0.iter().filter(|(path, _)| ![Path::new(CONFIGURATION), Path::new(USERS)].contains(&path.as_path()));
    for (path, _) in shown {
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

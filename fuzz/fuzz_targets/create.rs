//! Hostile content where certificates are to be made, and among signed ones that come back: a plan, or problems in words.

#![no_main]

use std::net::IpAddr;

use kubepki::observe::{self, Keys, Scope, Wanted, observe};
use kubepki::pki::profile::Profile;
use kubepki::pki::spec::NodeValues;
use kubepki::plan::create::{Place, Request, create, import};
use kubepki_fuzz::{NOW, files};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 16] = [
    "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/pki/apiserver.crt",
    "/etc/kubernetes/pki/apiserver.key",
    "/etc/kubernetes/pki/sa.pub",
    "/etc/kubernetes/pki/sa.key",
    "/etc/kubernetes/pki/etcd/ca.crt",
    "/etc/kubernetes/pki/apiserver.csr",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/admin.conf.csr",
    "/offered/ca.crt",
    "/offered/apiserver.crt",
    "/offered/etcd/ca.pem",
    "/offered/front-proxy-client.cer",
    "/offered/admin.conf.crt",
    "/offered/other.crt",
];

fuzz_target!(|data: &[u8]| {
    let files = files(data, &PATHS);
    let requests = Scope::Path("/etc/kubernetes/admin.conf.csr".into());
    let wanted = Wanted { scopes: vec![Scope::machine(), requests], keys: Keys::PublicHalf };
    let snapshot = observe(&[&files], &wanted, NOW);
    let spec = Profile::Kubeadm.spec();
    let nodes = [Place {
        node: "local".to_owned(),
        is_first: true,
        values: NodeValues { name: "cp1".to_owned(), address: IpAddr::from([10, 0, 0, 1]) },
        pki_dir: "/etc/kubernetes/pki".into(),
        kubernetes_dir: Some("/etc/kubernetes".into()),
        illegible: std::collections::HashMap::new(),
    }];
    let plain = Request {
        spec: &spec,
        snapshot: &snapshot,
        nodes: &nodes,
        now: NOW,
        only: &[],
        force: false,
        csr_only: false,
        command_line: "kubepki create-certs",
    };
    for request in [Request { ..plain }, Request { force: true, ..plain }, Request { csr_only: true, ..plain }] {
        let _ = create(&request);
    }
    let folder = Wanted { scopes: vec![Scope::Path("/offered".into())], keys: Keys::PublicHalf };
    let offered = observe::node(&files, &folder);
    let _ = import(&plain, std::path::Path::new("/offered"), &offered);
});

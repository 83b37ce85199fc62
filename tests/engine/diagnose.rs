//! One cluster per finding id: a healthy one in which one thing was changed has exactly that finding and no other.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kubepki::diagnose::{self, FindingId, Policy, Status};
use kubepki::node::Node;
use kubepki::observe::{self, Keys, Scope, Wanted};
use kubepki::pki::certificate::Certificate;
use kubepki::pki::san::San;
use kubepki::snapshot::{Artifact, Content, Facts, Snapshot, Source, State};
use time::Duration;

use crate::support::cluster::{
    BOTH, CLIENT, Cluster, ISSUED, NOW, Pair, SERVER, apiserver_sans, embedded, etcd_sans, kubeconfig,
};
use crate::support::openssl;
use crate::support::root::TestRoot;

mod agreement;
mod distributions;
mod keys_and_files;
mod served;
mod servers_and_nodes;
mod time_and_chain;

const PKI: &str = "/etc/kubernetes/pki";

fn look(root: &TestRoot) -> Snapshot {
    let mut snapshot = observe::observe(&[&root.node as &dyn Node], &Wanted::machine(Keys::PublicHalf), NOW);
    // A temporary folder has no machine around it.
    snapshot.nodes[0].facts = None;
    snapshot
}

/// Everything found about `snapshot` under `policy`, as `ID at NAME`.
fn found(snapshot: &Snapshot, policy: &Policy) -> BTreeSet<(FindingId, String)> {
    let diagnosis = diagnose::diagnose(snapshot, policy);
    diagnosis.findings().map(|(row, finding)| (finding.id, row.name.clone())).collect()
}

/// That `cluster` has the finding `id` at the row `name`, and nothing else.
fn only(cluster: &Cluster, id: FindingId, name: &str) {
    expect(&look(&cluster.write()), &Policy::at(NOW), id, name);
}

fn expect(snapshot: &Snapshot, policy: &Policy, id: FindingId, name: &str) {
    assert_eq!(found(snapshot, policy), BTreeSet::from([(id, name.to_owned())]));
    let diagnosis = diagnose::diagnose(snapshot, policy);
    let affected = diagnosis.rows.iter().filter(|row| !row.findings.is_empty());
    assert_eq!(affected.count(), 1);
    let row = diagnosis.row(name).unwrap();
    assert_eq!(row.status(), id.status());
    for finding in &row.findings {
        assert!(!finding.remedy.is_empty() && !finding.message.is_empty());
        assert!(!finding.message.ends_with('.'), "{}", finding.message);
    }
}

#[test]
fn a_healthy_node_has_no_findings_at_all() {
    let snapshot = look(&Cluster::healthy().write());
    assert_eq!(found(&snapshot, &Policy::at(NOW)), BTreeSet::new());
    let diagnosis = diagnose::diagnose(&snapshot, &Policy::at(NOW));
    assert!(diagnosis.rows.iter().all(|row| row.status() == Status::Ok));
    assert_eq!(diagnosis.severity(), None);
    let names: Vec<&str> = diagnosis.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "ca",
            "apiserver",
            "apiserver-kubelet-client",
            "front-proxy-ca",
            "front-proxy-client",
            "etcd-ca",
            "etcd-server",
            "etcd-peer",
            "etcd-healthcheck-client",
            "apiserver-etcd-client",
            "admin.conf",
            "admin.conf#cluster/kubernetes",
            "super-admin.conf",
            "super-admin.conf#cluster/kubernetes",
            "controller-manager.conf",
            "controller-manager.conf#cluster/kubernetes",
            "scheduler.conf",
            "scheduler.conf#cluster/kubernetes",
            "kubelet.conf",
            "kubelet.conf#cluster/kubernetes",
            "kubelet-client",
            "kubelet",
            "kubelet[1]"
        ]
    );
}

#[test]
fn every_finding_is_shown_by_a_test_here() {
    let source = [
        include_str!("diagnose/agreement.rs"),
        include_str!("diagnose/keys_and_files.rs"),
        include_str!("diagnose/served.rs"),
        include_str!("diagnose/servers_and_nodes.rs"),
        include_str!("diagnose/time_and_chain.rs"),
    ]
    .concat();
    for id in FindingId::ALL {
        let word = format!("FindingId::{id:?}");
        assert!(source.contains(&word), "no cluster shows {id}");
    }
}

#[test]
fn every_finding_has_its_section_with_severity_and_status() {
    let document = include_str!("../../docs/findings.md");
    let sections: Vec<&str> = document.split("\n### ").skip(1).collect();
    assert_eq!(sections.len(), FindingId::ALL.len());
    for (section, id) in sections.iter().zip(FindingId::ALL) {
        let head = format!("{id}\n\nSeverity {}, status {}.\n", id.severity().name(), id.status());
        assert!(section.starts_with(&head), "{id}: {}", &section[..60.min(section.len())]);
        assert!(section.contains("\nWhat to do: "), "{id}");
    }
}

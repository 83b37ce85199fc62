//! Real etcd members accept what kubepki makes as servers, peers and clients, and nothing else.

use std::path::PathBuf;

use crate::support::etcd::{Etcd, programs};
use crate::support::made::Made;
use crate::support::process::said;

const QUICK: [&str; 4] = ["--key-algorithm", "ecdsa-p256", "--advertise-address", "127.0.0.1"];

/// Three nodes of one cluster: the second and third get the CAs of the first, and make the rest themselves.
pub(crate) fn three_nodes(options: &[&str]) -> [Made; 3] {
    let first = Made::new(&[&QUICK[..], &["--node-name", "cp1"], options].concat());
    let others = ["cp2", "cp3"].map(|name| {
        let node = Made { stage: crate::support::binary::Stage::new(), spec: first.spec.clone() };
        for authority in first.entries("authorities") {
            for ending in ["crt", "key"] {
                let path = format!("{}.{ending}", authority["path"].as_str().unwrap());
                let content = std::fs::read(first.pki(&path)).unwrap();
                node.stage.put(&format!("root/etc/kubernetes/pki/{path}"), content);
            }
        }
        node.create(&["--yes", "-o", "none"], &[&QUICK[..], &["--node-name", name], options].concat()).expect(0);
        node
    });
    let [second, third] = others;
    [first, second, third]
}

pub(crate) fn pki_dirs(nodes: &[Made; 3]) -> Vec<PathBuf> {
    nodes.iter().map(|node| node.pki("")).collect()
}

fn judge(test: &str, options: &[&str], trust: &str) {
    for program in programs(test) {
        let nodes = three_nodes(options);
        let mut etcd = Etcd::start(&program, &pki_dirs(&nodes), trust);
        etcd.prove("key", "first");
        etcd.restart_member(1);
        etcd.prove("key", "second");
        let health = etcd.ctl_as(2, "etcd/healthcheck-client", &["endpoint", "health"]);
        assert!(health.status.success(), "{}", said(&health));
        // A client of the cluster's CA has no business in etcd.
        let foreign = etcd.ctl_as(0, "apiserver-kubelet-client", &["get", "key"]);
        assert!(!foreign.status.success(), "{}", said(&foreign));
        assert!(!String::from_utf8_lossy(&foreign.stdout).contains("second"), "{}", said(&foreign));
    }
}

#[test]
fn three_members_form_a_cluster_with_the_kubeadm_profile() {
    judge("three_members_form_a_cluster_with_the_kubeadm_profile", &[], "etcd/ca.crt");
}

#[test]
fn three_members_form_a_cluster_with_the_aks_arc_profile() {
    judge("three_members_form_a_cluster_with_the_aks_arc_profile", &["--profile", "aks-arc"], "ca.crt");
}

#[test]
fn a_member_with_a_foreign_peer_certificate_stays_outside() {
    let Some(program) = programs("a_member_with_a_foreign_peer_certificate_stays_outside").into_iter().next() else {
        return;
    };
    let nodes = three_nodes(&[]);
    // The same names, another CA: everything but the chain is right.
    let stranger = Made::new(&[&QUICK[..], &["--node-name", "cp3"]].concat());
    let mut etcd = Etcd::prepare(&program, &pki_dirs(&nodes), "etcd/ca.crt");
    etcd.move_member(2, &stranger.pki(""));
    (0..3).for_each(|index| etcd.start_member(index));
    etcd.wait_until_healthy_but(2);
    let refused = etcd.ctl(2, &["get", "key"]);
    assert!(!refused.status.success(), "{}", said(&refused));
    // The other two see who it is and refuse; with its own certificate the same member comes in.
    assert!(etcd.words().contains("certificate"), "{}", etcd.words());
    etcd.stop_member(2);
    etcd.move_member(2, &nodes[2].pki(""));
    etcd.start_member(2);
    etcd.wait_until_healthy();
    etcd.prove("key", "all three");
}

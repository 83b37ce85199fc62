//! Rotations as stories: a node, a wish, and what becomes of every file.

mod crash;
mod external;
mod in_vain;
mod laws;
mod obstacles;

use std::collections::BTreeSet;
use std::path::PathBuf;

use kubepki::pki::certificate::Certificate;
use kubepki::pki::lifetime::Threshold;
use kubepki::plan::rotate::Request;
use kubepki::snapshot::{Content, Snapshot};
use time::{Duration, OffsetDateTime};

use crate::support::cluster::{CLIENT, Cluster, NOW, Pair, SERVER, base64, kubeconfig};
use crate::support::root::TestRoot;
use crate::support::rotation::{only, plan, rotate, see};

/// Every certificate that is at home somewhere, by name: the first of each file, and those of kubeconfig users.
fn certificates(snapshot: &Snapshot) -> Vec<(String, Certificate)> {
    let mut found = Vec::new();
    for (_, artifact) in snapshot.artifacts() {
        let Some(content) = artifact.content() else { continue };
        let name = artifact.path.display().to_string();
        found.extend(content.certificates().next().map(|it| (name.clone(), it.clone())));
        for user in content.kubeconfig.iter().flatten().flat_map(|kubeconfig| &kubeconfig.users) {
            let embedded = user.certificate.file.is_none();
            found.extend(user.certificate.certificates().filter(|_| embedded).map(|it| (name.clone(), it.clone())));
        }
    }
    found
}

fn fingerprints(snapshot: &Snapshot) -> BTreeSet<String> {
    certificates(snapshot).into_iter().map(|(_, certificate)| certificate.fingerprint_hex()).collect()
}

/// The names of certificates that are not what they were.
fn renewed(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let known = fingerprints(before);
    let mut names: Vec<String> = certificates(after)
        .into_iter()
        .filter(|(_, certificate)| !known.contains(&certificate.fingerprint_hex()))
        .map(|(path, _)| path.replace("/etc/kubernetes/", "").replace("/var/lib/kubelet/pki/", ""))
        .collect();
    names.sort();
    names
}

fn due() -> Request {
    Request { due: Some(Threshold::UsedPercent(80.0)), ..Request::default() }
}

fn at(percent: i32) -> OffsetDateTime {
    crate::support::cluster::ISSUED + Duration::days(365) * percent / 100
}

#[test]
fn everything_is_replaced_and_fits_together_again() {
    let root = Cluster::healthy().write();
    let before = see(&root);
    let (_, changes) = rotate(&root, &Request::default(), NOW).unwrap();
    let after = see(&root);
    let kept: BTreeSet<String> = fingerprints(&before).intersection(&fingerprints(&after)).cloned().collect();
    let kubelet_serving = before.nodes[0].certificate("kubelet").unwrap().fingerprint_hex();
    assert_eq!(kept, BTreeSet::from([kubelet_serving]), "the kubelet's own serving certificate is left alone");
    let token_key = |snapshot: &Snapshot| {
        let content: Vec<&Content> = snapshot.artifacts().filter_map(|(_, it)| it.content()).collect();
        content.iter().find_map(|content| content.public_keys.first()?.as_ref().ok().cloned()).unwrap()
    };
    assert_ne!(token_key(&before), token_key(&after));
    let private = after.nodes[0].key_of("sa").unwrap().content().unwrap().private_key.as_ref().unwrap();
    assert_eq!(private.as_ref().unwrap().public_key, token_key(&after));
    assert_eq!(changes.len(), 29, "{changes:#?}");
}

#[test]
fn what_is_carried_over_is_carried_over_to_the_byte() {
    let mut cluster = Cluster::healthy();
    let odd = cluster.ca.issue_with("kube-apiserver", &["b", "a"], SERVER, &[], |template| {
        let names = ["DNS:cp1", "URI:spiffe://cluster/api", "IP:10.0.0.1"].map(|name| name.parse().unwrap());
        *template = template.clone().with_sans(&names);
        // 1.3.6.1.4.1.99999.1
        let oid = [0x2b, 6, 1, 4, 1, 0x86, 0x8d, 0x1f, 1];
        template.extensions.push(kubepki::pki::der::Extension::new(&oid, false, vec![5, 0]));
    });
    cluster.put_pair("apiserver", &odd);
    let root = cluster.write();
    rotate(&root, &Request::default(), NOW).unwrap();
    let new = see(&root).nodes[0].certificate("apiserver").unwrap().clone();
    assert_eq!(new.subject().der(), odd.certificate.subject().der());
    assert_eq!(new.sans(), odd.certificate.sans());
    let without_issuer = |certificate: &Certificate| -> Vec<_> {
        certificate.extensions().iter().filter(|it| it.oid != kubepki::pki::der::OID_AKI).cloned().collect()
    };
    assert_eq!(without_issuer(&new), without_issuer(&odd.certificate));
    assert_eq!(new.not_after() - new.not_before(), odd.certificate.not_after() - odd.certificate.not_before());
    assert_ne!(new.public_key(), odd.certificate.public_key());
    assert_eq!(new.key_kind(), odd.certificate.key_kind());
}

#[test]
fn the_kubelet_gets_a_dated_file_and_its_link_is_moved() {
    let root = Cluster::healthy().write();
    rotate(&root, &only(&["cluster-ca"]), NOW).unwrap();
    let current = root.at("/var/lib/kubelet/pki/kubelet-client-current.pem");
    let dated = "/var/lib/kubelet/pki/kubelet-client-2026-02-01-00-00-00.pem";
    assert_eq!(std::fs::read_link(current).unwrap(), PathBuf::from(dated));
    assert_eq!(root.mode(dated), 0o600);
    let text = String::from_utf8(root.content(dated)).unwrap();
    assert!(text.find("BEGIN CERTIFICATE").unwrap() < text.find("PRIVATE KEY").unwrap());
    assert!(root.at("/var/lib/kubelet/pki/kubelet-client-2026-01-01-00-00-00.pem").exists(), "history stays");
}

#[test]
fn leaves_alone_leave_authorities_token_keys_and_the_kubelet_alone() {
    let root = Cluster::healthy().write();
    let before = see(&root);
    let (blueprint, changes) = rotate(&root, &only(&["leaf"]), NOW).unwrap();
    assert_eq!(
        renewed(&before, &see(&root)),
        [
            "admin.conf",
            "controller-manager.conf",
            "pki/apiserver-etcd-client.crt",
            "pki/apiserver-kubelet-client.crt",
            "pki/apiserver.crt",
            "pki/etcd/healthcheck-client.crt",
            "pki/etcd/peer.crt",
            "pki/etcd/server.crt",
            "pki/front-proxy-client.crt",
            "scheduler.conf",
            "super-admin.conf",
        ]
    );
    assert_eq!(changes.len(), 7 * 2 + 4);
    assert!(
        blueprint.warnings.iter().any(|it| it.contains("kubelet") && it.contains("renews it itself")),
        "{blueprint:?}"
    );
}

#[test]
fn what_is_not_due_is_not_touched_and_a_second_run_changes_nothing() {
    let root = Cluster::healthy().write();
    assert!(plan(&root, &due(), at(79)).unwrap().is_empty());
    let (blueprint, _) = rotate(&root, &due(), at(80)).unwrap();
    assert!(blueprint.certificates.iter().all(|plan| plan.id.starts_with("cp1/")), "no authority is due");
    assert!(plan(&root, &due(), at(80)).unwrap().is_empty());
    assert!(!plan(&root, &Request { only: only(&["leaf"]).only, ..due() }, at(170)).unwrap().is_empty());
}

#[test]
fn one_authority_takes_with_it_what_it_signed_and_nothing_else() {
    let root = Cluster::healthy().write();
    let before = see(&root);
    rotate(&root, &only(&["etcd-ca"]), NOW).unwrap();
    let etcd = [
        "pki/apiserver-etcd-client.crt",
        "pki/etcd/ca.crt",
        "pki/etcd/healthcheck-client.crt",
        "pki/etcd/peer.crt",
        "pki/etcd/server.crt",
    ];
    assert_eq!(renewed(&before, &see(&root)), etcd);
}

#[test]
fn rotating_twice_and_with_another_algorithm_ends_healthy_every_time() {
    let root = Cluster::healthy().write();
    for algorithm in [None, Some("ecdsa-p384"), Some("rsa-2048"), None] {
        let request = Request { key_algorithm: algorithm.map(|it| it.parse().unwrap()), ..Request::default() };
        rotate(&root, &request, NOW).unwrap();
        let node = &see(&root).nodes[0];
        if let Some(algorithm) = algorithm {
            for id in ["ca", "apiserver", "kubelet-client"] {
                assert_eq!(node.certificate(id).unwrap().key_kind().to_string(), algorithm, "{id}");
            }
        }
    }
}

#[test]
fn an_authority_with_its_own_key_again_is_the_same_authority() {
    let root = Cluster::healthy().write();
    let before = see(&root);
    let request = Request { same_key: true, ca_validity: Some("20y".parse().unwrap()), ..only(&["ca"]) };
    let (_, changes) = rotate(&root, &request, NOW).unwrap();
    let after = see(&root);
    assert_eq!(renewed(&before, &after), ["pki/ca.crt", "pki/etcd/ca.crt", "pki/front-proxy-ca.crt"]);
    let (old, new) = (before.nodes[0].certificate("ca").unwrap(), after.nodes[0].certificate("ca").unwrap());
    assert_eq!(new.subject().der(), old.subject().der());
    assert_eq!(new.subject_key_id(), old.subject_key_id());
    assert_eq!(new.public_key(), old.public_key());
    assert_eq!(new.sans(), old.sans());
    assert_eq!(new.not_after(), NOW + Duration::days(20 * 365));
    assert_ne!(new.serial(), old.serial());
    let kubeconfigs = changes.iter().filter(|path| !path.contains("/pki/")).count();
    assert_eq!((changes.len(), kubeconfigs), (8, 5), "three certificates and the CA data of five kubeconfigs");
}

#[test]
fn server_names_are_added_and_taken_out_where_they_are_asked_for() {
    let root = Cluster::healthy().write();
    let sans = |words: &[&str]| words.iter().map(|it| it.parse().unwrap()).collect::<Vec<_>>();
    let request = Request {
        add_sans: sans(&["api.example.com", "cp1"]),
        remove_sans: sans(&["10.0.0.1"]),
        ..only(&["cluster-ca"])
    };
    let old = see(&root).nodes[0].certificate("apiserver").unwrap().sans().to_vec();
    let (blueprint, _) = rotate(&root, &request, NOW).unwrap();
    let words: Vec<&str> = blueprint.differences.iter().map(|(_, _, words)| words.as_str()).collect();
    assert_eq!(words, ["+ DNS:api.example.com", "- IP:10.0.0.1"]);
    let node = &see(&root).nodes[0];
    let mut wanted: Vec<_> = old.into_iter().filter(|san| san.to_string() != "IP:10.0.0.1").collect();
    wanted.push("api.example.com".parse().unwrap());
    assert_eq!(node.certificate("apiserver").unwrap().sans(), wanted);
    assert!(node.certificate("apiserver-kubelet-client").unwrap().sans().is_empty(), "clients have no names");
}

#[test]
fn an_external_authority_keeps_its_leaves_and_the_others_go_on() {
    let mut cluster = Cluster::healthy();
    cluster.remove("/etc/kubernetes/pki/ca.key");
    let root = cluster.write();
    let before = see(&root);
    let (blueprint, _) = rotate(&root, &Request::default(), NOW).unwrap();
    let warning = blueprint.warnings.iter().find(|it| it.contains("`ca` is managed elsewhere")).unwrap();
    assert!(warning.contains("apiserver") && warning.contains("--csr-only"), "{warning}");
    let renewed = renewed(&before, &see(&root));
    assert!(!renewed.contains(&"pki/apiserver.crt".to_owned()) && renewed.contains(&"pki/etcd/ca.crt".to_owned()));
    let error = plan(&root, &only(&["apiserver"]), NOW).unwrap_err();
    assert!(error.to_string().contains("`apiserver`") && error.to_string().contains("managed elsewhere"), "{error}");
}

#[test]
fn every_file_that_holds_something_replaced_is_written_whoever_it_belongs_to() {
    let mut cluster = Cluster::healthy();
    let web = cluster.ca.issue("web", &[], SERVER, &["DNS:web".parse().unwrap()]);
    let stranger = Pair::authority("somebody else");
    cluster.put("/etc/kubernetes/pki/custom/web.crt", web.crt() + &cluster.ca.crt(), 0o640);
    cluster.put("/etc/kubernetes/pki/custom/web.key", web.pem_key(), 0o640);
    let combined = cluster.ca.issue("proxy", &[], SERVER, &["DNS:proxy".parse().unwrap()]);
    cluster.put("/etc/kubernetes/pki/haproxy.pem", combined.pem_key() + &combined.crt(), 0o600);
    let bundle = stranger.crt() + &cluster.ca.crt() + &cluster.etcd_ca.crt();
    cluster.put("/etc/kubernetes/pki/bundle.crt", bundle, 0o644);
    let client = cluster.ca.issue("monitoring", &[], CLIENT, &[]);
    let der = cluster.ca.certificate.der().to_vec();
    cluster.put("/opt/monitoring/client.crt", client.crt(), 0o644);
    cluster.put("/opt/monitoring/client.key", client.pem_key(), 0o600);
    cluster.put("/opt/monitoring/ca.crt", cluster.ca.crt(), 0o644);
    let reference = "client-certificate: ../../opt/monitoring/client.crt\n    client-key: /opt/monitoring/client.key";
    let text = kubeconfig("monitoring", &cluster.ca.crt(), reference);
    let data = text.lines().find(|line| line.contains("certificate-authority-data")).unwrap().to_owned();
    cluster.put(
        "/etc/kubernetes/scheduler.conf",
        text.replace(&data, "    certificate-authority: /opt/monitoring/ca.crt"),
        0o600,
    );
    let root = cluster.write();
    root.put("/etc/kubernetes/pki/for-windows.der", der, 0o644);
    let (_, changes) = rotate(&root, &Request::default(), NOW).unwrap();
    for path in ["for-windows.der", "custom/web.crt", "custom/web.key", "haproxy.pem", "bundle.crt"] {
        assert!(changes.contains(&format!("/etc/kubernetes/pki/{path}")), "{path}");
    }
    for path in ["client.crt", "client.key", "ca.crt"] {
        assert!(changes.contains(&format!("/opt/monitoring/{path}")), "{path}");
    }
    assert!(!changes.contains(&"/etc/kubernetes/scheduler.conf".to_owned()), "only what it refers to changes");
    let node = &see(&root).nodes[0];
    let of = |path: &str| -> Vec<String> {
        let artifact = node.at(&PathBuf::from(format!("/etc/kubernetes/pki/{path}"))).unwrap();
        artifact.content().unwrap().certificates().map(Certificate::fingerprint_hex).collect()
    };
    let ca = node.certificate("ca").unwrap().fingerprint_hex();
    assert_eq!(root.content("/etc/kubernetes/pki/for-windows.der"), node.certificate("ca").unwrap().der());
    let etcd_ca = node.certificate("etcd-ca").unwrap().fingerprint_hex();
    assert_eq!(of("bundle.crt"), [stranger.certificate.fingerprint_hex(), ca.clone(), etcd_ca]);
    assert_eq!(of("custom/web.crt")[1], ca, "the chain ends in the new authority");
    assert_eq!((root.mode("/etc/kubernetes/pki/custom/web.crt"), of("haproxy.pem").len()), (0o640, 1));
}

#[test]
fn a_copy_in_a_home_folder_is_left_to_its_owner_who_is_told() {
    let mut cluster = Cluster::healthy();
    let (admin, mode) = cluster.files["/etc/kubernetes/admin.conf"].clone();
    cluster.put("/root/.kube/config", admin, mode);
    let root = cluster.write();
    let (blueprint, changes) = rotate(&root, &Request::default(), NOW).unwrap();
    assert!(!changes.iter().any(|path| path.starts_with("/root")));
    assert!(blueprint.next_steps.iter().any(|it| it.contains("/root/.kube/config")), "{:?}", blueprint.next_steps);
}

#[test]
fn a_leaf_never_outlives_its_authority_and_is_not_renewed_for_nothing() {
    let mut cluster = Cluster::healthy();
    let authority = Pair::authority_until("front-proxy-ca", at(95));
    let client = authority.issue_with("front-proxy-client", &[], CLIENT, &[], |it| it.not_after = at(95));
    cluster.put_pair("front-proxy-ca", &authority);
    cluster.put_pair("front-proxy-client", &client);
    let root = cluster.write();
    let leaves_due = Request { only: only(&["leaf"]).only, ..due() };
    let blueprint = plan(&root, &leaves_due, at(90)).unwrap();
    assert!(blueprint.warnings.iter().any(|it| it.starts_with("front-proxy-client left as before: it already ends")));
    rotate(&root, &only(&["front-proxy-client"]), at(50)).unwrap();
    assert_eq!(see(&root).nodes[0].certificate("front-proxy-client").unwrap().not_after(), at(95));
    rotate(&root, &only(&["front-proxy-ca"]), at(94)).unwrap();
    let new = see(&root).nodes[0].certificate("front-proxy-client").unwrap().not_after();
    assert!(new > at(180), "a certificate that was cut short does not hand that on: {new}");
}

#[test]
fn an_old_authority_left_in_a_bundle_has_a_successor_that_signs_for_it() {
    let mut cluster = Cluster::healthy();
    let new = Pair::authority("kubernetes");
    let both = new.crt() + &cluster.ca.crt();
    for (text, _) in cluster.files.values_mut() {
        *text = text.replace(&base64(cluster.ca.crt()), &base64(&both));
    }
    cluster.put("/etc/kubernetes/pki/ca.crt", both, 0o644);
    cluster.put("/etc/kubernetes/pki/ca.key", new.pem_key(), 0o600);
    let root = cluster.write();
    rotate(&root, &only(&["apiserver"]), NOW).unwrap();
    let node = &see(&root).nodes[0];
    assert_eq!(node.certificate("apiserver").unwrap().authority_key_id(), new.certificate.subject_key_id());
    assert_eq!(node.entry("ca").unwrap().content().unwrap().certificates().count(), 2);
}

#[test]
fn certificates_of_one_key_are_replaced_together() {
    let mut cluster = Cluster::healthy();
    let server = cluster.etcd_ca.issue("cp1", &[], SERVER, &["DNS:cp1".parse().unwrap()]);
    cluster.put_pair("etcd/server", &server);
    let key = "/etc/kubernetes/pki/etcd/shared.key";
    cluster.put(key, server.pem_key(), 0o600);
    let root = cluster.write();
    std::fs::remove_file(root.at("/etc/kubernetes/pki/etcd/server.key")).unwrap();
    root.link("/etc/kubernetes/pki/etcd/server.key", "shared.key");
    rotate(&root, &only(&["etcd-server"]), NOW).unwrap();
    assert!(std::fs::read_link(root.at("/etc/kubernetes/pki/etcd/server.key")).is_ok(), "the link stays a link");
    assert_ne!(root.content(key), server.pem_key().into_bytes());
}

#[test]
fn old_token_keys_stay_beside_the_new_one_only_when_somebody_waits_for_tokens() {
    let root = Cluster::healthy().write();
    let old = root.content("/etc/kubernetes/pki/sa.pub");
    rotate(&root, &Request { wait_for_tokens: Some("24h".parse().unwrap()), ..only(&["sa"]) }, NOW).unwrap();
    let both = root.content("/etc/kubernetes/pki/sa.pub");
    assert!(both.ends_with(&old) && both.len() == 2 * old.len(), "new first, then old");
    rotate(&root, &only(&["sa"]), NOW).unwrap();
    assert_eq!(root.content("/etc/kubernetes/pki/sa.pub").len(), old.len());
}

#[test]
fn the_tree_outside_the_plan_stays_as_it_is() {
    let cluster = Cluster::healthy();
    for request in [Request::default(), only(&["leaf"]), only(&["front-proxy-ca", "sa"]), only(&["scheduler.conf"])] {
        let root: TestRoot = cluster.write();
        root.put("/etc/kubernetes/pki/notes.txt", "not a certificate", 0o666);
        root.put("/etc/kubernetes/pki/openssl.conf", "[req]\n", 0o600);
        root.put("/etc/kubernetes/manifests/etcd.yaml", "kind: Pod\n", 0o600);
        let (blueprint, changes) = rotate(&root, &request, NOW).unwrap();
        let planned: Vec<String> = blueprint.changes().map(|(_, file)| file.path.display().to_string()).collect();
        assert_eq!(changes, planned.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
    }
}

//! Nodes to snapshots: every form of file is read, nothing that is broken stops the rest.

use std::path::Path;

use kubepki::node::Node;
use kubepki::observe::{self, Keys, Scope, Wanted};
use kubepki::pki::catalog::Catalog;
use kubepki::pki::private_key::{KeyError, PrivateKey};
use kubepki::snapshot::{NodeSnapshot, Source, State};

use crate::support::cluster::{CLIENT, Cluster, NOW, Pair, SERVER, kubeconfig};
use crate::support::root::TestRoot;

fn look(root: &TestRoot) -> NodeSnapshot {
    observe::node(&root.node, &Wanted::machine(Keys::PublicHalf))
}

fn look_at(root: &TestRoot, scope: Scope) -> NodeSnapshot {
    observe::node(&root.node, &Wanted { scopes: vec![scope], keys: Keys::PublicHalf })
}

fn missing(node: &NodeSnapshot) -> Vec<(&str, bool)> {
    let expected = |state: &State| match state {
        State::Missing { expected } => Some(*expected),
        _ => None,
    };
    node.artifacts.iter().filter_map(|file| Some((file.id()?, expected(&file.state)?))).collect()
}

#[test]
fn a_whole_control_plane_node_is_found_with_every_id() {
    let node = look(&Cluster::healthy().write());
    assert_eq!(node.error, None);
    let kinds: Vec<Catalog> = node.catalogs.iter().map(|(catalog, _)| *catalog).collect();
    assert_eq!(kinds, [Catalog::Kubeadm, Catalog::Kubeadm, Catalog::Kubelet]);
    for id in ["ca", "apiserver", "etcd-ca", "etcd-peer", "front-proxy-client", "kubelet-client", "kubelet"] {
        assert!(node.certificate(id).is_some(), "{id}");
    }
    for id in ["ca", "apiserver", "etcd-server", "sa"] {
        let key = node.key_of(id).and_then(|file| file.content()).and_then(|content| content.private_key.as_ref());
        assert!(key.is_some_and(Result::is_ok), "{id}");
    }
    assert!(missing(&node).is_empty());
    assert!(node.artifacts.iter().all(|file| file.content().is_some()));
    let kubelet = node.entry("kubelet-client").unwrap();
    assert_eq!(kubelet.source, Source::Kubelet);
    assert!(kubelet.link.is_some());
    let dated = node.artifacts.iter().filter(|file| file.path.to_string_lossy().contains("2026-"));
    assert_eq!(dated.count(), 0, "what the current link leads to is no file of its own");
}

#[test]
fn private_keys_are_dropped_unless_the_caller_keeps_them() {
    let root = Cluster::healthy().write();
    let held = |node: &NodeSnapshot| {
        let contents = node.artifacts.iter().filter_map(|file| file.content());
        contents.filter_map(|content| content.private_key.as_ref()?.as_ref().ok()?.pem.clone()).count()
    };
    assert_eq!(held(&look(&root)), 0);
    let node = observe::node(&root.node, &Wanted::machine(Keys::Keep));
    assert_eq!(held(&node), 13);
    let (_, key) = node.key_for(node.entry("etcd-ca").unwrap()).unwrap();
    let key = PrivateKey::from_pem(key.as_ref().unwrap().pem.as_ref().unwrap()).unwrap();
    assert!(node.certificate("etcd-ca").unwrap().certifies(key.public_key()));
}

#[test]
fn a_kubeconfig_is_read_through_its_file_references() {
    let root = Cluster::healthy().write();
    let node = look(&root);
    let kubeconfig = |id: &str| node.entry(id).unwrap().content().unwrap().kubeconfig.clone().unwrap().unwrap();
    let kubelet = kubeconfig("kubelet.conf");
    let user = kubelet.current_user().unwrap();
    assert_eq!(user.certificate.certificates().next(), node.certificate("kubelet-client"));
    assert_eq!(
        user.key.key().map(|key| &key.public_key[..]),
        node.certificate("kubelet-client").map(|c| c.public_key())
    );
    let admin = kubeconfig("admin.conf");
    assert_eq!(admin.clusters[0].authority.certificates().next(), node.certificate("ca"));
    assert_eq!(admin.current_user().unwrap().certificate.file, None);
}

#[test]
fn references_are_relative_to_the_kubeconfig_and_a_broken_one_is_a_value() {
    let root = TestRoot::new();
    let ca = Pair::authority("kubernetes");
    root.put("/home/x/certs/ca.crt", ca.crt(), 0o644);
    let text = kubeconfig("x", "", "client-certificate: certs/x.crt\n    client-key: /gone/x.key")
        .replace("certificate-authority-data: ", "certificate-authority: certs/ca.crt");
    root.put("/home/x/config", text, 0o600);
    let node = look_at(&root, Scope::Kubeconfig("/home/x/config".into()));
    let found = node.at(Path::new("/home/x/config")).unwrap().content().unwrap().kubeconfig.clone().unwrap().unwrap();
    assert_eq!(found.clusters[0].authority.certificates().next(), Some(&ca.certificate));
    let user = &found.users[0];
    assert_eq!(user.certificate.content.clone().unwrap().unwrap_err(), "/home/x/certs/x.crt does not exist");
    assert!(user.key.key().is_none());
}

#[test]
fn a_bare_folder_is_never_left() {
    let root = Cluster::healthy().write();
    let text = "client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem";
    root.put("/etc/kubernetes/pki/kubelet.conf", kubeconfig("x", "", text), 0o600);
    let node = look_at(&root, Scope::PkiDir("/etc/kubernetes/pki".into()));
    assert!(node.facts.is_none());
    assert!(node.artifacts.iter().all(|file| file.path.starts_with("/etc/kubernetes/pki")));
    let found = node.entry("kubelet.conf").unwrap().content().unwrap().kubeconfig.clone().unwrap().unwrap();
    assert!(found.users[0].certificate.content.is_none());
}

#[test]
fn every_form_of_file_is_read() {
    let root = TestRoot::new();
    let (ca, other) = (Pair::authority("one"), Pair::authority("two"));
    let leaf = ca.issue("x", &[], CLIENT, &[]);
    root.put("/d/bundle.pem", format!("first:\n{}\r\nsecond\n{}", ca.crt(), other.crt()), 0o644);
    root.put("/d/combined.pem", leaf.pem_key() + &leaf.crt(), 0o600);
    root.put("/d/one.cer", ca.certificate.der(), 0o644);
    root.put("/d/keys.pub", ca.key.public_key_pem() + &leaf.key.public_key_pem(), 0o644);
    root.put("/d/notes.txt", "nothing", 0o644);
    root.put("/d/empty.crt", "", 0o644);
    root.put("/d/half.crt", &ca.crt()[..100], 0o644);
    root.put(
        "/d/secret.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        0o600,
    );
    let node = look_at(&root, Scope::Path("/d".into()));
    let content = |name: &str| node.at(&Path::new("/d").join(name)).unwrap().content().unwrap();
    let subjects = |name| content(name).certificates().map(|c| c.subject().text().to_owned()).collect::<Vec<_>>();
    assert_eq!(subjects("bundle.pem"), ["CN=one", "CN=two"]);
    assert_eq!(subjects("combined.pem"), ["CN=x"]);
    assert!(content("combined.pem").private_key.as_ref().unwrap().is_ok());
    assert_eq!(subjects("one.cer"), ["CN=one"]);
    assert_eq!(content("keys.pub").public_keys.len(), 2);
    assert_eq!(content("half.crt").damaged_blocks, 1);
    assert_eq!(content("secret.key").private_key.as_ref().unwrap().as_ref().unwrap_err(), &KeyError::Encrypted);
    assert!(
        matches!(&node.at(Path::new("/d/empty.crt")).unwrap().state, State::Unreadable(why) if why.contains("empty"))
    );
    assert!(node.at(Path::new("/d/notes.txt")).is_none());
}

#[test]
fn what_kubeadm_lists_is_missing_only_where_it_ought_to_be() {
    let mut cluster = Cluster::healthy();
    cluster.remove("/etc/kubernetes/pki/apiserver.crt");
    cluster.remove("/etc/kubernetes/super-admin.conf");
    cluster.remove("/etc/kubernetes/scheduler.conf");
    let root = cluster.write();
    assert_eq!(missing(&look(&root)), [("apiserver", true), ("super-admin.conf", false), ("scheduler.conf", true)]);
    let folder = look_at(&root, Scope::PkiDir("/etc/kubernetes/pki".into()));
    assert_eq!(
        missing(&folder),
        [
            ("apiserver", true),
            ("admin.conf", false),
            ("super-admin.conf", false),
            ("controller-manager.conf", false),
            ("scheduler.conf", false)
        ]
    );
}

#[test]
fn a_worker_and_an_external_etcd_miss_nothing() {
    let mut worker = Cluster::healthy();
    worker
        .files
        .retain(|path, _| path.contains("kubelet") && !path.contains("pki/api") || path.ends_with("pki/ca.crt"));
    assert!(missing(&look(&worker.write())).is_empty());
    let mut external = Cluster::healthy();
    external.files.retain(|path, _| !path.contains("/etcd/"));
    let expected: Vec<_> = look(&external.write())
        .artifacts
        .iter()
        .filter_map(|file| match file.state {
            State::Missing { expected: true } => file.id(),
            _ => None,
        })
        .collect();
    assert!(expected.is_empty(), "{expected:?}");
}

#[test]
fn an_empty_folder_misses_everything() {
    let root = TestRoot::new();
    root.folder("/pki", 0o755);
    let node = look_at(&root, Scope::PkiDir("/pki".into()));
    assert_eq!(missing(&node).iter().filter(|(_, expected)| *expected).count(), 10);
    let nothing = look_at(&root, Scope::PkiDir("/gone".into()));
    assert!(nothing.at(Path::new("/gone")).is_some_and(|file| file.is_missing()));
}

#[test]
fn several_nodes_are_read_side_by_side_and_an_unreachable_one_is_a_value() {
    let (one, two) = (Cluster::healthy().write(), Cluster::healthy().write());
    let nodes: Vec<&dyn Node> = vec![&one.node, &two.node];
    let snapshot = observe::observe(&nodes, &Wanted::machine(Keys::PublicHalf), NOW);
    assert_eq!(snapshot.nodes.len(), 2);
    assert!(snapshot.nodes.iter().all(|node| node.certificate("ca").is_some()));
}

#[test]
fn a_serving_certificate_that_the_kubelets_configuration_names_is_found() {
    let mut cluster = Cluster::healthy();
    let serving = cluster.ca.issue("system:node:cp1", &["system:nodes"], SERVER, &[]);
    cluster.put("/opt/tls/kubelet.crt", serving.crt(), 0o644);
    cluster.put("/opt/tls/kubelet.key", serving.pem_key(), 0o600);
    let config = "tlsCertFile: /opt/tls/kubelet.crt\ntlsPrivateKeyFile: /opt/tls/kubelet.key\n";
    cluster.put("/var/lib/kubelet/config.yaml", config, 0o644);
    let node = look(&cluster.write());
    let found = node.at(Path::new("/opt/tls/kubelet.crt")).unwrap();
    assert_eq!(found.source, Source::Kubelet);
    assert!(node.key_for(found).is_some_and(|(_, key)| key.is_ok()));
}

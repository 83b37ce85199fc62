//! What stands in the way is found before anything changes, and says node, path and a next step.

use kubepki::error::{ExitCode, exit_code, hints};
use kubepki::plan::rotate::reach::{Surroundings, signs};
use kubepki::plan::rotate::{Reach, Request};
use time::Duration;

use crate::support::cluster::{CLIENT, Cluster, ISSUED, NOW, Pair, SERVER};
use crate::support::rotation::{look, only, plan, rotate, see};

/// The message and the hint of a refusal, and that the files stay as they are.
#[track_caller]
pub(super) fn refused(cluster: &Cluster, request: &Request, code: ExitCode) -> String {
    let root = cluster.write();
    let before = look(&root);
    let error = anyhow::Error::from(rotate(&root, request, NOW).unwrap_err());
    assert_eq!(exit_code(&error), code);
    assert_eq!(look(&root), before);
    let hints = hints(&error).join(" ");
    assert!(!hints.is_empty(), "{error}: a next step");
    format!("{error} | {hints}")
}

#[track_caller]
pub(super) fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} in {text:?}");
    }
}

const CA_KEY: &str = "/etc/kubernetes/pki/ca.key";

#[test]
fn an_authority_with_the_key_of_another_signs_nothing() {
    let mut cluster = Cluster::healthy();
    cluster.put(CA_KEY, Pair::authority("other").pem_key(), 0o600);
    for words in [&[][..], &["leaf"], &["apiserver"], &["ca"], &["admin.conf"]] {
        let text = refused(&cluster, &only(words), ExitCode::Failed);
        says(&text, &["node cp1", CA_KEY, "does not belong", "/etc/kubernetes/pki/ca.crt", "backup"]);
    }
    // What another authority signed is not concerned.
    assert!(!plan(&cluster.write(), &only(&["etcd-ca"]), NOW).unwrap().is_empty());
}

#[test]
fn an_encrypted_or_damaged_authority_key_signs_nothing() {
    let mut cluster = Cluster::healthy();
    let encrypted = cluster.ca.pem_key().replace("EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    cluster.put(CA_KEY, encrypted, 0o600);
    let text = refused(&cluster, &only(&["leaf"]), ExitCode::Failed);
    says(&text, &["node cp1", CA_KEY, "encrypted", "openssl pkey"]);
    for content in ["", "garbage", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"] {
        cluster.put(CA_KEY, content, 0o600);
        let text = refused(&cluster, &only(&["leaf"]), ExitCode::Failed);
        says(&text, &["node cp1", CA_KEY]);
    }
}

#[test]
fn an_ended_authority_signs_nothing_but_can_be_replaced_itself() {
    let mut cluster = Cluster::healthy();
    let ended = Pair::authority_until("front-proxy-ca", ISSUED + Duration::days(10));
    cluster.put_pair("front-proxy-client", &ended.issue("front-proxy-client", &[], CLIENT, &[]));
    cluster.put_pair("front-proxy-ca", &ended);
    let text = refused(&cluster, &only(&["leaf"]), ExitCode::Failed);
    says(&text, &["node cp1", "front-proxy-ca.crt", "ended on 2026-01-11", "--only front-proxy-ca"]);
    rotate(&cluster.write(), &only(&["front-proxy-ca"]), NOW).unwrap();
    let same = Request { same_key: true, ca_validity: Some("10y".parse().unwrap()), ..only(&["front-proxy-ca"]) };
    rotate(&cluster.write(), &same, NOW).unwrap();
}

#[test]
fn a_damaged_certificate_is_not_guessed_at() {
    for (path, words) in [
        ("/etc/kubernetes/pki/apiserver.crt", &["leaf"][..]),
        ("/etc/kubernetes/pki/apiserver.crt", &["apiserver"]),
        ("/etc/kubernetes/pki/ca.crt", &["leaf"]),
        ("/etc/kubernetes/pki/ca.crt", &["apiserver"]),
        ("/etc/kubernetes/scheduler.conf", &[]),
    ] {
        let mut cluster = Cluster::healthy();
        let (content, mode) = cluster.files[path].clone();
        cluster.put(path, &content[..content.len() - 60], mode);
        let text = refused(&cluster, &only(words), ExitCode::Failed);
        says(&text, &["node cp1", path, "backup"]);
    }
    let mut cluster = Cluster::healthy();
    cluster.put("/etc/kubernetes/pki/apiserver.crt", "-----BEGIN CERTIFICATE-----\n", 0o644);
    rotate(&cluster.write(), &only(&["etcd-ca"]), NOW).unwrap();
}

#[test]
fn what_is_not_concerned_may_be_damaged() {
    let mut cluster = Cluster::healthy();
    cluster.put("/etc/kubernetes/pki/front-proxy-ca.crt", "-----BEGIN CERTIFICATE-----\n", 0o644);
    cluster.put("/etc/kubernetes/pki/front-proxy-ca.key", "garbage", 0o600);
    assert!(!plan(&cluster.write(), &only(&["etcd-server"]), NOW).unwrap().is_empty());
    for words in [&["leaf"][..], &["front-proxy-client"], &["front-proxy-ca"], &[]] {
        let text = refused(&cluster, &only(words), ExitCode::Failed);
        says(&text, &["node cp1", "/etc/kubernetes/pki/front-proxy-ca.", "backup"]);
    }
    // It may have trusted what is replaced.
    let blueprint = plan(&cluster.write(), &only(&["etcd-ca"]), NOW).unwrap();
    let warns = |path: &str| blueprint.warnings.iter().any(|it| it.starts_with(path) && it.contains("not covered"));
    assert!(warns("/etc/kubernetes/pki/front-proxy-ca.crt"), "{:?}", blueprint.warnings);
    // A damaged file is not blamed for the key of another authority.
    cluster.remove(CA_KEY);
    says(&refused(&cluster, &only(&["apiserver"]), ExitCode::Failed), &["`ca` is managed elsewhere"]);
}

#[test]
fn a_wrong_key_of_a_leaf_is_replaced_only_when_the_leaf_is_named() {
    let path = "/etc/kubernetes/pki/apiserver.key";
    for content in
        [Pair::authority("other").pem_key(), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".into()]
    {
        let mut cluster = Cluster::healthy();
        cluster.put(path, content, 0o600);
        let text = refused(&cluster, &only(&["leaf"]), ExitCode::Failed);
        says(&text, &["node cp1", path, "--only apiserver"]);
        rotate(&cluster.write(), &only(&["apiserver"]), NOW).unwrap();
    }
    let mut cluster = Cluster::healthy();
    cluster.remove(path);
    let blueprint = plan(&cluster.write(), &only(&["leaf"]), NOW).unwrap();
    assert!(blueprint.warnings.iter().any(|it| it.contains("apiserver") && it.contains("private key is not here")));
    let root = cluster.write();
    rotate(&root, &only(&["apiserver"]), NOW).unwrap();
    assert_eq!(root.mode(path), 0o600);
}

#[test]
fn unknown_names_are_not_found() {
    let cluster = Cluster::healthy();
    let text = refused(&cluster, &only(&["leaf", "etcd-sever"]), ExitCode::NotFound);
    says(&text, &["`etcd-sever`", "did you mean `etcd-server`?", "front-proxy-client", "sa"]);
    let mut without = Cluster::healthy();
    without.remove("/etc/kubernetes/pki/sa.key");
    without.remove("/etc/kubernetes/pki/sa.pub");
    refused(&without, &only(&["sa"]), ExitCode::NotFound);
}

#[test]
fn a_file_that_would_lose_something_is_not_written() {
    let mut cluster = Cluster::healthy();
    let broken = cluster.ca.crt() + "-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n";
    cluster.put("/etc/kubernetes/pki/bundle.crt", broken, 0o644);
    let text = refused(&cluster, &only(&["cluster-ca"]), ExitCode::Failed);
    says(&text, &["node cp1", "/etc/kubernetes/pki/bundle.crt", "damaged"]);
    rotate(&cluster.write(), &only(&["etcd-ca"]), NOW).unwrap();
}

#[test]
fn keys_of_kinds_that_are_not_made_need_another_algorithm() {
    let mut cluster = Cluster::healthy();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap().serialize_pem();
    let key = kubepki::pki::private_key::PrivateKey::from_pem(key.as_bytes()).unwrap();
    let leaf = cluster.ca.issue_with("web", &[], SERVER, &[], |it| it.public_key = key.public_key().to_vec());
    cluster.put("/etc/kubernetes/pki/apiserver.crt", leaf.crt(), 0o644);
    cluster.put("/etc/kubernetes/pki/apiserver.key", key.to_pem().to_string(), 0o600);
    let text = refused(&cluster, &only(&["apiserver"]), ExitCode::Failed);
    says(&text, &["apiserver", "ecdsa-p521", "--key-algorithm"]);
    let request = Request { key_algorithm: Some("ecdsa-p384".parse().unwrap()), ..only(&["apiserver"]) };
    rotate(&cluster.write(), &request, NOW).unwrap();
}

#[test]
fn k3s_keeps_its_authorities_and_renews_its_leaves_itself() {
    let mut cluster = Cluster::healthy();
    cluster.files.clear();
    let (client, server) = (Pair::authority("k3s-client-ca"), Pair::authority("k3s-server-ca"));
    let tls = "/var/lib/rancher/k3s/server/tls";
    for (name, pair) in [
        ("client-ca", &client),
        ("server-ca", &server),
        ("client-admin", &client.issue("system:admin", &["system:masters"], CLIENT, &[])),
    ] {
        cluster.put(&format!("{tls}/{name}.crt"), pair.crt(), 0o644);
        cluster.put(&format!("{tls}/{name}.key"), pair.pem_key(), 0o600);
    }
    let live = Reach { is_live: true, ..Reach::default() };
    let text = refused(&cluster, &Request { reach: live.clone(), ..Request::default() }, ExitCode::Failed);
    says(&text, &["node cp1", "client-ca.crt", "datastore", "k3s certificate rotate-ca"]);
    let blueprint = plan(&cluster.write(), &Request { reach: live, ..only(&["leaf"]) }, NOW).unwrap();
    assert!(
        blueprint.is_empty() && blueprint.warnings[0].contains("k3s or RKE2 renews it"),
        "{:?}",
        blueprint.warnings
    );
    assert!(!plan(&cluster.write(), &only(&["client-admin"]), NOW).unwrap().is_empty());
}

#[test]
fn what_all_nodes_share_is_not_changed_on_one_of_them() {
    let cluster = Cluster::healthy();
    let reach = Reach {
        is_live: true,
        others: vec!["etcd's manifest names the members cp1, cp2".to_owned()],
        ..Reach::default()
    };
    for words in [&[][..], &["ca"], &["sa"], &["etcd-ca"], &["front-proxy-ca", "leaf"]] {
        let request = Request { reach: reach.clone(), ..only(words) };
        let text = refused(&cluster, &request, ExitCode::Failed);
        says(&text, &["cp1, cp2", "--cluster-file", "--only leaf"]);
    }
    rotate(&cluster.write(), &Request { reach: reach.clone(), ..only(&["leaf"]) }, NOW).unwrap();
    let due = Some(kubepki::pki::lifetime::Threshold::UsedPercent(80.0));
    let blueprint = plan(&cluster.write(), &Request { reach, due, ..Request::default() }, NOW).unwrap();
    assert!(blueprint.is_empty(), "nothing is due, so nothing is refused");
}

#[test]
fn other_nodes_leave_signs() {
    let manifest = |members: &str| format!("spec:\n  containers:\n  - command:\n    - --initial-cluster={members}\n");
    let one = "cp1=https://10.0.0.1:2380";
    let alone = Surroundings { etcd_manifest: Some(manifest(one)), ..Surroundings::default() };
    let cluster = Cluster::healthy();
    let healthy = see(&cluster.write());
    assert_eq!(signs(&healthy.nodes[0], &alone), Vec::<String>::new());
    let three = format!("{one},cp2=https://10.0.0.2:2380,cp3=https://10.0.0.3:2380");
    let found = signs(&healthy.nodes[0], &Surroundings { etcd_manifest: Some(manifest(&three)), ..alone.clone() });
    assert_eq!(found, ["etcd's manifest names the members cp1, cp2, cp3"]);
    let registered = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let worker = Surroundings { registered_nodes: registered(&["cp1", "w1"]), ..alone.clone() };
    assert_eq!(signs(&healthy.nodes[0], &worker), ["etcd's data names the nodes cp1, w1"]);
    let itself = Surroundings { registered_nodes: registered(&["cp1"]), ..alone.clone() };
    assert!(signs(&healthy.nodes[0], &itself).is_empty());

    let mut elsewhere = Cluster::healthy();
    for name in ["admin.conf", "kubelet.conf"] {
        let path = format!("/etc/kubernetes/{name}");
        let (text, mode) = elsewhere.files[&path].clone();
        elsewhere.put(&path, text.replace("10.0.0.1:6443", "api.example.com:6443"), mode);
    }
    let found = signs(&see(&elsewhere.write()).nodes[0], &alone);
    assert_eq!(found, ["admin.conf reaches the API server at api.example.com, which is not an address of this node"]);

    // Files alone are no node, whatever address they name.
    for path in elsewhere.files.keys().cloned().collect::<Vec<_>>() {
        if path.starts_with("/var/lib/kubelet") {
            elsewhere.remove(&path);
        }
    }
    assert!(signs(&see(&elsewhere.write()).nodes[0], &Surroundings::default()).is_empty());
}

//! Private keys, bundles, and the files themselves.

use super::*;

#[test]
fn keys_that_do_not_belong_are_missing_damaged_or_encrypted() {
    let key = format!("{PKI}/etcd/peer.key");
    let mut cluster = Cluster::healthy();
    cluster.put(&key, cluster.ca.pem_key(), 0o600);
    only(&cluster, FindingId::KeyMismatch, "etcd-peer");
    cluster.put(&key, &cluster.ca.pem_key()[..80], 0o600);
    only(&cluster, FindingId::KeyUnreadable, "etcd-peer");
    cluster.put(&key, "", 0o600);
    only(&cluster, FindingId::KeyUnreadable, "etcd-peer");
    cluster.put(&key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", 0o600);
    only(&cluster, FindingId::KeyEncrypted, "etcd-peer");
    cluster.remove(&key);
    only(&cluster, FindingId::KeyMissing, "etcd-peer");
    // A CA whose key is kept elsewhere is normal.
    let mut cluster = Cluster::healthy();
    cluster.remove(&format!("{PKI}/ca.key"));
    let snapshot = look(&cluster.write());
    assert_eq!(found(&snapshot, &Policy::at(NOW)), BTreeSet::new());
    let diagnosis = diagnose::diagnose(&snapshot, &Policy::at(NOW));
    let external: Vec<&str> =
        diagnosis.rows.iter().filter(|row| row.externally_managed).map(|row| row.name.as_str()).collect();
    assert_eq!(external.len(), 9, "{external:?}");
    assert!(diagnosis.rows.iter().all(|row| !(row.managed && row.externally_managed)));
}

#[test]
fn a_kubeconfig_user_has_the_key_of_its_certificate() {
    let mut cluster = Cluster::healthy();
    let mut client = cluster.ca.issue("kubernetes-admin", &["kubeadm:cluster-admins"], CLIENT, &[]);
    client.key = Pair::authority("x").key;
    let text = kubeconfig("kubernetes-admin", &cluster.ca.crt(), &embedded(&client));
    cluster.put("/etc/kubernetes/admin.conf", text, 0o600);
    only(&cluster, FindingId::KeyMismatch, "admin.conf");
    let text = kubeconfig("kubernetes-admin", &cluster.ca.crt(), embedded(&client).lines().next().unwrap());
    cluster.put("/etc/kubernetes/admin.conf", text, 0o600);
    only(&cluster, FindingId::KeyMissing, "admin.conf");
}

#[test]
fn the_service_account_keys_are_a_pair() {
    let mut cluster = Cluster::healthy();
    let other = Pair::authority("x").key.public_key_pem();
    cluster.put(&format!("{PKI}/sa.pub"), other.clone(), 0o600);
    only(&cluster, FindingId::ServiceAccountMismatch, "sa");
    let mut cluster = Cluster::healthy();
    let (own, _) = cluster.files[&format!("{PKI}/sa.pub")].clone();
    cluster.put(&format!("{PKI}/sa.pub"), other + &own, 0o600);
    assert_eq!(
        found(&look(&cluster.write()), &Policy::at(NOW)),
        BTreeSet::new(),
        "several keys, one of them the right one"
    );
}

#[test]
fn bundles_have_their_own_certificate_first_nothing_twice_and_nothing_stale() {
    let ca = format!("{PKI}/ca.crt");
    let mut cluster = Cluster::healthy();
    let stale = Pair::authority("kubernetes");
    cluster.put(&ca, cluster.ca.crt() + &stale.crt(), 0o644);
    only(&cluster, FindingId::AnchorUnneeded, "ca[1]");
    cluster.put(&ca, cluster.ca.crt() + &cluster.ca.crt(), 0o644);
    only(&cluster, FindingId::BundleDuplicate, "ca[1]");
    let mut cluster = Cluster::healthy();
    let old = Pair::authority("front-proxy-ca");
    // Still needed by the client certificate, but not first.
    let client = old.issue("front-proxy-client", &[], CLIENT, &[]);
    cluster.put_pair("front-proxy-client", &client);
    cluster.put(&format!("{PKI}/front-proxy-ca.crt"), old.crt() + &cluster.front_proxy_ca.crt(), 0o644);
    only(&cluster, FindingId::BundleOrder, "front-proxy-ca");
}

#[test]
fn files_are_missing_malformed_or_not_needed() {
    let mut cluster = Cluster::healthy();
    cluster.remove(&format!("{PKI}/etcd/healthcheck-client.crt"));
    only(&cluster, FindingId::FileMissing, "etcd-healthcheck-client");
    let mut cluster = Cluster::healthy();
    cluster.remove(&format!("{PKI}/etcd/ca.crt"));
    let all = found(&look(&cluster.write()), &Policy::at(NOW));
    let broken: Vec<_> = all.iter().filter(|(id, _)| *id != FindingId::IssuerNotSeen).collect();
    assert_eq!(broken, [&(FindingId::FileMissing, "etcd-ca".to_owned())]);
    let mut cluster = Cluster::healthy();
    cluster.remove("/etc/kubernetes/super-admin.conf");
    only(&cluster, FindingId::FileNotExpected, "super-admin.conf");
    let mut cluster = Cluster::healthy();
    let half = cluster.ca.crt()[..200].to_owned();
    cluster.put(&format!("{PKI}/etcd/healthcheck-client.crt"), half, 0o644);
    only(&cluster, FindingId::FileMalformed, "etcd-healthcheck-client");
    cluster.put(&format!("{PKI}/etcd/healthcheck-client.crt"), "", 0o644);
    only(&cluster, FindingId::FileMalformed, "etcd-healthcheck-client");
    let mut cluster = Cluster::healthy();
    cluster.remove(&format!("{PKI}/etcd/healthcheck-client.crt"));
    let root = cluster.write();
    root.folder(&format!("{PKI}/etcd/healthcheck-client.crt"), 0o755);
    root.link(&format!("{PKI}/etcd/other.crt"), "/nowhere");
    let all = found(&look(&root), &Policy::at(NOW));
    assert!(all.contains(&(FindingId::FileUnreadable, "other.crt".to_owned())), "{all:?}");
}

#[test]
fn keys_and_files_are_closed_to_others() {
    let mut cluster = Cluster::healthy();
    let (key, _) = cluster.files[&format!("{PKI}/apiserver.key")].clone();
    cluster.put(&format!("{PKI}/apiserver.key"), key, 0o644);
    only(&cluster, FindingId::KeyExposed, "apiserver");
    let mut cluster = Cluster::healthy();
    let (text, _) = cluster.files["/etc/kubernetes/admin.conf"].clone();
    cluster.put("/etc/kubernetes/admin.conf", text, 0o604);
    only(&cluster, FindingId::KeyExposed, "admin.conf");
    let mut cluster = Cluster::healthy();
    let (text, _) = cluster.files[&format!("{PKI}/ca.crt")].clone();
    cluster.put(&format!("{PKI}/ca.crt"), text, 0o666);
    only(&cluster, FindingId::FileWritable, "ca");
    let mut cluster = Cluster::healthy();
    let (key, _) = cluster.files[&format!("{PKI}/sa.key")].clone();
    cluster.put(&format!("{PKI}/sa.key"), key, 0o640);
    assert_eq!(found(&look(&cluster.write()), &Policy::at(NOW)), BTreeSet::new());
}

#[test]
fn a_key_among_files_of_root_belongs_to_root() {
    if !crate::support::skip::root_only("a_key_among_files_of_root_belongs_to_root") {
        return;
    }
    let root = Cluster::healthy().write();
    root.give(&format!("{PKI}/etcd/ca.key"), 1000);
    expect(&look(&root), &Policy::at(NOW), FindingId::OwnerUnexpected, "etcd-ca");
    let root = Cluster::healthy().write();
    root.give(&format!("{PKI}/etcd/ca.key"), 998);
    assert_eq!(found(&look(&root), &Policy::at(NOW)), BTreeSet::new());
}

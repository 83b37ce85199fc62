//! Several nodes: the same files below roots of their own, of which one has something else.

use kubepki::diagnose::Finding;
use kubepki::snapshot::NodeSnapshot;

use super::*;

/// The files of a worker.
const WORKER: [&str; 3] = ["/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/"];

/// A node's name, and what is different there.
type Own<'a> = (&'a str, &'a dyn Fn(&mut Cluster));

/// Nodes with the files of `cluster`, each changed by its own function, each read below a root of its own.
fn nodes(cluster: &Cluster, changes: &[Own<'_>]) -> Snapshot {
    let read = |(name, change): &Own<'_>| {
        let mut own = Cluster { files: cluster.files.clone(), ..Cluster::healthy() };
        change(&mut own);
        let node = look(&own.write()).nodes.remove(0);
        NodeSnapshot { name: (*name).to_owned(), ..node }
    };
    Snapshot { taken_at: NOW, nodes: changes.iter().map(read).collect() }
}

/// Everything found, with the node it was found on.
fn told(snapshot: &Snapshot) -> BTreeSet<(FindingId, String, String)> {
    let diagnosis = diagnose::diagnose(snapshot, &Policy::at(NOW));
    diagnosis.findings().map(|(row, it)| (it.id, row.node_name.to_owned(), row.name.clone())).collect()
}

fn at(id: FindingId, node: &str, name: &str) -> BTreeSet<(FindingId, String, String)> {
    BTreeSet::from([(id, node.to_owned(), name.to_owned())])
}

/// The only finding with that id.
fn the(snapshot: &Snapshot, id: FindingId) -> Finding {
    let diagnosis = diagnose::diagnose(snapshot, &Policy::at(NOW));
    let all: Vec<Finding> = diagnosis.findings().filter(|(_, it)| it.id == id).map(|(_, it)| it.clone()).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

fn same(_: &mut Cluster) {}

/// Leaves a worker's files.
fn worker(cluster: &mut Cluster) {
    cluster.files.retain(|path, _| WORKER.iter().any(|kept| path.starts_with(kept)));
}

/// Another cluster CA with everything it issues: the node is whole, but of another cluster.
fn of_another_cluster(cluster: &mut Cluster) {
    let other = Cluster::healthy();
    let by_etcd = |path: &String| path.contains("etcd") || path.contains("front-proxy") || path.contains("/sa.");
    let theirs = other.files.into_iter().filter(|(path, _)| !by_etcd(path));
    cluster.files.extend(theirs);
}

#[test]
fn nodes_with_the_same_files_agree_and_a_file_one_lacks_is_no_disagreement() {
    let cluster = Cluster::healthy();
    let lacking = |other: &mut Cluster| other.put(&format!("{PKI}/agent/ca.crt"), Pair::authority("a").crt(), 0o644);
    let all = nodes(&cluster, &[("cp1", &same), ("cp2", &lacking), ("w1", &worker)]);
    assert_eq!(told(&all), BTreeSet::new());
}

#[test]
fn an_authority_with_nothing_in_common_with_the_others_is_named_with_both_places() {
    let cluster = Cluster::healthy();
    for (id, path) in [("etcd-ca", "etcd/ca"), ("front-proxy-ca", "front-proxy-ca")] {
        let other = |node: &mut Cluster| {
            let ca = Pair::authority(id);
            let leaves: &[(&str, &str, &[_], Vec<San>)] = match id {
                "etcd-ca" => &[
                    ("etcd/server", "cp2", BOTH, etcd_sans()),
                    ("etcd/peer", "cp2", BOTH, etcd_sans()),
                    ("etcd/healthcheck-client", "kube-etcd-healthcheck-client", CLIENT, Vec::new()),
                    ("apiserver-etcd-client", "kube-apiserver-etcd-client", CLIENT, Vec::new()),
                ],
                _ => &[("front-proxy-client", "front-proxy-client", CLIENT, Vec::new())],
            };
            for (name, user, usages, sans) in leaves {
                node.put_pair(name, &ca.issue(user, &[], usages, sans));
            }
            node.put_pair(path, &ca);
        };
        let apart = nodes(&cluster, &[("cp1", &same), ("cp2", &other), ("cp3", &same)]);
        assert_eq!(told(&apart), at(FindingId::AuthorityDisagrees, "cp2", id));
        let finding = the(&apart, FindingId::AuthorityDisagrees);
        assert!(finding.message.contains(&format!("{PKI}/{path}.crt on nodes cp1, cp3")), "{}", finding.message);
        assert!(finding.remedy.contains("rotate-certs --only leaf --node cp2"), "{}", finding.remedy);
    }
    // The first control-plane node is not always the right one.
    let apart = nodes(&cluster, &[("cp1", &of_another_cluster), ("cp2", &same), ("cp3", &same)]);
    assert_eq!(told(&apart), at(FindingId::AuthorityDisagrees, "cp1", "ca"));
}

#[test]
fn workers_are_measured_by_the_control_plane_however_many_they_are() {
    let cluster = Cluster::healthy();
    let old = Cluster::healthy();
    let left_behind = |node: &mut Cluster| {
        node.files = old.files.clone();
        worker(node);
    };
    let changes: [Own<'_>; 4] = [("w1", &left_behind), ("w2", &left_behind), ("w3", &left_behind), ("cp1", &same)];
    let apart = told(&nodes(&cluster, &changes));
    let expected: BTreeSet<_> =
        ["w1", "w2", "w3"].iter().flat_map(|node| at(FindingId::AuthorityDisagrees, node, "ca")).collect();
    assert_eq!(apart, expected);
}

#[test]
fn a_worker_without_the_file_of_the_authority_is_known_by_its_kubeconfig() {
    let cluster = Cluster::healthy();
    let bare = |node: &mut Cluster| {
        worker(node);
        node.files.remove(&format!("{PKI}/ca.crt"));
    };
    assert_eq!(told(&nodes(&cluster, &[("cp1", &same), ("w1", &bare)])), BTreeSet::new());
    let old = Cluster::healthy();
    let stranger = |node: &mut Cluster| {
        node.files = old.files.clone();
        bare(node);
    };
    let apart = nodes(&cluster, &[("cp1", &same), ("w1", &stranger)]);
    assert_eq!(told(&apart), at(FindingId::ClusterTrustStale, "w1", "kubelet.conf#cluster/kubernetes"));
    let finding = the(&apart, FindingId::ClusterTrustStale);
    assert!(finding.message.contains("/etc/kubernetes/kubelet.conf on node cp1"), "{}", finding.message);
}

#[test]
fn bundles_of_which_one_trusts_more_disagree_in_files_and_in_kubeconfigs() {
    let cluster = Cluster::healthy();
    let new = Pair::authority("kubernetes");
    let both = cluster.ca.crt() + &new.crt();
    let ahead = |node: &mut Cluster| node.put(&format!("{PKI}/ca.crt"), both.clone(), 0o644);
    let apart = nodes(&cluster, &[("cp1", &same), ("cp2", &ahead), ("cp3", &same)]);
    let mut expected = at(FindingId::BundleDisagrees, "cp2", "ca");
    expected.extend(at(FindingId::AnchorUnneeded, "cp2", "ca[1]"));
    assert_eq!(told(&apart), expected);
    let finding = the(&apart, FindingId::BundleDisagrees);
    let wanted = format!("serial number {} is trusted here, but not in", new.certificate.serial());
    assert!(finding.message.contains(&wanted), "{}", finding.message);
    // Seen from the other side, when most have gone ahead.
    let apart = nodes(&cluster, &[("cp1", &same), ("cp2", &ahead), ("cp3", &ahead)]);
    let finding = the(&apart, FindingId::BundleDisagrees);
    assert!(finding.message.contains("is not trusted here, but in"), "{}", finding.message);
    let widened = |node: &mut Cluster| {
        let client = cluster.ca.issue("system:kube-scheduler", &[], CLIENT, &[]);
        node.put("/etc/kubernetes/scheduler.conf", kubeconfig("s", &both, &embedded(&client)), 0o600);
    };
    let apart = nodes(&cluster, &[("cp1", &same), ("cp2", &same), ("cp3", &widened)]);
    assert_eq!(told(&apart), at(FindingId::BundleDisagrees, "cp3", "scheduler.conf#cluster/kubernetes"));
}

#[test]
fn tokens_signed_on_one_node_are_good_on_every_other() {
    let cluster = Cluster::healthy();
    let (old_pub, _) = cluster.files[&format!("{PKI}/sa.pub")].clone();
    let new = Pair::authority("x").key;
    let put = |node: &mut Cluster, private: bool, public: &str| {
        if private {
            node.put(&format!("{PKI}/sa.key"), new.to_pem().to_string(), 0o600);
        }
        node.put(&format!("{PKI}/sa.pub"), public.to_owned(), 0o600);
    };
    let both = old_pub.clone() + &new.public_key_pem();
    let wide = |node: &mut Cluster| put(node, false, &both);
    let another = |node: &mut Cluster| put(node, true, &new.public_key_pem());
    let ahead = |node: &mut Cluster| put(node, true, &both);
    let apart = nodes(&cluster, &[("cp1", &same), ("cp2", &another), ("cp3", &same)]);
    assert_eq!(told(&apart), at(FindingId::ServiceAccountDisagrees, "cp2", "sa"));
    let finding = the(&apart, FindingId::ServiceAccountDisagrees);
    assert!(finding.message.starts_with(&format!("{PKI}/sa.key: ")), "{}", finding.message);
    assert!(finding.message.ends_with("nodes cp1, cp3"), "{}", finding.message);
    // On the way: cp2 signs with the new key already, which the others accept.
    let moving = nodes(&cluster, &[("cp1", &wide), ("cp2", &ahead), ("cp3", &wide)]);
    assert_eq!(told(&moving), at(FindingId::ServiceAccountMixed, "cp2", "sa"));
    let wider = nodes(&cluster, &[("cp1", &same), ("cp2", &wide), ("cp3", &same)]);
    assert_eq!(told(&wider), at(FindingId::ServiceAccountMixed, "cp2", "sa"));
    // Too early: cp2 signs with a key that the others do not know.
    let early = nodes(&cluster, &[("cp1", &same), ("cp2", &ahead), ("cp3", &same)]);
    assert_eq!(told(&early), at(FindingId::ServiceAccountDisagrees, "cp2", "sa"));
    // A node at odds with itself is told so, and not twice.
    let broken = nodes(&cluster, &[("cp1", &same), ("cp2", &|node| put(node, false, &new.public_key_pem()))]);
    assert_eq!(told(&broken), at(FindingId::ServiceAccountMismatch, "cp2", "sa"));
    let without = |node: &mut Cluster| {
        node.files.remove(&format!("{PKI}/sa.pub"));
        node.put(&format!("{PKI}/sa.key"), new.to_pem().to_string(), 0o600);
    };
    let blind = nodes(&cluster, &[("cp1", &same), ("cp2", &without), ("cp3", &same)]);
    assert_eq!(told(&blind), at(FindingId::ServiceAccountDisagrees, "cp2", "sa"));
}

#[test]
fn clocks_are_compared_with_this_machines_and_with_each_other() {
    let cluster = Cluster::healthy();
    let mut all = nodes(&cluster, &[("cp1", &same), ("cp2", &same), ("cp3", &same)]);
    let mut skewed = |seconds: [i64; 3]| {
        for (node, seconds) in all.nodes.iter_mut().zip(seconds) {
            let addresses = vec!["10.0.0.1".parse().unwrap()];
            let clock_skew = Duration::seconds(seconds);
            node.facts = Some(Facts { host_name: node.name.clone(), clock_skew, addresses });
        }
        told(&all)
    };
    assert_eq!(skewed([0, -300, 2]), BTreeSet::new());
    assert_eq!(skewed([0, -301, 2]), at(FindingId::ClockSkew, "cp2", "ca"));
    assert_eq!(skewed([0, 2, 3600]), at(FindingId::ClockSkew, "cp3", "ca"));
    // None is wrong by more than is tolerated, but two are too far apart.
    assert_eq!(skewed([200, 200, -200]), at(FindingId::ClockSkew, "cp3", "ca"));
    assert_eq!(skewed([900, 900, 900]).len(), 3, "then it is this machine's clock, which the messages name");
}

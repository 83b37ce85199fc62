//! Names and usages, kubeconfigs, the kubelet, and servers over the wire.

use super::*;

#[test]
fn names_under_which_a_server_is_reached_must_be_in_its_certificate() {
    let mut cluster = Cluster::healthy();
    let sans: Vec<San> = apiserver_sans().into_iter().filter(|san| san.to_string() != "IP:10.0.0.1").collect();
    cluster.put_pair("apiserver", &cluster.ca.issue("kube-apiserver", &[], SERVER, &sans));
    only(&cluster, FindingId::NameMissing, "apiserver");
    let mut cluster = Cluster::healthy();
    let sans: Vec<San> =
        apiserver_sans().into_iter().filter(|san| san.to_string() != "DNS:kubernetes.default").collect();
    cluster.put_pair("apiserver", &cluster.ca.issue("kube-apiserver", &[], SERVER, &sans));
    only(&cluster, FindingId::NameMissing, "apiserver");
    // A machine knows its own addresses; one of them is enough.
    let mut snapshot = look(&Cluster::healthy().write());
    let facts = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Some(Facts { host_name: "cp1".into(), clock_skew: Duration::ZERO, addresses })
    };
    snapshot.nodes[0].facts = facts(&["192.168.7.7", "10.0.0.1"]);
    assert_eq!(found(&snapshot, &Policy::at(NOW)), BTreeSet::new());
    snapshot.nodes[0].facts = facts(&["192.168.7.7"]);
    let at = |name: &str| (FindingId::NameMissing, name.to_owned());
    assert_eq!(
        found(&snapshot, &Policy::at(NOW)),
        BTreeSet::from([at("apiserver"), at("etcd-server"), at("etcd-peer")])
    );
}

#[test]
fn usages_and_identities_are_what_peers_look_for() {
    let mut cluster = Cluster::healthy();
    cluster.put_pair("etcd/peer", &cluster.etcd_ca.issue("cp1", &[], CLIENT, &etcd_sans()));
    only(&cluster, FindingId::UsageMissing, "etcd-peer");
    let mut cluster = Cluster::healthy();
    cluster.put_pair("front-proxy-client", &cluster.front_proxy_ca.issue("proxy", &[], CLIENT, &[]));
    only(&cluster, FindingId::IdentityWrong, "front-proxy-client");
    let mut cluster = Cluster::healthy();
    let client = cluster.ca.issue("system:kube-controller", &[], CLIENT, &[]);
    let text = kubeconfig("x", &cluster.ca.crt(), &embedded(&client));
    cluster.put("/etc/kubernetes/scheduler.conf", text, 0o600);
    only(&cluster, FindingId::IdentityWrong, "scheduler.conf");
    let mut cluster = Cluster::healthy();
    let client = cluster.ca.issue("kubernetes-admin", &["system:masters"], CLIENT, &[]);
    let text = kubeconfig("x", &cluster.ca.crt(), &embedded(&client));
    cluster.put("/etc/kubernetes/admin.conf", text, 0o600);
    only(&cluster, FindingId::SystemMasters, "admin.conf");
}

#[test]
fn kubeconfigs_are_whole_trust_the_cluster_and_check_the_server() {
    let mut cluster = Cluster::healthy();
    let (text, _) = cluster.files["/etc/kubernetes/scheduler.conf"].clone();
    cluster.put("/etc/kubernetes/scheduler.conf", text.replace("users:", "users: {"), 0o600);
    only(&cluster, FindingId::KubeconfigMalformed, "scheduler.conf");
    cluster.put("/etc/kubernetes/scheduler.conf", text.clone() + "kind: Config\n", 0o600);
    only(&cluster, FindingId::KubeconfigMalformed, "scheduler.conf");
    let other = Pair::authority("kubernetes");
    let client = cluster.ca.issue("system:kube-scheduler", &[], CLIENT, &[]);
    cluster.put("/etc/kubernetes/scheduler.conf", kubeconfig("x", &other.crt(), &embedded(&client)), 0o600);
    only(&cluster, FindingId::ClusterTrustStale, "scheduler.conf#cluster/kubernetes");
    let insecure = text.replace("    server:", "    insecure-skip-tls-verify: true\n    server:");
    let lines: Vec<&str> = insecure.lines().filter(|line| !line.contains("certificate-authority-data")).collect();
    cluster.put("/etc/kubernetes/scheduler.conf", lines.join("\n"), 0o600);
    only(&cluster, FindingId::ServerNotVerified, "scheduler.conf");
}

#[test]
fn a_kubeconfig_of_somebody_has_a_user_of_its_cluster() {
    let root = TestRoot::new();
    let (ca, other) = (Pair::authority("kubernetes"), Pair::authority("kubernetes"));
    let config = |client: &Pair| kubeconfig("jane", &ca.crt(), &embedded(client));
    let look = || {
        let wanted = Wanted { scopes: vec![Scope::Kubeconfig("/home/jane/config".into())], keys: Keys::PublicHalf };
        observe::observe(&[&root.node as &dyn Node], &wanted, NOW)
    };
    root.put("/home/jane/config", config(&ca.issue("jane", &["dev"], CLIENT, &[])), 0o600);
    assert_eq!(found(&look(), &Policy::at(NOW)), BTreeSet::new());
    root.put("/home/jane/config", config(&other.issue("jane", &["dev"], CLIENT, &[])), 0o600);
    expect(&look(), &Policy::at(NOW), FindingId::IssuerUnknown, "config");
}

#[test]
fn the_kubelets_current_file_is_a_link() {
    let mut cluster = Cluster::healthy();
    let dated = "/var/lib/kubelet/pki/kubelet-client-2026-01-01-00-00-00.pem";
    let (content, _) = cluster.files[dated].clone();
    cluster.put("/var/lib/kubelet/pki/kubelet-client-current.pem", content, 0o600);
    only(&cluster, FindingId::KubeletCurrentNotALink, "kubelet-client");
}

/// A server that shows `chain` and should be called `name`.
fn endpoint(chain: &[&Certificate], name: &str) -> Artifact {
    let content = Content {
        found_certificates: chain.iter().map(|one| Ok((*one).clone())).collect(),
        server_name: Some(name.to_owned()),
        ..Content::default()
    };
    Artifact {
        path: PathBuf::from("10.0.0.1:6443"),
        source: Source::Endpoint,
        part: None,
        server: None,
        link: None,
        metadata: None,
        state: State::Read(Box::new(content)),
    }
}

#[test]
fn servers_are_judged_by_name_chain_and_what_lies_on_the_disk() {
    let cluster = Cluster::healthy();
    let with = |server: Artifact| {
        let mut snapshot = look(&cluster.write());
        snapshot.nodes[0].artifacts.push(server);
        snapshot
    };
    let policy = Policy::at(NOW);
    let leaf = cluster.ca.issue("kube-apiserver", &[], SERVER, &[San::parse("10.0.0.1").unwrap()]).certificate;
    assert_eq!(found(&with(endpoint(&[&leaf], "10.0.0.1")), &policy), BTreeSet::new());
    expect(&with(endpoint(&[&leaf], "10.0.0.2")), &policy, FindingId::ServerNameWrong, "10.0.0.1:6443");
    let stranger = Pair::authority("stranger");
    let foreign = stranger.issue("x", &[], SERVER, &[San::parse("10.0.0.1").unwrap()]).certificate;
    let served = endpoint(&[&foreign, &stranger.certificate], "10.0.0.1");
    expect(&with(served), &policy, FindingId::IssuerUnknown, "10.0.0.1:6443");
    let old = cluster.ca.issue_with("kube-apiserver", &[], SERVER, &apiserver_sans(), |template| {
        template.not_before = ISSUED - Duration::days(9);
    });
    let served = endpoint(&[&old.certificate], "10.0.0.1");
    expect(&with(served), &policy, FindingId::ServedDiffers, "10.0.0.1:6443");
    let silent = Artifact { state: State::Unreadable("nothing listens there".into()), ..endpoint(&[], "x") };
    expect(&with(silent), &policy, FindingId::EndpointUnreadable, "10.0.0.1:6443");
    // Alone there is nothing to judge by, and that is said.
    let mut alone = look(&TestRoot::new());
    alone.nodes[0].artifacts.push(endpoint(&[&foreign], "10.0.0.1"));
    expect(&alone, &policy, FindingId::IssuerNotSeen, "10.0.0.1:6443");
}

//! Nodes that kubeadm did not make: k3s, AKS. Healthy ones have no findings, broken ones the same as everywhere.

use super::*;

/// A k3s server that is an agent as well: leaves with their chain, two authorities, kubeconfigs that refer to files.
fn k3s() -> Cluster {
    let mut cluster = Cluster::healthy();
    cluster.files.clear();
    let authority = |name: &str| Pair::authority(&format!("k3s-{name}@1767225600"));
    let (client_ca, server_ca) = (authority("client-ca"), authority("server-ca"));
    let (header_ca, peer_ca, etcd_ca) =
        (authority("request-header-ca"), authority("etcd-peer-ca"), authority("etcd-server-ca"));
    let tls = "/var/lib/rancher/k3s/server/tls";
    let agent = "/var/lib/rancher/k3s/agent";
    let mut put = |folder: &str, name: &str, pair: &Pair, chain: Option<&Pair>| {
        let text = pair.crt() + &chain.map(Pair::crt).unwrap_or_default();
        cluster.put(&format!("{folder}/{name}.crt"), text, 0o644);
        cluster.put(&format!("{folder}/{name}.key"), pair.pem_key(), 0o600);
    };
    for (name, pair) in [
        ("client-ca", &client_ca),
        ("server-ca", &server_ca),
        ("request-header-ca", &header_ca),
        ("etcd/peer-ca", &peer_ca),
        ("etcd/server-ca", &etcd_ca),
    ] {
        put(tls, name, pair, None);
    }
    let node = ["cp1", "127.0.0.1", "10.0.0.1", "kubernetes"].map(|name| San::parse(name).unwrap());
    for (name, ca, user, groups, usages) in [
        ("client-admin", &client_ca, "system:admin", &["system:masters"][..], CLIENT),
        ("client-supervisor", &client_ca, "system:k3s-supervisor", &["system:masters"], CLIENT),
        ("client-controller", &client_ca, "system:kube-controller-manager", &[], CLIENT),
        ("client-scheduler", &client_ca, "system:kube-scheduler", &[], CLIENT),
        ("client-kube-apiserver", &client_ca, "system:apiserver", &["system:masters"], CLIENT),
        ("client-kube-proxy", &client_ca, "system:kube-proxy", &[], CLIENT),
        ("client-k3s-controller", &client_ca, "system:k3s-controller", &[], CLIENT),
        ("client-auth-proxy", &header_ca, "system:auth-proxy", &[], CLIENT),
        ("serving-kube-apiserver", &server_ca, "kube-apiserver", &[], SERVER),
        ("etcd/server-client", &etcd_ca, "etcd-server", &[], BOTH),
        ("etcd/peer-server-client", &peer_ca, "etcd-peer", &[], BOTH),
        ("etcd/client", &etcd_ca, "etcd-client", &[], CLIENT),
    ] {
        put(tls, name, &ca.issue(user, groups, usages, &node), Some(ca));
    }
    for (name, ca, user, groups, usages) in [
        ("client-kubelet", &client_ca, "system:node:cp1", &["system:nodes"][..], CLIENT),
        ("client-kube-proxy", &client_ca, "system:kube-proxy", &[], CLIENT),
        ("client-k3s-controller", &client_ca, "system:k3s-controller", &[], CLIENT),
        ("serving-kubelet", &server_ca, "cp1", &[], SERVER),
    ] {
        put(agent, name, &ca.issue(user, groups, usages, &node), Some(ca));
    }
    cluster.put(&format!("{agent}/client-ca.crt"), client_ca.crt(), 0o644);
    cluster.put(&format!("{agent}/server-ca.crt"), server_ca.crt(), 0o644);
    for (name, client) in [("kubelet", "client-kubelet"), ("kubeproxy", "client-kube-proxy")] {
        let user = format!("client-certificate: {agent}/{client}.crt\n    client-key: {agent}/{client}.key");
        let text = kubeconfig("user", "", &user)
            .replace("certificate-authority-data: ", &format!("certificate-authority: {agent}/server-ca.crt"))
            .replace("https://10.0.0.1:6443", "https://127.0.0.1:6444");
        cluster.put(&format!("{agent}/{name}.kubeconfig"), text, 0o600);
    }
    let admin = client_ca.issue("system:admin", &["system:masters"], CLIENT, &[]);
    let text = kubeconfig("default", &server_ca.crt(), &embedded(&admin));
    cluster.put("/etc/rancher/k3s/k3s.yaml", text, 0o600);
    cluster.put(&format!("{tls}/service.key"), Pair::authority("x").pem_key(), 0o600);
    cluster
}

#[test]
fn a_healthy_k3s_server_has_no_findings() {
    let snapshot = look(&k3s().write());
    assert_eq!(found(&snapshot, &Policy::at(NOW)), BTreeSet::new());
    let diagnosis = diagnose::diagnose(&snapshot, &Policy::at(NOW));
    for name in ["client-admin", "serving-kube-apiserver", "agent-kubelet-client", "etcd-server-client", "k3s.yaml"] {
        let row = diagnosis.row(name).unwrap_or_else(|| panic!("no {name}"));
        assert!(!row.managed, "k3s renews {name} by itself");
    }
    assert_eq!(diagnosis.row("agent-kubelet-serving").unwrap().artifact.source, Source::Kubelet);
}

#[test]
fn a_k3s_leaf_of_a_former_authority_is_told() {
    let mut cluster = k3s();
    let former = Pair::authority("k3s-client-ca@1700000000");
    let leaf = former.issue("system:admin", &["system:masters"], CLIENT, &[]);
    let tls = "/var/lib/rancher/k3s/server/tls";
    cluster.put(&format!("{tls}/client-admin.crt"), leaf.crt(), 0o644);
    cluster.put(&format!("{tls}/client-admin.key"), leaf.pem_key(), 0o600);
    only(&cluster, FindingId::IssuerUnknown, "client-admin");
}

#[test]
fn a_node_of_aks_has_no_findings_and_its_ca_is_kept_elsewhere() {
    let mut cluster = Cluster::healthy();
    cluster.files.clear();
    let certs = "/etc/kubernetes/certs";
    cluster.put(&format!("{certs}/ca.crt"), cluster.ca.crt(), 0o644);
    for (name, pair) in [
        ("apiserver", cluster.ca.issue("apiserver", &[], SERVER, &apiserver_sans())),
        ("client", cluster.ca.issue("client", &["system:masters"], CLIENT, &[])),
        ("kubeletserver", Pair::authority("x").issue("cp1", &[], SERVER, &[])),
    ] {
        cluster.put(&format!("{certs}/{name}.crt"), pair.crt(), 0o644);
        cluster.put(&format!("{certs}/{name}.key"), pair.pem_key(), 0o600);
    }
    let store = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    let kubelet = cluster.ca.issue("system:node:aks-1", &["system:nodes"], CLIENT, &[]);
    cluster.put(
        "/var/lib/kubelet/pki/kubelet-client-2026-01-01-00-00-00.pem",
        kubelet.crt() + &kubelet.pem_key(),
        0o600,
    );
    let user = format!("client-certificate: {store}\n    client-key: {store}");
    let text = kubeconfig("client", "", &user)
        .replace("certificate-authority-data: ", &format!("certificate-authority: {certs}/ca.crt"));
    cluster.put("/var/lib/kubelet/kubeconfig", text, 0o600);
    let snapshot = look(&cluster.write());
    let masters = (FindingId::SystemMasters, "client".to_owned());
    assert_eq!(found(&snapshot, &Policy::at(NOW)), BTreeSet::from([masters]));
    let diagnosis = diagnose::diagnose(&snapshot, &Policy::at(NOW));
    assert!(diagnosis.row("ca").unwrap().externally_managed);
    assert!(!diagnosis.row("apiserver").unwrap().managed);
    assert_eq!(diagnosis.row("kubelet-server").unwrap().artifact.source, Source::Kubelet);
    assert_eq!(diagnosis.row("kubelet-kubeconfig").unwrap().status(), Status::Ok);
}

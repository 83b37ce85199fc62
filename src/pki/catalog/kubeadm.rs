//! kubeadm's files (Kubernetes: `cmd/kubeadm/app/phases/certs/certlist.go`, `phases/kubeconfig/kubeconfig.go`).

use super::{BOTH, Base, CLIENT, Entry, Expected, Keeper, SERVER};

pub(super) const ENTRIES: &[Entry] = &[
    Entry::authority("ca", "ca.crt", "ca.key"),
    Entry::leaf("apiserver", "apiserver.crt", "apiserver.key", "ca", SERVER).naming_node(),
    Entry::leaf(
        "apiserver-kubelet-client",
        "apiserver-kubelet-client.crt",
        "apiserver-kubelet-client.key",
        "ca",
        CLIENT,
    ),
    Entry::authority("front-proxy-ca", "front-proxy-ca.crt", "front-proxy-ca.key"),
    // kube-apiserver runs with --requestheader-allowed-names=front-proxy-client.
    Entry::leaf("front-proxy-client", "front-proxy-client.crt", "front-proxy-client.key", "front-proxy-ca", CLIENT)
        .named(Expected::Exactly("front-proxy-client"), None)
        .or_by(&["ca"]),
    Entry::authority("etcd-ca", "etcd/ca.crt", "etcd/ca.key"),
    Entry::leaf("etcd-server", "etcd/server.crt", "etcd/server.key", "etcd-ca", BOTH).naming_node().or_by(&["ca"]),
    Entry::leaf("etcd-peer", "etcd/peer.crt", "etcd/peer.key", "etcd-ca", BOTH).naming_node(),
    Entry::leaf(
        "etcd-healthcheck-client",
        "etcd/healthcheck-client.crt",
        "etcd/healthcheck-client.key",
        "etcd-ca",
        CLIENT,
    ),
    Entry::leaf("apiserver-etcd-client", "apiserver-etcd-client.crt", "apiserver-etcd-client.key", "etcd-ca", CLIENT),
    // Not kubeadm's: signs the clients of a cloud agent (profile aks-arc).
    Entry::authority("agent-ca", "agent/ca.crt", "agent/ca.key"),
    Entry::service_account("sa", "sa.pub", "sa.key"),
    Entry::kubeconfig("admin.conf", Base::Kubernetes, "admin.conf", "ca"),
    Entry::kubeconfig("super-admin.conf", Base::Kubernetes, "super-admin.conf", "ca")
        .named(Expected::Anything, Some("system:masters")),
    // RBAC's built-in bindings name these users (Kubernetes: plugin/pkg/auth/authorizer/rbac/bootstrappolicy).
    Entry::kubeconfig("controller-manager.conf", Base::Kubernetes, "controller-manager.conf", "ca")
        .named(Expected::Exactly("system:kube-controller-manager"), None),
    Entry::kubeconfig("scheduler.conf", Base::Kubernetes, "scheduler.conf", "ca")
        .named(Expected::Exactly("system:kube-scheduler"), None),
    // The Node authorizer wants both (Kubernetes: pkg/auth/nodeidentifier).
    Entry::kubeconfig("kubelet.conf", Base::Kubernetes, "kubelet.conf", "ca")
        .named(Expected::Prefix("system:node:"), Some("system:nodes"))
        .kept_by(Keeper::Kubelet),
    Entry::kubeconfig("bootstrap-kubelet.conf", Base::Kubernetes, "bootstrap-kubelet.conf", "ca")
        .kept_by(Keeper::Operator),
];

//! k3s and RKE2: one folder for everything, server and agent side, renewed by their own process when it starts
//! (k3s: `pkg/daemons/control/deps/deps.go`).
//!
//! Leaf files carry their issuer's certificate after their own.

use super::{BOTH, Base, CLIENT, Entry, Expected, Keeper, SERVER};

const fn own(entry: Entry) -> Entry {
    entry.kept_by(Keeper::Distribution)
}

const fn authority(id: &'static str, path: &'static str, key: &'static str) -> Entry {
    Entry::authority(id, path, key)
}

macro_rules! entries {
    ($($more:expr),*) => {
        &[
            authority("client-ca", "server/tls/client-ca.crt", "server/tls/client-ca.key"),
            authority("server-ca", "server/tls/server-ca.crt", "server/tls/server-ca.key"),
            authority("request-header-ca", "server/tls/request-header-ca.crt", "server/tls/request-header-ca.key"),
            authority("etcd-peer-ca", "server/tls/etcd/peer-ca.crt", "server/tls/etcd/peer-ca.key"),
            authority("etcd-server-ca", "server/tls/etcd/server-ca.crt", "server/tls/etcd/server-ca.key"),
            leaf("client-admin", "server/tls/client-admin.crt", "server/tls/client-admin.key", "client-ca"),
            leaf("client-supervisor", "server/tls/client-supervisor.crt", "server/tls/client-supervisor.key", "client-ca"),
            leaf("client-controller", "server/tls/client-controller.crt", "server/tls/client-controller.key", "client-ca")
                .named(Expected::Exactly("system:kube-controller-manager"), None),
            leaf("client-scheduler", "server/tls/client-scheduler.crt", "server/tls/client-scheduler.key", "client-ca")
                .named(Expected::Exactly("system:kube-scheduler"), None),
            leaf(
                "client-kube-apiserver",
                "server/tls/client-kube-apiserver.crt",
                "server/tls/client-kube-apiserver.key",
                "client-ca"
            ),
            leaf("client-kube-proxy", "server/tls/client-kube-proxy.crt", "server/tls/client-kube-proxy.key", "client-ca"),
            leaf("client-auth-proxy", "server/tls/client-auth-proxy.crt", "server/tls/client-auth-proxy.key", "request-header-ca"),
            own(Entry::leaf(
                "serving-kube-apiserver",
                "server/tls/serving-kube-apiserver.crt",
                "server/tls/serving-kube-apiserver.key",
                "server-ca",
                SERVER
            ))
            .naming_node(),
            own(Entry::leaf(
                "etcd-server-client",
                "server/tls/etcd/server-client.crt",
                "server/tls/etcd/server-client.key",
                "etcd-server-ca",
                BOTH
            )),
            own(Entry::leaf(
                "etcd-peer-server-client",
                "server/tls/etcd/peer-server-client.crt",
                "server/tls/etcd/peer-server-client.key",
                "etcd-peer-ca",
                BOTH
            )),
            leaf("etcd-client", "server/tls/etcd/client.crt", "server/tls/etcd/client.key", "etcd-server-ca"),
            leaf("agent-kubelet-client", "agent/client-kubelet.crt", "agent/client-kubelet.key", "client-ca")
                .named(Expected::Prefix("system:node:"), Some("system:nodes")),
            leaf("agent-kube-proxy-client", "agent/client-kube-proxy.crt", "agent/client-kube-proxy.key", "client-ca"),
            own(Entry::leaf(
                "agent-kubelet-serving",
                "agent/serving-kubelet.crt",
                "agent/serving-kubelet.key",
                "server-ca",
                SERVER
            ))
            .naming_node(),
            trust("agent-client-ca", "agent/client-ca.crt"),
            trust("agent-server-ca", "agent/server-ca.crt"),
            kubeconfig("agent-kubelet", "agent/kubelet.kubeconfig"),
            kubeconfig("agent-kube-proxy", "agent/kubeproxy.kubeconfig"),
            kubeconfig("admin", "server/cred/admin.kubeconfig"),
            kubeconfig("controller", "server/cred/controller.kubeconfig"),
            kubeconfig("scheduler", "server/cred/scheduler.kubeconfig"),
            kubeconfig("cloud-controller", "server/cred/cloud-controller.kubeconfig"),
            kubeconfig("api-server", "server/cred/api-server.kubeconfig"),
            $($more),*
        ]
    };
}

pub(super) const ENTRIES: &[Entry] = entries!(
    leaf(
        "client-k3s-controller",
        "server/tls/client-k3s-controller.crt",
        "server/tls/client-k3s-controller.key",
        "client-ca"
    ),
    leaf("agent-controller-client", "agent/client-k3s-controller.crt", "agent/client-k3s-controller.key", "client-ca"),
    kubeconfig("agent-controller", "agent/k3scontroller.kubeconfig")
);

pub(super) const RKE2_ENTRIES: &[Entry] = entries!(
    leaf(
        "client-rke2-controller",
        "server/tls/client-rke2-controller.crt",
        "server/tls/client-rke2-controller.key",
        "client-ca"
    ),
    leaf(
        "agent-controller-client",
        "agent/client-rke2-controller.crt",
        "agent/client-rke2-controller.key",
        "client-ca"
    ),
    kubeconfig("agent-controller", "agent/rke2controller.kubeconfig")
);

const fn leaf(id: &'static str, path: &'static str, key: &'static str, issuer: &'static str) -> Entry {
    own(Entry::leaf(id, path, key, issuer, CLIENT))
}

/// A copy of an authority's certificate on a node that never has its key.
const fn trust(id: &'static str, path: &'static str) -> Entry {
    Entry { key: None, ..own(Entry::authority(id, path, "")) }
}

const fn kubeconfig(id: &'static str, path: &'static str) -> Entry {
    own(Entry::kubeconfig(id, Base::Pki, path, "client-ca"))
}

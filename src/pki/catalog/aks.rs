//! An AKS node's `/etc/kubernetes/certs`, and a control plane made by aks-engine, which has the same folder.

use super::{BOTH, Base, CLIENT, Entry, Expected, Keeper, SERVER};

pub(super) const ENTRIES: &[Entry] = &[
    Entry::authority("ca", "ca.crt", "ca.key"),
    Entry::leaf("apiserver", "apiserver.crt", "apiserver.key", "ca", SERVER).naming_node(),
    Entry::leaf("client", "client.crt", "client.key", "ca", CLIENT),
    // Signed by itself until the kubelet gets a serving certificate by bootstrapping.
    Entry::leaf("kubelet-server", "kubeletserver.crt", "kubeletserver.key", "ca", SERVER)
        .self_issued()
        .kept_by(Keeper::Kubelet),
    Entry::leaf("etcd-server", "etcdserver.crt", "etcdserver.key", "ca", BOTH),
    Entry::leaf("etcd-client", "etcdclient.crt", "etcdclient.key", "ca", CLIENT),
    Entry::leaf("etcd-peer0", "etcdpeer0.crt", "etcdpeer0.key", "ca", BOTH),
    Entry::leaf("etcd-peer1", "etcdpeer1.crt", "etcdpeer1.key", "ca", BOTH),
    Entry::leaf("etcd-peer2", "etcdpeer2.crt", "etcdpeer2.key", "ca", BOTH),
    Entry::leaf("etcd-peer3", "etcdpeer3.crt", "etcdpeer3.key", "ca", BOTH),
    Entry::leaf("etcd-peer4", "etcdpeer4.crt", "etcdpeer4.key", "ca", BOTH),
    Entry::authority("proxy-ca", "proxy-ca.crt", "proxy-ca.key"),
    Entry::leaf("proxy", "proxy.crt", "proxy.key", "proxy-ca", CLIENT),
    Entry::kubeconfig("kubelet-kubeconfig", Base::Kubelet, "kubeconfig", "ca")
        .named(Expected::Prefix("system:node:"), Some("system:nodes"))
        .kept_by(Keeper::Kubelet),
    Entry::kubeconfig("bootstrap-kubeconfig", Base::Kubelet, "bootstrap-kubeconfig", "ca").kept_by(Keeper::Operator),
];

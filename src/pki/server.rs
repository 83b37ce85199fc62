//! The servers of a node: where each listens, which file tells that it should run, and which certificate it shows.
//!
//! Ports and flags: kubeadm `constants.go` and `phases/controlplane/manifests.go`; etcd `server/etcdmain/help.go`.

use super::component::{Component, flag};
use super::layout::Role;

/// Where a component answers TLS on its node; etcd has two such places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Server {
    /// kube-apiserver.
    ApiServer,
    /// etcd, towards its clients.
    Etcd,
    /// etcd, towards the other members.
    EtcdPeer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// The kubelet.
    Kubelet,
}

impl Server {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 6] =
        [Self::ApiServer, Self::Etcd, Self::EtcdPeer, Self::ControllerManager, Self::Scheduler, Self::Kubelet];

    /// Those of a node.
    pub fn of(role: Role) -> &'static [Self] {
        match role {
            Role::ControlPlane => &Self::ALL,
            Role::Worker => &[Self::Kubelet],
        }
    }

    /// The program that answers there; its name is also that of its static pod.
    pub const fn component(self) -> Component {
        match self {
            Self::ApiServer => Component::ApiServer,
            Self::Etcd | Self::EtcdPeer => Component::Etcd,
            Self::ControllerManager => Component::ControllerManager,
            Self::Scheduler => Component::Scheduler,
            Self::Kubelet => Component::Kubelet,
        }
    }

    /// That program's name.
    pub const fn program(self) -> &'static str {
        self.component().name()
    }

    /// Its usual TCP port.
    pub const fn port(self) -> u16 {
        match self {
            Self::ApiServer => 6443,
            Self::Etcd => 2379,
            Self::EtcdPeer => 2380,
            Self::ControllerManager => 10257,
            Self::Scheduler => 10259,
            Self::Kubelet => 10250,
        }
    }

    /// Ids, in the catalogs, of the certificate files it may show. Empty where the certificate is made at its start and
    /// kept in memory.
    pub const fn shows(self) -> &'static [&'static str] {
        match self {
            Self::ApiServer => &["apiserver", "serving-kube-apiserver"],
            Self::Etcd => &["etcd-server", "etcd-server-client"],
            Self::EtcdPeer => &["etcd-peer", "etcd-peer-server-client"],
            Self::ControllerManager | Self::Scheduler => &[],
            Self::Kubelet => &["kubelet-server", "kubelet-server-current", "kubelet", "agent-kubelet-serving"],
        }
    }

    /// Whether it signs a certificate for itself where nobody gives it one, so that no CA need stand behind it.
    pub const fn may_sign_itself(self) -> bool {
        matches!(self, Self::ControllerManager | Self::Scheduler | Self::Kubelet)
    }

    /// Whether it listens on the node's own loopback address only.
    pub const fn is_private(self) -> bool {
        matches!(self, Self::ControllerManager | Self::Scheduler)
    }

    /// Where it listens according to its static pod's manifest: the port, and the address where one is named.
    pub fn listens(self, manifest: &str) -> (u16, Option<&str>) {
        let (urls, fallback) = match self {
            Self::Etcd => ("--listen-client-urls", self.port()),
            Self::EtcdPeer => ("--listen-peer-urls", self.port()),
            Self::Kubelet => return (self.port(), None),
            _ => {
                let port = flag(manifest, "--secure-port").and_then(|port| port.parse().ok());
                return (port.unwrap_or(self.port()), flag(manifest, "--bind-address").and_then(named));
            }
        };
        let own = flag(manifest, urls).into_iter().flat_map(|urls| urls.split(','));
        let places = own.filter_map(|url| url.trim().strip_prefix("https://")?.rsplit_once(':'));
        let places = places.filter_map(|(host, port)| Some((port.parse().ok()?, named(host))));
        places.min_by_key(|(_, host)| host.is_some_and(|host| host.starts_with("127."))).unwrap_or((fallback, None))
    }
}

/// An address that names one interface.
fn named(host: &str) -> Option<&str> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    (!matches!(bare, "" | "0.0.0.0" | "::")).then_some(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETCD: &str = "spec:\n  containers:\n  - command:\n    - etcd\n    - --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379\n    \
                        - --listen-metrics-urls=http://127.0.0.1:2381\n    - --listen-peer-urls=https://[fd00::1]:12380\n";

    #[test]
    fn places_are_taken_from_the_flags_of_the_manifest() {
        assert_eq!(Server::Etcd.listens(ETCD), (2379, Some("10.0.0.1")));
        assert_eq!(Server::EtcdPeer.listens(ETCD), (12380, Some("fd00::1")));
        let apiserver = "    - kube-apiserver\n    - --advertise-address=10.0.0.1\n    - \"--secure-port=7443\"\n";
        assert_eq!(Server::ApiServer.listens(apiserver), (7443, None));
        let scheduler = "    - --bind-address=127.0.0.1\n    - --secure-port=x\n";
        assert_eq!(Server::Scheduler.listens(scheduler), (10259, Some("127.0.0.1")));
        assert_eq!(Server::Scheduler.listens("- --bind-address=0.0.0.0"), (10259, None));
        assert_eq!(Server::EtcdPeer.listens(""), (2380, None));
    }
}

//! What ought to be on a node, known from its part in the cluster, when too little is left on it to tell by itself.

use crate::pki::catalog::{Base, Catalog, Kind};
use crate::pki::layout::{Flavour, Role};
use crate::snapshot::{Artifact, Part, Snapshot, Source, State};

use super::Design;

/// Certificates of kubeadm's of which a control-plane node has at least so many (see `observe`).
const ENOUGH: usize = 5;

/// Adds to each node of kubeadm's what its part in the cluster demands and is not there.
pub fn complete(snapshot: &mut Snapshot, designs: &[(Design, Flavour)]) {
    for (design, flavour) in designs {
        let Some(node) = snapshot.nodes.iter_mut().find(|node| node.name == design.node && node.error.is_none()) else {
            continue;
        };
        let Some(kubernetes) = design.kubernetes_dir.as_ref().filter(|_| *flavour == Flavour::Kubeadm) else {
            continue;
        };
        let has_pod = |component: &str| design.pods.iter().any(|pod| pod == component);
        let is_ruling = design.role == Role::ControlPlane && has_pod("kube-apiserver");
        let has_etcd = has_pod("etcd");
        let is_member = !design.pods.is_empty()
            || node.artifacts.iter().any(|one| !one.is_missing() && one.source == Source::Kubelet);
        // With most of its files there the node itself has told what else it needs.
        let certificates = node.artifacts.iter().filter(|one| {
            let of_kubeadm =
                |part: Part| part.catalog == Catalog::Kubeadm && part.entry.base == Base::Pki && !part.is_key;
            one.part.is_some_and(of_kubeadm) && one.content().is_some()
        });
        let has_told = certificates.count() >= ENOUGH;
        for entry in Catalog::Kubeadm.entries() {
            let is_expected = match (entry.kind, entry.id) {
                (_, "agent-ca" | "super-admin.conf" | "kubelet.conf" | "bootstrap-kubelet.conf")
                | (Kind::ServiceAccount, _) => false,
                (Kind::Authority, "ca") => is_member,
                (_, id) if id.starts_with("etcd-") || id == "apiserver-etcd-client" => is_ruling && has_etcd,
                _ => is_ruling,
            };
            if !is_expected || has_told && entry.id == "front-proxy-ca" {
                continue;
            }
            let folder = if entry.base == Base::Pki { &design.pki_dir } else { kubernetes };
            let path = folder.join(entry.path);
            match node.artifacts.iter_mut().find(|one| one.path == path) {
                Some(artifact) => {
                    if let State::Missing { expected } = &mut artifact.state {
                        *expected = true;
                    }
                }
                None => {
                    let source = if entry.kind == Kind::Kubeconfig { Source::Kubeconfig } else { Source::Pki };
                    node.artifacts.push(Artifact {
                        path,
                        source,
                        part: Some(Part { catalog: Catalog::Kubeadm, entry, is_key: false }),
                        server: None,
                        link: None,
                        metadata: None,
                        state: State::Missing { expected: true },
                    });
                }
            }
        }
    }
}

//! Files that are not there: which of them kubeadm would list, and which of those ought to be there.
//!
//! kubeadm lists the same names on every node. A worker has hardly any of them, a cluster with an external etcd lacks
//! etcd's, and only the first control-plane node has `super-admin.conf`: there the rest of the node decides.

use std::path::{Path, PathBuf};

use super::Scope;
use super::place::Place;
use crate::pki::catalog::{Base, Catalog, Entry, Kind};
use crate::pki::chain;
use crate::snapshot::{Artifact, Part, Source, State};

/// Adds an artifact for each file that `kubeadm certs check-expiration` lists and that is not there.
pub(super) fn add(scopes: &[Scope], places: &[Place], artifacts: &mut Vec<Artifact>) {
    for scope in scopes {
        let (pki, kubernetes, whole_machine) = match scope {
            Scope::PkiDir(folder) => (folder.clone(), folder.clone(), false),
            Scope::Machine { kubernetes, .. } => (kubernetes.join("pki"), kubernetes.clone(), true),
            Scope::Path(_) | Scope::Kubeconfig(_) => continue,
        };
        if !places.iter().any(|place| place.catalog == Catalog::Kubeadm && place.folder == pki) {
            continue;
        }
        let node = Node { pki: &pki, kubernetes: &kubernetes, artifacts, whole_machine };
        let absent: Vec<Artifact> = Catalog::Kubeadm
            .entries()
            .iter()
            .filter(|entry| node.is_listed(entry) && !node.has(&node.path(entry)))
            .map(|entry| node.missing(entry))
            .collect();
        artifacts.extend(absent);
    }
}

struct Node<'a> {
    pki: &'a Path,
    kubernetes: &'a Path,
    artifacts: &'a [Artifact],
    whole_machine: bool,
}

impl Node<'_> {
    fn path(&self, entry: &Entry) -> PathBuf {
        let folder = if entry.base == Base::Pki { self.pki } else { self.kubernetes };
        folder.join(entry.path)
    }

    fn has(&self, path: &Path) -> bool {
        self.artifacts.iter().any(|artifact| artifact.path == path && !artifact.is_missing())
    }

    fn has_key(&self, entry: &Entry) -> bool {
        entry.key.is_some_and(|key| self.has(&self.pki.join(key)))
    }

    /// Certificates found of those in kubeadm's certificate folder.
    fn certificates(&self) -> usize {
        let entries = Catalog::Kubeadm.entries().iter();
        entries
            .filter(|entry| matches!(entry.kind, Kind::Authority | Kind::Leaf) && self.has(&self.path(entry)))
            .count()
    }

    /// A control-plane node has most of the files, a worker just `ca.crt`.
    fn is_control_plane(&self) -> bool {
        self.certificates() >= 5
    }

    fn has_etcd(&self) -> bool {
        let mut entries = Catalog::Kubeadm.entries().iter().filter(|entry| entry.path.starts_with("etcd/"));
        entries.any(|entry| self.has(&self.path(entry)) || self.has_key(entry))
    }

    fn has_kubeconfigs(&self) -> bool {
        let mut entries = Catalog::Kubeadm.entries().iter().filter(|entry| entry.kind == Kind::Kubeconfig);
        entries.any(|entry| self.has(&self.path(entry)))
    }

    /// What kubeadm lists: everything but the service-account keys and the kubelet's files. On a whole machine only where
    /// it is a control-plane node: nobody asks kubeadm about a worker.
    fn is_listed(&self, entry: &Entry) -> bool {
        let by_kubeadm = entry.kind != Kind::ServiceAccount
            && !["kubelet.conf", "bootstrap-kubelet.conf", "agent-ca"].contains(&entry.id);
        by_kubeadm && (!self.whole_machine || self.is_control_plane() || self.has_key(entry))
    }

    fn is_expected(&self, entry: &Entry) -> bool {
        let nothing_at_all = !self.whole_machine && self.certificates() == 0 && !self.has_kubeconfigs();
        match entry.kind {
            _ if nothing_at_all && entry.base == Base::Pki => true,
            Kind::Kubeconfig => {
                let kept_here = self.whole_machine || self.has_kubeconfigs();
                kept_here && self.is_control_plane() && entry.id != "super-admin.conf"
            }
            // A key without its certificate, wherever it is.
            _ if self.has_key(entry) => true,
            Kind::Authority if self.is_replaced(entry) => false,
            _ if entry.path.starts_with("etcd/") => self.is_control_plane() && self.has_etcd(),
            _ => self.is_control_plane(),
        }
    }

    /// Whether another authority that is here issued what this one usually does, as with the profile aks.
    fn is_replaced(&self, authority: &Entry) -> bool {
        let certificate = |entry: &Entry| {
            let path = self.path(entry);
            self.artifacts.iter().find(|artifact| artifact.path == path)?.content()?.certificates().next()
        };
        let issued_by = |leaf: &Entry, other: &Entry| match (certificate(leaf), certificate(other)) {
            (Some(leaf), Some(other)) => chain::names_match(leaf, other),
            _ => false,
        };
        let entries = || Catalog::Kubeadm.entries().iter();
        let mut leaves = entries().filter(|leaf| leaf.issuer == Some(authority.id) && certificate(leaf).is_some());
        let others = || entries().filter(|other| other.kind == Kind::Authority && other.id != authority.id);
        !self.has_key(authority)
            && leaves.clone().next().is_some()
            && leaves.all(|leaf| others().any(|other| issued_by(leaf, other)))
    }

    fn missing(&self, entry: &'static Entry) -> Artifact {
        let source = if entry.kind == Kind::Kubeconfig { Source::Kubeconfig } else { Source::Pki };
        Artifact {
            path: self.path(entry),
            source,
            part: Some(Part { catalog: Catalog::Kubeadm, entry, is_key: false }),
            server: None,
            link: None,
            metadata: None,
            state: State::Missing { expected: self.is_expected(entry) },
        }
    }
}

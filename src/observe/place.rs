//! Where each kind of installation keeps its files on a node: from what the operator asked for to what the node is asked.

use std::path::{Path, PathBuf};

use super::Scope;
use crate::node::{Found, FoundState, Query};
use crate::pki::catalog::{Base, Catalog};
use crate::snapshot::Part;

/// A folder whose files a catalog knows by their relative paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Absolute path.
    pub(super) folder: PathBuf,
    /// The catalog.
    pub(super) catalog: Catalog,
    /// Which of the catalog's folders it is.
    pub(super) base: Base,
    /// Where in that folder of the catalog this one is; usually `""`.
    pub(super) within: &'static str,
}

impl Place {
    fn new(folder: impl Into<PathBuf>, catalog: Catalog, base: Base) -> Self {
        Self { folder: folder.into(), catalog, base, within: "" }
    }

    /// What the catalog knows about `path`.
    pub(super) fn part(&self, path: &Path) -> Option<Part> {
        let relative = Path::new(self.within).join(path.strip_prefix(&self.folder).ok()?);
        let (entry, is_key) = self.catalog.entry_at(self.base, &relative)?;
        Some(Part { catalog: self.catalog, entry, is_key })
    }

    /// Whether `path` is one of the files the catalog knows in this place.
    pub(super) fn holds(&self, path: &Path) -> bool {
        self.part(path).is_some()
    }
}

const RANCHER: [Catalog; 2] = [Catalog::K3s, Catalog::Rke2];

/// Kubeconfigs outside the folders of their catalogs.
const OTHER_KUBECONFIGS: [&str; 3] = ["/root/.kube/config", "/etc/rancher/k3s/k3s.yaml", "/etc/rancher/rke2/rke2.yaml"];

/// What to ask a node for.
pub(super) fn queries(scope: &Scope) -> Vec<Query> {
    match scope {
        Scope::PkiDir(path) | Scope::Path(path) => vec![Query::Tree(path.clone())],
        Scope::Kubeconfig(path) => vec![Query::File(path.clone())],
        Scope::Machine { kubernetes, kubelet } => {
            let mut queries = vec![
                Query::Tree(kubernetes.join("pki")),
                Query::Tree(kubernetes.join("certs")),
                Query::Tree(kubelet.join("pki")),
                Query::File(kubelet.join(super::kubelet_config::NAME)),
            ];
            for catalog in RANCHER {
                queries.push(Query::Tree(Path::new(catalog.folder()).join("server/tls")));
            }
            // The other folders hold gigabytes of other things: only what the catalogs know is read there.
            for place in machine(kubernetes, kubelet) {
                let entries = place.catalog.entries().iter().filter(|entry| entry.base == place.base);
                let paths = entries.flat_map(|entry| [Some(entry.path), entry.key]).flatten();
                queries.extend(
                    paths
                        .map(|path| place.folder.join(path))
                        .filter(|path| !is_in_tree(path, &queries))
                        .map(Query::File)
                        .collect::<Vec<_>>(),
                );
            }
            queries.extend(OTHER_KUBECONFIGS.iter().map(|path| Query::File(PathBuf::from(path))));
            queries
        }
    }
}

fn is_in_tree(path: &Path, queries: &[Query]) -> bool {
    queries.iter().any(|query| matches!(query, Query::Tree(folder) if path.starts_with(folder)))
}

/// The places of all scopes, for what was found there.
pub(super) fn places(scopes: &[Scope], found: &[Found]) -> Vec<Place> {
    let mut places = Vec::new();
    for scope in scopes {
        match scope {
            Scope::PkiDir(folder) => {
                // An empty folder is taken for kubeadm's, which then misses everything; a folder of strange files is not.
                let empty = below(folder, found).is_empty().then_some((Catalog::Kubeadm, ""));
                if let Some((catalog, within)) = Catalog::detect(&below(folder, found), 1).or(empty) {
                    places.push(Place { within, ..Place::new(folder, catalog, Base::Pki) });
                    // Kubeconfigs, where somebody keeps them beside the certificates.
                    places.push(Place::new(folder, catalog, Base::Kubernetes));
                }
            }
            // Two names that happen to be kubeadm's do not make a folder kubeadm's.
            Scope::Path(folder) => {
                if let Some((catalog, within)) = Catalog::detect(&below(folder, found), 3) {
                    places.push(Place { within, ..Place::new(folder, catalog, Base::Pki) });
                    places.push(Place::new(folder, catalog, Base::Kubernetes));
                }
            }
            Scope::Machine { kubernetes, kubelet } => places.extend(machine(kubernetes, kubelet)),
            Scope::Kubeconfig(_) => {}
        }
    }
    places
}

fn machine(kubernetes: &Path, kubelet: &Path) -> Vec<Place> {
    let mut places = vec![
        Place::new(kubernetes.join("pki"), Catalog::Kubeadm, Base::Pki),
        Place::new(kubernetes, Catalog::Kubeadm, Base::Kubernetes),
        Place::new(kubernetes.join("certs"), Catalog::Aks, Base::Pki),
        Place::new(kubelet, Catalog::Aks, Base::Kubelet),
        Place::new(kubelet.join("pki"), Catalog::Kubelet, Base::Pki),
        Place::new(kubelet, Catalog::Kubelet, Base::Kubelet),
    ];
    places.extend(RANCHER.map(|catalog| Place::new(catalog.folder(), catalog, Base::Pki)));
    places
}

/// The files below `folder`, relative to it.
fn below<'a>(folder: &'a Path, found: &'a [Found]) -> Vec<&'a Path> {
    found
        .iter()
        .filter(|file| !matches!(file.state, FoundState::Missing | FoundState::Directory))
        .filter_map(|file| file.path.strip_prefix(folder).ok())
        .filter(|path| !path.as_os_str().is_empty())
        .collect()
}

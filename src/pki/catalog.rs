//! What each file of a cluster is: one table per way of installing Kubernetes.
//!
//! Ids are kubeadm's wherever it has one. The tables say what is normal; what is found is in the snapshot, and what is
//! wrong about it is for `diagnose` to say. Sources: kubeadm `phases/certs/certlist.go` and `phases/kubeconfig`, the
//! kubelet's `certificate_store.go`, aks-engine's node files, k3s `pkg/daemons/config` and `pkg/daemons/control/deps`.

use std::path::Path;

use super::usage::ExtendedKeyUsage;

mod aks;
mod k3s;
mod kubeadm;
pub mod kubelet;

/// The table of one way of installing Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Catalog {
    /// kubeadm's `/etc/kubernetes/pki` and the kubeconfigs beside it.
    Kubeadm,
    /// A node of AKS: `/etc/kubernetes/certs`.
    Aks,
    /// The kubelet's own `/var/lib/kubelet/pki`.
    Kubelet,
    /// `/var/lib/rancher/k3s`.
    K3s,
    /// `/var/lib/rancher/rke2`.
    Rke2,
}

/// Which folder an entry's path is relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The certificate folder, `/etc/kubernetes/pki` with kubeadm.
    Pki,
    /// The folder of the kubeconfigs, `/etc/kubernetes` with kubeadm.
    Kubernetes,
    /// The kubelet's folder, `/var/lib/kubelet`.
    Kubelet,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A certificate authority.
    Authority,
    /// A certificate issued by one.
    Leaf,
    /// The service-account key pair: a private and a public key without certificate.
    ServiceAccount,
    /// A kubeconfig with an embedded or referenced client certificate.
    Kubeconfig,
}

/// Who keeps an entry fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// kubepki: `rotate-certs` renews it and `auto-rotate` does so by itself.
    Kubepki,
    /// The kubelet, by signing requests.
    Kubelet,
    /// The distribution's own server process, when it starts.
    Distribution,
    /// A person: authorities, and credentials of people.
    Operator,
}

/// What a name in a certificate has to be, because somebody compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nobody looks.
    Anything,
    /// Exactly this.
    Exactly(&'static str),
    /// This, followed by something.
    Prefix(&'static str),
}

impl Expected {
    /// Whether `name` is as expected.
    pub fn fits(self, name: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Exactly(wanted) => name == wanted,
            Self::Prefix(start) => name.len() > start.len() && name.starts_with(start),
        }
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anything => f.write_str("anything"),
            Self::Exactly(wanted) => write!(f, "`{wanted}`"),
            Self::Prefix(start) => write!(f, "`{start}…`"),
        }
    }
}

/// One row of a catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// kubeadm's id, as `etcd-healthcheck-client`.
    pub id: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Folder that the paths are relative to.
    pub base: Base,
    /// Certificate or kubeconfig file; for service accounts the public key.
    pub path: &'static str,
    /// Private key file, where it is another one.
    pub key: Option<&'static str>,
    /// Id of the authority that issues it; `None` for roots and where it is not fixed.
    pub issuer: Option<&'static str>,
    /// Ids of authorities that issue it in some of the built-in profiles instead.
    pub also_issued_by: &'static [&'static str],
    /// What it must be usable for.
    pub usages: &'static [ExtendedKeyUsage],
    /// The common name its peers look for.
    pub common_name: Expected,
    /// An organization its peers look for.
    pub organization: Option<&'static str>,
    /// Who keeps it fresh.
    pub keeper: Keeper,
    /// Whether peers reach it under this node's own name and addresses.
    pub names_node: bool,
}

/// `serverAuth`.
pub(crate) const SERVER: &[ExtendedKeyUsage] = &[ExtendedKeyUsage::ServerAuth];
/// `clientAuth`.
pub(crate) const CLIENT: &[ExtendedKeyUsage] = &[ExtendedKeyUsage::ClientAuth];
/// Both, as etcd members need.
pub(crate) const BOTH: &[ExtendedKeyUsage] = &[ExtendedKeyUsage::ServerAuth, ExtendedKeyUsage::ClientAuth];

impl Entry {
    /// A root authority with certificate `path` and private key `key`.
    const fn authority(id: &'static str, path: &'static str, key: &'static str) -> Self {
        Self {
            id,
            kind: Kind::Authority,
            base: Base::Pki,
            path,
            key: Some(key),
            issuer: None,
            also_issued_by: &[],
            usages: &[],
            common_name: Expected::Anything,
            organization: None,
            keeper: Keeper::Operator,
            names_node: false,
        }
    }

    /// A leaf issued by `issuer`.
    const fn leaf(
        id: &'static str,
        path: &'static str,
        key: &'static str,
        issuer: &'static str,
        usages: &'static [ExtendedKeyUsage],
    ) -> Self {
        Self {
            kind: Kind::Leaf,
            issuer: Some(issuer),
            usages,
            keeper: Keeper::Kubepki,
            ..Self::authority(id, path, key)
        }
    }

    /// A kubeconfig whose client certificate is issued by `issuer`.
    const fn kubeconfig(id: &'static str, base: Base, path: &'static str, issuer: &'static str) -> Self {
        Self {
            kind: Kind::Kubeconfig,
            base,
            key: None,
            issuer: Some(issuer),
            usages: CLIENT,
            keeper: Keeper::Kubepki,
            ..Self::authority(id, path, "")
        }
    }

    /// A service-account key pair: public key `path`, private key `key`.
    const fn service_account(id: &'static str, path: &'static str, key: &'static str) -> Self {
        Self { kind: Kind::ServiceAccount, ..Self::authority(id, path, key) }
    }

    /// The same, kept fresh by somebody else.
    const fn kept_by(self, keeper: Keeper) -> Self {
        Self { keeper, ..self }
    }

    /// The same, with names that its peers look for.
    const fn named(self, common_name: Expected, organization: Option<&'static str>) -> Self {
        Self { common_name, organization, ..self }
    }

    /// The same, reached under the node's own name and addresses.
    const fn naming_node(self) -> Self {
        Self { names_node: true, ..self }
    }

    /// The same, issued by another authority in some profiles.
    const fn or_by(self, also_issued_by: &'static [&'static str]) -> Self {
        Self { also_issued_by, ..self }
    }

    /// The same without a fixed issuer.
    const fn self_issued(self) -> Self {
        Self { issuer: None, ..self }
    }
}

impl Catalog {
    /// Every table.
    pub const ALL: [Self; 5] = [Self::Kubeadm, Self::Aks, Self::Kubelet, Self::K3s, Self::Rke2];

    /// The table's name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kubeadm => "kubeadm",
            Self::Aks => "aks",
            Self::Kubelet => "kubelet",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
        }
    }

    /// Its certificate folder on a node that was installed with defaults.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Kubeadm => "/etc/kubernetes/pki",
            Self::Aks => "/etc/kubernetes/certs",
            Self::Kubelet => "/var/lib/kubelet/pki",
            Self::K3s => "/var/lib/rancher/k3s",
            Self::Rke2 => "/var/lib/rancher/rke2",
        }
    }

    /// Everything it knows, authorities before what they issue.
    pub const fn entries(self) -> &'static [Entry] {
        match self {
            Self::Kubeadm => kubeadm::ENTRIES,
            Self::Aks => aks::ENTRIES,
            Self::Kubelet => kubelet::ENTRIES,
            Self::K3s => k3s::ENTRIES,
            Self::Rke2 => k3s::RKE2_ENTRIES,
        }
    }

    /// The entry with that id.
    pub fn entry(self, id: &str) -> Option<&'static Entry> {
        self.entries().iter().find(|entry| entry.id == id)
    }

    /// The entry whose certificate, kubeconfig or key is `path`, relative to `base`; and whether it is the key.
    pub fn entry_at(self, base: Base, path: &Path) -> Option<(&'static Entry, bool)> {
        self.entries().iter().filter(|entry| entry.base == base).find_map(|entry| {
            if Path::new(entry.path) == path {
                Some((entry, false))
            } else if entry.key.is_some_and(|key| Path::new(key) == path) {
                Some((entry, true))
            } else {
                None
            }
        })
    }

    /// The catalog of a bare certificate folder, told by the files in it, and where in the catalog's own folder that folder
    /// is (`""`, or `server/tls`); paths are relative to the folder. `None` when fewer than `least` files are known.
    pub fn detect(files: &[&Path], least: usize) -> Option<(Self, &'static str)> {
        const CANDIDATES: [(Catalog, &str); 7] = [
            (Catalog::Kubeadm, ""),
            (Catalog::Aks, ""),
            (Catalog::Kubelet, ""),
            (Catalog::K3s, "server/tls"),
            (Catalog::Rke2, "server/tls"),
            (Catalog::K3s, ""),
            (Catalog::Rke2, ""),
        ];
        let known = |catalog: Self, within: &str| {
            files.iter().filter(|path| catalog.entry_at(Base::Pki, &Path::new(within).join(path)).is_some()).count()
        };
        // `ca.crt` and `apiserver.crt` are names of kubeadm as well as of AKS: the one that knows more files wins, and
        // the earlier of two that know as many.
        let mut best: Option<(usize, Self, &str)> = None;
        for (catalog, within) in CANDIDATES {
            let count = known(catalog, within);
            if count >= least.max(1) && best.is_none_or(|(most, ..)| count > most) {
                best = Some((count, catalog, within));
            }
        }
        best.map(|(_, catalog, within)| (catalog, within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_entry_has_a_unique_id_and_path_and_a_known_issuer() {
        for catalog in Catalog::ALL {
            let (mut ids, mut paths) = (HashSet::new(), HashSet::new());
            for entry in catalog.entries() {
                assert!(ids.insert(entry.id), "{} twice in {}", entry.id, catalog.name());
                assert!(paths.insert((entry.base as u8, entry.path)), "{} twice in {}", entry.path, catalog.name());
                if let Some(issuer) = entry.issuer.filter(|_| catalog != Catalog::Kubelet) {
                    assert_eq!(catalog.entry(issuer).map(|issuer| issuer.kind), Some(Kind::Authority), "{}", entry.id);
                }
            }
        }
    }

    #[test]
    fn folders_are_recognised_by_their_files() {
        let detect = |files: &[&str], least| Catalog::detect(&files.iter().map(Path::new).collect::<Vec<_>>(), least);
        assert_eq!(detect(&["ca.crt", "apiserver.crt"], 1), Some((Catalog::Kubeadm, "")));
        assert_eq!(detect(&["ca.crt", "apiserver.crt"], 3), None);
        assert_eq!(detect(&["ca.crt", "apiserver.crt", "client.crt"], 1), Some((Catalog::Aks, "")));
        assert_eq!(detect(&["kubelet-client-current.pem"], 1), Some((Catalog::Kubelet, "")));
        assert_eq!(detect(&["server/tls/server-ca.crt"], 1), Some((Catalog::K3s, "")));
        assert_eq!(detect(&["server-ca.crt", "client-rke2-controller.crt"], 1), Some((Catalog::Rke2, "server/tls")));
        assert_eq!(detect(&["other.crt"], 1), None);
    }
}

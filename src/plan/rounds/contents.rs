//! What each file holds in each round, by what it holds in the end.

use std::collections::BTreeMap;

use super::slots::{Slot, Slots};
use super::{Authority, Renewed};
use crate::pki::certificate::Certificate;
use crate::pki::chain::{Signature, issued};
use crate::pki::layout::Role;
use crate::plan::blueprint::{CertificateRef, FileContent, Id, KubeconfigPlan, PlannedFile, PublicKeyRef};
use crate::plan::enforcement::CLIENT_TRUST;

/// What is replaced and concerns more than one node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<'a> {
    /// Authorities with a new key.
    pub(super) authorities: &'a [Authority],
    /// By the id of an API server's certificate, the certificate of its authority's new key by the old one.
    pub(super) crosses: &'a BTreeMap<Id, Id>,
    /// New keys that sign tokens.
    pub(super) token_keys: &'a [Id],
    /// By the id of a renewed certificate, the one before.
    pub(super) before: &'a BTreeMap<Id, Certificate>,
}

/// Which of the two stands first in a bundle: the one whose key lies beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Old,
    New,
}

impl<'a> Shared<'a> {
    fn authority(&self, reference: &CertificateRef) -> Option<&'a Authority> {
        let CertificateRef::Planned(id) = reference else { return None };
        self.authorities.iter().find(|authority| authority.id == *id)
    }

    /// The first of the replaced authorities in a file.
    pub(super) fn first_authority(&self, references: &[CertificateRef]) -> Option<&'a Authority> {
        references.iter().find_map(|reference| self.authority(reference))
    }

    /// Whether a kubeconfig trusts a replaced authority.
    pub(super) fn is_trusted_in(&self, kubeconfig: &KubeconfigPlan) -> bool {
        match kubeconfig {
            KubeconfigPlan::Existing { authorities, .. } => {
                authorities.iter().any(|(_, references)| self.first_authority(references).is_some())
            }
            KubeconfigPlan::New { .. } | KubeconfigPlan::OfKubelet { .. } => false,
        }
    }

    /// Whether a file of certificates is what somebody trusts, and trusts a replaced authority.
    pub(super) fn are_trust(&self, references: &[CertificateRef]) -> bool {
        self.first_authority(references).is_some() && references.first().is_some_and(|first| !self.is_leaf(first))
    }

    fn is_leaf(&self, reference: &CertificateRef) -> bool {
        match reference {
            CertificateRef::Existing(certificate) => !certificate.is_ca(),
            CertificateRef::Planned(_) => self.authority(reference).is_none(),
        }
    }

    /// Who is believed one by one is so until the end; beside them the authorities that take the place of theirs. `None` where
    /// none of theirs is replaced.
    fn pinned(&self, references: &[CertificateRef]) -> Option<(Vec<CertificateRef>, Vec<CertificateRef>)> {
        let old: Vec<&Certificate> = references
            .iter()
            .filter_map(|reference| match reference {
                CertificateRef::Planned(id) => self.before.get(id),
                CertificateRef::Existing(certificate) => Some(&**certificate),
            })
            .collect();
        let signed = |by: &Certificate| old.iter().any(|one| issued(one, by) == Signature::Good);
        let new = self.authorities.iter().filter(|authority| signed(&authority.old));
        let new: Vec<CertificateRef> = new.map(|authority| CertificateRef::Planned(authority.id.clone())).collect();
        if new.is_empty() {
            return None;
        }
        let old = old.into_iter().map(|one| CertificateRef::Existing(Box::new(one.clone())));
        Some((old.chain(new.iter().cloned()).collect(), new))
    }

    fn both(&self, references: &[CertificateRef], first: First) -> Vec<CertificateRef> {
        let mut both = Vec::new();
        for reference in references {
            let old = self.authority(reference).map(|it| CertificateRef::Existing(Box::new(it.old.clone())));
            match first {
                First::Old => both.extend(old.into_iter().chain([reference.clone()])),
                First::New => both.extend([reference.clone()].into_iter().chain(old)),
            }
        }
        both
    }
}

/// Puts a file's contents into the slots of its node.
pub(super) fn place(slots: &mut Slots, file: &PlannedFile, shared: &Shared<'_>, role: Role, renewed: Renewed) {
    let Some(content) = &file.content else { return slots.put(Slot::IssueAll, file.clone()) };
    let holding = |content: FileContent| PlannedFile { content: Some(content), ..file.clone() };
    let of_kubelet = is_of_kubelet(&file.name);
    match content {
        FileContent::Certificates(references) if is_narrowed(file, references, shared) => {
            match shared.pinned(references) {
                Some((both, new)) => {
                    slots.put(Slot::TrustBundles, holding(FileContent::Certificates(both)));
                    slots.put(Slot::DropFiles, holding(FileContent::Certificates(new)));
                }
                None => slots.put(Slot::IssueAll, file.clone()),
            }
        }
        FileContent::Certificates(references) if shared.are_trust(references) => {
            // A worker's is for its kubelet, which trusts both from its own round on.
            let at_worker = role == Role::Worker && renewed.cluster && file.name == "ca";
            let slot = if at_worker { Slot::Kubelet } else { Slot::TrustBundles };
            slots.put(slot, holding(FileContent::Certificates(shared.both(references, First::Old))));
            let is_kept_elsewhere = shared.first_authority(references).is_some_and(|authority| authority.is_taken);
            if role == Role::ControlPlane && has_own_key(&file.name) && !is_kept_elsewhere {
                slots.put(Slot::IssueAll, holding(FileContent::Certificates(shared.both(references, First::New))));
            }
            slots.put(Slot::DropFiles, file.clone());
        }
        FileContent::Certificates(references) if file.name == "apiserver" && renewed.cluster => {
            let leaf = references.first();
            let cross = leaf
                .and_then(|leaf| if let CertificateRef::Planned(id) = leaf { shared.crosses.get(id) } else { None });
            let Some(cross) = cross else { return slots.put(Slot::IssueAll, file.clone()) };
            let chain = references.iter().cloned().chain([CertificateRef::Planned(cross.clone())]).collect();
            slots.put(Slot::IssueAll, holding(FileContent::Certificates(chain)));
            slots.put(Slot::DropFiles, file.clone());
        }
        FileContent::PublicKeys(references) => {
            let (new, old): (Vec<_>, Vec<_>) = references.iter().cloned().partition(is_planned);
            if old.is_empty() {
                return slots.put(Slot::IssueAll, file.clone());
            }
            slots.put(
                Slot::TrustBundles,
                holding(FileContent::PublicKeys(old.into_iter().chain(new.clone()).collect())),
            );
            slots.put(Slot::DropFiles, holding(FileContent::PublicKeys(new)));
        }
        FileContent::Kubeconfig(kubeconfig @ KubeconfigPlan::Existing { authorities, clients }) => {
            let trusts = shared.is_trusted_in(kubeconfig);
            let both: Vec<_> = authorities
                .iter()
                .map(|(cluster, references)| (cluster.clone(), shared.both(references, First::Old)))
                .collect();
            let plan = |clients: &[_]| {
                holding(FileContent::Kubeconfig(KubeconfigPlan::Existing {
                    authorities: both.clone(),
                    clients: clients.to_vec(),
                }))
            };
            if of_kubelet {
                slots.put(Slot::Kubelet, plan(clients));
                if trusts {
                    slots.put(Slot::DropManagers, file.clone());
                }
                return;
            }
            if trusts {
                slots.put(Slot::TrustSigner, plan(&[]));
            }
            if !clients.is_empty() {
                slots.put(Slot::IssueStarts, plan(clients));
            }
            if trusts {
                slots.put(Slot::DropFiles, file.clone());
            }
        }
        FileContent::PrivateKey(id) if shared.token_keys.contains(id) => slots.put(Slot::IssueStarts, file.clone()),
        _ if of_kubelet => slots.put(Slot::Kubelet, file.clone()),
        _ if is_of_etcd(&file.name)
            && !matches!(content, FileContent::PrivateKey(id) if is_authority_key(shared, id)) =>
        {
            slots.put(Slot::IssueEtcd, file.clone());
        }
        _ => slots.put(Slot::IssueAll, file.clone()),
    }
}

/// Whether that is client trust in single certificates instead of their authority.
fn is_narrowed(file: &PlannedFile, references: &[CertificateRef], shared: &Shared<'_>) -> bool {
    file.path.ends_with(CLIENT_TRUST) && references.iter().any(|reference| shared.is_leaf(reference))
}

fn is_planned(reference: &PublicKeyRef) -> bool {
    matches!(reference, PublicKeyRef::Planned(_))
}

fn is_authority_key(shared: &Shared<'_>, id: &Id) -> bool {
    shared.authorities.iter().any(|authority| authority.key == *id)
}

/// kubeadm's CAs have their key beside them on the control plane.
fn has_own_key(name: &str) -> bool {
    matches!(name, "ca" | "etcd-ca" | "front-proxy-ca" | "agent-ca")
}

fn is_of_kubelet(name: &str) -> bool {
    // A file to which that kubeconfig refers is named behind it.
    name.split(' ').next() == Some("kubelet.conf")
        || name.starts_with("kubelet-client")
        || name.starts_with("kubelet-server")
}

pub(super) fn is_of_etcd(name: &str) -> bool {
    name.starts_with("etcd-") || name == "apiserver-etcd-client"
}

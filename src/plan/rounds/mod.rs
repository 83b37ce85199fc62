//! A rotation of what all nodes share, laid out over rounds: everybody trusts old and new, then everything is issued from the
//! new, then the old is dropped. At no time does anybody meet a certificate or a token that it does not trust.
//!
//! [`arrange`] is a pure function over a finished plan: what each file will hold in the end is known, and what it holds
//! meanwhile follows from that (`contents`). `slots` has the order on one node, `pods` the manifests, `signing` the
//! controller manager, which must never see a bundle where it looks for its signer.

use std::collections::BTreeMap;

use super::blueprint::{
    Basis, Blueprint, CertificatePlan, CertificateRef, FileContent, Id, IssuerPlan, KeyPlan, KeySource,
};
use super::operation::FileAction;
use super::restart::{Manifest, Means, Strategy};
use crate::error::Failure;
use crate::pki::certificate::Certificate;
use crate::pki::component::flag;
use crate::pki::layout::Role;

mod contents;
mod fitness;
mod pods;
mod signing;
mod slots;

pub use fitness::obstacles;

use contents::Shared;
use pods::Pods;
use slots::{Slot, Slots};

/// The component's name.
const API_SERVER: &str = "kube-apiserver";

/// The cluster around a plan.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// Every node of the cluster with its role.
    pub roles: &'a [(String, Role)],
    /// How components are restarted.
    pub means: &'a Means,
    /// The manifests of all static pods.
    pub manifests: &'a [Manifest],
    /// Distinguishes this operation's restarts from others'; plain text.
    pub stamp: &'a str,
}

impl Setting<'_> {
    fn rulers(&self) -> usize {
        self.roles.iter().filter(|(_, role)| *role == Role::ControlPlane).count()
    }
}

/// An authority that gets a new key, so that old and new are two for a while.
#[derive(Debug)]
struct Authority {
    /// Of the new certificate.
    id: Id,
    /// Of the new key.
    key: Id,
    /// The old certificate.
    old: Certificate,
    /// Whether the new one was signed elsewhere, so that its key is not here, and neither is the old one.
    is_taken: bool,
}

/// Whether a plan replaces something that all nodes share: an authority by one with another key, or service-account keys.
pub fn are_needed(blueprint: &Blueprint) -> bool {
    !authorities(blueprint).is_empty() || !token_keys(blueprint).is_empty()
}

/// Lays a plan out over the rounds: its files get steps, and contents for the time in between.
///
/// # Errors
/// For a cluster whose components cannot be led through the rounds, with node and reason.
pub fn arrange(blueprint: &mut Blueprint, setting: &Setting<'_>) -> Result<(), Failure> {
    let authorities = authorities(blueprint);
    let old_keys = read_old_keys(blueprint, &authorities);
    let crosses = cross_certificates(blueprint, &authorities, &old_keys);
    let token_keys = token_keys(blueprint);
    let before = blueprint.certificates.iter().filter_map(|plan| match &plan.basis {
        Basis::Renewal { old, .. } => Some((plan.id.clone(), (**old).clone())),
        _ => None,
    });
    let before: BTreeMap<Id, Certificate> = before.collect();
    let shared = Shared { authorities: &authorities, crosses: &crosses, token_keys: &token_keys, before: &before };
    let has_several = setting.rulers() > 1;
    for node in &mut blueprint.nodes {
        let role = setting.roles.iter().find(|(name, _)| *name == node.node).map_or(Role::Worker, |(_, role)| *role);
        let mut slots = Slots::default();
        let (kept, changed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut node.files).into_iter().partition(|file| file.action == FileAction::Unchanged);
        let name = node.node.clone();
        let mut pods = Pods::new(&name, setting);
        let restarts = std::mem::take(&mut node.restarts);
        let renewed = Renewed::of(&changed, &shared);
        pods.must_have(&restarts)?;
        if restarts.iter().any(|one| one == signing::CONTROLLER_MANAGER) {
            signing::split(&mut slots, &mut pods, &changed, &shared, &old_keys)?;
        }
        for file in &changed {
            contents::place(&mut slots, file, &shared, role, renewed);
        }
        let runs = |component: &str| restarts.iter().any(|one| one == component);
        let restart = |slots: &mut Slots, pods: &mut Pods<'_>, slot: Slot, component: &str| -> Result<(), Failure> {
            slots.restart(slot, component, pods.restarted(component)?);
            Ok(())
        };
        let (has_etcd, has_api) = (renewed.etcd && runs("etcd"), runs(API_SERVER));
        let checks_kubelets = renewed.cluster && pods.found(API_SERVER).is_some_and(checks_kubelets);
        if has_api && renewed.tokens {
            restart(&mut slots, &mut pods, Slot::IssueStarts, API_SERVER)?;
        }
        for (stop, bundles, api) in
            [(Slot::TrustStop, Slot::TrustBundles, Slot::TrustApi), (Slot::DropStop, Slot::DropFiles, Slot::DropApi)]
        {
            // An API server whose own etcd goes away keeps its clients waiting instead of sending them on.
            if has_etcd && has_several && has_api && pods.are_static() {
                slots.stop(stop, API_SERVER, pods.stopped(API_SERVER));
            }
            if has_etcd {
                restart(&mut slots, &mut pods, bundles, "etcd")?;
            }
            if has_api && (renewed.etcd || renewed.tokens) || checks_kubelets {
                let slot = if has_etcd && has_several { api } else { bundles };
                restart(&mut slots, &mut pods, slot, API_SERVER)?;
            }
        }
        for component in [signing::CONTROLLER_MANAGER, "kube-scheduler"] {
            if !runs(component) {
                continue;
            }
            restart(&mut slots, &mut pods, Slot::IssueStarts, component)?;
            if renewed.cluster {
                if component == signing::CONTROLLER_MANAGER {
                    pods.as_before(component);
                }
                restart(&mut slots, &mut pods, Slot::DropManagers, component)?;
            }
        }
        for slot in [Slot::Kubelet, Slot::DropManagers] {
            // It reads its kubeconfig, its certificate, and what the former refers to, when it starts.
            if runs("kubelet") && (renewed.cluster || slots.has_files(slot)) {
                slots.restart(slot, "kubelet", None);
            }
        }
        slots.fill(node, kept);
    }
    if !has_several && blueprint.nodes.iter().any(|node| node.restarts.iter().any(|one| one == API_SERVER)) {
        let times = blueprint.nodes.iter().flat_map(|node| &node.restarts).filter(|one| *one == API_SERVER).count();
        blueprint.warnings.push(format!(
            "there is one kube-apiserver: the API will be away while it restarts, {times} times for about 5 to 40 seconds"
        ));
    }
    Ok(())
}

/// Whether an API server reads, when it starts, whom it trusts as kubelets. kubeadm's trusts any.
fn checks_kubelets(manifest: &str) -> bool {
    flag(manifest, "--kubelet-certificate-authority").is_some_and(|path| !path.is_empty())
}

/// Whether a plan without rounds restarts what others depend on, so that it has to happen in order.
pub fn needs_steps(blueprint: &Blueprint, setting: &Setting<'_>) -> bool {
    let is_base = |component: &String| ["etcd", API_SERVER].contains(&component.as_str());
    setting.means.strategy == Strategy::StaticPod
        && blueprint.nodes.iter().any(|node| node.restarts.iter().any(is_base))
}

/// Gives a plan without rounds its steps: etcd, the API server, everything else, each well before the next is touched.
///
/// # Errors
/// When a component cannot be restarted.
pub fn in_steps(blueprint: &mut Blueprint, setting: &Setting<'_>) -> Result<(), Failure> {
    for node in &mut blueprint.nodes {
        let name = node.node.clone();
        let mut pods = Pods::new(&name, setting);
        let restarts = std::mem::take(&mut node.restarts);
        pods.must_have(&restarts)?;
        let (kept, changed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut node.files).into_iter().partition(|file| file.action == FileAction::Unchanged);
        let mut slots = Slots::default();
        for file in changed {
            let slot = match &file.name {
                // What a manifest will name is there before it and longer than it.
                name if name.starts_with("kubepki/") => Slot::RenewStop,
                name if contents::is_of_etcd(name) => Slot::RenewEtcd,
                _ => Slot::RenewRest,
            };
            slots.put(slot, file);
        }
        let runs = |component: &str| restarts.iter().any(|one| one == component);
        if setting.rulers() > 1 && runs("etcd") && pods.found(API_SERVER).is_some() {
            slots.stop(Slot::RenewStop, API_SERVER, pods.stopped(API_SERVER));
            slots.restart(Slot::RenewApi, API_SERVER, pods.restarted(API_SERVER)?);
        } else if runs(API_SERVER) {
            let slot = if runs("etcd") { Slot::RenewEtcd } else { Slot::RenewApi };
            slots.restart(slot, API_SERVER, pods.restarted(API_SERVER)?);
        }
        for component in restarts.iter().filter(|component| *component != API_SERVER) {
            let slot = if component == "etcd" { Slot::RenewEtcd } else { Slot::RenewRest };
            slots.restart(slot, component, pods.restarted(component)?);
        }
        slots.fill(node, kept);
    }
    Ok(())
}

/// What a node's changed files say about which of the shared things are replaced.
#[derive(Debug, Clone, Copy, Default)]
struct Renewed {
    /// The cluster's CA, by its name or by the kubeconfigs that trust it.
    cluster: bool,
    /// etcd's.
    etcd: bool,
    /// The token keys.
    tokens: bool,
}

impl Renewed {
    fn of(files: &[super::blueprint::PlannedFile], shared: &Shared<'_>) -> Self {
        let mut renewed = Self::default();
        for file in files {
            let Some(content) = &file.content else { continue };
            match content {
                FileContent::PublicKeys(_) => renewed.tokens = true,
                FileContent::Certificates(references) if shared.are_trust(references) => {
                    renewed.etcd |= file.name == "etcd-ca";
                    renewed.cluster |= file.name == "ca";
                }
                FileContent::Kubeconfig(kubeconfig) => renewed.cluster |= shared.is_trusted_in(kubeconfig),
                _ => {}
            }
        }
        renewed
    }
}

fn authorities(blueprint: &Blueprint) -> Vec<Authority> {
    let is_new =
        |key: &Id| blueprint.keys.iter().any(|plan| plan.id == *key && matches!(plan.source, KeySource::New(_)));
    let of = |plan: &CertificatePlan| {
        let Basis::Renewal { old, .. } = &plan.basis else { return None };
        let has_new_key = match &plan.issuer {
            IssuerPlan::Taken(taken) => !old.certifies(taken.certificate.public_key()),
            _ => is_new(&plan.key),
        };
        let is_taken = matches!(plan.issuer, IssuerPlan::Taken(_));
        let (id, key, old) = (plan.id.clone(), plan.key.clone(), (**old).clone());
        (old.is_ca() && has_new_key).then_some(Authority { id, key, old, is_taken })
    };
    blueprint.certificates.iter().filter_map(of).collect()
}

/// New keys that certify nothing.
fn token_keys(blueprint: &Blueprint) -> Vec<Id> {
    let is_certified = |id: &Id| blueprint.certificates.iter().any(|plan| plan.key == *id);
    let new = blueprint.keys.iter().filter(|key| matches!(key.source, KeySource::New(_)));
    new.map(|key| key.id.clone()).filter(|id| !is_certified(id)).collect()
}

/// The keys that are replaced, by the id of the authority: they still have to sign for a while.
fn read_old_keys(blueprint: &mut Blueprint, authorities: &[Authority]) -> BTreeMap<Id, Id> {
    let mut old_keys = BTreeMap::new();
    for authority in authorities {
        let place = blueprint.changes().find_map(|(node, file)| match &file.content {
            Some(FileContent::PrivateKey(id)) if *id == authority.key && file.action == FileAction::Replaced => {
                Some(KeySource::File { node: node.node.clone(), path: file.path.clone() })
            }
            _ => None,
        });
        if let Some(source) = place {
            let id = format!("{} (old)", authority.id);
            blueprint.keys.push(KeyPlan { id: id.clone(), source });
            old_keys.insert(authority.id.clone(), id);
        }
    }
    old_keys
}

/// By the id of an API server's certificate, a certificate of its authority's new key by the old one: whoever still trusts
/// only the old one follows it to what the new one signed. It has an authority key identifier although subject and issuer
/// are the same, which OpenSSL needs. Where neither key is here, it has to have come along.
fn cross_certificates(
    blueprint: &mut Blueprint,
    authorities: &[Authority],
    old_keys: &BTreeMap<Id, Id>,
) -> BTreeMap<Id, Id> {
    let mut crosses: BTreeMap<Id, Id> = BTreeMap::new();
    let (mut plans, mut warnings) = (Vec::new(), Vec::new());
    for authority in authorities {
        let Some(new) = blueprint.certificates.iter().find(|plan| plan.id == authority.id) else { continue };
        let is_its = |plan: &&CertificatePlan| match &plan.issuer {
            IssuerPlan::Planned(id) => *id == authority.id,
            IssuerPlan::Taken(taken) => taken.authority.as_ref() == Some(&authority.id),
            _ => false,
        };
        let servers = blueprint.certificates.iter().filter(is_its).filter(|plan| is_api_server(blueprint, &plan.id));
        let servers: Vec<Id> = servers.map(|plan| plan.id.clone()).collect();
        if servers.is_empty() || authority.old.not_after() <= new.not_before {
            continue;
        }
        let id = cross_id(&authority.id);
        let is_there = blueprint.certificates.iter().any(|plan| plan.id == id);
        match old_keys.get(&authority.id) {
            _ if is_there => {}
            None if authority.is_taken => {
                warnings.push(format!(
                    "no certificate of the new `{0}` by the old one came along ({0}-cross.crt): whoever trusts the old one alone, \
                     as kubeconfigs elsewhere and pods that read their CA only when they start, is cut off in the round that issues \
                     from the new",
                    authority.id
                ));
                continue;
            }
            None => continue,
            Some(old_key) => plans.push(CertificatePlan {
                id: id.clone(),
                key: authority.key.clone(),
                basis: new.basis.clone(),
                issuer: IssuerPlan::Existing { certificate: Box::new(authority.old.clone()), key: old_key.clone() },
                not_before: new.not_before,
                not_after: new.not_after.min(authority.old.not_after()),
            }),
        }
        crosses.extend(servers.into_iter().map(|server| (server, id.clone())));
    }
    blueprint.certificates.extend(plans);
    blueprint.warnings.extend(warnings);
    crosses
}

/// The id of the certificate of an authority's new key by its old one.
pub(in crate::plan) fn cross_id(authority: &str) -> Id {
    format!("{authority} (cross)")
}

/// Whether a certificate is what an API server serves.
fn is_api_server(blueprint: &Blueprint, certificate: &Id) -> bool {
    blueprint.changes().any(|(_, file)| {
        let first = match &file.content {
            Some(FileContent::Certificates(references)) => references.first(),
            _ => None,
        };
        file.name == "apiserver" && matches!(first, Some(CertificateRef::Planned(id)) if id == certificate)
    })
}

/// Static pods are what the rounds know how to lead.
fn needs_static_pods(means: &Means, node: &str) -> Result<(), Failure> {
    if means.strategy == Strategy::StaticPod {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "node {node}: replacing the cluster's CA changes flags of kube-controller-manager for a while, which is only possible \
         where it is a static pod"
    ))
    .hint("leave the cluster's CA out: `--only etcd-ca`, `--only front-proxy-ca`, `--only sa`, `--only leaf`"))
}

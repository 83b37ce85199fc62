//! What follows from a rotation: components that hold old copies in memory, and what people must do.
//!
//! Which component rereads which file: kube-apiserver reloads its own certificates and client CAs, etcd its leaves; trust
//! in servers, token keys and kubeconfigs are read once, at the start (see `docs/rotation.md`).

use std::collections::BTreeSet;
use std::path::Path;

use super::fate::{Fate, Left};
use super::held::Spared;
use super::inventory::{Inventory, certificates};
use super::issue::Issuance;
use super::request::Request;
use super::select::Selection;
use crate::error::Failure;
use crate::pki::catalog::{Catalog, Kind};
use crate::plan::blueprint::NodeBlueprint;
use crate::plan::operation::FileAction;

/// kubeadm's components in the order of their restart, with the files they read only once.
pub(in crate::plan) const READ_ONCE: [(&str, &[&str]); 5] = [
    ("etcd", &["etcd-ca"]),
    ("kube-apiserver", &["etcd-ca", "sa"]),
    ("kube-controller-manager", &["ca", "sa", "controller-manager.conf"]),
    ("kube-scheduler", &["scheduler.conf"]),
    ("kubelet", &["kubelet.conf", "kubelet-client", "kubelet-server"]),
];

/// The components on a node that must be restarted, in order.
pub(super) fn restarts(inventory: &Inventory<'_>, node: &NodeBlueprint) -> Vec<String> {
    let files = || node.files.iter().filter(|file| file.action != FileAction::Unchanged);
    let mut changed: BTreeSet<&str> = files().map(|file| file.name.as_str()).collect();
    // Who reads a kubeconfig once has also read the files that it refers to.
    let referring = inventory.files.iter().filter(|file| file.node.name == node.node).filter_map(|file| {
        let refers =
            file.kubeconfig()?.references().any(|path| files().any(|changed| Path::new(&changed.path) == path));
        refers.then_some(file.name.as_str())
    });
    changed.extend(referring);
    let here = |name: &str| inventory.files.iter().any(|file| file.node.name == node.node && file.name == name);
    let catalogs = inventory.files.iter().filter(|file| file.node.name == node.node).filter_map(|file| file.part);
    let distribution = catalogs.clone().find_map(|part| match part.catalog {
        Catalog::K3s => Some("k3s"),
        Catalog::Rke2 => Some("rke2-server"),
        Catalog::Kubeadm | Catalog::Aks | Catalog::Kubelet => None,
    });
    if let Some(service) = distribution {
        return if changed.is_empty() { Vec::new() } else { vec![service.to_owned()] };
    }
    READ_ONCE
        .iter()
        .filter(|(_, files)| files.iter().any(|file| changed.contains(file)))
        // A control-plane component runs where its own certificate is; a worker only trusts the same authorities.
        .filter(|(component, _)| match *component {
            "etcd" => here("etcd-server"),
            "kube-apiserver" => here("apiserver"),
            "kube-controller-manager" => here("controller-manager.conf"),
            "kube-scheduler" => here("scheduler.conf"),
            _ => true,
        })
        .map(|(component, _)| (*component).to_owned())
        .collect()
}

/// What people must do now, in order.
pub(super) fn next_steps(
    inventory: &Inventory<'_>,
    selection: &Selection,
    issuance: &Issuance,
    request: &Request,
    nodes: &[NodeBlueprint],
) -> Vec<String> {
    let mut steps = Vec::new();
    if request.reach.is_live && !request.restarts {
        for node in nodes {
            let on = if nodes.len() > 1 { format!("on {}: ", node.node) } else { String::new() };
            steps.extend(restart(&node.restarts).map(|step| format!("{on}{step}")));
        }
    }
    let new_keys: Vec<&str> = inventory
        .authorities
        .iter()
        .zip(&selection.authorities)
        .filter(|(_, fate)| fate.has_new_key())
        .map(|(authority, _)| authority.name())
        .collect();
    let others = new_keys.iter().any(|name| !["etcd-ca", "agent-ca"].contains(name));
    if others && request.reach.is_live && !request.rounds {
        steps.push(
            "drop what the cluster keeps of the old authorities: `kubectl -n kube-system delete configmap \
             extension-apiserver-authentication`, and the CA in `kubectl -n kube-public edit configmap cluster-info`"
                .to_owned(),
        );
    }
    let has_new_client_trust = inventory.authorities.iter().zip(&selection.authorities).any(|(authority, fate)| {
        fate.is_new() && !["etcd-ca", "front-proxy-ca", "agent-ca"].contains(&authority.name())
    });
    if has_new_client_trust {
        let when = if new_keys.is_empty() { "before the old CA certificate ends, " } else { "" };
        steps.push(format!(
            "{when}refresh every kubeconfig made before, on every machine: \
             `kubepki get-credentials --admin --overwrite-existing`"
        ));
        steps.extend(personal_copies(inventory, issuance));
        if request.reach.is_live && !new_keys.is_empty() {
            steps.push("restart the pods that talk to the API server: they trust the old CA until then".to_owned());
        }
    }
    if selection.token_keys.iter().any(Fate::is_new) {
        steps.push(match request.wait_for_tokens {
            _ if request.rounds => "make tokens in Secrets anew, and tell whoever verifies the cluster's tokens outside of it \
                                    about the new key (/openid/v1/jwks)"
                .to_owned(),
            Some(length) => format!(
                "tokens signed before stay valid; in {length} take the old keys, all but the first, out of sa.pub and restart \
                 kube-apiserver"
            ),
            None => "tokens signed before are refused once kube-apiserver has restarted: restart all pods, and make tokens in \
                     Secrets anew"
                .to_owned(),
        });
    }
    steps.extend(kubelet_serving(inventory, selection));
    steps
}

/// One line that restarts these components in order: static pods through the container runtime, which needs no API.
pub(in crate::plan) fn restart(components: &[String]) -> Option<String> {
    if components.is_empty() {
        return None;
    }
    let (services, pods): (Vec<&str>, Vec<&str>) =
        components.iter().map(String::as_str).partition(|name| ["kubelet", "k3s", "rke2-server"].contains(name));
    let mut commands = Vec::new();
    match pods.as_slice() {
        [] => {}
        [one] => {
            commands.push(format!("crictl stopp $(crictl pods -q --namespace kube-system --label component={one})"))
        }
        several => commands.push(format!(
            "for c in {}; do crictl stopp $(crictl pods -q --namespace kube-system --label component=$c); done",
            several.join(" ")
        )),
    }
    commands.extend(services.iter().map(|service| format!("systemctl restart {service}")));
    let names = components.join(", ");
    let their = if components.len() == 1 { "it reads its" } else { "they read their" };
    Some(format!("restart {names}: {their} files only when starting; `{}`", commands.join("; ")))
}

/// Kubeconfigs in home folders that hold something replaced.
fn personal_copies(inventory: &Inventory<'_>, issuance: &Issuance) -> Vec<String> {
    let personal = inventory.files.iter().filter(|file| file.spared == Some(Spared::Personal));
    personal
        .filter(|file| {
            certificates(file).iter().any(|certificate| issuance.instead.contains_key(&certificate.fingerprint()))
        })
        .map(|file| {
            let path = file.path.display();
            format!(
                "{path} still holds the old CA: `kubepki get-credentials --admin --overwrite-existing --file {path}`"
            )
        })
        .collect()
}

/// Serving certificates that only the kubelet can ask for again.
fn kubelet_serving(inventory: &Inventory<'_>, selection: &Selection) -> Vec<String> {
    let left = inventory.leaves.iter().zip(&selection.leaves).filter(|(leaf, fate)| {
        let old = match leaf.issued {
            super::inventory::Issued::By(at) => selection.authorities[at].has_new_key(),
            _ => false,
        };
        old && **fate == Fate::Left(Left::KubeletsOwn)
    });
    left.filter_map(|(leaf, _)| leaf.homes.first())
        .map(|home| {
            let path = home.path.display();
            format!(
                "{path} is signed by the old CA: remove it, `systemctl restart kubelet`, and approve the new request with \
                 `kubectl certificate approve`"
            )
        })
        .collect()
}

/// What was asked for and left, although the operator has to know, by reason.
fn reasons<'a>(inventory: &'a Inventory<'_>, selection: &'a Selection) -> Vec<(&'a Left, Vec<&'a str>)> {
    let authorities = inventory.authorities.iter().map(|it| it.name()).zip(&selection.authorities);
    let leaves = inventory.leaves.iter().map(|it| it.name()).zip(&selection.leaves);
    let token_keys = inventory.token_keys.iter().map(|it| it.name).zip(&selection.token_keys);
    let mut reasons: Vec<(&Left, Vec<&str>)> = Vec::new();
    for (name, fate) in authorities.chain(leaves).chain(token_keys) {
        let Fate::Left(left) = fate else { continue };
        if matches!(left, Left::NotDue | Left::SelfSigned | Left::NeverDue | Left::AsWanted | Left::NotReturned) {
            continue;
        }
        match reasons.iter_mut().find(|(known, _)| *known == left) {
            // The same certificate of several nodes is named once.
            Some((_, names)) if names.contains(&name) => {}
            Some((_, names)) => names.push(name),
            None => reasons.push((left, vec![name])),
        }
    }
    reasons
}

/// Refuses a rotation of nothing, when what it was about needs a key that is kept elsewhere.
pub(super) fn refuse_nothing(
    inventory: &Inventory<'_>,
    selection: &Selection,
    request: &Request,
) -> Result<(), Failure> {
    let reasons = reasons(inventory, selection);
    if !reasons.iter().any(|(left, _)| left.is_for_want_of_something(request.due.is_some())) {
        return Ok(());
    }
    let words: Vec<String> = reasons.iter().map(|(left, names)| format!("{}: {left}", names.join(", "))).collect();
    let mut advice: Vec<&str> = reasons.iter().filter_map(|(left, _)| left.advice()).collect();
    advice.dedup();
    let failure = Failure::failed(format!("nothing can be replaced here: {}", words.join("; ")));
    Err(if advice.is_empty() { failure } else { failure.hint(advice.join("; ")) })
}

/// One line for everything that was asked for and left, by reason.
pub(super) fn left_alone(inventory: &Inventory<'_>, selection: &Selection) -> Vec<String> {
    left_alone_for(inventory, selection, &|_| true)
}

/// As [`left_alone`], for some reasons only.
pub(super) fn left_alone_for(
    inventory: &Inventory<'_>,
    selection: &Selection,
    concerns: &dyn Fn(&Left) -> bool,
) -> Vec<String> {
    reasons(inventory, selection)
        .into_iter()
        .filter(|(left, _)| concerns(left))
        .map(|(left, names)| {
            let advice = left.advice().map(|advice| format!("; {advice}")).unwrap_or_default();
            format!("{} left as before: {left}{advice}", names.join(", "))
        })
        .collect()
}

/// Files that could not be read and are not asked for, when an authority is replaced: they may trust it.
pub(super) fn not_covered(inventory: &Inventory<'_>, selection: &Selection) -> Vec<String> {
    if !selection.authorities.iter().any(Fate::is_new) {
        return Vec::new();
    }
    let others =
        inventory.faults.iter().filter(|fault| fault.kind != Some(Kind::ServiceAccount) && !fault.is_replaceable);
    others.map(|fault| format!("{} is not covered: {}", fault.path, fault.reason)).collect()
}

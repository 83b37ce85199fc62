//! Whom a revocation would lock out: the control plane's own clients, kubelets, and whoever works on the cluster.

use super::Case;
use super::known::{Known, Place};
use crate::snapshot::Source;

/// Certificates with which the control plane talks to itself: without them it stops.
const OWN_CLIENTS: [(&str, &str); 9] = [
    ("apiserver-etcd-client", "kube-apiserver's way to etcd"),
    ("apiserver-kubelet-client", "kube-apiserver's way to kubelets"),
    ("front-proxy-client", "kube-apiserver's way to aggregated APIs"),
    ("controller-manager.conf", "kube-controller-manager"),
    ("scheduler.conf", "kube-scheduler"),
    ("etcd-peer", "etcd's way to its other members"),
    // What comes to etcd as JSON, it passes on to itself with the certificate with which it serves.
    ("etcd-server", "etcd's way to itself, for whoever asks it over HTTP"),
    ("etcd-healthcheck-client", "kubepki's and kubeadm's way to etcd"),
    ("kubelet.conf", "a kubelet"),
];

/// What an administrator of a node works with, kubepki included.
const ADMINISTRATOR: &str = "admin.conf";

/// Everybody who would be locked out, in words; nobody when that is fine. `operator` are fingerprints (lower-case hex) of the
/// credentials with which the operator works; `renewed` are files whose certificates are renewed first.
pub fn of(case: &Case<'_>, operator: &[String], renewed: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for known in case.hit() {
        if known.issued.is_ca {
            out.push(format!("{}: everybody with a certificate of this authority", known.label()));
            continue;
        }
        if operator.contains(&known.issued.sha256) {
            out.push(format!("{}: yourself, by the kubeconfig with which you work", known.label()));
        }
        for place in known.places.iter().filter(|place| place.is_own && !renewed.contains(&place.file)) {
            if let Some(whose) = whose(known, place) {
                out.push(format!("{} on {}: {whose}", place.path, place.node));
            }
        }
    }
    out.extend(administrators(case, renewed));
    out.dedup();
    out
}

fn whose(known: &Known, place: &Place) -> Option<&'static str> {
    if !known.issued.is_client || place.source == Source::Endpoint {
        return None;
    }
    if place.source == Source::Kubelet {
        return Some("a kubelet");
    }
    let (_, whose) = OWN_CLIENTS.iter().find(|(id, _)| place.id == Some(*id))?;
    Some(whose)
}

/// Words when no administrator's kubeconfig would be left on any node.
fn administrators(case: &Case<'_>, renewed: &[String]) -> Option<String> {
    let is_theirs = |place: &Place| matches!(place.id, Some(ADMINISTRATOR | "super-admin.conf")) && place.is_own;
    let all = case.known.iter().filter(|known| known.is_alive(case.now) && known.places.iter().any(is_theirs));
    let (gone, left): (Vec<&Known>, Vec<&Known>) = all.partition(|known| known.is_revoked());
    let is_new = gone.iter().any(|known| known.by.iter().any(|(name, _)| case.names.contains(name)));
    let is_renewed =
        |known: &&Known| known.places.iter().any(|place| is_theirs(place) && renewed.contains(&place.file));
    let none_is_left = left.is_empty() && !gone.iter().any(is_renewed);
    (none_is_left && is_new).then(|| "every administrator: no kubeconfig of one would be left on any node".to_owned())
}

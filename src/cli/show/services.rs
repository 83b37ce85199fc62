//! Who renews certificates on a target's nodes: kubepki's own timer, and the kubelets.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::target::{Target, TargetNode};
use crate::node::{FoundState, Query};
use crate::pki::kubelet_config::KubeletConfig;

/// What systemd makes of an enabled `kubepki-auto-rotate.timer`.
const TIMERS: [&str; 2] = [
    "/etc/systemd/system/timers.target.wants/kubepki-auto-rotate.timer",
    "/usr/lib/systemd/system/timers.target.wants/kubepki-auto-rotate.timer",
];

/// Whether something is on, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Switch {
    /// `None` where it cannot be told.
    pub(super) enabled: Option<bool>,
    /// One sentence, with the nodes that differ.
    pub(super) reason: String,
}

/// Whether kubepki's timer is enabled on every node.
pub(super) fn auto_rotation(target: &Target) -> anyhow::Result<Switch> {
    every_node(target, |node| {
        let queries = TIMERS.map(|timer| Query::Metadata(PathBuf::from(timer)));
        let found = node.node.read(&queries)?;
        // The link is what counts; its target may be outside a mounted root.
        let is_there = found.iter().any(|found| found.link.is_some() || !matches!(found.state, FoundState::Missing));
        Ok(if is_there { Ok(()) } else { Err("kubepki-auto-rotate.timer is not enabled".to_owned()) })
    })
}

/// Whether every kubelet asks the API for its serving certificate.
pub(super) fn kubelet_serving(target: &Target) -> anyhow::Result<Switch> {
    kubelets(target, "serverTLSBootstrap", |config| config.server_tls_bootstrap)
}

/// Whether every kubelet asks the API for its client certificates.
pub(super) fn tls_bootstrap(target: &Target) -> anyhow::Result<Switch> {
    kubelets(target, "rotateCertificates", |config| config.rotate_certificates)
}

fn kubelets(target: &Target, field: &str, is_on: fn(&KubeletConfig) -> bool) -> anyhow::Result<Switch> {
    every_node(target, |node| {
        let Some(kubelet_dir) = &node.layout.kubelet_dir else { return Ok(Err("there is no kubelet".to_owned())) };
        let path = kubelet_dir.join("config.yaml");
        Ok(match config(node, &path)? {
            Ok(config) if is_on(&config) => Ok(()),
            Ok(_) => Err(format!("{field} is not set in {}", path.display())),
            Err(reason) => Err(format!("{}: {reason}", path.display())),
        })
    })
}

fn config(node: &TargetNode, path: &Path) -> anyhow::Result<Result<KubeletConfig, String>> {
    let found = node.node.read(&[Query::File(path.to_path_buf())])?.into_iter().next();
    Ok(match found.map(|found| found.state) {
        Some(FoundState::File(document)) => KubeletConfig::parse(&document),
        Some(FoundState::Unreadable(reason)) => Err(reason),
        _ => Err("there is no such file".to_owned()),
    })
}

/// On when it is on everywhere; the reason lists what keeps it from that.
fn every_node(
    target: &Target,
    look: impl Fn(&TargetNode) -> anyhow::Result<Result<(), String>>,
) -> anyhow::Result<Switch> {
    let machines: Vec<&TargetNode> = target.nodes.iter().filter(|node| node.layout.kubernetes_dir.is_some()).collect();
    if machines.is_empty() {
        return Ok(Switch { enabled: None, reason: "only one folder was looked at, not a machine".to_owned() });
    }
    let mut reasons = Vec::new();
    for node in &machines {
        if let Err(reason) = look(node)? {
            reasons.push(format!("{}: {reason}", node.node.name()));
        }
    }
    let enabled = reasons.is_empty();
    let reason = if enabled { "on every node looked at".to_owned() } else { reasons.join("; ") };
    Ok(Switch { enabled: Some(enabled), reason })
}

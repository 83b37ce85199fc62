//! Where on each node files belong, what templates stand for there, and what is there already.

use std::net::IpAddr;

use aws_lc_rs::digest;

use crate::cli::session::Session;
use crate::cli::target::{Extent, Target, TargetNode};
use crate::error::Failure;
use crate::node::{FoundState, Query};
use crate::observe::{self, Keys, Scope, Wanted};
use crate::pki::hex;
use crate::pki::layout::{Flavour, Role};
use crate::pki::spec::{NodeValues, Spec};
use crate::plan::create::Place;
use crate::snapshot::{Snapshot, State};

/// Where the files of each control-plane node belong.
///
/// # Errors
/// Exit code 1 for a machine whose certificates somebody else makes, 2 when a node has no name or address that can be used.
pub(super) fn places(target: &Target, spec: &Spec, session: &Session) -> anyhow::Result<Vec<Place>> {
    let nodes: Vec<&TargetNode> = target.nodes.iter().filter(|node| node.role == Role::ControlPlane).collect();
    if nodes.is_empty() {
        return Err(Failure::failed("no control-plane node is among the target's nodes; nothing was changed")
            .hint("workers get their certificates when they join; --pki-dir makes certificates in any folder")
            .into());
    }
    if nodes.len() > 1 && (spec.node.name.is_some() || spec.node.address.is_some()) {
        return Err(Failure::usage("--node-name and --advertise-address name one node, the target has several")
            .hint("choose one with --node")
            .into());
    }
    nodes.into_iter().map(|node| place(node, target, spec, session)).collect()
}

fn place(node: &TargetNode, target: &Target, spec: &Spec, session: &Session) -> anyhow::Result<Place> {
    let name = node.node.name();
    if let Flavour::K3s | Flavour::Rke2 = node.layout.flavour {
        let message = format!("{name}: k3s and RKE2 make their own certificates in {}", node.layout.pki_dir.display());
        return Err(Failure::failed(message).hint("--pki-dir makes certificates in any folder").into());
    }
    Ok(Place {
        node: name.to_owned(),
        is_first: is_first(name, target),
        values: NodeValues { name: node_name(node, target, spec)?, address: address(node, target, spec, session)? },
        pki_dir: node.layout.pki_dir.clone(),
        kubernetes_dir: node.layout.kubernetes_dir.clone(),
        illegible: std::collections::HashMap::new(),
    })
}

/// The name the node has in the cluster: as asked for, as the cluster file has it, or the host name in lower case, as with
/// kubeadm.
fn node_name(node: &TargetNode, target: &Target, spec: &Spec) -> anyhow::Result<String> {
    if let Some(name) = &spec.node.name {
        return Ok(name.to_string());
    }
    if matches!(target.extent, Extent::WholeCluster | Extent::PartOfCluster) {
        return Ok(node.node.name().to_owned());
    }
    let host = node.node.facts()?.host_name.trim().to_lowercase();
    if !matches!(crate::pki::san::San::parse(&host), Ok(crate::pki::san::San::Dns(_))) || host.contains(['_', '*']) {
        let message = format!("the host name `{host}` cannot be the name of a node");
        return Err(Failure::usage(message).hint("name the node with --node-name").into());
    }
    Ok(host)
}

/// Whether a node is the first control-plane node of its cluster, however few of them were chosen.
fn is_first(name: &str, target: &Target) -> bool {
    let nodes = target.cluster.iter().flat_map(|cluster| &cluster.spec.nodes);
    nodes.into_iter().find(|node| node.role == Role::ControlPlane).is_none_or(|first| first.name == name)
}

fn address(node: &TargetNode, target: &Target, spec: &Spec, session: &Session) -> anyhow::Result<IpAddr> {
    if let Some(address) = spec.node.address.as_ref().and_then(|address| address.parse().ok()) {
        return Ok(address);
    }
    let mut listed = target.cluster.iter().flat_map(|cluster| &cluster.spec.nodes);
    let host = listed.find(|listed| listed.name == node.node.name()).and_then(|listed| listed.host.parse().ok());
    if let Some(address) = host {
        return Ok(address);
    }
    let loopback = IpAddr::from([127, 0, 0, 1]);
    Ok(node.node.facts()?.addresses.first().copied().unwrap_or_else(|| {
        session.ui.warning(&format!(
            "{}: there is no address but the loopback, so certificates are for {loopback}; --advertise-address names another",
            node.node.name()
        ));
        loopback
    }))
}

/// Everything that is there, keys by their public halves.
///
/// # Errors
/// Exit code 1 when a node cannot be read.
pub(super) fn observe(target: &Target, spec: &Spec, session: &Session) -> anyhow::Result<Snapshot> {
    let mut nodes = Vec::new();
    for node in &target.nodes {
        let mut scopes = vec![Scope::of(&node.layout)];
        if let Some(folder) = &node.layout.kubernetes_dir {
            let paths = spec.kubeconfigs.iter().map(|entry| folder.join(&*entry.path));
            scopes.extend(paths.flat_map(|path| {
                let request = Scope::Path(format!("{}.csr", path.display()).into());
                [Scope::Kubeconfig(path), request]
            }));
        }
        let found = observe::node(&*node.node, &Wanted { scopes, keys: Keys::PublicHalf });
        if let Some(error) = &found.error {
            return Err(Failure::failed(format!("{}: {error}; nothing was changed", found.name)).into());
        }
        nodes.push(found);
    }
    Ok(Snapshot { taken_at: session.now, nodes })
}

/// Adds the hashes of files that hold nothing readable, so that `--force` can replace them.
///
/// # Errors
/// When a node cannot be read.
pub(super) fn with_illegible(
    mut places: Vec<Place>,
    target: &Target,
    snapshot: &Snapshot,
) -> anyhow::Result<Vec<Place>> {
    for place in &mut places {
        let Some(found) = snapshot.node(&place.node) else { continue };
        let Some(node) = target.nodes.iter().find(|node| node.node.name() == place.node) else { continue };
        let unread = found.artifacts.iter().filter(|artifact| matches!(artifact.state, State::Unreadable(_)));
        let queries: Vec<Query> = unread.map(|artifact| Query::File(artifact.path.clone())).collect();
        if queries.is_empty() {
            continue;
        }
        for file in node.node.read(&queries)? {
            if let FoundState::File(bytes) = &file.state {
                place.illegible.insert(file.path, hex(digest::digest(&digest::SHA256, bytes).as_ref()));
            }
        }
    }
    Ok(places)
}

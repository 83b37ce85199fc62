//! The records on a target's nodes: what must not be issued, and what has been.

use super::session::Session;
use super::target::{Extent, Target, TargetArgs, TargetNode};
use super::transactions::transactions;
use crate::apply::mint::Minted;
use crate::apply::{bans, register};
use crate::error::Failure;
use crate::node::fleet::{AT_ONCE, side_by_side};
use crate::node::{FoundState, Node, Query};
use crate::pki::layout::Role;
use crate::pki::register::Issued;
use crate::plan::blueprint::{Bans, Blueprint};

/// What must not be issued, by the ledgers of all nodes. Where only some nodes of a cluster are chosen, its other
/// control-plane nodes are asked as well: the ledger lies on those, and a worker knows nothing of it.
///
/// # Errors
/// When a ledger is there and cannot be read, or no control-plane node can be asked: then nobody knows what is revoked.
pub fn bans(session: &Session, args: &TargetArgs, target: &Target) -> anyhow::Result<Bans> {
    let others = other_keepers(session, args, target)?;
    let others = others.iter().flat_map(|others| &others.nodes);
    let asked: Vec<&TargetNode> = target.nodes.iter().chain(others).filter(|node| node.trouble.is_none()).collect();
    let nodes: Vec<&dyn Node> = asked.iter().map(|node| &*node.node).collect();
    let read = |node: &dyn Node| {
        let layout = asked.iter().find(|asked| asked.node.name() == node.name()).map(|asked| &asked.layout);
        layout.map_or(Ok(Vec::new()), |layout| bans::ledger(node, &layout.records_dir()))
    };
    let mut revocations = session.upcoming.clone();
    for ledger in side_by_side(&nodes, AT_ONCE, &session.interrupt, &|_| {}, &read) {
        // What another node says too does no harm.
        for revocation in ledger? {
            if !revocations.contains(&revocation) {
                revocations.push(revocation);
            }
        }
    }
    Ok(Bans { revocations, now: session.now })
}

/// The control-plane nodes of the cluster that are not in the target; `None` when there are none. Those that cannot be reached
/// are in it with the reason.
///
/// # Errors
/// Exit code 1 when no control-plane node can be reached, in the target or besides.
fn other_keepers(session: &Session, args: &TargetArgs, target: &Target) -> anyhow::Result<Option<Target>> {
    let rules = |node: &TargetNode| node.role == Role::ControlPlane && node.trouble.is_none();
    // Of a whole cluster those that count are here, unless nothing but workers could be reached.
    let is_enough = target.extent == Extent::WholeCluster && target.nodes.iter().any(rules);
    let Some(file) = target.cluster.as_ref().filter(|_| !is_enough) else { return Ok(None) };
    let is_chosen = |name: &str| target.nodes.iter().any(|node| node.node.name() == name);
    let ruling = file.spec.nodes.iter().filter(|node| node.role == Role::ControlPlane);
    let names: Vec<String> = ruling.map(|node| node.name.clone()).filter(|name| !is_chosen(name)).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let others = Target::survey(&TargetArgs { nodes: names, role: None, ..args.clone() }, session)?;
    session.interrupt.check()?;
    let lost: Vec<&str> = others.nodes.iter().filter_map(|node| node.trouble.as_deref()).collect();
    if !others.nodes.iter().chain(&target.nodes).any(rules) {
        let reasons = lost.join("\n  ");
        return Err(Failure::failed(format!(
            "nothing is issued, because no control-plane node can be asked what is revoked:\n  {reasons}"
        ))
        .hint("run it again when one of them can be reached")
        .into());
    }
    for reason in lost {
        session
            .ui
            .warning(&format!("what is revoked there is not known, the other control-plane nodes count: {reason}"));
    }
    Ok(Some(others))
}

/// Whether a node has a folder of certificates already: then what is issued for it is written down first.
pub fn has_folder(target: &Target, name: &str) -> anyhow::Result<bool> {
    let Some(target) = target.nodes.iter().find(|target| target.node.name() == name) else { return Ok(false) };
    let found = target.node.read(&[Query::Metadata(target.layout.pki_dir.clone())])?;
    Ok(found.iter().any(|found| matches!(found.state, FoundState::Directory)))
}

/// Writes down on a node what it gets.
///
/// # Errors
/// When the register cannot be written.
pub fn write_down(
    (session, args, target): (&Session, &TargetArgs, &Target),
    command: &str,
    name: &str,
    new: &[Issued],
) -> anyhow::Result<()> {
    let Some(node) = target.nodes.iter().find(|node| node.node.name() == name).filter(|_| !new.is_empty()) else {
        return Ok(());
    };
    let owner = transactions(session, command, args, node, &|_| ()).owner;
    register::append(&*node.node, &node.layout.records_dir(), new, &owner)
}

/// Writes down on every node of a plan what it gets, but for those that have no certificates yet: their names are returned,
/// with what is to be written down once they have.
///
/// # Errors
/// As [`write_down`].
pub fn write_down_all(
    (session, args, target): (&Session, &TargetArgs, &Target),
    command: &str,
    blueprint: &Blueprint,
    minted: &Minted,
) -> anyhow::Result<Vec<(String, Vec<Issued>)>> {
    let mut later = Vec::new();
    for node in &blueprint.nodes {
        let new = register::issued(blueprint, node, minted, session.now);
        if new.is_empty() {
            continue;
        }
        if has_folder(target, &node.node)? {
            write_down((session, args, target), command, &node.node, &new)?;
        } else {
            later.push((node.node.clone(), new));
        }
    }
    Ok(later)
}

/// The control-plane nodes of a target: they keep what is issued for people.
pub fn keepers(target: &Target) -> impl Iterator<Item = &str> {
    target.nodes.iter().filter(|node| node.role == Role::ControlPlane).map(|node| node.node.name())
}

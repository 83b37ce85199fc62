//! The records on a target's nodes: what must not be issued, and what has been.

use super::session::Session;
use super::target::{Target, TargetArgs};
use super::transactions::transactions;
use crate::apply::mint::Minted;
use crate::apply::{bans, register};
use crate::node::fleet::{AT_ONCE, side_by_side};
use crate::node::{FoundState, Node, Query};
use crate::pki::layout::Role;
use crate::pki::register::Issued;
use crate::plan::blueprint::{Bans, Blueprint};

/// What must not be issued, by the ledgers of all nodes.
///
/// # Errors
/// When a ledger is there and cannot be read.
pub fn bans(session: &Session, target: &Target) -> anyhow::Result<Bans> {
    let nodes: Vec<&dyn Node> = target.nodes.iter().map(|node| &*node.node).collect();
    let read = |node: &dyn Node| {
        let layout = target.nodes.iter().find(|target| target.node.name() == node.name()).map(|target| &target.layout);
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

//! What a revocation looks at on its target: certificates, ledgers, registers, and the files of components.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::apply::sha256;
use crate::cli::session::Session;
use crate::cli::target::{Target, TargetNode};
use crate::error::Failure;
use crate::node::fleet::{AT_ONCE, side_by_side};
use crate::node::{FoundState, Node, Query};
use crate::observe::{self, Keys, Scope, Visit, Wanted};
use crate::pki::layout::Role;
use crate::plan::revoke::{Existing, Seat, reads};
use crate::snapshot::Snapshot;

/// Everything that is on the target's nodes.
///
/// # Errors
/// Exit code 1 when a node cannot be read.
pub(super) fn observe(target: &Target, session: &Session) -> anyhow::Result<Snapshot> {
    let visit = |node: &'_ TargetNode| Wanted { scopes: vec![Scope::of(&node.layout)], keys: Keys::PublicHalf };
    let visits: Vec<Visit<'_>> =
        target.nodes.iter().map(|node| Visit { node: &*node.node, wanted: visit(node), reach: None }).collect();
    let nodes = observe::fleet(&visits, &session.interrupt, &|_| {});
    session.interrupt.check()?;
    if let Some((name, error)) = nodes.iter().find_map(|node| Some((&node.name, node.error.as_ref()?))) {
        return Err(Failure::failed(format!("node {name}: {error}")).into());
    }
    Ok(Snapshot { taken_at: session.now, nodes })
}

/// The control-plane nodes of the target.
///
/// # Errors
/// Exit code 3 when there is none.
pub(super) fn seats(target: &Target) -> Result<Vec<Seat>, Failure> {
    let ruling = target.nodes.iter().filter(|node| node.role == Role::ControlPlane);
    let seats: Vec<Seat> = ruling
        .map(|node| Seat {
            node: node.node.name().to_owned(),
            pki_dir: node.layout.pki_dir.clone(),
            kubernetes_dir: node.layout.kubernetes_dir.clone(),
        })
        .collect();
    if seats.is_empty() {
        return Err(Failure::not_found(
            "none of these nodes is a control-plane node, and revocations are kept on those",
        )
        .hint("run kubepki on a control-plane node, or name a cluster file with one"));
    }
    Ok(seats)
}

/// The files of components that the plan has to see.
///
/// # Errors
/// When a node cannot be reached, or a file is there and cannot be read.
pub(super) fn files(
    target: &Target,
    seats: &[Seat],
    session: &Session,
) -> anyhow::Result<BTreeMap<(String, PathBuf), Existing>> {
    let nodes: Vec<&dyn Node> = target.nodes.iter().map(|node| &*node.node).collect();
    let read = |node: &dyn Node| -> anyhow::Result<Vec<(PathBuf, Existing)>> {
        let Some(seat) = seats.iter().find(|seat| seat.node == node.name()) else { return Ok(Vec::new()) };
        let paths = reads(seat);
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let mut existing = Vec::new();
        for found in node.read(&paths.into_iter().map(Query::File).collect::<Vec<_>>())? {
            match found.state {
                FoundState::File(bytes) => {
                    let sha256 = sha256(&bytes);
                    existing.push((found.path, Existing { bytes: bytes.to_vec(), sha256 }));
                }
                FoundState::Missing => {}
                FoundState::Unreadable(reason) => {
                    let message = format!("node {}: {}: {reason}", node.name(), found.path.display());
                    return Err(Failure::failed(message).hint("run as root").into());
                }
                FoundState::Directory | FoundState::Unread => {
                    let message = format!("node {}: {} is not a file", node.name(), found.path.display());
                    return Err(Failure::failed(message).hint("move it away").into());
                }
            }
        }
        Ok(existing)
    };
    let mut all = BTreeMap::new();
    for (node, read) in nodes.iter().zip(side_by_side(&nodes, AT_ONCE, &session.interrupt, &|_| {}, &read)) {
        all.extend(read?.into_iter().map(|(path, existing)| ((node.name().to_owned(), path), existing)));
    }
    Ok(all)
}

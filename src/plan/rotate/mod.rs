//! Rotation: what is there, what is asked for, and from both the whole change, before anything happens.
//!
//! [`plan`] is a pure function. It goes from files to things (`held`, `seat`, `inventory`), decides who is replaced
//! (`scope`, `select`, `obstacle`), what replaces them (`issue`, `period`, `difference`), which files that concerns
//! (`files`, `kubelet`), and what follows from it (`reach`, `consequences`).

use time::OffsetDateTime;

use super::blueprint::Blueprint;
use super::problem::Problem;
use crate::error::Failure;
use crate::pki::catalog::Catalog;
use crate::snapshot::Snapshot;

mod ask;
pub(super) mod consequences;
mod difference;
pub mod etcd_data;
mod external;
mod fate;
mod files;
mod held;
mod inventory;
mod issue;
pub(super) mod kubelet;
mod obstacle;
mod period;
pub mod reach;
pub mod request;
pub mod scope;
mod seat;
mod select;

pub use ask::ask;
pub use request::{External, Offered, Reach, Request, Wanted};

use fate::Fate;
use inventory::{Inventory, Leaf};
use issue::Issuance;
use select::Selection;

/// The command's name in plans, journals and results.
pub const COMMAND: &str = "rotate-certs";

/// A plan that takes signed certificates, and what is wrong with those that it does not take.
#[derive(Debug)]
pub struct Import {
    /// What is done with the good ones, and with everything else that was asked for.
    pub blueprint: Blueprint,
    /// What is bad or missing.
    pub problems: Vec<Problem>,
    /// How many good ones there are, those in use already included.
    pub good: usize,
}

/// Plans the rotation of what `snapshot` shows.
///
/// Nothing to do is an empty blueprint. What was asked for and cannot be done, although nothing is wrong with it, is a
/// warning, unless it was asked for by name.
///
/// # Errors
/// Exit code 3 for names that nobody has; 1 for whatever stands in the way, with node, path and a next step.
pub fn plan(snapshot: &Snapshot, request: &Request, now: OffsetDateTime) -> Result<Blueprint, Failure> {
    import(snapshot, request, now).map(|import| import.blueprint)
}

/// As [`plan`], with what is wrong with signed certificates that came back.
///
/// # Errors
/// As [`plan`]; also when an authority came back and not everything that it has to sign.
pub fn import(snapshot: &Snapshot, request: &Request, now: OffsetDateTime) -> Result<Import, Failure> {
    refuse_unseen(snapshot)?;
    let inventory = Inventory::of(snapshot, request.update_kubeconfigs);
    let selection = Selection::of(&inventory, request, now)?;
    refuse_idle_names(&inventory, &selection, request)?;
    let shared = shared_names(&inventory, &selection);
    reach::refuse_partial(&request.reach, &shared)?;
    refuse_distributions(&inventory, &selection, request)?;
    let mut issuance = Issuance::plan(&inventory, &selection, request, now)?;
    let mut nodes = files::plan(&inventory, &selection, &mut issuance, request, now)?;
    if request.reach.is_live {
        for node in &mut nodes {
            node.restarts = consequences::restarts(&inventory, node);
        }
    }
    let mut blueprint = Blueprint { command: COMMAND.to_owned(), nodes, ..Blueprint::default() };
    if blueprint.is_empty() {
        let (returned, has_come) = (&selection.returned, matches!(request.external, External::Offered(_)));
        if !(has_come && (returned.known > 0 || !returned.problems.is_empty())) {
            consequences::refuse_nothing(&inventory, &selection, request)?;
        }
    } else {
        blueprint.next_steps = consequences::next_steps(&inventory, &selection, &issuance, request, &blueprint.nodes);
    }
    blueprint.warnings = consequences::left_alone(&inventory, &selection);
    if !shared.is_empty() {
        blueprint.warnings.extend(request.reach.doubts.iter().cloned());
    }
    blueprint.warnings.append(&mut issuance.warnings);
    blueprint.warnings.extend(consequences::not_covered(&inventory, &selection));
    blueprint.keys = issuance.keys;
    blueprint.certificates = issuance.certificates;
    blueprint.differences = issuance.differences;
    let returned = selection.returned;
    let good = returned.leaves.len() + returned.authorities.len() + returned.known;
    let problems = returned.problems.into_iter().map(|(_, problem)| problem).collect();
    Ok(Import { blueprint, problems, good })
}

fn refuse_unseen(snapshot: &Snapshot) -> Result<(), Failure> {
    match snapshot.nodes.iter().find_map(|node| Some((node, node.error.as_deref()?))) {
        None => Ok(()),
        Some((node, reason)) => Err(Failure::failed(format!("node {}: {reason}", node.name))),
    }
}

/// Refuses names for server certificates where they would be lost: on certificates that were named and are no server's, and
/// on a selection without any server.
fn refuse_idle_names(inventory: &Inventory<'_>, selection: &Selection, request: &Request) -> Result<(), Failure> {
    if request.add_sans.is_empty() && request.remove_sans.is_empty() {
        return Ok(());
    }
    let is_named = |leaf: &Leaf<'_>| leaf.candidates().any(|candidate| request.only.name(candidate));
    let named = inventory.leaves.iter().filter(|leaf| is_named(leaf) && !difference::serves(leaf));
    let clients: Vec<&str> = named.map(Leaf::name).collect();
    let mut leaves = inventory.leaves.iter().zip(&selection.leaves);
    let who = match clients.as_slice() {
        [] if leaves.any(|(leaf, fate)| *fate != Fate::Untouched && difference::serves(leaf)) => return Ok(()),
        [] => "none of the selected certificates is a server's".to_owned(),
        [one] => format!("`{one}` is no server's certificate"),
        several => format!("`{}` are no servers' certificates", several.join("`, `")),
    };
    Err(Failure::usage(format!("{who}, so --add-san and --remove-san change nothing there"))
        .hint("choose servers' certificates, as `--only apiserver` or `--only etcd-server`; rotate others without these options"))
}

/// What is replaced and shared by all nodes of a cluster.
fn shared_names(inventory: &Inventory<'_>, selection: &Selection) -> Vec<String> {
    let authorities = inventory.authorities.iter().zip(&selection.authorities);
    let authorities = authorities.filter(|(_, fate)| fate.is_new()).map(|(authority, _)| authority.name().to_owned());
    let keys = inventory.token_keys.iter().zip(&selection.token_keys);
    authorities.chain(keys.filter(|(_, fate)| fate.is_new()).map(|(key, _)| key.name.to_owned())).collect()
}

/// k3s and RKE2 keep their authorities in the datastore as well and do not start when the files differ from it.
fn refuse_distributions(inventory: &Inventory<'_>, selection: &Selection, request: &Request) -> Result<(), Failure> {
    let authorities = inventory.authorities.iter().zip(&selection.authorities);
    let mut theirs = authorities.filter(|(_, fate)| fate.is_new()).filter_map(|(authority, _)| authority.homes.first());
    let is_theirs = |catalog| matches!(catalog, Some(Catalog::K3s | Catalog::Rke2));
    match theirs.find(|home| is_theirs(home.catalog)).filter(|_| request.reach.is_live) {
        None => Ok(()),
        Some(home) => Err(Failure::failed(format!(
            "node {}: {}: k3s and RKE2 keep their authorities in the cluster's datastore too, so files alone cannot change",
            home.node.name,
            home.path.display()
        ))
        .hint("use `k3s certificate rotate-ca`, or renew only leaves with --only leaf")),
    }
}

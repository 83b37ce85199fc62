//! Nodes to a snapshot: reads what is asked for, side by side on all nodes, and records what was found.
//!
//! A file that is missing, unreadable or damaged becomes a value in the snapshot, never an error. Private keys are read
//! to know their public halves and dropped at once, unless the caller asks to keep them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use time::OffsetDateTime;

use crate::error::hints;
use crate::node::fleet::{AT_ONCE, Event, side_by_side};
use crate::node::interrupt::Interrupt;
use crate::node::{Found, Node, Query};
use crate::pki::layout::Layout;
use crate::snapshot::{Facts, NodeSnapshot, Snapshot, Source};

mod content;
mod endpoints;
mod files;
mod kubelet_config;
mod missing;
mod place;
mod records;
mod references;
mod servers;

pub use endpoints::endpoints;
pub use servers::Reach;

/// What becomes of private keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Only the public half stays, to compare it with certificates.
    PublicHalf,
    /// The key stays in the snapshot, for commands that sign with it.
    Keep,
}

/// What to look at.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The places.
    pub scopes: Vec<Scope>,
    /// What becomes of private keys.
    pub keys: Keys,
}

impl Wanted {
    /// The usual places of a whole machine.
    pub fn machine(keys: Keys) -> Self {
        Self { scopes: vec![Scope::machine()], keys }
    }

    /// One certificate folder and nothing else.
    pub fn pki_dir(folder: impl Into<PathBuf>, keys: Keys) -> Self {
        Self { scopes: vec![Scope::PkiDir(folder.into())], keys }
    }
}

/// One place to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One certificate folder with the folders below it, and nothing outside of it (`--pki-dir`).
    PkiDir(PathBuf),
    /// Every place where an installation keeps certificates (this machine, `--root`, a node of a cluster file).
    Machine {
        /// `/etc/kubernetes`, or what the cluster file says.
        kubernetes: PathBuf,
        /// `/var/lib/kubelet`, or what the cluster file says.
        kubelet: PathBuf,
    },
    /// One file, or one folder with the folders below it; nothing about it is expected (`--path`).
    Path(PathBuf),
    /// One kubeconfig (`--kubeconfig`).
    Kubeconfig(PathBuf),
}

impl Scope {
    /// The usual places.
    pub fn machine() -> Self {
        Self::Machine { kubernetes: "/etc/kubernetes".into(), kubelet: "/var/lib/kubelet".into() }
    }

    /// What a target's layout says: the whole machine, or the one folder.
    pub fn of(layout: &Layout) -> Self {
        match (&layout.kubernetes_dir, &layout.kubelet_dir) {
            (Some(kubernetes), Some(kubelet)) => {
                Self::Machine { kubernetes: kubernetes.clone(), kubelet: kubelet.clone() }
            }
            _ => Self::PkiDir(layout.pki_dir.clone()),
        }
    }

    /// The path the operator named, if there is one.
    pub fn named(&self) -> Option<&Path> {
        match self {
            Self::PkiDir(path) | Self::Path(path) | Self::Kubeconfig(path) => Some(path),
            Self::Machine { .. } => None,
        }
    }
}

/// One node of many, and what to look at there.
#[allow(missing_debug_implementations, reason = "a node has none")]
pub struct Visit<'a> {
    /// The node; no two have the same name.
    pub node: &'a dyn Node,
    /// What to look at.
    pub wanted: Wanted,
    /// How its servers are asked for the certificates they show now; `None` asks nobody.
    pub reach: Option<Reach>,
}

/// Looks at every node, side by side. A node that cannot be reached is in the snapshot as such.
pub fn observe(nodes: &[&dyn Node], wanted: &Wanted, now: OffsetDateTime) -> Snapshot {
    let visits: Vec<Visit<'_>> =
        nodes.iter().map(|node| Visit { node: *node, wanted: wanted.clone(), reach: None }).collect();
    Snapshot { taken_at: now, nodes: fleet(&visits, &Interrupt::default(), &|_| {}) }
}

/// Makes every visit, [`AT_ONCE`] at a time, and tells of each. What comes of them is in the order of `visits`; a node
/// that cannot be reached is among them as such.
pub fn fleet(visits: &[Visit<'_>], interrupt: &Interrupt, tell: &(dyn Fn(Event<'_>) + Sync)) -> Vec<NodeSnapshot> {
    let nodes: Vec<&dyn Node> = visits.iter().map(|visit| visit.node).collect();
    let work = |node: &dyn Node| {
        let visit = visits.iter().find(|visit| visit.node.name() == node.name()).context("nobody asked for it")?;
        look(node, &visit.wanted, visit.reach.as_ref())
    };
    let results = side_by_side(&nodes, AT_ONCE, interrupt, tell, &work);
    let named = results.into_iter().zip(&nodes);
    named.map(|(found, node)| found.unwrap_or_else(|error| lost(*node, &error))).collect()
}

/// Looks at one node.
pub fn node(node: &dyn Node, wanted: &Wanted) -> NodeSnapshot {
    look(node, wanted, None).unwrap_or_else(|error| lost(node, &error))
}

fn lost(node: &dyn Node, error: &anyhow::Error) -> NodeSnapshot {
    let hints = match hints(error).as_slice() {
        [] => String::new(),
        hints => format!(" ({})", hints.join("; ")),
    };
    NodeSnapshot::unreachable(node.name(), format!("{error:#}{hints}"))
}

/// The files that a kubelet's configuration names and that were not read anyway.
fn named_by_kubelet(scopes: &[Scope], found: &[Found]) -> Vec<PathBuf> {
    let folders = scopes.iter().filter_map(|scope| match scope {
        Scope::Machine { kubelet, .. } => Some(kubelet),
        _ => None,
    });
    let named = folders.flat_map(|kubelet| kubelet_config::references(found, &kubelet.join(kubelet_config::NAME)));
    named.filter(|path| !found.iter().any(|file| file.path == *path)).collect()
}

fn look(node: &dyn Node, wanted: &Wanted, reach: Option<&Reach>) -> anyhow::Result<NodeSnapshot> {
    let mut snapshot = NodeSnapshot::empty(node.name());
    let folders = wanted.scopes.iter().find_map(|scope| match scope {
        Scope::Machine { kubernetes, kubelet } => Some((kubernetes.as_path(), kubelet.as_path())),
        _ => None,
    });
    let asked = folders.zip(reach);
    let mut queries: Vec<Query> = wanted.scopes.iter().flat_map(place::queries).collect();
    queries.extend(wanted.scopes.iter().flat_map(records::queries));
    queries.extend(asked.iter().flat_map(|((kubernetes, _), _)| servers::queries(kubernetes)));
    let mut found = if folders.is_some() {
        let (facts, found) = node.survey(&queries)?;
        snapshot.facts =
            Some(Facts { host_name: facts.host_name, clock_skew: facts.clock_skew, addresses: facts.addresses });
        found
    } else {
        node.read(&queries)?
    };
    let named = named_by_kubelet(&wanted.scopes, &found);
    if !named.is_empty() {
        found.extend(node.read(&named.iter().cloned().map(Query::File).collect::<Vec<_>>())?);
    }
    snapshot.records = records::take(&wanted.scopes, &mut found);
    let plans = asked.map(|(folders, reach)| (reach, servers::plans(reach.role, folders, &found)));
    let places = place::places(&wanted.scopes, &found);
    let mut artifacts = files::artifacts(found, &wanted.scopes, &places, wanted.keys);
    for artifact in artifacts.iter_mut().filter(|artifact| named.contains(&artifact.path)) {
        artifact.source = Source::Kubelet;
    }
    references::follow(node, &wanted.scopes, &mut artifacts, wanted.keys)?;
    missing::add(&wanted.scopes, &places, &mut artifacts);
    for place in places.iter().filter(|place| artifacts.iter().any(|file| place.holds(&file.path))) {
        let catalog = (place.catalog, place.folder.clone());
        if !snapshot.catalogs.contains(&catalog) {
            snapshot.catalogs.push(catalog);
        }
    }
    artifacts.extend(records::damaged(&snapshot.records));
    files::sort(&mut artifacts);
    snapshot.artifacts = artifacts;
    if let Some((_, plans)) = plans.filter(|(reach, _)| reach.even_if_empty || !snapshot.catalogs.is_empty()) {
        snapshot.artifacts.extend(servers::ask(node, snapshot.facts.as_ref(), &plans));
    }
    Ok(snapshot)
}

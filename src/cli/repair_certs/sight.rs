//! What a repair looks at: all nodes that can be reached, whether they are to be changed or not, and what runs on them.

use std::collections::HashMap;
use std::path::PathBuf;

use super::{RepairCertsArgs, design};
use crate::apply::sha256;
use crate::cli::live;
use crate::cli::session::Session;
use crate::cli::target::{Place, Target, TargetArgs, TargetNode};
use crate::error::Failure;
use crate::node::{FoundState, Node, Query};
use crate::observe::{self, Keys, Reach, Scope, Visit, Wanted};
use crate::pki::layout::{Flavour, Role};
use crate::plan::repair::{self, Design, Repair, Request, complete};
use crate::plan::restart::{Manifest, Means};
use crate::snapshot::{Snapshot, State};

/// The cluster as far as it can be reached.
pub(super) struct Sight {
    /// The nodes that can be reached.
    pub(super) target: Target,
    /// Names of those that may be changed.
    pub(super) chosen: Vec<String>,
    /// Nodes that were asked for and cannot be reached, with the reason.
    pub(super) lost: Vec<String>,
    /// Whether one of all nodes that cannot be reached rules.
    pub(super) lost_ruler: bool,
    /// Whether components run, or should.
    pub(super) is_live: bool,
    /// Manifests of static pods.
    pub(super) manifests: Vec<Manifest>,
    /// How components are restarted.
    pub(super) means: Means,
    place: Place,
    words: String,
}

impl Sight {
    /// Connects to every node of the cluster, not only to those that are to be changed: what they share comes from any.
    ///
    /// # Errors
    /// As [`Target::survey`]; exit code 1 when no node that is to be changed can be reached.
    pub(super) fn of(args: &RepairCertsArgs, session: &Session) -> anyhow::Result<Self> {
        let is_cluster = matches!(args.target.place, Place::ClusterFile(_) | Place::Cluster(_));
        let chosen = Target::unseen(&args.target, session)?;
        let chosen: Vec<String> = chosen.nodes.iter().map(|node| node.node.name().to_owned()).collect();
        let all = TargetArgs { nodes: Vec::new(), role: None, ..args.target.clone() };
        let mut target = Target::survey(if is_cluster { &all } else { &args.target }, session)?;
        session.interrupt.check()?;
        let lost_ruler = target.nodes.iter().any(|node| node.trouble.is_some() && node.role == Role::ControlPlane);
        let is_wanted = |node: &&TargetNode| chosen.iter().any(|name| name == node.node.name());
        let lost: Vec<String> = target.nodes.iter().filter(is_wanted).filter_map(|node| node.trouble.clone()).collect();
        target.nodes.retain(|node| node.trouble.is_none());
        if !target.nodes.iter().any(|node| chosen.iter().any(|name| name == node.node.name())) {
            return Err(Failure::failed(format!("no node can be reached:\n  {}", lost.join("\n  ")))
                .hint("check the connection with `ssh`")
                .into());
        }
        let is_live = live::is_live(&target, &args.target.place);
        let manifests = live::manifests(&target)?;
        let means = live::means(target.cluster.as_ref());
        let words = args.target.words();
        let words = if words.is_empty() { words } else { format!(" {words}") };
        let place = args.target.place.clone();
        Ok(Self { target, chosen, lost, lost_ruler, is_live, manifests, means, place, words })
    }

    /// Everything that is wrong at this moment, and what would mend it.
    ///
    /// # Errors
    /// When a node cannot be read.
    pub(super) fn look(&self, args: &RepairCertsArgs, session: &Session) -> anyhow::Result<Repair> {
        let mut snapshot = self.observe(session)?;
        let mut designs: Vec<(Design, Flavour)> = Vec::new();
        for node in &self.target.nodes {
            let design = design::of(node, &self.target, &snapshot, &self.manifests);
            designs.push((design, node.layout.flavour));
        }
        complete(&mut snapshot, &designs);
        let designs: Vec<Design> = designs.into_iter().map(|(design, _)| design).collect();
        let stale = if self.is_live { live::stale(session, &self.target) } else { Vec::new() };
        let illegible = self.illegible(&snapshot)?;
        let request = Request {
            scope: args.scope(),
            designs: &designs,
            chosen: &self.chosen,
            force: args.force,
            now: session.now,
            stale: &stale,
            illegible: &illegible,
            target: &self.words,
            is_live: self.is_live,
        };
        Ok(repair::plan(&snapshot, &request))
    }

    fn observe(&self, session: &Session) -> anyhow::Result<Snapshot> {
        let visit = |node: &'_ TargetNode| {
            let wanted = Wanted { scopes: vec![Scope::of(&node.layout)], keys: Keys::PublicHalf };
            let is_cluster = self.target.cluster.is_some();
            let reach = self.is_live.then_some(Reach { role: node.role, even_if_empty: is_cluster });
            (wanted, reach)
        };
        let visits = self.target.nodes.iter().map(|node| {
            let (wanted, reach) = visit(node);
            Visit { node: &*node.node, wanted, reach }
        });
        let visits: Vec<Visit<'_>> = visits.collect();
        let nodes = observe::fleet(&visits, &session.interrupt, &|_| {});
        session.interrupt.check()?;
        if let Some((node, error)) = nodes.iter().find_map(|node| Some((node, node.error.as_ref()?))) {
            return Err(Failure::failed(format!("node {}: {error}; nothing was changed", node.name)).into());
        }
        let mut snapshot = Snapshot { taken_at: session.now, nodes };
        if matches!(self.place, Place::Root(_)) {
            // A mounted disk has no clock and no addresses.
            snapshot.nodes.iter_mut().for_each(|node| node.facts = None);
        }
        Ok(snapshot)
    }

    /// The hashes of files that hold nothing readable, so that they can be replaced.
    fn illegible(&self, snapshot: &Snapshot) -> anyhow::Result<HashMap<(String, PathBuf), String>> {
        let mut hashes = HashMap::new();
        for node in &self.target.nodes {
            let Some(found) = snapshot.node(node.node.name()) else { continue };
            let unread = found.artifacts.iter().filter(|artifact| matches!(artifact.state, State::Unreadable(_)));
            let unread = unread.filter(|artifact| artifact.path.is_absolute());
            let queries: Vec<Query> = unread.map(|artifact| Query::File(artifact.path.clone())).collect();
            if queries.is_empty() {
                continue;
            }
            for file in node.node.read(&queries)? {
                if let FoundState::File(bytes) = &file.state {
                    hashes.insert((found.name.clone(), file.path), sha256(bytes));
                }
            }
        }
        Ok(hashes)
    }

    /// The target's node of that name.
    pub(super) fn node(&self, name: &str) -> Option<&TargetNode> {
        self.target.nodes.iter().find(|node| node.node.name() == name)
    }

    /// The names of the nodes that can be reached and rule.
    pub(super) fn rulers(&self) -> impl Iterator<Item = &TargetNode> {
        self.target.nodes.iter().filter(|node| node.role == Role::ControlPlane)
    }

    /// Nodes that were asked for and not reached leave the repair unfinished.
    ///
    /// # Errors
    /// Exit code 6, with the nodes.
    pub(super) fn refuse_lost(&self) -> anyhow::Result<()> {
        if self.lost.is_empty() {
            return Ok(());
        }
        let message = format!("not repaired, because they were not reached:\n  {}", self.lost.join("\n  "));
        Err(Failure::partial(message).hint("run the command again when they are up; --node chooses them").into())
    }
}

/// A node's name and what reads and writes there.
impl std::fmt::Debug for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.target.nodes.iter().map(|node| <dyn Node>::name(&*node.node)).collect();
        f.debug_struct("Sight").field("nodes", &names).finish_non_exhaustive()
    }
}

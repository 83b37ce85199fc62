//! A cluster that goes away in the middle: after the n-th call to any of its nodes nothing answers any more.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kubepki::cli::target::{Extent, Target, TargetNode};
use kubepki::node::local::LocalNode;
use kubepki::node::{Effect, Found, LockGuard, LockOwner, Node, NodeFacts, Query};
use kubepki::pki::layout::{Layout, Role};

use super::root::TestRoot;
use super::world::STATE;

/// What happens at call number `at` to any node of a cluster.
#[derive(Clone)]
pub struct Fate {
    calls: Arc<AtomicUsize>,
    at: usize,
    /// Whether that call still happens; nothing after it does.
    happens: bool,
    /// Every change of a file in use and every command, in order: node and path, or node and command.
    pub log: Arc<Mutex<Vec<(String, String)>>>,
}

impl Fate {
    pub fn new(at: usize, happens: bool) -> Self {
        Self { calls: Arc::default(), at, happens, log: Arc::default() }
    }

    pub fn never() -> Self {
        Self::new(usize::MAX, true)
    }

    pub fn has_struck(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.at
    }

    /// One call to a node of the cluster, or to the cluster itself.
    pub fn call<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        match self.calls.fetch_add(1, Ordering::SeqCst).cmp(&self.at) {
            std::cmp::Ordering::Less => work(),
            std::cmp::Ordering::Equal if self.happens => {
                drop(work());
                anyhow::bail!("the reply was lost")
            }
            _ => anyhow::bail!("the node is gone"),
        }
    }
}

/// A node that shares its fate with the others.
pub struct Mortal {
    pub node: LocalNode,
    pub fate: Fate,
}

impl Node for Mortal {
    fn name(&self) -> &str {
        self.node.name()
    }

    fn facts(&self) -> anyhow::Result<NodeFacts> {
        self.fate.call(|| self.node.facts())
    }

    fn read(&self, queries: &[Query]) -> anyhow::Result<Vec<Found>> {
        self.fate.call(|| self.node.read(queries))
    }

    fn apply(&self, effect: &Effect<'_>) -> anyhow::Result<()> {
        if let Effect::Install { path, .. } | Effect::Link { path, .. } | Effect::Remove { path } = effect
            && !path.starts_with(STATE)
            && !path.components().any(|part| part.as_os_str() == ".kubepki")
        {
            self.fate.log.lock().unwrap().push((self.name().to_owned(), path.display().to_string()));
        }
        self.fate.call(|| self.node.apply(effect))
    }

    /// Nothing runs here; that a command was run is only written down.
    fn run(&self, command: &str) -> anyhow::Result<()> {
        self.fate.log.lock().unwrap().push((self.name().to_owned(), command.to_owned()));
        self.fate.call(|| Ok(()))
    }

    fn lock(&self, path: &Path, owner: &LockOwner) -> anyhow::Result<Box<dyn LockGuard>> {
        self.fate.call(|| self.node.lock(path, owner))
    }
}

/// Nodes of these names that share a fate; those whose names begin with `w` are workers.
pub fn cluster(names: &[&str], roots: &[TestRoot], fate: &Fate) -> Target {
    let node = |(name, root): (&&str, &TestRoot)| {
        let node = Box::new(Mortal { node: LocalNode::open(*name, root.at("/")).unwrap(), fate: fate.clone() });
        let [layout, ..] = Layout::candidates(Path::new("/etc/kubernetes"), Path::new("/var/lib/kubelet"));
        let role = if name.starts_with('w') { Role::Worker } else { Role::ControlPlane };
        TargetNode { node, role, layout, trouble: None }
    };
    Target { extent: Extent::WholeCluster, cluster: None, nodes: names.iter().zip(roots).map(node).collect() }
}

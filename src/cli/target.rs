//! Which machines and which folders a command is about.
//!
//! This machine unless told otherwise; one folder, a mounted root, or a cluster file. Nothing is looked for inside the files
//! here.

use std::path::{Path, PathBuf};

use super::cluster_file::{ClusterFile, ClusterNode};
use super::session::Session;
use crate::error::{Failure, hints};
use crate::node::fleet::{AT_ONCE, Event, side_by_side};
use crate::node::local::LocalNode;
use crate::node::{FoundState, Node, Query};
use crate::pki::layout::{Layout, Role};
use crate::report::progress::Progress;
use crate::report::text::counted;

mod clusters;
pub mod login;
mod options;

pub use clusters::{ClusterName, KnownCluster, known_clusters};
pub use options::{Place, TargetArgs};

/// The machines a command works on.
#[derive(Debug)]
pub struct Target {
    /// How much of a cluster this is.
    pub extent: Extent,
    /// Its cluster file.
    pub cluster: Option<ClusterFile>,
    /// The chosen nodes, in the order of the cluster file.
    pub nodes: Vec<TargetNode>,
}

/// How much of a cluster a target covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A folder: no live machine.
    Folder,
    /// One machine, which may or may not be all of its cluster.
    Machine,
    /// All nodes of a cluster file.
    WholeCluster,
    /// Some nodes of a cluster file.
    PartOfCluster,
}

/// One machine of a target.
pub struct TargetNode {
    /// Reads and writes there.
    pub node: Box<dyn Node>,
    /// What it is.
    pub role: Role,
    /// Its folders.
    pub layout: Layout,
    /// Why it cannot be asked, where it cannot.
    pub trouble: Option<String>,
}

impl std::fmt::Debug for TargetNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TargetNode").field("node", &self.node.name()).finish_non_exhaustive()
    }
}

impl Target {
    /// Finds the machines that `args` name and the folders that matter on each, and connects to all of them.
    ///
    /// # Errors
    /// Exit code 2 for a wrong folder or cluster file, 3 for an unknown cluster or node, 1 when a node cannot be reached.
    pub fn resolve(args: &TargetArgs, session: &Session) -> anyhow::Result<Self> {
        let target = Self::survey(args, session)?;
        session.interrupt.check()?;
        let lost: Vec<&str> = target.nodes.iter().filter_map(|node| node.trouble.as_deref()).collect();
        if lost.is_empty() {
            return Ok(target);
        }
        let count = format!("{} of {}", lost.len(), counted(target.nodes.len(), "node"));
        Err(Failure::failed(format!("{count} cannot be reached:\n  {}", lost.join("\n  ")))
            .hint("check the connection with `ssh`; --node leaves nodes out where that is safe")
            .into())
    }

    /// As [`Target::resolve`], but a node that cannot be reached stays in the target with its [`TargetNode::trouble`].
    ///
    /// # Errors
    /// Exit code 2 for a wrong folder or cluster file, 3 for an unknown cluster or node.
    pub fn survey(args: &TargetArgs, session: &Session) -> anyhow::Result<Self> {
        Self::found(args, session, true)
    }

    /// As [`Target::survey`], but the nodes of a cluster file are not connected to: each has the role and the folders that
    /// the file says, and kubeadm's habits. For whoever looks at all habits anyway.
    ///
    /// # Errors
    /// As [`Target::survey`].
    pub fn unseen(args: &TargetArgs, session: &Session) -> anyhow::Result<Self> {
        Self::found(args, session, false)
    }

    fn found(args: &TargetArgs, session: &Session, connects: bool) -> anyhow::Result<Self> {
        match (&args.place, Self::cluster_file(args, session)?) {
            (Place::ThisMachine, _) => Self::machine(args, Path::new("/")),
            (Place::Root(root), _) => Self::machine(args, root),
            (Place::Folder(folder), _) => Self::folder(args, folder),
            (Place::ClusterFile(_) | Place::Cluster(_), None) => Err(Failure::not_found("there is no cluster").into()),
            (Place::ClusterFile(_) | Place::Cluster(_), Some((path, file))) => {
                Self::cluster(args, &path, &file, session, connects)
            }
        }
    }

    /// The cluster file that `args` name, and where it is. Nothing is connected for that.
    ///
    /// # Errors
    /// Exit code 2 for a wrong one, 3 when it is not there.
    pub fn cluster_file(args: &TargetArgs, session: &Session) -> anyhow::Result<Option<(PathBuf, ClusterFile)>> {
        Ok(match &args.place {
            Place::ThisMachine | Place::Root(_) | Place::Folder(_) => None,
            Place::ClusterFile(path) => Some((path.clone(), read_cluster_file(path)?)),
            Place::Cluster(name) => {
                let path = name.path(&session.home()?);
                let file = clusters::read(name, &path, &session.home()?)?;
                Some((path, file))
            }
        })
    }

    fn folder(args: &TargetArgs, folder: &Path) -> anyhow::Result<Self> {
        args.expect_only("local")?;
        let layout = Layout::folder(absolute(folder)?);
        let node = Box::new(LocalNode::open("local", "/")?);
        let role = Role::ControlPlane;
        Ok(Self {
            extent: Extent::Folder,
            cluster: None,
            nodes: vec![TargetNode { node, role, layout, trouble: None }],
        })
    }

    fn machine(args: &TargetArgs, root: &Path) -> anyhow::Result<Self> {
        args.expect_only("local")?;
        let node = Box::new(LocalNode::open("local", absolute(root)?)?);
        let candidates = Layout::candidates(Path::new("/etc/kubernetes"), Path::new("/var/lib/kubelet"));
        let (layout, role) = look(&*node, &candidates)?;
        let found = TargetNode { node, role, layout, trouble: None };
        if args.role.is_some_and(|role| role != found.role) {
            return Err(Failure::not_found("node local: it has another role than --role asks for").into());
        }
        Ok(Self { extent: Extent::Machine, cluster: None, nodes: vec![found] })
    }

    fn cluster(
        args: &TargetArgs,
        path: &Path,
        file: &ClusterFile,
        session: &Session,
        connects: bool,
    ) -> anyhow::Result<Self> {
        let names: Vec<&str> = file.spec.nodes.iter().map(|node| node.name.as_str()).collect();
        if let Some(unknown) = args.nodes.iter().find(|name| !names.contains(&name.as_str())) {
            return Err(Failure::not_found(format!("{}: there is no node {unknown:?}", path.display()))
                .hint(format!("its nodes are {}", names.join(", ")))
                .into());
        }
        let wanted = file.spec.nodes.iter().filter(|node| {
            (args.nodes.is_empty() || args.nodes.contains(&node.name)) && args.role.is_none_or(|role| role == node.role)
        });
        let wanted: Vec<_> = wanted.collect();
        if wanted.is_empty() {
            return Err(Failure::not_found(format!("{}: no node fits --node and --role", path.display())).into());
        }
        let candidates = Layout::candidates(&file.spec.kubernetes_dir, &file.spec.kubelet_dir);
        let access = login::access(session);
        let open = |node: &&ClusterNode| -> anyhow::Result<Box<dyn Node>> {
            Ok(if node.is_local() {
                Box::new(LocalNode::open(&node.name, "/")?)
            } else {
                Box::new(args.ssh.node(file, node, &access))
            })
        };
        let opened = wanted.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
        let is_whole = opened.len() == file.spec.nodes.len();
        let extent = if is_whole { Extent::WholeCluster } else { Extent::PartOfCluster };
        if !connects {
            let [layout, ..] = candidates;
            let nodes = opened.into_iter().zip(&wanted).map(|(node, entry)| TargetNode {
                node,
                role: entry.role,
                layout: layout.clone(),
                trouble: None,
            });
            return Ok(Self { extent, cluster: Some(file.clone()), nodes: nodes.collect() });
        }
        let seen: Vec<&dyn Node> = opened.iter().map(|node| &**node).collect();
        let bar = Progress::start(&session.ui, "connecting", seen.len());
        let tell = |event: Event<'_>| {
            if let Event::Ended(name, is_well) = event {
                bar.advance();
                session.ui.step(&format!("{name}: {}", if is_well { "connected" } else { "not reached" }));
            }
        };
        let looked = side_by_side(&seen, AT_ONCE, &session.interrupt, &tell, &|node| look(node, &candidates));
        drop(bar);
        let nodes: Vec<TargetNode> = (opened.into_iter().zip(looked).zip(&wanted))
            .map(|((node, looked), entry)| {
                let (layout, trouble) = match looked {
                    Ok((layout, _)) => (layout, None),
                    Err(error) => (candidates[0].clone(), Some(told(node.name(), &error))),
                };
                TargetNode { node, role: entry.role, layout, trouble }
            })
            .collect();
        Ok(Self { extent, cluster: Some(file.clone()), nodes })
    }
}

/// Which of `candidates` a machine follows, and what it seems to be.
fn look(node: &dyn Node, candidates: &[Layout; 4]) -> anyhow::Result<(Layout, Role)> {
    let [fallback, ..] = candidates;
    let (ruling, joined) = (fallback.control_plane_marks(), fallback.member_marks());
    let pki_dirs = candidates.iter().map(|layout| &layout.pki_dir);
    let queries: Vec<Query> = pki_dirs.chain(&ruling).chain(&joined).cloned().map(Query::Metadata).collect();
    let found = node.read(&queries)?;
    let is_there =
        |path: &PathBuf| found.iter().any(|found| found.path == *path && !matches!(found.state, FoundState::Missing));
    let layout = candidates.iter().find(|layout| is_there(&layout.pki_dir)).unwrap_or(fallback).clone();
    // A machine without anything is about to become a control-plane node: workers get their files by joining.
    let is_worker = joined.iter().any(is_there) && !ruling.iter().any(is_there);
    Ok((layout, if is_worker { Role::Worker } else { Role::ControlPlane }))
}

/// An error that begins with the name of its node, with what to do about it.
fn told(node: &str, error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let hint = match hints(error).as_slice() {
        [] => String::new(),
        hints => format!(" ({})", hints.join("; ")),
    };
    if text.starts_with(node) { format!("{text}{hint}") } else { format!("{node}: {text}{hint}") }
}

/// Reads a cluster file from this machine.
///
/// # Errors
/// Exit code 3 when it is not there, 2 when it is wrong.
pub fn read_cluster_file(path: &Path) -> anyhow::Result<ClusterFile> {
    let shown = path.display();
    let found = LocalNode::open("local", "/")?.read(&[Query::File(absolute(path)?)])?;
    match found.into_iter().next().map(|found| found.state) {
        Some(FoundState::File(content)) => ClusterFile::parse(&content, path),
        Some(FoundState::Unreadable(reason)) => Err(Failure::usage(format!("cannot read {shown}: {reason}")).into()),
        Some(FoundState::Directory) => Err(Failure::usage(format!("{shown} is a folder, not a cluster file")).into()),
        _ => Err(Failure::not_found(format!("there is no cluster file {shown}")).into()),
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())).into())
}

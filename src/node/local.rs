//! This machine, or a root folder mounted on it.
//!
//! Every path is resolved inside the root, links included, so that a mounted disk can be read as the node it belongs
//! to. Nothing here knows what a certificate is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reading::{self, words};
use super::resolve::Root;
use super::wire::{self, NoWire, Wire};
use super::writing::Writer;
use super::{Effect, Found, LockGuard, LockOwner, Node, NodeFacts, Query, facts};
use crate::error::Failure;

/// How long a command may take, as over SSH.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// This machine, or a folder that is treated as the root of a node.
#[derive(Debug)]
pub struct LocalNode {
    name: String,
    root: PathBuf,
    inside: Root,
}

impl LocalNode {
    /// Opens `root`, which is `/` for this machine.
    ///
    /// # Errors
    /// When `root` is not a folder that can be opened.
    pub fn open(name: impl Into<String>, root: impl Into<PathBuf>) -> anyhow::Result<Self> {
        let (name, root) = (name.into(), root.into());
        match Root::open(&root) {
            Ok(inside) => Ok(Self { name, root, inside }),
            Err(errno) => {
                let message = format!("cannot use {} as the root of a node: {}", root.display(), words(&errno.into()));
                Err(Failure::usage(message).hint("name a folder that holds etc/kubernetes").into())
            }
        }
    }

    /// The folder that is the node's `/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn writer(&self) -> Writer<'_> {
        Writer { node: &self.name, root: &self.inside, uid: rustix::process::geteuid().as_raw() }
    }
}

impl Node for LocalNode {
    fn name(&self) -> &str {
        &self.name
    }

    /// Addresses and clock are always this machine's; the host name is the one written in a mounted root.
    fn facts(&self) -> anyhow::Result<NodeFacts> {
        facts::facts(&self.inside, self.root == Path::new("/"))
    }

    fn read(&self, queries: &[Query]) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::with_capacity(queries.len());
        for query in queries {
            reading::answer(&self.inside, query, &mut found);
        }
        Ok(found)
    }

    fn apply(&self, effect: &Effect<'_>) -> anyhow::Result<()> {
        let writer = self.writer();
        match effect {
            Effect::MakeDirectory { path, mode } => writer.make_directory(path, *mode),
            Effect::Install { path, content, mode, owner } => writer.install(path, content, *mode, *owner),
            Effect::Link { path, target } => writer.link(path, target),
            Effect::Remove { path } => writer.remove(path),
            Effect::RemoveDirectory { path } => writer.remove_directory(path),
            Effect::RemoveTree { path } => writer.remove_tree(path),
            Effect::Rehearse { path, follow, mode, owner, size } => {
                writer.rehearse(path, *follow, *mode, *owner, *size)
            }
            Effect::Sweep { path } => writer.sweep(path),
        }
    }

    fn lock(&self, path: &Path, owner: &LockOwner) -> anyhow::Result<Box<dyn LockGuard>> {
        self.writer().lock(path, owner)
    }

    fn run(&self, command: &str) -> anyhow::Result<()> {
        if self.root != Path::new("/") {
            let message = format!("{}: cannot run `{command}`: {} is only a folder", self.name, self.root.display());
            return Err(Failure::failed(message).into());
        }
        super::command::run(&self.name, command, COMMAND_LIMIT)
    }

    fn dial(&self, host: &str, port: u16, limit: Duration) -> Result<Box<dyn Wire>, NoWire> {
        if self.root != Path::new("/") {
            return Err(format!("nothing runs below {}: it is only a folder", self.root.display()).into());
        }
        Ok(Box::new(wire::connect(host, port, limit)?))
    }
}

//! This machine, or a root folder mounted on it.
//!
//! Every path is resolved inside the root, links included, so that a mounted disk can be read as the node it belongs
//! to. Nothing here knows what a certificate is.

use std::path::{Path, PathBuf};

use anyhow::Context;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Effect, Found, FoundState, LockGuard, LockOwner, Metadata, Node, NodeFacts, Query};
use crate::error::Failure;

/// This machine, or a folder that is treated as the root of a node.
#[derive(Debug)]
pub struct LocalNode {
    name: String,
    root: PathBuf,
}

impl LocalNode {
    /// Opens `root`, which is `/` for this machine.
    ///
    /// # Errors
    /// When `root` is not a folder that can be opened.
    pub fn open(name: impl Into<String>, root: impl Into<PathBuf>) -> anyhow::Result<Self> {
        let (name, root) = (name.into(), root.into());
        if !root.is_dir() {
            return Err(Failure::usage(format!("the root folder {} does not exist", root.display())).into());
        }
        Ok(Self { name, root })
    }

    /// The folder that is the node's `/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn place(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn look(&self, path: &Path, content: bool) -> Found {
        use std::os::unix::fs::MetadataExt;
        let place = self.place(path);
        let Ok(found) = std::fs::metadata(&place) else {
            return Found { path: path.into(), link: None, metadata: None, state: FoundState::Missing };
        };
        let state = if found.is_dir() {
            FoundState::Directory
        } else if !content {
            FoundState::Unread
        } else {
            match std::fs::read(&place) {
                Ok(bytes) => FoundState::File(Zeroizing::new(bytes)),
                Err(error) => FoundState::Unreadable(error.to_string()),
            }
        };
        let modified = OffsetDateTime::from_unix_timestamp(found.mtime()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let metadata =
            Metadata { mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid(), modified, size: found.size() };
        Found { path: path.into(), link: std::fs::read_link(&place).ok(), metadata: Some(metadata), state }
    }

    fn tree(&self, folder: &Path, found: &mut Vec<Found>) {
        let Ok(entries) = std::fs::read_dir(self.place(folder)) else {
            found.push(Found { path: folder.into(), link: None, metadata: None, state: FoundState::Missing });
            return;
        };
        let mut names: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names.into_iter().filter(|name| name != ".kubepki") {
            let path = folder.join(name);
            match self.look(&path, true) {
                Found { state: FoundState::Directory, link: None, .. } => self.tree(&path, found),
                file => found.push(file),
            }
        }
    }
}

impl Node for LocalNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn facts(&self) -> anyhow::Result<NodeFacts> {
        Ok(NodeFacts {
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            clock: OffsetDateTime::now_utc(),
            addresses: Vec::new(),
            uid: rustix::process::geteuid().as_raw(),
        })
    }

    fn read(&self, queries: &[Query]) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        for query in queries {
            match query {
                Query::File(path) => found.push(self.look(path, true)),
                Query::Metadata(path) => found.push(self.look(path, false)),
                Query::Tree(path) => self.tree(path, &mut found),
            }
        }
        Ok(found)
    }

    fn apply(&self, effect: &Effect<'_>) -> anyhow::Result<()> {
        Err(Failure::failed(format!("node {}: cannot write yet", self.name))).with_context(|| format!("{effect:?}"))
    }

    fn lock(&self, path: &Path, owner: &LockOwner) -> anyhow::Result<Box<dyn LockGuard>> {
        anyhow::bail!("node {}: cannot lock {} for {} yet", self.name, path.display(), owner.who)
    }
}

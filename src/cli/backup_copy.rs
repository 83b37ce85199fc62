//! `--backup-dir`: another copy of every file before it changes, on the machine where kubepki runs.
//!
//! The copies lie under their own paths in `DIR/kubepki-OPERATION/NODE`, readable by their owner only: keys are among them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::error::Failure;
use crate::node::local::LocalNode;
use crate::node::{Content, Effect, FoundState, Node, Query};
use crate::plan::blueprint::Blueprint;
use crate::plan::operation::FileAction;

/// The folder as an absolute path.
///
/// # Errors
/// When this machine's current folder is gone.
pub fn folder(named: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(named).with_context(|| format!("--backup-dir {}", named.display()))
}

/// Copies every file that `blueprint` replaces or removes.
///
/// # Errors
/// Exit code 1 when one cannot be read or copied: nothing has changed then.
pub fn copy(blueprint: &Blueprint, operation: &str, nodes: &[&dyn Node], folder: &Path) -> anyhow::Result<()> {
    let here = LocalNode::open("local", "/")?;
    let folder = folder.join(format!("kubepki-{operation}"));
    for (plan, file) in blueprint.begins().filter(|(_, file)| file.action != FileAction::Created) {
        let node = nodes.iter().find(|node| node.name() == plan.node).context("a node of the plan is not there")?;
        let found = node.read(&[Query::File(file.path.clone())])?.into_iter().next();
        let Some(FoundState::File(bytes)) = found.map(|found| found.state) else {
            return Err(Failure::failed(format!(
                "node {}: {} cannot be read for --backup-dir; nothing has changed",
                plan.node,
                file.path.display()
            ))
            .into());
        };
        let place = folder.join(&plan.node).join(file.path.strip_prefix("/").unwrap_or(&file.path));
        let write = || {
            if let Some(parent) = place.parent() {
                here.apply(&Effect::MakeDirectory { path: parent, mode: 0o700 })?;
            }
            here.apply(&Effect::Install { path: &place, content: Content::Bytes(&bytes), mode: 0o600, owner: None })
        };
        write().with_context(|| Failure::failed(format!("cannot copy to {}; nothing has changed", place.display())))?;
    }
    Ok(())
}

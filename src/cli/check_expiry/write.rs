//! A report into a file on this machine, whole or not at all.

use std::path::Path;

use anyhow::Context;

use crate::error::Failure;
use crate::node::local::LocalNode;
use crate::node::{Content, Effect, Node};

/// Puts `content` at `path` in one rename, readable by everybody: who collects metrics is another user.
///
/// # Errors
/// When the folder is not there or cannot be written.
pub(super) fn atomically(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let absolute = std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let effect = Effect::Install { path: &absolute, content: Content::Bytes(content), mode: 0o644, owner: None };
    LocalNode::open("local", "/")?
        .apply(&effect)
        .with_context(|| Failure::failed(format!("cannot write the metrics to {}", path.display())))
}

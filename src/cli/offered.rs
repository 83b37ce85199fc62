//! A folder of requests or signed certificates on the machine that runs kubepki.

use std::path::Path;

use crate::error::Failure;
use crate::node::local::LocalNode;
use crate::node::{FoundState, Node, Query};
use crate::observe::{self, Keys, Scope, Wanted};
use crate::snapshot::NodeSnapshot;

/// What lies in a folder of signed certificates.
///
/// # Errors
/// Exit code 3 when there is no such folder.
pub fn read(folder: &Path) -> anyhow::Result<NodeSnapshot> {
    let found = LocalNode::open("local", "/")?.read(&[Query::Metadata(folder.to_owned())])?;
    if !matches!(found.first().map(|found| &found.state), Some(FoundState::Directory)) {
        return Err(Failure::not_found(format!("there is no folder {} to import from", folder.display())).into());
    }
    look(folder)
}

/// What lies in a folder, or nothing where there is none yet.
///
/// # Errors
/// When it cannot be read.
pub fn look(folder: &Path) -> anyhow::Result<NodeSnapshot> {
    let wanted = Wanted { scopes: vec![Scope::Path(folder.to_owned())], keys: Keys::PublicHalf };
    let snapshot = observe::node(&LocalNode::open("local", "/")?, &wanted);
    match &snapshot.error {
        Some(error) => Err(Failure::failed(format!("{}: {error}", folder.display())).into()),
        None => Ok(snapshot),
    }
}

//! Keys and files that a plan refers to and that exist already on a node.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use zeroize::Zeroizing;

use crate::error::Failure;
use crate::node::{Found, FoundState, Node, Query};
use crate::pki::kubeconfig::{Kubeconfig, Source};
use crate::pki::private_key::{KeyError, PrivateKey};
use crate::plan::blueprint::KeySource;

/// Loads the key that `source` points to.
///
/// # Errors
/// When the node is not among `nodes`, or the key is missing, unreadable, encrypted or damaged: with node and path.
pub fn key(nodes: &[&dyn Node], source: &KeySource) -> anyhow::Result<PrivateKey> {
    match source {
        KeySource::New(algorithm) => Err(anyhow!("a new {algorithm} key cannot be read from a file")),
        KeySource::File { node, path } => {
            let content = content(find(nodes, node)?, path)?;
            PrivateKey::from_pem(&content).map_err(|error| key_failure(node, &path.display().to_string(), &error))
        }
        KeySource::Kubeconfig { node, path, user } => {
            let place = format!("{}#user/{user}", path.display());
            let reader = find(nodes, node)?;
            let text = content(reader, path)?;
            let folder = path.parent().unwrap_or(Path::new("/"));
            let kubeconfig =
                Kubeconfig::parse(&text, folder).map_err(|problem| anyhow!("{node}: {place}: {problem}"))?;
            let user = kubeconfig.user(user).ok_or_else(|| anyhow!("{node}: {place}: no such user"))?;
            let pem = match user.client_key.source() {
                Source::Embedded(bytes) => Zeroizing::new(bytes.to_vec()),
                Source::File(file) => self::content(reader, file)?,
                Source::Broken(problem) => return Err(anyhow!("{node}: {place}: {problem}")),
                Source::Absent => return Err(anyhow!("{node}: {place}: no client key")),
            };
            PrivateKey::from_pem(&pem).map_err(|error| key_failure(node, &place, &error))
        }
    }
}

fn key_failure(node: &str, place: &str, error: &KeyError) -> anyhow::Error {
    let failure = Failure::failed(format!("{node}: {place}: {error}"));
    match error {
        KeyError::Encrypted => failure.hint(format!(
            "decrypt it beside the original, `openssl pkey -in {place} -out {place}.plain`, and put that in its place"
        )),
        _ => failure
            .hint(format!("look at it with `openssl pkey -in {place} -noout -check`, or restore it from a backup")),
    }
    .into()
}

/// Reads one file whole.
///
/// # Errors
/// When it is missing or unreadable: with node and path.
pub fn content(node: &dyn Node, path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let name = node.name();
    let found =
        node.read(&[Query::File(path.to_owned())]).with_context(|| format!("{name}: reading {}", path.display()))?;
    match found.into_iter().next() {
        Some(Found { state: FoundState::File(bytes), .. }) => Ok(bytes),
        Some(Found { state: FoundState::Unreadable(reason), .. }) => {
            Err(Failure::failed(format!("{name}: {}: {reason}", path.display()))
                .hint("run as root, or look at the file's mode and owner")
                .into())
        }
        Some(Found { state: FoundState::Directory, .. }) => Err(anyhow!("{name}: {}: is a folder", path.display())),
        _ => Err(anyhow!("{name}: {}: no such file", path.display())),
    }
}

/// The node called `name`.
///
/// # Errors
/// When a plan names a node that the command does not have.
pub fn find<'a>(nodes: &[&'a dyn Node], name: &str) -> anyhow::Result<&'a dyn Node> {
    nodes
        .iter()
        .copied()
        .find(|node| node.name() == name)
        .ok_or_else(|| anyhow!("the plan names a node `{name}` that is not there"))
}

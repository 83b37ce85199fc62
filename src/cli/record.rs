//! What this workstation knows of the operations on a cluster: a copy of the last one's result, for when the nodes cannot
//! be asked. The nodes' own journals are what counts.

use std::path::PathBuf;

use super::cluster_file::ClusterFile;
use super::session::Session;
use super::target::Target;
use crate::apply::sha256;
use crate::node::local::LocalNode;
use crate::node::{Content, Effect, FoundState, Node, Query};
use crate::plan::operation::Operation;

/// Keeps `operation` as the last one of the target's cluster. A failure is told with --debug: the nodes know it all.
pub fn keep(session: &Session, target: &Target, operation: &Operation) {
    let Some(cluster) = &target.cluster else { return };
    let kept = path(session, cluster).and_then(|path| {
        let text = serde_json::to_vec_pretty(operation)?;
        let here = LocalNode::open("local", "/")?;
        if let Some(folder) = path.parent() {
            here.apply(&Effect::MakeDirectory { path: folder, mode: 0o700 })?;
        }
        here.apply(&Effect::Install { path: &path, content: Content::Bytes(&text), mode: 0o600, owner: None })
    });
    if let Err(error) = kept {
        session.ui.debug(&format!("the operation is not recorded on this machine: {error:#}"));
    }
}

/// The file for what a run in the background says about an operation.
///
/// # Errors
/// When HOME is not set or the folder cannot be made.
pub fn log(session: &Session, operation: &Operation) -> anyhow::Result<PathBuf> {
    let folder = session.home()?.join(".kubepki/operations");
    LocalNode::open("local", "/")?.apply(&Effect::MakeDirectory { path: &folder, mode: 0o700 })?;
    Ok(folder.join(format!("{}.log", operation.id)))
}

/// The last operation recorded here for the cluster of this file.
///
/// # Errors
/// When HOME is not set or this machine cannot be read. A damaged record is none.
pub fn last(session: &Session, cluster: &ClusterFile) -> anyhow::Result<Option<Operation>> {
    let found = LocalNode::open("local", "/")?.read(&[Query::File(path(session, cluster)?)])?;
    Ok(match found.into_iter().next().map(|found| found.state) {
        Some(FoundState::File(text)) => serde_json::from_slice(&text).ok(),
        _ => None,
    })
}

/// Clusters may be called alike in different groups, so what tells them apart is where their nodes are.
fn path(session: &Session, cluster: &ClusterFile) -> anyhow::Result<PathBuf> {
    let safe = |letter: char| if letter.is_alphanumeric() || "-_".contains(letter) { letter } else { '_' };
    let name: String = cluster.metadata.name.chars().map(safe).collect();
    let nodes = cluster.spec.nodes.iter().map(|node| format!("{} {} {:?}\n", node.name, node.host, node.ssh.port));
    let mark = sha256(nodes.collect::<String>().as_bytes());
    Ok(session.home()?.join(".kubepki/operations").join(format!("{name}-{}.json", &mark[..8])))
}

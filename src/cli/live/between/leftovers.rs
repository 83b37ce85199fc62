//! Files that still need an old authority right before it is dropped: certificates it signed, and kubeconfigs that know
//! servers by it alone.
//!
//! Looked for in all of `/etc/kubernetes`, in the kubelet's folder, and in the `.kube` folders of people.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::material::{Exchange, Leg, changes_in};
use super::round::Round;
use crate::cli::target::TargetNode;
use crate::error::Failure;
use crate::live::authority_set::AuthoritySet;
use crate::node::fleet::{AT_ONCE, side_by_side};
use crate::node::{FoundState, Node, Query};
use crate::observe::{self, Keys, Scope, Wanted};
use crate::pki::certificate::Certificate;
use crate::pki::chain::{Signature, issued};
use crate::plan::phase::Phase;
use crate::snapshot::{Artifact, NodeSnapshot};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Files of the cluster, each as `NODE: PATH: what`.
    pub(super) files: Vec<String>,
    /// Files of people.
    pub(super) people: Vec<String>,
    /// When the leaves end that were found and are of the new authorities already.
    pub(super) new_ends: Vec<OffsetDateTime>,
}

/// Looks through all nodes of the target.
///
/// # Errors
/// When a node cannot be read: what is on it nobody knows.
pub(super) fn look(round: &Round<'_>) -> anyhow::Result<Leftovers> {
    let nodes: Vec<&dyn Node> = round.target.nodes.iter().map(|node| &*node.node).collect();
    let old = Old::of(round.material.exchanges());
    let found = side_by_side(&nodes, AT_ONCE, &round.session.interrupt, &|_| {}, &|node| match round
        .target
        .nodes
        .iter()
        .find(|one| one.node.name() == node.name())
    {
        Some(node) => on_node(node, own_leg(round, node), &old),
        None => Ok(Leftovers::default()),
    });
    let mut all = Leftovers::default();
    for found in found {
        let found = found?;
        all.files.extend(found.files);
        all.people.extend(found.people);
        all.new_ends.extend(found.new_ends);
    }
    Ok(all)
}

fn own_leg<'r>(round: &'r Round<'_>, node: &TargetNode) -> Option<&'r Leg<'r>> {
    round.legs.iter().find(|(own, _)| own.node.name() == node.node.name())
}

/// The authorities that go, and those that come.
struct Old {
    old: Vec<Certificate>,
    new: Vec<Certificate>,
    old_set: AuthoritySet,
    new_set: AuthoritySet,
}

impl Old {
    fn of<'e>(exchanges: impl Iterator<Item = &'e Exchange>) -> Self {
        let (mut old_set, mut new_set) = (AuthoritySet::default(), AuthoritySet::default());
        for exchange in exchanges {
            old_set = old_set.with(&exchange.going());
            new_set = new_set.with(&exchange.coming());
        }
        Self { old: old_set.certificates(), new: new_set.certificates(), old_set, new_set }
    }

    /// When the leaves of new authorities in the file end.
    fn new_ends(&self, artifact: &Artifact) -> Vec<OffsetDateTime> {
        let Some(content) = artifact.content() else { return Vec::new() };
        let users = content.kubeconfig.iter().flatten().flat_map(|config| &config.users);
        let all = content.certificates().chain(users.flat_map(|user| user.certificate.certificates()));
        let is_new = |leaf: &&Certificate| {
            !leaf.is_ca() && self.new.iter().any(|authority| issued(leaf, authority) == Signature::Good)
        };
        all.filter(is_new).map(Certificate::not_after).collect()
    }

    fn has_signed(&self, certificate: &Certificate) -> bool {
        self.old.iter().any(|authority| issued(certificate, authority) == Signature::Good)
    }

    /// What about the file needs an old authority.
    fn need(&self, artifact: &Artifact) -> Option<String> {
        let content = artifact.content()?;
        if let Some(Ok(config)) = &content.kubeconfig {
            let client = config.users.iter().find_map(|user| user.certificate.certificates().next());
            if let Some(client) = client.filter(|client| self.has_signed(client)) {
                return Some(format!("its client certificate ({}) is of the old CA", client.serial()));
            }
            let trusts_old_alone = config.clusters.iter().any(|cluster| {
                let held: AuthoritySet = cluster.authority.certificates().map(|one| one.der().to_vec()).collect();
                held.meets(&self.old_set) && !held.meets(&self.new_set)
            });
            return trusts_old_alone.then(|| "it knows servers by the old CA alone".to_owned());
        }
        let leaf = content.certificates().next().filter(|leaf| !leaf.is_ca() && self.has_signed(leaf))?;
        Some(format!("the certificate {} ({}) is of the old CA", leaf.subject().text(), leaf.serial()))
    }
}

fn on_node(node: &TargetNode, leg: Option<&Leg<'_>>, old: &Old) -> anyhow::Result<Leftovers> {
    let homes = homes(node)?;
    let mut scopes = scopes(node)?;
    scopes.extend(homes.iter().cloned().map(Scope::Kubeconfig));
    let seen = observe::node(&*node.node, &Wanted { scopes, keys: Keys::PublicHalf });
    if let Some(error) = seen.error {
        return Err(Failure::failed(format!("{}: who needs the old there cannot be told: {error}", node.node.name()))
            .hint("the old is not dropped before it is known who needs it; --continue looks again")
            .into());
    }
    let in_use = in_use(&seen, node);
    let mut found = Leftovers::default();
    let mut told: HashSet<&Path> = HashSet::new();
    for artifact in seen.artifacts.iter().filter(|artifact| !artifact.is_missing()) {
        let path = artifact.path.as_path();
        found.new_ends.extend(old.new_ends(artifact));
        let will_change = leg.is_some_and(|(_, journal)| changes_in(journal, path, Phase::DropOld));
        let is_spare = is_dated_client(path) && !in_use.contains(path);
        if will_change || is_spare || is_ours(node, path) || !told.insert(path) {
            continue;
        }
        let Some(need) = old.need(artifact) else { continue };
        let words = format!("{}: {}: {need}", node.node.name(), path.display());
        let is_personal = path.parent().and_then(Path::file_name).is_some_and(|folder| folder == ".kube");
        if is_personal { found.people.push(words) } else { found.files.push(words) }
    }
    Ok(found)
}

/// kubepki's own copies, which need nobody's trust.
fn is_ours(node: &TargetNode, path: &Path) -> bool {
    path.starts_with(node.layout.state_dir())
}

/// One of the kubelet's certificates with the time in its name, of which all but the one linked to are history.
fn is_dated_client(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    ["kubelet-client-", "kubelet-server-"].iter().any(|start| name.starts_with(start))
        && !name.ends_with("-current.pem")
}

/// Where the kubelet's links lead.
fn in_use(seen: &NodeSnapshot, node: &TargetNode) -> HashSet<PathBuf> {
    let folder = node.layout.kubelet_dir.as_ref().map(|folder| folder.join("pki")).unwrap_or_default();
    seen.artifacts.iter().filter_map(|artifact| artifact.link.as_ref()).map(|target| folder.join(target)).collect()
}

/// The usual places, and whatever else lies in `/etc/kubernetes` and right in the kubelet's folder.
fn scopes(node: &TargetNode) -> anyhow::Result<Vec<Scope>> {
    let mut scopes = vec![Scope::of(&node.layout)];
    let (Some(kubernetes), Some(kubelet)) = (&node.layout.kubernetes_dir, &node.layout.kubelet_dir) else {
        return Ok(scopes);
    };
    // Manifests hold no certificates; `tmp` is where kubeadm and kubepki keep copies of old.
    for (path, is_folder) in listed(node, kubernetes)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !is_folder || !matches!(name, "tmp" | "manifests" | "pki") {
            scopes.push(Scope::Path(path));
        }
    }
    // Folders there belong to pods and are large.
    scopes.extend(
        listed(node, kubelet)?.into_iter().filter(|(_, is_folder)| !is_folder).map(|(path, _)| Scope::Path(path)),
    );
    Ok(scopes)
}

/// The kubeconfigs of people.
fn homes(node: &TargetNode) -> anyhow::Result<Vec<PathBuf>> {
    if node.layout.kubernetes_dir.is_none() {
        return Ok(Vec::new());
    }
    let homes = listed(node, Path::new("/home"))?.into_iter().filter(|(_, is_folder)| *is_folder);
    let all = homes.map(|(path, _)| path).chain(["/root".into()]);
    Ok(all.map(|home| home.join(".kube/config")).collect())
}

/// Files and folders right in `folder`, with which are folders. Links and what cannot be read are not among them.
fn listed(node: &TargetNode, folder: &Path) -> anyhow::Result<Vec<(PathBuf, bool)>> {
    let found = node.node.read(&[Query::Folder(folder.to_owned())])?;
    let of = |found: crate::node::Found| match found.state {
        _ if found.path == folder => None,
        FoundState::Directory => Some((found.path, true)),
        FoundState::Unread | FoundState::File(_) => Some((found.path, false)),
        FoundState::Missing | FoundState::Unreadable(_) => None,
    };
    Ok(found.into_iter().filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelets_history_is_told_from_what_it_uses() {
        assert!(is_dated_client(Path::new("/v/kubelet-client-2026-01-01-00-00-00.pem")));
        assert!(!is_dated_client(Path::new("/v/kubelet-client-current.pem")));
        assert!(!is_dated_client(Path::new("/v/kubelet.crt")));
    }
}

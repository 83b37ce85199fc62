//! The files that hold certificates or keys, each once: what is found in a folder, and what kubeconfigs refer to.
//!
//! A link to a file that is listed itself is only another name of it, and the copies in people's home folders are theirs:
//! both are known, neither is written.

use std::path::{Component, Path, PathBuf};

use crate::pki::catalog::{Keeper, Kind};
use crate::snapshot::{Artifact, Content, Kubeconfig, Material, NodeSnapshot, Part, Snapshot, State};

/// One file.
#[derive(Debug, Clone)]
pub(super) struct Held<'a> {
    /// Its node.
    pub node: &'a NodeSnapshot,
    /// Absolute path there.
    pub path: &'a Path,
    /// kubeadm's id, else the file name, as `check-expiry` has it.
    pub name: String,
    /// What its catalog says about it.
    pub part: Option<Part>,
    /// Where it points, when it is a symbolic link.
    pub link: Option<&'a Path>,
    /// What it holds.
    pub content: &'a Content,
    /// Why it is not written, although it may hold what is replaced.
    pub spared: Option<Spared>,
}

/// Why a file is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spared {
    /// It is a link to a file that is written itself.
    Alias,
    /// It belongs to a person.
    Personal,
}

/// A file that could not be read, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault<'a> {
    /// Its node.
    pub node: &'a str,
    /// Absolute path there, with `#user/NAME` or `#cluster/NAME` where only that part is broken.
    pub path: String,
    /// As for a readable file.
    pub name: String,
    /// What it should be, where the catalog knows.
    pub kind: Option<Kind>,
    /// What is wrong, in words.
    pub reason: String,
    /// Whether it is a private key's file that was read: a new pair may take its place.
    pub is_replaceable: bool,
}

impl<'a> Held<'a> {
    /// Who keeps it fresh.
    pub(super) fn keeper(&self) -> Keeper {
        self.part.map_or(Keeper::Kubepki, |part| part.entry.keeper)
    }

    /// What it says as a kubeconfig, if it is one.
    pub(super) fn kubeconfig(&self) -> Option<&'a Kubeconfig> {
        self.content.kubeconfig.as_ref()?.as_ref().ok()
    }

    /// What is damaged in it, in words: such a file cannot be written anew without losing something. Private keys are
    /// judged where they are needed.
    pub(super) fn damage(&self) -> Option<String> {
        if self.content.damaged_blocks > 0 {
            return Some("a PEM block in it is damaged".to_owned());
        }
        if let Some(error) = self.content.found_certificates.iter().find_map(|found| found.as_ref().err()) {
            return Some(format!("a certificate in it is damaged: {error}"));
        }
        if let Some(error) = self.content.public_keys.iter().find_map(|found| found.as_ref().err()) {
            return Some(format!("a public key in it is damaged: {error}"));
        }
        None
    }
}

/// Every readable file of every node, in the order of the snapshot. With `with_personal` people's own copies are written like
/// the others.
pub(super) fn files(snapshot: &Snapshot, with_personal: bool) -> Vec<Held<'_>> {
    let mut files = Vec::new();
    for node in &snapshot.nodes {
        let first = files.len();
        files.extend(node.artifacts.iter().filter_map(|artifact| held(node, artifact, with_personal)));
        for (name, material) in references(node) {
            let Some((path, content)) = material else { continue };
            if !files[first..].iter().any(|known: &Held<'_>| known.path == path) {
                let name = format!("{name} {}", file_name(path));
                files.push(Held { node, path, name, part: None, link: None, content, spared: None });
            }
        }
        for index in first..files.len() {
            let target = files[index].link.map(|link| resolved(files[index].path, link));
            if target.is_some_and(|target| files[first..].iter().any(|other| other.path == target)) {
                files[index].spared = Some(Spared::Alias);
            }
        }
    }
    files
}

fn held<'a>(node: &'a NodeSnapshot, artifact: &'a Artifact, with_personal: bool) -> Option<Held<'a>> {
    let content = artifact.content()?;
    let spared = (is_personal(&artifact.path) && !with_personal).then_some(Spared::Personal);
    let link = artifact.link.as_deref();
    Some(Held { node, path: &artifact.path, name: name(artifact), part: artifact.part, link, content, spared })
}

/// The files that kubeconfigs refer to, with the kubeconfig's name.
fn references(node: &NodeSnapshot) -> impl Iterator<Item = (String, Option<(&Path, &Content)>)> {
    let kubeconfigs = node.artifacts.iter().filter(|artifact| !is_personal(&artifact.path)).filter_map(|artifact| {
        let kubeconfig = artifact.content()?.kubeconfig.as_ref()?.as_ref().ok()?;
        Some((name(artifact), kubeconfig))
    });
    kubeconfigs.flat_map(|(name, kubeconfig)| {
        let authorities = kubeconfig.clusters.iter().map(|cluster| &cluster.authority);
        let users = kubeconfig.users.iter().flat_map(|user| [&user.certificate, &user.key]);
        authorities.chain(users).map(move |material| (name.clone(), referred(material)))
    })
}

fn referred(material: &Material) -> Option<(&Path, &Content)> {
    Some((material.file.as_deref()?, material.content.as_ref()?.as_ref().ok()?))
}

/// The file that is written when something goes to `path`: the one that a link there leads to, if it is listed.
pub(super) fn written(files: &[Held<'_>], node: &str, path: &Path) -> PathBuf {
    let mut place = path.to_path_buf();
    // Links to links end somewhere; more of them than files would be a circle.
    for _ in 0..files.len() {
        let alias = files
            .iter()
            .find(|file| file.spared == Some(Spared::Alias) && file.node.name == node && file.path == place);
        match alias.and_then(|alias| alias.link) {
            Some(link) => place = resolved(&place, link),
            None => break,
        }
    }
    place
}

/// Everything that could not be read and might have to be.
pub(super) fn faults(snapshot: &Snapshot) -> Vec<Fault<'_>> {
    let mut faults = Vec::new();
    for (node, artifact) in snapshot.artifacts().filter(|(_, artifact)| !is_personal(&artifact.path)) {
        let fault = |part: String, reason: String| Fault {
            node: &node.name,
            path: format!("{}{part}", artifact.path.display()),
            name: name(artifact),
            kind: artifact.part.map(|part| part.entry.kind),
            reason,
            is_replaceable: artifact.part.is_some_and(|part| part.is_key) && artifact.content().is_some(),
        };
        match &artifact.state {
            State::Missing { .. } => {}
            State::Unreadable(reason) => faults.push(fault(String::new(), reason.clone())),
            State::Read(content) => match &content.kubeconfig {
                Some(Err(reason)) => faults.push(fault(String::new(), reason.clone())),
                Some(Ok(kubeconfig)) => faults.extend(kubeconfig_faults(kubeconfig, &fault)),
                None => {
                    faults.extend(
                        held(node, artifact, true).and_then(|held| held.damage()).map(|it| fault(String::new(), it)),
                    );
                }
            },
        }
    }
    faults
}

fn kubeconfig_faults<'a>(kubeconfig: &'a Kubeconfig, fault: &impl Fn(String, String) -> Fault<'a>) -> Vec<Fault<'a>> {
    let mut faults = Vec::new();
    let clusters = kubeconfig.clusters.iter().map(|cluster| (format!("#cluster/{}", cluster.name), &cluster.authority));
    let users = kubeconfig
        .users
        .iter()
        .flat_map(|user| [&user.certificate, &user.key].map(|material| (format!("#user/{}", user.name), material)));
    for (part, material) in clusters.chain(users) {
        match &material.content {
            Some(Err(reason)) => faults.push(fault(part, reason.clone())),
            Some(Ok(content)) => {
                if let Some(error) = content.found_certificates.iter().find_map(|found| found.as_ref().err()) {
                    faults.push(fault(part, format!("a certificate in it is damaged: {error}")));
                } else if content.damaged_blocks > 0 {
                    faults.push(fault(part, "a PEM block in it is damaged".to_owned()));
                }
            }
            None => {}
        }
    }
    faults
}

/// What an artifact is called in `--only` and in results.
pub(super) fn name(artifact: &Artifact) -> String {
    match artifact.id() {
        Some(id) => id.to_owned(),
        None => file_name(&artifact.path),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Kubeconfigs in home folders: kubectl's `~/.kube`.
fn is_personal(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with(".kube"))
}

/// Where a link at `path` leads, without looking at other links on the way.
pub(super) fn resolved(path: &Path, link: &Path) -> PathBuf {
    let mut target = PathBuf::new();
    for part in path.parent().unwrap_or(Path::new("/")).join(link).components() {
        match part {
            Component::ParentDir => drop(target.pop()),
            Component::CurDir => {}
            other => target.push(other),
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_against_their_own_folder() {
        let resolve = |path: &str, link: &str| resolved(Path::new(path), Path::new(link)).display().to_string();
        assert_eq!(resolve("/etc/pki/a.crt", "../other/./b.crt"), "/etc/other/b.crt");
        assert_eq!(resolve("/etc/pki/a.crt", "/srv/b.crt"), "/srv/b.crt");
        assert_eq!(resolve("/a.crt", "../../b.crt"), "/b.crt");
    }

    #[test]
    fn only_kubectls_own_folder_is_personal() {
        assert!(is_personal(Path::new("/root/.kube/config")));
        assert!(!is_personal(Path::new("/home/ops/pki/admin.conf")));
    }
}

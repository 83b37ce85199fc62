//! How components that read their files only once are made to read them again: which files, which commands.
//!
//! A static pod is restarted by a change of its manifest, which is a file like the others: staged, saved, journalled,
//! taken back. Services and commands of the operator's are run when the files before them are in place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::blueprint::{Blueprint, FileContent, PlannedFile};
use super::operation::FileAction;
use crate::pki::manifest::{RESTARTED_AT, annotated};

/// What kind of thing the components of a control plane are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Static pods of the kubelet.
    #[default]
    StaticPod,
    /// systemd units of the component's name.
    Systemd,
    /// Whatever these shell commands restart, by component.
    Command(BTreeMap<String, String>),
}

/// How a cluster's components are restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Means {
    /// For the control plane.
    pub strategy: Strategy,
    /// Shell command for the kubelet.
    pub kubelet: String,
}

impl Default for Means {
    fn default() -> Self {
        Self { strategy: Strategy::StaticPod, kubelet: "systemctl restart kubelet".to_owned() }
    }
}

/// A static pod's manifest as found on a node.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The node's name.
    pub node: String,
    /// The component, as `kube-apiserver`.
    pub component: String,
    /// Absolute path on the node.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
}

/// The command that restarts `component` on a node, where one does; `None` for static pods.
pub fn command(means: &Means, component: &str) -> Option<String> {
    match (component, &means.strategy) {
        ("kubelet", _) => Some(means.kubelet.clone()),
        ("k3s" | "rke2-server", _) | (_, Strategy::Systemd) => Some(format!("systemctl restart {component}")),
        (_, Strategy::Command(commands)) => commands.get(component).cloned(),
        (_, Strategy::StaticPod) => None,
    }
}

/// Adds to the files of every node the manifests of the static pods that must start anew. `stamp` is what their
/// annotation says from then on; plain text. Components that cannot be restarted by these means are taken out of the
/// node's list of restarts and returned with their node and the reason, for people to restart.
pub fn arrange(
    blueprint: &mut Blueprint,
    means: &Means,
    manifests: &[Manifest],
    stamp: &str,
) -> Vec<(String, String, String)> {
    let mut left = Vec::new();
    for node in &mut blueprint.nodes {
        for component in std::mem::take(&mut node.restarts) {
            let manifest = manifests.iter().find(|one| one.node == node.node && one.component == component);
            match start(means, &component, manifest, stamp) {
                Ok(file) => {
                    node.files.extend(file);
                    node.restarts.push(component);
                }
                Err(reason) => left.push((node.node.clone(), component, reason)),
            }
        }
    }
    left
}

/// What starts a component anew: its manifest with another annotation, or nothing where a command does that.
///
/// # Errors
/// In words, when these means cannot start it.
pub(super) fn start(
    means: &Means,
    component: &str,
    manifest: Option<&Manifest>,
    stamp: &str,
) -> Result<Option<PlannedFile>, String> {
    match (command(means, component), &means.strategy, manifest) {
        (Some(_), ..) => Ok(None),
        (None, Strategy::StaticPod, Some(manifest)) => restarted(manifest, stamp).map(Some),
        (None, Strategy::StaticPod, None) => Err("there is no manifest of a static pod for it".to_owned()),
        (None, ..) => Err("the cluster file has no command for it".to_owned()),
    }
}

/// The manifest of a static pod that starts anew; `stamp` is what its annotation says from then on.
///
/// # Errors
/// In words, when it is no manifest of a pod.
pub fn restarted(manifest: &Manifest, stamp: &str) -> Result<PlannedFile, String> {
    let text = annotated(&manifest.text, RESTARTED_AT, stamp)
        .map_err(|reason| format!("{}: {reason}", manifest.path.display()))?;
    Ok(PlannedFile {
        path: manifest.path.clone(),
        step: 0,
        name: format!("{}.yaml", manifest.component),
        action: FileAction::Replaced,
        content: Some(FileContent::Manifest(text)),
        mode: 0o600,
        seen: Some(manifest.sha256.clone()),
        old_serial_number: None,
        not_after: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::blueprint::NodeBlueprint;
    use super::*;

    fn blueprint(restarts: &[&str]) -> Blueprint {
        let restarts = restarts.iter().map(|name| (*name).to_owned()).collect();
        let node = NodeBlueprint { node: "cp1".to_owned(), files: Vec::new(), restarts, steps: Vec::new() };
        Blueprint { nodes: vec![node], ..Blueprint::default() }
    }

    fn manifest(text: &str) -> Manifest {
        Manifest {
            node: "cp1".to_owned(),
            component: "kube-scheduler".to_owned(),
            path: "/etc/kubernetes/manifests/kube-scheduler.yaml".into(),
            text: text.to_owned(),
            sha256: "00".to_owned(),
        }
    }

    #[test]
    fn a_static_pod_is_restarted_by_its_manifest_and_the_kubelet_by_its_command() {
        let mut blueprint = blueprint(&["kube-scheduler", "kubelet"]);
        let found = [manifest("kind: Pod\nmetadata:\n  name: x\n")];
        assert!(arrange(&mut blueprint, &Means::default(), &found, "T1").is_empty());
        let node = &blueprint.nodes[0];
        assert_eq!(node.restarts, ["kube-scheduler", "kubelet"]);
        let Some(FileContent::Manifest(text)) = &node.files[0].content else { panic!("{:?}", node.files) };
        assert!(text.contains("kubepki.io/restarted-at: \"T1\""), "{text}");
        assert_eq!(command(&Means::default(), "kubelet").as_deref(), Some("systemctl restart kubelet"));
    }

    #[test]
    fn what_cannot_be_restarted_is_left_to_people_with_the_reason() {
        let mut plan = blueprint(&["kube-scheduler", "etcd"]);
        let left = arrange(&mut plan, &Means::default(), &[manifest("kind: Job\n")], "T1");
        assert_eq!(
            left.iter().map(|(_, component, _)| component.as_str()).collect::<Vec<_>>(),
            ["kube-scheduler", "etcd"]
        );
        assert!(left[0].2.contains("Job") && left[1].2.contains("no manifest"), "{left:?}");
        let mut plan = blueprint(&["etcd", "kube-scheduler"]);
        let commands = BTreeMap::from([("etcd".to_owned(), "rc-service etcd restart".to_owned())]);
        let means = Means { strategy: Strategy::Command(commands), ..Means::default() };
        let left = arrange(&mut plan, &means, &[], "T1");
        assert_eq!((plan.nodes[0].restarts.as_slice(), left.len()), (&["etcd".to_owned()][..], 1));
        assert!(plan.nodes[0].files.is_empty());
        let systemd = Means { strategy: Strategy::Systemd, ..Means::default() };
        assert_eq!(command(&systemd, "etcd").as_deref(), Some("systemctl restart etcd"));
    }
}

//! A repair of a cluster that does not live, laid out over rounds: no node can be well before all of them are.
//!
//! First the files of all nodes and their kubelets, which start everything else and need no API; then etcd everywhere,
//! then the API servers, then whoever asks those. What is proven is proven of the whole, when a round is over everywhere.

use super::super::blueprint::{Blueprint, PlannedFile};
use super::super::phase::{Phase, Step};
use super::super::restart::{Manifest, Means, start};

/// What is started in which round.
const ROUNDS: [(Phase, &[&str]); 4] = [
    (Phase::Mend, &["kubelet"]),
    (Phase::StartEtcd, &["etcd"]),
    (Phase::StartServers, &["kube-apiserver"]),
    (Phase::StartRest, &["kube-controller-manager", "kube-scheduler"]),
];

/// Gives a plan its rounds. What cannot be started anew is returned, with its node and the reason, for people.
pub fn arrange(
    blueprint: &mut Blueprint,
    means: &Means,
    manifests: &[Manifest],
    stamp: &str,
) -> Vec<(String, String, String)> {
    let mut left = Vec::new();
    for node in &mut blueprint.nodes {
        let wanted = std::mem::take(&mut node.restarts);
        for (phase, components) in ROUNDS {
            let at = node.steps.len();
            let mut step = Step { phase, ..Step::default() };
            let mut files: Vec<PlannedFile> = Vec::new();
            for component in components.iter().filter(|component| wanted.iter().any(|one| one == *component)) {
                let manifest = manifests.iter().find(|one| one.node == node.node && one.component == *component);
                match start(means, component, manifest, stamp) {
                    Ok(file) => {
                        files.extend(file.map(|file| PlannedFile { step: at, ..file }));
                        step.restarts.push((*component).to_owned());
                    }
                    Err(reason) => left.push((node.node.clone(), (*component).to_owned(), reason)),
                }
            }
            if phase == Phase::Mend && !node.files.is_empty() || !step.restarts.is_empty() {
                node.files.extend(files);
                node.restarts.extend(step.restarts.iter().cloned());
                node.steps.push(step);
            }
        }
    }
    left
}

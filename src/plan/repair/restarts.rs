//! What has to be started anew because of changed files, or because it holds something old.

use super::Design;
use crate::plan::blueprint::{Blueprint, NodeBlueprint};
use crate::plan::operation::FileAction;
use crate::plan::rotate::consequences::{READ_ONCE, restart};
use crate::snapshot::NodeSnapshot;

/// The components of a node that are started anew, in the order of their dependence; `own` are asked for by themselves.
pub(super) fn of(plan: &NodeBlueprint, node: &NodeSnapshot, designs: &[Design], own: &[&str]) -> Vec<String> {
    let design = designs.iter().find(|design| design.node == node.name);
    let runs = |component: &str| {
        let file = match component {
            "etcd" => "etcd-server",
            "kube-apiserver" => "apiserver",
            "kube-controller-manager" => "controller-manager.conf",
            "kube-scheduler" => "scheduler.conf",
            _ => return design.is_some_and(|design| design.kubelet_dir.is_some()),
        };
        design.is_some_and(|design| design.pods.iter().any(|pod| pod == component)) || node.entry(file).is_some()
    };
    let is_changed =
        |name: &str| plan.files.iter().any(|file| file.action != FileAction::Unchanged && file.name == name);
    READ_ONCE
        .iter()
        .filter(|(component, files)| {
            own.contains(component) || files.iter().any(|file| is_changed(file)) && runs(component)
        })
        .map(|(component, _)| (*component).to_owned())
        .collect()
}

/// What people have to restart where this program does not.
pub(super) fn by_hand(blueprint: &Blueprint) -> Vec<String> {
    let several = blueprint.nodes.len() > 1;
    let steps = blueprint.nodes.iter().filter_map(|node| {
        let step = restart(&node.restarts)?;
        Some(if several { format!("on {}: {step}", node.node) } else { step })
    });
    steps.collect()
}

//! How a repair goes over the nodes: one after another while the others carry the cluster, or all together when they do not.

use super::sight::Sight;
use crate::cli::live;
use crate::cli::session::Session;
use crate::pki::layout::Role;
use crate::plan::blueprint::{Blueprint, NodeBlueprint};
use crate::plan::repair::{Repair, together};
use crate::plan::restart::{arrange, command};
use crate::plan::rounds::{self, Setting};

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// Only files; nothing runs.
    Files,
    /// Node after node, each proven well before the next one.
    Rolling,
    /// All files first, then everything is started, then the whole is proven.
    Together,
}

impl Course {
    /// A node can be proven well by itself while everything else is well, and while the kubelets live that start its components.
    pub(super) fn choose(session: &Session, sight: &Sight, repair: &Repair) -> Self {
        let faults = live::unwell(session, &sight.target, &sight.manifests);
        for (node, words) in &faults {
            session.ui.step(&format!("{node}: {words}"));
        }
        let needs_kubelet = |node: &&NodeBlueprint| {
            let restarts = |component: &str| node.restarts.iter().any(|one| one == component);
            restarts("kubelet") && sight.rulers().any(|ruler| ruler.node.name() == node.node)
        };
        let is_well = faults.is_empty() && !sight.lost_ruler;
        if is_well && !repair.blueprint.nodes.iter().any(|node| needs_kubelet(&node)) {
            Self::Rolling
        } else {
            Self::Together
        }
    }

    /// Lays the plan out. What cannot be started anew is returned, with its node and the reason.
    ///
    /// # Errors
    /// When components cannot be led through the steps.
    pub(super) fn arrange(
        self,
        sight: &Sight,
        blueprint: &mut Blueprint,
        stamp: &str,
    ) -> anyhow::Result<Vec<(String, String, String)>> {
        match self {
            Self::Files => Ok(Vec::new()),
            Self::Together => Ok(together::arrange(blueprint, &sight.means, &sight.manifests, stamp)),
            Self::Rolling => {
                let roles: Vec<(String, Role)> =
                    sight.target.nodes.iter().map(|node| (node.node.name().to_owned(), node.role)).collect();
                let setting = Setting { roles: &roles, means: &sight.means, manifests: &sight.manifests, stamp };
                let mut left = without_means(sight, blueprint);
                if rounds::needs_steps(blueprint, &setting) {
                    rounds::in_steps(blueprint, &setting)?;
                } else {
                    left.extend(arrange(blueprint, &sight.means, &sight.manifests, stamp));
                }
                Ok(left)
            }
        }
    }

    /// Restarts on nodes of which no file changes, so that no journal is needed there: node and component.
    pub(super) fn lonely(self, blueprint: &Blueprint) -> Vec<(String, String)> {
        if self == Self::Files {
            return Vec::new();
        }
        let idle = blueprint.nodes.iter().filter(|node| node.files.is_empty());
        idle.flat_map(|node| node.restarts.iter().map(|component| (node.node.clone(), component.clone()))).collect()
    }
}

/// Takes out of the plan what nobody can start anew on its node, and returns it: files are no worse for that.
fn without_means(sight: &Sight, blueprint: &mut Blueprint) -> Vec<(String, String, String)> {
    let mut left = Vec::new();
    for node in &mut blueprint.nodes {
        let name = node.node.clone();
        node.restarts.retain(|component| {
            let is_pod = sight.manifests.iter().any(|one| one.node == name && one.component == *component);
            let can_be = is_pod || command(&sight.means, component).is_some();
            if !can_be {
                let reason = "there is no manifest of a static pod for it, and the cluster file has no command";
                left.push((name.clone(), component.clone(), reason.to_owned()));
            }
            can_be
        });
    }
    left
}

/// The command that restarts a component on a node, if it is one.
pub(super) fn command_for(sight: &Sight, component: &str) -> Option<String> {
    command(&sight.means, component)
}

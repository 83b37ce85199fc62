//! The one question before a rotation: what is replaced, on how many nodes, at what cost.

use crate::plan::blueprint::{Basis, Blueprint, KeySource};
use crate::plan::operation::FileAction;
use crate::report::text::counted;

/// What is replaced, on how many nodes, and what that costs.
pub(super) fn question(blueprint: &Blueprint, restarts_itself: bool) -> String {
    let (mut authorities, mut leaves) = (Vec::new(), 0);
    let mut keys: Vec<&str> = Vec::new();
    for plan in &blueprint.certificates {
        match &plan.basis {
            // The same key certified by the old one as well is no other authority.
            Basis::Renewal { old, .. } if old.is_ca() && keys.contains(&plan.key.as_str()) => {}
            Basis::Renewal { old, .. } if old.is_ca() => {
                keys.push(&plan.key);
                authorities.push(plan.id.as_str());
            }
            _ => leaves += 1,
        }
    }
    let is_certified = |id: &str| blueprint.certificates.iter().any(|plan| plan.key == id);
    let new = blueprint.keys.iter().filter(|key| matches!(key.source, KeySource::New(_)));
    let token_keys: Vec<&str> = new.map(|key| key.id.as_str()).filter(|id| !is_certified(id)).collect();
    let mut what: Vec<String> = Vec::new();
    if !authorities.is_empty() {
        let word = if authorities.len() == 1 { "the authority" } else { "the authorities" };
        what.push(format!("{word} {}", authorities.join(", ")));
    }
    if !token_keys.is_empty() {
        what.push(format!("the service-account keys {}", token_keys.join(", ")));
    }
    if leaves > 0 {
        what.push(counted(leaves, "certificate"));
    }
    let is_changed = |action| action != FileAction::Unchanged;
    let nodes = blueprint.nodes.iter().filter(|node| node.files.iter().any(|file| is_changed(file.action)));
    let files = counted(blueprint.ends().count(), "file");
    let restarts = blueprint.nodes.iter().any(|node| !node.restarts.is_empty());
    let cost = match (restarts, authorities.is_empty()) {
        (true, _) if restarts_itself => " Components are restarted, one node after another.",
        (true, false) => " The components have to be restarted afterwards, and the API is away until they are.",
        (true, true) => " Some components have to be restarted afterwards.",
        (false, _) => "",
    };
    format!(
        "Replace {} ({files} on {}), with a backup of each?{cost}",
        what.join(" and "),
        counted(nodes.count(), "node")
    )
}

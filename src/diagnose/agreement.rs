//! Do the nodes of a cluster agree: on the CAs they trust, on the keys that sign tokens, on the time?
//!
//! What most control-plane nodes have is the measure; the finding stands at the node that has something else.

use super::case::Case;
use crate::snapshot::NodeSnapshot;

mod clocks;
mod service_accounts;
mod trust;

pub(super) fn check(case: &mut Case<'_, '_>) {
    clocks::check(case);
    if case.snapshot.nodes.len() > 1 {
        trust::check(case);
        service_accounts::check(case);
    }
}

/// Nodes, by their position in the snapshot, that have the same of something.
#[derive(Debug)]
struct Camp<T> {
    nodes: Vec<usize>,
    has: T,
}

/// Who has the same; those that the others are measured by come first. `known` says what each node has.
fn camps<T: PartialEq>(nodes: &[NodeSnapshot], known: impl Iterator<Item = (usize, T)>) -> Vec<Camp<T>> {
    let mut camps: Vec<Camp<T>> = Vec::new();
    for (node, has) in known {
        match camps.iter_mut().find(|camp| camp.has == has) {
            Some(camp) => camp.nodes.push(node),
            None => camps.push(Camp { nodes: vec![node], has }),
        }
    }
    // Many workers do not outvote the nodes that issue certificates; among equals the cluster file's order decides.
    let weight = |camp: &Camp<T>| {
        let ruling = camp.nodes.iter().filter(|node| is_control_plane(&nodes[**node])).count();
        (std::cmp::Reverse(ruling), std::cmp::Reverse(camp.nodes.len()))
    };
    camps.sort_by_key(weight);
    camps
}

fn is_control_plane(node: &NodeSnapshot) -> bool {
    ["apiserver", "serving-kube-apiserver"].iter().any(|id| node.certificate(id).is_some())
}

/// `node cp1`, or `nodes cp1, cp2 and 3 more`.
fn names(case: &Case<'_, '_>, nodes: &[usize]) -> String {
    let name = |node: &usize| case.snapshot.nodes[*node].name.as_str();
    match nodes {
        [one] => format!("node {}", name(one)),
        several if several.len() <= 3 => {
            let names: Vec<&str> = several.iter().map(name).collect();
            format!("nodes {}", names.join(", "))
        }
        many => format!("nodes {}, {} and {} more", name(&many[0]), name(&many[1]), many.len() - 2),
    }
}

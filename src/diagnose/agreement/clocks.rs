//! Clocks: each beside this machine's, and all beside each other.

use crate::diagnose::case::Case;
use crate::diagnose::finding::FindingId;

/// Seconds by which a node's clock may be wrong: certificates are backdated by as much (kubeadm, `CertificateBackdate`).
const TOLERANCE: i64 = 300;

/// What to do about a wrong clock.
const REMEDY: &str = "timedatectl set-ntp true, on that node";

pub(super) fn check(case: &mut Case<'_, '_>) {
    let told = case.snapshot.nodes.iter().enumerate();
    let skews: Vec<(usize, i64)> =
        told.filter_map(|(node, found)| Some((node, found.facts.as_ref()?.clock_skew.whole_seconds()))).collect();
    // This machine's own clock has a vote like any other.
    let mut sorted: Vec<i64> = skews.iter().map(|(_, skew)| *skew).chain([0]).collect();
    sorted.sort_unstable();
    let middle = sorted[sorted.len() / 2];
    for (node, skew) in skews {
        let Some(row) = case.rows.iter().position(|row| row.node == node) else { continue };
        let name = case.rows[row].node_name;
        let direction = |seconds: i64| if seconds > 0 { "ahead of" } else { "behind" };
        if skew.abs() > TOLERANCE {
            let message =
                format!("the clock of node {name} is {} seconds {} this machine's", skew.abs(), direction(skew));
            case.add(row, FindingId::ClockSkew, message, REMEDY);
        } else if (skew - middle).abs() > TOLERANCE {
            let apart = skew - middle;
            let message =
                format!("the clock of node {name} is {} seconds {} most others", apart.abs(), direction(apart));
            case.add(row, FindingId::ClockSkew, message, REMEDY);
        }
    }
}

//! Do the nodes of a cluster agree: on the CAs they trust, on the keys that sign tokens, on the time?

use super::case::Case;
use super::finding::FindingId;
use super::row::Member;
use crate::pki::catalog::{Catalog, Kind};
use crate::snapshot::NodeSnapshot;

/// Seconds by which a node's clock may be wrong: certificates are backdated by as much (kubeadm, `CertificateBackdate`).
const CLOCK_TOLERANCE: i64 = 300;

pub(super) fn check(case: &mut Case<'_, '_>) {
    clocks(case);
    bundles(case);
    service_accounts(case);
}

fn clocks(case: &mut Case<'_, '_>) {
    for node in 0..case.snapshot.nodes.len() {
        let skew = case.snapshot.nodes[node].facts.as_ref().map_or(0, |facts| facts.clock_skew.whole_seconds());
        let Some(row) = case.rows.iter().position(|row| row.node == node) else { continue };
        if skew.abs() > CLOCK_TOLERANCE {
            let direction = if skew > 0 { "ahead" } else { "behind" };
            let message =
                format!("the clock of node {} is {} seconds {direction}", case.rows[row].node_name, skew.abs());
            case.add(row, FindingId::ClockSkew, message, "timedatectl set-ntp true, on that node");
        }
    }
}

/// Every authority's file holds the same certificates on all nodes that have it.
fn bundles(case: &mut Case<'_, '_>) {
    if case.snapshot.nodes.len() < 2 {
        return;
    }
    let authorities = Catalog::Kubeadm.entries().iter().filter(|entry| entry.kind == Kind::Authority);
    for entry in authorities {
        let members = |node: &NodeSnapshot| {
            let content = node.entry(entry.id)?.content()?;
            let mut members: Vec<Vec<u8>> = content.certificates().map(|one| one.der().to_vec()).collect();
            members.sort();
            (!members.is_empty()).then_some(members)
        };
        let known: Vec<(usize, Vec<Vec<u8>>)> =
            case.snapshot.nodes.iter().enumerate().filter_map(|(index, node)| Some((index, members(node)?))).collect();
        let Some((first, reference)) = known.first().cloned() else { continue };
        for (node, found) in known.iter().filter(|(_, found)| *found != reference) {
            let place = |row: &super::Row<'_>| row.node == *node && row.id() == Some(entry.id) && row.is_first();
            let Some(row) = case.rows.iter().position(place) else { continue };
            let message = format!(
                "{} CAs are trusted here, {} on node {}, and they are not the same",
                found.len(),
                reference.len(),
                case.snapshot.nodes[first].name
            );
            let remedy = case.command("rotate-certs --continue");
            case.add(row, FindingId::BundleDisagrees, message, remedy);
        }
    }
}

/// Tokens signed on one control-plane node must be good on all.
fn service_accounts(case: &mut Case<'_, '_>) {
    let key = |node: &NodeSnapshot| {
        let content = node.key_of("sa")?.content()?;
        Some(content.private_key.as_ref()?.as_ref().ok()?.public_key.clone())
    };
    let known: Vec<(usize, Vec<u8>)> =
        case.snapshot.nodes.iter().enumerate().filter_map(|(index, node)| Some((index, key(node)?))).collect();
    let Some((first, reference)) = known.first().cloned() else { return };
    for (node, _) in known.iter().filter(|(_, found)| *found != reference) {
        let place = |row: &super::Row<'_>| row.node == *node && row.id() == Some("sa") && row.member == Member::Keys;
        let Some(row) = case.rows.iter().position(place) else { continue };
        let message = format!("tokens are signed with another key than on node {}", case.snapshot.nodes[first].name);
        let remedy = case.command("rotate-certs --only sa");
        case.add(row, FindingId::ServiceAccountDisagrees, message, remedy);
    }
}

//! The CAs that each node trusts: in the files of its authorities, and inside its kubeconfigs.
//!
//! Two nodes with nothing in common refuse each other. Nodes of which one trusts more than the other are on the way from
//! one CA to the next.

use super::{Camp, camps, names};
use crate::diagnose::case::Case;
use crate::diagnose::finding::FindingId;
use crate::diagnose::row::{Member, Row};
use crate::pki::catalog::{Catalog, Kind};
use crate::pki::certificate::Certificate;
use crate::snapshot::{Artifact, NodeSnapshot};

/// The CAs somewhere, sorted, each once.
type Trusted<'a> = Vec<&'a Certificate>;

pub(super) fn check(case: &mut Case<'_, '_>) {
    for catalog in Catalog::ALL {
        for entry in catalog.entries().iter().filter(|entry| matches!(entry.kind, Kind::Authority | Kind::Kubeconfig)) {
            let known = case.snapshot.nodes.iter().enumerate().filter_map(|(index, node)| {
                let trusted = trusted(file(node, catalog, entry.id)?);
                (!trusted.is_empty()).then_some((index, trusted))
            });
            let camps = camps(&case.snapshot.nodes, known);
            let Some((measure, others)) = camps.split_first() else { continue };
            for (camp, node) in others.iter().flat_map(|camp| camp.nodes.iter().map(move |node| (camp, *node))) {
                let is_place = |row: &Row<'_>| {
                    row.node == node
                        && row.artifact.part.is_some_and(|part| part.catalog == catalog && !part.is_key)
                        && row.id() == Some(entry.id)
                        && matches!(row.member, Member::Certificate(0) | Member::Cluster(_, 0))
                };
                let Some(row) = case.rows.iter().position(is_place) else { continue };
                if entry.kind == Kind::Authority {
                    authority(case, row, camp, measure);
                } else {
                    kubeconfig(case, row, camp, measure);
                }
            }
        }
    }
}

fn file<'a>(node: &'a NodeSnapshot, catalog: Catalog, id: &str) -> Option<&'a Artifact> {
    let is_it =
        |file: &&Artifact| file.part.is_some_and(|part| part.catalog == catalog && part.entry.id == id && !part.is_key);
    node.artifacts.iter().find(is_it)
}

fn trusted(file: &Artifact) -> Trusted<'_> {
    let Some(content) = file.content() else { return Vec::new() };
    let mut trusted: Trusted<'_> = match &content.kubeconfig {
        Some(Ok(kubeconfig)) => {
            kubeconfig.clusters.iter().flat_map(|cluster| cluster.authority.certificates()).collect()
        }
        Some(Err(_)) => Vec::new(),
        None => content.certificates().collect(),
    };
    trusted.sort_by_key(|one| one.der());
    trusted.dedup();
    trusted
}

/// Whether what one issued is good to whoever trusts the other: the same name and key, be it renewed or not.
fn serves(one: &Certificate, other: &Certificate) -> bool {
    one == other || one.subject().der() == other.subject().der() && one.certifies(other.public_key())
}

fn have_one_in_common(one: &[&Certificate], other: &[&Certificate]) -> bool {
    one.iter().any(|mine| other.iter().any(|theirs| serves(mine, theirs)))
}

fn authority<'c>(case: &mut Case<'_, '_>, row: usize, here: &Camp<Trusted<'c>>, measure: &Camp<Trusted<'c>>) {
    if have_one_in_common(&here.has, &measure.has) {
        return bundle(case, row, here, measure);
    }
    let (there, path) = (names(case, &measure.nodes), case.rows[row].artifact.path.display().to_string());
    let message = format!(
        "this is another CA ({}) than {path} on {there} ({}): what one issues, the other refuses",
        serials(&here.has),
        serials(&measure.has),
    );
    let source = &case.snapshot.nodes[measure.nodes[0]].name;
    let renew = case.command(&format!("rotate-certs --only leaf --node {}", case.rows[row].node_name));
    let remedy = format!("if node {source} is right, copy {path} and its key from there, then {renew}");
    case.add(row, FindingId::AuthorityDisagrees, message, remedy);
}

/// One file trusts CAs that the other does not.
fn bundle<'c>(case: &mut Case<'_, '_>, row: usize, here: &Camp<Trusted<'c>>, measure: &Camp<Trusted<'c>>) {
    let there = names(case, &measure.nodes);
    let path = case.rows[row].artifact.path.display();
    let without = |all: &[&'c Certificate], known: &[&'c Certificate]| -> Trusted<'c> {
        all.iter().filter(|one| !known.contains(one)).copied().collect()
    };
    let (lacking, extra) = (without(&measure.has, &here.has), without(&here.has, &measure.has));
    let message = match (lacking.as_slice(), extra.as_slice()) {
        (lacking, []) => format!("the CA {} is not trusted here, but in {path} on {there}", serials(lacking)),
        ([], extra) => format!("the CA {} is trusted here, but not in {path} on {there}", serials(extra)),
        (lacking, extra) => {
            format!("the CA {} is trusted here, but {} in {path} on {there}", serials(extra), serials(lacking))
        }
    };
    let remedy = case.command("rotate-certs --continue");
    case.add(row, FindingId::BundleDisagrees, message, remedy);
}

/// The rule for kubeconfigs looks at the `ca.crt` beside them. Only what that cannot see is said here.
fn kubeconfig<'c>(case: &mut Case<'_, '_>, row: usize, here: &Camp<Trusted<'c>>, measure: &Camp<Trusted<'c>>) {
    if have_one_in_common(&here.has, &measure.has) {
        return bundle(case, row, here, measure);
    }
    if case.node(row).certificate("ca").is_some() {
        return;
    }
    let (there, path) = (names(case, &measure.nodes), case.rows[row].artifact.path.display());
    let message =
        format!("it trusts another CA ({}) than {path} on {there} ({})", serials(&here.has), serials(&measure.has));
    let id = case.rows[row].id().unwrap_or_default();
    let remedy = case.command(&format!("rotate-certs --only {id}"));
    case.add(row, FindingId::ClusterTrustStale, message, remedy);
}

/// `serial number 1a2b`, and how many more.
fn serials(certificates: &[&Certificate]) -> String {
    match certificates {
        [] => "none".to_owned(),
        [one] => format!("serial number {}", one.serial()),
        [first, more @ ..] => format!("serial number {} and {} more", first.serial(), more.len()),
    }
}

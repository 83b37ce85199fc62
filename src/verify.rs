//! Was the promise kept: what a plan was to write is there, fits its key, and is signed by an authority that is there.
//!
//! Compares a new snapshot with the blueprint, and its diagnosis with the one before; nothing is repaired here.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use crate::diagnose::{Diagnosis, FindingId, Severity};
use crate::pki::certificate::Certificate;
use crate::pki::chain::{self, Signature};
use crate::plan::blueprint::{Blueprint, CertificatePlan, CertificateRef, FileContent, KubeconfigPlan, PlannedFile};
use crate::plan::operation::FileAction;
use crate::snapshot::{Artifact, Content, Places, Snapshot};

/// Everything that is not as `blueprint` promised, in words; nothing when all is well.
///
/// Files that the snapshot does not look at are not judged.
pub fn broken_promises(blueprint: &Blueprint, snapshot: &Snapshot) -> Vec<String> {
    let authorities: Vec<&Certificate> = snapshot
        .artifacts()
        .filter_map(|(_, artifact)| artifact.content())
        .flat_map(Content::certificates)
        .filter(|certificate| certificate.is_ca())
        .collect();
    let places: HashMap<&str, Places<'_>> =
        snapshot.nodes.iter().map(|node| (node.name.as_str(), node.places())).collect();
    let mut broken = Vec::new();
    for (plan, file) in blueprint.ends() {
        let Some(there) = places.get(plan.node.as_str()) else { continue };
        let words = |what: String| format!("node {}: {}: {what}", plan.node, file.path.display());
        match there.at(&file.path) {
            None => {}
            Some(artifact) if artifact.is_missing() && file.action != FileAction::Removed => {
                broken.push(words("it is not there".to_owned()));
            }
            Some(artifact) => {
                broken.extend(judge(blueprint, there, file, artifact, &authorities).into_iter().map(words));
            }
        }
    }
    broken
}

/// What works no longer: every row that is broken in `after` in a way in which it was not in `before`, with its file and a
/// sentence.
pub fn newly_broken(before: &Diagnosis<'_>, after: &Diagnosis<'_>) -> Vec<(PathBuf, String)> {
    let known: HashSet<(&str, &str, FindingId)> =
        before.findings().map(|(row, finding)| (row.node_name, row.path.as_str(), finding.id)).collect();
    after
        .findings()
        .filter(|(_, finding)| finding.severity() == Severity::Broken)
        .filter(|(row, finding)| !known.contains(&(row.node_name, row.path.as_str(), finding.id)))
        .map(|(row, finding)| {
            let words = format!("node {}: {}: {}", row.node_name, row.path, finding.message);
            (row.artifact.path.clone(), words)
        })
        .collect()
}

fn judge(
    blueprint: &Blueprint,
    there: &Places<'_>,
    file: &PlannedFile,
    artifact: &Artifact,
    authorities: &[&Certificate],
) -> Option<String> {
    let content = artifact.content()?;
    match file.content.as_ref()? {
        FileContent::Certificates(references) | FileContent::CertificatesAndKey(references, _) => {
            let certificate = content.certificates().next();
            let key = there.key_for(artifact).and_then(|(_, found)| found.as_ref().ok()).map(|key| &*key.public_key);
            leaf(blueprint, references.first()?, certificate, key, authorities)
        }
        FileContent::Der(reference) => leaf(blueprint, reference, content.certificates().next(), None, authorities),
        FileContent::Kubeconfig(KubeconfigPlan::Existing { clients, .. }) => {
            let kubeconfig = content.kubeconfig.as_ref()?.as_ref().ok()?;
            clients.iter().find_map(|(name, references, _)| {
                let user = kubeconfig.users.iter().find(|user| user.name == *name)?;
                let key = user.key.key().map(|key| &*key.public_key);
                leaf(blueprint, references.first()?, user.certificate.certificates().next(), key, authorities)
            })
        }
        FileContent::PrivateKey(_)
        | FileContent::PublicKeys(_)
        | FileContent::Request(_)
        | FileContent::Manifest(_)
        | FileContent::Bytes(_)
        | FileContent::Kubeconfig(KubeconfigPlan::New { .. } | KubeconfigPlan::OfKubelet { .. })
        | FileContent::Dressed { .. }
        | FileContent::RevocationList { .. }
        | FileContent::Link { .. } => None,
    }
}

/// What is wrong with a certificate that the blueprint was to issue.
fn leaf(
    blueprint: &Blueprint,
    reference: &CertificateRef,
    found: Option<&Certificate>,
    key: Option<&[u8]>,
    authorities: &[&Certificate],
) -> Option<String> {
    let CertificateRef::Planned(id) = reference else { return None };
    let plan: &CertificatePlan = blueprint.certificates.iter().find(|plan| plan.id == *id)?;
    let Some(found) = found else { return Some("there is no certificate in it".to_owned()) };
    if found.not_after() != plan.not_after {
        return Some(format!("the certificate ends on {}, not on {}", found.not_after(), plan.not_after));
    }
    if key.is_some_and(|key| !found.certifies(key)) {
        return Some("the certificate and its private key do not belong together".to_owned());
    }
    let is_self_signed = found.is_self_issued() && chain::signature(found, found) == Signature::Good;
    match chain::find_issuer(found, authorities.iter().copied()) {
        _ if is_self_signed => None,
        Some((_, Signature::Good)) => None,
        _ => Some("no authority that is there has signed the certificate".to_owned()),
    }
}

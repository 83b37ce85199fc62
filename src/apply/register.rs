//! Writing down what is issued, before it is put in use: a certificate that nobody remembers cannot be revoked.
//!
//! The register is no part of a transaction. It only grows, whatever becomes of the operation: a certificate that was made
//! and not used does no harm in it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use time::OffsetDateTime;

use super::mint::Minted;
use crate::error::{Failure, passes};
use crate::node::{Content, Effect, FoundState, LockOwner, Node, Query};
use crate::pki::algorithm::KeyKind;
use crate::pki::layout::REGISTER;
use crate::pki::register::{Issued, Origin, Register};
use crate::plan::blueprint::{
    Blueprint, CertificatePlan, CertificateRef, FileContent, IssuerPlan, KubeconfigPlan, NodeBlueprint,
};

/// What one node gets of the certificates that were minted.
pub fn issued(blueprint: &Blueprint, node: &NodeBlueprint, minted: &Minted, now: OffsetDateTime) -> Vec<Issued> {
    let mut all = Vec::new();
    for file in &node.files {
        for reference in file.content.iter().flat_map(references) {
            let CertificateRef::Planned(id) = reference else { continue };
            let plan = blueprint.certificates.iter().find(|plan| plan.id == *id);
            let for_whom = format!("{}: {}: {}", blueprint.command, node.node, file.path.display());
            all.extend(plan.and_then(|plan| record(blueprint, plan, minted, &for_whom, now)));
        }
    }
    all
}

/// What the register keeps of a certificate that was minted; `None` for one that others are to sign.
pub fn record(
    blueprint: &Blueprint,
    plan: &CertificatePlan,
    minted: &Minted,
    for_whom: &str,
    now: OffsetDateTime,
) -> Option<Issued> {
    let certificate = minted.certificate(&plan.id).ok()?;
    let issuer_key: Option<KeyKind> = match &plan.issuer {
        IssuerPlan::Itself => Some(certificate.key_kind().clone()),
        IssuerPlan::Existing { certificate, .. } => Some(certificate.key_kind().clone()),
        IssuerPlan::Planned(id) => {
            let issuer = blueprint.certificates.iter().find(|plan| plan.id == *id);
            issuer.and_then(|issuer| minted.certificate(&issuer.id).ok()).map(|issuer| issuer.key_kind().clone())
        }
        IssuerPlan::Taken(taken) => taken.signer.clone(),
        IssuerPlan::External => None,
    };
    let origin = if matches!(plan.issuer, IssuerPlan::Taken(_)) { Origin::File } else { Origin::Issued };
    Some(Issued::of(certificate, issuer_key.as_ref(), origin, for_whom, now))
}

fn references(content: &FileContent) -> Vec<&CertificateRef> {
    match content {
        FileContent::Certificates(references) | FileContent::CertificatesAndKey(references, _) => {
            references.iter().collect()
        }
        FileContent::Der(reference) => vec![reference],
        FileContent::Kubeconfig(KubeconfigPlan::New { client: (references, _), .. }) => references.iter().collect(),
        FileContent::Kubeconfig(KubeconfigPlan::Existing { clients, .. }) => {
            clients.iter().flat_map(|(_, references, _)| references).collect()
        }
        FileContent::Dressed { content, .. } => content.as_deref().map(references).unwrap_or_default(),
        FileContent::Kubeconfig(KubeconfigPlan::OfKubelet { .. })
        | FileContent::PrivateKey(_)
        | FileContent::PublicKeys(_)
        | FileContent::Request(_)
        | FileContent::Manifest(_)
        | FileContent::Bytes(_)
        | FileContent::RevocationList { .. }
        | FileContent::Link { .. } => Vec::new(),
    }
}

/// For how long somebody else may be writing in the register.
const PATIENCE: Duration = Duration::from_secs(30);

/// Appends what is not in the register of a folder yet. It has a lock of its own, which is held for a moment only: whoever
/// changes a cluster for hours keeps nobody from issuing a credential.
///
/// # Errors
/// When the register cannot be read or written; it is as before then.
pub fn append(node: &dyn Node, records: &Path, new: &[Issued], owner: &LockOwner) -> anyhow::Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let parent = records.parent().unwrap_or(Path::new("/"));
    node.apply(&Effect::MakeDirectory { path: parent, mode: 0o755 })?;
    node.apply(&Effect::MakeDirectory { path: records, mode: 0o700 })?;
    let (lock, deadline) = (records.join("register.lock"), Instant::now() + PATIENCE);
    let _lock = loop {
        match node.lock(&lock, owner) {
            Ok(lock) => break lock,
            Err(error) if !passes(&error) || Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let path = records.join(REGISTER);
    let name = node.name();
    let old = match node.read(&[Query::File(path.clone())])?.into_iter().next().map(|found| found.state) {
        Some(FoundState::File(text)) => Register::read(&text),
        Some(FoundState::Missing) | None => Register::default(),
        Some(FoundState::Unreadable(reason)) => {
            return Err(Failure::failed(format!("{name}: {}: {reason}", path.display())).hint("run as root").into());
        }
        Some(FoundState::Directory | FoundState::Unread) => {
            return Err(Failure::failed(format!("{name}: {} is not a file", path.display()))
                .hint("move it away")
                .into());
        }
    };
    let Some(text) = old.with(new).map_err(|error| anyhow!(error))? else { return Ok(()) };
    node.apply(&Effect::Install { path: &path, content: Content::Bytes(&text), mode: 0o600, owner: None })
}

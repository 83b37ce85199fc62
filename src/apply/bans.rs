//! What must not be issued: no new certificate may be one that an entry of the ledger means.
//!
//! An entry with `notBefore` spares those whose validity begins at that moment or later. Certificates are back-dated by a few
//! minutes, so a new one could begin before the moment at which its elders were revoked: it begins later then.

use anyhow::Context as _;
use time::{Duration, OffsetDateTime};

use super::mint::Minted;
use crate::error::Failure;
use crate::node::{FoundState, Node, Query};
use crate::pki::certificate::Certificate;
use crate::pki::issue::Template;
use crate::pki::revocation::{Hit, Revocation, Traits, manifest, matching};
use crate::plan::blueprint::{Bans, CertificatePlan};

/// The template as it may be signed.
///
/// # Errors
/// Exit code 1 when an entry means the certificate whenever it begins, or every moment up to now.
pub(super) fn obey(
    plan: &CertificatePlan,
    template: Template,
    bans: &Bans,
    minted: &Minted,
) -> anyhow::Result<Template> {
    if bans.revocations.is_empty() {
        return Ok(template);
    }
    // Signed for a moment, only to be read as everybody else will read it.
    let trial = template.self_sign(minted.key(&plan.key)?).with_context(|| format!("preparing {}", plan.id))?;
    let traits = |not_before| Traits { serial: None, not_before, ..Traits::from(&trial) };
    let mut template = template;
    if let Some(moment) = matching::earliest(&bans.revocations, &traits(template.not_before)) {
        let moment = whole_second(moment);
        if moment > bans.now {
            let message = format!(
                "{}: a revocation means everything of the kind of {} that is issued before {moment}, which is still to come",
                plan.id,
                template.subject.text()
            );
            return Err(Failure::failed(message).hint("`kubepki revoke --list` shows it").into());
        }
        template.not_before = template.not_before.max(moment);
    }
    match matching::hit(&bans.revocations, &traits(template.not_before)) {
        None => Ok(template),
        Some(hit) => Err(refused(&format!("{}: {} cannot be issued", plan.id, template.subject.text()), &hit).into()),
    }
}

/// Whether a certificate that was signed elsewhere may be put in use.
///
/// # Errors
/// Exit code 1 when an entry means it.
pub(super) fn permit(plan: &CertificatePlan, certificate: &Certificate, bans: &Bans) -> anyhow::Result<()> {
    match matching::hit(&bans.revocations, &Traits::from(certificate)) {
        None => Ok(()),
        Some(hit) => {
            let what = format!(
                "{}: the signed certificate {} ({}) cannot be taken",
                plan.id,
                certificate.subject().text(),
                certificate.serial()
            );
            Err(refused(&what, &hit).into())
        }
    }
}

fn refused(what: &str, hit: &Hit<'_>) -> Failure {
    let name = &hit.revocation.name;
    Failure::failed(format!("{what}: {hit} means it"))
        .hint(format!("`kubepki revoke --delete {name}` takes that back; with a notBefore it would spare new ones"))
}

/// Certificates know no fractions: the first second that is not before the moment.
fn whole_second(moment: OffsetDateTime) -> OffsetDateTime {
    let whole = moment.replace_nanosecond(0).unwrap_or(moment);
    if whole < moment { whole + Duration::seconds(1) } else { whole }
}

/// The ledger in a folder of records; empty when there is none.
///
/// # Errors
/// When it is there and cannot be read: then nobody knows what must not be issued.
pub fn ledger(node: &dyn Node, records: &std::path::Path) -> anyhow::Result<Vec<Revocation>> {
    let path = records.join(crate::pki::layout::LEDGER);
    let refuse = |reason: String| {
        Failure::failed(format!(
            "{}: {}: {reason}; nothing is issued while nobody knows what is revoked",
            node.name(),
            path.display()
        ))
        .hint("correct it, or copy that of another control-plane node")
    };
    match node.read(&[Query::File(path.clone())])?.into_iter().next().map(|found| found.state) {
        Some(FoundState::File(text)) if text.iter().all(u8::is_ascii_whitespace) => Ok(Vec::new()),
        Some(FoundState::File(text)) => manifest::read(&text).map_err(|fault| refuse(fault.to_string()).into()),
        Some(FoundState::Missing) | None => Ok(Vec::new()),
        Some(FoundState::Unreadable(reason)) => Err(refuse(reason).into()),
        Some(FoundState::Directory | FoundState::Unread) => Err(refuse("it is not a file".to_owned()).into()),
    }
}

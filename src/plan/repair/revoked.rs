//! Entries of the ledger of revocations that mean every certificate of somebody, those to come included: making one again
//! would change nothing, so the repair stops there with the reason.

use time::OffsetDateTime;

use super::cases::{Case, Unit};
use crate::diagnose::FindingId;
use crate::pki::revocation::{Kind, Revocation, Traits, matching};
use crate::snapshot::Snapshot;

/// Who could not be made again, and because of which entries; `None` when nobody is hit for good.
pub(super) fn for_good(snapshot: &Snapshot, cases: &[Case<'_>]) -> Option<String> {
    let mut words: Vec<String> = Vec::new();
    // A process is only started anew.
    let made = cases.iter().filter(|case| !matches!(case.unit, Unit::Server(_) | Unit::Approval | Unit::Nobody));
    for row in made.flat_map(|case| &case.rows) {
        let is_revoked = row.findings.iter().any(|finding| finding.id == FindingId::CertificateRevoked);
        let Some(certificate) = row.certificate.filter(|_| is_revoked) else { continue };
        let traits = Traits::from(certificate);
        let hits = ledgers(snapshot).filter_map(|ledger| matching::hit(ledger, &traits));
        let is_for_good = |kind: &Kind| !matches!(kind, Kind::Serial(_));
        let mut lasting = hits.filter(|hit| hit.entry.not_before.is_none() && is_for_good(&hit.entry.kind));
        if let Some(hit) = lasting.next() {
            words.push(format!("{}: {} by {hit}", row.node_name, row.path));
        }
    }
    words.dedup();
    (!words.is_empty()).then(|| words.join("; "))
}

/// The earliest moment at which a certificate made at `now` may begin: certificates are dated back a little, and one that was
/// revoked up to a moment must not begin before that.
pub(super) fn earliest(snapshot: &Snapshot, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let entries = ledgers(snapshot).flatten().flat_map(|revocation| &revocation.entries);
    entries.filter_map(|entry| entry.not_before).filter(|moment| *moment <= now).max()
}

fn ledgers(snapshot: &Snapshot) -> impl Iterator<Item = &[Revocation]> {
    snapshot.nodes.iter().map(|node| node.records.ledger.revocations.as_slice())
}

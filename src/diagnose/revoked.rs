//! Has somebody taken it back? The ledgers of all nodes count for everything that was looked at.

use super::case::Case;
use super::finding::FindingId;
use crate::pki::revocation::{Kind, Revocation, Traits, matching};

pub(super) fn check(case: &mut Case<'_, '_>) {
    let snapshot = case.snapshot;
    let ledgers: Vec<&[Revocation]> =
        snapshot.nodes.iter().map(|node| node.records.ledger.revocations.as_slice()).collect();
    if ledgers.iter().all(|ledger| ledger.is_empty()) {
        return;
    }
    for row in 0..case.rows.len() {
        let Some(certificate) = case.rows[row].certificate else { continue };
        let traits = Traits::from(certificate);
        // A ledger is the same on every control-plane node; what one of them says first is enough.
        let Some(hit) = ledgers.iter().find_map(|ledger| matching::hit(ledger, &traits)) else { continue };
        let is_for_good = hit.entry.not_before.is_none() && !matches!(hit.entry.kind, Kind::Serial(_));
        let remedy = if is_for_good {
            // A new one would be revoked again.
            case.command(&format!("revoke --delete {}", hit.revocation.name))
        } else {
            case.renew(row)
        };
        case.add(row, FindingId::CertificateRevoked, format!("revoked by {hit}"), remedy);
    }
}

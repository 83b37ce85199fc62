//! The matches of a run as rows: what lies somewhere, and what only the registers know.

use time::OffsetDateTime;

use crate::diagnose::Row;
use crate::pki::revocation::Revocation;
use crate::plan::revoke::known::Known;
use crate::plan::revoke::result::MatchRow;

/// The rows that the named revocations mean, and what only the registers know.
pub(super) fn matches(
    rows: &[Row<'_>],
    known: &[Known],
    whole: &[Revocation],
    names: &[String],
    now: OffsetDateTime,
) -> Vec<MatchRow> {
    let by = |known: &Known| -> Option<(&Revocation, usize)> {
        let (name, place) = known.by.iter().find(|(name, _)| names.contains(name))?;
        Some((whole.iter().find(|revocation| revocation.name == *name)?, *place))
    };
    let mut matches = Vec::new();
    for row in rows {
        let Some(certificate) = row.certificate else { continue };
        let sha256 = certificate.fingerprint_hex();
        let found = known.iter().find(|known| known.issued.sha256 == sha256);
        if let Some(by) = found.and_then(by) {
            matches.push(MatchRow::of_row(row, certificate, by, now));
        }
    }
    for known in known.iter().filter(|known| known.certificate.is_none()) {
        if let Some(by) = by(known) {
            matches.push(MatchRow::of_register(&known.issued, by, now));
        }
    }
    matches
}

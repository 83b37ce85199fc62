//! Is its time over, about to be, or still to come? Does it outlive its issuer?

use time::{Duration, OffsetDateTime};

use super::case::Case;
use super::finding::FindingId;
use super::issuers::Issuance;
use super::row::Row;
use crate::pki::catalog::Keeper;
use crate::pki::lifetime::{self, Lifetime, Threshold, words as length};

/// The kubelet renews at a random point between 70 % and 90 % (client-go `certificate_manager.go`, `nextRotationDeadline`).
const KUBELET_DEADLINE: f64 = 90.0;

/// By how much a certificate may begin before it was issued and still have the lifetime it was given.
const BACKDATING: Duration = Duration::hours(1);

pub(super) fn check(case: &mut Case<'_, '_>) {
    for row in 0..case.rows.len() {
        validity(case, row);
        issuer(case, row);
    }
}

fn validity(case: &mut Case<'_, '_>, row: usize) {
    let Some(certificate) = case.rows[row].certificate else { return };
    let (policy, at) = (case.policy, case.policy.at);
    let (from, to) = (certificate.not_before(), certificate.not_after());
    let renew = case.renew(row);
    if at < from {
        let message = format!("valid only from {}, {} from now", utc(from), length(from - at));
        let remedy = "compare the clocks: `timedatectl` on this machine and where it was issued";
        case.add(row, FindingId::CertificateNotYetValid, message, remedy);
    } else if at > to {
        case.add(row, FindingId::CertificateExpired, format!("expired {} ago, on {}", length(at - to), utc(to)), renew);
    } else if critical(case, from, to) {
        let message = format!("expires in {}, on {}", length(to - at), utc(to));
        case.add(row, FindingId::CertificateCritical, message, renew);
    } else if case.rows[row].is_authority && !is_short_lived(case, from, to) {
        if policy.ca_warn.reached(from, to, at) {
            let message = format!("the CA expires in {}, on {}", length(to - at), utc(to));
            case.add(row, FindingId::AuthorityExpiring, message, renew);
        }
    } else if policy.warn.reached(from, to, at) {
        let used = lifetime::used_percent(from, to, at);
        let left = format!("{used:.0} % of its lifetime is used; it expires in {}, on {}", length(to - at), utc(to));
        if policy.warn_is_default && used < KUBELET_DEADLINE && is_kept_by_kubelet(&case.rows[row]) {
            let message = format!("{left}; the kubelet renews it by itself before 90 %");
            case.add(row, FindingId::RenewalPending, message, "nothing; look again after that");
        } else {
            case.add(row, FindingId::CertificateExpiring, left, renew);
        }
    }
}

/// A CA that was never meant to live longer than the default of `--ca-warn` would need attention from its first day: it is
/// judged by its share of life, as other certificates are.
fn is_short_lived(case: &Case<'_, '_>, from: OffsetDateTime, to: OffsetDateTime) -> bool {
    match case.policy.ca_warn {
        // Certificates begin a little before the moment they are issued.
        Threshold::Remaining(left) if case.policy.ca_warn_is_default => to - from <= left.duration() + BACKDATING,
        _ => false,
    }
}

/// `--critical 0d`, the default, is the end itself and not a moment before.
fn critical(case: &Case<'_, '_>, from: OffsetDateTime, to: OffsetDateTime) -> bool {
    let none = matches!(case.policy.critical, Threshold::Remaining(left) if left == Lifetime::days(0));
    !none && case.policy.critical.reached(from, to, case.policy.at)
}

fn is_kept_by_kubelet(row: &Row<'_>) -> bool {
    // A serving certificate that the kubelet signed itself is made once and never again.
    row.artifact.part.is_some_and(|part| part.entry.keeper == Keeper::Kubelet && part.entry.issuer.is_some())
}

fn issuer(case: &mut Case<'_, '_>, row: usize) {
    let Issuance::By(issuer) = case.issuances[row] else { return };
    let (Some(certificate), Some(above)) = (case.rows[row].certificate, case.rows[issuer].certificate) else { return };
    if certificate.not_after() > above.not_after() {
        let message = format!(
            "valid until {}, but its CA {} ends {} earlier, on {}",
            utc(certificate.not_after()),
            case.rows[issuer].name,
            length(certificate.not_after() - above.not_after()),
            utc(above.not_after())
        );
        let remedy = case.renew(issuer);
        case.add(row, FindingId::OutlivesIssuer, message, remedy);
    }
}

/// `2026-01-02 03:04:05 UTC`.
pub(super) fn utc(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!("{year:04}-{:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC", u8::from(month))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn moments_are_utc_whatever_their_offset() {
        assert_eq!(utc(datetime!(2026-01-02 05:04:05 +02:00)), "2026-01-02 03:04:05 UTC");
    }
}

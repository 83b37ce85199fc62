//! Does an entry mean a certificate?
//!
//! A certificate may be at hand, only recorded, or still to be issued: rules look at its [`Traits`] alone. Authorities are
//! meant by their serial number only, for a name in a CA certificate (kubeadm writes `DNS:kubernetes`) is nobody's.

use time::OffsetDateTime;

use super::{Entry, Kind, Revocation};
use crate::pki::certificate::{Certificate, SerialNumber};
use crate::pki::san::San;

/// What rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Traits<'a> {
    /// Its number; `None` while it is not issued.
    pub serial: Option<&'a SerialNumber>,
    /// Organizations of its subject.
    pub organizations: &'a [String],
    /// Its alternative names.
    pub sans: &'a [San],
    /// First second of its validity, UTC.
    pub not_before: OffsetDateTime,
    /// Whether it is an authority's.
    pub is_ca: bool,
}

impl<'a> From<&'a Certificate> for Traits<'a> {
    fn from(certificate: &'a Certificate) -> Self {
        Self {
            serial: Some(certificate.serial()),
            organizations: certificate.subject().organizations(),
            sans: certificate.sans(),
            not_before: certificate.not_before(),
            is_ca: certificate.is_ca(),
        }
    }
}

/// The entry that means a certificate.
#[derive(Debug, Clone, Copy)]
pub struct Hit<'r> {
    /// The object it is in.
    pub revocation: &'r Revocation,
    /// Its place there, from 0.
    pub place: usize,
    /// The entry.
    pub entry: &'r Entry,
}

impl std::fmt::Display for Hit<'_> {
    /// As `the revocation leak (group dev, issued before 2026-01-31 12:00:00 UTC)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the revocation {} ({})", self.revocation.name, self.entry)
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kind)?;
        match self.not_before {
            Some(moment) => {
                let (date, (hour, minute, second)) = (moment.date(), moment.to_hms());
                write!(f, ", issued before {date} {hour:02}:{minute:02}:{second:02} UTC")
            }
            None => Ok(()),
        }
    }
}

impl Entry {
    /// Whether it revokes the certificate.
    pub fn matches(&self, traits: &Traits<'_>) -> bool {
        self.concerns(traits) && self.not_before.is_none_or(|moment| traits.not_before < moment)
    }

    /// Whether it would revoke the certificate, were that old enough.
    pub fn concerns(&self, traits: &Traits<'_>) -> bool {
        match &self.kind {
            Kind::Serial(serial) => traits.serial == Some(serial),
            _ if traits.is_ca => false,
            Kind::Group(group) => traits.organizations.contains(group),
            Kind::Dns(pattern) => traits.sans.iter().any(|san| matches!(san, San::Dns(name) if pattern.matches(name))),
            Kind::Ip(address) => {
                traits.sans.iter().any(|san| matches!(san, San::Ip(own) if own.to_canonical() == *address))
            }
        }
    }
}

/// The first entry of `revocations` that revokes the certificate.
pub fn hit<'r>(revocations: &'r [Revocation], traits: &Traits<'_>) -> Option<Hit<'r>> {
    hits(revocations, traits).next()
}

/// Every entry of `revocations` that revokes the certificate.
pub fn hits<'r>(revocations: &'r [Revocation], traits: &Traits<'_>) -> impl Iterator<Item = Hit<'r>> {
    all(revocations).filter(|hit| hit.entry.matches(traits))
}

/// The first moment at which the validity of a certificate may begin, so that no entry with `notBefore` means it. Entries
/// without are for [`hit`].
pub fn earliest(revocations: &[Revocation], traits: &Traits<'_>) -> Option<OffsetDateTime> {
    all(revocations).filter(|hit| hit.entry.concerns(traits)).filter_map(|hit| hit.entry.not_before).max()
}

fn all(revocations: &[Revocation]) -> impl Iterator<Item = Hit<'_>> {
    revocations.iter().flat_map(|revocation| {
        revocation.entries.iter().enumerate().map(move |(place, entry)| Hit { revocation, place, entry })
    })
}

#[cfg(test)]
mod tests {
    use super::super::manifest;
    use super::*;
    use time::Duration;
    use time::macros::datetime;

    /// The example of the documentation of AKS enabled by Azure Arc.
    const SEED: &str = include_str!("seed.yaml");

    #[test]
    fn every_entry_of_the_example_means_exactly_what_it_says() {
        let ledger = manifest::read(SEED.as_bytes()).expect("the example");
        let serial = super::super::entry::serial("77FDF4B1033B387AAACE6CE1C18710C2").expect("a number");
        let moment = datetime!(2020-04-17 17:22:05 UTC);
        let second = Duration::seconds(1);
        let other = SerialNumber::from_bytes(&[7]);
        let cases: [(&SerialNumber, &str, &str, OffsetDateTime, Option<usize>); 14] = [
            (&serial, "x", "DNS:x", moment - second, Some(0)),
            (&serial, "x", "DNS:x", moment, None),
            (&serial, "x", "DNS:x", moment + second, None),
            (&other, "x", "DNS:x", moment - second, None),
            (&other, "system:nodes", "DNS:x", moment + second, Some(1)),
            (&other, "System:nodes", "DNS:x", moment, None),
            (&other, "system:nodes2", "DNS:x", moment, None),
            (&other, "x", "DNS:kubernetes.default.svc", moment, Some(2)),
            (&other, "x", "DNS:kubernetes.default", moment, None),
            (&other, "x", "DNS:kubernetes.default.svc.cluster.local", moment, Some(3)),
            (&other, "x", "DNS:cluster.local", moment, None),
            (&other, "x", "IP:170.63.128.124", moment, Some(4)),
            (&other, "x", "IP:::ffff:170.63.128.124", moment, Some(4)),
            (&other, "x", "IP:170.63.128.125", moment, None),
        ];
        for (serial, group, san, not_before, expected) in cases {
            let (organizations, sans) = ([group.to_owned()], [San::parse(san).expect("a name")]);
            let traits =
                Traits { serial: Some(serial), organizations: &organizations, sans: &sans, not_before, is_ca: false };
            assert_eq!(hit(&ledger, &traits).map(|hit| hit.place), expected, "{serial} {group} {san} {not_before}");
            let authority = Traits { is_ca: true, ..traits };
            assert_eq!(hit(&ledger, &authority).map(|hit| hit.place), expected.filter(|place| *place == 0));
        }
    }

    #[test]
    fn a_new_certificate_begins_no_earlier_than_the_entries_that_mean_its_elders() {
        let text = SEED.replace("group: system:nodes", "group: system:nodes\n    notBefore: 2026-01-01T00:00:00Z");
        let ledger = manifest::read(text.as_bytes()).expect("good");
        let organizations = ["system:nodes".to_owned()];
        let not_before = datetime!(2025-12-31 23:59:59 UTC);
        let traits = Traits { serial: None, organizations: &organizations, sans: &[], not_before, is_ca: false };
        let earliest = earliest(&ledger, &traits).expect("one entry has a moment");
        assert!(hit(&ledger, &traits).is_some());
        assert!(hit(&ledger, &Traits { not_before: earliest, ..traits }).is_none());
    }
}

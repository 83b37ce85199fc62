//! How long new certificates are valid: as long as those before them, and never longer than their issuer.

use time::{Duration, OffsetDateTime};

use super::inventory::{Inventory, Issued, Leaf};
use super::request::Request;
use crate::pki::certificate::Certificate;
use crate::pki::lifetime::{self, Lifetime};

/// First and last second of a certificate to be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period {
    /// First second, UTC.
    pub not_before: OffsetDateTime,
    /// Last second, UTC.
    pub not_after: OffsetDateTime,
    /// Whether it ends early, with its issuer.
    pub is_cut: bool,
}

/// What a certificate cut short by its issuer's end gets when nothing tells its usual length: kubeadm's default.
const USUAL: Lifetime = Lifetime::days(365);

impl Period {
    /// The period of a certificate that exists.
    pub(super) fn of(certificate: &Certificate) -> Self {
        Self { not_before: certificate.not_before(), not_after: certificate.not_after(), is_cut: false }
    }

    /// The period of the successor of an authority's certificate, within that of its `parent`.
    pub(super) fn authority(old: &Certificate, parent: Option<Self>, request: &Request, now: OffsetDateTime) -> Self {
        let wanted = match request.ca_validity {
            Some(validity) => lifetime::period(now, validity),
            None => lifetime::same_period(now, old.not_before(), old.not_after()),
        };
        Self::within(wanted, parent)
    }

    /// The period of the successor of a leaf, within that of its new `issuer`.
    pub(super) fn leaf(
        inventory: &Inventory<'_>,
        leaf: &Leaf<'_>,
        issuer: Option<Self>,
        request: &Request,
        now: OffsetDateTime,
    ) -> Self {
        let old = leaf.certificate;
        let wanted = match request.validity {
            Some(validity) => lifetime::period(now, validity),
            None if was_cut(inventory, leaf) => match usual_length(inventory, leaf.issued) {
                Some(length) => lifetime::same_period(now, now, now.saturating_add(length)),
                None => lifetime::period(now, USUAL),
            },
            None => lifetime::same_period(now, old.not_before(), old.not_after()),
        };
        Self::within(wanted, issuer)
    }

    fn within((not_before, not_after): (OffsetDateTime, OffsetDateTime), issuer: Option<Self>) -> Self {
        let Some(issuer) = issuer else { return Self { not_before, not_after, is_cut: false } };
        Self {
            not_before: not_before.max(issuer.not_before),
            not_after: not_after.min(issuer.not_after),
            is_cut: issuer.not_after < not_after,
        }
    }
}

/// Whether a leaf ends exactly with its issuer: then its length says nothing about the length that was wanted.
fn was_cut(inventory: &Inventory<'_>, leaf: &Leaf<'_>) -> bool {
    match leaf.issued {
        Issued::By(at) => inventory.authorities[at].certificate.not_after() == leaf.certificate.not_after(),
        Issued::Itself | Issued::Unknown => false,
    }
}

/// The longest life among the leaves of the same issuer that were not cut.
fn usual_length(inventory: &Inventory<'_>, issued: Issued) -> Option<Duration> {
    let siblings = inventory.leaves.iter().filter(|leaf| leaf.issued == issued && !was_cut(inventory, leaf));
    siblings.map(|leaf| leaf.certificate.not_after() - leaf.certificate.not_before()).max()
}

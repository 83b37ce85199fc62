//! A snapshot and a moment to findings: pure rules, one file per question, never stopping at the first problem.
//!
//! The result is a list of rows, one per certificate, each with everything that is wrong with it. What cannot be told is
//! a finding as well: not knowing never counts as fine.

use time::OffsetDateTime;

use crate::pki::lifetime::{Lifetime, Threshold};
use crate::snapshot::Snapshot;

mod agreement;
mod bundle;
mod case;
mod chain;
mod endpoint;
mod expiry;
mod files;
pub mod finding;
mod identity;
mod issuers;
mod kubeconfig;
mod kubelet;
mod pair;
mod revoked;
pub mod row;
mod served;
mod strength;

pub use files::{exposures, holds_key, usual_owner};
pub use finding::{Finding, FindingId, Severity, Status};
pub use identity::lacking_names;
pub use row::{Member, Row};

use case::Case;

/// When something counts, and what the remedies are to say.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The moment that is judged, UTC.
    pub at: OffsetDateTime,
    /// When a certificate needs attention.
    pub warn: Threshold,
    /// When a certificate counts as broken although its time is not over.
    pub critical: Threshold,
    /// When a CA needs attention.
    pub ca_warn: Threshold,
    /// Whether nobody asked for `warn`: then certificates that the kubelet renews by itself get their time.
    pub warn_is_default: bool,
    /// Whether nobody asked for `ca_warn`: then a CA whose whole life is no longer than that is judged by `warn`.
    pub ca_warn_is_default: bool,
    /// Whether files of keys have a row even when all is well with them.
    pub with_keys: bool,
    /// Ids that the cluster's profile leaves to people.
    pub unmanaged: Vec<String>,
    /// Options that name the target, to complete the commands in remedies, as ` --pki-dir ./pki`; may be empty.
    pub target: String,
}

impl Policy {
    /// The defaults: attention when 80 % of the lifetime are used, for CAs when a year is left; broken at the very end.
    pub fn at(at: OffsetDateTime) -> Self {
        Self {
            at,
            warn: Threshold::UsedPercent(80.0),
            critical: Threshold::Remaining(Lifetime::days(0)),
            ca_warn: Threshold::Remaining(Lifetime::days(365)),
            warn_is_default: true,
            ca_warn_is_default: true,
            with_keys: false,
            unmanaged: Vec::new(),
            target: String::new(),
        }
    }
}

/// What is the matter with everything that was found.
#[derive(Debug, Clone)]
pub struct Diagnosis<'a> {
    /// What was looked at.
    pub snapshot: &'a Snapshot,
    /// The moment that was judged, UTC.
    pub at: OffsetDateTime,
    /// One row per certificate, in the order of the snapshot.
    pub rows: Vec<Row<'a>>,
}

impl<'a> Diagnosis<'a> {
    /// The severity of the worst finding among all rows.
    pub fn severity(&self) -> Option<Severity> {
        self.rows.iter().filter_map(Row::severity).max()
    }

    /// How many rows have each status, the best first; every status is there.
    pub fn counts(&self) -> [(Status, usize); 9] {
        Status::ALL.map(|status| (status, self.rows.iter().filter(|row| row.status() == status).count()))
    }

    /// Every finding with its row.
    pub fn findings(&self) -> impl Iterator<Item = (&Row<'a>, &Finding)> {
        self.rows.iter().flat_map(|row| row.findings.iter().map(move |finding| (row, finding)))
    }

    /// The first row with that name.
    pub fn row(&self, name: &str) -> Option<&Row<'a>> {
        self.rows.iter().find(|row| row.name == name)
    }
}

/// Applies every rule.
pub fn diagnose<'a>(snapshot: &'a Snapshot, policy: &Policy) -> Diagnosis<'a> {
    let mut case = Case::new(snapshot, policy);
    for rule in [
        files::check,
        expiry::check,
        revoked::check,
        chain::check,
        pair::check,
        identity::check,
        kubeconfig::check,
        kubelet::check,
        bundle::check,
        strength::check,
        endpoint::check,
        agreement::check,
    ] {
        rule(&mut case);
    }
    Diagnosis { snapshot, at: policy.at, rows: case.finish() }
}

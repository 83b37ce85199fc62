//! How long everything is still good that is known to have come from the new CA: in files, in the register, in signing
//! requests, and whatever kube-controller-manager may have signed since.
//!
//! It is better to take an old certificate for a new one than to stop a rotation because of a new one.

use std::ops::RangeInclusive;

use time::{Duration, OffsetDateTime};

use super::material::Exchange;
use super::round::Round;
use crate::cli::live::proof;
use crate::node::{FoundState, Query};
use crate::pki::chain::{Signature, issued};
use crate::pki::component::{Component, flag};
use crate::pki::layout::{REGISTER, Role};
use crate::pki::lifetime::Lifetime;
use crate::pki::register::Register;

/// kube-controller-manager forgets a signing request no sooner than that long after its certificate was issued
/// (pkg/controller/certificates/cleaner).
const REQUESTS_KEPT: Duration = Duration::hours(1);

/// For how long kube-controller-manager signs unless told otherwise (`--cluster-signing-duration`).
const SIGNING_DURATION: Duration = Duration::days(365);

/// What is left of them now. `found` are the ends of those that lie on nodes; the new CA signs since `switched_at`.
pub(super) fn of(
    round: &Round<'_>,
    found: &[OffsetDateTime],
    switched_at: OffsetDateTime,
) -> Vec<RangeInclusive<Duration>> {
    let Some(cluster) = &round.material.cluster else { return Vec::new() };
    let now = round.session.by_now();
    let mut ends = found.to_vec();
    ends.extend(planned(round));
    ends.extend(registered(round, cluster));
    ends.extend(requested(round, cluster, now));
    let known = ends.into_iter().map(|end| (end - now)..=(end - now));
    known.chain(signed_unseen(signing_duration(round), now - switched_at)).collect()
}

/// What the operation itself has issued, but for authorities, with which nobody comes.
fn planned(round: &Round<'_>) -> Vec<OffsetDateTime> {
    let authorities: Vec<OffsetDateTime> = round
        .material
        .exchanges()
        .flat_map(|exchange| exchange.coming_certificates())
        .map(|authority| authority.not_after())
        .collect();
    let reports = round.legs.iter().flat_map(|(_, journal)| &journal.operation.nodes).flat_map(|node| &node.files);
    reports.filter_map(|file| file.not_after).filter(|end| !authorities.contains(end)).collect()
}

/// What `get-credentials` has issued meanwhile, as the registers of the control plane say.
fn registered(round: &Round<'_>, cluster: &Exchange) -> Vec<OffsetDateTime> {
    let new = cluster.coming_certificates();
    let mut ends = Vec::new();
    for node in round.target.nodes.iter().filter(|node| node.role == Role::ControlPlane) {
        let path = node.layout.records_dir().join(REGISTER);
        let Ok(FoundState::File(text)) = proof::read(node, Query::File(path)).map(|found| found.state) else {
            continue;
        };
        let certificates = Register::read(&text).entries.into_iter().filter_map(|entry| entry.certificate());
        let is_new = |leaf: &crate::pki::certificate::Certificate| {
            new.iter().any(|authority| issued(leaf, authority) == Signature::Good)
        };
        ends.extend(certificates.filter(is_new).map(|leaf| leaf.not_after()));
    }
    ends
}

/// What signing requests got that are still kept.
fn requested(round: &Round<'_>, cluster: &Exchange, now: OffsetDateTime) -> Vec<OffsetDateTime> {
    let new = cluster.coming_certificates();
    let found = round.now(&|api| api.issued_certificates(&new, now).map_err(|error| error.to_string()));
    match found {
        Ok(found) => found.into_iter().flatten().map(|one| one.not_after).collect(),
        Err(reason) => {
            round.session.ui.debug(&format!("nobody says what the new CA has issued: {reason}"));
            Vec::new()
        }
    }
}

/// What is left of certificates whose requests may be gone already: of kubelets of nodes that joined meanwhile, say.
fn signed_unseen(signing_duration: Duration, since: Duration) -> Option<RangeInclusive<Duration>> {
    (since > REQUESTS_KEPT).then(|| (signing_duration - since)..=(signing_duration - REQUESTS_KEPT))
}

fn signing_duration(round: &Round<'_>) -> Duration {
    let said = round.target.nodes.iter().filter(|node| node.role == Role::ControlPlane).find_map(|node| {
        let manifest = proof::manifest(node, Component::ControllerManager.name()).ok()?;
        flag(&manifest, "--cluster-signing-duration")?.parse::<Lifetime>().ok()
    });
    said.map_or(SIGNING_DURATION, |said| said.duration())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_in_a_long_pause_is_known_although_its_request_is_gone() {
        let year = Duration::days(365);
        assert_eq!(signed_unseen(year, Duration::minutes(59)), None);
        let known = signed_unseen(year, Duration::days(10)).expect("a pause");
        assert!(known.contains(&Duration::days(360)) && known.contains(&Duration::days(355)));
        assert!(!known.contains(&Duration::days(354)) && !known.contains(&year));
        // Longer than what is signed lives: all that is left of any of them.
        assert!(signed_unseen(Duration::days(1), Duration::days(3)).expect("a pause").contains(&Duration::HOUR));
    }
}

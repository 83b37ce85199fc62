//! kube-apiserver: refuses by the certificate's SHA-256 in its authorization configuration, and members of `system:masters` by
//! the bundle of client trust. How each works is in `plan/enforcement`.

use std::path::PathBuf;

use super::known::Known;
use super::result::{ComponentState, Enforcement};
use super::{Case, Part, Seat};
use crate::error::Failure;
use crate::pki::authorization::Denied;
use crate::pki::revocation::Kind;
use crate::plan::enforcement::hot::{self, MASTERS, Verdict};
use crate::plan::enforcement::{self as enforcement, API_SERVER};

/// Groups into which kube-apiserver puts everybody, so that no rule may refuse them.
const EVERYBODY: [&str; 2] = ["system:authenticated", "system:unauthenticated"];

/// The files that the plan has to see.
pub fn reads(seat: &Seat) -> Vec<PathBuf> {
    bare(seat).wanted()
}

/// The configuration on every control-plane node.
///
/// # Errors
/// When kube-apiserver would not take its files, or nobody would be believed any more; nothing has changed then.
pub fn plan(case: &Case<'_>) -> Result<Part, Failure> {
    let verdict = verdict(case);
    let mut part = Part::default();
    let mut is_pinned = false;
    for seat in case.seats {
        let own = of(case, seat);
        let plan = hot::plan(&own, &verdict, case.now)?;
        is_pinned |= !plan.pinned.is_empty() && plan.files.iter().any(|file| file.name == enforcement::CLIENT_TRUST);
        part.files.extend(plan.files.into_iter().map(|file| (seat.node.clone(), file)));
        part.states.extend(hot::states(&own, &verdict).into_iter().map(|held| ComponentState {
            component: held.component,
            node: Some(seat.node.clone()),
            state: match held.enforced {
                Some(true) => Enforcement::Enforced,
                Some(false) => Enforcement::NotEnforceable,
                None => Enforcement::NeedsPrepare,
            },
            reason: held.reason.unwrap_or_default(),
            since: None,
        }));
        if own.manifest(API_SERVER).is_none() {
            part.states.push(ComponentState {
                component: API_SERVER,
                node: Some(seat.node.clone()),
                state: Enforcement::NeedsPrepare,
                reason:
                    "there is no manifest of a static pod here: kubepki prepares control planes as kubeadm makes them"
                        .to_owned(),
                since: None,
            });
        }
    }
    if is_pinned {
        narrowed(case, &verdict, &mut part);
    }
    Ok(part)
}

/// Who is refused by the whole ledger.
pub fn verdict(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for known in case.revoked().filter(|known| known.issued.is_client && !known.issued.is_ca) {
        let hashes = std::iter::once(&known.issued.sha256).chain(&known.issued.twins).cloned();
        verdict.denied.fingerprints.extend(hashes);
        if known.issued.organizations.iter().any(|group| group == MASTERS) {
            verdict.unstoppable.insert(known.issued.sha256.clone());
        }
    }
    verdict.denied.groups = groups(case);
    let is_good = |known: &&Known| !known.is_revoked() && known.issued.is_client && known.is_alive(case.now);
    let good = case.known.iter().filter(is_good).filter_map(Known::at_hand);
    verdict.good = good.filter(|certificate| !certificate.is_ca()).collect();
    verdict
}

/// The same for `--prepare`, which changes nothing about client trust.
pub fn denied(case: &Case<'_>) -> Denied {
    verdict(case).denied
}

/// Groups that are revoked for good: their certificates are refused whenever they were issued.
fn groups(case: &Case<'_>) -> std::collections::BTreeSet<String> {
    let entries = case.ledger.iter().flat_map(|revocation| &revocation.entries);
    let lasting = entries.filter(|entry| entry.not_before.is_none());
    lasting
        .filter_map(|entry| match &entry.kind {
            Kind::Group(group) if !EVERYBODY.contains(&group.as_str()) => Some(group.clone()),
            _ => None,
        })
        .collect()
}

/// What follows from client trust that is narrowed to single certificates.
fn narrowed(case: &Case<'_>, verdict: &Verdict, part: &mut Part) {
    part.warnings.push(format!(
        "members of system:masters are refused only by believing nobody else: {} known client certificates stay good one by one, \
         and every other one that the cluster's CA has signed, or signs from now on, is refused by kube-apiserver",
        verdict.good.len()
    ));
    let is_lost = |known: &&Known| {
        known.at_hand().is_none() && !known.is_revoked() && known.issued.is_client && known.is_alive(case.now)
    };
    let lost: Vec<String> = case.known.iter().filter(is_lost).map(Known::label).collect();
    if !lost.is_empty() {
        part.warnings.push(format!("known by the register alone, and refused from now on: {}", lost.join(", ")));
    }
    let kubelets = verdict.good.iter().filter(|one| {
        one.subject().organizations().iter().any(|group| group == "system:nodes") && one.not_after() > case.now
    });
    // Kubelets renew theirs when between 70 and 90 % of its life are over.
    let first: Option<time::OffsetDateTime> =
        kubelets.map(|one| one.not_before() + (one.not_after() - one.not_before()) * 0.7).min();
    let until = first
        .map(|first| format!(", and before {}, when the first kubelet may renew its own", first.max(case.now).date()));
    part.next_steps.push(format!(
        "replace the cluster's CA soon{}: `kubepki rotate-certs --only cluster-ca`; until then certificates that the cluster \
         issues are refused by kube-apiserver, and nodes cannot join",
        until.unwrap_or_default()
    ));
}

fn bare(seat: &Seat) -> enforcement::Seat {
    enforcement::Seat {
        node: seat.node.clone(),
        pki_dir: seat.pki_dir.clone(),
        manifests: Vec::new(),
        files: std::collections::BTreeMap::new(),
    }
}

fn of(case: &Case<'_>, seat: &Seat) -> enforcement::Seat {
    let mut own = bare(seat);
    own.manifests = case.manifests.iter().filter(|manifest| manifest.node == seat.node).cloned().collect();
    let files = own.wanted().into_iter().filter_map(|path| {
        let existing = case.existing(&seat.node, &path)?;
        Some((path, existing.bytes.clone()))
    });
    own.files = files.collect();
    own
}

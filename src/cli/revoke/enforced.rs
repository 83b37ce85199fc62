//! What a live cluster adds to a revocation: preparing it, waiting until it is in force, proving it with the credential.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::given::Given;
use super::{RevokeArgs, Work, sight};
use crate::cli::change::ChangeArgs;
use crate::cli::enforce::prepare::{Lists, end_connections, prepare};
use crate::cli::enforce::proof::{self, Answer, person};
use crate::cli::enforce::{in_force, objects};
use crate::cli::session::Session;
use crate::cli::target::{Target, TargetNode};
use crate::error::Failure;
use crate::live::enforcement::Holder;
use crate::node::{FoundState, Query};
use crate::pki::authorization::{self, Denied};
use crate::pki::layout::Role;
use crate::pki::revocation::{Revocation, manifest};
use crate::plan::enforcement::{API_SERVER, AUTHORIZATION, Seat};
use crate::plan::operation::Operation;
use crate::plan::revoke::etcd;
use crate::plan::revoke::known::Known;
use crate::plan::revoke::result::{Enforcement, Proof, RevocationResult};

/// Rules of a holder's that are told one by one.
const MOST_RIGHTS: usize = 12;

/// `--prepare`: what is revoked already stays so from the first moment on. `None` when the plan was only to be shown.
///
/// # Errors
/// As [`prepare`].
pub(super) fn prepared(
    change: &ChangeArgs,
    args: &RevokeArgs,
    session: &Session,
    target: &Target,
) -> anyhow::Result<Option<Operation>> {
    // What an earlier preparation had written is still in the file; the revocation after this one brings it up to date.
    let mut denied = Denied::default();
    for node in target.nodes.iter().filter(|node| node.role == Role::ControlPlane) {
        denied.fingerprints.extend(refused(node));
    }
    let snapshot = sight::observe(target, session)?;
    let mut empty = BTreeMap::new();
    for seat in sight::seats(target)? {
        let list = snapshot.node(&seat.node).and_then(|found| etcd::empty(found, &seat.pki_dir, session.now));
        empty.extend(list.map(|list| (seat.node, list)));
    }
    let of = |seat: &Seat| empty.get(&seat.node).map(|(list, _)| [list.clone(), list.clone()]);
    let lists = Lists { of: &of, keys: empty.values().map(|(_, key)| key.clone()).collect() };
    prepare(session, target, &args.target, change, &denied, &lists)
}

fn refused(node: &TargetNode) -> std::collections::BTreeSet<String> {
    let path = node.layout.pki_dir.join(AUTHORIZATION);
    let found = node.node.read(&[Query::File(path)]).ok().and_then(|found| found.into_iter().next());
    match found.map(|found| found.state) {
        Some(FoundState::File(content)) => {
            std::str::from_utf8(&content).ok().and_then(|text| authorization::refused(text).ok()).unwrap_or_default()
        }
        _ => std::collections::BTreeSet::new(),
    }
}

/// Who the holders of the given credentials are and what they may do, as the cluster says it.
pub(super) fn look_up(target: &Target, given: &mut Given) {
    for (entry, credential) in &given.credentials {
        let Some(person) = person(target, credential) else { continue };
        if let Some(holder) = given.holders.iter_mut().find(|holder| holder.entry == *entry) {
            (holder.user, holder.groups) = (person.name, person.groups);
            if !person.rights.is_empty() {
                let more = person.rights.len().saturating_sub(MOST_RIGHTS);
                holder.rights = person.rights.into_iter().take(MOST_RIGHTS).collect::<Vec<_>>().join("; ");
                if more > 0 {
                    let _ = write!(holder.rights, "; and {more} more rules in namespace default");
                }
            }
        }
    }
}

impl Work<'_> {
    /// Waits until the revocation is in force and proves it.
    ///
    /// # Errors
    /// Exit code 6 when somebody is still let in who should not be: what was written stays.
    pub(super) fn prove(&self, result: &mut RevocationResult, hit: &[&Known]) -> anyhow::Result<()> {
        let (session, target) = (self.session, self.target);
        let enforces = |result: &RevocationResult| {
            result.components.iter().any(|one| one.component == API_SERVER && one.state == Enforcement::Enforced)
        };
        if enforces(result) {
            for (node, answer) in in_force::in_force(session, target) {
                let states = result.components.iter_mut().filter(|one| one.component == API_SERVER);
                for state in
                    states.filter(|one| one.node.as_deref() == Some(&node) && one.state == Enforcement::Enforced)
                {
                    match &answer {
                        Ok(at) => state.since = Some(whole(*at)),
                        Err(reason) => {
                            state.since = None;
                            state.state = Enforcement::NotEnforceable;
                            state.reason = format!("its files say so, but it is not seen to follow them: {reason}");
                        }
                    }
                }
            }
        }
        if self.args.delete.is_some() {
            return Ok(());
        }
        let ends = self.args.end_connections && enforces(result);
        if ends && let Err(error) = end_connections(session, target, &self.args.target) {
            session.result(result)?;
            let message = "the revocation is enforced, but what was open before may be open still";
            return Err(error.context(Failure::partial(message)));
        }
        let mut answers = Vec::new();
        for (_, credential) in &self.given.credentials {
            answers.extend(proof::refused(session, target, credential));
        }
        if self.given.credentials.is_empty() && enforces(result) {
            let clients = hit.iter().filter(|known| known.issued.is_client && !known.issued.is_ca);
            // Each says the same about itself; a few are proof enough.
            for known in clients.take(3) {
                let name = known.issued.common_name.as_deref().unwrap_or_default();
                let holder = Holder { name, groups: &known.issued.organizations, sha256: &known.issued.sha256 };
                let is_master = holder.groups.iter().any(|group| group == crate::plan::enforcement::hot::MASTERS);
                if !is_master {
                    answers.extend(proof::judged(session, target, &holder));
                }
            }
        }
        let still: Vec<&Answer> = answers.iter().filter(|answer| answer.accepted != Some(false)).collect();
        for answer in &still {
            session.ui.warning(&format!("{} ({}): not refused: {}", answer.endpoint, answer.node, answer.reason));
        }
        let is_let_in = still.iter().any(|answer| answer.accepted == Some(true)) && enforces(result);
        let said = answers.iter().filter_map(|answer| Some((answer, answer.accepted?)));
        result.proof.extend(said.map(|(answer, accepted)| Proof {
            endpoint: answer.endpoint.clone(),
            accepted,
            at: whole(answer.at),
        }));
        if is_let_in {
            session.result(result)?;
            return Err(Failure::partial("the revocation is written down and enforced, but somebody is still let in")
                .hint("the warnings above name who lets them in; `kubepki verify --refused-kubeconfig FILE` asks again")
                .into());
        }
        Ok(())
    }

    /// `--apply`: the ledger as objects in the cluster.
    ///
    /// # Errors
    /// When no API server stores them.
    pub(super) fn store(&self, whole: &[Revocation]) -> anyhow::Result<()> {
        let mut documents = Vec::new();
        for revocation in whole {
            let text = manifest::write(std::slice::from_ref(revocation)).map_err(Failure::failed)?;
            let mut object: serde_json::Value = serde_yaml::from_str(&text)?;
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("creationTimestamp");
                metadata.entry("namespace").or_insert_with(|| revocation.namespace.clone().into());
            }
            documents.push(object);
        }
        if let Some(taken) = &self.taken {
            objects::delete(self.target, &taken.namespace, &taken.name)?;
        }
        for (name, stored) in objects::apply(self.target, &documents)? {
            self.session.ui.step(&format!("stored in the cluster: {name} ({stored:?})"));
        }
        Ok(())
    }
}

/// To the second, as results have it.
fn whole(at: time::OffsetDateTime) -> time::OffsetDateTime {
    at.replace_nanosecond(0).unwrap_or(at)
}

/// The options of a change without a question: whoever agreed has agreed to all of it.
pub(super) fn agreed(change: &ChangeArgs) -> ChangeArgs {
    ChangeArgs { yes: true, ..change.clone() }
}

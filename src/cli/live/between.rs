//! What happens between two rounds of a live CA rotation, while no node is being changed: proofs by running processes, never
//! by their files, and the copies of trust that the cluster keeps in itself.
//!
//! Each moment may be asked for again: what is already so is found so.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::super::rolling::Moment;
use super::super::session::Session;
use super::super::target::{Target, TargetNode};
use crate::apply::journal::Journal;
use crate::pki::lifetime::Lifetime;
use crate::plan::phase::Phase;

mod backup;
mod blockers;
mod copies;
mod dropped;
mod issued;
mod kubelets;
mod leftovers;
mod material;
mod round;
mod successors;
mod trusted;
mod visitors;

pub use material::{At, ContentAt};

use material::Material;
use round::Round;

/// What is done about those who still need the old trust when it is about to be dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Letting {
    /// It is dropped whoever still needs it; they are told of.
    pub force: bool,
    /// It is dropped no sooner than that long after the new service-account key came into use, and pods that may still hold
    /// an older token are no obstacle then. With no time at all, Secrets with such a token are none either.
    pub wait_for_tokens: Option<Lifetime>,
}

/// The moments between two rounds of an operation on one target.
pub struct Barriers<'a> {
    session: &'a Session,
    target: &'a Target,
    content: Box<ContentAt<'a>>,
    letting: Letting,
    before: Mutex<Option<Before>>,
}

/// What the cluster was like when this run first looked.
#[derive(Debug, Clone, Default)]
struct Before {
    /// Nodes (of Kubernetes) that were Ready.
    ready: BTreeSet<String>,
    /// Aggregated APIs that were not available.
    away: BTreeSet<String>,
}

impl<'a> Barriers<'a> {
    /// The moments of an operation whose files `content` knows, before and after each phase.
    pub fn new(session: &'a Session, target: &'a Target, content: Box<ContentAt<'a>>, letting: Letting) -> Self {
        Self { session, target, content, letting, before: Mutex::default() }
    }

    /// Does what belongs to that moment, and waits until running components prove that the next round may begin.
    ///
    /// # Errors
    /// Exit code 6 when somebody still needs what would be dropped, with a list; 130 when interrupted; else when something
    /// is not proven in time, with node, question and answer.
    pub fn between(&self, moment: Moment, legs: &[(&TargetNode, Journal)]) -> anyhow::Result<()> {
        let is_round = match moment {
            Moment::Before(phase) | Moment::After(phase) | Moment::TakenBack(phase) => phase != Phase::Renew,
        };
        if !is_round && !legs.iter().any(|(_, journal)| renews_authority(journal)) {
            return Ok(());
        }
        if let Moment::After(phase) | Moment::Before(phase) | Moment::TakenBack(phase) = moment
            && phase.is_of_repair()
        {
            return Ok(());
        }
        let material = Material::of(legs, &*self.content)?;
        let round = Round::new(self.session, self.target, legs, &*self.content, material)?;
        match moment {
            Moment::Before(Phase::TrustBoth) => {
                self.note(&round);
                round.etcd_healthy()?;
                backup::save(&round);
                Ok(())
            }
            Moment::After(Phase::TrustBoth) => {
                trusted::prove(&round)?;
                self.still_well(&round)
            }
            Moment::After(Phase::Kubelets) => {
                kubelets::prove(&round)?;
                self.still_well(&round)
            }
            Moment::After(Phase::IssueNew) => {
                issued::prove(&round)?;
                self.still_well(&round)
            }
            Moment::Before(Phase::DropOld) => blockers::settle(&round, self.letting),
            Moment::After(Phase::DropOld) => {
                dropped::prove(&round)?;
                self.still_well(&round)
            }
            Moment::TakenBack(Phase::TrustBoth) => trusted::take_back(&round),
            Moment::After(Phase::Renew) => match &round.material.cluster {
                Some(exchange) => copies::cluster_info(&round, exchange, &exchange.end),
                None => Ok(()),
            },
            Moment::TakenBack(Phase::Renew) => match &round.material.cluster {
                Some(exchange) => copies::cluster_info(&round, exchange, &exchange.start),
                None => Ok(()),
            },
            Moment::TakenBack(_) => round.etcd_healthy(),
            Moment::Before(_) | Moment::After(_) => Ok(()),
        }
    }

    /// Notes what the cluster is like; that nobody says is no error, for there may be no API to ask.
    fn note(&self, round: &Round<'_>) -> Option<Before> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_none() {
            let found = round.now(&|api| {
                let ready = api.ready_nodes().map_err(|error| error.to_string())?;
                let away = api.unavailable_apis().map_err(|error| error.to_string())?.into_keys().collect();
                Ok(Before { ready, away })
            });
            match found {
                Ok(found) => *before = found,
                Err(reason) => self.session.ui.debug(&format!("nobody says what the cluster is like: {reason}")),
            }
        }
        before.clone()
    }

    /// Waits until every node is Ready and every aggregated API available that was when this run first looked.
    fn still_well(&self, round: &Round<'_>) -> anyhow::Result<()> {
        let Some(before) = self.note(round) else { return Ok(()) };
        round.anywhere("every node is Ready that was before", &|api| {
            let now = api.ready_nodes().map_err(|error| error.to_string())?;
            let missing: Vec<String> = before.ready.difference(&now).cloned().collect();
            copies::none_left(&missing, "node", "not Ready")
        })?;
        round.anywhere("every aggregated API is available that was before", &|api| {
            let away = api.unavailable_apis().map_err(|error| error.to_string())?;
            let new = away.iter().filter(|(name, _)| !before.away.contains(*name));
            let new: Vec<String> = new.map(|(name, why)| format!("{name} ({why})")).collect();
            copies::none_left(&new, "API", "away")
        })
    }
}

/// Whether an operation without rounds changes an authority's certificate: its key stays, so nothing else has to follow.
fn renews_authority(journal: &Journal) -> bool {
    journal.changes.iter().any(|entry| entry.path.ends_with("/ca.crt"))
}

impl std::fmt::Debug for Barriers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Barriers").field("letting", &self.letting).finish_non_exhaustive()
    }
}

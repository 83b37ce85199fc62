//! One operation over the nodes of a live cluster: staged on all of them, then round by round, and within a round node
//! after node, each proven well before the next one begins.
//!
//! Control-plane nodes go strictly one at a time, workers in batches. Whatever stops the run, every node's journal knows
//! how to go on and how to go back, so another workstation can do either.

mod gathered;
mod rounds;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Mutex;
use std::time::Instant;

use self::gathered::{Unfinished, adopt_all};
use super::carry_out::Crew;
use super::record;
use super::target::TargetNode;
use crate::apply::change::Request;
use crate::apply::journal::Journal;
use crate::error::Failure;
use crate::node::fleet::{AT_ONCE, side_by_side};
use crate::node::{LockGuard, Node, background};
use crate::plan::operation::{NodeState, Operation, ProvisioningState};
use crate::plan::phase::Phase;
use crate::plan::restart::Means;

/// Waits until a node is well after that step of its journal has changed it, forwards or back.
pub type Proof<'a> = dyn Fn(&TargetNode, &Journal, usize) -> anyhow::Result<()> + Sync + 'a;

/// Which way a node is led through its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heading {
    /// From what is to what was planned.
    Onwards,
    /// To what was before.
    Back,
}

/// Makes a node ready for a step. It may be asked again for a step that was interrupted.
pub type Before<'a> = dyn Fn(&TargetNode, &Journal, usize, Heading) + Sync + 'a;

/// A moment between two phases, when no node is being changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The phase is about to begin on the first node.
    Before(Phase),
    /// The phase is done on every node.
    After(Phase),
    /// The phase has been taken back on every node; also when only [`Moment::Before`] had come.
    TakenBack(Phase),
}

/// Does what belongs to the cluster and to no node at such a moment, and waits until the cluster is fit for what comes next.
/// It may be asked for the same moment again.
pub type Between<'a> = dyn Fn(Moment, &[(&TargetNode, Journal)]) -> anyhow::Result<()> + Sync + 'a;

/// The nodes of an operation in their order, each with its journal as it is now.
type Legs<'a> = Vec<(&'a TargetNode, Journal)>;

/// The locks of all its nodes.
type Locks = Vec<Box<dyn LockGuard>>;

/// How a live cluster is changed.
pub struct Rolling<'a> {
    /// How components are restarted.
    pub means: Means,
    /// How many workers are changed side by side; at least 1.
    pub parallel: usize,
    /// Waits until a node on which files have changed is well again, and proves it.
    pub prove: Box<Proof<'a>>,
    /// Before a step of a node.
    pub before: Box<Before<'a>>,
    /// Between two phases.
    pub between: Box<Between<'a>>,
}

impl Rolling<'_> {
    /// Files alone: nothing is restarted for them, and nothing has to be well.
    pub fn of_files() -> Self {
        Self {
            means: Means::default(),
            parallel: 1,
            prove: Box::new(|_, _, _| Ok(())),
            before: Box::new(|_, _, _, _| ()),
            between: Box::new(|_, _| Ok(())),
        }
    }
}

/// What became of `--continue`.
pub enum Resumed {
    /// Nothing was unfinished.
    Nothing,
    /// It is finished now.
    Finished(Box<Operation>),
    /// It had not been staged on every node, so nothing had changed anywhere; the stages are gone. These words ask for it
    /// again.
    NotBegun(Vec<String>),
}

impl Resumed {
    /// The operation, if it is finished now.
    pub fn operation(self) -> Option<Operation> {
        match self {
            Self::Finished(operation) => Some(*operation),
            Self::Nothing | Self::NotBegun(_) => None,
        }
    }
}

impl<'a> Crew<'a> {
    /// Carries a plan out on all its nodes.
    ///
    /// # Errors
    /// Exit code 1 when nothing has changed; 6 when it stopped in between; 130 when interrupted.
    pub fn roll(
        &self,
        rolling: &Rolling<'_>,
        operation: &mut Operation,
        mut requests: Vec<(&dyn Node, Request)>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let steps = requests.iter().flat_map(|(_, request)| &request.steps);
        for phase in steps.map(|step| step.phase).collect::<BTreeSet<Phase>>() {
            operation.phase(phase);
        }
        requests.iter_mut().for_each(|(_, request)| request.operation.phases.clone_from(&operation.phases));
        let mut staging = Vec::new();
        for (node, request) in requests {
            staging.push((self.target_of(node.name())?, Mutex::new(Some(request))));
        }
        let locks = self.hold(staging.iter().map(|(target, _)| *target))?;
        let mut legs = self.stage(&staging)?;
        operation.provisioning_state = ProvisioningState::CertificateRotating;
        operation.started_at = Some(self.session.now);
        record::keep(self.session, self.target, operation);
        if self.is_detached {
            drop(locks);
            return self.go_on_alone(operation);
        }
        let outcome = self
            .walk(rolling, operation, &mut legs)
            .and_then(|()| self.settle(operation, &legs, ProvisioningState::Succeeded, began))
            .map_err(|error| self.with_ways_out(operation, &legs, error));
        if outcome.is_err() {
            operation.provisioning_state = ProvisioningState::Failed;
        }
        record::keep(self.session, self.target, operation);
        drop(locks);
        outcome
    }

    /// Leaves the rest to a run of its own, in the background.
    fn go_on_alone(&self, operation: &Operation) -> anyhow::Result<()> {
        let log = record::log(self.session, operation)?;
        let words = self.session.line.iter().filter(|word| *word != "--no-wait" && *word != "--continue").cloned();
        let words: Vec<OsString> = words.chain(["--continue".into()]).collect();
        background::start(&words, &log).map_err(|error| self.with_ways_out(operation, &Vec::new(), error))?;
        self.session.ui.status(&format!("it goes on in the background and says what it does in {}", log.display()));
        self.session.ui.status(&format!("`{}` returns when it has ended", self.command_line("wait")));
        Ok(())
    }

    /// Goes on with what was interrupted.
    ///
    /// # Errors
    /// As [`Crew::roll`]; also when the operation concerns nodes that are not in the target.
    pub(super) fn roll_on(&self, rolling: &Rolling<'_>) -> anyhow::Result<Resumed> {
        let began = Instant::now();
        let Some((mut unfinished, mut operation, locks)) = self.take_up()? else { return Ok(Resumed::Nothing) };
        let (missing, ended) = self.missing(&unfinished)?;
        if ended == Some(ProvisioningState::Canceled) {
            drop(locks);
            self.session
                .ui
                .status("the operation was being taken back, and some nodes have noted that: finishing that");
            let operation = self.roll_back(rolling, false)?;
            return Ok(operation.map_or(Resumed::Nothing, |operation| Resumed::Finished(Box::new(operation))));
        }
        if !missing.is_empty() {
            self.clear(&missing)?;
            let words = unfinished.legs.first().map(|(_, journal)| journal.words.clone()).unwrap_or_default();
            self.discard(&unfinished)?;
            drop(locks);
            return Ok(Resumed::NotBegun(words));
        }
        adopt_all(&mut operation, &unfinished);
        operation.provisioning_state = ProvisioningState::CertificateRotating;
        let legs = &mut unfinished.legs;
        // Where one node has noted the end, all others are through, too.
        let walked = match ended {
            Some(_) => Ok(()),
            None => self.look_at_all(legs, false, false).and_then(|()| self.walk(rolling, &mut operation, legs)),
        };
        let outcome = walked
            .and_then(|()| self.settle(&mut operation, legs, ProvisioningState::Succeeded, began))
            .map_err(|error| self.with_ways_out(&operation, legs, error));
        record::keep(self.session, self.target, &operation);
        drop(locks);
        // Nodes that had noted the end before, but not removed what is no longer needed.
        let outcome = outcome.and_then(|()| self.clear(&unfinished.without));
        outcome.map(|()| Resumed::Finished(Box::new(operation)))
    }

    /// Takes back what was interrupted, last round and last node first. `None` when there is nothing.
    ///
    /// # Errors
    /// As [`Crew::roll_on`]; exit code 1, with nothing changed, when a round has begun from which there is no way back.
    pub(super) fn roll_back(&self, rolling: &Rolling<'_>, force: bool) -> anyhow::Result<Option<Operation>> {
        let began = Instant::now();
        let Some((mut unfinished, mut operation, locks)) = self.take_up()? else { return Ok(None) };
        let (never_staged, ended) = self.missing(&unfinished)?;
        if ended == Some(ProvisioningState::Succeeded) {
            adopt_all(&mut operation, &unfinished);
            self.settle(&mut operation, &unfinished.legs, ProvisioningState::Succeeded, began)?;
            self.clear(&unfinished.without)?;
            let message = "the operation was already finished on every node; only that was still to be noted";
            return Err(Failure::failed(message).hint("nothing is left to take back; run it anew for a change").into());
        }
        self.refuse_too_late(&unfinished.legs)?;
        self.clear(&never_staged)?;
        adopt_all(&mut operation, &unfinished);
        let legs = &mut unfinished.legs;
        let outcome = self
            .look_at_all(legs, true, force)
            .and_then(|()| self.walk_back(rolling, &mut operation, legs, force))
            .and_then(|()| self.settle(&mut operation, legs, ProvisioningState::Canceled, began));
        outcome.map_err(|error| self.with_ways_out(&operation, legs, error))?;
        record::keep(self.session, self.target, &operation);
        drop(locks);
        if ended.is_some() {
            self.clear(&unfinished.without)?;
        }
        Ok(Some(operation))
    }

    /// The unfinished operation with the locks of its nodes; `None` when there is none.
    fn take_up(&self) -> anyhow::Result<Option<(Unfinished<'a>, Operation, Locks)>> {
        let seen = self.gather()?;
        let locks = self.hold(seen.legs.iter().map(|(target, _)| *target))?;
        // Somebody else may have been at work until the locks were taken.
        let unfinished = if seen.legs.is_empty() { seen } else { self.again(&seen)? };
        let Some(operation) = unfinished.operation().cloned() else { return Ok(None) };
        Ok(Some((unfinished, operation, locks)))
    }

    /// The unfinished operation as it is now that the locks are held.
    fn again(&self, seen: &Unfinished<'_>) -> anyhow::Result<Unfinished<'a>> {
        let now = self.gather()?;
        let is_held = |target: &TargetNode| seen.legs.iter().any(|(held, _)| held.node.name() == target.node.name());
        if now.legs.iter().all(|(target, _)| is_held(target)) {
            return Ok(now);
        }
        let message = "another operation has begun on these nodes meanwhile";
        Err(Failure::failed(message).hint("run the command again when that has ended").into())
    }

    /// Takes the locks of all nodes, in order.
    fn hold<'t>(&self, targets: impl Iterator<Item = &'t TargetNode>) -> anyhow::Result<Locks> {
        targets.map(|target| self.on(target, |transactions| transactions.hold())).collect()
    }

    /// Stages on all nodes side by side; when one cannot, none keeps anything.
    fn stage(&self, legs: &[(&'a TargetNode, Mutex<Option<Request>>)]) -> anyhow::Result<Legs<'a>> {
        let nodes: Vec<&dyn Node> = legs.iter().map(|(target, _)| &*target.node).collect();
        let staged = side_by_side(&nodes, AT_ONCE, &self.session.interrupt, &|_| {}, &|node| {
            let leg = legs.iter().find(|(target, _)| target.node.name() == node.name());
            let request = leg.and_then(|(_, request)| request.lock().ok()?.take());
            let request = request.ok_or_else(|| Failure::failed("a node of the plan is none of the target's"))?;
            self.quietly(self.target_of(node.name())?, |transactions| transactions.stage(request))
        });
        let staged = staged.into_iter().zip(legs).map(|(result, (target, _))| result.map(|journal| (*target, journal)));
        let (mut done, mut stopped) = (Vec::new(), None);
        for result in staged {
            match result {
                Ok(leg) => done.push(leg),
                Err(error) => stopped = stopped.or(Some(error)),
            }
        }
        let Some(error) = stopped.or_else(|| self.session.interrupt.check().err()) else { return Ok(done) };
        for (target, _) in done {
            if let Err(error) = self.on(target, |transactions| transactions.discard()) {
                self.session.ui.warning(&format!("{}: a stage is left behind: {error:#}", target.node.name()));
            }
        }
        Err(error)
    }

    fn clear(&self, names: &[String]) -> anyhow::Result<()> {
        names.iter().try_for_each(|name| self.on(self.target_of(name)?, |transactions| transactions.clear()))
    }

    fn discard(&self, unfinished: &Unfinished<'_>) -> anyhow::Result<()> {
        unfinished.legs.iter().try_for_each(|(target, _)| self.on(target, |transactions| transactions.discard()))
    }

    fn settle(
        &self,
        operation: &mut Operation,
        legs: &Legs<'_>,
        state: ProvisioningState,
        began: Instant,
    ) -> anyhow::Result<()> {
        for (target, _) in legs {
            let part = self.on(target, |transactions| transactions.settle(state, &operation.phases, began))?;
            operation.adopt(part, target.node.name());
        }
        operation.provisioning_state = state;
        if state == ProvisioningState::Canceled {
            // They followed from what is taken back.
            operation.next_steps.clear();
        }
        Ok(())
    }
}

fn blame(operation: &mut Operation, node: &str, error: &anyhow::Error) {
    for report in operation.nodes.iter_mut().filter(|report| report.name == node) {
        report.state = NodeState::Failed;
        report.error = Some(format!("{error:#}"));
    }
}

//! The rounds of an operation, forwards and back: a round ends on all nodes before the next one begins on any.
//!
//! Within a round the nodes go one after another, control plane first, workers in batches; each goes through its own steps.
//! What has happened is told by the nodes' journals alone, so a walk begins wherever the last one stopped, whichever way
//! that one went.

use super::{Crew, Heading, Legs, Moment, Rolling, blame};
use crate::apply::journal::Journal;
use crate::cli::record;
use crate::cli::target::TargetNode;
use crate::error::{ExitCode, Failure, exit_code};
use crate::node::Node;
use crate::node::fleet::{AT_ONCE, side_by_side};
use crate::pki::layout::Role;
use crate::plan::operation::{NodeState, Operation};
use crate::plan::phase::Phase;
use crate::plan::restart::command;

/// All rounds of the nodes, in order.
pub(super) fn phases<'j>(journals: impl Iterator<Item = &'j Journal>) -> Vec<Phase> {
    let mut phases: Vec<Phase> = journals.flat_map(Journal::phases).collect();
    phases.sort_unstable();
    phases.dedup();
    phases
}

/// Whether the operation goes through rounds at all.
fn is_in_rounds(legs: &Legs<'_>) -> bool {
    legs.iter().any(|(_, journal)| !journal.steps.is_empty())
}

/// Says where it stopped, for an operation of several rounds.
fn named(error: anyhow::Error, phase: Phase, legs: &Legs<'_>) -> anyhow::Error {
    if is_in_rounds(legs) { error.context(format!("in the phase \"{phase}\"")) } else { error }
}

/// Nodes that were left behind when others went on: no run leaves them so.
fn refuse_stragglers(legs: &Legs<'_>, phase: Phase) -> anyhow::Result<()> {
    let Some((target, _)) = legs.iter().find(|(_, journal)| !journal.has_finished(phase)) else { return Ok(()) };
    let message = format!("{} has not done what other nodes rely on already", target.node.name());
    Err(Failure::partial(message).hint("look at the journals in kubepki's folders on the nodes").into())
}

impl<'a> Crew<'a> {
    /// Goes through all rounds that are not over.
    pub(super) fn walk(
        &self,
        rolling: &Rolling<'_>,
        operation: &mut Operation,
        legs: &mut Legs<'a>,
    ) -> anyhow::Result<()> {
        for phase in phases(legs.iter().map(|(_, journal)| journal)) {
            self.round(rolling, operation, legs, phase).map_err(|error| named(error, phase, legs))?;
        }
        Ok(())
    }

    fn round(
        &self,
        rolling: &Rolling<'_>,
        operation: &mut Operation,
        legs: &mut Legs<'a>,
        phase: Phase,
    ) -> anyhow::Result<()> {
        if legs.iter().any(|(_, journal)| journal.is_beyond(phase)) {
            return refuse_stragglers(legs, phase);
        }
        let is_first = !legs.iter().any(|(_, journal)| journal.has_begun(phase));
        if is_in_rounds(legs) {
            let now = self.moment();
            let report = operation.phase(phase);
            if is_first || report.started_at.is_none() {
                report.started_at = Some(now);
            }
            report.ended_at = None;
            self.mark(operation, legs)?;
        }
        if is_first {
            self.pause(operation, legs)?;
            (rolling.between)(Moment::Before(phase), legs)?;
        }
        let ahead = |role: fn(Role) -> bool| -> Vec<usize> {
            let places = legs.iter().enumerate();
            places
                .filter(|(_, (target, journal))| role(target.role) && !journal.has_finished(phase))
                .map(|(place, _)| place)
                .collect()
        };
        let ruling = ahead(|role| role == Role::ControlPlane);
        let workers = ahead(|role| role != Role::ControlPlane);
        for batch in ruling.chunks(1).chain(workers.chunks(rolling.parallel.max(1))) {
            self.pause(operation, legs)?;
            let outcome = self.batch(rolling, operation, legs, phase, batch);
            record::keep(self.session, self.target, operation);
            outcome?;
        }
        (rolling.between)(Moment::After(phase), legs)?;
        if is_in_rounds(legs) {
            operation.phase(phase).ended_at = Some(self.moment());
        }
        record::keep(self.session, self.target, operation);
        Ok(())
    }

    /// Some nodes side by side, each through all its steps of the round.
    fn batch(
        &self,
        rolling: &Rolling<'_>,
        operation: &mut Operation,
        legs: &mut Legs<'a>,
        phase: Phase,
        batch: &[usize],
    ) -> anyhow::Result<()> {
        let own: Vec<&(&TargetNode, Journal)> = batch.iter().filter_map(|place| legs.get(*place)).collect();
        let names: Vec<&str> = own.iter().map(|(target, _)| target.node.name()).collect();
        let changing = format!("changing {}", names.join(", "));
        let status = if is_in_rounds(legs) { format!("{phase}: {changing}") } else { changing };
        self.session.ui.status(&status);
        let nodes: Vec<&dyn Node> = own.iter().map(|(target, _)| &*target.node).collect();
        let done = side_by_side(&nodes, nodes.len(), &self.session.interrupt, &|_| {}, &|node| {
            let leg = own.iter().find(|(target, _)| target.node.name() == node.name());
            let (target, journal) =
                leg.ok_or_else(|| Failure::failed("a node of the round is none of the target's"))?;
            self.leg(rolling, target, journal, phase)
        });
        let mut stopped = None;
        for (place, done) in batch.iter().zip(done) {
            let Some((target, journal)) = legs.get_mut(*place) else { continue };
            match done {
                Ok(now) => {
                    operation.adopt(now.operation.clone(), target.node.name());
                    *journal = now;
                }
                Err(error) => {
                    // How far it came is in its own journal.
                    journal.begun = true;
                    blame(operation, target.node.name(), &error);
                    stopped = stopped.or(Some(error));
                }
            }
        }
        stopped.map_or(Ok(()), Err)
    }

    /// One node through its steps of the round.
    fn leg(
        &self,
        rolling: &Rolling<'_>,
        target: &TargetNode,
        journal: &Journal,
        phase: Phase,
    ) -> anyhow::Result<Journal> {
        let mut journal = journal.clone();
        while journal.steps_of(phase).contains(&journal.done) {
            let step = journal.done;
            (rolling.before)(target, &journal, step, Heading::Onwards);
            let changed = self.on(target, |transactions| transactions.advance(step))?;
            self.after_changes(rolling, target, &changed, step)?;
            journal = self.on(target, |transactions| transactions.pass(step))?;
        }
        Ok(journal)
    }

    /// The rounds in the other order, and within each the nodes and their steps in the other order.
    pub(super) fn walk_back(
        &self,
        rolling: &Rolling<'_>,
        operation: &mut Operation,
        legs: &mut Legs<'a>,
        force: bool,
    ) -> anyhow::Result<()> {
        for phase in phases(legs.iter().map(|(_, journal)| journal)).into_iter().rev() {
            self.round_back(rolling, operation, legs, phase, force).map_err(|error| named(error, phase, legs))?;
        }
        for (target, journal) in legs.iter_mut().rev().filter(|_| force) {
            // What somebody else has changed where the operation never came to.
            if !self.on(target, |transactions| transactions.is_untouched(journal))? {
                self.step_back(rolling, target, journal, 0, force)?;
            }
        }
        for (target, journal) in legs.iter_mut() {
            if journal.operation.nodes.iter().any(|it| it.name == journal.node && it.state != NodeState::RolledBack) {
                *journal = self.on(target, |transactions| transactions.recover(0))?;
            }
            operation.adopt(journal.operation.clone(), target.node.name());
        }
        Ok(())
    }

    fn round_back(
        &self,
        rolling: &Rolling<'_>,
        operation: &mut Operation,
        legs: &mut Legs<'a>,
        phase: Phase,
        force: bool,
    ) -> anyhow::Result<()> {
        let has_started = is_in_rounds(legs) && operation.phase(phase).started_at.is_some();
        if !has_started && !legs.iter().any(|(_, journal)| journal.has_begun(phase)) {
            return Ok(());
        }
        for place in (0..legs.len()).rev() {
            let Some((target, journal)) = legs.get_mut(place).filter(|(_, journal)| journal.has_begun(phase)) else {
                continue;
            };
            let target = *target;
            let mut at = journal.clone();
            self.pause(operation, legs)?;
            while let Some(step) = at.last_begun().filter(|step| at.steps_of(phase).contains(step)) {
                self.step_back(rolling, target, &mut at, step, force)?;
            }
            operation.adopt(at.operation.clone(), target.node.name());
            legs[place].1 = at;
            record::keep(self.session, self.target, operation);
        }
        (rolling.between)(Moment::TakenBack(phase), legs)?;
        if is_in_rounds(legs) {
            let report = operation.phase(phase);
            (report.started_at, report.ended_at) = (None, None);
            self.mark(operation, legs)?;
        }
        record::keep(self.session, self.target, operation);
        Ok(())
    }

    fn step_back(
        &self,
        rolling: &Rolling<'_>,
        target: &TargetNode,
        journal: &mut Journal,
        step: usize,
        force: bool,
    ) -> anyhow::Result<()> {
        (rolling.before)(target, journal, step, Heading::Back);
        let back = self.on(target, |transactions| transactions.retreat(step, force))?;
        self.after_changes(rolling, target, &back, step)?;
        *journal = self.on(target, |transactions| transactions.recover(step))?;
        Ok(())
    }

    /// Restarts what no file restarts, and waits until the node is well. What goes wrong is noted on the node.
    fn after_changes(
        &self,
        rolling: &Rolling<'_>,
        target: &TargetNode,
        journal: &Journal,
        step: usize,
    ) -> anyhow::Result<()> {
        let restarted = || {
            let name = target.node.name();
            let reports = journal.operation.nodes.iter().filter(|report| report.name == name);
            let components: Vec<&String> = match journal.steps.get(step) {
                Some(step) => step.restarts.iter().collect(),
                None => reports.flat_map(|report| &report.restarts).collect(),
            };
            for component in components {
                if let Some(command) = command(&rolling.means, component) {
                    self.session.ui.step(&format!("{name}: restarting {component}: {command}"));
                    target.node.run(&command)?;
                }
            }
            (rolling.prove)(target, journal, step)
        };
        restarted().map_err(|error| self.on(target, |transactions| transactions.halt(error)))
    }

    /// Puts the times of the phases into every node's journal.
    fn mark(&self, operation: &Operation, legs: &mut Legs<'a>) -> anyhow::Result<()> {
        let nodes: Vec<&dyn Node> = legs.iter().map(|(target, _)| &*target.node).collect();
        let marked = side_by_side(&nodes, AT_ONCE, &self.session.interrupt, &|_| {}, &|node| {
            self.quietly(self.target_of(node.name())?, |transactions| transactions.mark(&operation.phases))
        });
        for (marked, (_, journal)) in marked.into_iter().zip(legs) {
            marked?;
            journal.operation.phases.clone_from(&operation.phases);
        }
        Ok(())
    }

    /// This moment, to the second.
    fn moment(&self) -> time::OffsetDateTime {
        let now = self.session.by_now();
        now.replace_nanosecond(0).unwrap_or(now)
    }

    /// Looks at all nodes before anything changes on one: are all files accounted for, are the copies good.
    pub(super) fn look_at_all(&self, legs: &Legs<'a>, back: bool, force: bool) -> anyhow::Result<()> {
        let nodes: Vec<&dyn Node> = legs.iter().map(|(target, _)| &*target.node).collect();
        let looked = side_by_side(&nodes, AT_ONCE, &self.session.interrupt, &|_| {}, &|node| {
            self.quietly(self.target_of(node.name())?, |transactions| transactions.look(back, force))
        });
        looked.into_iter().collect()
    }

    /// Refuses to go back when a round has begun somewhere from which there is no way back.
    pub(super) fn refuse_too_late(&self, legs: &Legs<'a>) -> anyhow::Result<()> {
        for (target, journal) in legs.iter().filter(|(_, journal)| !journal.can_be_taken_back()) {
            let first = journal.phases().into_iter().find(|phase| !phase.can_be_taken_back());
            let first = first.map_or(0, |phase| journal.steps_of(phase).start);
            // A round of which only its beginning was noted has changed nothing yet.
            if journal.done == first && !self.on(target, |transactions| transactions.has_changed(journal))? {
                continue;
            }
            let command = self.command_line(&journal.operation.command);
            let message =
                format!("{}: old trust is being dropped already, which cannot be taken back", target.node.name());
            return Err(Failure::failed(message).hint(format!("`{command} --continue` finishes it")).into());
        }
        Ok(())
    }

    /// Stops between two nodes when somebody asked for it.
    fn pause(&self, operation: &Operation, legs: &Legs<'_>) -> anyhow::Result<()> {
        let Err(error) = self.session.interrupt.check() else { return Ok(()) };
        let message = "stopped between two nodes; what is done is kept".to_owned();
        let failure = Failure::new(ExitCode::Interrupted, message).hint(self.ways_out(operation, legs));
        Err(error.context(failure))
    }

    fn ways_out(&self, operation: &Operation, legs: &Legs<'_>) -> String {
        let can_be_taken_back = legs.iter().all(|(_, journal)| journal.can_be_taken_back());
        crate::apply::transaction::ways_out(&self.command_line(&operation.command), can_be_taken_back)
    }

    /// An error between the first change and the end of an operation: whatever it was, the operation is unfinished.
    pub(super) fn with_ways_out(&self, operation: &Operation, legs: &Legs<'_>, error: anyhow::Error) -> anyhow::Error {
        let code = exit_code(&error);
        let is_told = crate::error::hints(&error).iter().any(|hint| hint.contains("--continue"));
        if code == ExitCode::Partial || code == ExitCode::Interrupted && is_told {
            return error;
        }
        let code = if code == ExitCode::Interrupted { code } else { ExitCode::Partial };
        let message = format!("operation {} has begun and is not finished", operation.id);
        error.context(Failure::new(code, message).hint(self.ways_out(operation, legs)))
    }
}

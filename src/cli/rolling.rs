//! One operation over the nodes of a live cluster: staged on all of them, then node after node, each proven well before
//! the next one begins.
//!
//! Control-plane nodes go strictly one at a time, workers in batches. Whatever stops the run, every node's journal knows
//! how to go on and how to go back, so another workstation can do either.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

use super::carry_out::Crew;
use super::record;
use super::target::TargetNode;
use crate::apply::change::Request;
use crate::apply::journal::Journal;
use crate::error::{ExitCode, Failure, exit_code};
use crate::node::fleet::{AT_ONCE, side_by_side};
use crate::node::{LockGuard, Node};
use crate::pki::layout::Role;
use crate::plan::operation::{FileAction, NodeReport, NodeState, Operation, ProvisioningState};
use crate::plan::restart::{Means, command};

/// Waits until a node is well, by what its journal says has changed.
pub type Proof<'a> = dyn Fn(&TargetNode, &Journal) -> anyhow::Result<()> + Sync + 'a;

/// How a live cluster is changed.
pub struct Rolling<'a> {
    /// How components are restarted.
    pub means: Means,
    /// How many workers are changed side by side; at least 1.
    pub parallel: usize,
    /// Waits until a node on which files have changed is well again, and proves it.
    pub prove: Box<Proof<'a>>,
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

/// The unfinished operation, as the nodes have it.
struct Unfinished<'a> {
    legs: Vec<(&'a TargetNode, Journal)>,
    /// Nodes of the plan that have no unfinished journal.
    without: Vec<String>,
}

impl Unfinished<'_> {
    fn operation(&self) -> Option<&Operation> {
        self.legs.first().map(|(_, journal)| &journal.operation)
    }
}

impl Crew<'_> {
    /// Carries a plan out on all its nodes.
    ///
    /// # Errors
    /// Exit code 1 when nothing has changed; 6 when it stopped in between; 130 when interrupted.
    pub fn roll(
        &self,
        rolling: &Rolling<'_>,
        operation: &mut Operation,
        requests: Vec<(&dyn Node, Request)>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut legs = Vec::new();
        for (node, request) in requests {
            legs.push((self.target_of(node.name())?, Mutex::new(Some(request))));
        }
        let locks = self.hold(legs.iter().map(|(target, _)| *target))?;
        self.stage(&legs)?;
        let targets: Vec<&TargetNode> = legs.iter().map(|(target, _)| *target).collect();
        operation.provisioning_state = ProvisioningState::CertificateRotating;
        operation.started_at = Some(self.session.now);
        record::keep(self.session, self.target, operation);
        let outcome = self
            .walk(rolling, operation, &targets)
            .and_then(|()| self.settle(operation, &targets, ProvisioningState::Succeeded, began))
            .map_err(|error| self.with_ways_out(operation, error));
        if outcome.is_err() {
            operation.provisioning_state = ProvisioningState::Failed;
        }
        record::keep(self.session, self.target, operation);
        drop(locks);
        outcome
    }

    /// Goes on with what was interrupted.
    ///
    /// # Errors
    /// As [`Crew::roll`]; also when the operation concerns nodes that are not in the target.
    pub(super) fn roll_on(&self, rolling: &Rolling<'_>) -> anyhow::Result<Resumed> {
        let began = Instant::now();
        let unfinished = self.gather()?;
        let Some(mut operation) = unfinished.operation().cloned() else { return Ok(Resumed::Nothing) };
        let targets: Vec<&TargetNode> = unfinished.legs.iter().map(|(target, _)| *target).collect();
        let locks = self.hold(targets.iter().copied())?;
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
        let is_through = |target: &&TargetNode| {
            let report = |report: &&NodeReport| report.name == target.node.name();
            operation.nodes.iter().find(report).is_some_and(|report| report.state == NodeState::Finished)
        };
        let ahead: Vec<&TargetNode> = targets.iter().copied().filter(|target| !is_through(target)).collect();
        let outcome = self
            .walk(rolling, &mut operation, &ahead)
            .and_then(|()| self.settle(&mut operation, &targets, ProvisioningState::Succeeded, began))
            .map_err(|error| self.with_ways_out(&operation, error));
        record::keep(self.session, self.target, &operation);
        drop(locks);
        // Nodes that had noted the end before, but not removed what is no longer needed.
        let outcome = outcome.and_then(|()| self.clear(&unfinished.without));
        outcome.map(|()| Resumed::Finished(Box::new(operation)))
    }

    /// Takes back what was interrupted, last node first. `None` when there is nothing.
    ///
    /// # Errors
    /// As [`Crew::roll_on`].
    pub(super) fn roll_back(&self, rolling: &Rolling<'_>, force: bool) -> anyhow::Result<Option<Operation>> {
        let began = Instant::now();
        let unfinished = self.gather()?;
        let Some(mut operation) = unfinished.operation().cloned() else { return Ok(None) };
        let targets: Vec<&TargetNode> = unfinished.legs.iter().map(|(target, _)| *target).collect();
        let locks = self.hold(targets.iter().copied())?;
        let (never_staged, ended) = self.missing(&unfinished)?;
        self.clear(&never_staged)?;
        adopt_all(&mut operation, &unfinished);
        if ended == Some(ProvisioningState::Succeeded) {
            self.settle(&mut operation, &targets, ProvisioningState::Succeeded, began)?;
            self.clear(&unfinished.without)?;
            let message = "the operation was already finished on every node; only that was still to be noted";
            return Err(Failure::failed(message).hint("nothing is left to take back; run it anew for a change").into());
        }
        let outcome = self
            .walk_back(rolling, &mut operation, &targets, force)
            .and_then(|()| self.settle(&mut operation, &targets, ProvisioningState::Canceled, began));
        outcome.map_err(|error| self.with_ways_out(&operation, error))?;
        record::keep(self.session, self.target, &operation);
        drop(locks);
        if ended.is_some() {
            self.clear(&unfinished.without)?;
        }
        Ok(Some(operation))
    }

    /// The nodes in their order: control plane one by one, then workers in batches.
    fn walk(&self, rolling: &Rolling<'_>, operation: &mut Operation, targets: &[&TargetNode]) -> anyhow::Result<()> {
        let is_ruling = |target: &&&TargetNode| target.role == Role::ControlPlane;
        let (ruling, workers): (Vec<&TargetNode>, Vec<&TargetNode>) = (
            targets.iter().filter(is_ruling).copied().collect(),
            targets.iter().filter(|it| !is_ruling(it)).copied().collect(),
        );
        let batches = ruling.chunks(1).chain(workers.chunks(rolling.parallel.max(1)));
        for batch in batches {
            self.pause(operation)?;
            let names: Vec<&str> = batch.iter().map(|target| target.node.name()).collect();
            self.session.ui.status(&format!("changing {}", names.join(", ")));
            let nodes: Vec<&dyn Node> = batch.iter().map(|target| &*target.node).collect();
            let done = side_by_side(&nodes, nodes.len(), &self.session.interrupt, &|_| {}, &|node| {
                self.leg(rolling, self.target_of(node.name())?)
            });
            let mut stopped = None;
            for (target, done) in batch.iter().zip(done) {
                match done {
                    Ok(part) => operation.adopt(part, target.node.name()),
                    Err(error) => {
                        blame(operation, target.node.name(), &error);
                        stopped = stopped.or(Some(error));
                    }
                }
            }
            record::keep(self.session, self.target, operation);
            if let Some(error) = stopped {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The nodes in the other order, each as it was.
    fn walk_back(
        &self,
        rolling: &Rolling<'_>,
        operation: &mut Operation,
        targets: &[&TargetNode],
        force: bool,
    ) -> anyhow::Result<()> {
        for target in targets.iter().rev() {
            self.pause(operation)?;
            let (journal, had_changed) = self.on(target, |transactions| transactions.retreat(force))?;
            if had_changed {
                let proven = self.after_changes(rolling, target, &journal);
                proven.map_err(|error| self.on(target, |transactions| transactions.halt(error)))?;
            }
            let part = self.on(target, |transactions| transactions.arrive(NodeState::RolledBack))?;
            operation.adopt(part, target.node.name());
        }
        Ok(())
    }

    /// An error between the first change and the end of an operation: whatever it was, the operation is unfinished.
    fn with_ways_out(&self, operation: &Operation, error: anyhow::Error) -> anyhow::Error {
        if matches!(exit_code(&error), ExitCode::Partial | ExitCode::Interrupted) {
            return error;
        }
        let command = self.command_line(&operation.command);
        let message = format!("operation {} has begun and is not finished", operation.id);
        let ways = format!("`{command} --continue` finishes it, `{command} --abort` takes it back");
        error.context(Failure::partial(message).hint(ways))
    }

    fn leg(&self, rolling: &Rolling<'_>, target: &TargetNode) -> anyhow::Result<Operation> {
        let journal = self.on(target, |transactions| transactions.advance())?;
        let proven = self.after_changes(rolling, target, &journal);
        proven.map_err(|error| self.on(target, |transactions| transactions.halt(error)))?;
        self.on(target, |transactions| transactions.arrive(NodeState::Finished))
    }

    /// Restarts what no file restarts, and waits until the node is well.
    fn after_changes(&self, rolling: &Rolling<'_>, target: &TargetNode, journal: &Journal) -> anyhow::Result<()> {
        let name = target.node.name();
        let reports = journal.operation.nodes.iter().filter(|report| report.name == name);
        for component in reports.flat_map(|report| &report.restarts) {
            if let Some(command) = command(&rolling.means, component) {
                self.session.ui.step(&format!("{name}: restarting {component}: {command}"));
                target.node.run(&command)?;
            }
        }
        (rolling.prove)(target, journal)
    }

    /// Takes the locks of all nodes, in order.
    fn hold<'t>(&self, targets: impl Iterator<Item = &'t TargetNode>) -> anyhow::Result<Vec<Box<dyn LockGuard>>> {
        targets.map(|target| self.on(target, |transactions| transactions.hold())).collect()
    }

    /// Stages on all nodes side by side; when one cannot, none keeps anything.
    fn stage(&self, legs: &[(&TargetNode, Mutex<Option<Request>>)]) -> anyhow::Result<()> {
        let nodes: Vec<&dyn Node> = legs.iter().map(|(target, _)| &*target.node).collect();
        let staged = side_by_side(&nodes, AT_ONCE, &self.session.interrupt, &|_| {}, &|node| {
            let leg = legs.iter().find(|(target, _)| target.node.name() == node.name());
            let request = leg.and_then(|(_, request)| request.lock().ok()?.take());
            let request = request.ok_or_else(|| Failure::failed("a node of the plan is none of the target's"))?;
            self.quietly(self.target_of(node.name())?, |transactions| transactions.stage(request))
        });
        let staged = staged.into_iter().zip(legs).map(|(result, (target, _))| result.map(|()| *target));
        let (mut done, mut stopped) = (Vec::new(), None);
        for result in staged {
            match result {
                Ok(target) => done.push(target),
                Err(error) => stopped = stopped.or(Some(error)),
            }
        }
        let Some(error) = stopped.or_else(|| self.session.interrupt.check().err()) else { return Ok(()) };
        for target in done {
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
        targets: &[&TargetNode],
        state: ProvisioningState,
        began: Instant,
    ) -> anyhow::Result<()> {
        for target in targets {
            let part = self.on(target, |transactions| transactions.settle(state, began))?;
            operation.adopt(part, target.node.name());
        }
        operation.provisioning_state = state;
        Ok(())
    }

    /// The unfinished operation of the target's nodes.
    fn gather(&self) -> anyhow::Result<Unfinished<'_>> {
        let mut legs: Vec<(&TargetNode, Journal)> = Vec::new();
        for (target, found) in self.target.nodes.iter().zip(self.journals()?) {
            let Some(journal) = found else { continue };
            self.refuse_other(&journal)?;
            if let Some((first, other)) = legs.first().filter(|(_, other)| other.operation.id != journal.operation.id) {
                return Err(Failure::partial(format!(
                    "{} has begun operation {} and {} operation {}: they were begun apart",
                    first.node.name(),
                    other.operation.id,
                    target.node.name(),
                    journal.operation.id
                ))
                .hint("finish or take back each one with --node")
                .into());
            }
            legs.push((target, journal));
        }
        let planned: BTreeSet<&str> = legs
            .iter()
            .flat_map(|(_, journal)| &journal.operation.nodes)
            .filter(|report| report.files.iter().any(|file| file.action != FileAction::Unchanged))
            .map(|report| report.name.as_str())
            .collect();
        let without = planned.into_iter().filter(|name| !legs.iter().any(|(target, _)| target.node.name() == *name));
        let without = without.map(str::to_owned).collect();
        Ok(Unfinished { legs, without })
    }

    /// Nodes of the plan that were never staged: the operation has not begun anywhere then. Nodes that have already noted
    /// its end are not among them.
    ///
    /// Also how those have noted its end, if there are any.
    fn missing(&self, unfinished: &Unfinished<'_>) -> anyhow::Result<(Vec<String>, Option<ProvisioningState>)> {
        let Some(operation) = unfinished.operation() else { return Ok((Vec::new(), None)) };
        let (mut missing, mut ended) = (Vec::new(), None);
        for name in &unfinished.without {
            let Ok(target) = self.target_of(name) else {
                return Err(Failure::partial(format!("operation {} concerns the node {name} too", operation.id))
                    .hint("give all nodes of the cluster file, without --node and --role")
                    .into());
            };
            match self.on(target, |transactions| transactions.last())? {
                Some(last) if last.id == operation.id => ended = Some(last.provisioning_state),
                _ => missing.push(name.clone()),
            }
        }
        if missing.is_empty() {
            return Ok((missing, ended));
        }
        for (target, journal) in &unfinished.legs {
            if !self.on(target, |transactions| transactions.is_untouched(journal))? {
                return Err(Failure::partial(format!(
                    "{}: files have changed, but {} knows nothing of operation {}",
                    target.node.name(),
                    missing.join(", "),
                    operation.id
                ))
                .hint("look at kubepki's folder on those nodes; --node NAME --abort takes one node back")
                .into());
            }
        }
        Ok((missing, ended))
    }

    /// Stops between two nodes when somebody asked for it.
    fn pause(&self, operation: &Operation) -> anyhow::Result<()> {
        let Err(error) = self.session.interrupt.check() else { return Ok(()) };
        let command = self.command_line(&operation.command);
        let message = "stopped between two nodes; what is done is kept".to_owned();
        let failure = Failure::new(ExitCode::Interrupted, message)
            .hint(format!("`{command} --continue` finishes it, `{command} --abort` takes it back"));
        Err(error.context(failure))
    }
}

fn adopt_all(operation: &mut Operation, unfinished: &Unfinished<'_>) {
    for (target, journal) in &unfinished.legs {
        operation.adopt(journal.operation.clone(), target.node.name());
    }
    for name in &unfinished.without {
        for report in operation.nodes.iter_mut().filter(|report| report.name == *name) {
            report.state = NodeState::Finished;
        }
    }
}

fn blame(operation: &mut Operation, node: &str, error: &anyhow::Error) {
    for report in operation.nodes.iter_mut().filter(|report| report.name == node) {
        report.state = NodeState::Failed;
        report.error = Some(format!("{error:#}"));
    }
}

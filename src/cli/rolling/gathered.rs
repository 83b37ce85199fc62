//! The unfinished operation of a cluster, put together from what its nodes have noted.

use std::collections::BTreeSet;

use super::{Crew, Legs};
use crate::apply::journal::Journal;
use crate::cli::target::TargetNode;
use crate::error::Failure;
use crate::plan::operation::{FileAction, NodeState, Operation, ProvisioningState};

/// The unfinished operation, as the nodes have it.
pub(super) struct Unfinished<'a> {
    pub(super) legs: Legs<'a>,
    /// Nodes of the plan that have no unfinished journal.
    pub(super) without: Vec<String>,
}

impl Unfinished<'_> {
    pub(super) fn operation(&self) -> Option<&Operation> {
        self.legs.first().map(|(_, journal)| &journal.operation)
    }
}

impl<'a> Crew<'a> {
    /// The unfinished operation of the target's nodes.
    pub(super) fn gather(&self) -> anyhow::Result<Unfinished<'a>> {
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
    pub(super) fn missing(
        &self,
        unfinished: &Unfinished<'_>,
    ) -> anyhow::Result<(Vec<String>, Option<ProvisioningState>)> {
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
}

/// Takes over what each node has noted.
pub(super) fn adopt_all(operation: &mut Operation, unfinished: &Unfinished<'_>) {
    for (target, journal) in &unfinished.legs {
        operation.adopt(journal.operation.clone(), target.node.name());
    }
    for name in &unfinished.without {
        for report in operation.nodes.iter_mut().filter(|report| report.name == *name) {
            report.state = NodeState::Finished;
        }
    }
}

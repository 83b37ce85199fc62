//! One node's part in an operation over several nodes: staged everywhere first, then carried out node by node.
//!
//! When every node has its stage, its backup and its journal, the whole operation can be finished or taken back from
//! anywhere, with nothing but the nodes. A node that is through stays unfinished in its journal until all nodes are:
//! until then either way is open on each of them.

use std::time::Instant;

use super::change::Request;
use super::journal::Journal;
use super::prepare::{Copies, refuse_request};
use super::progress::Event;
use super::standing::{Standing, standings};
use super::state::{OperationFolder, Stored};
use super::transaction::Transactions;
use crate::error::Failure;
use crate::node::{Effect, LockGuard};
use crate::plan::operation::{NodeState, Operation, ProvisioningState};

/// Permission bits of the folder above kubepki's own, where that has to be made.
const FOLDER_MODE: u32 = 0o755;

impl Transactions<'_> {
    /// Takes the node's lock for the length of an operation over several nodes.
    ///
    /// # Errors
    /// When somebody else holds it, or kubepki's folder cannot be made.
    pub fn hold(&self) -> anyhow::Result<Box<dyn LockGuard>> {
        let made = self.make_state_folder(FOLDER_MODE)?;
        self.lock().inspect_err(|_| self.unmake(&made))
    }

    /// Puts everything that will change, and everything that is there now, safely on the node's disk. The lock is held.
    ///
    /// # Errors
    /// As [`Transactions::run`] before its first change: nothing in use has changed.
    pub fn stage(&self, mut request: Request) -> anyhow::Result<()> {
        refuse_request(self.node.name(), &self.state_folder, &request)?;
        (self.progress)(Event::Started { files: request.changes.len() });
        request.operation.started_at = Some(self.owner.since);
        self.prepare(&request, NodeState::Pending)?;
        Ok(())
    }

    /// Makes every change that has not been made yet, and notes that the node is being worked on. The lock is held.
    ///
    /// # Errors
    /// As [`Transactions::resume`].
    pub fn advance(&self) -> anyhow::Result<Journal> {
        let stored = self.begun()?;
        self.ready(&stored, Copies::New, false)?;
        let Stored { mut journal, folder, .. } = stored;
        self.note(&mut journal, &folder, ProvisioningState::CertificateRotating, NodeState::Running)?;
        match self.make_changes(&journal, &folder) {
            Ok(()) => Ok(journal),
            Err(error) => Err(self.stopped(error, journal, &folder)),
        }
    }

    /// Puts every file back. The operation can still be gone on with. Whether anything had to be put back is told with the
    /// journal. The lock is held.
    ///
    /// # Errors
    /// As [`Transactions::abort`].
    pub fn retreat(&self, force: bool) -> anyhow::Result<(Journal, bool)> {
        let stored = self.begun()?;
        let standings = self.ready(&stored, Copies::Old, force)?;
        let Stored { mut journal, folder, .. } = stored;
        // Whoever goes on after a stop here must not take the node for one that is through.
        self.note(&mut journal, &folder, ProvisioningState::CertificateRotating, NodeState::Running)?;
        let had_changed = !standings.iter().all(Standing::is_before);
        match self.take_back(&journal, &folder, &standings) {
            Ok(()) => Ok((journal, had_changed)),
            Err(error) => Err(self.stopped(error, journal, &folder)),
        }
    }

    /// Notes that the node is through (or back), while other nodes are not. The lock is held.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn arrive(&self, state: NodeState) -> anyhow::Result<Operation> {
        let Stored { mut journal, folder, .. } = self.begun()?;
        self.note(&mut journal, &folder, ProvisioningState::CertificateRotating, state)?;
        Ok(journal.operation)
    }

    /// Notes why the node did not get through. Returns the error with both ways out.
    pub fn halt(&self, error: anyhow::Error) -> anyhow::Error {
        match self.begun() {
            Ok(Stored { journal, folder, .. }) => self.stopped(error, journal, &folder),
            Err(_) => error,
        }
    }

    /// Ends the operation on this node: all nodes are through, or all are back. The lock is held.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn settle(&self, state: ProvisioningState, began: Instant) -> anyhow::Result<Operation> {
        let Stored { mut journal, folder, .. } = self.begun()?;
        let node_state = match state {
            ProvisioningState::Canceled => NodeState::RolledBack,
            _ => NodeState::Finished,
        };
        self.end(&mut journal.operation, state, node_state, began);
        self.write_journal(&journal, &folder)?;
        self.tidy_up();
        Ok(journal.operation)
    }

    /// Removes a stage without a trace, when nothing has changed on this node. The lock is held.
    ///
    /// # Errors
    /// When something has changed, or the folder cannot be removed.
    pub fn discard(&self) -> anyhow::Result<()> {
        let Stored { journal, folder, .. } = self.begun()?;
        let standings = standings(self.node, &journal)?;
        if !standings.iter().all(Standing::is_before) {
            return Err(self.partial(&journal.operation, format!("{}: files have changed", self.node.name())).into());
        }
        // Without its journal the folder is rubbish, should the removal be interrupted.
        self.node.apply(&Effect::Remove { path: &folder.journal() })?;
        self.node.apply(&Effect::RemoveTree { path: &folder.0 })
    }

    /// Removes what a run left that was stopped while it staged.
    ///
    /// # Errors
    /// When somebody else is at work on the node.
    pub fn clear(&self) -> anyhow::Result<()> {
        let _lock = self.hold()?;
        self.tidy_up();
        Ok(())
    }

    /// Whether every file of the unfinished operation is as it was before. Takes no lock.
    ///
    /// # Errors
    /// When the node cannot be read.
    pub fn is_untouched(&self, journal: &Journal) -> anyhow::Result<bool> {
        Ok(standings(self.node, journal)?.iter().all(Standing::is_before))
    }

    fn begun(&self) -> anyhow::Result<Stored> {
        self.stored()?.ok_or_else(|| {
            let folder = self.state_folder.display();
            Failure::failed(format!("{}: the operation's journal in {folder} is gone", self.node.name())).into()
        })
    }

    fn note(
        &self,
        journal: &mut Journal,
        folder: &OperationFolder,
        state: ProvisioningState,
        node_state: NodeState,
    ) -> anyhow::Result<()> {
        journal.operation.provisioning_state = state;
        for report in journal.operation.nodes.iter_mut().filter(|report| report.name == self.node.name()) {
            report.state = node_state;
            report.error = None;
        }
        self.write_journal(journal, folder)
    }
}

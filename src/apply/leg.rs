//! One node's part in an operation over several nodes: staged everywhere first, then carried out node by node.
//!
//! When every node has its stage, its backup and its journal, the whole operation can be finished or taken back from
//! anywhere, with nothing but the nodes. A node that is through stays unfinished in its journal until all nodes are:
//! until then either way is open on each of them.

use std::time::Instant;

use super::change::Request;
use super::copies::Copies;
use super::journal::Journal;
use super::prepare::refuse_request;
use super::progress::Event;
use super::standing::{Standing, standings};
use super::state::{Contents, OperationFolder, Stored};
use super::transaction::Transactions;
use crate::error::Failure;
use crate::node::{Effect, LockGuard};
use crate::plan::operation::{NodeState, Operation, PhaseReport, ProvisioningState};

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
    pub fn stage(&self, mut request: Request) -> anyhow::Result<Journal> {
        refuse_request(self.node.name(), &self.state_folder, &request)?;
        (self.progress)(Event::Started { files: request.changes.len() });
        request.operation.started_at = Some(self.owner.since);
        Ok(self.prepare(&request, NodeState::Pending)?.journal)
    }

    /// Makes the changes of `step`, which has to be the next one, and notes that the node is being worked on. The lock is held.
    ///
    /// # Errors
    /// As [`Transactions::resume`].
    pub fn advance(&self, step: usize) -> anyhow::Result<Journal> {
        let stored = self.begun()?;
        self.refuse_unless(stored.journal.done == step, &stored.journal, step)?;
        self.ready(&stored, Copies::New, false)?;
        let Stored { mut journal, folder, .. } = stored;
        journal.begun = true;
        self.note(&mut journal, &folder, NodeState::Running)?;
        match self.make_changes(&journal, &folder) {
            Ok(()) => Ok(journal),
            Err(error) => Err(self.stopped(error, journal, &folder)),
        }
    }

    /// Notes that `step` is done and the node is well. The lock is held.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn pass(&self, step: usize) -> anyhow::Result<Journal> {
        let Stored { mut journal, folder, .. } = self.begun()?;
        self.refuse_unless(journal.done == step, &journal, step)?;
        (journal.done, journal.begun) = (step + 1, false);
        let state = if journal.done == journal.step_count() { NodeState::Finished } else { NodeState::Running };
        self.note(&mut journal, &folder, state)?;
        Ok(journal)
    }

    /// Puts the files back that `step` has changed, which has to be the last one begun. The operation can still be gone on
    /// with. The lock is held.
    ///
    /// # Errors
    /// As [`Transactions::abort`].
    pub fn retreat(&self, step: usize, force: bool) -> anyhow::Result<Journal> {
        let stored = self.begun()?;
        let is_last = [step, step + 1].contains(&stored.journal.done);
        self.refuse_unless(is_last, &stored.journal, step)?;
        self.ready(&stored, Copies::Old, force)?;
        let Stored { mut journal, folder, .. } = stored;
        // First of all: whoever goes on after a stop here must not take the step for one that is done.
        (journal.done, journal.begun) = (step, true);
        self.note(&mut journal, &folder, NodeState::Running)?;
        let taken = standings(self.node, &journal).and_then(|all| self.take_back(&journal, &folder, &all));
        match taken {
            Ok(()) => Ok(journal),
            Err(error) => Err(self.stopped(error, journal, &folder)),
        }
    }

    /// Notes that `step` is taken back and the node is well. The lock is held.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn recover(&self, step: usize) -> anyhow::Result<Journal> {
        let Stored { mut journal, folder, .. } = self.begun()?;
        self.refuse_unless(journal.done == step, &journal, step)?;
        journal.begun = false;
        let state = if step == 0 { NodeState::RolledBack } else { NodeState::Running };
        self.note(&mut journal, &folder, state)?;
        Ok(journal)
    }

    /// Looks whether the operation can be finished on this node as far as files are concerned, or taken back: every file is
    /// accounted for and the copies are good. Nothing in use is changed. The lock is held.
    ///
    /// # Errors
    /// As [`Transactions::resume`] before its first change.
    pub fn look(&self, back: bool, force: bool) -> anyhow::Result<()> {
        self.ready(&self.begun()?, if back { Copies::Old } else { Copies::New }, force)
    }

    /// Notes when the phases began and ended, for whoever asks this node. The lock is held.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn mark(&self, phases: &[PhaseReport]) -> anyhow::Result<()> {
        let Stored { mut journal, folder, .. } = self.begun()?;
        if journal.operation.phases == phases {
            return Ok(());
        }
        journal.operation.phases = phases.to_vec();
        self.write_journal(&journal, &folder)
    }

    /// Notes why the node did not get through. Returns the error with both ways out.
    pub fn halt(&self, error: anyhow::Error) -> anyhow::Error {
        match self.begun() {
            Ok(Stored { journal, folder, .. }) => self.stopped(error, journal, &folder),
            Err(_) => error,
        }
    }

    /// Ends the operation on this node: all nodes are through, or all are back. Folders that it made and that no file of its
    /// own is left in go. The lock is held.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn settle(
        &self,
        state: ProvisioningState,
        phases: &[PhaseReport],
        began: Instant,
    ) -> anyhow::Result<Operation> {
        let Stored { mut journal, folder, .. } = self.begun()?;
        let node_state = match state {
            ProvisioningState::Canceled => NodeState::RolledBack,
            _ => NodeState::Finished,
        };
        if node_state == NodeState::Finished {
            self.remove_directories(&journal, |directory| journal.leaves_nothing_in(directory))?;
        }
        journal.operation.phases = phases.to_vec();
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
        if !self.is_untouched(&journal)? {
            return Err(self.partial(&journal, format!("{}: files have changed", self.node.name())).into());
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

    /// Whether a run was stopped here before everything lay ready: files of its own are left, and no journal of them, so
    /// nothing in use has changed. Takes no lock: that run may be at work still.
    ///
    /// # Errors
    /// When kubepki's folder cannot be read.
    pub fn has_left_overs(&self) -> anyhow::Result<bool> {
        Ok(!Contents::read(self.node, &self.state())?.rubbish.is_empty())
    }

    /// Whether every file of the unfinished operation is as it was before. Takes no lock.
    ///
    /// # Errors
    /// When the node cannot be read.
    pub fn is_untouched(&self, journal: &Journal) -> anyhow::Result<bool> {
        Ok(journal.done == 0 && standings(self.node, journal)?.iter().all(Standing::is_before))
    }

    /// Whether some file of the step that is next is no longer as the step before left it. Takes no lock.
    ///
    /// # Errors
    /// When the node cannot be read.
    pub fn has_changed(&self, journal: &Journal) -> anyhow::Result<bool> {
        let standings = standings(self.node, journal)?;
        let mut own = journal.changes.iter().zip(&standings).filter(|(entry, _)| entry.step == journal.done);
        Ok(own.any(|(_, standing)| !standing.is_before()))
    }

    fn begun(&self) -> anyhow::Result<Stored> {
        self.stored()?.ok_or_else(|| {
            let folder = self.state_folder.display();
            Failure::failed(format!("{}: the operation's journal in {folder} is gone", self.node.name())).into()
        })
    }

    /// Steps are made one after another, whatever somebody else has made of the journal meanwhile.
    fn refuse_unless(&self, is_so: bool, journal: &Journal, step: usize) -> anyhow::Result<()> {
        if is_so {
            return Ok(());
        }
        let name = self.node.name();
        let message = format!("{name}: {} steps are done, so it is not the turn of step {}", journal.done, step + 1);
        Err(self.partial(journal, message).into())
    }

    fn note(&self, journal: &mut Journal, folder: &OperationFolder, node_state: NodeState) -> anyhow::Result<()> {
        journal.operation.provisioning_state = ProvisioningState::CertificateRotating;
        for report in journal.operation.nodes.iter_mut().filter(|report| report.name == self.node.name()) {
            report.state = node_state;
            report.error = None;
        }
        self.write_journal(journal, folder)
    }
}

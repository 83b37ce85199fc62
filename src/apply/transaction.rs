//! Several files of one node as one change: all of it, or back to where it was, whatever happens in between.
//!
//! Guard, stage, backup, journal, change, verify, finish, in this order. Until the journal is written nothing in use
//! has changed and every error cleans up; afterwards every error leaves what is needed to go on or to go back.

use std::path::{Path, PathBuf};
use std::time::Instant;

use time::OffsetDateTime;

use super::change::Request;
use super::journal::{Entry, FileState, Journal};
use super::prepare::{Prepared, refuse_request};
use super::progress::Event;
use super::standing::{Standing, standings};
use super::state::{Contents, OperationFolder, StateFolder, Stored, tidy};
use crate::error::{ExitCode, Failure, exit_code};
use crate::node::interrupt::Interrupt;
use crate::node::{Content, Effect, FoundState, LockGuard, LockOwner, Node, Query};
use crate::pki::layout::RECORDS;
use crate::plan::operation::{NodeState, Operation, ProvisioningState};

/// How an unfinished operation is ended; `command` is the command line without its last option.
pub fn ways_out(command: &str, can_be_taken_back: bool) -> String {
    if can_be_taken_back {
        format!("`{command} --continue` finishes it, `{command} --abort` takes it back")
    } else {
        format!("`{command} --continue` finishes it; it can no longer be taken back")
    }
}

/// The transactions of one node: one at a time, each finished or taken back before the next one begins.
pub struct Transactions<'a> {
    /// The node.
    pub node: &'a dyn Node,
    /// kubepki's own folder there; absolute, made when it is needed.
    pub state_folder: PathBuf,
    /// Who works, and since when: goes into the lock. `since` is the run's `now`.
    pub owner: LockOwner,
    /// The words that name the target on the command line, as `--pki-dir /srv/pki`, for the hints.
    pub target_words: String,
    /// Looked at between two effects.
    pub interrupt: Interrupt,
    /// Told what happens.
    pub progress: &'a (dyn Fn(Event<'_>) + Sync),
}

impl Transactions<'_> {
    /// Carries out a request from beginning to end. A request without changes touches nothing.
    ///
    /// # Errors
    /// Exit code 1 when nothing has changed: the request is wrong, files are not what the plan saw, the lock is held,
    /// a file could not be written, staged or saved. Exit code 6 when the change has begun and did not end, or an
    /// earlier one has not: the hint says how to go on and how to go back. 130 when interrupted.
    pub fn run(&self, mut request: Request) -> anyhow::Result<Operation> {
        let begun = Instant::now();
        refuse_request(self.node.name(), &self.state_folder, &request)?;
        if request.steps.len() > 1 {
            let message = format!("{}: changes in several steps are made in rounds, not at once", self.node.name());
            return Err(Failure::failed(message).into());
        }
        if request.changes.is_empty() {
            let mut operation = request.operation;
            operation.started_at = Some(self.owner.since);
            self.end(&mut operation, ProvisioningState::Succeeded, NodeState::Finished, begun);
            return Ok(operation);
        }
        (self.progress)(Event::Started { files: request.changes.len() });
        request.operation.started_at = Some(self.owner.since);
        let made = self.make_state_folder(request.directory_mode)?;
        let prepared = self.lock().and_then(|lock| Ok((self.prepare(&request, NodeState::Running)?, lock)));
        let (prepared, lock) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.unmake(&made);
                return Err(error);
            }
        };
        let answer = self.finish(prepared.journal, &prepared.folder, begun);
        drop(lock);
        answer
    }

    /// The operation that has begun and not ended, if there is one. Takes no lock: it may be under way.
    ///
    /// # Errors
    /// When a journal is damaged, or the node cannot be reached.
    pub fn unfinished(&self) -> anyhow::Result<Option<Journal>> {
        let contents = Contents::read(self.node, &self.state())?;
        contents.refuse_damage(self.node.name())?;
        Ok(contents.unfinished().map(|stored| stored.journal.clone()))
    }

    /// The latest operation that left a journal, ended or not.
    ///
    /// # Errors
    /// When the node or its folder cannot be read. A damaged journal is passed over.
    pub fn last(&self) -> anyhow::Result<Option<Operation>> {
        let mut contents = Contents::read(self.node, &self.state())?;
        Ok(contents.journals.pop().map(|stored| stored.journal.operation))
    }

    pub(super) fn state(&self) -> StateFolder {
        StateFolder(self.state_folder.clone())
    }

    pub(super) fn lock(&self) -> anyhow::Result<Box<dyn LockGuard>> {
        self.node.lock(&self.state().lock(), &self.owner)
    }

    /// Stage, backup and journal; afterwards the operation exists.
    pub(super) fn prepare(&self, request: &Request, node_state: NodeState) -> anyhow::Result<Prepared> {
        let state = self.state();
        let contents = Contents::read(self.node, &state)?;
        contents.refuse_damage(self.node.name())?;
        if let Some(stored) = contents.unfinished() {
            return Err(self.refuse_second(&stored.journal));
        }
        tidy(self.node, &state, &contents)?;
        let folder = state.operation(&request.operation.id);
        let prepared = Prepared::make(self, request, &folder, node_state).and_then(|prepared| {
            self.check_interrupt()?;
            Ok(prepared)
        });
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                // Whatever stays behind now has no journal, and is removed by the next run.
                let _ = self.node.apply(&Effect::RemoveTree { path: &folder.0 });
                return Err(error);
            }
        };
        match self.write_journal(&prepared.journal, &folder) {
            Ok(()) => {
                (self.progress)(Event::Committed);
                Ok(prepared)
            }
            Err(error) => Err(self.uncommit(error, &prepared.journal, &folder)),
        }
    }

    /// The journal could not be written, or nobody knows whether it was.
    fn uncommit(&self, error: anyhow::Error, journal: &Journal, folder: &OperationFolder) -> anyhow::Error {
        let removed = self
            .node
            .apply(&Effect::Remove { path: &folder.journal() })
            .and_then(|()| self.node.apply(&Effect::RemoveTree { path: &folder.0 }));
        match removed {
            Ok(()) => error,
            Err(_) => error.context(self.partial(
                journal,
                format!("{}: nothing has changed yet, but the operation may have been recorded", self.node.name()),
            )),
        }
    }

    /// From the journal to the end: makes every change that has not been made yet.
    pub(super) fn finish(
        &self,
        mut journal: Journal,
        folder: &OperationFolder,
        begun: Instant,
    ) -> anyhow::Result<Operation> {
        if let Err(error) = self.make_changes(&journal, folder) {
            return Err(self.stopped(error, journal, folder));
        }
        let mut ended = journal.clone();
        self.end(&mut ended.operation, ProvisioningState::Succeeded, NodeState::Finished, begun);
        if let Err(error) = self.write_journal(&ended, folder) {
            journal.operation.provisioning_state = ProvisioningState::CertificateRotating;
            return Err(self.stopped(error, journal, folder));
        }
        self.tidy_up();
        Ok(ended.operation)
    }

    /// Makes the changes of the step that is next, as far as they are not made yet.
    pub(super) fn make_changes(&self, journal: &Journal, folder: &OperationFolder) -> anyhow::Result<()> {
        let standings = standings(self.node, journal)?;
        self.make_directories(journal, |entry| &entry.after)?;
        for (index, (entry, standing)) in journal.changes.iter().zip(&standings).enumerate() {
            if entry.step != journal.done {
                continue;
            }
            if !standing.is_after() {
                self.check_interrupt()?;
                entry.forward(self.node, &folder.staged(index))?;
            }
            (self.progress)(Event::Changed { number: index + 1, path: &entry.path });
        }
        let standings = self::standings(self.node, journal)?;
        let made = journal.changes.iter().enumerate().filter(|(_, entry)| entry.step == journal.done);
        self.expect(journal, &standings, made.map(|(index, _)| index), Standing::is_after)
    }

    /// Makes the operation's own folders, as far as the step that is next puts files into them.
    pub(super) fn make_directories(
        &self,
        journal: &Journal,
        state: impl Fn(&Entry) -> &FileState,
    ) -> anyhow::Result<()> {
        let current = journal.changes.iter().filter(|entry| entry.step == journal.done);
        let paths: Vec<&Path> =
            current.filter(|entry| *state(entry) != FileState::Absent).map(|entry| Path::new(&entry.path)).collect();
        let is_needed = |directory: &&String| paths.iter().any(|path| path.starts_with(directory));
        for directory in journal.directories.iter().filter(is_needed) {
            self.check_interrupt()?;
            // What kubepki records is nobody else's business.
            let is_own = Path::new(directory).file_name().is_some_and(|name| name == RECORDS);
            let mode = if is_own { 0o700 } else { journal.directory_mode };
            self.node.apply(&Effect::MakeDirectory { path: Path::new(directory), mode })?;
        }
        Ok(())
    }

    /// Proves that the changes at these places have come as far as they should.
    pub(super) fn expect(
        &self,
        journal: &Journal,
        standings: &[Standing],
        mut places: impl Iterator<Item = usize>,
        is_there: impl Fn(&Standing) -> bool,
    ) -> anyhow::Result<()> {
        let Some(index) = places.find(|index| !standings.get(*index).is_some_and(&is_there)) else { return Ok(()) };
        let path = journal.changes.get(index).map_or("", |entry| &entry.path);
        let message = format!("{}: {path} is not what was just written there", self.node.name());
        Err(Failure::partial(message).hint("find out which other program writes it").into())
    }

    /// Notes in the journal, if that is still possible, why the operation stopped.
    pub(super) fn stopped(
        &self,
        error: anyhow::Error,
        mut journal: Journal,
        folder: &OperationFolder,
    ) -> anyhow::Error {
        let interrupted = exit_code(&error) == ExitCode::Interrupted;
        let operation = &mut journal.operation;
        operation.provisioning_state =
            if interrupted { ProvisioningState::CertificateRotating } else { ProvisioningState::Failed };
        for report in operation.nodes.iter_mut().filter(|report| report.name == self.node.name()) {
            report.state = if interrupted { NodeState::Running } else { NodeState::Failed };
            report.error = (!interrupted).then(|| format!("{error:#}"));
        }
        // The journal that is there says all that is needed; this one only says it better.
        let _ = self.write_journal(&journal, folder);
        let message =
            format!("{}: the operation has begun and is not finished; what is done is kept", self.node.name());
        let mut failure = self.partial(&journal, message);
        if interrupted {
            failure = failure.with_code(ExitCode::Interrupted);
        }
        error.context(failure)
    }

    /// An unfinished operation as an error that says the ways out, which are two as long as it can be taken back.
    pub(super) fn partial(&self, journal: &Journal, message: String) -> Failure {
        let words = if self.target_words.is_empty() { String::new() } else { format!(" {}", self.target_words) };
        let command = format!("kubepki {}{words}", journal.operation.command);
        Failure::partial(message).hint(ways_out(&command, journal.can_be_taken_back()))
    }

    fn refuse_second(&self, journal: &Journal) -> anyhow::Error {
        let Operation { id, command, .. } = &journal.operation;
        let name = self.node.name();
        let message = format!("{name}: an earlier {command} has begun and is not finished (operation {id})");
        self.partial(journal, message).into()
    }

    pub(super) fn check_interrupt(&self) -> anyhow::Result<()> {
        self.interrupt.check()
    }

    pub(super) fn write_journal(&self, journal: &Journal, folder: &OperationFolder) -> anyhow::Result<()> {
        let text = journal.to_text()?;
        let content = Content::Bytes(text.as_bytes());
        self.node.apply(&Effect::Install { path: &folder.journal(), content, mode: 0o600, owner: None })
    }

    /// Sets state and end of an operation, and of its only phase.
    pub(super) fn end(
        &self,
        operation: &mut Operation,
        state: ProvisioningState,
        node_state: NodeState,
        begun: Instant,
    ) {
        let ended = self.time_since(begun);
        operation.provisioning_state = state;
        operation.ended_at = Some(ended);
        if let [phase] = operation.phases.as_mut_slice() {
            phase.started_at = operation.started_at;
            phase.ended_at = Some(ended);
        }
        for report in operation.nodes.iter_mut().filter(|report| report.name == self.node.name()) {
            report.state = node_state;
            report.error = None;
        }
    }

    /// The run's `now` and the time that has passed since `begun`, to the second.
    fn time_since(&self, begun: Instant) -> OffsetDateTime {
        let now = self.owner.since + begun.elapsed();
        now.replace_nanosecond(0).unwrap_or(now)
    }

    /// Removes what finished operations no longer need. Failing here changes nothing about an operation that has
    /// ended; the next run tries again.
    pub(super) fn tidy_up(&self) {
        let state = self.state();
        let tidied = Contents::read(self.node, &state).and_then(|contents| tidy(self.node, &state, &contents));
        if let Err(error) = tidied {
            (self.progress)(Event::Warning(&format!("old copies are left in {}: {error:#}", state.0.display())));
        }
    }

    /// Makes kubepki's own folder and returns what was missing of its path, innermost last.
    pub(super) fn make_state_folder(&self, mode: u32) -> anyhow::Result<Vec<PathBuf>> {
        let mut ways: Vec<PathBuf> = self.state_folder.ancestors().map(Path::to_owned).collect();
        ways.reverse();
        let queries: Vec<Query> = ways.iter().cloned().map(Query::Metadata).collect();
        let found = self.node.read(&queries)?;
        let missing: Vec<PathBuf> = found
            .into_iter()
            .filter(|found| matches!(found.state, FoundState::Missing))
            .map(|found| found.path)
            .collect();
        for path in &missing {
            let mode = if *path == self.state_folder { 0o700 } else { mode };
            if let Err(error) = self.node.apply(&Effect::MakeDirectory { path, mode }) {
                self.unmake(&missing);
                return Err(error);
            }
        }
        Ok(missing)
    }

    /// Removes folders that were made in vain, as far as they are empty.
    pub(super) fn unmake(&self, made: &[PathBuf]) {
        for path in made.iter().rev() {
            // What stays behind is an empty folder.
            let _ = self.node.apply(&Effect::RemoveDirectory { path });
        }
    }

    /// Refuses to act on a journal that somebody else could have written.
    pub(super) fn refuse_foreign(&self, stored: &Stored) -> anyhow::Result<()> {
        let (uid, mode) = stored.owner;
        let own = uid == 0 || uid == self.node.facts()?.uid;
        if own && mode & 0o022 == 0 {
            return Ok(());
        }
        let reason = if own { "others may write it".to_owned() } else { format!("it belongs to user {uid}") };
        let message = format!(
            "{}: will not act on the journal {}: {reason}",
            self.node.name(),
            stored.folder.journal().display()
        );
        Err(Failure::failed(message).hint("run the command as the user who began the operation").into())
    }
}

//! An operation that stopped half-way: going on, or going back.
//!
//! Both look at what is really there first and change nothing unless every file is accounted for. Both can be
//! interrupted themselves, and either can follow the other.

use std::path::Path;
use std::time::Instant;

use super::copies::{Copies, check_backup, check_copies};
use super::journal::{FileState, Journal};
use super::progress::Event;
use super::standing::{Standing, standings};
use super::state::{Contents, OperationFolder, Stored};
use super::transaction::Transactions;
use crate::error::Failure;
use crate::node::{Effect, LockGuard};
use crate::plan::operation::{NodeState, Operation, ProvisioningState};

impl Transactions<'_> {
    /// Finishes the operation that stopped.
    ///
    /// # Errors
    /// Exit code 1 when there is none, or its journal cannot be trusted; 6 when a file is neither as it was nor as it
    /// is to be, with nothing further changed, or when it stopped again; 130 when interrupted.
    pub fn resume(&self) -> anyhow::Result<Operation> {
        let begun = Instant::now();
        let (stored, lock) = self.take_up()?;
        self.refuse_rounds(&stored.journal)?;
        self.ready(&stored, Copies::New, false)?;
        let Stored { mut journal, folder, .. } = stored;
        let noted = self.note_begun(&mut journal, &folder, 0);
        let answer = noted.and_then(|()| self.finish(journal, &folder, begun));
        drop(lock);
        answer
    }

    /// Takes the operation that stopped back: files in reverse order, byte for byte, with mode and owner. With `force`
    /// also files that somebody else has changed meanwhile.
    ///
    /// # Errors
    /// As [`Self::resume`].
    pub fn abort(&self, force: bool) -> anyhow::Result<Operation> {
        let begun = Instant::now();
        let (stored, lock) = self.take_up()?;
        self.refuse_rounds(&stored.journal)?;
        self.ready(&stored, Copies::Old, force)?;
        let Stored { mut journal, folder, .. } = stored;
        self.note_begun(&mut journal, &folder, 0)?;
        let standings = standings(self.node, &journal)?;
        if let Err(error) = self.take_back(&journal, &folder, &standings) {
            return Err(self.stopped(error, journal, &folder));
        }
        let unchanged = journal.clone();
        self.end(&mut journal.operation, ProvisioningState::Canceled, NodeState::RolledBack, begun);
        if let Err(error) = self.write_journal(&journal, &folder) {
            return Err(self.stopped(error, unchanged, &folder));
        }
        self.tidy_up();
        drop(lock);
        Ok(journal.operation)
    }

    /// Takes the lock and the operation that has not ended.
    fn take_up(&self) -> anyhow::Result<(Stored, Box<dyn LockGuard>)> {
        let nothing = || {
            let message =
                format!("{}: no operation is unfinished in {}", self.node.name(), self.state_folder.display());
            Failure::failed(message).hint("run the command without --continue and --abort")
        };
        // Asked before the lock is taken as well, because taking it makes the folder.
        self.unfinished()?.ok_or_else(nothing)?;
        let lock = self.lock()?;
        Ok((self.stored()?.ok_or_else(nothing)?, lock))
    }

    /// The operation that has not ended, if this run may act upon it. The lock is held.
    pub(super) fn stored(&self) -> anyhow::Result<Option<Stored>> {
        let mut contents = Contents::read(self.node, &self.state())?;
        contents.refuse_damage(self.node.name())?;
        let position = contents.journals.iter().rposition(|stored| !stored.journal.is_finished());
        let stored = position.map(|position| contents.journals.swap_remove(position));
        stored.iter().try_for_each(|stored| self.refuse_foreign(stored))?;
        Ok(stored)
    }

    /// Refuses to do with an operation in several steps what only a whole cluster can do in rounds.
    fn refuse_rounds(&self, journal: &Journal) -> anyhow::Result<()> {
        if journal.step_count() == 1 {
            return Ok(());
        }
        let message = format!(
            "{}: operation {} goes through {} steps in rounds over all nodes, so one node cannot end it alone",
            self.node.name(),
            journal.operation.id,
            journal.step_count()
        );
        Err(Failure::failed(message).hint("use the cluster file with which it began, while the cluster runs").into())
    }

    /// Notes that `step` may be half made from now on, and later ones are not.
    pub(super) fn note_begun(
        &self,
        journal: &mut Journal,
        folder: &OperationFolder,
        step: usize,
    ) -> anyhow::Result<()> {
        if journal.done == step && journal.begun {
            return Ok(());
        }
        (journal.done, journal.begun) = (step, true);
        self.write_journal(journal, folder)
    }

    /// Looks whether every file is accounted for and the copies in `which` direction are good, and clears temporary files
    /// away. Nothing in use is changed.
    pub(super) fn ready(&self, stored: &Stored, which: Copies, force: bool) -> anyhow::Result<()> {
        let Stored { journal, folder, .. } = stored;
        let standings = standings(self.node, journal)?;
        if !force {
            self.refuse_foreign_files(journal, folder, &standings)?;
        } else if !standings.iter().all(Standing::is_before) {
            // What somebody else has changed is put back too, whatever step it belongs to.
            check_backup(self.node, journal, folder)?;
        }
        check_copies(self.node, journal, folder, which, &standings)?;
        self.sweep(journal, folder)
    }

    fn refuse_foreign_files(
        &self,
        journal: &Journal,
        folder: &OperationFolder,
        standings: &[Standing],
    ) -> anyhow::Result<()> {
        let foreign = journal.changes.iter().zip(standings).enumerate().find_map(|(index, (entry, standing))| {
            if let Standing::Foreign(reason) = standing { Some((index, entry, reason)) } else { None }
        });
        let Some((index, entry, reason)) = foreign else { return Ok(()) };
        Err(Failure::partial(format!(
            "{}: {} was changed by somebody else since the operation began: {reason}; nothing further was changed",
            self.node.name(),
            entry.path
        ))
        .hint(copies_in_words(journal, folder, index))
        .into())
    }

    /// Clears away the temporary files of the run that was interrupted, which can only be those of the step that is next.
    fn sweep(&self, journal: &Journal, folder: &OperationFolder) -> anyhow::Result<()> {
        let mut swept: Vec<&Path> = Vec::new();
        for entry in journal.changes.iter().filter(|entry| entry.step == journal.done) {
            let path = Path::new(&entry.path);
            // A file may be a link to somewhere else, a sibling that follows no link cannot.
            let parent = path.parent().unwrap_or(path);
            if entry.follows() || !swept.contains(&parent) {
                self.node.apply(&Effect::Sweep { path })?;
                swept.push(parent);
            }
        }
        self.node.apply(&Effect::Sweep { path: &folder.journal() })
    }

    /// Takes the changes of the step that is next back, as far as they are made. With the first step everything is as it was:
    /// then also what somebody else changed is put back, and folders go that the operation made.
    pub(super) fn take_back(
        &self,
        journal: &Journal,
        folder: &OperationFolder,
        standings: &[Standing],
    ) -> anyhow::Result<()> {
        self.make_directories(journal, |entry| &entry.before)?;
        let both = journal.changes.iter().zip(standings).enumerate().rev();
        let due = both.filter(|(_, (entry, standing))| {
            entry.step == journal.done || journal.done == 0 && matches!(standing, Standing::Foreign(_))
        });
        // What restarts a component comes when the files that it will read are back.
        let (last, first): (Vec<_>, Vec<_>) = due.partition(|(_, (entry, _))| journal.restarting.contains(&entry.path));
        let due: Vec<_> = first.into_iter().chain(last).collect();
        for (index, (entry, standing)) in &due {
            if !standing.is_before() {
                self.check_interrupt()?;
                entry.backward(self.node, &journal.copy_of_before(folder, *index))?;
            }
            (self.progress)(Event::Restored { number: index + 1, path: &entry.path });
        }
        if journal.done == 0 {
            self.remove_directories(journal, |_| true)?;
        }
        let standings = self::standings(self.node, journal)?;
        self.expect(journal, &standings, due.into_iter().map(|(index, _)| index), Standing::is_before)
    }

    /// Removes the folders that the operation made and that are due, innermost first, as far as they are empty.
    pub(super) fn remove_directories(&self, journal: &Journal, is_due: impl Fn(&Path) -> bool) -> anyhow::Result<()> {
        let mut inwards = journal.directories.iter().map(Path::new).rev().filter(|path| is_due(path));
        inwards.try_for_each(|path| self.node.apply(&Effect::RemoveDirectory { path }))
    }
}

/// Where the contents are that a file may have, for people who have to choose.
fn copies_in_words(journal: &Journal, folder: &OperationFolder, index: usize) -> String {
    let Some(entry) = journal.changes.get(index) else { return String::new() };
    let (old, new) = (journal.copy_of_before(folder, index), folder.staged(index));
    if entry.step != journal.done {
        let (state, copy) = if entry.step < journal.done { (&entry.after, new) } else { (&entry.before, old) };
        let repair = match state {
            FileState::Absent => format!("move {} away", entry.path),
            FileState::Link { target } => format!("make {} a symbolic link to {target} again", entry.path),
            FileState::File { .. } => {
                format!("the content it has to have is {}: put that at {}", copy.display(), entry.path)
            }
        };
        return format!("{repair}, then run the command again");
    }
    let old = if entry.before.sha256().is_some() {
        format!("the old content is {}", old.display())
    } else {
        "it was not there before".to_owned()
    };
    let new = if entry.after.sha256().is_some() {
        format!("the new one {}", new.display())
    } else {
        "it was to go".to_owned()
    };
    format!("{old}, {new}: put one of the two at {}, then run the command again", entry.path)
}

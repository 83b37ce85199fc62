//! An operation that stopped half-way: going on, or going back.
//!
//! Both look at what is really there first and change nothing unless every file is accounted for. Both can be
//! interrupted themselves, and either can follow the other.

use std::path::Path;
use std::time::Instant;

use super::journal::{Entry, Journal};
use super::prepare::{Copies, check_copies};
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
        self.ready(&stored, Copies::New, false)?;
        let Stored { journal, folder, .. } = stored;
        let answer = self.finish(journal, &folder, begun);
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
        let standings = self.ready(&stored, Copies::Old, force)?;
        let Stored { mut journal, folder, .. } = stored;
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

    /// Looks whether every file is accounted for and the copies in `which` direction are good, and clears temporary files
    /// away. Nothing in use is changed.
    pub(super) fn ready(&self, stored: &Stored, which: Copies, force: bool) -> anyhow::Result<Vec<Standing>> {
        let Stored { journal, folder, .. } = stored;
        let standings = standings(self.node, journal)?;
        if !force {
            self.refuse_foreign_files(journal, folder, &standings)?;
        }
        let is_there = match which {
            Copies::New => Standing::is_after,
            Copies::Old => Standing::is_before,
        };
        if !standings.iter().all(is_there) {
            check_copies(self.node, journal, folder, which)?;
        }
        self.sweep(journal, folder)?;
        Ok(standings)
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
        .hint(copies_in_words(entry, folder, index))
        .into())
    }

    /// Clears away the temporary files of the run that was interrupted.
    fn sweep(&self, journal: &Journal, folder: &OperationFolder) -> anyhow::Result<()> {
        let mut swept: Vec<&Path> = Vec::new();
        for entry in &journal.changes {
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

    pub(super) fn take_back(
        &self,
        journal: &Journal,
        folder: &OperationFolder,
        standings: &[Standing],
    ) -> anyhow::Result<()> {
        let both = || journal.changes.iter().zip(standings).enumerate().rev();
        // What restarts a component comes when the files that it will read are back.
        let restarts = |entry: &Entry| journal.restarting.contains(&entry.path);
        let files = both().filter(|(_, (entry, _))| !restarts(entry));
        for (index, (entry, standing)) in files.chain(both().filter(|(_, (entry, _))| restarts(entry))) {
            if !standing.is_before() {
                self.check_interrupt()?;
                entry.backward(self.node, &folder.saved(index))?;
            }
            (self.progress)(Event::Restored { number: index + 1, path: &entry.path });
        }
        for directory in journal.directories.iter().rev() {
            self.node.apply(&Effect::RemoveDirectory { path: Path::new(directory) })?;
        }
        let standings = self::standings(self.node, journal)?;
        self.expect_all(journal, &standings, Standing::is_before)
    }
}

/// Where the old and the new content of a file are, for people who have to choose.
fn copies_in_words(entry: &Entry, folder: &OperationFolder, index: usize) -> String {
    let old = if entry.before.sha256().is_some() {
        format!("the old content is {}", folder.saved(index).display())
    } else {
        "it was not there before".to_owned()
    };
    let new = if entry.after.sha256().is_some() {
        format!("the new one {}", folder.staged(index).display())
    } else {
        "it was to go".to_owned()
    };
    format!("{old}, {new}: put one of the two at {}, then run the command again", entry.path)
}

//! The copies that an operation keeps on its node: are they good, and what is in them.
//!
//! The backup holds what was there when the operation began, the stage every content that one of its steps writes. Going
//! on needs what later steps write, going back what earlier ones wrote and the backup.

use std::path::{Component, Path, PathBuf};

use zeroize::Zeroizing;

use super::existing;
use super::journal::{FileState, Journal};
use super::sha256;
use super::standing::Standing;
use super::state::OperationFolder;
use super::transaction::Transactions;
use crate::error::Failure;
use crate::node::{FoundState, Node, Query};
use crate::plan::phase::Phase;

/// Symbolic links that are followed from one path of a journal to the next before they are taken for a circle.
const LINKS: usize = 8;

/// A time of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Before its first change.
    Start,
    /// When every step of this round is done, and no later one.
    After(Phase),
}

/// Which copies of an operation are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copies {
    /// Those with which it can be taken back.
    Old,
    /// Those with which it can be finished.
    New,
}

impl Transactions<'_> {
    /// What is at a path of the unfinished operation `journal` at a time: the content that was there, or is going to be. `None`
    /// when there is nothing then, or the operation does not change that path. Read from the copies on the node.
    ///
    /// # Errors
    /// When a copy is missing or does not have the hash that the journal has for it, and when the path is a symbolic link to
    /// something that the operation does not change.
    pub fn content(&self, journal: &Journal, path: &str, at: At) -> anyhow::Result<Option<Zeroizing<Vec<u8>>>> {
        let folder = self.state().operation(&journal.operation.id);
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let Some((state, copy)) = at_time(journal, &folder, &path, at) else { return Ok(None) };
            match state {
                FileState::Absent => return Ok(None),
                FileState::File { sha256: hash, .. } => {
                    let content = existing::content(self.node, &copy)?;
                    if sha256(&content) != *hash {
                        return Err(damaged(self.node, &copy).into());
                    }
                    return Ok(Some(content));
                }
                FileState::Link { target } => {
                    let led = led(&path, target);
                    if !journal.changes.iter().any(|entry| entry.path == led) {
                        let message =
                            format!("{}: {path} is a symbolic link to {led}, which does not change", self.node.name());
                        return Err(Failure::failed(message).into());
                    }
                    path = led;
                }
            }
        }
        Err(Failure::failed(format!("{}: {path} is a symbolic link that leads in circles", self.node.name())).into())
    }
}

/// What is at a path at a time, and where a copy of it is, if it is a file.
fn at_time<'j>(journal: &'j Journal, folder: &OperationFolder, path: &str, at: At) -> Option<(&'j FileState, PathBuf)> {
    let own = || journal.changes.iter().enumerate().filter(|(_, entry)| entry.path == path);
    let done = match at {
        At::Start => None,
        At::After(phase) => own().rfind(|(_, entry)| journal.phase_of(entry.step) <= phase),
    };
    match done {
        Some((index, entry)) => Some((&entry.after, folder.staged(index))),
        None => own().next().map(|(index, entry)| (&entry.before, folder.saved(index))),
    }
}

/// The path to which a symbolic link leads, without asking the node.
fn led(path: &str, target: &str) -> String {
    let mut led = Path::new(path).parent().unwrap_or(Path::new("/")).to_owned();
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir => drop(led.pop()),
            Component::CurDir => {}
            component => led.push(component),
        }
    }
    led.display().to_string()
}

/// Proves that the copies which this direction still needs are what the journal says; `standings` are those of its changes.
///
/// # Errors
/// When one is missing or damaged: then that direction is closed.
pub(super) fn check_copies(
    node: &dyn Node,
    journal: &Journal,
    folder: &OperationFolder,
    which: Copies,
    standings: &[Standing],
) -> anyhow::Result<()> {
    let both = || journal.changes.iter().zip(standings);
    // All of the step that may be half made, or nothing of it.
    let is_whole = |is_there: fn(&Standing) -> bool| {
        both().filter(|(entry, _)| entry.step == journal.done).all(|(_, standing)| is_there(standing))
    };
    let is_needed = match which {
        Copies::Old if is_whole(Standing::is_before) => |step, done| step < done,
        Copies::Old => |step, done| step <= done,
        Copies::New if is_whole(Standing::is_after) => |step, done| step > done,
        Copies::New => |step: usize, done: usize| step >= done,
    };
    let copies = both().enumerate().filter_map(|(index, (entry, _))| {
        let (path, state) = match which {
            Copies::Old => (journal.copy_of_before(folder, index), &entry.before),
            Copies::New => (folder.staged(index), &entry.after),
        };
        Some((path, state.sha256().filter(|_| is_needed(entry.step, journal.done))?))
    });
    let Some((failure, hash)) = first_damaged(node, &copies.collect::<Vec<_>>())? else { return Ok(()) };
    let hint = match which {
        Copies::Old => "`--continue` does not need it".to_owned(),
        Copies::New if journal.can_be_taken_back() => "`--abort` does not need it".to_owned(),
        Copies::New => format!("put a file with the SHA-256 {hash} there; other nodes may have staged the same"),
    };
    Err(failure.hint(hint).into())
}

/// Proves that the backup of every file is what the journal says.
///
/// # Errors
/// When one is missing or damaged.
pub(super) fn check_backup(node: &dyn Node, journal: &Journal, folder: &OperationFolder) -> anyhow::Result<()> {
    let copies = journal.originals().filter_map(|(index, entry)| Some((folder.saved(index), entry.before.sha256()?)));
    let damaged = first_damaged(node, &copies.collect::<Vec<_>>())?;
    damaged.map_or(Ok(()), |(failure, _)| Err(failure.hint("`--continue` does not need it").into()))
}

/// The first copy that is not what it should be, with the hash it should have.
fn first_damaged<'j>(node: &dyn Node, copies: &[(PathBuf, &'j str)]) -> anyhow::Result<Option<(Failure, &'j str)>> {
    let queries: Vec<Query> = copies.iter().map(|(path, _)| Query::File(path.clone())).collect();
    let found = if queries.is_empty() { Vec::new() } else { node.read(&queries)? };
    let is_good =
        |state: &FoundState, hash: &str| matches!(state, FoundState::File(content) if sha256(content) == hash);
    let mut both = copies.iter().zip(&found);
    let bad = both.find(|((_, hash), found)| !is_good(&found.state, hash));
    Ok(bad.map(|((path, hash), _)| (damaged(node, path), *hash)))
}

fn damaged(node: &dyn Node, copy: &Path) -> Failure {
    Failure::partial(format!("{}: the copy {} is missing or damaged", node.name(), copy.display()))
}

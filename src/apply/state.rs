//! kubepki's own folder on a node: the lock, and one folder for each operation with its stage, backup and journal.
//!
//! Everything in it is 0700 or belongs to files that keep their own mode. A folder without a journal is what a crash
//! before the commit point leaves: nothing had changed, so it is rubbish.

use std::path::{Path, PathBuf};

use super::change::is_operation_id;
use super::journal::Journal;
use crate::error::Failure;
use crate::node::{Effect, Found, FoundState, Node, Query};

/// How many finished operations keep their backup.
pub(super) const BACKUPS_KEPT: usize = 5;

/// Where things are in kubepki's own folder.
#[derive(Debug, Clone)]
pub(super) struct StateFolder(pub(super) PathBuf);

impl StateFolder {
    pub(super) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    pub(super) fn operation(&self, id: &str) -> OperationFolder {
        OperationFolder(self.0.join(id))
    }
}

/// Where things are in one operation's folder.
#[derive(Debug, Clone)]
pub(super) struct OperationFolder(pub(super) PathBuf);

impl OperationFolder {
    pub(super) fn journal(&self) -> PathBuf {
        self.0.join("journal.json")
    }

    pub(super) fn stage(&self) -> PathBuf {
        self.0.join("stage")
    }

    pub(super) fn backup(&self) -> PathBuf {
        self.0.join("backup")
    }

    /// The new content of the change at `index`.
    pub(super) fn staged(&self, index: usize) -> PathBuf {
        self.stage().join(copy_name(index))
    }

    /// The old content of the change at `index`.
    pub(super) fn saved(&self, index: usize) -> PathBuf {
        self.backup().join(copy_name(index))
    }
}

/// The name of a copy: the change's place in the journal, from 1.
pub(super) fn copy_name(index: usize) -> String {
    format!("{:04}", index + 1)
}

/// What lies in kubepki's own folder, oldest operation first.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Operations with a readable journal.
    pub(super) journals: Vec<Stored>,
    /// Ids of folders without a journal.
    pub(super) rubbish: Vec<String>,
    /// Journals that cannot be read, with the reason.
    pub(super) damaged: Vec<(PathBuf, String)>,
}

/// A journal as found.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) journal: Journal,
    /// Owner and permission bits of the journal's file.
    pub(super) owner: (u32, u32),
    pub(super) folder: OperationFolder,
}

impl Contents {
    /// Reads all journals.
    pub(super) fn read(node: &dyn Node, state: &StateFolder) -> anyhow::Result<Self> {
        let listed = node.read(&[Query::Folder(state.0.clone())])?;
        let mut ids = Vec::new();
        for found in listed {
            match &found.state {
                FoundState::Directory if found.link.is_none() => {
                    ids.extend(found.path.file_name().and_then(|name| name.to_str()).map(str::to_owned));
                }
                FoundState::Unreadable(reason) if found.path == state.0 => {
                    let message = format!("{}: cannot read {}: {reason}", node.name(), state.0.display());
                    return Err(Failure::failed(message).hint("run the command as root").into());
                }
                _ => {}
            }
        }
        ids.retain(|id| is_operation_id(id));
        let queries: Vec<Query> = ids.iter().map(|id| Query::File(state.operation(id).journal())).collect();
        let mut contents = Self::default();
        if queries.is_empty() {
            return Ok(contents);
        }
        for (id, found) in ids.into_iter().zip(node.read(&queries)?) {
            contents.add(state, id, &found);
        }
        Ok(contents)
    }

    fn add(&mut self, state: &StateFolder, id: String, found: &Found) {
        let reason = match &found.state {
            FoundState::Missing if found.link.is_none() => return self.rubbish.push(id),
            FoundState::File(text) => match Journal::parse(text) {
                Ok(journal) if journal.operation.id == id => {
                    let owner = found.metadata.as_ref().map(|metadata| (metadata.uid, metadata.mode));
                    let folder = state.operation(&id);
                    return self.journals.push(Stored { journal, owner: owner.unwrap_or_default(), folder });
                }
                Ok(journal) => format!("it belongs to the operation {}", journal.operation.id),
                Err(error) => format!("{error:#}"),
            },
            FoundState::Unreadable(reason) => reason.clone(),
            FoundState::Unread | FoundState::Directory | FoundState::Missing => "it is not a file".to_owned(),
        };
        self.damaged.push((found.path.clone(), reason));
    }

    /// The operation that has not ended; there is one at most, because none begins before the last one has ended.
    pub(super) fn unfinished(&self) -> Option<&Stored> {
        self.journals.iter().rev().find(|stored| !stored.journal.is_finished())
    }

    /// Refuses to go on when a journal cannot be read: it may belong to an operation that has not ended.
    pub(super) fn refuse_damage(&self, node: &str) -> anyhow::Result<()> {
        let Some((path, reason)) = self.damaged.first() else { return Ok(()) };
        let folder = path.parent().unwrap_or(Path::new("/"));
        Err(Failure::failed(format!("{node}: the journal {} cannot be read: {reason}", path.display()))
            .hint(format!(
                "compare the files with {0}/backup (`sh {0}/backup/restore.sh` puts them all back), then move {0} away",
                folder.display()
            ))
            .into())
    }
}

/// Removes what earlier operations no longer need: rubbish, stages of finished ones, and all but the last backups.
pub(super) fn tidy(node: &dyn Node, state: &StateFolder, contents: &Contents) -> anyhow::Result<()> {
    for id in &contents.rubbish {
        node.apply(&Effect::RemoveTree { path: &state.operation(id).0 })?;
    }
    let finished: Vec<&Stored> = contents.journals.iter().filter(|stored| stored.journal.is_finished()).collect();
    let (old, kept) = finished.split_at(finished.len().saturating_sub(BACKUPS_KEPT));
    for stored in old {
        // Without its journal the folder is rubbish, should the removal be interrupted.
        node.apply(&Effect::Remove { path: &stored.folder.journal() })?;
        node.apply(&Effect::RemoveTree { path: &stored.folder.0 })?;
    }
    let stages: Vec<Query> = kept.iter().map(|stored| Query::Metadata(stored.folder.stage())).collect();
    for found in node.read(&stages)? {
        if !matches!(found.state, FoundState::Missing) {
            node.apply(&Effect::RemoveTree { path: &found.path })?;
        }
    }
    Ok(())
}

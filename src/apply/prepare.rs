//! Everything before the commit point: is the world as the plan saw it, can every file be written, and are new and old
//! contents safe on the node's disk.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Component, Path};

use anyhow::{Context as _, anyhow};

use super::backup::{self, CHECKSUMS, RESTORE, copied};
use super::change::{Change, ChangeKind, Expected, FileMode, Request, is_operation_id};
use super::copies::{Copies, check_backup, check_copies};
use super::journal::{Entry, FileState, Journal};
use super::progress::Event;
use super::sha256;
use super::standing::{Standing, observe, owner, standings};
use super::state::OperationFolder;
use super::transaction::Transactions;
use crate::error::Failure;
use crate::node::{Content, Effect, Found, FoundState, Node, Query};
use crate::pki::layout::{LEDGER, REGISTER};
use crate::plan::operation::{NodeReport, NodeState, Operation, ProvisioningState};

/// The unit in which file systems give room (bytes).
const BLOCK: u64 = 4096;

/// An operation of which everything is on disk but the journal.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) journal: Journal,
    pub(super) folder: OperationFolder,
}

/// Refuses requests that cannot be carried out on any node: mistakes of the caller, found before anything is touched.
pub(super) fn refuse_request(node: &str, state_folder: &Path, request: &Request) -> anyhow::Result<()> {
    let refuse = |what: String| Err(Failure::failed(format!("{node}: {what}")).into());
    if !is_operation_id(&request.operation.id) {
        return refuse(format!("{:?} is not the id of an operation", request.operation.id));
    }
    if !request.steps.is_sorted_by_key(|step| step.phase) {
        return refuse("the rounds of the request are not in order".to_owned());
    }
    if !request.changes.is_sorted_by_key(|change| change.step) {
        return refuse("the changes of the request are not in the order of their steps".to_owned());
    }
    let mut places = HashSet::new();
    let mut links = HashSet::new();
    for change in &request.changes {
        let path = Path::new(&change.report.path);
        let plain = path.components().all(|component| matches!(component, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain || path.file_name().is_none() {
            return refuse(format!("{} is not the plain absolute path of a file", path.display()));
        }
        if path.starts_with(state_folder) && !is_record(state_folder, path) {
            return refuse(format!("{} lies in kubepki's own folder", path.display()));
        }
        if change.step >= request.steps.len().max(1) {
            return refuse(format!("{} is to change in a step that there is not", path.display()));
        }
        if !places.insert((path, change.step)) {
            return refuse(format!("{} is to change twice", path.display()));
        }
        // What is behind a link that is not there yet cannot be saved.
        match change.kind {
            ChangeKind::Link { .. } => drop(links.insert(path)),
            ChangeKind::Remove => drop(links.remove(path)),
            ChangeKind::Write { .. } if links.contains(path) => {
                return refuse(format!("{} is to be written through a link of this operation", path.display()));
            }
            ChangeKind::Write { .. } => {}
        }
        if matches!(&change.kind, ChangeKind::Link { target } if target.to_str().is_none()) {
            return refuse(format!("{} is to point to a name that is not UTF-8", path.display()));
        }
    }
    Ok(())
}

/// Whether a path is that of a record: for a bare folder those lie beside the journals, which tell nothing about them.
fn is_record(state_folder: &Path, path: &Path) -> bool {
    path.parent() == Some(state_folder) && [LEDGER, REGISTER].iter().any(|name| path.ends_with(name))
}

impl Prepared {
    /// Guard, stage, backup, rehearsal. On error the caller removes `folder`.
    pub(super) fn make(
        transactions: &Transactions<'_>,
        request: &Request,
        folder: &OperationFolder,
        state: NodeState,
    ) -> anyhow::Result<Self> {
        let node = transactions.node;
        let mut journal = Journal::new(node.name(), begun(node.name(), request, state), request.directory_mode);
        journal.restarting.clone_from(&request.restarting);
        journal.words.clone_from(&request.words);
        journal.steps.clone_from(&request.steps);
        // Where files change at once, the first change may follow any moment now.
        journal.begun = state == NodeState::Running;
        journal.changes = entries(node, request)?;
        journal.directories = missing_directories(node, &journal)?;
        for path in [folder.0.clone(), folder.stage(), folder.backup()] {
            node.apply(&Effect::MakeDirectory { path: &path, mode: 0o700 })?;
        }
        for (index, (change, entry)) in request.changes.iter().zip(&journal.changes).enumerate() {
            transactions.check_interrupt()?;
            if let ChangeKind::Write { content, .. } = &change.kind {
                let content = Content::Bytes(content);
                let path = folder.staged(index);
                node.apply(&Effect::Install { path: &path, content, mode: 0o600, owner: None })?;
            }
            let is_original = journal.earlier(index).is_none();
            if let (FileState::File { mode, uid, gid, .. }, true) = (&entry.before, is_original) {
                let content = Content::FileOnNode(Path::new(&entry.path));
                let path = folder.saved(index);
                node.apply(&Effect::Install { path: &path, content, mode: *mode, owner: owner(*uid, *gid) })?;
            }
            (transactions.progress)(Event::Staged { number: index + 1 });
        }
        if copied(&journal).next().is_some() {
            for (name, text) in [(CHECKSUMS, backup::checksums(&journal)), (RESTORE, backup::restore_script(&journal))]
            {
                let path = folder.backup().join(name);
                let content = Content::Bytes(text.as_bytes());
                node.apply(&Effect::Install { path: &path, content, mode: 0o600, owner: None })?;
            }
        }
        // Only now, because the copies may have filled the disk.
        rehearse(node, &journal, request)?;
        // Read again what was just copied: a file that changed meanwhile has no true copy.
        let standings = standings(node, &journal)?;
        refuse_changed(node.name(), &journal, &standings)?;
        check_backup(node, &journal, folder)
            .and_then(|()| check_copies(node, &journal, folder, Copies::New, &standings))
            .context(Failure::failed("nothing has changed"))?;
        Ok(Self { journal, folder: folder.clone() })
    }
}

/// The operation as it is while it runs, with this node's files in it.
fn begun(node: &str, request: &Request, state: NodeState) -> Operation {
    let mut operation = request.operation.clone();
    operation.provisioning_state = ProvisioningState::CertificateRotating;
    let position = operation.nodes.iter().position(|report| report.name == node).unwrap_or_else(|| {
        let name = node.to_owned();
        operation.nodes.push(NodeReport { name, state, files: Vec::new(), restarts: Vec::new(), error: None });
        operation.nodes.len() - 1
    });
    let report = &mut operation.nodes[position];
    report.state = state;
    for change in &request.changes {
        match report.files.iter_mut().find(|file| file.path == change.report.path) {
            Some(file) => *file = change.report.clone(),
            // In an operation of several steps that is a file which comes and goes.
            None if request.steps.is_empty() => report.files.push(change.report.clone()),
            None => {}
        }
    }
    operation
}

/// The changes as the journal has them, if the files are what the plan saw.
fn entries(node: &dyn Node, request: &Request) -> anyhow::Result<Vec<Entry>> {
    let mut places: Vec<&str> = request.changes.iter().map(|change| change.report.path.as_str()).collect();
    let mut seen = HashSet::new();
    places.retain(|path| seen.insert(*path));
    let found = node.read(&places.iter().map(|path| Query::File(path.into())).collect::<Vec<_>>())?;
    let mut places: HashMap<&str, Place> =
        places.into_iter().zip(found).map(|(path, found)| (path, Place { found, now: None, dress: None })).collect();
    let gone = || anyhow!("{}: not every file was looked at", node.name());
    let entry = |change: &Change| {
        let place = places.get_mut(change.report.path.as_str()).ok_or_else(gone)?;
        place.change(node.name(), change)
    };
    request.changes.iter().map(entry).collect()
}

/// What is at a path when some of the changes are made.
struct Place {
    /// What was found there.
    found: Found,
    /// What the last change leaves; none before the first.
    now: Option<FileState>,
    /// The last file that was there.
    dress: Option<FileState>,
}

impl Place {
    /// The next change of this path.
    fn change(&mut self, node: &str, change: &Change) -> anyhow::Result<Entry> {
        let follow = matches!(change.kind, ChangeKind::Write { .. });
        let before = match &self.now {
            None => original(node, change, &self.found, follow)?,
            Some(now) => match &self.found.link {
                // It was written through the link that is there; now the link itself goes.
                Some(target) if !follow => link_to(target),
                _ => now.clone(),
            },
        };
        if !follow {
            self.found.link = None;
        }
        if before.sha256().is_some() {
            self.dress = Some(before.clone());
        }
        let after = match &change.kind {
            ChangeKind::Remove => FileState::Absent,
            ChangeKind::Link { target } => link_to(target),
            ChangeKind::Write { content, mode, owner } => {
                let (old_mode, uid, gid) = match &self.dress {
                    Some(FileState::File { mode, uid, gid, .. }) => (Some(*mode), *uid, *gid),
                    _ => (None, None, None),
                };
                let mode = match (mode, old_mode) {
                    (FileMode::KeepOr(_), Some(old)) => old,
                    (FileMode::KeepOr(mode) | FileMode::Exactly(mode), _) => *mode,
                };
                let (uid, gid) = owner.map_or((uid, gid), |owner| (Some(owner.uid), Some(owner.gid)));
                FileState::File { sha256: sha256(content), mode, uid, gid }
            }
        };
        if after.sha256().is_some() {
            self.dress = Some(after.clone());
        }
        self.now = Some(after.clone());
        Ok(Entry { path: change.report.path.clone(), step: change.step, before, after })
    }
}

fn link_to(target: &Path) -> FileState {
    FileState::Link { target: target.to_string_lossy().into_owned() }
}

/// What is there before the first change, if it is what the plan saw.
fn original(node: &str, change: &Change, found: &Found, follow: bool) -> anyhow::Result<FileState> {
    let path = &change.report.path;
    let before = observe(found, follow).map_err(|reason| {
        Failure::failed(format!("{node}: cannot change {path}: {reason}")).hint("correct or remove it by hand")
    })?;
    let as_expected = match &change.expected {
        Expected::Anything => true,
        Expected::Absent => before == FileState::Absent,
        Expected::Sha256(hash) => before.sha256() == Some(hash),
        Expected::LinkTo(target) => found.link.as_ref() == Some(target),
    };
    if as_expected { Ok(before) } else { Err(changed_meanwhile(node, path)) }
}

fn changed_meanwhile(node: &str, path: &str) -> anyhow::Error {
    Failure::failed(format!("{node}: {path} is no longer what the plan was made for; nothing has changed"))
        .hint("run the command again: it makes a new plan")
        .into()
}

fn refuse_changed(node: &str, journal: &Journal, standings: &[Standing]) -> anyhow::Result<()> {
    for (entry, standing) in journal.changes.iter().zip(standings) {
        if !standing.is_before() {
            return Err(changed_meanwhile(node, &entry.path));
        }
    }
    Ok(())
}

/// The folders that have to be made, outermost first.
fn missing_directories(node: &dyn Node, journal: &Journal) -> anyhow::Result<Vec<String>> {
    let mut folders = BTreeSet::new();
    for entry in journal.changes.iter().filter(|entry| entry.after != FileState::Absent) {
        folders.extend(Path::new(&entry.path).ancestors().skip(1).map(Path::to_owned));
    }
    let found = node.read(&folders.into_iter().map(Query::Metadata).collect::<Vec<_>>())?;
    let mut missing = Vec::new();
    for found in found {
        let reason = match found.state {
            FoundState::Directory => continue,
            FoundState::Missing if found.link.is_none() => {
                missing.extend(found.path.to_str().map(str::to_owned));
                continue;
            }
            FoundState::Missing => "it is a symbolic link that leads nowhere".to_owned(),
            FoundState::Unreadable(reason) => reason,
            FoundState::File(_) | FoundState::Unread => "it is not a folder".to_owned(),
        };
        let message = format!("{}: cannot use the folder {}: {reason}", node.name(), found.path.display());
        return Err(Failure::failed(message).hint("correct or remove it by hand").into());
    }
    Ok(missing)
}

/// Tries out every change, so that what could fail fails now, and clears away what killed runs left there.
fn rehearse(node: &dyn Node, journal: &Journal, request: &Request) -> anyhow::Result<()> {
    let room = room(journal, request)?;
    let mut folders: HashSet<&Path> = HashSet::new();
    for (_, entry) in journal.originals() {
        let place = nearest(Path::new(&entry.path), journal);
        let size = if folders.insert(place.parent().unwrap_or(place)) { room } else { 0 };
        let mut states = journal.changes.iter().filter(|other| other.path == entry.path).map(|other| &other.after);
        let (mode, owner) = match states.find(|state| state.sha256().is_some()).unwrap_or(&entry.after) {
            // A folder that is still to be made: the right to make it is all that matters.
            FileState::File { mode, uid, gid, .. } if place == Path::new(&entry.path) => (*mode, owner(*uid, *gid)),
            _ => (0o644, None),
        };
        node.apply(&Effect::Rehearse { path: place, follow: entry.follows(), mode, owner, size })?;
    }
    Ok(())
}

/// The room that everything still to be written may take (bytes), should it all go to the same disk: every file in
/// whole blocks, a block for every folder, and the journal as it is and as it will be.
fn room(journal: &Journal, request: &Request) -> anyhow::Result<u64> {
    let blocks = |length: usize| (length as u64).div_ceil(BLOCK) * BLOCK;
    let contents = request.changes.iter().map(|change| match &change.kind {
        ChangeKind::Write { content, .. } => blocks(content.len()),
        ChangeKind::Link { .. } | ChangeKind::Remove => 0,
    });
    let folders = blocks(journal.directories.len() * usize::try_from(BLOCK)?);
    Ok(contents.sum::<u64>() + folders + 2 * blocks(journal.to_text()?.len()))
}

/// The path itself, or the outermost folder on the way to it that is still to be made.
fn nearest<'a>(path: &'a Path, journal: &Journal) -> &'a Path {
    let missing = |folder: &Path| journal.directories.iter().any(|missing| Path::new(missing) == folder);
    path.ancestors().skip(1).filter(|folder| missing(folder)).last().unwrap_or(path)
}

//! How far a change has come, told from what is at its path: the hash says "before", "after", or somebody else.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::Path;

use anyhow::anyhow;

use super::journal::{Entry, FileState, Journal};
use super::sha256;
use crate::node::{Content, Effect, Found, FoundState, Node, Owner, Query};
use crate::pki::catalog::kubelet::is_dated;

/// What has become of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// The file is as it was before.
    Before,
    /// The file is as it is to be.
    After,
    /// It was to stay as it is, and did.
    Both,
    /// A file is gone that a link was to replace, or the other way round: the step between was interrupted.
    Between,
    /// Somebody else changed it; in words.
    Foreign(String),
}

impl Standing {
    /// Whether nothing is left to do on the way to the new state.
    pub(super) fn is_after(&self) -> bool {
        matches!(self, Self::After | Self::Both)
    }

    /// Whether nothing is left to do on the way back.
    pub(super) fn is_before(&self) -> bool {
        matches!(self, Self::Before | Self::Both)
    }
}

/// What is at a path; `Err` says in words what cannot be dealt with. With `follow` a link stands for what it leads to.
pub(super) fn observe(found: &Found, follow: bool) -> Result<FileState, String> {
    if let (Some(target), false) = (&found.link, follow) {
        let target = target.to_str().ok_or("it is a symbolic link to a name that is not UTF-8")?;
        return Ok(FileState::Link { target: target.to_owned() });
    }
    match (&found.state, &found.metadata, &found.link) {
        (FoundState::Missing, _, Some(target)) => {
            Err(format!("it is a symbolic link to {}, which does not exist", target.display()))
        }
        (FoundState::Missing, ..) => Ok(FileState::Absent),
        (FoundState::File(content), Some(metadata), _) => Ok(FileState::File {
            sha256: sha256(content),
            mode: metadata.mode,
            uid: Some(metadata.uid),
            gid: Some(metadata.gid),
        }),
        (FoundState::Unreadable(reason), ..) => Err(reason.clone()),
        (FoundState::Directory, ..) => Err("it is a folder".to_owned()),
        (FoundState::File(_) | FoundState::Unread, ..) => Err("it was not read".to_owned()),
    }
}

/// Whether kind and content are the same, whatever mode and owner.
pub(super) fn same_content(one: &FileState, other: &FileState) -> bool {
    match (one, other) {
        (FileState::File { sha256: one, .. }, FileState::File { sha256: other, .. }) => one == other,
        (one, other) => one == other,
    }
}

/// Whether what is there has mode and owner that were wished, too.
fn same_dress(actual: &FileState, wished: &FileState) -> bool {
    match (actual, wished) {
        (FileState::File { mode, uid, gid, .. }, FileState::File { mode: bits, uid: user, gid: group, .. }) => {
            mode == bits && (user.is_none() || user == uid) && (group.is_none() || group == gid)
        }
        _ => true,
    }
}

impl Entry {
    /// Whether the change is made through a symbolic link rather than to it.
    pub(super) fn follows(&self) -> bool {
        matches!(self.after, FileState::File { .. })
    }

    /// How far the change has come.
    pub(super) fn standing(&self, found: &Found) -> Standing {
        let actual = match observe(found, self.follows()) {
            Ok(actual) => actual,
            Err(reason) => return Standing::Foreign(reason),
        };
        match (same_content(&actual, &self.before), same_content(&actual, &self.after)) {
            // Only mode or owner change, if anything.
            (true, true) if same_dress(&self.before, &self.after) => Standing::Both,
            (true, true) if same_dress(&actual, &self.after) => Standing::After,
            (true, _) => Standing::Before,
            (false, true) => Standing::After,
            (false, false) if actual == FileState::Absent && self.replaces_file_by_link() => Standing::Between,
            (false, false) => Standing::Foreign(in_words(actual)),
        }
    }

    fn replaces_file_by_link(&self) -> bool {
        matches!((&self.before, &self.after), (FileState::File { .. }, FileState::Link { .. }))
    }

    /// Carries the change out; `staged` is the new content on the node.
    pub(super) fn forward(&self, node: &dyn Node, staged: &Path) -> anyhow::Result<()> {
        put(node, Path::new(&self.path), &self.after, staged)
    }

    /// Takes the change back; `copy` is the content before it on the node.
    pub(super) fn backward(&self, node: &dyn Node, copy: &Path) -> anyhow::Result<()> {
        let path = Path::new(&self.path);
        if self.replaces_file_by_link() {
            // Otherwise the old content would be written to where the new link leads.
            node.apply(&Effect::Remove { path })?;
        }
        put(node, path, &self.before, copy)
    }
}

fn put(node: &dyn Node, path: &Path, state: &FileState, copy: &Path) -> anyhow::Result<()> {
    match state {
        FileState::Absent => node.apply(&Effect::Remove { path }),
        FileState::Link { target } => node.apply(&Effect::Link { path, target: Path::new(target) }),
        FileState::File { mode, uid, gid, .. } => node.apply(&Effect::Install {
            path,
            content: Content::FileOnNode(copy),
            mode: *mode,
            owner: owner(*uid, *gid),
        }),
    }
}

/// The owner a journal names, if it does.
pub(super) fn owner(uid: Option<u32>, gid: Option<u32>) -> Option<Owner> {
    uid.zip(gid).map(|(uid, gid)| Owner { uid, gid })
}

/// How far every change of a journal has come. Changes of steps that are done are made, those of later steps are not; where
/// a path is not what the journal says for now, that is told at the change which says it.
pub(super) fn standings(node: &dyn Node, journal: &Journal) -> anyhow::Result<Vec<Standing>> {
    let places: Vec<&str> = journal.originals().map(|(_, entry)| entry.path.as_str()).collect();
    let queries: Vec<Query> = places.iter().map(|path| Query::File(path.into())).collect();
    let found = node.read(&queries)?;
    let found: HashMap<&str, &Found> = places.into_iter().zip(&found).collect();
    let gone = || anyhow!("{}: not every file was looked at", node.name());
    let changes = journal.changes.iter().enumerate();
    changes
        .map(|(index, entry)| Ok(standing(journal, index, found.get(entry.path.as_str()).ok_or_else(gone)?)))
        .collect()
}

fn standing(journal: &Journal, index: usize, found: &Found) -> Standing {
    let Some(entry) = journal.changes.get(index) else { return Standing::Both };
    let (wished, at_rest) = match entry.step.cmp(&journal.done) {
        Ordering::Equal => {
            let standing = entry.standing(found);
            let is_made = journal.begun && matches!(standing, Standing::Foreign(_));
            return match observe(found, entry.follows()) {
                Ok(actual) if is_made && has_moved_on(&actual, &entry.after) => Standing::After,
                _ => standing,
            };
        }
        Ordering::Less => (&entry.after, Standing::After),
        Ordering::Greater => (&entry.before, Standing::Before),
    };
    if journal.ruling(&entry.path) != Some(index) {
        return at_rest;
    }
    match observe(found, entry.follows()) {
        Err(reason) => Standing::Foreign(reason),
        Ok(actual) if same_content(&actual, wished) => at_rest,
        Ok(actual) if entry.step < journal.done && has_moved_on(&actual, wished) => at_rest,
        Ok(actual) => Standing::Foreign(in_words(actual)),
    }
}

/// Whether the kubelet has renewed its certificate since: its link leads to a later dated file in the same folder. It does that
/// whenever it is time, also while an operation waits for somebody.
fn has_moved_on(actual: &FileState, wished: &FileState) -> bool {
    let (FileState::Link { target: actual }, FileState::Link { target: wished }) = (actual, wished) else {
        return false;
    };
    let dated = |target: &str| {
        let path = Path::new(target);
        let name = path.file_name()?.to_str().filter(|name| is_dated(name))?;
        Some((path.parent()?.to_owned(), name.to_owned()))
    };
    let (Some((folder, name)), Some((other, before))) = (dated(actual), dated(wished)) else { return false };
    let is_same_kind = name.split('-').nth(1) == before.split('-').nth(1);
    folder == other && is_same_kind && name > before
}

fn in_words(actual: FileState) -> String {
    match actual {
        FileState::Absent => "it is gone".to_owned(),
        FileState::File { .. } => "it has another content".to_owned(),
        FileState::Link { target } => format!("it is a symbolic link to {target}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelet_that_has_renewed_its_certificate_has_moved_on() {
        let link = |target: &str| FileState::Link { target: target.to_owned() };
        let ours = link("/v/kubelet-client-2026-01-02-03-04-05.pem");
        assert!(has_moved_on(&link("/v/kubelet-client-2026-02-01-00-00-00.pem"), &ours));
        for other in [
            "/v/kubelet-client-2026-01-02-03-04-05.pem",
            "/v/kubelet-client-2025-12-31-00-00-00.pem",
            "/v/kubelet-server-2026-02-01-00-00-00.pem",
            "/w/kubelet-client-2026-02-01-00-00-00.pem",
            "/v/other.pem",
        ] {
            assert!(!has_moved_on(&link(other), &ours), "{other}");
        }
        assert!(!has_moved_on(&FileState::Absent, &ours));
    }
}

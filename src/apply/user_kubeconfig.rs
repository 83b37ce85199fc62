//! A credential into a person's kubeconfig: locked, all or nothing, with a copy of what is replaced.
//!
//! Nothing is decided here but whether the file still is what the decision was about: between the question and the lock
//! somebody else may have written it, then everything begins anew.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use zeroize::Zeroizing;

use crate::error::Failure;
use crate::node::{Content, Effect, Found, FoundState, LockGuard, Node, Owner, Query};
use crate::pki::kubeconfig::{Credential, EntryName, Kubeconfig, Merged, Problem};

/// Permission bits of a new kubeconfig.
const FILE_MODE: u32 = 0o600;

/// Permission bits of new folders.
const FOLDER_MODE: u32 = 0o700;

/// How often everything begins anew because the file changed at that very moment.
const ATTEMPTS: usize = 100;

/// Where a credential goes.
pub struct Destination<'a> {
    /// The machine the person works on.
    pub node: &'a dyn Node,
    /// The kubeconfig.
    pub file: &'a Path,
    /// Where a copy of the old file is put when something in it is replaced: a path not used before; nothing when the
    /// person has no home.
    pub backup: Option<&'a Path>,
    /// Whether the new context becomes the current one.
    pub set_current: bool,
    /// Whether the file is only looked at.
    pub only_look: bool,
    /// Whether root is at work, who may give a new file to whomever its folder belongs to.
    pub is_root: bool,
}

/// Takes the lock on the kubeconfig.
pub type Lock<'a> = dyn Fn(&Path) -> anyhow::Result<Vec<Box<dyn LockGuard>>> + 'a;

/// What is to be in the file.
pub struct Wanted {
    /// The credential.
    pub credential: Credential,
    /// Entries of it that may be replaced unasked.
    pub unasked: Vec<EntryName>,
}

/// What is asked of the caller on the way.
pub struct Callbacks<'a> {
    /// What is wanted for somebody whose kubeconfig holds that so far.
    pub wanted: &'a mut dyn FnMut(&Kubeconfig) -> anyhow::Result<Wanted>,
    /// Agrees to replace those entries, or says in an error why not.
    pub agree: &'a mut dyn FnMut(&[EntryName]) -> anyhow::Result<()>,
    /// Takes the lock.
    pub lock: &'a Lock<'a>,
}

/// What became of the file.
#[derive(Debug)]
pub struct Outcome {
    /// The credential that is in it now.
    pub credential: Credential,
    /// Whether the file was there.
    pub existed: bool,
    /// Whether it was changed.
    pub changed: bool,
    /// Entries that were replaced.
    pub replaced: Vec<EntryName>,
    /// The copy of the old file.
    pub backup: Option<PathBuf>,
    /// Permission bits of a file that others may read.
    pub open_mode: Option<u32>,
}

/// Adds a credential to a kubeconfig.
///
/// # Errors
/// When the file cannot be read, is none that kubectl reads, may not be changed, or a callback says no. Then it is
/// untouched.
pub fn merge(to: &Destination<'_>, callbacks: &mut Callbacks<'_>) -> anyhow::Result<Outcome> {
    let mut agreed: Vec<EntryName> = Vec::new();
    for _ in 0..ATTEMPTS {
        let seen = Old::read(to)?;
        let Wanted { credential, mut unasked } = (callbacks.wanted)(&seen.kubeconfig(to.file)?)?;
        let mut plan = merged(&credential, &seen, to)?;
        if !plan.changed || to.only_look {
            return Ok(outcome(credential, &seen, plan, None));
        }
        let conflicts: Vec<EntryName> =
            plan.replaced.iter().filter(|entry| !unasked.contains(entry)).cloned().collect();
        if conflicts.iter().any(|entry| !agreed.contains(entry)) {
            (callbacks.agree)(&conflicts)?;
            agreed.extend(conflicts);
        }
        if let Some(folder) = to.file.parent() {
            to.node.apply(&Effect::MakeDirectory { path: folder, mode: FOLDER_MODE })?;
        }
        let _guards = (callbacks.lock)(to.file)?;
        let old = Old::read(to)?;
        if old.bytes != seen.bytes {
            // Somebody was faster. What they wrote stays, and what may be replaced in it is open again.
            unasked.clear();
            plan = merged(&credential, &old, to)?;
        }
        if plan.replaced.iter().any(|entry| !agreed.contains(entry) && !unasked.contains(entry)) {
            continue;
        }
        let backup = if plan.changed { install(to, &old, &plan)? } else { None };
        return Ok(outcome(credential, &old, plan, backup));
    }
    Err(Failure::failed(format!("{} is changed by others all the time", to.file.display())).into())
}

fn outcome(credential: Credential, old: &Old, plan: Merged, backup: Option<PathBuf>) -> Outcome {
    Outcome {
        credential,
        existed: old.bytes.is_some(),
        changed: plan.changed,
        replaced: plan.replaced,
        backup,
        open_mode: old.metadata.map(|(mode, _)| mode).filter(|mode| mode & 0o077 != 0),
    }
}

fn merged(credential: &Credential, old: &Old, to: &Destination<'_>) -> anyhow::Result<Merged> {
    let bytes = old.bytes.as_ref().map_or(&[][..], |bytes| bytes);
    credential.merge_into(bytes, to.set_current).map_err(|problem| refused(to.file, &problem))
}

/// Copies the old file when something in it is replaced, then puts the new one in its place.
fn install(to: &Destination<'_>, old: &Old, merged: &Merged) -> anyhow::Result<Option<PathBuf>> {
    let mut backup = None;
    if let (Some(bytes), false) = (&old.bytes, merged.replaced.is_empty()) {
        let path = to.backup.ok_or_else(|| {
            Failure::usage(format!("HOME is not set, so there is no place for a copy of {}", to.file.display()))
        })?;
        if let Some(folder) = path.parent() {
            to.node.apply(&Effect::MakeDirectory { path: folder, mode: FOLDER_MODE })?;
        }
        let content = Content::Bytes(bytes);
        to.node
            .apply(&Effect::Install { path, content, mode: FILE_MODE, owner: None })
            .context("the old kubeconfig could not be copied, nothing changed")?;
        backup = Some(path.to_owned());
    }
    // Temporary files of runs that were killed; a failure to remove them is no reason not to go on.
    let _ = to.node.apply(&Effect::Sweep { path: to.file });
    let (mode, owner) = old.metadata.map_or((FILE_MODE, old.folder_owner), |(mode, owner)| (mode, Some(owner)));
    let content = Content::Bytes(&merged.text);
    to.node.apply(&Effect::Install { path: to.file, content, mode, owner })?;
    Ok(backup)
}

/// The kubeconfig as it was.
struct Old {
    bytes: Option<Zeroizing<Vec<u8>>>,
    metadata: Option<(u32, Owner)>,
    /// Whom a new file belongs to, where the caller is root in somebody else's folder.
    folder_owner: Option<Owner>,
}

impl Old {
    fn read(to: &Destination<'_>) -> anyhow::Result<Self> {
        let shown = to.file.display();
        let folder = to.file.parent().unwrap_or(Path::new("/"));
        let found = to.node.read(&[Query::File(to.file.to_owned()), Query::Metadata(folder.to_owned())])?;
        let [file, folder] = <[Found; 2]>::try_from(found).map_err(|_| anyhow!("{shown}: not read"))?;
        let owner = |metadata: &crate::node::Metadata| Owner { uid: metadata.uid, gid: metadata.gid };
        let metadata = file.metadata.as_ref().map(|metadata| (metadata.mode, owner(metadata)));
        let elsewhere = |hint: &str, reason: String| {
            Err(Failure::failed(format!("cannot use {shown}: {reason}")).hint(hint.to_owned()).into())
        };
        let bytes = match file.state {
            FoundState::File(bytes) => Some(bytes),
            FoundState::Missing => None,
            FoundState::Directory => return elsewhere("name a file with --file", "it is a folder".into()),
            FoundState::Unreadable(reason) => {
                return elsewhere("name another file with --file, or `-` for standard output", reason);
            }
            FoundState::Unread => return elsewhere("name another file with --file", "it was not read".into()),
        };
        let folder_owner = folder.metadata.as_ref().map(owner).filter(|owner| owner.uid != 0);
        Ok(Self { bytes, metadata, folder_owner: folder_owner.filter(|_| to.is_root) })
    }

    /// What the file says; an empty kubeconfig when it is not there.
    fn kubeconfig(&self, file: &Path) -> anyhow::Result<Kubeconfig> {
        let bytes = self.bytes.as_ref().map_or(&[][..], |bytes| bytes);
        let folder = file.parent().unwrap_or(Path::new("/"));
        Kubeconfig::parse(bytes, folder).map_err(|problem| refused(file, &problem))
    }
}

/// `FILE:LINE:COLUMN: …`, which terminals and editors make a link of.
fn refused(file: &Path, problem: &Problem) -> anyhow::Error {
    let place = match problem.line {
        0 => String::new(),
        line => format!("{line}:{}:", problem.column),
    };
    Failure::failed(format!("{}:{place} {}; the file was not touched", file.display(), problem.message))
        .hint("correct the file, or name another one with --file")
        .into()
}

//! The one way in which a file gets onto a node: temporary file, owner and mode, content, flush, rename, flush.
//!
//! Whoever reads the file sees the old or the new one, never half of one, and inotify sees the rename that
//! Kubernetes components wait for. Nothing is written in place and no hard link is made: a second name for the old
//! inode would keep kube-apiserver from noticing the next rename (its watch re-adds itself only when the last name
//! is gone).

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::reading;
use super::removal::sweep_folder;
use super::writing::{Writer, flush, kind, open_folder, stat_in};
use super::{Content, FoundState, Owner, Query};
use crate::error::Failure;

const PREFIX: &str = ".kubepki-";
const SUFFIX: &str = ".tmp";

/// How often another name is tried when a temporary file's is taken or was swept away.
const ATTEMPTS: usize = 16;

/// What a replaced file hands on beside mode and owner: its security label, and who else may read it.
const ATTRIBUTES: [&str; 2] = ["security.selinux", "system.posix_acl_access"];

/// Whether a file of this name is a temporary file of an install, perhaps of one that was killed.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(PREFIX.as_bytes()) && name.ends_with(SUFFIX.as_bytes())
}

/// A fresh name; it starts with a dot because the kubelet runs every other file in its manifests folder.
fn temporary_name() -> anyhow::Result<OsString> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Failure::failed("the system gives no random numbers"))?;
    Ok(format!("{PREFIX}{:016x}{SUFFIX}", u64::from_ne_bytes(random)).into())
}

/// A temporary file's name, removed again unless it became the file it was made for.
struct Temporary<'a> {
    folder: BorrowedFd<'a>,
    name: OsString,
    placed: bool,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.placed {
            // Nothing more can be done about a failure here; a later sweep finds the file by its name.
            let _ = rustix::fs::unlinkat(self.folder, &self.name, rustix::fs::AtFlags::empty());
        }
    }
}

impl<'a> Temporary<'a> {
    /// Creates an empty file that only its owner can read, and locks it as a sign that somebody is writing it.
    fn create(writer: &Writer<'_>, folder: BorrowedFd<'a>, path: &Path) -> anyhow::Result<(Self, File)> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS {
            let name = temporary_name()?;
            let file = match rustix::fs::openat(folder, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => File::from(fd),
                Err(Errno::EXIST | Errno::INTR) => continue,
                Err(errno) => return Err(writer.error(errno, "cannot create a temporary file for", path)),
            };
            let temporary = Self { folder, name, placed: false };
            // A sweep that came between creation and lock took the file for a left-over one: make another. File
            // systems without locks have nothing to tell us, and nobody who sweeps there either.
            let swept = matches!(file.try_lock(), Err(TryLockError::WouldBlock))
                || rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_nlink == 0);
            if !swept {
                return Ok((temporary, file));
            }
        }
        Err(writer.error(Errno::BUSY, "cannot create a temporary file for", path))
    }

    /// Gives the temporary file the name it was made for.
    fn rename(&mut self, name: &OsStr) -> rustix::io::Result<()> {
        rustix::fs::renameat(self.folder, &self.name, self.folder, name)?;
        self.placed = true;
        Ok(())
    }
}

impl Writer<'_> {
    /// Carries out [`super::Effect::Install`].
    pub(super) fn install(
        &self,
        path: &Path,
        content: &Content<'_>,
        mode: u32,
        owner: Option<Owner>,
    ) -> anyhow::Result<()> {
        let copied;
        let bytes = match content {
            Content::Bytes(bytes) => bytes,
            Content::FileOnNode(source) => {
                copied = self.content_of(source)?;
                copied.as_slice()
            }
        };
        let place = self.existing_place(path, true)?;
        let failed = |errno: Errno| self.error(errno, "cannot write", path);
        let folder = open_folder(&place).map_err(failed)?;
        let old = stat_in(folder.as_fd(), &place.name).map_err(failed)?;
        if let Some(old) = &old {
            self.may_replace(path, old, place.followed)?;
        }
        self.keeps_secrets(path, &folder, mode, owner)?;

        let (mut temporary, mut file) = Temporary::create(self, folder.as_fd(), path)?;
        self.dress(path, &file, mode, owner, old.as_ref().map(|_| (&folder, place.name.as_os_str())))?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| self.error(error, "cannot write", path))?;
        temporary.rename(&place.name).map_err(failed)?;
        flush(&folder).map_err(|errno| self.error(errno, "cannot flush the folder of", path))
    }

    /// Carries out [`super::Effect::Rehearse`].
    pub(super) fn rehearse(
        &self,
        path: &Path,
        follow: bool,
        mode: u32,
        owner: Option<Owner>,
        size: u64,
    ) -> anyhow::Result<()> {
        let place = self.existing_place(path, follow)?;
        let failed = |errno: Errno| self.error(errno, "cannot write", path);
        let folder = open_folder(&place).map_err(failed)?;
        let old = stat_in(folder.as_fd(), &place.name).map_err(failed)?;
        if let Some(old) = old.as_ref().filter(|old| follow || kind(old) != FileType::Symlink) {
            self.may_replace(path, old, place.followed)?;
        }
        self.keeps_secrets(path, &folder, mode, owner)?;
        // Once for each folder: looking through one for each of ten thousand files takes its time.
        if size > 0 || place.followed {
            sweep_folder(folder.as_fd()).map_err(failed)?;
        }
        let (_removed_again, file) = Temporary::create(self, folder.as_fd(), path)?;
        self.dress(path, &file, mode, owner, None)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size.max(1)) {
            // Not every file system can reserve room; the copies made before the first change show most shortages.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Carries out [`super::Effect::Link`].
    pub(super) fn link(&self, path: &Path, target: &Path) -> anyhow::Result<()> {
        let place = self.existing_place(path, false)?;
        let failed = |errno: Errno| self.error(errno, "cannot link", path);
        let folder = open_folder(&place).map_err(failed)?;
        for _ in 0..ATTEMPTS {
            let name = temporary_name()?;
            match rustix::fs::symlinkat(target, &folder, &name) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(failed(errno)),
            }
            let mut temporary = Temporary { folder: folder.as_fd(), name, placed: false };
            match temporary.rename(&place.name) {
                Ok(()) => return flush(&folder).map_err(|errno| self.error(errno, "cannot flush the folder of", path)),
                // A link cannot be locked against a sweep: make another.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Err(failed(Errno::BUSY))
    }

    fn content_of(&self, source: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let mut found = Vec::new();
        reading::answer(self.root, &Query::File(source.to_owned()), &mut found);
        let reason = match found.pop().map(|found| found.state) {
            Some(FoundState::File(content)) => return Ok(content),
            Some(FoundState::Unreadable(reason)) => reason,
            Some(FoundState::Directory) => "it is a folder".to_owned(),
            _ => "it is not there".to_owned(),
        };
        Err(self.refusal(source).cannot_copy(&reason))
    }

    /// Refuses to replace what is no file, and what somebody else's file would be behind a link.
    fn may_replace(&self, path: &Path, old: &Stat, followed: bool) -> anyhow::Result<()> {
        if kind(old) != FileType::RegularFile {
            return Err(self.refusal(path).irregular());
        }
        if followed && !self.trusts(old.st_uid) {
            return Err(self.refusal(path).behind_link(old.st_uid));
        }
        Ok(())
    }

    /// Refuses to put a private file where somebody else could exchange it.
    fn keeps_secrets(&self, path: &Path, folder: &OwnedFd, mode: u32, owner: Option<Owner>) -> anyhow::Result<()> {
        if mode & 0o077 != 0 {
            return Ok(());
        }
        let stat =
            rustix::fs::fstat(folder).map_err(|errno| self.error(errno, "cannot inspect the folder of", path))?;
        let anybody_writes = stat.st_mode & 0o1002 == 0o002;
        if anybody_writes {
            return Err(self.refusal(path).open_folder());
        }
        // Whoever is given the file may as well own the folder.
        if !self.trusts(stat.st_uid) && owner.is_none_or(|owner| owner.uid != stat.st_uid) {
            return Err(self.refusal(path).foreign_folder(stat.st_uid));
        }
        Ok(())
    }

    /// Owner, attributes of the file that is replaced, then mode: in this order, because a change of owner clears
    /// mode bits, and the mode limits what an access list grants.
    fn dress(
        &self,
        path: &Path,
        file: &File,
        mode: u32,
        owner: Option<Owner>,
        old: Option<(&OwnedFd, &OsStr)>,
    ) -> anyhow::Result<()> {
        if let Some(owner) = owner {
            let stat = rustix::fs::fstat(file).map_err(|errno| self.error(errno, "cannot inspect", path))?;
            if (stat.st_uid, stat.st_gid) != (owner.uid, owner.gid) {
                let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
                rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(|errno| {
                    self.error(errno, &format!("cannot give user {} and group {} the file", owner.uid, owner.gid), path)
                })?;
            }
        }
        if let Some((folder, name)) = old {
            hand_on_attributes(folder, name, file);
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
            .map_err(|errno| self.error(errno, "cannot set the mode of", path))
    }
}

/// Copies [`ATTRIBUTES`] as far as the file system has them and lets us; a file without them is still a good file.
fn hand_on_attributes(folder: &OwnedFd, name: &OsStr, file: &File) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(old) = rustix::fs::openat(folder, name, flags, Mode::empty()) else { return };
    let mut value = vec![0; 64 * 1024];
    for attribute in ATTRIBUTES {
        if let Ok(length) = rustix::fs::fgetxattr(&old, attribute, &mut value[..]) {
            let _ = rustix::fs::fsetxattr(file, attribute, &value[..length], XattrFlags::empty());
        }
    }
}

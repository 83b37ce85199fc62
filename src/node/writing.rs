//! What every write has in common: finding the place, judging who could interfere, flushing, saying what failed.
//!
//! A write never follows a link that somebody other than root or the caller could point elsewhere.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::reading::words;
use super::refusal::Refusal;
use super::resolve::{Place, Root, Stopped, Trust};

/// Writes into one root on behalf of one user.
pub(super) struct Writer<'a> {
    /// The node's name, for messages.
    pub(super) node: &'a str,
    pub(super) root: &'a Root,
    /// Effective user id.
    pub(super) uid: u32,
}

impl Writer<'_> {
    /// The place of `path`; `None` when a folder on the way is missing.
    pub(super) fn place(&self, path: &Path, follow: bool) -> anyhow::Result<Option<Place>> {
        match self.root.place(path, Trust::RootAnd(self.uid), follow) {
            Ok(place) => Ok(Some(place)),
            Err(Stopped::Errno(Errno::NOENT)) => Ok(None),
            Err(Stopped::Errno(errno)) => Err(self.error(errno, "cannot reach", path)),
            Err(Stopped::Link { path: link, uid }) => Err(self.refusal(path).link(&link, uid)),
            Err(Stopped::NotAFile) => Err(self.refusal(path).not_a_file()),
        }
    }

    /// The place of `path`, whose folder must be there.
    pub(super) fn existing_place(&self, path: &Path, follow: bool) -> anyhow::Result<Place> {
        self.place(path, follow)?.ok_or_else(|| self.error(Errno::NOENT, "cannot reach", path))
    }

    pub(super) fn refusal<'a>(&'a self, path: &'a Path) -> Refusal<'a> {
        Refusal { node: self.node, path }
    }

    /// `cannot …` with the system's reason.
    pub(super) fn error(&self, error: impl Into<std::io::Error>, what: &str, path: &Path) -> anyhow::Error {
        let error = error.into();
        let is_full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        self.refusal(path).failed(what, &words(&error), is_full)
    }

    /// Whether files of `uid` are as good as the caller's own.
    pub(super) fn trusts(&self, uid: u32) -> bool {
        uid == 0 || uid == self.uid
    }
}

/// Opens the folder of a place so that it can be listed and flushed.
pub(super) fn open_folder(place: &Place) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(&place.folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// What is at `name`, links not followed; `None` when nothing is.
pub(super) fn stat_in(folder: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Makes changes of names in a folder survive a power cut.
pub(super) fn flush(folder: impl AsFd) -> rustix::io::Result<()> {
    match rustix::fs::fsync(folder) {
        // Some network and user-space file systems cannot flush a folder, and do not need to.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        answer => answer,
    }
}

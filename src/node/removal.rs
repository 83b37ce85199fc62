//! Removes files, empty folders, kubepki's own folders, and what killed runs left behind.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::install::is_temporary;
use super::writing::{Writer, flush, kind, open_folder, stat_in};

/// Nothing of kubepki's own is nested deeper.
const DEEPEST: usize = 16;

impl Writer<'_> {
    /// Carries out [`super::Effect::Remove`].
    pub(super) fn remove(&self, path: &Path) -> anyhow::Result<()> {
        let Some(place) = self.place(path, false)? else { return Ok(()) };
        let failed = |errno: Errno| self.error(errno, "cannot remove", path);
        let folder = open_folder(&place).map_err(failed)?;
        match rustix::fs::unlinkat(&folder, &place.name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed(errno)),
            Ok(()) => flush(&folder).map_err(failed),
        }
    }

    /// Carries out [`super::Effect::RemoveDirectory`].
    pub(super) fn remove_directory(&self, path: &Path) -> anyhow::Result<()> {
        let Some(place) = self.place(path, false)? else { return Ok(()) };
        let failed = |errno: Errno| self.error(errno, "cannot remove the folder", path);
        let folder = open_folder(&place).map_err(failed)?;
        match rustix::fs::unlinkat(&folder, &place.name, AtFlags::REMOVEDIR) {
            // Busy: something is mounted there.
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::BUSY) => Ok(()),
            Err(errno) => Err(failed(errno)),
            Ok(()) => flush(&folder).map_err(failed),
        }
    }

    /// Carries out [`super::Effect::RemoveTree`]. Links below are removed, never followed.
    pub(super) fn remove_tree(&self, path: &Path) -> anyhow::Result<()> {
        if !is_our_own(path) {
            return Err(self.refusal(path).not_our_own());
        }
        let Some(place) = self.place(path, false)? else { return Ok(()) };
        let failed = |errno: Errno| self.error(errno, "cannot remove the folder", path);
        let folder = open_folder(&place).map_err(failed)?;
        match remove_all(folder.as_fd(), &place.name, 0) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed(errno)),
            Ok(()) => flush(&folder).map_err(failed),
        }
    }

    /// Carries out [`super::Effect::Sweep`].
    pub(super) fn sweep(&self, path: &Path) -> anyhow::Result<()> {
        // An install writes beside the file a link leads to, a link beside the link itself.
        for follow in [false, true] {
            let Some(place) = self.place(path, follow)? else { continue };
            if follow && !place.followed {
                continue;
            }
            let failed = |errno: Errno| self.error(errno, "cannot tidy up the folder of", path);
            let folder = open_folder(&place).map_err(failed)?;
            sweep_folder(folder.as_fd()).map_err(failed)?;
        }
        Ok(())
    }
}

/// Removes every temporary file in a folder that nobody is writing.
pub(super) fn sweep_folder(folder: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut swept = false;
    for name in names(folder)?.iter().filter(|name| is_temporary(name)) {
        swept |= sweep_one(folder, name)?;
    }
    if swept { flush(folder) } else { Ok(()) }
}

/// Whether a path lies in a folder named `.kubepki` or `kubepki…`, or is one.
pub(super) fn is_our_own(path: &Path) -> bool {
    path.is_absolute()
        && path.components().all(|component| component.as_os_str() != "..")
        && path.components().any(|component| {
            component.as_os_str() == ".kubepki" || component.as_os_str().as_bytes().starts_with(b"kubepki")
        })
}

fn names(folder: BorrowedFd<'_>) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn remove_all(folder: BorrowedFd<'_>, name: &OsStr, depth: usize) -> rustix::io::Result<()> {
    if depth > DEEPEST {
        return Err(Errno::NAMETOOLONG);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(inner) => {
            for name in names(inner.as_fd())? {
                match remove_all(inner.as_fd(), &name, depth + 1) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
            rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
        }
        // A file, or a link, for which the kernel has either answer.
        Err(Errno::NOTDIR | Errno::LOOP) => rustix::fs::unlinkat(folder, name, AtFlags::empty()),
        Err(errno) => Err(errno),
    }
}

/// Removes a temporary file unless its lock says that somebody is writing it.
fn sweep_one(folder: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<bool> {
    let Some(stat) = stat_in(folder, name)? else { return Ok(false) };
    let mut locked = None;
    match kind(&stat) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
                Ok(file) => File::from(file),
                Err(Errno::NOENT) => return Ok(false),
                Err(errno) => return Err(errno),
            };
            if file.try_lock().is_err() {
                return Ok(false);
            }
            // Kept until the name is gone, so that its writer, should it come to life only now, sees the loss.
            locked = Some(file);
        }
        FileType::Symlink => {}
        _ => return Ok(false),
    }
    let removed = rustix::fs::unlinkat(folder, name, AtFlags::empty());
    drop(locked);
    match removed {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

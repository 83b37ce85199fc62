//! One operation at a time: a lock file that the kernel gives back when its holder dies, however it dies.
//!
//! The lock is `flock` on the file; what is written in it is for people only. The file is removed when the lock is
//! given back, so whoever has locked a file must look whether it still is the one with that name.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::writing::{Writer, kind, stat_in};
use super::{LockGuard, LockOwner};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// How often the lock is tried anew when its file or folder was removed at that very moment.
const ATTEMPTS: usize = 100;

/// Longer lock files are not read (bytes).
const LARGEST: u64 = 64 * 1024;

#[derive(Debug)]
struct FileLock {
    folder: OwnedFd,
    name: OsString,
    file: File,
}

impl LockGuard for FileLock {}

impl FileLock {
    /// Whether the locked file still is the one at its name.
    fn is_current(&self) -> rustix::io::Result<bool> {
        let ours = rustix::fs::fstat(&self.file)?;
        let there = stat_in(self.folder.as_fd(), &self.name)?;
        Ok(there.is_some_and(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Removed while still locked: nobody can hold another lock under this name meanwhile. A file that stays
        // behind, whatever the reason, locks nothing.
        if self.is_current().unwrap_or(false) {
            let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

impl Writer<'_> {
    /// Takes the lock `path` or says who has it.
    pub(super) fn lock(&self, path: &Path, owner: &LockOwner) -> anyhow::Result<Box<dyn LockGuard>> {
        for _ in 0..ATTEMPTS {
            if let Some(parent) = path.parent() {
                self.make_directory(parent, 0o700)?;
            }
            if let Some(mut lock) = self.try_lock(path, owner)? {
                // Without this the lock is as good, only nobody can read whose it is.
                if let Ok(text) = serde_json::to_vec_pretty(owner) {
                    let _ = lock.file.set_len(0).and_then(|()| lock.file.write_all(&text));
                }
                return Ok(Box::new(lock));
            }
        }
        Err(self.error(Errno::BUSY, "cannot lock", path))
    }

    /// `None` when the file was removed meanwhile.
    fn try_lock(&self, path: &Path, owner: &LockOwner) -> anyhow::Result<Option<FileLock>> {
        let failed = |errno: Errno| self.error(errno, "cannot lock", path);
        let Some(place) = self.place(path, false)? else { return Ok(None) };
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut file = match rustix::fs::openat(&place.folder, &place.name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(self.refusal(path).foreign_lock("it is a symbolic link")),
            Err(errno) => return Err(failed(errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if kind(&stat) != FileType::RegularFile {
            return Err(self.refusal(path).foreign_lock("it is not a regular file"));
        }
        if !self.trusts(stat.st_uid) {
            return Err(self.refusal(path).foreign_lock(&format!("it belongs to user {}", stat.st_uid)));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.held(path, &mut file, owner)),
            Err(TryLockError::Error(error)) => return Err(self.error(error, "cannot lock", path)),
        }
        let lock = FileLock { folder: place.folder, name: place.name, file };
        Ok(lock.is_current().map_err(failed)?.then_some(lock))
    }

    fn held(&self, path: &Path, file: &mut File, asking: &LockOwner) -> anyhow::Error {
        let mut text = Vec::new();
        // What cannot be read is what nobody has written yet.
        let _ = file.rewind().and_then(|()| file.take(LARGEST).read_to_end(&mut text));
        self.refusal(path).held(&text, asking)
    }
}

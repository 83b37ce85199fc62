//! One operation at a time: a lock file that the kernel gives back when its holder dies, however it dies.
//!
//! The lock is `flock` on the file; what is written in it is for people only. The file is removed when the lock is
//! given back, so whoever has locked a file must look whether it still is the one with that name.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use time::format_description::well_known::Rfc3339;

use super::writing::{Writer, kind, stat_in};
use super::{LockGuard, LockOwner};
use crate::error::Failure;

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
            Err(Errno::LOOP) => return Err(self.foreign_lock(path, "it is a symbolic link")),
            Err(errno) => return Err(failed(errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if kind(&stat) != FileType::RegularFile {
            return Err(self.foreign_lock(path, "it is not a regular file"));
        }
        if !self.trusts(stat.st_uid) {
            return Err(self.foreign_lock(path, &format!("it belongs to user {}", stat.st_uid)));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.held(path, &mut file, owner)),
            Err(TryLockError::Error(error)) => return Err(self.error(error, "cannot lock", path)),
        }
        let lock = FileLock { folder: place.folder, name: place.name, file };
        Ok(lock.is_current().map_err(failed)?.then_some(lock))
    }

    fn foreign_lock(&self, path: &Path, reason: &str) -> anyhow::Error {
        Failure::failed(format!("{}: cannot lock {}: {reason}", self.node, path.display()))
            .hint(format!("remove {}: kubepki did not make it", path.display()))
            .into()
    }

    fn held(&self, path: &Path, file: &mut File, asking: &LockOwner) -> anyhow::Error {
        let mut text = String::new();
        let read = file.rewind().and_then(|()| file.take(LARGEST).read_to_string(&mut text));
        let holder: Option<LockOwner> = read.ok().and_then(|_| serde_json::from_str(&text).ok());
        let Some(holder) = holder else {
            let message = format!("{}: another kubepki has just started here ({})", self.node, path.display());
            return Failure::failed(message).hint("wait until it has ended, then run the command again").into();
        };
        let since = holder.since.format(&Rfc3339).unwrap_or_default();
        let mut message = format!("{}: kubepki {} is already running here, started", self.node, holder.command);
        let _ = write!(message, " by {} (process {}) at {since}", holder.who, holder.pid);
        if let Some(age) = age(asking.since - holder.since) {
            let _ = write!(message, ", {age} ago");
        }
        let _ = write!(message, "; it holds the lock {}", path.display());
        Failure::failed(message)
            .hint(format!(
                "wait until it has ended, or end process {} of {}: its lock goes with it",
                holder.pid, holder.who
            ))
            .into()
    }
}

/// A span in its largest whole unit; `None` when the clocks contradict each other.
fn age(span: time::Duration) -> Option<String> {
    let units = [(span.whole_days(), "d"), (span.whole_hours(), "h"), (span.whole_minutes(), "min")];
    if span.is_negative() {
        return None;
    }
    let larger = units.into_iter().find(|(count, _)| *count > 0);
    let (count, unit) = larger.unwrap_or((span.whole_seconds(), "s"));
    Some(format!("{count} {unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        use time::Duration;
        assert_eq!(age(Duration::seconds(59)).as_deref(), Some("59 s"));
        assert_eq!(age(Duration::seconds(60)).as_deref(), Some("1 min"));
        assert_eq!(age(Duration::hours(25)).as_deref(), Some("1 d"));
        assert_eq!(age(Duration::seconds(-1)), None);
    }
}

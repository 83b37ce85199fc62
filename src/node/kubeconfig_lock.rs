//! kubectl's lock on a kubeconfig: while `FILE.lock` exists, nobody else changes `FILE`.
//!
//! kubectl creates that file exclusively, does not wait, and leaves it behind when it is killed. kubepki keeps to the
//! same file, but waits, and holds a kernel lock on it as well. The kernel gives that one back however its holder
//! dies, so a lock file of kubepki's without it is a left-over and is cleared away. One of kubectl's never is: nobody
//! can know whether it is still held.
//!
//! The lock file appears under its name in one step, already locked and filled. So there is no moment in which a killed
//! kubepki leaves a file that looks like kubectl's.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;
use time::OffsetDateTime;

use super::reading::words;
use super::{LockGuard, LockOwner};
use crate::error::{ExitCode, Failure};

/// How long one and the same holder is waited for; every new holder is progress and is given as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waiting for longer than this is said.
const SILENCE: Duration = Duration::from_secs(1);

/// Between two looks at a lock that is held; each process adds a little of its own, so that they do not march in step.
const PAUSE: Duration = Duration::from_millis(10);

/// Longer lock files are not kubepki's (bytes).
const LARGEST: u64 = 4096;

/// What happens while somebody else holds the lock.
pub struct Waiting<'a> {
    /// Says in words what is waited for; called once for each holder.
    pub tell: &'a dyn Fn(&str),
    /// Whether waiting is to end.
    pub stop: &'a dyn Fn() -> bool,
}

/// Held while a kubeconfig is being changed; dropping it removes the lock file.
#[derive(Debug)]
struct KubeconfigLock {
    folder: OwnedFd,
    name: OsString,
    file: File,
}

impl LockGuard for KubeconfigLock {}

impl Drop for KubeconfigLock {
    fn drop(&mut self) {
        // Removed while the kernel lock is still held: whoever waits for that then sees that the file is gone.
        remove_if_same(&self.folder, &self.name, &self.file);
    }
}

/// Takes the lock on `kubeconfig` and, where that is a symbolic link, on the file it leads to as well: kubectl locks
/// whichever name it was given. The folder must exist.
///
/// # Errors
/// When another program holds the lock for too long (exit code 1), the wait was ended (130), or the lock file cannot be
/// made.
pub fn lock_kubeconfig(
    kubeconfig: &Path,
    owner: &LockOwner,
    waiting: &Waiting<'_>,
) -> anyhow::Result<Vec<Box<dyn LockGuard>>> {
    let mut names = vec![kubeconfig.to_owned()];
    // The order is always link first, then file, so that two runs cannot wait for each other.
    names.extend(std::fs::canonicalize(kubeconfig).ok().filter(|real| real != kubeconfig && is_link(kubeconfig)));
    let mut guards: Vec<Box<dyn LockGuard>> = Vec::new();
    for name in names {
        guards.push(Box::new(lock(&name, owner, waiting)?));
    }
    Ok(guards)
}

fn is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

fn lock(kubeconfig: &Path, owner: &LockOwner, waiting: &Waiting<'_>) -> anyhow::Result<KubeconfigLock> {
    let mut name = kubeconfig.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let folder = kubeconfig.parent().unwrap_or(Path::new("/"));
    let path = folder.join(&name);
    let failed = |errno: Errno| failure(errno, &path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty()).map_err(failed)?;
    let text = serde_json::to_vec_pretty(owner)?;
    let mut holder = None;
    let mut since = Instant::now();
    let mut told = false;
    loop {
        if let Some(file) = create(&folder, &name, &text).map_err(failed)? {
            return Ok(KubeconfigLock { folder, name, file });
        }
        let now = look(&folder, &name).map_err(failed)?;
        match now {
            Holder::Gone => continue,
            Holder::Dead(file) => {
                remove_if_same(&folder, &name, &file);
                continue;
            }
            Holder::Kubepki(..) | Holder::Stranger(..) => {}
        }
        if holder.as_ref() != Some(&now.identity()) {
            (holder, since, told) = (Some(now.identity()), Instant::now(), false);
        }
        if (waiting.stop)() {
            return Err(Failure::new(ExitCode::Interrupted, "interrupted, nothing changed").into());
        }
        if since.elapsed() > PATIENCE {
            return Err(now.refusal(&path, owner.since));
        }
        if since.elapsed() > SILENCE && !told {
            (waiting.tell)(&format!("waiting for {}, held by {}", path.display(), now.name()));
            told = true;
        }
        std::thread::sleep(PAUSE + Duration::from_millis(u64::from(std::process::id() % 16)));
    }
}

/// Makes the lock file, locked and filled, under its name; `None` when there is one already.
fn create(folder: &OwnedFd, name: &OsStr, text: &[u8]) -> rustix::io::Result<Option<File>> {
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    // Network file systems and old kernels have no files without a name: then the file appears empty and is filled.
    if let Ok(fd) = rustix::fs::openat(folder, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        let mut file = File::from(fd);
        if file.try_lock().is_ok() && file.write_all(text).is_ok() {
            let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
            match rustix::fs::linkat(CWD, nameless, folder, name, AtFlags::SYMLINK_FOLLOW) {
                Ok(()) => return Ok(Some(file)),
                Err(Errno::EXIST) => return Ok(None),
                Err(_) => {}
            }
        }
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, name, flags, mode) {
        Ok(fd) => {
            let mut file = File::from(fd);
            // Without lock and text the file still keeps others out, as kubectl's does.
            let _ = file.try_lock();
            let _ = file.write_all(text);
            Ok(Some(file))
        }
        Err(Errno::EXIST) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Who has the lock.
enum Holder {
    /// Nobody any more.
    Gone,
    /// A kubepki that was killed; the file is locked by us now.
    Dead(File),
    /// A running kubepki.
    Kubepki(Box<LockOwner>, Identity),
    /// Another program, since when.
    Stranger(OffsetDateTime, Identity),
}

/// Tells one lock file from the next of the same name.
type Identity = (u64, u64, i64, u64);

fn look(folder: &OwnedFd, name: &OsStr) -> rustix::io::Result<Holder> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(Holder::Gone),
        // kubectl's lock files have no permission bits at all, and a link is nobody's lock file.
        Err(_) => {
            return match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Ok(stranger(&stat)),
                Err(Errno::NOENT) => Ok(Holder::Gone),
                Err(errno) => Err(errno),
            };
        }
    };
    let stat = rustix::fs::fstat(&file)?;
    let mut text = String::new();
    let read = (&file).take(LARGEST).read_to_string(&mut text);
    let Some(owner) = read.ok().and_then(|_| serde_json::from_str::<LockOwner>(&text).ok()) else {
        return Ok(stranger(&stat));
    };
    match file.try_lock() {
        Ok(()) => Ok(Holder::Dead(file)),
        Err(TryLockError::WouldBlock) => Ok(Holder::Kubepki(Box::new(owner), identity(&stat))),
        Err(TryLockError::Error(_)) => Ok(stranger(&stat)),
    }
}

fn stranger(stat: &Stat) -> Holder {
    let since = OffsetDateTime::from_unix_timestamp(stat.st_mtime).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    Holder::Stranger(since, identity(stat))
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino, stat.st_mtime, stat.st_mtime_nsec)
}

impl Holder {
    fn identity(&self) -> Identity {
        match self {
            Self::Kubepki(_, identity) | Self::Stranger(_, identity) => *identity,
            Self::Gone | Self::Dead(_) => (0, 0, 0, 0),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Kubepki(owner, _) => format!("kubepki {} of {} (process {})", owner.command, owner.who, owner.pid),
            _ => "another program, probably kubectl".to_owned(),
        }
    }

    fn refusal(&self, path: &Path, now: OffsetDateTime) -> anyhow::Error {
        let shown = path.display();
        let message = format!("{shown} is held by {}", self.name());
        match self {
            Self::Stranger(since, _) => {
                let age = (now - *since).whole_seconds().max(0);
                Failure::failed(format!("{message}, for {age} s when this run began"))
                    .hint(format!("if no kubectl is running, a killed one left it behind: rm {shown}"))
                    .into()
            }
            _ => Failure::failed(message).hint("wait until it has ended, then run the command again").into(),
        }
    }
}

/// Removes `name` if it still is the file that `file` is.
fn remove_if_same(folder: &OwnedFd, name: &OsStr, file: &File) {
    let ours = rustix::fs::fstat(file);
    let there = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    if let (Ok(ours), Ok(there)) = (ours, there)
        && (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
    {
        let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
    }
}

fn failure(errno: Errno, path: &Path) -> anyhow::Error {
    Failure::failed(format!("cannot lock {}: {}", path.display(), words(&errno.into())))
        .hint("name a file in a folder you may write to with --file, or `-` for standard output")
        .into()
}

//! Paths to descriptors, inside one root folder.
//!
//! The kernel does it (`openat2` with `RESOLVE_IN_ROOT`) where it can: links, absolute ones too, and `..` never lead
//! out of the root. Where it cannot (before Linux 5.6, or a filter that forbids the call), and wherever every link on
//! the way has to be judged before something is written, the path is walked component by component instead.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, Result};

/// As many links as the kernel follows before it says `ELOOP`.
const MOST_LINKS: usize = 40;

/// How often the kernel is asked again when a rename elsewhere kept it from proving that `..` stays inside the root.
const ATTEMPTS: usize = 8;

/// The folder in which all paths of a node are resolved.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    openat2: bool,
}

/// Whose symbolic links a walk follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Anybody's: for reading.
    Anybody,
    /// Those of root and of this user: for writing, because whoever owns a link decides where the file ends up.
    RootAnd(u32),
}

/// A file's place: the folder that holds it and its name there. There may be nothing at that name.
#[derive(Debug)]
pub(super) struct Place {
    /// The folder, opened with `O_PATH`.
    pub(super) folder: OwnedFd,
    /// Last component; never `.` or `..`.
    pub(super) name: OsString,
    /// Whether the last component was a link that has been followed.
    pub(super) followed: bool,
}

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The system said no.
    Errno(Errno),
    /// A link on the way belongs to somebody who is not trusted.
    Link {
        /// The link, as far as the walk had come.
        path: PathBuf,
        /// Its owner's user id.
        uid: u32,
    },
    /// The path is not absolute, or ends in nothing that could be a file's name.
    NotAFile,
}

impl From<Errno> for Stopped {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl Root {
    /// Opens `path` and finds out whether the kernel can resolve inside it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // Not only ENOSYS: seccomp filters answer calls they do not know with EPERM.
        let openat2 = rustix::fs::openat2(&fd, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve()).is_ok();
        Ok(Self { fd, openat2 })
    }

    /// Opens `path` inside the root, links followed.
    pub(super) fn open_inside(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        if self.openat2 {
            for _ in 0..ATTEMPTS {
                match rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve()) {
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    answer => return answer,
                }
            }
        }
        self.walk_to(path, flags)
    }

    /// [`Self::open_inside`] without the kernel's help.
    fn walk_to(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let errno = |stopped| match stopped {
            Stopped::Errno(errno) => errno,
            Stopped::Link { .. } => Errno::PERM,
            Stopped::NotAFile => Errno::INVAL,
        };
        let mut walk = Walk::new(self.fd.as_fd(), Trust::Anybody, path);
        match walk.run(true).map_err(errno)? {
            Some(name) => {
                rustix::fs::openat(walk.folder(), &name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            }
            None => rustix::fs::openat(walk.folder(), ".", flags | OFlags::CLOEXEC, Mode::empty()),
        }
    }

    /// Finds the folder and the name under which `path` is or would be, judging every link on the way. With `follow`
    /// the last component is followed too.
    pub(super) fn place(&self, path: &Path, trust: Trust, follow: bool) -> std::result::Result<Place, Stopped> {
        if !path.is_absolute() {
            return Err(Stopped::NotAFile);
        }
        let mut walk = Walk::new(self.fd.as_fd(), trust, path);
        let name = walk.run(follow)?.ok_or(Stopped::NotAFile)?;
        let folder = walk.into_folder()?;
        Ok(Place { folder: folder.0, name, followed: folder.1 })
    }
}

fn resolve() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
}

/// One path on its way through the folders.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    trust: Trust,
    /// Folders entered so far; empty at the root. `..` takes one away.
    folders: Vec<(OsString, OwnedFd)>,
    /// Components still to go.
    ahead: VecDeque<OsString>,
    links: usize,
    last_was_link: bool,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>, trust: Trust, path: &Path) -> Self {
        let mut walk =
            Self { root, trust, folders: Vec::new(), ahead: VecDeque::new(), links: 0, last_was_link: false };
        walk.push(path);
        walk
    }

    fn push(&mut self, path: &Path) {
        let mut names: Vec<OsString> = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir | Component::Prefix(_) => {
                    names.clear();
                    self.folders.clear();
                }
                Component::CurDir => {}
                Component::ParentDir => names.push(OsString::from("..")),
                Component::Normal(name) => names.push(name.to_owned()),
            }
        }
        for name in names.into_iter().rev() {
            self.ahead.push_front(name);
        }
    }

    fn folder(&self) -> BorrowedFd<'_> {
        self.folders.last().map_or(self.root, |(_, fd)| fd.as_fd())
    }

    fn into_folder(mut self) -> Result<(OwnedFd, bool)> {
        let folder = match self.folders.pop() {
            Some((_, fd)) => fd,
            None => rustix::io::fcntl_dupfd_cloexec(self.root, 0)?,
        };
        Ok((folder, self.last_was_link))
    }

    fn shown(&self, name: &OsStr) -> PathBuf {
        let folders = self.folders.iter().map(|(name, _)| name.as_os_str());
        std::iter::once(OsStr::new("/")).chain(folders).chain([name]).collect()
    }

    /// Walks until only a name is left; `None` when the path ended in a folder that is already open (`/`, `a/..`).
    fn run(&mut self, follow: bool) -> std::result::Result<Option<OsString>, Stopped> {
        while let Some(name) = self.ahead.pop_front() {
            if name == ".." {
                self.folders.pop();
                continue;
            }
            let last = self.ahead.is_empty();
            if last && !follow {
                return Ok(Some(name));
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = match rustix::fs::openat(self.folder(), &name, flags, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) if last => return Ok(Some(name)),
                Err(errno) => return Err(errno.into()),
            };
            let stat = rustix::fs::fstat(&fd)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    self.judge(&stat, &name)?;
                    self.links += 1;
                    if self.links > MOST_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    // Read through the descriptor that was judged: nobody can swap the link in between.
                    let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
                    self.last_was_link |= last;
                    self.push(Path::new(&OsString::from_vec(target.into_bytes())));
                }
                _ if last => return Ok(Some(name)),
                FileType::Directory => self.folders.push((name, fd)),
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        Ok(None)
    }

    fn judge(&self, link: &Stat, name: &OsStr) -> std::result::Result<(), Stopped> {
        match self.trust {
            Trust::RootAnd(uid) if link.st_uid != 0 && link.st_uid != uid => {
                Err(Stopped::Link { path: self.shown(name), uid: link.st_uid })
            }
            _ => Ok(()),
        }
    }
}

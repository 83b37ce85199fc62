//! What lies at a path: one file, a folder, or everything below a folder.
//!
//! Nothing found stops a read; what cannot be read says why. Only regular files are ever opened for reading, so that
//! neither a pipe blocks nor a device notices.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::resolve::Root;
use super::writing::kind;
use super::{Found, FoundState, LARGEST_FILE, Metadata, Query, install};

/// Deeper trees are a loop of mounts or a trap; each level costs a descriptor.
pub(super) const DEEPEST: usize = 64;

/// From this many entries on, a folder is read by several threads.
const MANY: usize = 1024;

/// How files are opened: without blocking, without becoming a terminal's process, never through a link.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Answers one query.
pub(super) fn answer(root: &Root, query: &Query, found: &mut Vec<Found>) {
    match query {
        Query::File(path) => found.push(look(root, path, true)),
        Query::Metadata(path) => found.push(look(root, path, false)),
        Query::Folder(path) => list(root, path, found),
        Query::Tree(path) => tree(root, path, found),
    }
}

/// Reads the whole of a regular file that has already been opened; `size` is what `fstat` said.
pub(super) fn slurp(file: OwnedFd, size: u64) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut file = File::from(file);
    // One byte more than expected, so that the read that meets the end needs no more room.
    let mut room = usize::try_from(size.min(LARGEST_FILE)).unwrap_or_default() + 1;
    let mut content = Zeroizing::new(vec![0; room]);
    let mut length = 0;
    loop {
        if length == room {
            // The file grew. A plain `resize` might leave an unwiped copy behind.
            room = room.saturating_mul(2).max(64 * 1024);
            let mut larger = Zeroizing::new(vec![0; room]);
            larger[..length].copy_from_slice(&content);
            content = larger;
        }
        match file.read(&mut content[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(words(&error)),
        }
        if length as u64 > LARGEST_FILE {
            return Err(too_large(length as u64));
        }
        // There was room for more: the end has been met where `fstat` said it is. Sizes of 0 mean nothing in /proc.
        if length as u64 == size && size > 0 {
            break;
        }
    }
    content.truncate(length);
    Ok(content)
}

/// A system error in words, without the number.
pub(super) fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

pub(super) fn too_large(size: u64) -> String {
    format!("too large to be a certificate or key: {size} bytes")
}

fn look(root: &Root, path: &Path, content: bool) -> Found {
    if !path.is_absolute() {
        return unreadable(path, "not an absolute path");
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return resolved(root, path, None, content);
    };
    match root.open_inside(folder, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(folder) => look_in(root, folder.as_fd(), path, name, content),
        Err(errno) => failed(path, None, errno),
    }
}

/// Looks at `name` in an open folder; `path` is the same file's absolute path.
fn look_in(root: &Root, folder: BorrowedFd<'_>, path: &Path, name: &OsStr, content: bool) -> Found {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if kind(&stat) == FileType::Symlink => match rustix::fs::readlinkat(folder, name, Vec::new()) {
            Ok(target) => resolved(root, path, Some(OsString::from_vec(target.into_bytes()).into()), content),
            Err(errno) => failed(path, None, errno),
        },
        Ok(stat) => {
            let state = state(&stat, content, || rustix::fs::openat(folder, name, READ, Mode::empty()));
            Found { path: path.into(), link: None, metadata: Some(metadata(&stat)), state }
        }
        Err(errno) => failed(path, None, errno),
    }
}

/// [`look_in`] with content for what the folder says is a regular file: opened first and looked at then, which saves
/// a call for each of perhaps a hundred thousand.
fn read_in(root: &Root, folder: BorrowedFd<'_>, path: &Path, name: &OsStr) -> Found {
    let opened = rustix::fs::openat(folder, name, READ, Mode::empty()).and_then(|fd| Ok((rustix::fs::fstat(&fd)?, fd)));
    match opened {
        Ok((stat, fd)) if kind(&stat) == FileType::RegularFile && size(&stat) <= LARGEST_FILE => {
            let state = slurp(fd, size(&stat)).map_or_else(FoundState::Unreadable, FoundState::File);
            Found { path: path.into(), link: None, metadata: Some(metadata(&stat)), state }
        }
        _ => look_in(root, folder, path, name, true),
    }
}

/// Looks at what `path` leads to, links followed.
fn resolved(root: &Root, path: &Path, link: Option<PathBuf>, content: bool) -> Found {
    let found = root.open_inside(path, OFlags::PATH).and_then(rustix::fs::fstat);
    match found {
        Ok(stat) => {
            // Opened by path a second time: a descriptor of the kind above cannot be read.
            let state = state(&stat, content, || root.open_inside(path, READ.difference(OFlags::NOFOLLOW)));
            Found { path: path.into(), link, metadata: Some(metadata(&stat)), state }
        }
        Err(errno) => failed(path, link, errno),
    }
}

fn state(stat: &Stat, content: bool, open: impl FnOnce() -> rustix::io::Result<OwnedFd>) -> FoundState {
    match kind(stat) {
        FileType::Directory => FoundState::Directory,
        FileType::RegularFile if !content => FoundState::Unread,
        FileType::RegularFile if size(stat) > LARGEST_FILE => FoundState::Unreadable(too_large(size(stat))),
        FileType::RegularFile => match open().map_err(|errno| words(&errno.into())).and_then(read_open) {
            Ok(content) => FoundState::File(content),
            Err(reason) => FoundState::Unreadable(reason),
        },
        _ => FoundState::Unreadable("not a regular file".into()),
    }
}

/// Reads what has just been opened, if it still is a regular file.
fn read_open(fd: OwnedFd) -> Result<Zeroizing<Vec<u8>>, String> {
    let stat = rustix::fs::fstat(&fd).map_err(|errno| words(&errno.into()))?;
    if kind(&stat) != FileType::RegularFile {
        return Err("not a regular file".into());
    }
    slurp(fd, size(&stat))
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

fn metadata(stat: &Stat) -> Metadata {
    let nanoseconds = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    Metadata {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH),
        size: size(stat),
    }
}

fn unreadable(path: &Path, reason: impl Into<String>) -> Found {
    Found { path: path.into(), link: None, metadata: None, state: FoundState::Unreadable(reason.into()) }
}

fn failed(path: &Path, link: Option<PathBuf>, errno: Errno) -> Found {
    let state = match errno {
        Errno::NOENT | Errno::NOTDIR => FoundState::Missing,
        Errno::LOOP if link.is_some() => FoundState::Missing,
        other => FoundState::Unreadable(words(&other.into())),
    };
    Found { path: path.into(), link, metadata: None, state }
}

/// The names in an open folder with their kinds, sorted; a file system that does not tell kinds says `Unknown`.
fn names(folder: BorrowedFd<'_>) -> rustix::io::Result<Vec<(OsString, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((OsStr::from_bytes(name).to_owned(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(names)
}

fn list(root: &Root, path: &Path, found: &mut Vec<Found>) {
    let folder = root.open_inside(path, OFlags::RDONLY | OFlags::DIRECTORY);
    match folder.and_then(|folder| Ok((names(folder.as_fd())?, folder))) {
        Ok((names, folder)) => {
            found.extend(names.iter().map(|(name, _)| look_in(root, folder.as_fd(), &path.join(name), name, false)));
        }
        Err(errno) => found.push(failed(path, None, errno)),
    }
}

fn tree(root: &Root, path: &Path, found: &mut Vec<Found>) {
    let top = look(root, path, true);
    if !matches!(top.state, FoundState::Directory) {
        found.push(top);
        return;
    }
    let mut walk = TreeWalk { root, seen: HashSet::new(), links: Vec::new(), found: Vec::new() };
    walk.enter(path, 0);
    // Linked folders come last: a file that is also reached without a link is listed under that path.
    let plain = walk.found.len();
    while let Some((link, depth)) = walk.links.pop() {
        walk.enter(&link, depth);
    }
    if walk.found.len() > plain {
        walk.found.sort_by(|a, b| a.path.cmp(&b.path));
    }
    found.append(&mut walk.found);
}

/// A walk over a folder and everything below it.
struct TreeWalk<'a> {
    root: &'a Root,
    /// Folders entered so far, by device and inode: links in a circle end here.
    seen: HashSet<(u64, u64)>,
    /// Links to folders, to be entered when everything that needs no link has been.
    links: Vec<(PathBuf, usize)>,
    found: Vec<Found>,
}

/// What an entry of a folder turned out to be.
enum Entry {
    File(Found),
    Folder(PathBuf),
    LinkedFolder(PathBuf),
}

impl TreeWalk<'_> {
    fn enter(&mut self, path: &Path, depth: usize) {
        if depth > DEEPEST {
            self.found.push(unreadable(path, format!("more than {DEEPEST} folders deep")));
            return;
        }
        let folder = match self.root.open_inside(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => folder,
            Err(errno) => return self.found.push(failed(path, None, errno)),
        };
        match rustix::fs::fstat(&folder) {
            Ok(stat) if self.seen.insert((stat.st_dev, stat.st_ino)) => {}
            Ok(_) => return,
            Err(errno) => return self.found.push(failed(path, None, errno)),
        }
        let names = match names(folder.as_fd()) {
            Ok(names) => names,
            Err(errno) => return self.found.push(failed(path, None, errno)),
        };
        let look = |(name, kind): &(OsString, FileType)| self.entry(folder.as_fd(), path, name, *kind);
        let entries: Vec<Option<Entry>> =
            if names.len() < MANY { names.iter().map(look).collect() } else { names.par_iter().map(look).collect() };
        drop(folder);
        for entry in entries.into_iter().flatten() {
            match entry {
                Entry::File(file) => self.found.push(file),
                Entry::Folder(path) => self.enter(&path, depth + 1),
                Entry::LinkedFolder(path) => self.links.push((path, depth + 1)),
            }
        }
    }

    fn entry(&self, folder: BorrowedFd<'_>, path: &Path, name: &OsStr, kind: FileType) -> Option<Entry> {
        if name == ".kubepki" || install::is_temporary(name) {
            return None;
        }
        let path = path.join(name);
        if kind == FileType::Directory {
            return Some(Entry::Folder(path));
        }
        let found = match kind {
            FileType::RegularFile => read_in(self.root, folder, &path, name),
            _ => look_in(self.root, folder, &path, name, true),
        };
        Some(match (&found.state, &found.link) {
            (FoundState::Directory, None) => Entry::Folder(path),
            (FoundState::Directory, Some(_)) => Entry::LinkedFolder(path),
            _ => Entry::File(found),
        })
    }
}

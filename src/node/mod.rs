//! Where things are: the only room that touches disks, processes and sockets.
//!
//! A [`Node`] is one machine. Callers never know whether it is this machine, a mounted root or, over SSH, another
//! one. Reading is one call for everything wanted, because over a network every call costs a round trip. Writing
//! is one [`Effect`] at a time, because an operation must be able to stop after any of them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;
use zeroize::Zeroizing;

pub mod background;
mod command;
mod directories;
mod facts;
pub mod fleet;
pub mod http;
mod install;
pub mod interrupt;
pub mod kubeconfig_lock;
pub mod local;
mod lock;
pub mod probe;
mod reading;
mod refusal;
mod removal;
mod resolve;
pub mod ssh;
pub mod tls;
pub mod wire;
mod writing;

/// Files larger than this are not read: nothing a Kubernetes PKI holds comes near it (bytes).
pub const LARGEST_FILE: u64 = 64 * 1024 * 1024;

/// One machine whose files are inspected and changed.
///
/// Paths are absolute and as the node itself names them.
pub trait Node: Send + Sync {
    /// The node's name in the cluster, `local` for this machine without a cluster file.
    fn name(&self) -> &str;

    /// Host name, clock difference and addresses of the machine.
    ///
    /// # Errors
    /// When the machine cannot be reached.
    fn facts(&self) -> anyhow::Result<NodeFacts>;

    /// Reads everything that `queries` name, in order and without duplicates. A file that is missing, unreadable
    /// or too large is a [`FoundState`], not an error.
    ///
    /// # Errors
    /// Only when the machine cannot be reached.
    fn read(&self, queries: &[Query]) -> anyhow::Result<Vec<Found>>;

    /// [`Node::facts`] and [`Node::read`] at once, which is cheaper where asking costs something.
    ///
    /// # Errors
    /// As both.
    fn survey(&self, queries: &[Query]) -> anyhow::Result<(NodeFacts, Vec<Found>)> {
        Ok((self.facts()?, self.read(queries)?))
    }

    /// Carries out one effect durably: when this returns, a power cut does not undo it.
    ///
    /// # Errors
    /// When the effect did not happen; then nothing is half done, temporary files included.
    fn apply(&self, effect: &Effect<'_>) -> anyhow::Result<()>;

    /// Takes the lock file `path` for `owner`, until the returned guard is dropped. A lock whose holder is gone is
    /// taken over.
    ///
    /// # Errors
    /// When somebody else holds it: the message names the holder, since when, and what to do.
    fn lock(&self, path: &Path, owner: &LockOwner) -> anyhow::Result<Box<dyn LockGuard>>;

    /// The address at which this machine reaches the node, as far as a connection to it ends there: not behind a jump
    /// host, for no machine but another, and not before it has been spoken to.
    fn address(&self) -> Option<IpAddr> {
        None
    }

    /// Runs a shell command there that restarts something, and waits for its end, two minutes at most. It is the
    /// operator's own, from a cluster file, or a fixed one; it holds nothing secret.
    ///
    /// # Errors
    /// When it cannot be run, ends with another status than 0, or does not end in time.
    fn run(&self, command: &str) -> anyhow::Result<()> {
        let message = format!("{}: cannot run `{command}`: nothing runs on this node", self.name());
        Err(crate::error::Failure::failed(message).into())
    }

    /// Connects to TCP port `port` of `host` as the node itself would: `127.0.0.1` is the node's own, names are looked up
    /// there. `limit` bounds that connection; a login on the node that is yet to be made has its own time. Safe while
    /// a lock is held, and at the same time from several threads.
    ///
    /// # Errors
    /// Why there is no connection. Nothing was sent then.
    fn dial(&self, host: &str, port: u16, limit: Duration) -> Result<Box<dyn wire::Wire>, wire::NoWire> {
        let _ = limit;
        Err(format!("connections to {host} port {port} cannot be made from this kind of node").into())
    }
}

impl std::fmt::Debug for dyn Node + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.name())
    }
}

/// Held for the length of an operation; dropping it gives the lock back.
pub trait LockGuard: Send + std::fmt::Debug {}

/// Who holds a lock, written into the lock file for people to read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockOwner {
    /// The command that runs, as `rotate-certs`.
    pub command: String,
    /// `user@host` of whoever started it.
    pub who: String,
    /// Process id on that host.
    pub pid: u32,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// What a machine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// `uname -n`.
    pub host_name: String,
    /// How far the machine's clock is ahead of this one's, negative when it is behind: measured while asking, with half
    /// of the round trip taken off.
    pub clock_skew: time::Duration,
    /// The machine's addresses, loopback and link-local ones excluded, the one of the default route first.
    pub addresses: Vec<std::net::IpAddr>,
    /// Effective user id with which files are read and written.
    pub uid: u32,
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// One file; reported as missing when it is not there.
    File(PathBuf),
    /// Every file in a folder and in the folders below it, sorted by path; a missing folder is one `Found` that says
    /// so. A folder reached twice over links is listed once. Folders named `.kubepki` and left-over temporary files are
    /// kubepki's own and are left out.
    Tree(PathBuf),
    /// What lies directly in a folder, without content and without what lies below, sorted by name; a missing folder
    /// is one `Found` that says so.
    Folder(PathBuf),
    /// Name, mode, owner and kind of a file, but not its content.
    Metadata(PathBuf),
}

/// One file as found on a node. Nothing about it is trusted.
#[derive(Debug, Clone)]
pub struct Found {
    /// Absolute path on the node, as asked for or as found in a folder.
    pub path: PathBuf,
    /// Where a symbolic link at `path` points, as written in the link.
    pub link: Option<PathBuf>,
    /// Mode, owner and time of the file the path leads to (links followed).
    pub metadata: Option<Metadata>,
    /// What is there.
    pub state: FoundState,
}

/// Mode, owner and age of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// Last modification.
    pub modified: OffsetDateTime,
    /// Length in bytes.
    pub size: u64,
}

/// What is at a path.
#[derive(Clone)]
pub enum FoundState {
    /// A regular file and its content, wiped from memory when dropped: it may be a key.
    File(Zeroizing<Vec<u8>>),
    /// A regular file whose content was not asked for.
    Unread,
    /// A folder.
    Directory,
    /// Nothing, or a link that leads nowhere.
    Missing,
    /// Something that could not be read, with the reason in words.
    Unreadable(String),
}

impl std::fmt::Debug for FoundState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(content) => write!(f, "File({} bytes)", content.len()),
            Self::Unread => f.write_str("Unread"),
            Self::Directory => f.write_str("Directory"),
            Self::Missing => f.write_str("Missing"),
            Self::Unreadable(reason) => write!(f, "Unreadable({reason})"),
        }
    }
}

/// One change on one node. Each is atomic: after a crash it happened or it did not.
#[derive(Debug, Clone)]
pub enum Effect<'a> {
    /// Creates a folder and its missing parents with `mode`; a folder that is there stays as it is.
    MakeDirectory {
        /// Absolute path.
        path: &'a Path,
        /// Permission bits of every folder created.
        mode: u32,
    },
    /// Puts `content` at `path`, replacing what is there in one rename.
    Install {
        /// Absolute path. A symbolic link is followed only when link and target belong to the caller or root.
        path: &'a Path,
        /// The whole new content.
        content: Content<'a>,
        /// Permission bits, set before the content is written.
        mode: u32,
        /// Owner; `None` is the caller's own.
        owner: Option<Owner>,
    },
    /// Makes `path` a symbolic link to `target`, replacing what is there in one rename.
    Link {
        /// Absolute path of the link.
        path: &'a Path,
        /// What the link says.
        target: &'a Path,
    },
    /// Removes a file or link; nothing there is fine.
    Remove {
        /// Absolute path.
        path: &'a Path,
    },
    /// Removes an empty folder; nothing there, or something in it, is fine.
    RemoveDirectory {
        /// Absolute path.
        path: &'a Path,
    },
    /// Removes a folder of kubepki's own with everything in it (journals, stages); nothing there is fine. Refused
    /// unless some component of the path names kubepki.
    RemoveTree {
        /// Absolute path.
        path: &'a Path,
    },
    /// Tries everything out that could keep a file from being put at `path`, but leaves no trace: links and owners on
    /// the way, the right to write there and to give the file away, room on the disk.
    Rehearse {
        /// Absolute path; its folder is there.
        path: &'a Path,
        /// Whether a symbolic link at `path` would be followed, as [`Effect::Install`] does, or replaced.
        follow: bool,
        /// Permission bits of the file to come.
        mode: u32,
        /// Owner of the file to come; `None` is the caller's own.
        owner: Option<Owner>,
        /// Room that must be free (bytes). With more than 0 the folder is swept first, too, as by [`Effect::Sweep`].
        size: u64,
    },
    /// Removes temporary files that killed runs left where an [`Effect::Install`] or [`Effect::Link`] of `path` puts
    /// them. Those of running ones stay.
    Sweep {
        /// Absolute path of a file that was being written.
        path: &'a Path,
    },
}

/// Where the content of an [`Effect::Install`] comes from.
#[derive(Clone)]
pub enum Content<'a> {
    /// Sent along.
    Bytes(&'a [u8]),
    /// A file already on the node, copied there without passing through here.
    FileOnNode(&'a Path),
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::FileOnNode(path) => write!(f, "copy of {}", path.display()),
        }
    }
}

/// Owner and group of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

//! A temporary folder that plays the root of a node.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kubepki::node::local::LocalNode;
use kubepki::node::{Effect, Found, LockOwner, Node, Query};
use time::macros::datetime;

/// A node whose `/` is a temporary folder.
pub struct TestRoot {
    folder: tempfile::TempDir,
    /// The node.
    pub node: LocalNode,
}

impl TestRoot {
    pub fn new() -> Self {
        Self::in_folder("cp1", tempfile::tempdir().unwrap())
    }

    /// As [`Self::new`], in memory where the machine has such a folder: for tests that write a thousand times and
    /// would wait for the disk each time.
    pub fn in_memory() -> Self {
        Self::named("cp1")
    }

    /// A node of another name, in memory where the machine has such a folder.
    pub fn named(name: &str) -> Self {
        Self::in_folder(name, tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap()))
    }

    fn in_folder(name: &str, folder: tempfile::TempDir) -> Self {
        let node = LocalNode::open(name, folder.path()).unwrap();
        Self { folder, node }
    }

    /// Where a path of the node really is.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.folder.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Puts a file there without the node's help, parents included.
    pub fn put(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        let at = self.at(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(&at, content).unwrap();
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Makes a folder without the node's help, parents included.
    pub fn folder(&self, path: &str, mode: u32) {
        let at = self.at(path);
        std::fs::create_dir_all(&at).unwrap();
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Makes a symbolic link without the node's help, parents included.
    pub fn link(&self, path: &str, target: &str) {
        let at = self.at(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, at).unwrap();
    }

    /// Gives a file or link, not what it leads to, to another user.
    pub fn give(&self, path: &str, uid: u32) {
        std::os::unix::fs::lchown(self.at(path), Some(uid), Some(uid)).unwrap();
    }

    pub fn content(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.at(path)).unwrap()
    }

    pub fn mode(&self, path: &str) -> u32 {
        std::fs::metadata(self.at(path)).unwrap().permissions().mode() & 0o7777
    }

    /// What the node finds for one query that has one answer.
    pub fn find(&self, query: Query) -> Found {
        let mut found = self.node.read(&[query]).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    pub fn apply(&self, effect: &Effect<'_>) -> anyhow::Result<()> {
        self.node.apply(effect)
    }
}

/// Whoever runs the tests.
pub fn operator(command: &str) -> LockOwner {
    LockOwner {
        command: command.to_owned(),
        who: "admin@workstation".to_owned(),
        pid: std::process::id(),
        since: datetime!(2026-01-02 03:04:05 UTC),
    }
}

/// Does something as another user, on a thread of its own. Only root can.
pub fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
            set_thread_groups(&[]).unwrap();
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(user, user, user).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

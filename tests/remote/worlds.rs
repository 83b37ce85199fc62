//! The nodes on which every scenario runs, and what a scenario may do to them behind their back.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kubepki::node::local::LocalNode;
use kubepki::node::ssh::{SshNode, SshOptions};
use kubepki::node::{Effect, Found, FoundState, Node, Query};
use tempfile::TempDir;

use crate::server::{Server, Setup, nobody};

/// What there is on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Here,
    Usual,
    Busybox { proc: bool },
}

/// A node with a folder of its own.
pub struct World {
    pub node: Box<dyn Node>,
    /// The folder on this machine.
    folder: PathBuf,
    /// The same folder as the node names it; empty when it is the node's root.
    prefix: PathBuf,
    kind: Kind,
    options: Option<SshOptions>,
    _server: Vec<Server>,
    _folder: Option<TempDir>,
}

impl World {
    /// A folder of this machine as root of a node.
    pub fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node = Box::new(LocalNode::open("cp1", folder.path()).unwrap());
        let path = folder.path().to_owned();
        Self {
            node,
            folder: path,
            prefix: PathBuf::new(),
            kind: Kind::Here,
            options: None,
            _server: Vec::new(),
            _folder: Some(folder),
        }
    }

    fn over(server: Vec<Server>, options: SshOptions) -> Self {
        let folder = server[0].at("files");
        fs::create_dir(&folder).unwrap();
        let node = Box::new(SshNode::new("cp1", options.clone(), &nobody()));
        Self {
            node,
            prefix: folder.clone(),
            folder,
            kind: Kind::Usual,
            options: Some(options),
            _server: server,
            _folder: None,
        }
    }

    /// Root on this machine, whose shell is dash.
    pub fn root() -> Self {
        let server = Server::start();
        let options = server.options("root");
        Self::over(vec![server], options)
    }

    /// The same with bash as the shell.
    pub fn bash() -> Self {
        let prepare = "mount --bind /bin/bash /bin/dash".to_owned();
        let server = Server::with(&Setup { prepare, ..Setup::default() });
        let options = server.options("root");
        Self::over(vec![server], options)
    }

    /// A user who becomes root through sudo, which gives every command a terminal, with a talkative login.
    pub fn sudo() -> Self {
        // `ops` has a shell that greets.
        let sudoers = "Defaults use_pty\n".to_owned();
        let server = Server::with(&Setup { sudoers, ..Setup::default() });
        let options = server.options("ops");
        Self::over(vec![server], options)
    }

    /// Through another machine.
    pub fn jump() -> Self {
        let (server, jump) = (Server::start(), Server::start());
        let mut options = server.options("root");
        let mut known = fs::read_to_string(options.known_hosts_file.as_ref().unwrap()).unwrap();
        known.push_str(&jump.host_line("ed25519"));
        fs::write(options.known_hosts_file.as_ref().unwrap(), known).unwrap();
        options.jump_host = Some(format!("guest@127.0.0.1:{}", jump.port()));
        Self::over(vec![server, jump], options)
    }

    /// A machine that has busybox and nothing else; with `proc`, also the file system of that name.
    pub fn busybox(proc: bool) -> Self {
        let mount = if proc { "mkdir -p $FOLDER/files/proc; mount -t proc proc $FOLDER/files/proc" } else { "" };
        let prepare = format!(
            "mkdir -p $FOLDER/files/bin $FOLDER/files/dev\n\
             cp /bin/busybox $FOLDER/files/bin; chroot $FOLDER/files /bin/busybox --install -s /bin\n\
             mknod -m 666 $FOLDER/files/dev/null c 1 3\n{mount}"
        );
        let server =
            Server::with(&Setup { config: "ChrootDirectory $FOLDER/files".to_owned(), prepare, ..Setup::default() });
        let options = server.options("toor");
        let folder = server.at("files");
        let node = Box::new(SshNode::new("cp1", options.clone(), &nobody()));
        Self {
            node,
            folder,
            prefix: PathBuf::new(),
            kind: Kind::Busybox { proc },
            options: Some(options),
            _server: vec![server],
            _folder: None,
        }
    }

    /// The same node once more, as somebody else would reach it.
    pub fn another(&self) -> Box<dyn Node> {
        match &self.options {
            Some(options) => Box::new(SshNode::new("cp1", options.clone(), &nobody())),
            None => Box::new(LocalNode::open("cp1", &self.folder).unwrap()),
        }
    }

    /// Whether the node has the file system of processes.
    pub fn has_proc(&self) -> bool {
        self.kind != Kind::Busybox { proc: false }
    }

    /// Whether the node is this machine.
    pub fn is_here(&self) -> bool {
        self.kind == Kind::Here
    }

    /// Whether scripts can lock files.
    pub fn has_flock(&self) -> bool {
        !matches!(self.kind, Kind::Busybox { .. })
    }

    /// Whether access lists are handed on.
    pub fn has_access_lists(&self) -> bool {
        self.kind == Kind::Here || (self.kind == Kind::Usual && Path::new("/usr/bin/setfacl").exists())
    }

    /// Whether the folder is the node's root.
    pub fn is_root(&self) -> bool {
        self.prefix.as_os_str().is_empty()
    }

    /// A path of the node; `inside` begins with a slash.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        if self.prefix.as_os_str().is_empty() {
            inside.to_owned()
        } else {
            self.prefix.join(inside.strip_prefix("/").unwrap())
        }
    }

    /// The same on this machine.
    pub fn at(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.folder.join(inside.as_ref().strip_prefix("/").unwrap())
    }

    /// Puts a file there without the node's help, parents included.
    pub fn put(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32) {
        let at = self.at(inside);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, content).unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Makes a folder without the node's help, parents included.
    pub fn folder(&self, inside: &str, mode: u32) {
        fs::create_dir_all(self.at(inside)).unwrap();
        fs::set_permissions(self.at(inside), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Makes a symbolic link without the node's help; an absolute target is one of the node.
    pub fn link(&self, inside: &str, target: &str) {
        let at = self.at(inside);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        let target = if target.starts_with('/') { self.path(target) } else { PathBuf::from(target) };
        std::os::unix::fs::symlink(target, at).unwrap();
    }

    /// Gives a file or link, not what it leads to, to another user.
    pub fn give(&self, inside: &str, uid: u32) {
        std::os::unix::fs::lchown(self.at(inside), Some(uid), Some(uid)).unwrap();
    }

    pub fn content(&self, inside: impl AsRef<Path>) -> Vec<u8> {
        fs::read(self.at(inside)).unwrap()
    }

    pub fn mode(&self, inside: impl AsRef<Path>) -> u32 {
        fs::symlink_metadata(self.at(inside)).unwrap().mode() & 0o7777
    }

    pub fn owner(&self, inside: impl AsRef<Path>) -> (u32, u32) {
        let metadata = fs::symlink_metadata(self.at(inside)).unwrap();
        (metadata.uid(), metadata.gid())
    }

    /// The names in a folder, sorted.
    pub fn names(&self, inside: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(inside)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub fn apply(&self, effect: &Effect<'_>) -> anyhow::Result<()> {
        self.node.apply(effect)
    }

    pub fn read(&self, query: Query) -> Vec<Found> {
        self.node.read(&[query]).unwrap()
    }

    /// What the node finds for one query that has one answer.
    pub fn find(&self, query: Query) -> Found {
        let mut found = self.read(query);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    pub fn file(&self, inside: impl AsRef<Path>) -> Found {
        self.find(Query::File(self.path(inside)))
    }

    /// Paths without what comes before the node's folder.
    pub fn paths(&self, found: &[Found]) -> Vec<PathBuf> {
        let inside = |path: &Path| match path.strip_prefix(&self.prefix) {
            Ok(rest) if !self.prefix.as_os_str().is_empty() => Path::new("/").join(rest),
            _ => path.to_owned(),
        };
        found.iter().map(|found| inside(&found.path)).collect()
    }
}

/// The content of a file that was found.
pub fn content(found: &Found) -> &[u8] {
    match &found.state {
        FoundState::File(content) => content,
        other => panic!("{} is {other:?}", found.path.display()),
    }
}

/// Why a file could not be read.
pub fn reason(found: &Found) -> &str {
    match &found.state {
        FoundState::Unreadable(reason) => reason,
        other => panic!("{} is {other:?}", found.path.display()),
    }
}

/// Makes a test of each scenario on each kind of node.
macro_rules! on_every_node {
    ($($scenario:ident),* $(,)?) => {
        on_every_node!(@ local, World::local(), $($scenario),*);
        on_every_node!(@ ssh_root, World::root(), $($scenario),*);
        on_every_node!(@ ssh_bash, World::bash(), $($scenario),*);
        on_every_node!(@ ssh_sudo, World::sudo(), $($scenario),*);
        on_every_node!(@ ssh_jump, World::jump(), $($scenario),*);
        on_every_node!(@ ssh_busybox, World::busybox(true), $($scenario),*);
        on_every_node!(@ ssh_busybox_without_proc, World::busybox(false), $($scenario),*);
    };
    (@ $kind:ident, $world:expr, $($scenario:ident),*) => {
        mod $kind {
            use crate::worlds::World;
            $(
                #[test]
                fn $scenario() {
                    let name = concat!(module_path!(), "::", stringify!($scenario));
                    if crate::server::can_run(name) {
                        super::$scenario(&$world);
                    }
                }
            )*
        }
    };
}
pub(crate) use on_every_node;

//! Three control-plane nodes behind sshd's, the workstation they are kept from, and how far a run on them has come, seen
//! from outside.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::binary::{Run, Stage};
use crate::server::{Server, Setup, can_run, client_key};
use crate::tree::{Entry, Tree, picture};

pub const NAMES: [&str; 3] = ["cp1", "cp2", "cp3"];

/// Folders of the node in the places of the machine's, which has none.
pub const FOLDERS: &str = "\
cp -a /etc $FOLDER/etc; mkdir $FOLDER/etc/kubernetes $FOLDER/kubelet; mount --bind $FOLDER/etc /etc
mount -t tmpfs tmpfs /var/lib; mkdir /var/lib/kubelet; mount --bind $FOLDER/kubelet /var/lib/kubelet
echo 'cgroupDriver: systemd' > /var/lib/kubelet/config.yaml";

/// Addresses are the machine's, not the node's, so nobody is told them.
const NO_ADDRESSES: &str = "\
if ip=$(command -v ip); then mount --bind /bin/false \"$(readlink -f \"$ip\")\"; fi";

/// The nodes, and a workstation.
pub struct Fleet {
    pub servers: Vec<Server>,
    pub here: Stage,
}

/// Files of all nodes by name: the whole of `/etc/kubernetes` but kubepki's own folder, and `/var/lib/kubelet`.
pub type Picture = BTreeMap<&'static str, (Tree, Tree)>;

impl Fleet {
    /// Three empty nodes; `None`, and said so, where they cannot run.
    pub fn start(test: &str) -> Option<Self> {
        if !can_run(test) || !crate::openssl::is_there(test) {
            return None;
        }
        let setup = Setup {
            prepare: format!("{FOLDERS}\n{NO_ADDRESSES}"),
            config: "LogLevel DEBUG1".to_owned(),
            ..Setup::default()
        };
        Some(Self::with(&[setup.clone(), setup.clone(), setup]))
    }

    /// Nodes with these setups.
    pub fn with(setups: &[Setup]) -> Self {
        let fleet = Self { servers: setups.iter().map(Server::with).collect(), here: Stage::new() };
        fleet.furnish(&fleet.here);
        fleet
    }

    /// As [`Fleet::start`], with a whole PKI on every node.
    pub fn with_certificates(test: &str) -> Option<Self> {
        let fleet = Self::start(test)?;
        fleet.run(&["create-certs", "--key-algorithm", "ecdsa-p256", "--yes", "-o", "none"]).expect(0);
        Some(fleet)
    }

    /// Gives a workstation what it needs: the cluster file and the host keys.
    fn furnish(&self, stage: &Stage) {
        let known: String = self.servers.iter().map(|server| server.host_line("ed25519")).collect();
        stage.put("known_hosts", known);
        stage.put("cluster.yaml", self.cluster_file("known_hosts", stage));
    }

    /// The cluster file of a workstation.
    pub fn cluster_file(&self, known_hosts: &str, stage: &Stage) -> String {
        let mut text = format!(
            "apiVersion: kubepki.io/v1\nkind: Cluster\nmetadata: {{name: lab}}\nspec:\n  controlPlaneEndpoint: \
             api.example.com:6443\n  ssh: {{user: root, privateKeyFile: {}, knownHostsFile: {}}}\n  nodes:\n",
            client_key().display(),
            stage.at(known_hosts).display()
        );
        for (name, server) in NAMES.iter().zip(&self.servers) {
            let (host, port) = (&server.address, server.port());
            let _ = writeln!(text, "  - {{name: {name}, host: {host}, role: control-plane, ssh: {{port: {port}}}}}");
        }
        text
    }

    /// Another workstation, which knows nothing of the cluster but its file.
    pub fn elsewhere(&self) -> Stage {
        let stage = Stage::new();
        self.furnish(&stage);
        stage
    }

    /// Runs the binary on the cluster.
    pub fn run(&self, words: &[&str]) -> Run {
        run(&self.here, words)
    }

    /// Starts the binary on the cluster. What it says goes to `out` and `err` on the workstation.
    pub fn begin(&self, words: &[&str]) -> Child {
        let mut command = self.here.command(&with_file(words));
        let file = |name: &str| Stdio::from(fs::File::create(self.here.at(name)).unwrap());
        command.env("USER", "alice").stdout(file("out")).stderr(file("err")).spawn().unwrap()
    }

    pub fn server(&self, name: &str) -> &Server {
        &self.servers[NAMES.iter().position(|one| *one == name).unwrap()]
    }

    /// A path below `/etc/kubernetes` of a node.
    pub fn at(&self, name: &str, path: &str) -> PathBuf {
        self.server(name).at("etc/kubernetes").join(path)
    }

    pub fn look(&self) -> Picture {
        let one = |name: &&'static str| {
            let kubelet = picture(&self.server(name).at("kubelet"), &[]);
            (*name, (picture(&self.at(name, ""), &["tmp/kubepki"]), kubelet))
        };
        NAMES.iter().map(one).collect()
    }

    /// Empties the nodes, but for a file that is not kubepki's, and the folder in which it has its own.
    pub fn wipe(&self) {
        for name in NAMES {
            for entry in fs::read_dir(self.at(name, "")).unwrap().map(Result::unwrap) {
                fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path())).unwrap();
            }
            fs::write(self.at(name, "note.txt"), format!("{name}'s own")).unwrap();
            fs::create_dir(self.at(name, "tmp")).unwrap();
            fs::set_permissions(self.at(name, "tmp"), fs::Permissions::from_mode(0o700)).unwrap();
        }
    }

    /// How many files kubepki's own folders hold on all nodes.
    pub fn own_files(&self) -> usize {
        NAMES.iter().map(|name| count(&self.at(name, "tmp/kubepki"))).sum()
    }

    /// Whether new files lie ready on some node.
    pub fn has_stages(&self) -> bool {
        let folders = NAMES.iter().flat_map(|name| fs::read_dir(self.at(name, "tmp/kubepki")).into_iter().flatten());
        folders.filter_map(Result::ok).any(|folder| folder.path().join("stage").exists())
    }

    /// Which file each name on every node is.
    pub fn files_in_use(&self) -> BTreeMap<PathBuf, u64> {
        let mut files = BTreeMap::new();
        for name in NAMES {
            for folder in ["", "pki", "pki/etcd"] {
                let entries = fs::read_dir(self.at(name, folder)).into_iter().flatten().filter_map(Result::ok);
                let entries = entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)));
                // New files wait under names of their own.
                let entries = entries.filter(|(path, held)| held.is_file() && is_pki(path));
                files.extend(entries.map(|(path, held)| (path, held.ino())));
            }
        }
        files
    }
}

/// How far a run has come.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// So many more files lie in kubepki's own folders.
    Staged(usize),
    /// So many files in use are other ones.
    Changed(usize),
}

impl Moment {
    /// Waits for the moment; false when the run has ended before.
    pub fn wait(self, fleet: &Fleet, before: &(usize, BTreeMap<PathBuf, u64>), child: &mut Child) -> bool {
        let limit = Instant::now() + Duration::from_secs(300);
        while child.try_wait().unwrap().is_none() {
            let has_come = match self {
                Self::Staged(number) => fleet.own_files() >= before.0 + number,
                Self::Changed(number) => {
                    let now = fleet.files_in_use();
                    now.iter().filter(|(path, held)| before.1.get(*path) != Some(held)).count() >= number
                }
            };
            if has_come {
                return true;
            }
            assert!(Instant::now() < limit, "the run has come to a stand");
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

/// What [`Moment::wait`] compares with.
pub fn mark(fleet: &Fleet) -> (usize, BTreeMap<PathBuf, u64>) {
    (fleet.own_files(), fleet.files_in_use())
}

/// Runs the binary on the cluster from a workstation.
pub fn run(stage: &Stage, words: &[&str]) -> Run {
    stage.run(&with_file(words))
}

/// As [`run`], again and again while a node has not noticed yet that an earlier run is gone.
pub fn run_when_free(stage: &Stage, words: &[&str]) -> Run {
    let limit = Instant::now() + Duration::from_secs(150);
    loop {
        let run = run(stage, words);
        let is_held = run.err.contains("is already running here") || run.err.contains("has just started here");
        if !is_held || Instant::now() > limit {
            return run;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn with_file<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut all = words.to_vec();
    all.extend(["--cluster-file", "cluster.yaml"]);
    all
}

fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

fn is_pki(path: &Path) -> bool {
    let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !is_hidden
        && path.extension().is_some_and(|extension| ["crt", "key", "pub", "conf"].iter().any(|it| extension == *it))
}

/// Whether a file is one that all control-plane nodes share.
pub fn is_shared(path: &Path) -> bool {
    let stem = path.with_extension("");
    ["pki/ca", "pki/front-proxy-ca", "pki/etcd/ca", "pki/sa"].iter().any(|shared| stem == Path::new(shared))
}

/// Every leaf is another one, with the same mode and owner, and nothing else has changed.
#[track_caller]
pub fn assert_all_leaves_are_new(before: &Picture, after: &Picture, story: &str) {
    for (name, (old, kubelet)) in before {
        let (new, kubelet_now) = &after[name];
        assert_eq!(kubelet, kubelet_now, "{story}: {name}: /var/lib/kubelet");
        assert!(old.keys().eq(new.keys()), "{story}: {name}: {:?} then {:?}", old.keys(), new.keys());
        for (path, entry) in old {
            match (entry, &new[path]) {
                (
                    Entry::File { content, mode, owner },
                    Entry::File { content: now, mode: mode_now, owner: owner_now },
                ) if is_pki(path) && !is_shared(path) => {
                    assert_ne!(content, now, "{story}: {name}: {} is the old one", path.display());
                    assert_eq!((mode, owner), (mode_now, owner_now), "{story}: {name}: {}", path.display());
                }
                (old, new) => assert_eq!(old, new, "{story}: {name}: {}", path.display()),
            }
        }
    }
}

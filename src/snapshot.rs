//! Everything found on all nodes at one moment, as values that nobody can change.
//!
//! A file that is missing, unreadable or damaged is recorded as such. No private key is in here unless the observer
//! was asked to keep them: what stays of a key is its public half. Nothing is judged, see `diagnose`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::pki::algorithm::KeyKind;
use crate::pki::catalog::{Catalog, Entry};
use crate::pki::certificate::Certificate;
use crate::pki::csr::Request;
use crate::pki::kubeconfig;
use crate::pki::private_key::KeyError;
use crate::pki::server::Server;

mod records;

pub use records::{Ledger, Records};

/// Everything found.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was taken, UTC.
    pub taken_at: OffsetDateTime,
    /// The nodes, in the order asked for.
    pub nodes: Vec<NodeSnapshot>,
}

impl Snapshot {
    /// The node with that name.
    pub fn node(&self, name: &str) -> Option<&NodeSnapshot> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Every artifact with its node.
    pub fn artifacts(&self) -> impl Iterator<Item = (&NodeSnapshot, &Artifact)> {
        self.nodes.iter().flat_map(|node| node.artifacts.iter().map(move |artifact| (node, artifact)))
    }
}

/// What was found on one node.
#[derive(Debug, Clone)]
pub struct NodeSnapshot {
    /// The node's name, `local` for this machine.
    pub name: String,
    /// Why the node could not be asked; then there is nothing else in here.
    pub error: Option<String>,
    /// What the machine says about itself; absent for a bare folder.
    pub facts: Option<Facts>,
    /// The kinds of installation recognised, with the folder each lies in.
    pub catalogs: Vec<(Catalog, PathBuf)>,
    /// The files, in the order of the catalog, then by path.
    pub artifacts: Vec<Artifact>,
    /// kubepki's own records.
    pub records: Records,
}

impl NodeSnapshot {
    /// A node that could not be asked.
    pub fn unreachable(name: impl Into<String>, error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::empty(name) }
    }

    /// A node on which nothing was looked for yet.
    pub fn empty(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            error: None,
            facts: None,
            catalogs: Vec::new(),
            artifacts: Vec::new(),
            records: Records::default(),
        }
    }

    /// The artifact at that absolute path.
    pub fn at(&self, path: &Path) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.path == path)
    }

    /// The certificate or kubeconfig file of the entry with kubeadm's id `id`, as `etcd-server` or `admin.conf`.
    pub fn entry(&self, id: &str) -> Option<&Artifact> {
        self.part(id, false)
    }

    /// The private key file of the entry with that id.
    pub fn key_of(&self, id: &str) -> Option<&Artifact> {
        self.part(id, true)
    }

    fn part(&self, id: &str, is_key: bool) -> Option<&Artifact> {
        self.artifacts
            .iter()
            .find(|artifact| artifact.part.is_some_and(|part| part.entry.id == id && part.is_key == is_key))
    }

    /// The first readable certificate of the entry with that id.
    pub fn certificate(&self, id: &str) -> Option<&Certificate> {
        self.entry(id)?.content()?.certificates().next()
    }

    /// The private key that belongs to the certificate file `artifact`, as [`Places::key_for`].
    pub fn key_for<'a>(&'a self, artifact: &'a Artifact) -> Option<(&'a Artifact, &'a Result<FoundKey, KeyError>)> {
        self.places().key_for(artifact)
    }

    /// The artifacts by path, for whoever looks for many of them.
    pub fn places(&self) -> Places<'_> {
        let mut places = HashMap::with_capacity(self.artifacts.len());
        for artifact in &self.artifacts {
            places.entry(artifact.path.as_path()).or_insert(artifact);
        }
        Places(places)
    }
}

/// The artifacts of one node by their paths.
#[derive(Debug)]
pub struct Places<'a>(HashMap<&'a Path, &'a Artifact>);

impl<'a> Places<'a> {
    /// The artifact at that absolute path.
    pub fn at(&self, path: &Path) -> Option<&'a Artifact> {
        self.0.get(path).copied()
    }

    /// The private key that belongs to the certificate file `artifact`: in the same file, in the file its catalog names,
    /// else in the file of the same name that ends in `.key` or `-key.pem`.
    pub fn key_for(&self, artifact: &'a Artifact) -> Option<(&'a Artifact, &'a Result<FoundKey, KeyError>)> {
        let with_key = |artifact: &Artifact| artifact.content().is_some_and(|content| content.private_key.is_some());
        let here = if with_key(artifact) {
            artifact
        } else {
            key_paths(artifact).iter().find_map(|path| self.at(path).filter(|found| with_key(found)))?
        };
        Some((here, here.content()?.private_key.as_ref()?))
    }
}

/// Where the key of a certificate file may lie, most likely first.
pub fn key_paths(artifact: &Artifact) -> Vec<PathBuf> {
    if let Some(part) = artifact.part.filter(|part| !part.is_key)
        && let Some(key) = part.entry.key
        && let Some(base) = artifact.path.to_str().and_then(|path| path.strip_suffix(part.entry.path))
    {
        return vec![PathBuf::from(format!("{base}{key}"))];
    }
    let stem = artifact.path.with_extension("");
    ["", "-key"]
        .iter()
        .zip(["key", "pem"])
        .map(|(suffix, extension)| PathBuf::from(format!("{}{suffix}.{extension}", stem.display())))
        .filter(|path| *path != artifact.path)
        .collect()
}

/// What a machine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `uname -n`.
    pub host_name: String,
    /// How far the machine's clock is ahead of ours; negative when it is behind.
    pub clock_skew: Duration,
    /// Its addresses without loopback, that of the default route first.
    pub addresses: Vec<IpAddr>,
}

/// Where something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A certificate folder.
    Pki,
    /// A kubeconfig.
    Kubeconfig,
    /// The kubelet's own folder.
    Kubelet,
    /// A TLS server, over the wire.
    Endpoint,
    /// The register of cloud-agent identities.
    Identity,
}

impl Source {
    /// The word in reports and options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pki => "pki",
            Self::Kubeconfig => "kubeconfig",
            Self::Kubelet => "kubelet",
            Self::Endpoint => "endpoint",
            Self::Identity => "identity",
        }
    }
}

/// One file, or one TLS server, as found.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Absolute path on its node; `HOST:PORT` for an endpoint.
    pub path: PathBuf,
    /// Where it comes from.
    pub source: Source,
    /// Which part it plays in its installation; `None` for a file nobody knows.
    pub part: Option<Part>,
    /// For the server of a node, which one it is; its certificate is the one it shows now.
    pub server: Option<Server>,
    /// Where a symbolic link at `path` points, as written in the link.
    pub link: Option<PathBuf>,
    /// Mode and owner of the file; absent when it is missing, and for endpoints.
    pub metadata: Option<Metadata>,
    /// What is there.
    pub state: State,
}

impl Artifact {
    /// What could be read of it.
    pub fn content(&self) -> Option<&Content> {
        match &self.state {
            State::Read(content) => Some(content),
            State::Missing { .. } | State::Unreadable(_) => None,
        }
    }

    /// kubeadm's id of what it is, if its catalog knows it.
    pub fn id(&self) -> Option<&'static str> {
        self.part.map(|part| part.entry.id)
    }

    /// Whether nothing is there.
    pub fn is_missing(&self) -> bool {
        matches!(self.state, State::Missing { .. })
    }
}

/// Which row of which catalog a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The catalog.
    pub catalog: Catalog,
    /// The row.
    pub entry: &'static Entry,
    /// Whether the file is the row's private key and not its certificate.
    pub is_key: bool,
}

/// Mode, owner and age of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// Last modification, UTC.
    pub modified: OffsetDateTime,
}

/// What is at a path.
#[derive(Debug, Clone)]
pub enum State {
    /// Nothing.
    Missing {
        /// Whether the rest of the node says that it ought to be there.
        expected: bool,
    },
    /// Something that could not be read, and why, in words.
    Unreadable(String),
    /// Something that was read; parts of it may be damaged.
    Read(Box<Content>),
}

/// What a file holds.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// Its certificates in file order, or what is wrong with each.
    pub found_certificates: Vec<Result<Certificate, String>>,
    /// Its first private key, or what is wrong with it.
    pub private_key: Option<Result<FoundKey, KeyError>>,
    /// Its public keys (`sa.pub` may have several), `SubjectPublicKeyInfo` DER, or what is wrong with each.
    pub public_keys: Vec<Result<Vec<u8>, String>>,
    /// Its signing requests, or what is wrong with each.
    pub requests: Vec<Result<Request, String>>,
    /// What it says as a kubeconfig, or why it is none although it should be one.
    pub kubeconfig: Option<Result<Kubeconfig, String>>,
    /// PEM blocks that begin and cannot be read.
    pub damaged_blocks: usize,
    /// Whether it is one bare DER structure and not PEM.
    pub is_der: bool,
    /// SHA-256 of the whole file; all zero for an endpoint.
    pub sha256: [u8; 32],
    /// For an endpoint, the host name or address that its certificate should have.
    pub server_name: Option<String>,
}

impl Content {
    /// The readable certificates in file order.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.found_certificates.iter().filter_map(|found| found.as_ref().ok())
    }

    /// Whether nothing in it is of any interest.
    pub fn is_empty(&self) -> bool {
        self.found_certificates.is_empty()
            && self.private_key.is_none()
            && self.public_keys.is_empty()
            && self.requests.is_empty()
            && self.kubeconfig.is_none()
            && self.damaged_blocks == 0
    }
}

/// A private key as found: its public half, and the key itself only where the observer was asked to keep it.
#[derive(Clone)]
pub struct FoundKey {
    /// `SubjectPublicKeyInfo` DER.
    pub public_key: Vec<u8>,
    /// What kind of key it is.
    pub kind: KeyKind,
    /// The PEM it was read from, for [`crate::pki::private_key::PrivateKey::from_pem`].
    pub pem: Option<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for FoundKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FoundKey({}{})", self.kind, if self.pem.is_some() { ", kept" } else { "" })
    }
}

/// A kubeconfig with the certificates in it read, wherever they lie.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    /// `clusters`, in file order.
    pub clusters: Vec<Cluster>,
    /// `users`, in file order.
    pub users: Vec<User>,
    /// `contexts`, in file order.
    pub contexts: Vec<kubeconfig::Context>,
    /// `current-context`, when it is set.
    pub current_context: Option<String>,
    /// What makes kubectl refuse the file, in words, with line and column.
    pub problems: Vec<String>,
}

impl Kubeconfig {
    /// The context `name`, or the current one.
    pub fn context(&self, name: Option<&str>) -> Option<&kubeconfig::Context> {
        let wanted = name.or(self.current_context.as_deref())?;
        self.contexts.iter().find(|context| context.name == wanted)
    }

    /// The user of the current context, else the only user there is.
    pub fn current_user(&self) -> Option<&User> {
        match self.context(None) {
            Some(context) => self.users.iter().find(|user| user.name == context.user),
            None => self.users.first().filter(|_| self.users.len() == 1),
        }
    }

    /// The clusters that `user` is sent to by some context.
    pub fn clusters_of(&self, user: &str) -> impl Iterator<Item = &Cluster> {
        self.clusters.iter().filter(move |cluster| {
            self.contexts.iter().any(|context| context.user == user && context.cluster == cluster.name)
        })
    }
}

/// One cluster entry.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `name`.
    pub name: String,
    /// URL of the API server.
    pub server: Option<String>,
    /// Name expected in the server's certificate instead of the host in `server`.
    pub tls_server_name: Option<String>,
    /// Whether the server's certificate is not checked at all.
    pub insecure_skip_tls_verify: bool,
    /// CA certificates that the server is checked against.
    pub authority: Material,
}

impl Kubeconfig {
    /// The files that its entries refer to.
    pub fn references(&self) -> impl Iterator<Item = &Path> {
        let authorities = self.clusters.iter().map(|cluster| &cluster.authority);
        let users = self.users.iter().flat_map(|user| [&user.certificate, &user.key]);
        authorities.chain(users).filter_map(|material| material.file.as_deref())
    }
}

/// One user entry.
#[derive(Debug, Clone)]
pub struct User {
    /// `name`.
    pub name: String,
    /// The client certificate and what follows it.
    pub certificate: Material,
    /// Its private key.
    pub key: Material,
    /// Whether it has another credential: a token, a token file, a password or a program.
    pub has_other_credential: bool,
}

/// The certificates or the key of a kubeconfig entry.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// The file it refers to, when it is not embedded.
    pub file: Option<PathBuf>,
    /// What is there; `None` when the entry has no such field.
    pub content: Option<Result<Box<Content>, String>>,
}

impl Material {
    /// The readable certificates.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.content.iter().filter_map(|found| found.as_ref().ok()).flat_map(|content| content.certificates())
    }

    /// The private key, if there is one and it can be read.
    pub fn key(&self) -> Option<&FoundKey> {
        self.content.as_ref()?.as_ref().ok()?.private_key.as_ref()?.as_ref().ok()
    }
}

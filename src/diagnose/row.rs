//! Rows: every certificate of every bundle, file, kubeconfig and server, and every file that should have had one.
//!
//! A row says what was found; the rules add what is wrong with it.

use std::collections::HashMap;
use std::path::Path;

use time::OffsetDateTime;

use super::finding::{Finding, Severity, Status};
use crate::pki::catalog::{Keeper, Kind};
use crate::pki::certificate::Certificate;
use crate::pki::lifetime;
use crate::snapshot::{Artifact, Content, Kubeconfig, NodeSnapshot, Part, Snapshot, Source, State, key_paths};

/// One row.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// The node's position in the snapshot.
    pub node: usize,
    /// The node's name.
    pub node_name: &'a str,
    /// kubeadm's id, else the file's name; with `[1]` behind it for a later member, `#user/NAME` or `#cluster/NAME` for an
    /// entry of a kubeconfig that is not its first client certificate.
    pub name: String,
    /// Absolute path on its node, with the same endings.
    pub path: String,
    /// The file, or server.
    pub artifact: &'a Artifact,
    /// What of it.
    pub member: Member<'a>,
    /// The certificate, if there is one that can be read.
    pub certificate: Option<&'a Certificate>,
    /// Whether it stands among the authorities.
    pub is_authority: bool,
    /// Id of the CA that issues it, where that is known.
    pub ca_name: Option<String>,
    /// Whether the CA's key is kept elsewhere.
    pub externally_managed: bool,
    /// Whether `auto-rotate` renews it.
    pub managed: bool,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

/// Which part of a file a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member<'a> {
    /// The file as a whole: it is missing, or nothing in it can be read.
    Whole,
    /// A certificate, counted from 0.
    Certificate(usize),
    /// What is left of a file with damaged parts.
    Damaged,
    /// A client certificate of a user entry, counted from 0.
    User(&'a str, usize),
    /// A CA certificate of a cluster entry, counted from 0.
    Cluster(&'a str, usize),
    /// A file of keys: no row unless something is wrong with it.
    Keys,
}

impl Row<'_> {
    /// kubeadm's id of the file, if it has one.
    pub fn id(&self) -> Option<&'static str> {
        self.artifact.id()
    }

    /// Its status: the worst that any finding gives it.
    pub fn status(&self) -> Status {
        self.findings.iter().map(|finding| finding.id.status()).max().unwrap_or(Status::Ok)
    }

    /// The severity of its worst finding, if there is one.
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(Finding::severity).max()
    }

    /// The file in which the certificate lies: another one than the row's where a kubeconfig refers to it.
    pub fn file(&self) -> &Path {
        let Member::User(name, _) = self.member else { return &self.artifact.path };
        let kubeconfig = self.artifact.content().and_then(|content| content.kubeconfig.as_ref()?.as_ref().ok());
        let user = kubeconfig.and_then(|kubeconfig| kubeconfig.users.iter().find(|user| user.name == name));
        user.and_then(|user| user.certificate.file.as_deref()).unwrap_or(&self.artifact.path)
    }

    /// Whether its file is not there.
    pub fn is_missing(&self) -> bool {
        self.artifact.is_missing()
    }

    /// How much of its lifetime is used at `at`, in percent.
    pub fn used_percent(&self, at: OffsetDateTime) -> Option<f64> {
        self.certificate
            .map(|certificate| lifetime::used_percent(certificate.not_before(), certificate.not_after(), at))
    }

    /// Whether it is the first certificate of its file, the one that the private key belongs to.
    pub fn is_first(&self) -> bool {
        matches!(self.member, Member::Whole | Member::Certificate(0) | Member::User(_, 0))
    }

    /// Whether `word` is its name, or the name of the file it belongs to, or the file's own name.
    pub fn is_called(&self, word: &str) -> bool {
        let file = self.artifact.path.file_name().and_then(|name| name.to_str());
        self.name == word || self.id() == Some(word) || file == Some(word) || self.path == word
    }
}

/// All rows of a snapshot, in its order, without findings. `unmanaged` are ids that the profile leaves to people.
pub(super) fn rows<'a>(snapshot: &'a Snapshot, unmanaged: &[String]) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for (index, node) in snapshot.nodes.iter().enumerate() {
        let files = node.artifacts.iter().map(|artifact| (artifact.path.as_path(), artifact)).collect();
        let mut list = List { index, node, files, unmanaged, rows: Vec::new() };
        node.artifacts.iter().for_each(|artifact| list.add(artifact));
        rows.append(&mut list.rows);
    }
    rows
}

struct List<'a, 's> {
    index: usize,
    node: &'a NodeSnapshot,
    files: HashMap<&'a Path, &'a Artifact>,
    unmanaged: &'s [String],
    rows: Vec<Row<'a>>,
}

impl<'a> List<'a, '_> {
    fn add(&mut self, artifact: &'a Artifact) {
        match &artifact.state {
            State::Unreadable(_) if is_key_file(artifact) => self.push(artifact, Member::Keys, None),
            State::Missing { .. } | State::Unreadable(_) => self.push(artifact, Member::Whole, None),
            State::Read(content) => match &content.kubeconfig {
                Some(Ok(kubeconfig)) => self.kubeconfig(artifact, kubeconfig),
                Some(Err(_)) => self.push(artifact, Member::Whole, None),
                None => self.file(artifact, content),
            },
        }
    }

    fn file(&mut self, artifact: &'a Artifact, content: &'a Content) {
        for (index, found) in content.found_certificates.iter().enumerate() {
            self.push(artifact, Member::Certificate(index), found.as_ref().ok());
        }
        let holds_none = content.found_certificates.is_empty();
        let expects = |part: Part| !part.is_key && matches!(part.entry.kind, Kind::Authority | Kind::Leaf);
        if holds_none && content.damaged_blocks == 0 && artifact.part.is_some_and(expects) {
            return self.push(artifact, Member::Whole, None);
        }
        let is_key = is_key_file(artifact) && holds_none;
        let has_keys = content.private_key.is_some() || !content.public_keys.is_empty() || !content.requests.is_empty();
        if content.damaged_blocks > 0 && !is_key {
            self.push(artifact, Member::Damaged, None);
        } else if is_key || has_keys && holds_none {
            self.push(artifact, Member::Keys, None);
        }
    }

    fn kubeconfig(&mut self, artifact: &'a Artifact, kubeconfig: &'a Kubeconfig) {
        let before = self.rows.len();
        let current = kubeconfig.current_user().map(|user| user.name.as_str());
        let users = kubeconfig.users.iter();
        let (first, others): (Vec<_>, Vec<_>) = users.partition(|user| Some(user.name.as_str()) == current);
        for user in first.into_iter().chain(others) {
            match &user.certificate.content {
                Some(Ok(content)) => {
                    for (index, found) in content.found_certificates.iter().enumerate() {
                        self.push(artifact, Member::User(&user.name, index), found.as_ref().ok());
                    }
                    if content.found_certificates.is_empty() {
                        self.push(artifact, Member::User(&user.name, 0), None);
                    }
                }
                Some(Err(_)) => self.push(artifact, Member::User(&user.name, 0), None),
                None => {}
            }
        }
        for cluster in &kubeconfig.clusters {
            match &cluster.authority.content {
                Some(Ok(content)) => {
                    for (index, found) in content.found_certificates.iter().enumerate() {
                        self.push(artifact, Member::Cluster(&cluster.name, index), found.as_ref().ok());
                    }
                    if content.found_certificates.is_empty() {
                        self.push(artifact, Member::Cluster(&cluster.name, 0), None);
                    }
                }
                Some(Err(_)) => self.push(artifact, Member::Cluster(&cluster.name, 0), None),
                None => {}
            }
        }
        if self.rows.len() == before {
            self.push(artifact, Member::Keys, None);
        }
    }

    fn push(&mut self, artifact: &'a Artifact, member: Member<'a>, certificate: Option<&'a Certificate>) {
        let (name, path) = self.names(artifact, member);
        let entry = artifact.part.map(|part| part.entry);
        let is_authority = match member {
            Member::Cluster(..) => true,
            Member::User(..) | Member::Keys => false,
            _ => match entry.map(|entry| entry.kind) {
                Some(Kind::Authority) => true,
                // A leaf that claims to be a CA is still what its component shows as its own.
                Some(Kind::Leaf) if matches!(member, Member::Whole | Member::Certificate(0)) => false,
                _ => certificate.is_some_and(Certificate::is_ca),
            },
        };
        let is_cluster = matches!(member, Member::Cluster(..));
        let ca_name = entry.filter(|_| !is_cluster).and_then(|entry| entry.issuer).map(str::to_owned);
        let on_disk = artifact.source != Source::Endpoint && !is_cluster && !artifact.is_missing();
        let externally_managed = on_disk
            && match ca_name.as_deref() {
                _ if is_authority => !self.has_key(artifact),
                Some(ca) => self.node.entry(ca).is_some_and(|file| !file.is_missing() && !self.has_key(file)),
                None => false,
            };
        let managed = !externally_managed
            && !is_cluster
            && matches!(member, Member::Whole | Member::Certificate(0) | Member::User(_, 0))
            && entry.is_some_and(|entry| {
                entry.keeper == Keeper::Kubepki && !self.unmanaged.iter().any(|id| id == entry.id)
            });
        self.rows.push(Row {
            node: self.index,
            node_name: &self.node.name,
            name,
            path,
            artifact,
            member,
            certificate,
            is_authority,
            ca_name,
            externally_managed,
            managed,
            findings: Vec::new(),
        });
    }

    /// Whether a private key lies with the certificate, readable or not.
    fn has_key(&self, artifact: &Artifact) -> bool {
        artifact.content().is_some_and(|content| content.private_key.is_some())
            || key_paths(artifact).iter().any(|path| self.files.contains_key(path.as_path()))
    }

    fn names(&self, artifact: &Artifact, member: Member<'_>) -> (String, String) {
        let path = artifact.path.display().to_string();
        let file = artifact.path.file_name().map_or_else(|| path.clone(), |name| name.to_string_lossy().into_owned());
        let name = match artifact.source {
            Source::Endpoint => match artifact.server {
                Some(server) => format!("{}:{}", server.program(), path.rsplit(':').next().unwrap_or_default()),
                None => path.clone(),
            },
            _ => artifact.id().map_or(file, str::to_owned),
        };
        let numbered = |text: String, index: usize| if index == 0 { text } else { format!("{text}[{index}]") };
        match member {
            Member::Whole | Member::Keys => (name, path),
            Member::Certificate(index) => (numbered(name, index), numbered(path, index)),
            Member::Damaged => {
                let members = artifact.content().map_or(0, |content| content.found_certificates.len());
                (numbered(name, members), numbered(path, members))
            }
            Member::User(user, index) => {
                // The first client certificate is the one that kubeadm lists under the file's name.
                let taken = self.rows.last().is_some_and(|row| {
                    std::ptr::eq(row.artifact, artifact) && !matches!(row.member, Member::User(same, _) if same == user)
                });
                let name = if taken { format!("{name}#user/{user}") } else { name };
                (numbered(name, index), numbered(format!("{path}#user/{user}"), index))
            }
            Member::Cluster(cluster, index) => (
                numbered(format!("{name}#cluster/{cluster}"), index),
                numbered(format!("{path}#cluster/{cluster}"), index),
            ),
        }
    }
}

/// Whether a file is there to hold a key: by its part in the catalog, or by its name.
pub(super) fn is_key_file(artifact: &Artifact) -> bool {
    let by_name = || {
        let name = artifact.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        [".key", "-key.pem", ".pub"].iter().any(|ending| name.ends_with(ending))
    };
    artifact.part.map_or_else(by_name, |part| part.is_key || part.entry.kind == Kind::ServiceAccount)
}

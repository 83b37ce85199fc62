//! What a node has to offer for a credential: its administrator's kubeconfig, its CA, its API server's certificate.
//!
//! Everything is asked for in one go. Private keys are not among it; the CA's is read when something is signed.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use zeroize::Zeroizing;

use crate::apply::existing;
use crate::cli::target::TargetNode;
use crate::error::Failure;
use crate::node::{Found, FoundState, Node, Query};
use crate::pki::certificate::Certificate;
use crate::pki::kubeconfig::{Kubeconfig, Problem, Source};
use crate::pki::layout::Flavour;
use crate::pki::pem_file::PemFile;
use crate::pki::private_key::PrivateKey;

/// A kubeconfig of the node.
pub(super) struct NodeKubeconfig {
    pub(super) path: PathBuf,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

/// Why there is no kubeconfig to use.
pub(super) struct Absent {
    /// The file and what is the matter with it.
    pub(super) reason: String,
    /// Whether it is there, but not for this user.
    pub(super) is_denied: bool,
}

/// What was found on one node.
pub(super) struct Sources<'a> {
    pub(super) node: &'a dyn Node,
    /// The administrator's kubeconfig.
    pub(super) admin: Result<NodeKubeconfig, Absent>,
    /// A kubeconfig that at least knows the API server.
    pub(super) any: Option<NodeKubeconfig>,
    /// The CA that signs clients, and the other members of its file.
    pub(super) authorities: Vec<Certificate>,
    /// The file they come from.
    pub(super) authority_file: PathBuf,
    /// Where the CA's key is or would be.
    pub(super) key_file: PathBuf,
    /// Whether it is there.
    pub(super) has_key: bool,
    /// The API server's certificate.
    pub(super) serving: Option<Certificate>,
    /// The API server's static pod.
    pub(super) manifest: Option<String>,
}

impl<'a> Sources<'a> {
    /// Looks at everything that matters on `target`.
    pub(super) fn read(target: &'a TargetNode) -> anyhow::Result<Self> {
        let layout = &target.layout;
        let pki = &layout.pki_dir;
        let (admins, others, manifest) = match &layout.kubernetes_dir {
            Some(kubernetes) => (
                vec![
                    kubernetes.join("admin.conf"),
                    "/etc/rancher/k3s/k3s.yaml".into(),
                    "/etc/rancher/rke2/rke2.yaml".into(),
                ],
                vec![
                    kubernetes.join("super-admin.conf"),
                    kubernetes.join("kubelet.conf"),
                    layout.kubelet_dir.clone().unwrap_or_default().join("kubeconfig"),
                ],
                kubernetes.join("manifests/kube-apiserver.yaml"),
            ),
            // kubeadm's folder lies beside the kubeconfigs that belong to it.
            None => {
                let beside = pki.parent().unwrap_or(Path::new("/"));
                let names = |name: &str| vec![pki.join(name), beside.join(name)];
                (names("admin.conf"), names("kubelet.conf"), beside.join("manifests/kube-apiserver.yaml"))
            }
        };
        let clients = if matches!(layout.flavour, Flavour::K3s | Flavour::Rke2) { "client-ca" } else { "ca" };
        let authority_file = pki.join(format!("{clients}.crt"));
        let key_file = pki.join(format!("{clients}.key"));
        let mut queries: Vec<Query> = admins.iter().chain(&others).cloned().map(Query::File).collect();
        queries.push(Query::File(manifest));
        queries.push(Query::File(authority_file.clone()));
        queries.push(Query::Metadata(key_file.clone()));
        queries.push(Query::File(pki.join("apiserver.crt")));
        let node = &*target.node;
        let mut found = node.read(&queries)?.into_iter();
        let mut next = || found.next().ok_or_else(|| anyhow!("node {}: an answer is missing", node.name()));
        let mut take = |count: usize| (0..count).map(|_| next()).collect::<anyhow::Result<Vec<Found>>>();
        let admin = first_kubeconfig(take(admins.len())?);
        let any = first_kubeconfig(take(others.len())?).ok();
        let [manifest, authority, key, serving] =
            <[Found; 4]>::try_from(take(4)?).map_err(|_| anyhow!("node {}: answers are missing", node.name()))?;
        let text = |found: Found| match found.state {
            FoundState::File(bytes) => Some(bytes),
            _ => None,
        };
        let has_key = matches!(key.state, FoundState::Unread);
        let authorities = match &authority.state {
            FoundState::File(bytes) => certificates(bytes),
            _ => Vec::new(),
        };
        Ok(Self {
            node,
            admin,
            any,
            authorities,
            authority_file,
            key_file,
            has_key,
            serving: text(serving).and_then(|bytes| certificates(&bytes).into_iter().next()),
            manifest: text(manifest).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        })
    }

    /// The member of the CA file that the CA's key belongs to.
    pub(super) fn authority(&self, key: &PrivateKey) -> anyhow::Result<&Certificate> {
        let shown = self.authority_file.display();
        let name = self.node.name();
        if self.authorities.is_empty() {
            return Err(Failure::failed(format!("{name}: {shown} holds no certificate that can be read"))
                .hint("kubepki check-expiry says what is wrong with it")
                .into());
        }
        self.authorities.iter().find(|authority| authority.certifies(key.public_key())).ok_or_else(|| {
            let key_file = self.key_file.display();
            Failure::failed(format!("{name}: the key {key_file} does not belong to the CA certificate {shown}"))
                .hint("kubepki check-expiry names every pair that does not match; --admin needs no CA key")
                .into()
        })
    }

    /// Reads a file that a kubeconfig of the node refers to.
    pub(super) fn file(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
        existing::content(self.node, path).map_err(|error| format!("{error:#}"))
    }

    /// `NODE: FILE:LINE:COLUMN: …`.
    pub(super) fn problem(&self, kubeconfig: &NodeKubeconfig, problem: &Problem) -> anyhow::Error {
        let place = match problem.line {
            0 => String::new(),
            line => format!("{line}:{}:", problem.column),
        };
        let (node, path) = (self.node.name(), kubeconfig.path.display());
        Failure::failed(format!("{node}: {path}:{place} {}", problem.message))
            .hint("kubepki check-expiry says what else is wrong with it")
            .into()
    }
}

impl NodeKubeconfig {
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The client certificate of its current user, where it can be read.
    pub(super) fn client(&self, sources: &Sources<'_>) -> Option<Certificate> {
        let config = Kubeconfig::parse(&self.bytes, self.folder()).ok()?;
        let user = config.user(&config.names(None).ok()?.user)?;
        match user.client_certificate.source() {
            Source::Embedded(bytes) => certificates(bytes).into_iter().next(),
            Source::File(path) => certificates(&sources.file(path).ok()?).into_iter().next(),
            Source::Absent | Source::Broken(_) => None,
        }
    }
}

/// The readable certificates in `bytes`.
pub(super) fn certificates(bytes: &[u8]) -> Vec<Certificate> {
    PemFile::parse(bytes).certificates().filter_map(|block| Certificate::from_der(&block.der).ok()).collect()
}

fn first_kubeconfig(found: Vec<Found>) -> Result<NodeKubeconfig, Absent> {
    let mut absent: Option<Absent> = None;
    for file in found {
        let shown = file.path.display();
        let (reason, is_denied) = match file.state {
            FoundState::File(bytes) => return Ok(NodeKubeconfig { path: file.path, bytes }),
            FoundState::Unreadable(reason) => (format!("{shown} cannot be read: {reason}"), true),
            FoundState::Directory => (format!("{shown} is a folder"), false),
            FoundState::Missing | FoundState::Unread => (format!("there is no {shown}"), false),
        };
        // The first place is the usual one, but a file that is there says more than one that is not.
        if absent.as_ref().is_none_or(|known| is_denied && !known.is_denied) {
            absent = Some(Absent { reason, is_denied });
        }
    }
    Err(absent.unwrap_or(Absent { reason: "no kubeconfig was looked for".to_owned(), is_denied: false }))
}

//! A credential as kubeconfigs carry it: one cluster, one user, one context; new, or copied from another kubeconfig.
//!
//! As a document of its own it has the layout of the files kubeadm writes, byte for byte.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::emit::{self, Lines};
use super::node::Node;
use super::tree::{self, Document};
use super::{Kubeconfig, Problem};

/// Names of the three entries of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Name of the cluster entry.
    pub cluster: String,
    /// Name of the user entry.
    pub user: String,
    /// Name of the context, which becomes the current one.
    pub context: String,
}

/// One cluster, one user and the context that joins them.
#[derive(Clone)]
pub struct Credential {
    pub(super) names: Names,
    pub(super) cluster: Node,
    pub(super) user: Node,
}

/// How a user proves who they are.
#[derive(Clone, Copy)]
pub enum Authentication<'a> {
    /// A client certificate and its key in the kubeconfig (PEM).
    Embedded {
        /// Certificate, with intermediates if any.
        certificate: &'a [u8],
        /// Private key.
        key: &'a [u8],
    },
    /// A client certificate and its key in files, as the kubelet keeps them.
    Files {
        /// Path of the certificate.
        certificate: &'a str,
        /// Path of the key.
        key: &'a str,
    },
    /// A program that is asked for the credential (`client.authentication.k8s.io/v1`).
    Plugin {
        /// Name or path of the program.
        command: &'a str,
        /// Its arguments.
        args: &'a [String],
        /// What kubectl tells users who do not have it.
        install_hint: &'a str,
    },
}

impl Authentication<'_> {
    fn fields(self) -> Node {
        match self {
            Self::Embedded { certificate: [], key } => Node::map([("client-key-data", encoded(key))]),
            Self::Embedded { certificate, key } => {
                Node::map([("client-certificate-data", encoded(certificate)), ("client-key-data", encoded(key))])
            }
            Self::Files { certificate, key } => {
                Node::map([("client-certificate", Node::string(certificate)), ("client-key", Node::string(key))])
            }
            Self::Plugin { command, args, install_hint } => {
                let exec = Node::map([
                    ("apiVersion", Node::string("client.authentication.k8s.io/v1")),
                    ("args", Node::list(args.iter().map(Node::string).collect())),
                    ("command", Node::string(command)),
                    ("env", Node::plain("null")),
                    ("installHint", Node::string(install_hint)),
                    ("interactiveMode", Node::string("IfAvailable")),
                    ("provideClusterInfo", Node::plain("false")),
                ]);
                Node::map([("exec", exec)])
            }
        }
    }
}

/// Reads a file that a kubeconfig refers to, or says in words why not.
pub type FileReader<'a> = dyn Fn(&Path) -> Result<Zeroizing<Vec<u8>>, String> + 'a;

impl Credential {
    /// A credential for the API server at `server` (a URL) whose certificate is checked against `authorities` (PEM).
    /// What is empty, because it is still to come, gets no field.
    pub fn new(names: Names, server: &str, authorities: &[u8], authentication: Authentication<'_>) -> Self {
        let mut cluster = Node::map([("server", Node::string(server))]);
        if !authorities.is_empty() {
            cluster =
                Node::map([("certificate-authority-data", encoded(authorities)), ("server", Node::string(server))]);
        }
        Self { names, cluster, user: authentication.fields() }
    }

    /// Copies the credential that `context` (the current one when `None`) of another kubeconfig stands for.
    ///
    /// `bytes` is that kubeconfig and `folder` its folder. Files it refers to are read with `file` and embedded, so
    /// that the copy works elsewhere; what cannot be embedded (token files, plugins) is referred to by absolute path.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read by kubectl, has no such context, cluster or user, or `file` fails.
    pub fn copied(bytes: &[u8], folder: &Path, context: Option<&str>, file: &FileReader<'_>) -> Result<Self, Problem> {
        let (document, names) = opened(bytes, folder, context)?;
        let cluster = copied_cluster(&document, &names, folder, file)?;
        let mut user = entry(&document, "users", "user", &names.user)?;
        embed(&mut user, "client-certificate", folder, file)?;
        embed(&mut user, "client-key", folder, file)?;
        absolute(&mut user, "tokenFile", folder);
        if let Some(mut exec) = user.get("exec").cloned() {
            if exec.get("command").and_then(Node::text).is_some_and(|command| command.contains('/')) {
                absolute(&mut exec, "command", folder);
            }
            user.set("exec", exec);
        }
        Ok(Self { names, cluster, user })
    }

    /// The cluster that `context` of another kubeconfig stands for, with a credential of one's own; otherwise as
    /// [`Credential::copied`].
    ///
    /// # Errors
    /// As [`Credential::copied`].
    pub fn for_cluster_of(
        bytes: &[u8],
        folder: &Path,
        context: Option<&str>,
        file: &FileReader<'_>,
        authentication: Authentication<'_>,
    ) -> Result<Self, Problem> {
        let (document, names) = opened(bytes, folder, context)?;
        let cluster = copied_cluster(&document, &names, folder, file)?;
        Ok(Self { names, cluster, user: authentication.fields() })
    }

    /// The names of its entries.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// URL of the API server.
    pub fn server(&self) -> &str {
        self.cluster.get("server").and_then(Node::text).unwrap_or_default()
    }

    /// The same credential with other names.
    #[must_use]
    pub fn named(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// The same credential for the API server at `server` (a URL).
    #[must_use]
    pub fn with_server(mut self, server: &str) -> Self {
        self.cluster.set("server", Node::string(server));
        self
    }

    /// A kubeconfig with this credential and nothing else, laid out as kubeadm does.
    pub fn document(&self) -> Zeroizing<Vec<u8>> {
        let root = self.root(true);
        let mut text = Zeroizing::new(String::with_capacity(emit::size(&root) * 2));
        emit::block(&root, Lines { newline: "\n", indent: 0 }, &mut text);
        text.push('\n');
        Zeroizing::new(std::mem::take(&mut *text).into_bytes())
    }

    pub(super) fn root(&self, set_current: bool) -> Node {
        Node::map([
            ("apiVersion", Node::string("v1")),
            ("clusters", Node::list(vec![self.cluster_entry()])),
            ("contexts", Node::list(vec![self.context_entry()])),
            ("current-context", Node::string(if set_current { &self.names.context } else { "" })),
            ("kind", Node::string("Config")),
            ("users", Node::list(vec![self.user_entry()])),
        ])
    }

    pub(super) fn cluster_entry(&self) -> Node {
        Node::map([("cluster", self.cluster.clone()), ("name", Node::string(&self.names.cluster))])
    }

    pub(super) fn user_entry(&self) -> Node {
        Node::map([("name", Node::string(&self.names.user)), ("user", self.user.clone())])
    }

    pub(super) fn context_entry(&self) -> Node {
        let context =
            Node::map([("cluster", Node::string(&self.names.cluster)), ("user", Node::string(&self.names.user))]);
        Node::map([("context", context), ("name", Node::string(&self.names.context))])
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("names", &self.names).field("server", &self.server()).finish_non_exhaustive()
    }
}

impl Kubeconfig {
    /// The entries that `context` joins; without one the current context, or the only one there is.
    ///
    /// # Errors
    /// When there is no such context.
    pub fn names(&self, context: Option<&str>) -> Result<Names, Problem> {
        let context = match (context.or(self.current_context.as_deref()), self.contexts.as_slice()) {
            (Some(name), _) => self
                .context(name)
                .ok_or_else(|| Problem::whole(format!("there is no context named {name:?} in the kubeconfig")))?,
            (None, [only]) => only,
            (None, _) => return Err(Problem::whole("no current context is set")),
        };
        Ok(Names { cluster: context.cluster.clone(), user: context.user.clone(), context: context.name.clone() })
    }
}

fn opened<'t>(bytes: &'t [u8], folder: &Path, context: Option<&str>) -> Result<(Document<'t>, Names), Problem> {
    let document = tree::parse(bytes)?;
    let found = super::read::kubeconfig(&document, folder)?;
    match found.problems.first() {
        Some(problem) => Err(problem.clone()),
        None => found.names(context).map(|names| (document, names)),
    }
}

fn entry(document: &Document<'_>, list: &str, inner: &str, name: &str) -> Result<Node, Problem> {
    let items = document.root.as_ref().and_then(|root| root.get(list)).and_then(Node::items).unwrap_or_default();
    let item = items.iter().find(|item| item.get("name").and_then(Node::text) == Some(name));
    let entry = item.and_then(|item| item.get(inner)).filter(|entry| entry.entries().is_some());
    entry.cloned().ok_or_else(|| Problem::whole(format!("there is no {inner} named {name:?}")))
}

fn copied_cluster(
    document: &Document<'_>,
    names: &Names,
    folder: &Path,
    file: &FileReader<'_>,
) -> Result<Node, Problem> {
    let mut cluster = entry(document, "clusters", "cluster", &names.cluster)?;
    embed(&mut cluster, "certificate-authority", folder, file)?;
    Ok(cluster)
}

fn encoded(bytes: &[u8]) -> Node {
    Node::string(STANDARD.encode(bytes))
}

/// Exchanges the file that `field` refers to for its content; embedded data has precedence over it, as for kubectl.
fn embed(node: &mut Node, field: &str, folder: &Path, file: &FileReader<'_>) -> Result<(), Problem> {
    let Some((at, path)) = node.get(field).and_then(|at| Some((at.clone(), folder.join(at.text()?)))) else {
        return Ok(());
    };
    let data = format!("{field}-data");
    if node.get(&data).and_then(Node::text).is_none_or(str::is_empty) && !at.text().is_none_or(str::is_empty) {
        let content = file(&path).map_err(|reason| at.problem(format!("{field} {}: {reason}", path.display())))?;
        node.set(&data, encoded(&content));
    }
    node.remove(field);
    Ok(())
}

fn absolute(node: &mut Node, field: &str, folder: &Path) {
    if let Some(path) = node.get(field).and_then(Node::text).filter(|path| !path.is_empty()) {
        let path = folder.join(path).to_string_lossy().into_owned();
        node.set(field, Node::string(path));
    }
}

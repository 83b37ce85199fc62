//! Kubeconfig files: what they say, how their certificates are exchanged, and how a credential is added to one.
//!
//! Reading is kubectl's reading: the first document, YAML 1.1 values, file references relative to the kubeconfig's
//! own folder. It is lenient: a broken field is recorded where it stands, only text that is no kubeconfig at all is
//! an error. Changing is done in the text, so that order, comments and unknown fields stay byte for byte.

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

mod credential;
mod edit;
mod emit;
mod merge;
pub(in crate::pki) mod node;
mod read;
mod replace;
mod scalar;
mod second_opinion;
pub(in crate::pki) mod tree;

pub use credential::{Authentication, Credential, FileReader, Names};
pub use merge::{EntryKind, EntryName, Merged};
pub use replace::{DataField, ReplaceError, Replacement};

/// Larger texts are refused (bytes); five thousand clusters with embedded certificates are about half of it.
pub const LARGEST: usize = 16 * 1024 * 1024;

/// A kubeconfig as found, entries in file order.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    /// `clusters`.
    pub clusters: Vec<Cluster>,
    /// `users`.
    pub users: Vec<User>,
    /// `contexts`.
    pub contexts: Vec<Context>,
    /// `current-context`, when it is set.
    pub current_context: Option<String>,
    /// Whether the file goes on after the first document; kubectl does not read further.
    pub more_documents: bool,
    /// What makes kubectl, or an edit, refuse the file, in file order; those of the entries are included.
    pub problems: Vec<Problem>,
}

/// One entry of `clusters`.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `name`; empty when there is none.
    pub name: String,
    /// URL of the API server.
    pub server: Option<String>,
    /// Name expected in the server's certificate instead of the host in `server`.
    pub tls_server_name: Option<String>,
    /// Whether the server's certificate is not checked at all.
    pub insecure_skip_tls_verify: bool,
    /// CA certificates (PEM) the server is checked against.
    pub certificate_authority: Material,
    /// What is wrong with this entry.
    pub problems: Vec<Problem>,
}

/// One entry of `users`. Holds keys and tokens, never passwords.
#[derive(Debug, Clone)]
pub struct User {
    /// `name`; empty when there is none.
    pub name: String,
    /// Client certificate (PEM).
    pub client_certificate: Material,
    /// Its private key (PEM).
    pub client_key: Material,
    /// The token that stands in the file.
    pub token: Option<Token>,
    /// File with a token, resolved.
    pub token_file: Option<PathBuf>,
    /// Whether user name and password stand in the file.
    pub has_password: bool,
    /// Program that supplies the credential.
    pub exec: Option<Exec>,
    /// What is wrong with this entry.
    pub problems: Vec<Problem>,
}

/// A bearer token, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// A token that is not empty and that a header line can carry.
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The token as it is sent.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// One entry of `contexts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// `name`; empty when there is none.
    pub name: String,
    /// The cluster entry it names.
    pub cluster: String,
    /// The user entry it names.
    pub user: String,
    /// Namespace used when none is given.
    pub namespace: Option<String>,
    /// What is wrong with this entry.
    pub problems: Vec<Problem>,
}

/// The program of an exec credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Name or path; one with a slash is relative to the kubeconfig's folder.
    pub command: String,
    /// `client.authentication.k8s.io/v1` or an older one.
    pub api_version: String,
}

/// A certificate or key field in its two forms: `…-data` in the file, or the path of another file.
#[derive(Clone, Default)]
pub struct Material {
    /// The decoded `…-data`, or what is wrong with it.
    pub embedded: Option<Result<Zeroizing<Vec<u8>>, Problem>>,
    /// The file, resolved against the kubeconfig's folder. kubectl ignores it when there is embedded data.
    pub file: Option<PathBuf>,
}

/// Where a [`Material`] is to be found.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// Nowhere.
    Absent,
    /// In the kubeconfig.
    Embedded(&'a [u8]),
    /// In this file.
    File(&'a Path),
    /// In the kubeconfig, but not decodable.
    Broken(&'a Problem),
}

impl Material {
    /// Where kubectl takes it from.
    pub fn source(&self) -> Source<'_> {
        match (&self.embedded, &self.file) {
            (Some(Ok(bytes)), _) => Source::Embedded(bytes),
            (Some(Err(problem)), _) => Source::Broken(problem),
            (None, Some(path)) => Source::File(path),
            (None, None) => Source::Absent,
        }
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source() {
            Source::Embedded(bytes) => write!(f, "Embedded({} bytes)", bytes.len()),
            Source::File(path) => write!(f, "File({})", path.display()),
            Source::Broken(problem) => write!(f, "Broken({problem})"),
            Source::Absent => f.write_str("Absent"),
        }
    }
}

/// What is wrong with a kubeconfig, and where. Quotes names, never a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong; lower case, no full stop.
    pub message: String,
    /// Line, counted from 1; 0 when it concerns the file as a whole.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
}

impl Problem {
    fn whole(message: impl Into<String>) -> Self {
        Self { message: message.into(), line: 0, column: 0 }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return f.write_str(&self.message);
        }
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for Problem {}

impl Kubeconfig {
    /// Reads the first document of `bytes`; `folder` is the folder of the file, for the file references in it.
    ///
    /// # Errors
    /// When it is not YAML in UTF-8 with a mapping at its top, is larger than [`LARGEST`], or uses anchors or aliases.
    /// An empty text is an empty kubeconfig.
    pub fn parse(bytes: &[u8], folder: &Path) -> Result<Self, Problem> {
        read::kubeconfig(&tree::parse(bytes)?, folder)
    }

    /// The cluster entry `name`.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }

    /// The user entry `name`.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The context entry `name`.
    pub fn context(&self, name: &str) -> Option<&Context> {
        self.contexts.iter().find(|context| context.name == name)
    }
}

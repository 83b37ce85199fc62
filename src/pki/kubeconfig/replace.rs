//! New certificates and keys in the place of embedded ones; every other byte of the kubeconfig stays.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::edit::{Edit, Step};
use super::node::Node;
use super::tree;
use super::{Kubeconfig, Problem, read};

/// Which of the three `…-data` fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataField {
    /// `certificate-authority-data` of a cluster.
    CertificateAuthority,
    /// `client-certificate-data` of a user.
    ClientCertificate,
    /// `client-key-data` of a user.
    ClientKey,
}

impl DataField {
    /// The name of the field that refers to a file; the other form has `-data` after it.
    pub const fn file_field(self) -> &'static str {
        match self {
            Self::CertificateAuthority => "certificate-authority",
            Self::ClientCertificate => "client-certificate",
            Self::ClientKey => "client-key",
        }
    }

    const fn lists(self) -> (&'static str, &'static str) {
        match self {
            Self::CertificateAuthority => ("clusters", "cluster"),
            Self::ClientCertificate | Self::ClientKey => ("users", "user"),
        }
    }
}

/// One field to be replaced.
#[derive(Clone, Copy)]
pub struct Replacement<'a> {
    /// Which field.
    pub field: DataField,
    /// Name of the cluster or user entry.
    pub entry: &'a str,
    /// What it holds from now on (PEM).
    pub pem: &'a [u8],
}

/// Why nothing was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplaceError {
    /// The field refers to a file: that file has to be replaced, the kubeconfig stays as it is.
    FileReference {
        /// Which field.
        field: DataField,
        /// Name of the cluster or user entry.
        entry: String,
        /// The file as written, relative to the kubeconfig's folder.
        path: String,
    },
    /// The kubeconfig cannot be changed.
    Problem(Problem),
}

impl fmt::Display for ReplaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileReference { field, entry, path } => {
                write!(f, "{} of {entry:?} refers to the file {path}", field.file_field())
            }
            Self::Problem(problem) => problem.fmt(f),
        }
    }
}

impl std::error::Error for ReplaceError {}

impl From<Problem> for ReplaceError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl Kubeconfig {
    /// The text `bytes` with the data of the named entries replaced and nothing else changed.
    ///
    /// An entry that has neither data nor a file reference gets the field.
    ///
    /// # Errors
    /// When a named entry does not exist or refers to a file, or kubectl would refuse the text. The result is read back
    /// by two parsers and compared; a layout that cannot be changed in place is an error, not a rewritten file.
    pub fn replace_data(bytes: &[u8], replacements: &[Replacement<'_>]) -> Result<Zeroizing<Vec<u8>>, ReplaceError> {
        let document = tree::parse(bytes)?;
        read::acceptable(&document)?;
        let mut edit = Edit::new(document)?;
        let mut changed: BTreeMap<(&str, usize), Node> = BTreeMap::new();
        for replacement in replacements {
            let (list, inner) = replacement.field.lists();
            let missing = || Problem::whole(format!("there is no {inner} named {:?}", replacement.entry));
            let items = edit.root().get(list).and_then(Node::items).unwrap_or_default();
            let named = |item: &Node| item.get("name").and_then(Node::text) == Some(replacement.entry);
            let index = items.iter().position(named).ok_or_else(missing)?;
            let entry = changed.entry((list, index)).or_insert_with(|| items[index].clone());
            let mut fields = match entry.get(inner) {
                Some(fields) if !fields.is_null() => fields.clone(),
                _ => Node::map::<String>([]),
            };
            let data = format!("{}-data", replacement.field.file_field());
            let filled = |field: &str| fields.get(field).and_then(Node::text).filter(|text| !text.is_empty());
            if let (None, Some(path)) = (filled(&data), filled(replacement.field.file_field())) {
                return Err(ReplaceError::FileReference {
                    field: replacement.field,
                    entry: replacement.entry.to_owned(),
                    path: path.to_owned(),
                });
            }
            fields.set(&data, Node::string(STANDARD.encode(replacement.pem)));
            entry.set(inner, fields);
        }
        for ((list, index), wanted) in &changed {
            edit.update(&[Step::Key(list), Step::Item(*index)], wanted)?;
        }
        Ok(edit.finish()?)
    }
}

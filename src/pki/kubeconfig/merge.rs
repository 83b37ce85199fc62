//! A credential added to an existing kubeconfig.
//!
//! Clusters, users and contexts are matched by name. What is there already stays byte for byte, with its order and its
//! comments; a new entry goes to the end of its list, a replaced one keeps its place. An entry that differs is a
//! conflict: it is replaced in the text, and the caller decides whether that text may be written.

use std::fmt;

use zeroize::Zeroizing;

use super::edit::{self, Edit, Step};
use super::emit::{self, Lines, Text};
use super::node::Node;
use super::tree::{self, Document};
use super::{Credential, Problem, read};

/// The three kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// `clusters`.
    Cluster,
    /// `users`.
    User,
    /// `contexts`.
    Context,
}

impl EntryKind {
    const fn list(self) -> &'static str {
        match self {
            Self::Cluster => "clusters",
            Self::User => "users",
            Self::Context => "contexts",
        }
    }

    const fn inner(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::User => "user",
            Self::Context => "context",
        }
    }
}

/// One entry by kind and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName {
    /// Which list it stands in.
    pub kind: EntryKind,
    /// Its `name`.
    pub name: String,
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind.inner(), self.name)
    }
}

/// What becomes of a kubeconfig when a credential is added.
pub struct Merged {
    /// The whole new text; the old one when nothing changes.
    pub text: Zeroizing<Vec<u8>>,
    /// Entries that were there with another content and are replaced in `text`.
    pub replaced: Vec<EntryName>,
    /// Entries that were not there.
    pub added: Vec<EntryName>,
    /// Whether `text` differs from what was there.
    pub changed: bool,
}

impl fmt::Debug for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merged")
            .field("replaced", &self.replaced)
            .field("added", &self.added)
            .field("changed", &self.changed)
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// Adds this credential to the kubeconfig `existing`, and makes its context the current one if `set_current`.
    ///
    /// An empty text, `{}` and null lists are fine. The result is read back by two parsers and compared.
    ///
    /// # Errors
    /// When kubectl would refuse `existing` (broken YAML, repeated names, a value of the wrong kind), or it is laid out
    /// in a way that cannot be changed without writing it anew.
    pub fn merge_into(&self, existing: &[u8], set_current: bool) -> Result<Merged, Problem> {
        let document = tree::parse(existing)?;
        read::acceptable(&document)?;
        if document.root.as_ref().is_none_or(is_empty) {
            return self.fill(&document, set_current);
        }
        let mut edit = Edit::new(document)?;
        let mut merged = Merged { text: Zeroizing::default(), replaced: Vec::new(), added: Vec::new(), changed: false };
        for (kind, name, entry) in [
            (EntryKind::Cluster, &self.names.cluster, self.cluster_entry()),
            (EntryKind::User, &self.names.user, self.user_entry()),
            (EntryKind::Context, &self.names.context, self.context_entry()),
        ] {
            let items = edit.root().get(kind.list()).and_then(Node::items).unwrap_or_default();
            let found = items.iter().enumerate().find(|(_, item)| item.get("name").and_then(Node::text) == Some(name));
            let label = EntryName { kind, name: name.clone() };
            match found {
                None => {
                    edit.append(kind.list(), &entry)?;
                    merged.added.push(label);
                }
                Some((index, old)) => {
                    if let Some(wanted) = replacement(kind, old, &entry) {
                        edit.update(&[Step::Key(kind.list()), Step::Item(index)], &wanted)?;
                        merged.replaced.push(label);
                    }
                }
            }
        }
        if set_current {
            edit.set_top("current-context", &Node::string(&self.names.context))?;
        }
        merged.text = edit.finish()?;
        merged.changed = *merged.text != existing;
        Ok(merged)
    }

    /// Writes the credential below whatever comments an empty kubeconfig consists of.
    fn fill(&self, document: &Document<'_>, set_current: bool) -> Result<Merged, Problem> {
        if document.more {
            return Err(Problem::whole("the first document of the file is empty and others follow"));
        }
        let old = document.root.as_ref().map_or(0..0, |root| root.span.clone());
        let newline = edit::newline(document.text);
        let root = self.root(set_current);
        let mut text = Text::from(String::with_capacity(document.text.len() + emit::size(&root) * 2));
        text.push_str(&document.text[..old.start]);
        text.push_str(&document.text[old.end..]);
        if text.trim_matches(['\u{feff}', ' ', '\t', '\r', '\n']).is_empty() {
            let mark = text.trim_end().len();
            text.truncate(mark);
        } else if !text.ends_with('\n') {
            text.push_str(newline);
        }
        emit::block(&root, Lines { newline, indent: 0 }, &mut text);
        text.push_str(newline);
        edit::verify(text.as_bytes(), &root)?;
        let entry = |kind, name: &String| EntryName { kind, name: name.clone() };
        Ok(Merged {
            text: Zeroizing::new(std::mem::take(&mut *text).into_bytes()),
            replaced: Vec::new(),
            added: vec![
                entry(EntryKind::Cluster, &self.names.cluster),
                entry(EntryKind::User, &self.names.user),
                entry(EntryKind::Context, &self.names.context),
            ],
            changed: true,
        })
    }
}

fn is_empty(root: &Node) -> bool {
    root.is_null() || root.entries().is_some_and(<[_]>::is_empty)
}

/// The entry that takes the place of `old`, nothing when `old` already says what `new` says.
fn replacement(kind: EntryKind, old: &Node, new: &Node) -> Option<Node> {
    let nothing = Node::map::<String>([]);
    let (was, is) = (old.get(kind.inner()).unwrap_or(&nothing), new.get(kind.inner()).unwrap_or(&nothing));
    let speaks_of: &[&str] = match kind {
        EntryKind::Cluster => &[
            "server",
            "certificate-authority",
            "certificate-authority-data",
            "tls-server-name",
            "insecure-skip-tls-verify",
        ],
        EntryKind::Context => &["cluster", "user"],
        // Fields of two credentials must never mix: a token left behind would win over the certificate.
        EntryKind::User => {
            return (!was.equivalent(is)).then(|| {
                let mut entry = old.clone();
                entry.set(kind.inner(), is.clone());
                entry
            });
        }
    };
    let equal = |field: &&str| match (was.get(field), is.get(field)) {
        (Some(one), Some(two)) => one.equivalent(two),
        (one, two) => one.is_none_or(Node::is_null) && two.is_none_or(Node::is_null),
    };
    if speaks_of.iter().all(equal) {
        return None;
    }
    let mut wanted = is.clone();
    // The same server is the same cluster, only its CA is new: a proxy or an extension set by the user still holds.
    if kind == EntryKind::Cluster && equal(&"server") {
        for (key, value) in was.entries().unwrap_or_default() {
            if let Some(key) = key.text().filter(|key| wanted.get(key).is_none() && !speaks_of.contains(key)) {
                wanted.set(key, value.clone());
            }
        }
    }
    let mut entry = old.clone();
    entry.set(kind.inner(), wanted);
    Some(entry)
}

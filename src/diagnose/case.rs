//! What every rule gets: the rows, who issued each, and quick ways to find files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Policy;
use super::finding::{Finding, FindingId, Severity};
use super::issuers::{self, Issuance};
use super::row::{self, Member, Row};
use crate::pki::catalog::Kind;
use crate::pki::private_key::KeyError;
use crate::snapshot::{Artifact, FoundKey, NodeSnapshot, Snapshot, key_paths};

/// One run of the rules.
pub(super) struct Case<'a, 'p> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) policy: &'p Policy,
    pub(super) rows: Vec<Row<'a>>,
    /// Who issued each row's certificate; as long as `rows`.
    pub(super) issuances: Vec<Issuance>,
    files: HashMap<(usize, &'a Path), &'a Artifact>,
}

/// The private key of a certificate as a rule sees it.
pub(super) enum KeyOf<'a> {
    /// It lies there and can be read.
    Found(&'a FoundKey, &'a Artifact),
    /// It lies there and cannot be read.
    Unreadable(String, &'a Artifact),
    /// It is encrypted.
    Encrypted(&'a Artifact),
    /// There is none.
    Absent,
}

impl<'a, 'p> Case<'a, 'p> {
    pub(super) fn new(snapshot: &'a Snapshot, policy: &'p Policy) -> Self {
        let rows = row::rows(snapshot, &policy.unmanaged);
        let issuances = issuers::find(&rows, snapshot);
        let files = snapshot.nodes.iter().enumerate().flat_map(|(index, node)| {
            node.artifacts.iter().map(move |artifact| ((index, artifact.path.as_path()), artifact))
        });
        Self { snapshot, policy, files: files.collect(), issuances, rows }
    }

    /// Adds a finding to a row.
    pub(super) fn add(&mut self, row: usize, id: FindingId, message: impl Into<String>, remedy: impl Into<String>) {
        let finding = Finding { id, message: message.into(), remedy: remedy.into() };
        if !self.rows[row].findings.contains(&finding) {
            self.rows[row].findings.push(finding);
        }
    }

    /// The node of a row.
    pub(super) fn node(&self, row: usize) -> &'a NodeSnapshot {
        &self.snapshot.nodes[self.rows[row].node]
    }

    /// The file at `path` on the node of `row`.
    pub(super) fn file(&self, row: usize, path: &Path) -> Option<&'a Artifact> {
        self.files.get(&(self.rows[row].node, path)).copied()
    }

    /// The private key that belongs to the certificate file of `row`.
    pub(super) fn key_of(&self, row: usize) -> KeyOf<'a> {
        let own = self.rows[row].artifact;
        let others = key_paths(own);
        let beside = others.iter().filter_map(|path| self.file(row, path));
        for artifact in std::iter::once(own).chain(beside) {
            match &artifact.state {
                crate::snapshot::State::Read(content) => match &content.private_key {
                    Some(Ok(key)) => return KeyOf::Found(key, artifact),
                    Some(Err(KeyError::Encrypted)) => return KeyOf::Encrypted(artifact),
                    Some(Err(error)) => return KeyOf::Unreadable(error.to_string(), artifact),
                    None if !std::ptr::eq(artifact, own) => {
                        return KeyOf::Unreadable("there is no whole private key in it".to_owned(), artifact);
                    }
                    None => {}
                },
                crate::snapshot::State::Unreadable(reason) if !std::ptr::eq(artifact, own) => {
                    return KeyOf::Unreadable(reason.clone(), artifact);
                }
                _ => {}
            }
        }
        KeyOf::Absent
    }

    /// Whether the certificate that belongs to the key file of `row` has a row of its own, present or missing.
    pub(super) fn has_certificate(&self, row: usize) -> bool {
        let artifact = self.rows[row].artifact;
        if let Some(part) = artifact.part {
            return part.is_key
                && part.entry.kind != Kind::ServiceAccount
                && self.node(row).entry(part.entry.id).is_some();
        }
        let stem = artifact.path.with_extension("");
        let stem = stem.to_string_lossy();
        let stem = stem.strip_suffix("-key").unwrap_or(&stem);
        let beside = ["crt", "pem", "cer", "cert"].map(|ending| PathBuf::from(format!("{stem}.{ending}")));
        beside.iter().any(|path| *path != artifact.path && self.file(row, path).is_some())
    }

    /// `kubepki VERB …` with the options that name the target, for remedies.
    pub(super) fn command(&self, words: &str) -> String {
        format!("kubepki {words}{}", self.policy.target)
    }

    /// The command that makes a row's certificate anew, or what to do where kubepki does not.
    pub(super) fn renew(&self, row: usize) -> String {
        let row = &self.rows[row];
        if let Some(server) = row.artifact.server {
            return format!("restart {} on node {}", server.program(), row.node_name);
        }
        match row.id() {
            Some(id) if row.is_authority && row.is_first() => self.command(&format!("rotate-certs --only {id}")),
            Some(id) if row.managed => self.command(&format!("rotate-certs --only {id}")),
            Some(_) if row.artifact.source == crate::snapshot::Source::Kubelet => {
                self.command("repair-certs --fix-kubelet-credentials")
            }
            Some("kubelet.conf") => self.command("repair-certs --fix-kubelet-credentials"),
            Some(_) if row.externally_managed => self.command("create-certs --csr-only"),
            _ if matches!(row.member, Member::User(..)) => "kubepki get-credentials --overwrite-existing".to_owned(),
            _ => "ask whoever issues it for a new one".to_owned(),
        }
    }

    /// The rows in the end. A row of keys stays only when something is wrong with them.
    pub(super) fn finish(self) -> Vec<Row<'a>> {
        let is_wanted = |row: usize| {
            self.rows[row].member != Member::Keys
                || self.rows[row].severity() > Some(Severity::Notice)
                || self.policy.with_keys && !self.has_certificate(row)
        };
        let wanted: Vec<bool> = (0..self.rows.len()).map(is_wanted).collect();
        self.rows.into_iter().zip(wanted).filter_map(|(row, wanted)| wanted.then_some(row)).collect()
    }
}

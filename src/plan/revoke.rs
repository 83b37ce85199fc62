//! Revocation: what is known and which of it is revoked, to a ledger on every control-plane node and to what each component
//! needs to refuse it.
//!
//! One file for each component, and each answers the same question: [`Case`] to [`Part`]. Everything follows from the whole
//! ledger and not from what is new in it, so that a run puts right what an earlier one could not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::blueprint::{Blueprint, FileContent, KeyPlan, NodeBlueprint, PlannedFile};
use super::operation::FileAction;
use super::restart::Manifest;
use crate::error::Failure;
use crate::pki::layout::{LEDGER, REGISTER};
use crate::pki::register::Issued;
use crate::pki::revocation::{Revocation, manifest};
use crate::snapshot::Snapshot;

pub mod api_server;
pub mod etcd;
pub mod etcd_rotation;
pub mod issuance;
pub mod known;
pub mod kubelet_serving;
pub mod ledger;
pub mod lockout;
pub mod result;

use known::Known;
use result::ComponentState;

/// The command's name in plans, journals and results.
pub const COMMAND: &str = "revoke";

/// A control-plane node.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Its name.
    pub node: String,
    /// Where its certificates are.
    pub pki_dir: PathBuf,
    /// Where its kubeconfigs and manifests are; `None` for a bare folder.
    pub kubernetes_dir: Option<PathBuf>,
}

/// A file of a component as it is now.
#[derive(Debug, Clone)]
pub struct Existing {
    /// Its content.
    pub bytes: Vec<u8>,
    /// SHA-256 of it, lower-case hex.
    pub sha256: String,
}

/// Everything a component's plan follows from.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What lies on the nodes, with the ledgers as they are now.
    pub snapshot: &'a Snapshot,
    /// The control-plane nodes.
    pub seats: &'a [Seat],
    /// The ledger as it will be.
    pub ledger: &'a [Revocation],
    /// Names of the revocations that this run is about; may be empty.
    pub names: &'a [String],
    /// Every certificate that is known, judged by that ledger.
    pub known: &'a [Known],
    /// What is to be written down in the registers; only what is not there yet is added.
    pub told: &'a [Issued],
    /// The manifests of the static pods.
    pub manifests: &'a [Manifest],
    /// The files that [`reads`] asked for, as far as they are there, by node and path.
    pub files: &'a BTreeMap<(String, PathBuf), Existing>,
    /// Whether components run that can be asked, and restarted.
    pub is_live: bool,
    /// Whether the components are to be set up for it (`--prepare`).
    pub prepare: bool,
    /// The moment of the run, UTC.
    pub now: OffsetDateTime,
}

/// What one component takes.
#[derive(Debug, Default)]
pub struct Part {
    /// Keys that sign something.
    pub keys: Vec<KeyPlan>,
    /// Files that change, by node.
    pub files: Vec<(String, PlannedFile)>,
    /// Whether it refuses what is revoked, once they have.
    pub states: Vec<ComponentState>,
    /// What the operator should know before saying yes.
    pub warnings: Vec<String>,
    /// What people must do afterwards.
    pub next_steps: Vec<String>,
}

/// The plan, and what it will come to.
#[derive(Debug)]
pub struct Plan {
    /// The files.
    pub blueprint: Blueprint,
    /// What each component will do; `since` is still to be filled in.
    pub states: Vec<ComponentState>,
}

impl<'a> Case<'a> {
    /// The certificates that the ledger revokes and that have not ended.
    pub fn revoked(&self) -> impl Iterator<Item = &'a Known> {
        let now = self.now;
        self.known.iter().filter(move |known| known.is_revoked() && known.is_alive(now))
    }

    /// Those of them that the revocations of this run mean.
    pub fn hit(&self) -> impl Iterator<Item = &'a Known> {
        let names = self.names;
        self.revoked().filter(move |known| known.by.iter().any(|(name, _)| names.contains(name)))
    }

    /// The manifest of a component on a node.
    pub fn manifest(&self, node: &str, component: &str) -> Option<&'a Manifest> {
        self.manifests.iter().find(|one| one.node == node && one.component == component)
    }

    /// What is at `path` on a node, if [`reads`] asks for it.
    pub fn existing(&self, node: &str, path: &Path) -> Option<&'a Existing> {
        self.files.get(&(node.to_owned(), path.to_owned()))
    }

    /// A file with these bytes; `None` when it holds them already.
    pub fn file(&self, node: &str, path: PathBuf, bytes: Vec<u8>, mode: u32) -> Option<PlannedFile> {
        let existing = self.existing(node, &path);
        let is_same = existing.is_some_and(|existing| existing.bytes == bytes);
        (!is_same).then(|| planned(path, FileContent::Bytes(bytes), mode, existing.map(|file| file.sha256.clone())))
    }
}

/// A file that gets a content. `seen` is the SHA-256 of what is there.
pub fn planned(path: PathBuf, content: FileContent, mode: u32, seen: Option<String>) -> PlannedFile {
    PlannedFile {
        name: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        path,
        step: 0,
        action: if seen.is_some() { FileAction::Replaced } else { FileAction::Created },
        content: Some(content),
        mode,
        seen,
        old_serial_number: None,
        not_after: None,
    }
}

/// The files of a node that the components' plans have to see.
pub fn reads(seat: &Seat) -> Vec<PathBuf> {
    let mut paths = api_server::reads(seat);
    paths.extend(etcd::reads(seat));
    paths
}

/// Plans everything.
///
/// # Errors
/// When a value cannot be written, or a component's files cannot be made; nothing has changed then.
pub fn plan(case: &Case<'_>) -> Result<Plan, Failure> {
    let mut parts = vec![records(case)?];
    for plan in [api_server::plan, etcd::plan, kubelet_serving::plan, issuance::plan] {
        parts.push(plan(case)?);
    }
    let mut blueprint = Blueprint { command: COMMAND.to_owned(), ..Blueprint::default() };
    let mut states = Vec::new();
    let mut files = Vec::new();
    for part in parts {
        for key in part.keys {
            if !blueprint.keys.iter().any(|known| known.id == key.id) {
                blueprint.keys.push(key);
            }
        }
        files.extend(part.files);
        states.extend(part.states);
        blueprint.warnings.extend(part.warnings);
        blueprint.next_steps.extend(part.next_steps);
    }
    for seat in case.seats {
        let own = files.extract_if(.., |(node, _)| *node == seat.node).map(|(_, file)| file).collect();
        blueprint.nodes.push(NodeBlueprint {
            node: seat.node.clone(),
            files: own,
            restarts: Vec::new(),
            steps: Vec::new(),
        });
    }
    Ok(Plan { blueprint, states })
}

/// The register first: what is enforced by it must not be forgotten. Then the ledger.
fn records(case: &Case<'_>) -> Result<Part, Failure> {
    let mut part = Part::default();
    let text = manifest::write(case.ledger).map_err(Failure::failed)?;
    for seat in case.seats {
        let Some(found) = case.snapshot.node(&seat.node) else { continue };
        let records = &found.records;
        let register = records.register.with(case.told).map_err(|error| Failure::failed(error.to_string()))?;
        if let Some(register) = register {
            let seen = records.register_sha256.clone();
            let path = records.folder.join(REGISTER);
            part.files.push((seat.node.clone(), planned(path, FileContent::Bytes(register), 0o600, seen)));
        }
        if let Some(fault) = &records.register.fault {
            part.warnings.push(format!("node {}: {}: {fault}", seat.node, records.register_path().display()));
        }
        let path = records.folder.join(LEDGER);
        let seen = records.ledger.sha256.clone();
        if text.is_empty() {
            if seen.is_some() {
                let content = FileContent::Bytes(Vec::new());
                let removed =
                    PlannedFile { action: FileAction::Removed, content: None, ..planned(path, content, 0o600, seen) };
                part.files.push((seat.node.clone(), removed));
            }
        } else if records.ledger.revocations != case.ledger {
            let content = FileContent::Bytes(text.clone().into_bytes());
            part.files.push((seat.node.clone(), planned(path, content, 0o600, seen)));
        }
    }
    Ok(part)
}

//! A repair that grows: keys, certificates and files, each once, in the order in which they are written.

use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::authorities::Signer;
use super::{COMMAND, Design, Fault, Request, restarts, revoked};
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::certificate::Certificate;
use crate::pki::hex;
use crate::pki::lifetime::{self, Lifetime};
use crate::plan::blueprint::{
    Basis, Blueprint, CertificatePlan, FileContent, KeyPlan, KeySource, NodeBlueprint, PlannedFile,
};
use crate::plan::operation::FileAction;
use crate::snapshot::{Artifact, NodeSnapshot, Snapshot, State};

/// Mode of files that hold a key, and of `sa.pub`.
pub(super) const SECRET: u32 = 0o600;

/// Mode of certificates.
pub(super) const PUBLIC: u32 = 0o644;

/// The shortest life of what is made here: a cluster that was just repaired must not fall ill the same hour.
pub(super) const SHORTEST: Lifetime = Lifetime::days(1);

/// How long certificates live when nothing tells: kubeadm's default.
pub(super) const USUAL: Lifetime = Lifetime::days(365);

/// What is written together, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Tokens,
    Authorities,
    Leaves,
    Kubeconfigs,
    Kubelets,
    Dress,
}

/// A repair that grows.
pub(super) struct Builder<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) request: &'a Request<'a>,
    pub(super) blueprint: Blueprint,
    /// By node, and in the order of their stages.
    files: Vec<(usize, Stage, PlannedFile)>,
    /// Components to be started anew, by node.
    pub(super) servers: Vec<(usize, String)>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, request: &'a Request<'a>) -> Self {
        let blueprint = Blueprint { command: COMMAND.to_owned(), ..Blueprint::default() };
        Self { snapshot, request, blueprint, files: Vec::new(), servers: Vec::new() }
    }

    /// A node of the snapshot.
    pub(super) fn node(&self, node: usize) -> &'a NodeSnapshot {
        &self.snapshot.nodes[node]
    }

    /// What a node should have.
    pub(super) fn design(&self, node: usize) -> Option<&'a Design> {
        self.request.designs.iter().find(|design| design.node == self.node(node).name)
    }

    /// What is at a path.
    pub(super) fn found(&self, node: usize, path: &Path) -> Option<&'a Artifact> {
        self.node(node).at(path).filter(|artifact| !artifact.is_missing())
    }

    /// Whether the node may be changed.
    pub(super) fn is_chosen(&self, node: usize) -> bool {
        self.request.chosen.contains(&self.node(node).name)
    }

    /// A key, once.
    pub(super) fn key(&mut self, id: &str, source: KeySource) {
        if !self.blueprint.keys.iter().any(|known| known.id == id) {
            self.blueprint.keys.push(KeyPlan { id: id.to_owned(), source });
        }
    }

    /// A new key.
    pub(super) fn new_key(&mut self, id: &str, algorithm: KeyAlgorithm) {
        self.key(id, KeySource::New(algorithm));
    }

    /// A certificate for the key of the same id; `old` tells how long it lives, else `usual`. Returns when it ends.
    pub(super) fn certificate(
        &mut self,
        id: &str,
        basis: Basis,
        (old, usual): (Option<&Certificate>, Lifetime),
        signer: Signer,
    ) -> OffsetDateTime {
        let now = self.request.now;
        let (from, to) = signer.period;
        // What ended with its authority says nothing about the length that was wanted.
        let old = old.filter(|old| old.not_after() != to);
        let (mut not_before, mut not_after) = match old {
            Some(old) => lifetime::same_period(now, old.not_before(), old.not_after()),
            None => lifetime::period(now, usual),
        };
        not_after = not_after.max(now.saturating_add(SHORTEST.duration()));
        not_before = not_before.max(from);
        not_before = revoked::earliest(self.snapshot, now).map_or(not_before, |earliest| not_before.max(earliest));
        if not_after > to {
            not_after = to;
            let warning = format!("`{id}` ends early, on {}, with its authority; rotate that soon", to.date());
            self.blueprint.warnings.push(warning);
        }
        let (id, key) = (id.to_owned(), id.to_owned());
        self.blueprint.certificates.push(CertificatePlan {
            id,
            key,
            basis,
            issuer: signer.plan,
            not_before,
            not_after,
        });
        not_after
    }

    /// Plans a content for a path, or says why it cannot be put there. `mode` is that of a new file.
    pub(super) fn write(
        &mut self,
        node: usize,
        stage: Stage,
        (path, name): (&Path, &str),
        (content, mode): (FileContent, u32),
        not_after: Option<OffsetDateTime>,
    ) -> Result<(), String> {
        let seen = self.seen(node, path)?;
        let old = self.found(node, path).and_then(leading).map(|old| old.serial().to_string());
        let action = if seen.is_some() { FileAction::Replaced } else { FileAction::Created };
        let file = PlannedFile {
            path: path.to_owned(),
            step: 0,
            name: name.to_owned(),
            action,
            content: Some(content),
            mode,
            seen,
            old_serial_number: old,
            not_after,
        };
        self.put(node, stage, file);
        Ok(())
    }

    /// Plans that a file, or a link, goes.
    pub(super) fn remove(&mut self, node: usize, stage: Stage, path: &Path, name: &str) -> Result<(), String> {
        let Some(found) = self.found(node, path) else { return Ok(()) };
        let seen = match &found.link {
            // Of a link only the link goes, wherever it leads.
            Some(_) => None,
            None => self.seen(node, path)?,
        };
        let content = found.link.clone().map(|was| FileContent::Link { target: PathBuf::new(), was: Some(was) });
        let file = PlannedFile {
            path: path.to_owned(),
            step: 0,
            name: name.to_owned(),
            action: FileAction::Removed,
            content,
            mode: SECRET,
            seen,
            old_serial_number: leading(found).map(|old| old.serial().to_string()),
            not_after: None,
        };
        self.put(node, stage, file);
        Ok(())
    }

    /// Plans a file as it is given.
    pub(super) fn put(&mut self, node: usize, stage: Stage, file: PlannedFile) {
        match self.files.iter_mut().find(|(at, _, known)| *at == node && known.path == file.path) {
            Some((_, _, known)) => *known = file,
            None => self.files.push((node, stage, file)),
        }
    }

    /// The plan for a path, if there is one already.
    pub(super) fn planned(&mut self, node: usize, path: &Path) -> Option<&mut PlannedFile> {
        self.files.iter_mut().find(|(at, _, file)| *at == node && file.path == path).map(|(_, _, file)| file)
    }

    /// The hash of what is at a path; `None` when nothing is.
    pub(super) fn seen(&self, node: usize, path: &Path) -> Result<Option<String>, String> {
        let Some(artifact) = self.found(node, path) else { return Ok(None) };
        match &artifact.state {
            State::Read(content) => Ok(Some(hex(&content.sha256))),
            State::Missing { .. } => Ok(None),
            State::Unreadable(reason) => {
                let key = (self.node(node).name.clone(), path.to_owned());
                let known = self.request.illegible.get(&key).cloned();
                known.map(Some).ok_or_else(|| format!("{}: {reason}; move it away by hand", path.display()))
            }
        }
    }

    /// A process to be started anew.
    pub(super) fn server(&mut self, node: usize, component: &str) -> String {
        if !self.servers.iter().any(|(at, known)| *at == node && known == component) {
            self.servers.push((node, component.to_owned()));
        }
        "it is started anew".to_owned()
    }

    /// The whole plan.
    pub(super) fn finish(mut self, faults: &[Fault]) -> Blueprint {
        self.files.sort_by_key(|(_, stage, _)| *stage);
        for (index, node) in self.snapshot.nodes.iter().enumerate() {
            let files: Vec<PlannedFile> =
                self.files.iter().filter(|(at, ..)| *at == index).map(|(_, _, file)| file.clone()).collect();
            let mut plan = NodeBlueprint { node: node.name.clone(), files, restarts: Vec::new(), steps: Vec::new() };
            let own: Vec<&str> =
                self.servers.iter().filter(|(at, _)| *at == index).map(|(_, component)| component.as_str()).collect();
            plan.restarts = restarts::of(&plan, node, self.request.designs, &own);
            self.blueprint.nodes.push(plan);
        }
        for fault in faults.iter().filter(|fault| fault.is_mended) {
            let file = fault.path.split(['#', '[']).next().unwrap_or_default();
            let words = format!("{}: {}", fault.message, fault.remedy);
            self.blueprint.differences.push((fault.node.clone(), PathBuf::from(file), words));
        }
        self.forget_idle_keys();
        if !self.request.is_live {
            self.blueprint.next_steps = restarts::by_hand(&self.blueprint);
        }
        self.blueprint
    }

    /// Drops keys that nothing needs, so that no key is read in vain.
    fn forget_idle_keys(&mut self) {
        use crate::plan::blueprint::{IssuerPlan, KubeconfigPlan, PublicKeyRef};
        let mut needed: Vec<String> = Vec::new();
        for (_, _, file) in &self.files {
            let content = match &file.content {
                Some(FileContent::Dressed { content: Some(content), .. }) => Some(&**content),
                other => other.as_ref(),
            };
            match content {
                Some(
                    FileContent::PrivateKey(id)
                    | FileContent::CertificatesAndKey(_, id)
                    | FileContent::Kubeconfig(KubeconfigPlan::New { client: (_, id), .. }),
                ) => needed.push(id.clone()),
                Some(FileContent::Kubeconfig(KubeconfigPlan::Existing { clients, .. })) => {
                    needed.extend(clients.iter().filter_map(|(_, _, id)| id.clone()));
                }
                Some(FileContent::PublicKeys(keys)) => needed.extend(keys.iter().filter_map(|key| match key {
                    PublicKeyRef::Planned(id) => Some(id.clone()),
                    PublicKeyRef::Existing(_) => None,
                })),
                _ => {}
            }
        }
        for plan in &self.blueprint.certificates {
            needed.push(plan.key.clone());
            if let IssuerPlan::Existing { key, .. } = &plan.issuer {
                needed.push(key.clone());
            }
        }
        self.blueprint.keys.retain(|key| needed.contains(&key.id));
    }
}

/// The first certificate of a file, a kubeconfig's client certificate included.
pub(super) fn leading(artifact: &Artifact) -> Option<&Certificate> {
    let content = artifact.content()?;
    match &content.kubeconfig {
        Some(kubeconfig) => kubeconfig.as_ref().ok()?.current_user()?.certificate.certificates().next(),
        None => content.certificates().next(),
    }
}

//! A spec and what is there to a blueprint: everything that is missing, nothing that is there and fits.
//!
//! What is there and differs is a [`Problem`], unless the operator forces it; nothing is planned then, so that a directory is
//! either completed or left alone. A healthy CA is never replaced here, that is rotation.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::blueprint::{
    Basis, Blueprint, CertificatePlan, CertificateRef, FileContent, Id, IssuerPlan, KeyPlan, KeySource, KubeconfigPlan,
    NodeBlueprint, PlannedFile,
};
use super::compare;
use super::operation::FileAction;
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::certificate::Certificate;
use crate::pki::hex;
use crate::pki::lifetime::{self, Lifetime};
use crate::pki::spec::{NodeValues, Spec, SpecError};
use crate::snapshot::{Artifact, NodeSnapshot, Snapshot, State};

mod advice;
mod authority;
mod import;
mod kubeconfig;
mod leaf;
mod service_account;

pub use super::problem::{Problem, Remedy};
pub use authority::Standing;
pub use import::{Import, import};

/// The command's name.
pub const COMMAND: &str = "create-certs";

/// Permission bits of private keys, kubeconfigs and, as with kubeadm, `sa.pub`.
pub(super) const SECRET: u32 = 0o600;
/// Permission bits of certificates and requests.
pub(super) const PUBLIC: u32 = 0o644;

/// What is wanted, and what is there.
#[derive(Debug)]
pub struct Request<'a> {
    /// What there shall be.
    pub spec: &'a Spec,
    /// What is there.
    pub snapshot: &'a Snapshot,
    /// The control-plane nodes.
    pub nodes: &'a [Place],
    /// The moment of issuing.
    pub now: OffsetDateTime,
    /// Names of the only entries to make; none means all.
    pub only: &'a [String],
    /// Replace what differs.
    pub force: bool,
    /// Write signing requests, whether the CA's key is there or not.
    pub csr_only: bool,
    /// Words that run this command for the same target, for next steps.
    pub command_line: &'a str,
}

/// Where a node's files belong.
#[derive(Debug, Clone)]
pub struct Place {
    /// The node's name in the snapshot.
    pub node: String,
    /// Whether it is the first control-plane node of its cluster.
    pub is_first: bool,
    /// What templates stand for there.
    pub values: NodeValues,
    /// The PKI folder.
    pub pki_dir: PathBuf,
    /// The folder of the kubeconfigs; `None` where only the PKI folder is the target.
    pub kubernetes_dir: Option<PathBuf>,
    /// SHA-256 (lower-case hex) of files in which nothing could be read, so that they can be replaced.
    pub illegible: HashMap<PathBuf, String>,
}

/// Why there is no blueprint.
#[derive(Debug)]
pub enum Refusal {
    /// The spec makes no sense on this node.
    Spec(SpecError),
    /// A name that the spec or the target does not have, and the names there are.
    UnknownName(String, Vec<String>),
    /// Files are in the way.
    Problems(Vec<Problem>),
}

impl From<SpecError> for Refusal {
    fn from(error: SpecError) -> Self {
        Self::Spec(error)
    }
}

/// Plans everything that is missing.
///
/// # Errors
/// When the spec does not fit the node, a name is unknown, or something is in the way. All problems are listed.
pub fn create(request: &Request<'_>) -> Result<Blueprint, Refusal> {
    let mut builder = Builder::new(request)?;
    for entry in &request.spec.authorities {
        if builder.is_wanted(&entry.name, false) {
            builder.authority(&entry.name)?;
        }
    }
    for place in request.nodes {
        builder.leaves(place)?;
    }
    for entry in &request.spec.service_account_keys {
        if builder.is_wanted(&entry.name, false) {
            builder.service_account(entry);
        }
    }
    for place in request.nodes {
        builder.kubeconfigs(place)?;
    }
    builder.finish()
}

/// A blueprint that grows.
pub(super) struct Builder<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) blueprint: Blueprint,
    files: BTreeMap<usize, Vec<PlannedFile>>,
    pub(super) problems: Vec<Problem>,
    pub(super) authorities: HashMap<String, Standing>,
    /// Names of authorities that are replaced, and what they issued with them.
    pub(super) replaced: HashSet<String>,
    /// Files of signing requests that somebody has to have signed.
    pub(super) requests: Vec<PathBuf>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(request: &'a Request<'a>) -> Result<Self, Refusal> {
        let has_kubeconfigs = request.nodes.iter().any(|place| place.kubernetes_dir.is_some());
        for name in request.only {
            let in_spec = request.spec.names().any(|known| **known == **name);
            if !in_spec || request.spec.kubeconfig(name).is_some() && !has_kubeconfigs {
                let here =
                    request.spec.names().filter(|known| has_kubeconfigs || request.spec.kubeconfig(known).is_none());
                return Err(Refusal::UnknownName(name.clone(), here.map(ToString::to_string).collect()));
            }
        }
        let blueprint = Blueprint { command: COMMAND.to_owned(), ..Blueprint::default() };
        Ok(Self {
            request,
            blueprint,
            files: BTreeMap::new(),
            problems: Vec::new(),
            authorities: HashMap::new(),
            replaced: HashSet::new(),
            requests: Vec::new(),
        })
    }

    /// Whether the entry `name` is to be made; one `on_demand` only when it is asked for.
    pub(super) fn is_wanted(&self, name: &str, on_demand: bool) -> bool {
        if self.request.only.is_empty() { !on_demand } else { self.is_named(name) }
    }

    /// Whether a request is to be written even for a certificate that fits: how one of an external CA is renewed in time.
    pub(super) fn is_request_wanted(&self, name: &str) -> bool {
        self.request.csr_only && self.is_named(name)
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.request.only.iter().any(|only| only == name)
    }

    pub(super) fn snapshot(&self, place: &Place) -> Option<&'a NodeSnapshot> {
        self.request.snapshot.node(&place.node)
    }

    pub(super) fn find(&self, place: &Place, path: &Path) -> Option<&'a Artifact> {
        self.snapshot(place)?.at(path).filter(|artifact| !artifact.is_missing())
    }

    pub(super) fn is_there(&self, place: &Place, path: &Path) -> bool {
        self.find(place, path).is_some() || place.illegible.contains_key(path)
    }

    /// Plans a new file, or a new content for one that is there.
    pub(super) fn write(
        &mut self,
        place: &Place,
        path: PathBuf,
        name: &str,
        (content, mode): (FileContent, u32),
        not_after: Option<OffsetDateTime>,
    ) {
        let artifact = self.find(place, &path);
        let seen = seen(place, &path, artifact);
        let action = if seen.is_some() { FileAction::Replaced } else { FileAction::Created };
        let old_serial_number = artifact.and_then(leading).map(|certificate| certificate.serial().to_string());
        let name = name.to_owned();
        let file = PlannedFile {
            step: 0,
            path,
            name,
            action,
            content: Some(content),
            mode,
            seen,
            old_serial_number,
            not_after,
        };
        self.push(place, file);
    }

    /// Lists a file that stays as it is.
    pub(super) fn keep(&mut self, place: &Place, path: PathBuf, name: &str) {
        let artifact = self.find(place, &path);
        let certificate = artifact.and_then(leading);
        let file = PlannedFile {
            step: 0,
            name: name.to_owned(),
            action: FileAction::Unchanged,
            content: None,
            mode: 0,
            seen: seen(place, &path, artifact),
            old_serial_number: certificate.map(|certificate| certificate.serial().to_string()),
            not_after: certificate.map(Certificate::not_after),
            path,
        };
        self.push(place, file);
    }

    /// Plans to remove a file that is there.
    pub(super) fn remove(&mut self, place: &Place, path: PathBuf, name: &str) {
        let seen = seen(place, &path, self.find(place, &path));
        let (name, action) = (name.to_owned(), FileAction::Removed);
        let (old_serial_number, not_after) = (None, None);
        self.push(
            place,
            PlannedFile { step: 0, path, name, action, content: None, mode: 0, seen, old_serial_number, not_after },
        );
    }

    fn push(&mut self, place: &Place, file: PlannedFile) {
        let index = self.request.nodes.iter().position(|known| known.node == place.node).unwrap_or_default();
        self.files.entry(index).or_default().push(file);
    }

    pub(super) fn new_key(&mut self, id: &str, algorithm: KeyAlgorithm) {
        self.key(id, KeySource::New(algorithm));
    }

    pub(super) fn key(&mut self, id: &str, source: KeySource) {
        if !self.blueprint.keys.iter().any(|known| known.id == id) {
            self.blueprint.keys.push(KeyPlan { id: id.to_owned(), source });
        }
    }

    /// Plans a certificate for the key of the same id and returns when it ends: no later than its CA.
    pub(super) fn certificate(&mut self, id: &str, basis: Basis, validity: Lifetime, signer: Signer) -> OffsetDateTime {
        let backdating = self.request.spec.defaults.backdating();
        let (mut not_before, mut not_after) = lifetime::period_backdated(self.request.now, validity, backdating);
        if let Some((from, to)) = signer.period {
            not_before = not_before.max(from);
            if not_after > to {
                not_after = to;
                let date = compare::date(to);
                self.blueprint.warnings.push(format!("{id} ends with its CA on {date}, before the validity asked for"));
            }
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

    /// Records that something at `path` is in the way.
    pub(super) fn problem(&mut self, place: &Place, path: &Path, name: &str, words: Vec<String>, remedy: Remedy) {
        let (node, path, name) = (place.node.clone(), path.to_owned(), name.to_owned());
        self.problems.push(Problem { node, path, name, words, remedy });
    }

    /// Whether what differs at these paths may be replaced; records a problem where it may not.
    pub(super) fn may_replace(&mut self, place: &Place, paths: &[&Path], name: &str, words: &[String]) -> bool {
        if !self.request.force {
            let path = paths.iter().find(|path| self.is_there(place, path)).copied().unwrap_or(Path::new("/"));
            self.problem(place, path, name, words.to_vec(), Remedy::Force);
            return false;
        }
        self.can_replace(place, paths, name)
    }

    /// Whether everything at these paths is a file whose content is known, so that it can be kept as a backup.
    pub(super) fn can_replace(&mut self, place: &Place, paths: &[&Path], name: &str) -> bool {
        for path in paths {
            let Some(artifact) = self.find(place, path) else { continue };
            if let State::Unreadable(reason) = &artifact.state
                && !place.illegible.contains_key(*path)
            {
                let remedy = Remedy::ByHand("move it away, or make it readable".to_owned());
                self.problem(place, path, name, vec![reason.clone()], remedy);
                return false;
            }
        }
        true
    }

    /// Drops keys that nothing needs, so that no key is read in vain.
    fn forget_idle_keys(&mut self) {
        let blueprint = &self.blueprint;
        let files = blueprint.nodes.iter().flat_map(|node| &node.files);
        let mut needed: HashSet<Id> = files.filter_map(|file| key_of(file.content.as_ref()?)).cloned().collect();
        for plan in &blueprint.certificates {
            needed.insert(plan.key.clone());
            if let IssuerPlan::Existing { key, .. } = &plan.issuer {
                needed.insert(key.clone());
            }
        }
        self.blueprint.keys.retain(|key| needed.contains(&key.id));
    }

    pub(super) fn finish(self) -> Result<Blueprint, Refusal> {
        let (blueprint, problems) = self.finish_partly();
        if problems.is_empty() { Ok(blueprint) } else { Err(Refusal::Problems(problems)) }
    }

    /// What could be planned, and what could not.
    pub(super) fn finish_partly(mut self) -> (Blueprint, Vec<Problem>) {
        for (index, place) in self.request.nodes.iter().enumerate() {
            let files = self.files.remove(&index).unwrap_or_default();
            let restarts = Vec::new();
            self.blueprint.nodes.push(NodeBlueprint { node: place.node.clone(), files, restarts, steps: Vec::new() });
        }
        self.forget_idle_keys();
        self.advise();
        (self.blueprint, self.problems)
    }
}

/// The key whose content a file is.
fn key_of(content: &FileContent) -> Option<&Id> {
    match content {
        FileContent::PrivateKey(id) | FileContent::Kubeconfig(KubeconfigPlan::New { client: (_, id), .. }) => Some(id),
        _ => None,
    }
}

/// Who signs, and when that authority is valid.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) plan: IssuerPlan,
    /// First and last second, where the authority's certificate is known.
    pub(super) period: Option<(OffsetDateTime, OffsetDateTime)>,
}

/// `path` with `ending` below the PKI folder.
pub(super) fn below(place: &Place, path: &str, ending: &str) -> PathBuf {
    place.pki_dir.join(format!("{path}.{ending}"))
}

/// As [`leading`], for what may not be there.
pub(super) fn leading_of(artifact: Option<&Artifact>) -> Option<&Certificate> {
    artifact.and_then(leading)
}

/// The first certificate of a file, a kubeconfig's client certificate included.
pub(super) fn leading(artifact: &Artifact) -> Option<&Certificate> {
    let content = artifact.content()?;
    match &content.kubeconfig {
        Some(kubeconfig) => kubeconfig.as_ref().ok()?.current_user()?.certificate.certificates().next(),
        None => content.certificates().next(),
    }
}

pub(super) fn existing(certificates: &[Certificate]) -> Vec<CertificateRef> {
    certificates.iter().map(|certificate| CertificateRef::Existing(Box::new(certificate.clone()))).collect()
}

fn seen(place: &Place, path: &Path, artifact: Option<&Artifact>) -> Option<String> {
    let read = artifact.and_then(Artifact::content).map(|content| hex(&content.sha256));
    read.or_else(|| place.illegible.get(path).cloned())
}

//! A plan in full: which keys to make, which certificates to issue, which files to write, on which node, in which order.
//!
//! A blueprint leaves no choice open and holds no secret: keys are named by id, and those that exist by the file that
//! holds them. `apply` mints what it names, renders the files and carries them out. The same value, shown, is `--what-if`.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::operation::{
    FileAction, FileReport, NodeReport, NodeState, Operation, PhaseNode, PhaseReport, ProvisioningState,
};
use super::phase::{Phase, Step};
use crate::pki::algorithm::{KeyAlgorithm, KeyKind};
use crate::pki::certificate::Certificate;
use crate::pki::crl::RevocationList;
use crate::pki::name::Name;
use crate::pki::revocation::Revocation;
use crate::pki::san::San;
use crate::pki::usage::ExtendedKeyUsage;

/// Names one key or certificate within a blueprint: kubeadm's id for what the cluster shares (`ca`, `sa`), `NODE/ID` for
/// what belongs to one node (`cp1/apiserver`).
pub type Id = String;

/// Everything one command is going to do.
#[derive(Debug, Clone, Default)]
pub struct Blueprint {
    /// The command, as `create-certs`.
    pub command: String,
    /// Every key that signs or is certified, made anew or read from a node.
    pub keys: Vec<KeyPlan>,
    /// Every certificate to issue, issuers before what they issue.
    pub certificates: Vec<CertificatePlan>,
    /// Files per node.
    pub nodes: Vec<NodeBlueprint>,
    /// What new certificates say otherwise than those before, in words, by node and file.
    pub differences: Vec<(String, PathBuf, String)>,
    /// What must not be issued; `None` where nobody has looked.
    pub bans: Option<Bans>,
    /// What the operator should know before saying yes.
    pub warnings: Vec<String>,
    /// What people must do afterwards, in order.
    pub next_steps: Vec<String>,
}

/// What must not be issued.
#[derive(Debug, Clone)]
pub struct Bans {
    /// The ledger of the cluster.
    pub revocations: Vec<Revocation>,
    /// The moment of the run, UTC.
    pub now: OffsetDateTime,
}

/// One key.
#[derive(Debug, Clone)]
pub struct KeyPlan {
    /// Its name here.
    pub id: Id,
    /// Where it comes from.
    pub source: KeySource,
}

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Made anew.
    New(KeyAlgorithm),
    /// Read, when the plan is carried out, from a PEM file on a node.
    File {
        /// The node's name.
        node: String,
        /// Absolute path there.
        path: PathBuf,
    },
    /// Read from the data embedded in a kubeconfig on a node.
    Kubeconfig {
        /// The node's name.
        node: String,
        /// Absolute path there.
        path: PathBuf,
        /// Name of the user entry.
        user: String,
    },
}

/// One certificate to issue.
#[derive(Debug, Clone)]
pub struct CertificatePlan {
    /// Its name here.
    pub id: Id,
    /// The key it certifies.
    pub key: Id,
    /// What it says.
    pub basis: Basis,
    /// Who signs it.
    pub issuer: IssuerPlan,
    /// First second of validity, UTC.
    pub not_before: OffsetDateTime,
    /// Last second of validity, UTC, never past the issuer's.
    pub not_after: OffsetDateTime,
}

/// What a certificate says.
#[derive(Debug, Clone)]
pub enum Basis {
    /// A new CA.
    Authority {
        /// Its subject.
        subject: Name,
        /// Its names; kubeadm writes `DNS:` and the common name.
        sans: Vec<San>,
    },
    /// A new leaf.
    Leaf {
        /// Its subject.
        subject: Name,
        /// Its names.
        sans: Vec<San>,
        /// Its extended key usages.
        usages: Vec<ExtendedKeyUsage>,
    },
    /// An existing certificate again: subject bytes and all extensions carried over, but for what is to differ.
    Renewal {
        /// The certificate to follow.
        old: Box<Certificate>,
        /// Another subject.
        subject: Option<Name>,
        /// Other names.
        sans: Option<Vec<San>>,
        /// Other extended key usages.
        usages: Option<Vec<ExtendedKeyUsage>>,
    },
}

/// Who signs a certificate.
#[derive(Debug, Clone)]
pub enum IssuerPlan {
    /// Its own key: a root.
    Itself,
    /// Another certificate of this blueprint, with its key.
    Planned(Id),
    /// A CA that stays as it is.
    Existing {
        /// The CA's certificate.
        certificate: Box<Certificate>,
        /// Its key, among the blueprint's keys.
        key: Id,
    },
    /// Somebody who holds the CA's key elsewhere: only a signing request is written.
    External,
    /// Nobody any more: that has been done elsewhere, and this is what came back. The certificate's key need not be among the
    /// blueprint's.
    Taken(Box<Taken>),
}

/// A certificate that was signed elsewhere.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The certificate.
    pub certificate: Certificate,
    /// The kind of key it was signed with, where that is known.
    pub signer: Option<KeyKind>,
    /// Its authority, where that is another certificate of this blueprint.
    pub authority: Option<Id>,
}

/// The files of one node, in the order in which they are written; a key stands right before its certificate.
#[derive(Debug, Clone)]
pub struct NodeBlueprint {
    /// The node's name, or `local`.
    pub node: String,
    /// What happens to each file.
    pub files: Vec<PlannedFile>,
    /// Components that hold old copies of these files and must be restarted, as `kube-apiserver`, in order; one that is
    /// restarted in several steps is named as often.
    pub restarts: Vec<String>,
    /// What belongs together; when empty, all files and restarts are one step.
    pub steps: Vec<Step>,
}

/// One file's future.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    /// Absolute path on the node.
    pub path: PathBuf,
    /// kubeadm's id of what it holds.
    pub name: String,
    /// The place in the node's steps at which that happens. A file may change in several steps; what follows from one is
    /// what the next one sees.
    pub step: usize,
    /// What happens to it.
    pub action: FileAction,
    /// What it will hold; `None` with [`FileAction::Unchanged`] and [`FileAction::Removed`].
    pub content: Option<FileContent>,
    /// Permission bits of a new file; an existing one keeps its own mode and owner.
    pub mode: u32,
    /// SHA-256 (lower-case hex) of what the plan saw there; `None` when nothing was there. Carried out only if it still holds.
    pub seen: Option<String>,
    /// Serial number of the certificate it holds now.
    pub old_serial_number: Option<String>,
    /// When the certificate it will hold ends.
    pub not_after: Option<OffsetDateTime>,
}

/// What a file will hold.
#[derive(Debug, Clone)]
pub enum FileContent {
    /// Certificates as PEM, in order.
    Certificates(Vec<CertificateRef>),
    /// One certificate as bare DER.
    Der(CertificateRef),
    /// A private key as PEM.
    PrivateKey(Id),
    /// Public keys as PEM, in order (`sa.pub`).
    PublicKeys(Vec<PublicKeyRef>),
    /// Certificates, then their key, in one file, as the kubelet has it.
    CertificatesAndKey(Vec<CertificateRef>, Id),
    /// A signing request for that certificate.
    Request(Id),
    /// A kubeconfig.
    Kubeconfig(KubeconfigPlan),
    /// The manifest of a static pod, whole; it holds nothing secret.
    Manifest(String),
    /// Anything else, whole; it holds nothing secret.
    Bytes(Vec<u8>),
    /// What it holds anyway, or something new, with exactly the mode of the plan, and this owner (user and group) where one
    /// is given.
    Dressed {
        /// The new content; `None` leaves what is there.
        content: Option<Box<Self>>,
        /// The new owner.
        owner: Option<(u32, u32)>,
    },
    /// A certificate revocation list.
    RevocationList {
        /// What it says.
        list: Box<RevocationList>,
        /// The CA that signs it.
        authority: CertificateRef,
        /// That CA's key, among the blueprint's keys.
        key: Id,
        /// Whether it is PEM, and not bare DER.
        pem: bool,
    },
    /// No content: a symbolic link, as `kubelet-client-current.pem` is one.
    Link {
        /// What the link says.
        target: PathBuf,
        /// What it said when the plan looked; `None` when nothing was there.
        was: Option<PathBuf>,
    },
}

/// A certificate that a file will hold.
#[derive(Debug, Clone)]
pub enum CertificateRef {
    /// One that this blueprint issues.
    Planned(Id),
    /// One that exists.
    Existing(Box<Certificate>),
}

/// A public key that a file will hold.
#[derive(Debug, Clone)]
pub enum PublicKeyRef {
    /// The public half of one of the blueprint's keys.
    Planned(Id),
    /// One that exists, as `SubjectPublicKeyInfo` DER.
    Existing(Vec<u8>),
}

/// A kubeconfig to write.
#[derive(Debug, Clone)]
pub enum KubeconfigPlan {
    /// A new file with one cluster, one user and one context, laid out as kubeadm does.
    New {
        /// Cluster entry.
        cluster: String,
        /// URL of the API server.
        server: String,
        /// User entry.
        user: String,
        /// Context entry, also the current context.
        context: String,
        /// Trusted CAs.
        authorities: Vec<CertificateRef>,
        /// Client certificate with its intermediates, and key. Without a certificate the key waits for one, and the file
        /// has none yet.
        client: (Vec<CertificateRef>, Id),
    },
    /// A new file of a kubelet: its certificate and key are in the file of its store that this names.
    OfKubelet {
        /// URL of the API server.
        server: String,
        /// The user it is known as, `system:node:NAME`.
        user: String,
        /// Trusted CAs.
        authorities: Vec<CertificateRef>,
        /// The link to its current certificate.
        store: PathBuf,
    },
    /// An existing file in which only data fields change; everything else stays to the byte.
    Existing {
        /// New trusted CAs, by cluster entry.
        authorities: Vec<(String, Vec<CertificateRef>)>,
        /// New client certificates (the user's own first, then intermediates) and keys, by user entry. What lies in a
        /// file that the entry refers to is left out here: no certificates, or no key.
        clients: Vec<(String, Vec<CertificateRef>, Option<Id>)>,
    },
}

impl Blueprint {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes().next().is_none()
    }

    /// How many keys are made anew.
    pub fn new_keys(&self) -> usize {
        self.keys.iter().filter(|key| matches!(key.source, KeySource::New(_))).count()
    }

    /// Every file that changes, with its node.
    pub fn changes(&self) -> impl Iterator<Item = (&NodeBlueprint, &PlannedFile)> {
        self.nodes
            .iter()
            .flat_map(|node| node.files.iter().map(move |file| (node, file)))
            .filter(|(_, file)| file.action != FileAction::Unchanged)
    }

    /// Every file that changes, once, as it is in the end.
    pub fn ends(&self) -> impl Iterator<Item = (&NodeBlueprint, &PlannedFile)> {
        let is_last = |(node, file): &(&NodeBlueprint, &PlannedFile)| {
            node.files.iter().rfind(|other| other.path == file.path).is_some_and(|last| std::ptr::eq(last, *file))
        };
        self.changes().filter(is_last)
    }

    /// Every file that changes, once, with its first change.
    pub fn begins(&self) -> impl Iterator<Item = (&NodeBlueprint, &PlannedFile)> {
        let is_first = |(node, file): &(&NodeBlueprint, &PlannedFile)| {
            node.files.iter().find(|other| other.path == file.path).is_some_and(|first| std::ptr::eq(first, *file))
        };
        self.changes().filter(is_first)
    }

    /// The blueprint as an operation object that has not begun.
    pub fn operation(&self, id: &str) -> Operation {
        Operation {
            kind: "Operation".to_owned(),
            id: id.to_owned(),
            command: self.command.clone(),
            provisioning_state: ProvisioningState::Planned,
            started_at: None,
            ended_at: None,
            unavailability_seconds: None,
            phases: self.phases(),
            nodes: self.nodes.iter().map(|node| node.report(self)).collect(),
            next_steps: self.next_steps.clone(),
        }
    }

    /// A file of `node` as the operation object shows it: what becomes of it from the first step to the last. `None` for
    /// one that comes and goes in between.
    pub fn report(&self, node: &NodeBlueprint, path: &Path) -> Option<FileReport> {
        let mut changes = node.files.iter().filter(|file| file.path == path);
        let first = changes.next()?;
        let last = changes.next_back().unwrap_or(first);
        let action = match (first.action, last.action) {
            (FileAction::Created, FileAction::Removed) => return None,
            (FileAction::Created, _) => FileAction::Created,
            (_, FileAction::Replaced | FileAction::Created) => FileAction::Replaced,
            (_, other) => other,
        };
        let here = self.differences.iter().filter(|(at, file, _)| *at == node.node && file == path);
        Some(FileReport {
            path: path.display().to_string(),
            name: last.name.clone(),
            action,
            old_serial_number: first.old_serial_number.clone(),
            new_serial_number: None,
            not_after: last.not_after,
            differences: here.map(|(_, _, words)| words.clone()).collect(),
        })
    }

    /// The rounds in order, with what happens on each node; none when everything is one step.
    fn phases(&self) -> Vec<PhaseReport> {
        let steps = self.nodes.iter().flat_map(|node| &node.steps);
        let phases: BTreeSet<Phase> = steps.map(|step| step.phase).collect();
        let of = |phase: Phase| {
            let nodes = self.nodes.iter().filter_map(|node| node.part(phase)).collect();
            PhaseReport { name: phase.name().to_owned(), started_at: None, ended_at: None, nodes }
        };
        phases.into_iter().map(of).collect()
    }
}

impl NodeBlueprint {
    /// What happens on the node in one round.
    fn part(&self, phase: Phase) -> Option<PhaseNode> {
        let is_in = |at: usize| self.steps.get(at).is_some_and(|step| step.phase == phase);
        let changed = self.files.iter().filter(|file| file.action != FileAction::Unchanged && is_in(file.step));
        let files: Vec<String> = changed.map(|file| file.path.display().to_string()).collect();
        let steps = self.steps.iter().filter(|step| step.phase == phase);
        let restarts: Vec<String> = steps.flat_map(|step| step.restarts.iter().cloned()).collect();
        let is_idle = files.is_empty() && restarts.is_empty();
        (!is_idle).then(|| PhaseNode { name: self.node.clone(), files, restarts })
    }

    fn report(&self, blueprint: &Blueprint) -> NodeReport {
        let mut paths: Vec<&Path> = Vec::new();
        let mut known = HashSet::new();
        paths.extend(self.files.iter().map(|file| file.path.as_path()).filter(|path| known.insert(*path)));
        NodeReport {
            name: self.node.clone(),
            state: NodeState::Pending,
            files: paths.into_iter().filter_map(|path| blueprint.report(self, path)).collect(),
            restarts: self.restarts.clone(),
            error: None,
        }
    }
}

//! Repair: what is wrong with the files and processes of nodes, and for each finding the one thing that mends it.
//!
//! [`plan`] is a pure function. It sorts what `diagnose` found by what has to be made again (`cases`, `expected`), decides
//! which authority is the right one (`authorities`), and makes only what is broken: pairs from what they said before
//! (`leaves`, `kubeconfigs`), the kubelet's own store (`kubelets`), modes and owners (`dress`). Authorities are never
//! replaced silently. Nothing here needs an API server.

use std::collections::HashMap;
use std::path::PathBuf;

use time::OffsetDateTime;

use super::blueprint::Blueprint;
use crate::diagnose::{Policy, diagnose};
use crate::pki::layout::Role;
use crate::pki::spec::{ResolvedKubeconfig, ResolvedLeaf};
use crate::snapshot::Snapshot;

mod authorities;
mod basis;
mod builder;
mod cases;
mod dress;
mod expected;
mod kubeconfigs;
mod kubelets;
mod leaves;
mod restarts;
mod revoked;
mod service_accounts;
pub mod together;

pub use expected::complete;

use authorities::Authorities;
use builder::Builder;
use cases::{Case, Unit};

/// The command's name in plans, journals and results.
pub const COMMAND: &str = "repair-certs";

/// What the operator wants of a repair, and what is known besides the snapshot.
#[derive(Debug)]
pub struct Request<'a> {
    /// Whose credentials; everything when neither is set.
    pub scope: Scope,
    /// What nodes should have, in the order of the snapshot's.
    pub designs: &'a [Design],
    /// The nodes that may be changed; the others only tell.
    pub chosen: &'a [String],
    /// Whether guesses are acted upon and authorities whose time is over are renewed with their keys.
    pub force: bool,
    /// The moment of issuing.
    pub now: OffsetDateTime,
    /// Processes that are older than what they read when they start: node, component and why.
    pub stale: &'a [(String, String, String)],
    /// SHA-256 (lower-case hex) of files in which nothing could be read, by node and path.
    pub illegible: &'a HashMap<(String, PathBuf), String>,
    /// Options that name the target, to complete the commands in remedies.
    pub target: &'a str,
    /// Whether components run that can be started anew.
    pub is_live: bool,
}

/// Whose credentials are to be repaired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scope {
    /// Those of kubelets.
    pub kubelets: bool,
    /// Those of identities of the cloud agent.
    pub cloud: bool,
}

impl Scope {
    /// Whether nothing was singled out.
    pub fn is_everything(self) -> bool {
        self.kubelets == self.cloud
    }
}

/// What one node should have, as far as a spec and the node itself tell.
#[derive(Debug, Clone)]
pub struct Design {
    /// The node's name in the snapshot.
    pub node: String,
    /// What it is.
    pub role: Role,
    /// The name it has in the cluster.
    pub name: Option<String>,
    /// Certificates in files of their own: id, issuer's id, content.
    pub leaves: Vec<(String, String, ResolvedLeaf)>,
    /// Kubeconfigs by id.
    pub kubeconfigs: Vec<(String, ResolvedKubeconfig)>,
    /// Where its kubelet reaches the API server.
    pub kubelet_server: Option<String>,
    /// The folder of kubeconfigs; `None` for a bare folder.
    pub kubernetes_dir: Option<PathBuf>,
    /// The PKI folder.
    pub pki_dir: PathBuf,
    /// The kubelet's folder; `None` for a bare folder.
    pub kubelet_dir: Option<PathBuf>,
    /// Components with a static pod's manifest there.
    pub pods: Vec<String>,
    /// Why not more is known.
    pub trouble: Option<String>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The node's name.
    pub node: String,
    /// The file, or the server.
    pub path: String,
    /// The finding's stable word.
    pub id: String,
    /// What was seen.
    pub message: String,
    /// What this repair does about it, or, when that is nothing, what somebody has to do.
    pub remedy: String,
    /// Whether this repair mends it.
    pub is_mended: bool,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Many messages begin with the file, or name it further on.
        let file = self.path.split(['#', '[']).next().unwrap_or_default();
        if self.message.contains(file) {
            write!(f, "{}: {}", self.node, self.message)?;
        } else {
            write!(f, "{}: {}: {}", self.node, self.path, self.message)?;
        }
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " -> {}", self.remedy) }
    }
}

/// What a repair comes to.
#[derive(Debug, Clone, Default)]
pub struct Repair {
    /// Everything that is wrong, with its remedy.
    pub faults: Vec<Fault>,
    /// The changes. Restarts of each node are in the order of their dependence.
    pub blueprint: Blueprint,
    /// Why nothing of it would last: entries of the ledger of revocations that would take new certificates back at once.
    pub refusal: Option<String>,
    /// Why nothing that runs can get well by it: the time of the cluster's authority, or of etcd's, is over and stays so.
    pub ended: Option<String>,
    /// Nodes (of the snapshot) whose kubelets wait for somebody to approve their requests, or will.
    pub approvals: Vec<String>,
}

impl Repair {
    /// What is not mended by it.
    pub fn left(&self) -> Vec<&Fault> {
        self.faults.iter().filter(|fault| !fault.is_mended).collect()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether there is anything that this repair does.
    pub fn does_something(&self) -> bool {
        let restarts = self.blueprint.nodes.iter().any(|node| !node.restarts.is_empty());
        restarts || !self.blueprint.is_empty() || !self.approvals.is_empty()
    }
}

/// Plans the repair of what `snapshot` shows, which [`complete`] has looked at.
pub fn plan(snapshot: &Snapshot, request: &Request<'_>) -> Repair {
    let policy = Policy { target: request.target.to_owned(), ..Policy::at(request.now) };
    let diagnosis = diagnose(snapshot, &policy);
    let mut cases = cases::cases(&diagnosis, request);
    let mut builder = Builder::new(snapshot, request);
    let authorities = Authorities::mend(&mut builder, &mut cases);
    let mut approvals = Vec::new();
    let refusal = revoked::for_good(snapshot, &cases);
    for case in &mut cases {
        let node = case.node;
        let outcome = match &case.unit {
            // Done already, because everything else depends on them.
            Unit::Authority(_) | Unit::Tokens => continue,
            Unit::Leaf(id) => builder.leaf(&authorities, node, id),
            Unit::Other(path) => builder.other(&authorities, node, path),
            Unit::Kubeconfig(id) => builder.kubeconfig(&authorities, node, id, case),
            Unit::Kubelet => builder.kubelet(&authorities, node, case),
            Unit::KubeletServing(path) => builder.kubelet_serving(node, path),
            Unit::KubeletSelfSigned => builder.kubelet_self_signed(node),
            Unit::Dress(path) => builder.dress(node, path),
            Unit::Server(component) => Ok(builder.server(node, component)),
            Unit::Approval => Ok("its request for a serving certificate is approved, if it fits the node".to_owned()),
            Unit::Nobody => Err(String::new()),
        };
        if matches!(case.unit, Unit::Approval | Unit::KubeletServing(_)) && outcome.is_ok() {
            approvals.push(snapshot.nodes[node].name.clone());
        }
        case.settle(&outcome);
    }
    approvals.sort_unstable();
    approvals.dedup();
    let faults: Vec<Fault> = cases.into_iter().flat_map(|case: Case<'_>| case.faults).collect();
    let blueprint = builder.finish(&faults);
    Repair { faults, blueprint, refusal, ended: authorities.ended(), approvals }
}

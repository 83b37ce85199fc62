//! Findings sorted by what has to be made again: one case for each pair, kubeconfig, store, authority or process.
//!
//! What only needs attention (an end that comes nearer, a clock) is no case: nothing is broken there.

use std::path::{Path, PathBuf};

use super::{Fault, Request};
use crate::diagnose::{Diagnosis, Finding, FindingId, Row, Severity, Status, exposures, usual_owner};
use crate::pki::catalog::kubelet::is_dated;
use crate::pki::catalog::{Catalog, Keeper, Kind};
use crate::pki::layout::Role;
use crate::pki::server::Server;
use crate::snapshot::{NodeSnapshot, Source};

/// What has to be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unit {
    /// An authority, by its id.
    Authority(&'static str),
    /// The pair that signs service-account tokens.
    Tokens,
    /// A certificate that the catalog knows, by its id.
    Leaf(&'static str),
    /// A certificate in a file that nobody knows.
    Other(PathBuf),
    /// A kubeconfig, by its id.
    Kubeconfig(&'static str),
    /// A kubelet's client certificate and `kubelet.conf`.
    Kubelet,
    /// A kubelet's serving certificate that it asks the cluster for: the link to it.
    KubeletServing(PathBuf),
    /// A kubelet's serving certificate that it signs itself.
    KubeletSelfSigned,
    /// Mode and owner of a file.
    Dress(PathBuf),
    /// A process that holds something old, or does not answer.
    Server(String),
    /// A kubelet that waits for somebody to approve its request.
    Approval,
    /// Nothing that can be mended from here.
    Nobody,
}

/// One thing to make again, and why.
#[derive(Debug)]
pub(super) struct Case<'a> {
    /// The node's position in the snapshot.
    pub node: usize,
    /// The thing.
    pub unit: Unit,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
    /// Which of it, row by row.
    pub rows: Vec<&'a Row<'a>>,
}

impl Case<'_> {
    /// Notes what is done, or why nothing is. Without a reason of its own each finding keeps what it says itself.
    pub(super) fn settle(&mut self, outcome: &Result<String, String>) {
        for fault in &mut self.faults {
            match outcome {
                Ok(remedy) => (fault.remedy, fault.is_mended) = (remedy.clone(), true),
                Err(reason) if reason.is_empty() => {}
                Err(reason) => fault.remedy.clone_from(reason),
            }
        }
    }
}

/// Findings that are mended although what they are about still works.
const MENDED_EARLY: [FindingId; 7] = [
    FindingId::KeyExposed,
    FindingId::FileWritable,
    FindingId::OwnerUnexpected,
    FindingId::NameMissing,
    FindingId::IdentityWrong,
    FindingId::KubeletCurrentNotALink,
    FindingId::ServedDiffers,
];

/// Everything that has to be mended on the chosen nodes, authorities first, then by node.
pub(super) fn cases<'a>(diagnosis: &'a Diagnosis<'a>, request: &Request<'_>) -> Vec<Case<'a>> {
    let mut list = List { diagnosis, request, cases: Vec::new() };
    for row in &diagnosis.rows {
        list.row(row);
    }
    for (index, node) in diagnosis.snapshot.nodes.iter().enumerate() {
        list.own_checks(index, node);
    }
    for (node, component, reason) in request.stale {
        if let Some(index) = diagnosis.snapshot.nodes.iter().position(|one| one.name == *node) {
            list.add(index, Unit::Server(component.clone()), component, "process-stale", reason.clone(), None);
        }
    }
    let mut cases = list.cases;
    cases.retain(|case| is_wanted(case, diagnosis, request));
    cases.sort_by_key(|case| rank(&case.unit));
    cases
}

fn is_wanted(case: &Case<'_>, diagnosis: &Diagnosis<'_>, request: &Request<'_>) -> bool {
    let name = &diagnosis.snapshot.nodes[case.node].name;
    let is_kubelets = match &case.unit {
        Unit::Kubelet | Unit::KubeletServing(_) | Unit::KubeletSelfSigned | Unit::Approval => true,
        Unit::Server(component) => component == "kubelet",
        Unit::Dress(path) => path.components().any(|part| part.as_os_str() == "kubelet"),
        _ => false,
    };
    let is_clouds = match &case.unit {
        Unit::Authority(id) => *id == "agent-ca",
        Unit::Other(path) | Unit::Dress(path) => is_agents(path),
        _ => false,
    };
    let is_asked_for =
        request.scope.is_everything() || request.scope.kubelets && is_kubelets || request.scope.cloud && is_clouds;
    is_asked_for && request.chosen.contains(name)
}

/// Whether a file is one of the cloud agent's.
fn is_agents(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("agent"))
}

/// Everything else needs authorities; processes come last.
fn rank(unit: &Unit) -> u8 {
    match unit {
        Unit::Authority(_) => 0,
        Unit::Tokens => 1,
        Unit::Leaf(_) | Unit::Other(_) => 2,
        Unit::Kubeconfig(_) => 3,
        Unit::Kubelet | Unit::KubeletServing(_) | Unit::KubeletSelfSigned => 4,
        Unit::Dress(_) => 5,
        Unit::Server(_) | Unit::Approval => 6,
        Unit::Nobody => 7,
    }
}

struct List<'a, 'r> {
    diagnosis: &'a Diagnosis<'a>,
    request: &'r Request<'r>,
    cases: Vec<Case<'a>>,
}

impl<'a> List<'a, '_> {
    fn row(&mut self, row: &'a Row<'a>) {
        for finding in &row.findings {
            let Some(unit) = unit(row, finding) else { continue };
            let path = match &unit {
                Unit::Dress(path) => path.display().to_string(),
                _ => row.path.clone(),
            };
            let remedy = Some(finding.remedy.clone());
            self.add(row.node, unit.clone(), &path, finding.id.name(), finding.message.clone(), remedy);
            let case = self.cases.iter_mut().find(|case| case.node == row.node && case.unit == unit);
            if let Some(case) = case.filter(|case| !case.rows.iter().any(|known| std::ptr::eq(*known, row))) {
                case.rows.push(row);
            }
        }
    }

    /// What nobody has a row for.
    fn own_checks(&mut self, index: usize, node: &'a NodeSnapshot) {
        let usual = usual_owner(node).map(|(uid, _)| uid);
        for artifact in node.artifacts.iter().filter(|one| one.source != Source::Endpoint && !is_personal(&one.path)) {
            for Finding { id, message, .. } in exposures(artifact, usual) {
                let unit = Unit::Dress(artifact.path.clone());
                let path = artifact.path.display().to_string();
                self.add(index, unit, &path, id.name(), message, None);
            }
        }
        let Some(design) = self.request.designs.iter().find(|design| design.node == node.name) else { return };
        if design.role == Role::ControlPlane && node.error.is_none() {
            self.tokens(index, node, &design.pki_dir);
            self.authority_keys(index, node);
        }
        self.kubeconfigs(index, node);
        self.kubelet(index, node, design);
    }

    /// The token keys of a control-plane node, which kubeadm does not list.
    fn tokens(&mut self, index: usize, node: &NodeSnapshot, pki_dir: &Path) {
        let is_whole = node.artifacts.iter().any(|one| one.id() == Some("apiserver"));
        if !is_whole {
            return;
        }
        for (file, found) in [("sa.key", node.key_of("sa")), ("sa.pub", node.entry("sa"))] {
            if found.is_none_or(crate::snapshot::Artifact::is_missing) {
                let path = pki_dir.join(file).display().to_string();
                let message = format!("{path} is not there");
                self.add(index, Unit::Tokens, &path, FindingId::FileMissing.name(), message, None);
            }
        }
    }

    /// Keys of authorities that other control-plane nodes have.
    fn authority_keys(&mut self, index: usize, node: &NodeSnapshot) {
        let there: Vec<(&'static str, PathBuf)> = node
            .artifacts
            .iter()
            .filter(|one| one.content().is_some() && one.part.is_some_and(|part| part.catalog == Catalog::Kubeadm))
            .filter_map(|one| {
                one.part.filter(|part| part.entry.kind == Kind::Authority && !part.is_key).map(|part| (one, part))
            })
            .map(|(one, part)| (part.entry.id, one.path.with_extension("key")))
            .collect();
        for (id, path) in there {
            let others = self.diagnosis.snapshot.nodes.iter().filter(|other| other.name != node.name);
            let is_elsewhere =
                others.into_iter().any(|other| other.key_of(id).is_some_and(|key| key.content().is_some()));
            if is_elsewhere && node.key_of(id).is_none() {
                let shown = path.display().to_string();
                let message = format!("{shown} is not there, and other control-plane nodes have it");
                self.add(index, Unit::Authority(id), &shown, FindingId::KeyMissing.name(), message, None);
            }
        }
    }

    /// Kubeconfigs that can be read and lack what a component needs.
    fn kubeconfigs(&mut self, index: usize, node: &NodeSnapshot) {
        for artifact in &node.artifacts {
            let Some(part) = artifact.part.filter(|part| part.entry.kind == Kind::Kubeconfig) else { continue };
            if part.catalog != Catalog::Kubeadm || part.entry.id == "bootstrap-kubelet.conf" {
                continue;
            }
            let Some(Ok(found)) = artifact.content().and_then(|content| content.kubeconfig.as_ref()) else { continue };
            let user = found.current_user();
            let has_credential = user.is_some_and(|user| {
                user.certificate.content.is_some() || user.certificate.file.is_some() || user.has_other_credential
            });
            let cluster = user.and_then(|user| found.clusters_of(&user.name).next());
            let has_cluster = cluster.is_some_and(|cluster| {
                let trusts = cluster.authority.content.is_some() || cluster.authority.file.is_some();
                cluster.server.is_some() && (trusts || cluster.insecure_skip_tls_verify)
            });
            if has_credential && has_cluster {
                continue;
            }
            let what = match (user, has_credential) {
                (None, _) => "no user of a current context",
                (Some(_), false) => "no credential for its user",
                (Some(_), true) => "no server and CA for its user",
            };
            let unit = if part.entry.id == "kubelet.conf" { Unit::Kubelet } else { Unit::Kubeconfig(part.entry.id) };
            let path = artifact.path.display().to_string();
            let message = format!("{path} has {what}: a part of it is missing");
            self.add(index, unit, &path, FindingId::KubeconfigMalformed.name(), message, None);
        }
    }

    /// The kubelet's own files, as far as no rule is about them.
    fn kubelet(&mut self, index: usize, node: &NodeSnapshot, design: &super::Design) {
        let Some(folder) = &design.kubelet_dir else { return };
        let store = folder.join("pki");
        let left = store.join("kubelet-client-updated.pem");
        let current = node.at(&store.join("kubelet-client-current.pem")).filter(|one| !one.is_missing());
        if node.at(&left).is_some() {
            let shown = left.display().to_string();
            let message = format!("{shown} is left over from a renewal that was interrupted");
            self.add(index, Unit::Kubelet, &shown, "kubelet-link-left", message, None);
        }
        if node.entry("kubelet.conf").is_some_and(|one| !one.is_missing()) {
            return;
        }
        // Without kubelet.conf nobody refers to the store.
        let has_config = node.artifacts.iter().any(|one| one.path.starts_with(&store)) || current.is_some();
        if let Some(path) = design.kubernetes_dir.as_ref().filter(|_| has_config) {
            let shown = path.join("kubelet.conf").display().to_string();
            let message = format!("{shown} is not there");
            self.add(index, Unit::Kubelet, &shown, FindingId::FileMissing.name(), message, None);
        }
    }

    fn add(&mut self, node: usize, unit: Unit, path: &str, id: &str, message: String, remedy: Option<String>) {
        let name = self.diagnosis.snapshot.nodes[node].name.clone();
        let (path, id, remedy) = (path.to_owned(), id.to_owned(), remedy.unwrap_or_default());
        let fault = Fault { node: name, path, id, message, remedy, is_mended: false };
        match self.cases.iter_mut().find(|case| case.node == node && case.unit == unit && case.unit != Unit::Nobody) {
            Some(case) if case.faults.iter().any(|known| known.id == fault.id && known.path == fault.path) => {}
            Some(case) => case.faults.push(fault),
            None => self.cases.push(Case { node, unit, faults: vec![fault], rows: Vec::new() }),
        }
    }
}

/// Kubeconfigs in home folders: kubectl's `~/.kube`.
fn is_personal(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with(".kube"))
}

/// What has to be made again because of a finding, if it is one that breaks something.
fn unit(row: &Row<'_>, finding: &Finding) -> Option<Unit> {
    let is_revoked = finding.id.status() == Status::Revoked;
    let is_broken = finding.severity() == Severity::Broken || is_revoked;
    if row.artifact.source == Source::Endpoint {
        return server(row, finding, is_broken);
    }
    if !is_broken && !MENDED_EARLY.contains(&finding.id) {
        return None;
    }
    if matches!(finding.id, FindingId::KeyExposed | FindingId::FileWritable | FindingId::OwnerUnexpected) {
        // Each file is looked at by itself, see below.
        return None;
    }
    let Some(part) = row.artifact.part else {
        let name = row.artifact.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if is_dated(name) {
            // Without a link to it nobody uses it; the kubelet makes another one.
            return None;
        }
        return match row.artifact.source {
            Source::Pki if row.certificate.is_some() && row.is_first() => Some(Unit::Other(row.artifact.path.clone())),
            // A person's own copy is the person's, and what is further down a bundle is nobody's.
            Source::Kubeconfig => None,
            _ if is_agents(&row.artifact.path) => Some(Unit::Other(row.artifact.path.clone())),
            _ => Some(Unit::Nobody),
        };
    };
    let id = part.entry.id;
    Some(match (part.catalog, part.entry.kind, part.entry.keeper) {
        (Catalog::K3s | Catalog::Rke2, ..) | (_, _, Keeper::Distribution) => Unit::Nobody,
        (Catalog::Kubelet, ..) if id == "kubelet-client" => Unit::Kubelet,
        (Catalog::Kubelet, ..) if id == "kubelet" => Unit::KubeletSelfSigned,
        (Catalog::Kubelet, ..) => Unit::KubeletServing(row.artifact.path.clone()),
        (_, Kind::Authority, _) => Unit::Authority(id),
        (_, Kind::ServiceAccount, _) => Unit::Tokens,
        (_, Kind::Leaf, _) => Unit::Leaf(id),
        (_, Kind::Kubeconfig, _) if id == "kubelet.conf" => Unit::Kubelet,
        // It holds a token, and is only there to be used once.
        (_, Kind::Kubeconfig, _) if id == "bootstrap-kubelet.conf" => return None,
        (_, Kind::Kubeconfig, _) => Unit::Kubeconfig(id),
    })
}

/// What a server shows is in the memory of a process: that is started anew, and reads its files again.
fn server(row: &Row<'_>, finding: &Finding, is_broken: bool) -> Option<Unit> {
    let server = row.artifact.server?;
    let is_about_process = matches!(finding.id, FindingId::ServedDiffers | FindingId::ServerSilent);
    if !is_broken && !is_about_process {
        return None;
    }
    let waits = server == Server::Kubelet
        && finding.id == FindingId::ServerSilent
        && finding.message.contains("refused the handshake");
    Some(if waits { Unit::Approval } else { Unit::Server(server.program().to_owned()) })
}

//! Kubeconfigs of a control plane's components and administrators: only what is broken in them is written anew; one that
//! cannot be read, or lacks a part, is made again whole.

use super::authorities::Authorities;
use super::basis;
use super::builder::{Builder, SECRET, Stage, leading};
use super::cases::Case;
use super::leaves::issuers;
use crate::diagnose::{FindingId, Member};
use crate::plan::blueprint::{CertificateRef, FileContent, KubeconfigPlan};
use crate::snapshot::{Artifact, Kubeconfig};

impl Builder<'_> {
    /// Mends the kubeconfig `id` of a node.
    pub(super) fn kubeconfig(
        &mut self,
        authorities: &Authorities,
        node: usize,
        id: &str,
        case: &Case<'_>,
    ) -> Result<String, String> {
        let artifact = self.node(node).entry(id).ok_or("nobody knows where it belongs on this node")?;
        let part = artifact.part.ok_or("nobody knows what it is")?;
        let design = self.design(node);
        let designed = design.and_then(|design| design.kubeconfigs.iter().find(|(name, _)| name == id));
        let found = readable(artifact).filter(|_| !is_broken(case));
        let user = found.and_then(Kubeconfig::current_user);
        let names_files = user.is_some_and(|user| user.certificate.file.is_some() || user.key.file.is_some());
        let whole = found.is_none() || user.is_none() || names_files;
        let touches = |wanted: fn(&Member<'_>) -> bool| {
            let own = case.rows.iter().filter(|row| wanted(&row.member));
            own.flat_map(|row| &row.findings).any(|finding| is_breaking(finding.id))
        };
        let needs_client = whole || touches(|member| matches!(member, Member::User(..) | Member::Whole));
        let needs_trust =
            whole || touches(|member| matches!(member, Member::Cluster(..))) || authorities.is_renewed("ca");
        let trusted = authorities.bundle()?;
        let name = format!("{}/{id}", self.node(node).name);
        let (mut end, mut client) = (None, None);
        let mut source = "";
        if needs_client {
            let on_disk = leading(artifact);
            let wanted = basis::wanted(self, node, part, on_disk, designed.map(|(_, kubeconfig)| &kubeconfig.client));
            let wanted = wanted.ok_or_else(|| unknown(id, self.request.target))?;
            let ids = issuers(part, None);
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let signer = authorities.signer(self, &ids, wanted.old)?;
            source = wanted.source;
            self.new_key(&name, wanted.algorithm);
            let above = signer.above.clone();
            end = Some(self.certificate(&name, wanted.basis, (wanted.old, wanted.usual), signer));
            let chain: Vec<CertificateRef> =
                std::iter::once(CertificateRef::Planned(name.clone())).chain(above).collect();
            client = Some((chain, name));
        }
        let content = match (found, user) {
            (Some(found), Some(user)) if !whole => {
                let clusters = found.clusters_of(&user.name).filter(|_| needs_trust);
                let authorities = clusters.map(|cluster| (cluster.name.clone(), trusted.clone())).collect();
                let clients = client.map(|(chain, key)| (user.name.clone(), chain, Some(key))).into_iter().collect();
                KubeconfigPlan::Existing { authorities, clients }
            }
            _ => {
                let (_, designed) = designed.ok_or_else(|| unknown(id, self.request.target))?;
                let server =
                    |artifact: &Artifact| readable(artifact).and_then(|found| found.clusters.first()?.server.clone());
                // Those that go to the node's own API server, and those that go to the cluster's, have one address each.
                let peers: &[&str] = match id {
                    "controller-manager.conf" | "scheduler.conf" => &["controller-manager.conf", "scheduler.conf"],
                    _ => &["admin.conf", "super-admin.conf"],
                };
                let mut beside = peers.iter().filter_map(|peer| server(self.node(node).entry(peer)?));
                let kept = server(artifact).or_else(|| beside.next());
                KubeconfigPlan::New {
                    cluster: designed.cluster.clone(),
                    server: kept.filter(|server| server.starts_with("https://")).unwrap_or(designed.server.clone()),
                    user: designed.user.clone(),
                    context: designed.context.clone(),
                    authorities: trusted,
                    client: client.ok_or("it needs a client certificate")?,
                }
            }
        };
        let path = artifact.path.clone();
        self.write(node, Stage::Kubeconfigs, (&path, id), (FileContent::Kubeconfig(content), SECRET), end)?;
        Ok(match (whole, needs_client, needs_trust) {
            (true, ..) => format!("it is made again whole, {source}"),
            (_, true, true) => format!("its client certificate, {source}, and the CA in it are made anew"),
            (_, true, false) => format!("its client certificate is made anew, {source}"),
            _ => "the CA in it is corrected".to_owned(),
        })
    }
}

fn unknown(id: &str, target: &str) -> String {
    format!("nothing tells what it said: `kubepki create-certs --only {id} --force{target}` makes it anew")
}

/// The kubeconfig, if it can be read.
pub(super) fn readable(artifact: &Artifact) -> Option<&Kubeconfig> {
    artifact.content()?.kubeconfig.as_ref()?.as_ref().ok()
}

/// Whether the document itself is of no use any more.
pub(super) fn is_broken(case: &Case<'_>) -> bool {
    let gone = [FindingId::KubeconfigMalformed, FindingId::FileMissing, FindingId::FileUnreadable].map(FindingId::name);
    case.faults.iter().any(|fault| gone.contains(&fault.id.as_str()))
}

/// Whether a finding means that the part of the kubeconfig has to be made again.
pub(super) fn is_breaking(id: FindingId) -> bool {
    use crate::diagnose::{Severity, Status};
    id.severity() == Severity::Broken || id.status() == Status::Revoked || id == FindingId::IdentityWrong
}

//! Would kubectl take the kubeconfig, would its user be let in, and would it believe the server?

use super::case::Case;
use super::chain;
use super::finding::FindingId;
use super::issuers::Issuance;
use super::row::Member;
use crate::pki::catalog::{Catalog, Keeper};
use crate::snapshot::{Cluster, Kubeconfig, Material, State};

pub(super) fn check(case: &mut Case<'_, '_>) {
    for row in 0..case.rows.len() {
        let artifact = case.rows[row].artifact;
        let State::Read(content) = &artifact.state else { continue };
        match &content.kubeconfig {
            Some(Ok(kubeconfig)) => entries(case, row, kubeconfig),
            Some(Err(problem)) if case.rows[row].member == Member::Whole => {
                let message = format!("{}: {problem}", artifact.path.display());
                let remedy = remake(case, row);
                case.add(row, FindingId::KubeconfigMalformed, message, remedy);
            }
            _ => {}
        }
    }
}

fn entries(case: &mut Case<'_, '_>, row: usize, kubeconfig: &Kubeconfig) {
    let is_top = row == 0 || !std::ptr::eq(case.rows[row - 1].artifact, case.rows[row].artifact);
    let path = case.rows[row].artifact.path.display().to_string();
    if let Some(problem) = kubeconfig.problems.first().filter(|_| is_top) {
        let more = match kubeconfig.problems.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let remedy = remake(case, row);
        case.add(row, FindingId::KubeconfigMalformed, format!("{path}: {problem}{more}"), remedy);
    }
    if is_top {
        for cluster in kubeconfig.clusters.iter().filter(|cluster| cluster.insecure_skip_tls_verify) {
            let message = format!("cluster `{}` is reached without checking who answers", cluster.name);
            let remedy = format!(
                "kubectl config set-cluster {} --kubeconfig {path} --insecure-skip-tls-verify=false",
                cluster.name
            );
            case.add(row, FindingId::ServerNotVerified, message, remedy);
        }
    }
    match case.rows[row].member {
        Member::User(name, index) => {
            let Some(user) = kubeconfig.users.iter().find(|user| user.name == name) else { return };
            material(case, row, &user.certificate, index, "client certificate");
            if index == 0 {
                issuer(case, row, kubeconfig, name);
            }
        }
        Member::Cluster(name, index) => {
            let Some(cluster) = kubeconfig.clusters.iter().find(|cluster| cluster.name == name) else { return };
            material(case, row, &cluster.authority, index, "CA certificate");
            if index == 0 {
                trust(case, row, cluster);
            }
        }
        _ => {}
    }
}

fn remake(case: &Case<'_, '_>, row: usize) -> String {
    match case.rows[row].id() {
        Some(id) => case.command(&format!("create-certs --only {id} --force")),
        None => "kubectl config view --kubeconfig FILE shows the place; mend it by hand".to_owned(),
    }
}

/// Embedded data or a referenced file that cannot be read.
fn material(case: &mut Case<'_, '_>, row: usize, material: &Material, index: usize, what: &str) {
    let remedy = remake(case, row);
    match &material.content {
        Some(Err(reason)) if reason.ends_with("does not exist") => {
            case.add(row, FindingId::FileMissing, format!("the {what}: {reason}"), remedy);
        }
        Some(Err(reason)) => case.add(row, FindingId::FileUnreadable, format!("the {what}: {reason}"), remedy),
        Some(Ok(content)) => match content.found_certificates.get(index) {
            Some(Err(reason)) => {
                case.add(row, FindingId::FileMalformed, format!("the {what}: {reason}"), remedy);
            }
            None => {
                let message = format!("there is no whole {what} in it");
                case.add(row, FindingId::FileMalformed, message, remedy);
            }
            Some(Ok(_)) if content.damaged_blocks > 0 && index == 0 => {
                let message = format!("{} PEM blocks after the {what} cannot be read", content.damaged_blocks);
                case.add(row, FindingId::FileMalformed, message, remedy);
            }
            Some(Ok(_)) => {}
        },
        None => {}
    }
}

/// A kubeconfig of somebody: its user's certificate should come from the CA of the cluster it is sent to. That holds where
/// one CA signs servers and clients; k3s and RKE2 have two, so a CA found elsewhere is taken as well.
fn issuer(case: &mut Case<'_, '_>, row: usize, kubeconfig: &Kubeconfig, user: &str) {
    if case.rows[row].artifact.part.is_some() {
        return;
    }
    let Some(certificate) = case.rows[row].certificate else { return };
    let authorities: Vec<_> =
        kubeconfig.clusters_of(user).flat_map(|cluster| cluster.authority.certificates()).collect();
    if authorities.is_empty() || authorities.iter().any(|ca| chain::is_good(certificate, ca)) {
        return;
    }
    let two_authorities = |name: &str| ["k3s-client-ca", "rke2-client-ca"].iter().any(|start| name.contains(start));
    let elsewhere = match case.issuances[row] {
        // Another entry of the same file proves nothing about this cluster.
        Issuance::By(other) => !std::ptr::eq(case.rows[other].artifact, case.rows[row].artifact),
        _ => false,
    };
    if elsewhere || two_authorities(certificate.issuer().text()) {
        return;
    }
    let message = format!("the client certificate of `{user}` does not come from the CA of its cluster");
    let remedy = case.renew(row);
    case.add(row, FindingId::IssuerUnknown, message, remedy);
}

/// A kubeconfig of the node itself must trust the CA that lies beside it.
fn trust(case: &mut Case<'_, '_>, row: usize, cluster: &Cluster) {
    let Some(part) = case.rows[row].artifact.part.filter(|part| part.entry.keeper != Keeper::Distribution) else {
        return;
    };
    if !matches!(part.catalog, Catalog::Kubeadm | Catalog::Aks) {
        return;
    }
    let ca = case.node(row).certificate("ca");
    let Some(ca) = ca else { return };
    let mut trusted = cluster.authority.certificates().peekable();
    // The same key under the same name serves as well: a CA renewed with its key.
    let serves = |known: &crate::pki::certificate::Certificate| {
        known == ca || known.subject().der() == ca.subject().der() && known.certifies(ca.public_key())
    };
    if trusted.peek().is_some() && !trusted.any(serves) {
        let message = format!("cluster `{}` trusts another CA than the one in this node's ca.crt", cluster.name);
        let remedy = case.command(&format!("rotate-certs --only {}", part.entry.id));
        case.add(row, FindingId::ClusterTrustStale, message, remedy);
    }
}

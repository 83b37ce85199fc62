//! Does it say the right things: names its peers reach it by, usages, user and group?

use std::net::IpAddr;

use super::case::Case;
use super::finding::FindingId;
use super::row::Member;
use crate::pki::catalog::{Catalog, Kind};
use crate::pki::certificate::Certificate;
use crate::pki::san::San;
use crate::snapshot::{Kubeconfig, NodeSnapshot, Part};

/// Names by which pods reach the API server (Kubernetes: the `kubernetes` service in every cluster).
const SERVICE_NAMES: [&str; 3] = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];

/// Members of this group pass every authorizer.
const MASTERS: &str = "system:masters";

pub(super) fn check(case: &mut Case<'_, '_>) {
    for row in 0..case.rows.len() {
        if !case.rows[row].is_first() {
            continue;
        }
        let (Some(certificate), Some(part)) = (case.rows[row].certificate, case.rows[row].artifact.part) else {
            continue;
        };
        let entry = part.entry;
        // The first client certificate of a kubeconfig is the catalog's; others are somebody else's.
        let is_entry = match case.rows[row].member {
            Member::User(..) => entry.kind == Kind::Kubeconfig && case.rows[row].name == entry.id,
            _ => entry.kind == Kind::Leaf,
        };
        if !is_entry {
            continue;
        }
        usages(case, row, certificate);
        identity(case, row, certificate);
        if entry.names_node && part.catalog != Catalog::Kubelet {
            names(case, row, certificate);
        }
    }
}

fn usages(case: &mut Case<'_, '_>, row: usize, certificate: &Certificate) {
    let Some(part) = case.rows[row].artifact.part else { return };
    let lacking: Vec<String> =
        part.entry.usages.iter().filter(|usage| !certificate.allows(usage)).map(ToString::to_string).collect();
    if !lacking.is_empty() {
        let message = format!("it may not be used as {}, which {} is used as", lacking.join(" and "), part.entry.id);
        let remedy = case.command(&format!("rotate-certs --only {} --reconcile", part.entry.id));
        case.add(row, FindingId::UsageMissing, message, remedy);
    }
}

fn identity(case: &mut Case<'_, '_>, row: usize, certificate: &Certificate) {
    let Some(part) = case.rows[row].artifact.part else { return };
    let entry = part.entry;
    let name = certificate.subject().common_name().unwrap_or_default();
    let organizations = certificate.subject().organizations();
    let remedy = case.command(&format!("rotate-certs --only {} --reconcile", entry.id));
    if !entry.common_name.fits(name) {
        let message = format!("its common name is `{name}`; its peers look for {}", entry.common_name);
        case.add(row, FindingId::IdentityWrong, message, remedy.clone());
    }
    if let Some(wanted) = entry.organization.filter(|wanted| !organizations.iter().any(|own| own == wanted)) {
        case.add(row, FindingId::IdentityWrong, format!("the organization `{wanted}` is not in it"), remedy.clone());
    }
    let is_master = organizations.iter().any(|own| own == MASTERS);
    if is_master && entry.organization != Some(MASTERS) && !matches!(part.catalog, Catalog::K3s | Catalog::Rke2) {
        let message = format!("its holder is in `{MASTERS}`: no authorizer can take its rights away");
        case.add(row, FindingId::SystemMasters, message, remedy);
    }
}

/// Checked where the node itself tells what it is called: by its kubeconfigs, and by what this machine knows of itself.
fn names(case: &mut Case<'_, '_>, row: usize, certificate: &Certificate) {
    let Some(part) = case.rows[row].artifact.part else { return };
    let lacking = lacking_names(case.node(row), part, certificate);
    if let Some((_, why)) = lacking.first() {
        let names: Vec<String> = lacking.iter().map(|(name, _)| plain(name)).collect();
        let message = match names.as_slice() {
            [one] => format!("{one} is not among its names: {why}"),
            several => format!("{} are not among its names: {why}", several.join(", ")),
        };
        let names = names.join(" --add-san ");
        let remedy = case.command(&format!("rotate-certs --only {} --add-san {names}", part.entry.id));
        case.add(row, FindingId::NameMissing, message, remedy);
    }
}

/// The names that the certificate of `part` on `node` should have and does not, each with the reason.
pub fn lacking_names(node: &NodeSnapshot, part: Part, certificate: &Certificate) -> Vec<(San, String)> {
    let mut wanted: Vec<(San, String)> = Vec::new();
    let is_apiserver = matches!(part.entry.id, "apiserver" | "serving-kube-apiserver");
    if is_apiserver {
        for (host, file) in servers(node, certificate) {
            wanted.push((host, format!("{file} goes there")));
        }
        if part.catalog == Catalog::Kubeadm && is_whole(node) {
            let why = "pods reach it by that name".to_owned();
            wanted.extend(SERVICE_NAMES.map(|name| (San::Dns(name.to_owned()), why.clone())));
        }
    } else if part.entry.id == "etcd-server" && is_whole(node) {
        // Where kubeadm's API server and health checks look for the etcd beside them.
        wanted.push((San::Ip(IpAddr::from([127, 0, 0, 1])), "the API server beside it goes there".to_owned()));
    }
    let mut lacking: Vec<(San, String)> = Vec::new();
    for (name, why) in wanted {
        let covered = certificate.sans().iter().any(|own| own.covers(&name));
        if !covered && !lacking.iter().any(|(known, _)| plain(known) == plain(&name)) {
            lacking.push((name, why));
        }
    }
    let addresses = node.facts.as_ref().map(|facts| facts.addresses.as_slice()).unwrap_or_default();
    let own = |address: &IpAddr| certificate.sans().contains(&San::Ip(*address));
    if let Some(first) = addresses.first().filter(|_| !addresses.iter().any(own)) {
        lacking.push((San::Ip(*first), "it is this machine's address, and none of its others is in it".to_owned()));
    }
    lacking
}

/// The hosts to which the node's kubeconfigs of the same cluster go, with the file.
fn servers(node: &NodeSnapshot, apiserver: &Certificate) -> Vec<(San, String)> {
    let mut servers = Vec::new();
    for artifact in node.artifacts.iter().filter(|artifact| artifact.part.is_some()) {
        let found = artifact.content().and_then(|content| content.kubeconfig.as_ref());
        let Some(Ok(kubeconfig)) = found else { continue };
        for host in hosts(kubeconfig, apiserver) {
            servers.push((host, artifact.path.display().to_string()));
        }
    }
    servers
}

fn hosts<'a>(kubeconfig: &'a Kubeconfig, apiserver: &'a Certificate) -> impl Iterator<Item = San> + 'a {
    let trusts_it = |authority: &crate::snapshot::Material| {
        authority.certificates().any(|ca| crate::pki::chain::names_match(apiserver, ca))
    };
    kubeconfig
        .clusters
        .iter()
        .filter(move |cluster| !cluster.insecure_skip_tls_verify && trusts_it(&cluster.authority))
        .filter_map(|cluster| cluster.tls_server_name.clone().or_else(|| host(cluster.server.as_deref()?)))
        .filter_map(|host| San::parse(&host).ok())
}

/// The host of an `https://HOST[:PORT][/…]` address, without brackets.
pub(super) fn host(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    (!host.is_empty()).then(|| host.to_owned())
}

/// Whether a node has most of kubeadm's certificates, and not just a few files of those names.
fn is_whole(node: &NodeSnapshot) -> bool {
    let of_kubeadm = |artifact: &&crate::snapshot::Artifact| {
        let leaf = |part: crate::snapshot::Part| {
            part.catalog == Catalog::Kubeadm && part.entry.kind == Kind::Leaf && !part.is_key
        };
        artifact.part.is_some_and(leaf) && artifact.content().is_some()
    };
    node.artifacts.iter().filter(of_kubeadm).count() >= 4
}

/// A name as an operator types it.
fn plain(name: &San) -> String {
    match name {
        San::Ip(address) => address.to_string(),
        San::Dns(name) => name.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn hosts_are_taken_out_of_addresses() {
        for (url, wanted) in [
            ("https://10.0.0.1:6443", Some("10.0.0.1")),
            ("https://[fd00::1]:6443/k8s", Some("fd00::1")),
            ("https://api.example.com", Some("api.example.com")),
            ("https://", None),
            ("http://10.0.0.1", None),
            ("10.0.0.1:6443", None),
        ] {
            assert_eq!(host(url).as_deref(), wanted, "{url}");
        }
    }
}

//! `--reconcile`: what the certificates of each node should say, by the spec and what the node says about itself.
//!
//! What a spec leaves open is taken from where kubeadm once put it: kube-apiserver's manifest, the kubeconfigs, and the
//! names that the API server's certificate has for services.

use std::net::IpAddr;
use std::path::Path;

use super::sight;
use crate::cli::create_certs::spec as spec_file;
use crate::cli::target::{Extent, Target, TargetNode};
use crate::error::Failure;
use crate::pki::san::San;
use crate::pki::spec::{NodeValues, Overrides, Spec};
use crate::plan::rotate::Wanted;
use crate::plan::rotate::reach;
use crate::snapshot::{NodeSnapshot, Snapshot};

/// What every certificate of the target should say.
///
/// # Errors
/// Exit code 2 when the spec makes no sense, or a node has no name or address to put into it.
pub(super) fn wanted(file: Option<&Path>, target: &Target, snapshot: &Snapshot) -> anyhow::Result<Vec<Wanted>> {
    let base = spec_file::base(file, None, target.cluster.as_ref())?;
    let mut wanted = Vec::new();
    for (node, found) in target.nodes.iter().zip(&snapshot.nodes) {
        let manifest = sight::apiserver_manifest(node)?;
        let said = reach::api_server(manifest.as_deref().unwrap_or_default());
        let overrides = overrides(&base, target, found, &said);
        let fault = |error| spec_file::failure(&error, file);
        let spec = base.clone().with(overrides).map_err(fault)?;
        let values = values(&spec, target, node, found, &said)?;
        let mut push = |name: &str, leaf: crate::pki::spec::ResolvedLeaf| {
            let node = found.name.clone();
            wanted.push(Wanted {
                node,
                name: name.to_owned(),
                subject: leaf.subject,
                sans: leaf.sans,
                usages: leaf.usages,
            });
        };
        for entry in &spec.certificates {
            push(&entry.name, spec.resolve_leaf(entry, &values).map_err(fault)?);
        }
        for entry in &spec.kubeconfigs {
            push(&entry.name, spec.resolve_kubeconfig(entry, &values).map_err(fault)?.client);
        }
    }
    Ok(wanted)
}

/// What the spec leaves open and the node tells.
fn overrides(spec: &Spec, target: &Target, node: &NodeSnapshot, said: &reach::ApiServer<'_>) -> Overrides {
    let cluster = &spec.cluster;
    let of_file = target.cluster.as_ref().and_then(|file| file.spec.control_plane_endpoint.clone());
    let endpoint = of_file.or_else(|| endpoint(node)).filter(|_| cluster.control_plane_endpoint.is_none());
    let subnet = said.service_subnet.map(str::to_owned).or_else(|| service_subnet(node, said));
    let subnet = subnet.filter(|_| cluster.service_subnet.is_none());
    let domain = dns_domain(node).filter(|_| cluster.dns_domain.is_none());
    Overrides { control_plane_endpoint: endpoint, service_subnet: subnet, dns_domain: domain, ..Overrides::default() }
}

/// The control plane endpoint: where `admin.conf` goes, if the node's own components go elsewhere.
fn endpoint(node: &NodeSnapshot) -> Option<String> {
    let server = |id: &str| {
        let kubeconfig = node.entry(id)?.content()?.kubeconfig.as_ref()?.as_ref().ok()?;
        let url = kubeconfig.clusters.first()?.server.as_deref()?;
        Some(url.strip_prefix("https://")?.trim_end_matches('/').to_owned())
    };
    let (shared, own) = (server("admin.conf")?, server("controller-manager.conf")?);
    (shared != own).then_some(shared)
}

/// A network of services that fits the API server's certificate: its first address is one of those in there, and is not the
/// node's own.
fn service_subnet(node: &NodeSnapshot, said: &reach::ApiServer<'_>) -> Option<String> {
    let own = reach::servers_of(node, &["controller-manager.conf", "admin.conf"]);
    node.certificate("apiserver")?.sans().iter().find_map(|san| match san {
        San::Ip(IpAddr::V4(address)) if address.octets()[3] == 1 => {
            let text = address.to_string();
            let is_own = said.advertise_address == Some(&text) || own.iter().any(|(_, host)| *host == text);
            let [a, b, c, _] = address.octets();
            (!is_own && !address.is_loopback()).then(|| format!("{a}.{b}.{c}.0/24"))
        }
        _ => None,
    })
}

/// The domain of services, from the API server's name within it.
fn dns_domain(node: &NodeSnapshot) -> Option<String> {
    node.certificate("apiserver")?.sans().iter().find_map(|san| match san {
        San::Dns(name) => name.strip_prefix("kubernetes.default.svc.").map(str::to_owned),
        _ => None,
    })
}

/// The address in the certificate of the node's etcd member, which has none but its own.
fn member_address(node: &NodeSnapshot) -> Option<IpAddr> {
    node.certificate("etcd-server")?.sans().iter().find_map(|san| match san {
        San::Ip(address) if !address.is_loopback() => Some(*address),
        _ => None,
    })
}

fn values(
    spec: &Spec,
    target: &Target,
    node: &TargetNode,
    found: &NodeSnapshot,
    said: &reach::ApiServer<'_>,
) -> anyhow::Result<NodeValues> {
    let is_listed = matches!(target.extent, Extent::WholeCluster | Extent::PartOfCluster);
    let listed = || is_listed.then(|| node.node.name().to_owned());
    let member = || found.certificate("etcd-server")?.subject().common_name().map(str::to_owned);
    let host = || found.facts.as_ref().map(|facts| facts.host_name.to_lowercase());
    let name = spec.node.name.as_ref().map(ToString::to_string).or_else(listed);
    let name = name.or_else(|| reach::node_name(found).map(str::to_owned)).or_else(member).or_else(host);
    let own = || reach::servers_of(found, &["controller-manager.conf", "scheduler.conf"]).into_iter().next();
    let address = spec.node.address.as_ref().map(ToString::to_string);
    let address = address.or_else(|| said.advertise_address.map(str::to_owned)).or_else(|| own().map(|(_, host)| host));
    let address = address.and_then(|text| text.parse::<IpAddr>().ok());
    let address =
        address.or_else(|| member_address(found)).or_else(|| found.facts.as_ref()?.addresses.first().copied());
    match (name, address) {
        (Some(name), Some(address)) => Ok(NodeValues { name, address }),
        _ => Err(Failure::usage(format!("node {}: its name and address are not known", found.name))
            .hint("give a spec that says `node: {name: …, address: …}` with --spec")
            .into()),
    }
}

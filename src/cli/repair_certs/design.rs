//! What a node should have: the spec of its cluster with what the node, its neighbours and its manifests tell. Much of that
//! may be gone, so every question has several who can answer it.

use std::net::IpAddr;

use crate::cli::create_certs::spec as spec_file;
use crate::cli::target::{Extent, Target, TargetNode};
use crate::pki::san::San;
use crate::pki::spec::{NodeValues, Overrides, Spec};
use crate::plan::repair::Design;
use crate::plan::restart::Manifest;
use crate::plan::rotate::reach;
use crate::snapshot::{NodeSnapshot, Snapshot};

/// The design of one node.
pub(super) fn of(node: &TargetNode, target: &Target, snapshot: &Snapshot, manifests: &[Manifest]) -> Design {
    let name = node.node.name();
    let pods = manifests.iter().filter(|manifest| manifest.node == name);
    let mut design = Design {
        node: name.to_owned(),
        role: node.role,
        name: None,
        leaves: Vec::new(),
        kubeconfigs: Vec::new(),
        kubelet_server: None,
        kubernetes_dir: node.layout.kubernetes_dir.clone(),
        pki_dir: node.layout.pki_dir.clone(),
        kubelet_dir: node.layout.kubelet_dir.clone(),
        pods: pods.map(|manifest| manifest.component.clone()).collect(),
        trouble: None,
    };
    let manifest = manifests.iter().find(|one| one.node == name && one.component == "kube-apiserver");
    let said = reach::api_server(manifest.map_or("", |manifest| manifest.text.as_str()));
    let Some(found) = snapshot.node(name) else { return design };
    design.name = node_name(node, target, found);
    let shared = endpoint(target, snapshot, manifests);
    design.kubelet_server = shared.as_ref().map(|endpoint| format!("https://{}", with_port(endpoint)));
    match filled(&mut design, node, target, (snapshot, found), &said, shared) {
        Ok(()) => {}
        Err(reason) => design.trouble = Some(reason),
    }
    design
}

fn filled(
    design: &mut Design,
    node: &TargetNode,
    target: &Target,
    (snapshot, found): (&Snapshot, &NodeSnapshot),
    said: &reach::ApiServer<'_>,
    endpoint: Option<String>,
) -> Result<(), String> {
    let base = spec_file::base(None, None, target.cluster.as_ref()).map_err(|error| format!("{error:#}"))?;
    let subnet = said.service_subnet.map(str::to_owned).or_else(|| service_subnet(snapshot));
    let overrides = Overrides {
        control_plane_endpoint: endpoint.filter(|_| base.cluster.control_plane_endpoint.is_none()),
        service_subnet: subnet.filter(|_| base.cluster.service_subnet.is_none()),
        dns_domain: dns_domain(snapshot).filter(|_| base.cluster.dns_domain.is_none()),
        ..Overrides::default()
    };
    let spec: Spec = base.with(overrides).map_err(|error| error.message)?;
    let name = design.name.clone().ok_or("the node's name is not known")?;
    let address = address(node, target, found, said).ok_or("the node's address is not known")?;
    let values = NodeValues { name, address };
    for entry in &spec.certificates {
        let leaf = spec.resolve_leaf(entry, &values).map_err(|error| error.message)?;
        design.leaves.push((entry.name.to_string(), entry.issuer.to_string(), leaf));
    }
    for entry in &spec.kubeconfigs {
        let kubeconfig = spec.resolve_kubeconfig(entry, &values).map_err(|error| error.message)?;
        if entry.name.to_string() == "admin.conf" && design.kubelet_server.is_none() {
            design.kubelet_server = Some(kubeconfig.server.clone());
        }
        design.kubeconfigs.push((entry.name.to_string(), kubeconfig));
    }
    Ok(())
}

/// The name of a node in its cluster.
fn node_name(node: &TargetNode, target: &Target, found: &NodeSnapshot) -> Option<String> {
    if matches!(target.extent, Extent::WholeCluster | Extent::PartOfCluster) {
        return Some(node.node.name().to_owned());
    }
    let member = || found.certificate("etcd-server")?.subject().common_name().map(str::to_owned);
    let host = || node.node.facts().ok().map(|facts| facts.host_name.trim().to_lowercase());
    let kubelets = reach::node_name(found).map(str::to_owned);
    kubelets.or_else(member).or_else(host).filter(|name| !name.is_empty())
}

/// The address at which a node's components are reached.
fn address(node: &TargetNode, target: &Target, found: &NodeSnapshot, said: &reach::ApiServer<'_>) -> Option<IpAddr> {
    let parse = |text: &str| text.parse::<IpAddr>().ok();
    let own = || reach::servers_of(found, &["controller-manager.conf", "scheduler.conf"]);
    let listed = || {
        let nodes = target.cluster.as_ref().map(|cluster| cluster.spec.nodes.as_slice()).unwrap_or_default();
        nodes.iter().find(|listed| listed.name == node.node.name()).and_then(|listed| parse(&listed.host))
    };
    let member = |or_loopback: bool| {
        let sans = found.certificate("etcd-server").or_else(|| found.certificate("etcd-peer"))?.sans();
        sans.iter().find_map(|san| match san {
            San::Ip(address) if or_loopback || !address.is_loopback() => Some(*address),
            _ => None,
        })
    };
    said.advertise_address
        .and_then(parse)
        .or_else(|| own().iter().find_map(|(_, host)| parse(host)))
        .or_else(listed)
        .or_else(|| member(false))
        .or_else(|| found.facts.as_ref()?.addresses.first().copied())
        .or_else(|| member(true))
}

/// Where everybody but the control plane's own components reaches the API: `HOST[:PORT]`.
fn endpoint(target: &Target, snapshot: &Snapshot, manifests: &[Manifest]) -> Option<String> {
    if let Some(declared) = target.cluster.as_ref().and_then(|file| file.spec.control_plane_endpoint.clone()) {
        return Some(declared);
    }
    let server = |node: &NodeSnapshot, id: &str| {
        let kubeconfig = node.entry(id)?.content()?.kubeconfig.as_ref()?.as_ref().ok()?;
        let url = kubeconfig.clusters.first()?.server.as_deref()?;
        Some(url.strip_prefix("https://")?.trim_end_matches('/').to_owned())
    };
    let advertised = manifests.iter().filter(|one| one.component == "kube-apiserver");
    let mut own: Vec<String> = advertised
        .filter_map(|one| reach::api_server(&one.text).advertise_address.map(|address| format!("{address}:6443")))
        .collect();
    for node in &snapshot.nodes {
        own.extend(["controller-manager.conf", "scheduler.conf"].iter().filter_map(|id| server(node, id)));
    }
    let shared = snapshot
        .nodes
        .iter()
        .flat_map(|node| ["admin.conf", "super-admin.conf", "kubelet.conf"].map(|id| server(node, id)))
        .flatten();
    shared.into_iter().find(|endpoint| !own.contains(endpoint))
}

fn with_port(endpoint: &str) -> String {
    let has_port = endpoint.rsplit_once(':').is_some_and(|(host, port)| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port { endpoint.to_owned() } else { format!("{endpoint}:6443") }
}

/// A network of services that fits some API server's certificate: its first address is in there and is no node's own.
fn service_subnet(snapshot: &Snapshot) -> Option<String> {
    let own: Vec<String> = snapshot
        .nodes
        .iter()
        .flat_map(|node| reach::servers_of(node, &["controller-manager.conf", "scheduler.conf", "admin.conf"]))
        .map(|(_, host)| host)
        .collect();
    let servers = snapshot.nodes.iter().filter_map(|node| node.certificate("apiserver"));
    servers.flat_map(|server| server.sans()).find_map(|san| match san {
        San::Ip(IpAddr::V4(address)) if address.octets()[3] == 1 && !address.is_loopback() => {
            let [a, b, c, _] = address.octets();
            (!own.contains(&address.to_string())).then(|| format!("{a}.{b}.{c}.0/24"))
        }
        _ => None,
    })
}

/// The domain of services, from an API server's name within it.
fn dns_domain(snapshot: &Snapshot) -> Option<String> {
    let servers = snapshot.nodes.iter().filter_map(|node| node.certificate("apiserver"));
    servers.flat_map(|server| server.sans()).find_map(|san| match san {
        San::Dns(name) => name.strip_prefix("kubernetes.default.svc.").map(str::to_owned),
        _ => None,
    })
}

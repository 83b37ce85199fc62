//! How much of a cluster can be seen from one machine: signs of other nodes, which would be cut off if authorities or
//! token keys changed here only.
//!
//! The signs are kubeadm's: the members in etcd's manifest, etcd servers elsewhere, and an API server address that is not
//! this node's. What etcd's own data says about nodes is in `etcd_data`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::request::Reach;
use crate::error::Failure;
use crate::pki::catalog::Catalog;
use crate::pki::component::flag;
use crate::snapshot::NodeSnapshot;

/// What a machine says about its cluster besides certificates.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Text of the static pod manifest of etcd.
    pub etcd_manifest: Option<String>,
    /// Text of the static pod manifest of kube-apiserver.
    pub apiserver_manifest: Option<String>,
    /// Names of the nodes registered in etcd's data, if it could be read.
    pub registered_nodes: Vec<String>,
    /// Names or addresses of the members in etcd's data, if it could be read.
    pub etcd_members: Vec<String>,
    /// Why etcd's data could not be read although it is there.
    pub doubt: Option<String>,
    /// Whether the addresses among the machine's facts are those of the node: not so for a mounted disk.
    pub is_this_machine: bool,
}

/// Signs of other nodes on the machine that `node` was taken of, in words. None where no cluster runs: files alone do not
/// make a node.
pub fn signs(node: &NodeSnapshot, around: &Surroundings) -> Vec<String> {
    let has_kubelet = node.catalogs.iter().any(|(catalog, _)| *catalog == Catalog::Kubelet);
    let runs = has_kubelet || around.etcd_manifest.is_some() || around.apiserver_manifest.is_some();
    if !runs && around.registered_nodes.is_empty() {
        return Vec::new();
    }
    let mut signs = Vec::new();
    let members = members(around.etcd_manifest.as_deref().unwrap_or_default());
    if members.len() > 1 {
        signs.push(format!("etcd's manifest names the members {}", members.join(", ")));
    }
    let servers: Vec<String> = flag(around.apiserver_manifest.as_deref().unwrap_or_default(), "--etcd-servers")
        .map(|list| list.split(',').map(str::to_owned).collect())
        .unwrap_or_default();
    if servers.len() > 1 {
        signs.push(format!("kube-apiserver uses etcd at {}", servers.join(", ")));
    }
    if around.etcd_members.len() > 1 {
        signs.push(format!("etcd's data names the members {}", around.etcd_members.join(", ")));
    }
    let own = own_names(node, around);
    let strangers: Vec<&str> =
        around.registered_nodes.iter().map(String::as_str).filter(|name| !own.contains(&name.to_lowercase())).collect();
    if around.registered_nodes.len() > 1 && !strangers.is_empty() {
        signs.push(format!("etcd's data names the nodes {}", around.registered_nodes.join(", ")));
    }
    for (name, host) in servers_of(node, &["admin.conf", "kubelet.conf"]) {
        if !is_own(&host, &own) {
            signs.push(format!("{name} reaches the API server at {host}, which is not an address of this node"));
            break;
        }
    }
    signs
}

/// Refuses to replace what all nodes share when only some of them can be seen.
pub fn refuse_partial(reach: &Reach, what: &[String]) -> Result<(), Failure> {
    if !reach.is_live || reach.others.is_empty() || what.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "replacing {} here alone would cut off the other nodes of the cluster: {}",
        what.join(", "),
        reach.others.join("; ")
    ))
    .hint("give all nodes with --cluster-file FILE, or renew only what is this node's own with --only leaf"))
}

/// Where etcd keeps its data, by its manifest.
pub fn data_folder(manifest: &str) -> Option<&str> {
    flag(manifest, "--data-dir")
}

/// What kube-apiserver's manifest says about the names in its certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiServer<'a> {
    /// `--advertise-address`.
    pub advertise_address: Option<&'a str>,
    /// `--service-cluster-ip-range`.
    pub service_subnet: Option<&'a str>,
}

/// Reads kube-apiserver's manifest.
pub fn api_server(manifest: &str) -> ApiServer<'_> {
    ApiServer {
        advertise_address: flag(manifest, "--advertise-address"),
        service_subnet: flag(manifest, "--service-cluster-ip-range"),
    }
}

/// The names in `--initial-cluster`, or the addresses where one has no name.
fn members(manifest: &str) -> Vec<String> {
    let Some(list) = flag(manifest, "--initial-cluster") else { return Vec::new() };
    let names: BTreeSet<&str> = list.split(',').filter_map(|member| member.split('=').next()).collect();
    names.into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Names and addresses under which this node can be meant, lower case.
fn own_names(node: &NodeSnapshot, around: &Surroundings) -> BTreeSet<String> {
    let mut own: BTreeSet<String> = BTreeSet::new();
    let manifest = around.apiserver_manifest.as_deref().unwrap_or_default();
    own.extend(flag(manifest, "--advertise-address").map(str::to_lowercase));
    // kubeadm points these two at the API server of their own node, whatever the cluster's endpoint is.
    own.extend(servers_of(node, &["controller-manager.conf", "scheduler.conf"]).into_iter().map(|(_, host)| host));
    own.extend(node_name(node).map(str::to_lowercase));
    if let Some(facts) = node.facts.as_ref().filter(|_| around.is_this_machine) {
        own.insert(facts.host_name.to_lowercase());
        own.extend(facts.addresses.iter().map(ToString::to_string));
    }
    own
}

/// The node's name in its cluster, by the kubelet's client certificate.
pub fn node_name(node: &NodeSnapshot) -> Option<&str> {
    let mut kubelet = ["kubelet-client", "kubelet.conf"].iter();
    let certificate = kubelet.find_map(|id| node.certificate(id).or_else(|| client(node, id)))?;
    certificate.subject().common_name()?.strip_prefix("system:node:")
}

fn client<'a>(node: &'a NodeSnapshot, id: &str) -> Option<&'a crate::pki::certificate::Certificate> {
    let kubeconfig = node.entry(id)?.content()?.kubeconfig.as_ref()?.as_ref().ok()?;
    kubeconfig.current_user()?.certificate.certificates().next()
}

fn is_own(host: &str, own: &BTreeSet<String>) -> bool {
    let is_loopback = host.parse::<IpAddr>().map_or(host == "localhost", |address| address.is_loopback());
    is_loopback || own.contains(host)
}

/// The hosts in the `server` fields of those kubeconfigs, lower case, with the kubeconfig's name.
pub fn servers_of(node: &NodeSnapshot, ids: &[&str]) -> Vec<(String, String)> {
    let kubeconfigs = ids.iter().filter_map(|id| {
        let kubeconfig = node.entry(id)?.content()?.kubeconfig.as_ref()?.as_ref().ok()?;
        Some((*id, kubeconfig))
    });
    kubeconfigs
        .flat_map(|(id, kubeconfig)| {
            let hosts = kubeconfig.clusters.iter().filter_map(|cluster| host(cluster.server.as_deref()?));
            hosts.map(move |host| (id.to_owned(), host))
        })
        .collect()
}

/// The host of a URL, lower case, IPv6 addresses without their brackets.
fn host(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(six) => six.split(']').next()?,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    (!host.is_empty()).then(|| host.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_from_a_manifest() {
        let manifest = "spec:\n  containers:\n  - command:\n    - etcd\n    - --initial-cluster-state=existing\n    \
                        - --initial-cluster=cp2=https://10.0.0.2:2380,cp1=https://10.0.0.1:2380\n";
        assert_eq!(members(manifest), ["cp1", "cp2"]);
        assert_eq!(members("    - \"--initial-cluster=cp1=https://10.0.0.1:2380\"\n"), ["cp1"]);
        assert!(members("").is_empty());
    }

    #[test]
    fn hosts_are_taken_out_of_urls() {
        assert_eq!(host("https://API.example.com:6443").as_deref(), Some("api.example.com"));
        assert_eq!(host("https://[fd00::1]:6443/path").as_deref(), Some("fd00::1"));
        assert_eq!(host("https://10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(host("https://"), None);
    }
}

//! Which machines a cluster has, as its API, its etcd or the manifest of an etcd member says.
//!
//! The API knows all nodes and their roles. etcd knows the control plane only; it is asked when the API is away.

use serde::Deserialize;
use serde_json::Value;

use super::NoAnswer;
use super::api_server::ApiServer;
use super::etcd::Member;
use super::list::PAGE;
use crate::node::probe::Endpoint;
use crate::pki::component::flag;

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The node's name in Kubernetes.
    pub name: String,
    /// Whether it runs the control plane.
    pub is_control_plane: bool,
    /// Where it is reached: its `InternalIP`, else `ExternalIP`, else `Hostname`.
    pub address: Option<String>,
}

/// What kubeadm noted about the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted {
    /// `clusterName`.
    pub name: Option<String>,
    /// `controlPlaneEndpoint`.
    pub endpoint: Option<String>,
}

impl ApiServer<'_> {
    /// Every node, in the API's order.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn machines(&self) -> Result<Vec<Machine>, NoAnswer> {
        let objects: Vec<Value> = self.list("/api/v1/nodes", PAGE)?;
        Ok(objects.iter().filter_map(machine).collect())
    }

    /// What kubeadm's config map says; nothing when there is none.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn noted_by_kubeadm(&self) -> Result<Noted, NoAnswer> {
        let texts = self.config_map("kube-system", "kubeadm-config")?.unwrap_or_default();
        Ok(texts.get("ClusterConfiguration").map(|text| noted(text)).unwrap_or_default())
    }
}

fn machine(object: &Value) -> Option<Machine> {
    let metadata = &object["metadata"];
    let has = |label: &str| metadata["labels"].get(label).is_some();
    let addresses = object["status"]["addresses"].as_array();
    let of = |kind: &str| {
        let mut all = addresses.into_iter().flatten().filter(|address| address["type"] == kind);
        all.find_map(|address| address["address"].as_str().filter(|text| !text.is_empty()))
    };
    Some(Machine {
        name: metadata["name"].as_str()?.to_owned(),
        // Clusters made before Kubernetes 1.24 have the second label.
        is_control_plane: has("node-role.kubernetes.io/control-plane") || has("node-role.kubernetes.io/master"),
        address: of("InternalIP").or_else(|| of("ExternalIP")).or_else(|| of("Hostname")).map(str::to_owned),
    })
}

/// The fields of kubeadm's `ClusterConfiguration`; everything else in it is left aside.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    cluster_name: Option<String>,
    control_plane_endpoint: Option<String>,
}

fn noted(text: &str) -> Noted {
    let options = serde_saphyr::options! { with_snippet: false };
    let read: Option<Document> = serde_saphyr::from_str_with_options(text, options).unwrap_or_default();
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let read = read.unwrap_or_default();
    Noted { name: filled(read.cluster_name), endpoint: filled(read.control_plane_endpoint) }
}

/// The machines of the members of an etcd cluster, which with kubeadm are the control-plane nodes.
pub fn of_members(members: &[Member]) -> Vec<Machine> {
    let started = members.iter().filter(|member| !member.name.is_empty());
    started.map(|member| of_member(&member.name, member.peer_urls.first().map(String::as_str))).collect()
}

/// The same by the `--initial-cluster` of a member's manifest: the members there were when it was made.
pub fn of_manifest(manifest: &str) -> Vec<Machine> {
    let list = flag(manifest, "--initial-cluster").unwrap_or_default();
    let pairs = list.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, url)| of_member(name.trim(), Some(url))).collect()
}

fn of_member(name: &str, url: Option<&str>) -> Machine {
    let address = url.and_then(|url| url.trim().parse::<Endpoint>().ok()).map(|endpoint| endpoint.host);
    Machine { name: name.to_owned(), is_control_plane: true, address }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_nodes_role_and_address_are_those_of_its_object() {
        let object = |label: &str, addresses: Value| json!({"metadata": {"name": "n", "labels": {label: ""}}, "status": {"addresses": addresses}});
        let of = |kind: &str, address: &str| json!({"type": kind, "address": address});
        let all = json!([of("Hostname", "n.local"), of("ExternalIP", "192.0.2.1"), of("InternalIP", "10.0.0.1")]);
        let read = machine(&object("node-role.kubernetes.io/control-plane", all)).expect("a node");
        assert_eq!((read.is_control_plane, read.address.as_deref()), (true, Some("10.0.0.1")));
        let read = machine(&object("x", json!([of("Hostname", "n.local"), of("InternalIP", "")]))).expect("a node");
        assert_eq!((read.is_control_plane, read.address.as_deref()), (false, Some("n.local")));
        assert_eq!(machine(&object("x", Value::Null)).expect("a node").address, None);
        assert_eq!(machine(&json!({})), None);
    }

    #[test]
    fn kubeadms_note_is_read_and_what_is_none_is_nothing() {
        let text =
            "apiVersion: kubeadm.k8s.io/v1beta4\nclusterName: lab\ncontrolPlaneEndpoint: 10.0.0.1:6443\netcd: {}\n";
        let read = noted(text);
        assert_eq!((read.name.as_deref(), read.endpoint.as_deref()), (Some("lab"), Some("10.0.0.1:6443")));
        for text in ["", "controlPlaneEndpoint: ''", "[", "a: {"] {
            assert_eq!(noted(text), Noted::default(), "{text}");
        }
    }

    #[test]
    fn members_of_etcd_are_control_plane_nodes() {
        let manifest = "    - --initial-cluster=cp2=https://10.0.0.2:2380,cp1=https://[fd00::1]:2380\n    \
                        - --initial-cluster-state=existing\n";
        let found = of_manifest(manifest);
        let shown: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.address.as_deref())).collect();
        assert_eq!(shown, [("cp2", Some("10.0.0.2")), ("cp1", Some("fd00::1"))]);
        assert!(found.iter().all(|one| one.is_control_plane));
        assert_eq!(of_manifest("kind: Pod"), []);
    }
}

//! What a cluster's API says that a rotation has to know: who somebody is, whether nodes are ready, whose lease it is,
//! and notes kept in config maps.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::NoAnswer;
use super::api_server::{ApiServer, Patch, segment};
use super::list::PAGE;

/// Whom the API server takes somebody for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As `kubernetes-admin`; `system:anonymous` for nobody in particular.
    pub name: String,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// Which certificate or token it was, as `X509SHA256=…` or `JTI=…`; from Kubernetes 1.33 on.
    pub credential_id: Option<String>,
}

impl User {
    /// Whether nobody was recognised.
    pub fn is_anonymous(&self) -> bool {
        self.name == "system:anonymous"
    }
}

/// What a node's object says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Whether the condition `Ready` is `True`.
    pub ready: bool,
    /// Why not, or the kubelet's own sentence.
    pub message: String,
    /// The kubelet's version, as `v1.36.2`.
    pub kubelet_version: Option<String>,
    /// `InternalIP` addresses.
    pub addresses: Vec<String>,
}

/// Who leads, or lives, and when that was last confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// `holderIdentity`; a component's is `NODE_UUID` and changes with every start.
    pub holder: Option<String>,
    /// `renewTime`.
    pub renewed_at: Option<OffsetDateTime>,
    /// How often the holder has changed.
    pub transitions: u64,
}

/// Namespace of the leases of nodes.
pub const NODE_LEASES: &str = "kube-node-lease";

/// Namespace of the leases of kube-controller-manager and kube-scheduler.
pub const COMPONENT_LEASES: &str = "kube-system";

impl ApiServer<'_> {
    /// Whom the server takes the credential for (SelfSubjectReview, Kubernetes 1.28 and later).
    ///
    /// # Errors
    /// When the server does not say; [`NoAnswer::is_unauthenticated`] when it does not know.
    pub fn who_am_i(&self) -> Result<User, NoAnswer> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let answer = self.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review)?;
        user(&answer)
    }

    /// One node's state.
    ///
    /// # Errors
    /// When the server does not say, or has no such node.
    pub fn node(&self, name: &str) -> Result<NodeStatus, NoAnswer> {
        Ok(node_status(&self.get(&format!("/api/v1/nodes/{}", segment(name)))?))
    }

    /// The state of every node.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn nodes(&self) -> Result<Vec<NodeStatus>, NoAnswer> {
        let objects: Vec<Value> = self.list("/api/v1/nodes", PAGE)?;
        Ok(objects.iter().map(node_status).collect())
    }

    /// The names of the nodes that are Ready.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn ready_nodes(&self) -> Result<BTreeSet<String>, NoAnswer> {
        Ok(self.nodes()?.into_iter().filter(|node| node.ready).map(|node| node.name).collect())
    }

    /// A lease: a node's ([`NODE_LEASES`]) or a component's ([`COMPONENT_LEASES`]).
    ///
    /// # Errors
    /// When the server does not say, or has no such lease.
    pub fn lease(&self, namespace: &str, name: &str) -> Result<Lease, NoAnswer> {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/{}", segment(namespace), segment(name));
        let spec = &self.get(&path)?["spec"];
        let renewed_at = spec["renewTime"].as_str().map(|text| OffsetDateTime::parse(text, &Rfc3339));
        Ok(Lease {
            holder: spec["holderIdentity"].as_str().filter(|name| !name.is_empty()).map(str::to_owned),
            renewed_at: renewed_at.transpose().map_err(|error| NoAnswer::Malformed(format!("renewTime: {error}")))?,
            transitions: spec["leaseTransitions"].as_u64().unwrap_or_default(),
        })
    }

    /// The texts of a config map; `None` when there is no such.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn config_map(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, String>>, NoAnswer> {
        match self.get(&config_map_path(namespace, Some(name))) {
            Ok(object) => Ok(Some(data(&object))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes these texts into a config map, which is made when it is not there; others in it stay, as does its metadata.
    ///
    /// # Errors
    /// When it is not written.
    pub fn write_config_map(
        &self,
        namespace: &str,
        name: &str,
        texts: &BTreeMap<String, String>,
    ) -> Result<(), NoAnswer> {
        let changed = self.patch(&config_map_path(namespace, Some(name)), Patch::Merge, &json!({"data": texts}));
        match changed {
            Err(error) if error.is_not_found() => {}
            other => return other.map(drop),
        }
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": texts,
        });
        match self.post(&config_map_path(namespace, None), &object) {
            // Somebody else made it in between.
            Err(error) if error.status() == Some(409) => {
                self.patch(&config_map_path(namespace, Some(name)), Patch::Merge, &json!({"data": texts})).map(drop)
            }
            other => other.map(drop),
        }
    }
}

/// The user in the answer to a SelfSubjectReview.
pub(super) fn user(answer: &Value) -> Result<User, NoAnswer> {
    let info = &answer["status"]["userInfo"];
    let name = info["username"].as_str().ok_or_else(|| NoAnswer::Malformed("no username".to_owned()))?;
    Ok(User {
        name: name.to_owned(),
        groups: texts(&info["groups"]),
        credential_id: texts(&info["extra"]["authentication.kubernetes.io/credential-id"]).into_iter().next(),
    })
}

fn config_map_path(namespace: &str, name: Option<&str>) -> String {
    let list = format!("/api/v1/namespaces/{}/configmaps", segment(namespace));
    name.map_or(list.clone(), |name| format!("{list}/{}", segment(name)))
}

fn data(object: &Value) -> BTreeMap<String, String> {
    let entries = object["data"].as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn node_status(object: &Value) -> NodeStatus {
    let status = &object["status"];
    let conditions = status["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let word = |field: &str| ready.and_then(|condition| condition[field].as_str()).unwrap_or_default();
    let addresses = status["addresses"].as_array().into_iter().flatten();
    NodeStatus {
        name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        ready: word("status") == "True",
        message: if ready.is_none() { "its kubelet has not reported".to_owned() } else { super::tidy(word("message")) },
        kubelet_version: status["nodeInfo"]["kubeletVersion"].as_str().map(str::to_owned),
        addresses: addresses
            .filter(|address| address["type"] == "InternalIP")
            .filter_map(|address| address["address"].as_str().map(str::to_owned))
            .collect(),
    }
}

/// The strings of a JSON list.
pub(super) fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

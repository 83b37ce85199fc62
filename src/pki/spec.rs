//! Certificate specs: a whole PKI as a list (`kind: CertificateSpec`), from a file or one of the built-in profiles.
//!
//! One format and one reader for both, so a profile is an example to start from. A spec says what there shall be, never
//! what there is; names that differ from node to node are templates (`{{node.name}}`). Faults carry line and column.

use serde::{Deserialize, Serialize};

use super::algorithm::KeyAlgorithm;
use super::lifetime::Lifetime;
use super::usage::ExtendedKeyUsage;

mod check;
mod read;
mod resolve;
pub mod template;
mod text;

pub use read::Overrides;
pub use resolve::{NodeValues, ResolvedAuthority, ResolvedKubeconfig, ResolvedLeaf};
pub use text::{Place, SpecError, Text};

/// Longer documents are refused (bytes); a spec of a thousand certificates is about a third of it.
pub const LARGEST: usize = 1024 * 1024;

/// `apiVersion` of every spec.
pub const API_VERSION: &str = "kubepki.io/v1";
/// `kind` of every spec.
pub const KIND: &str = "CertificateSpec";

/// A whole spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// [`API_VERSION`].
    pub api_version: Text,
    /// [`KIND`].
    pub kind: Text,
    /// What the spec is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Name of a built-in profile that this spec builds on: entries of the same name replace the profile's. Gone after
    /// reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Text>,
    /// Names of the profile's entries that are left out. Gone after reading.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Text>,
    /// What the cluster is called and how it is reached.
    #[serde(default)]
    pub cluster: Cluster,
    /// This node, where the target does not say.
    #[serde(default, skip_serializing_if = "Node::is_empty")]
    pub node: Node,
    /// What holds for every entry that does not say otherwise.
    #[serde(default)]
    pub defaults: Defaults,
    /// The CAs.
    #[serde(default)]
    pub authorities: Vec<Authority>,
    /// The certificates in files of their own.
    #[serde(default)]
    pub certificates: Vec<Leaf>,
    /// The key pairs that sign service account tokens.
    #[serde(default)]
    pub service_account_keys: Vec<KeyPair>,
    /// The kubeconfigs, each with a client certificate of its own.
    #[serde(default)]
    pub kubeconfigs: Vec<Kubeconfig>,
    /// Whether somebody asked for the key algorithm, instead of leaving it to a profile: only then a key of another kind
    /// is a difference.
    #[serde(skip)]
    pub algorithm_is_wanted: bool,
}

/// `metadata`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// For people.
    pub name: Text,
}

/// `cluster`. What is absent has kubeadm's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// Name in kubeconfigs; `kubernetes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
    /// `HOST[:PORT]` under which every node is reached; each node's own address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<Text>,
    /// Port of each API server; 6443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server_port: Option<u16>,
    /// One network, or two of different families with a comma; 10.96.0.0/12. The API server has the first address of the
    /// first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_subnet: Option<Text>,
    /// Domain of services; `cluster.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_domain: Option<Text>,
}

/// `node`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// Name of the node; the host name in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
    /// Address its components are reached at; the one of the default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Text>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.address.is_none()
    }
}

/// `defaults`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// Of every new key; rsa-2048.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<KeyAlgorithm>,
    /// Of every CA; 10y.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_validity: Option<Lifetime>,
    /// Of every other certificate; 1y.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity: Option<Lifetime>,
    /// How long before the moment of issuing a certificate begins, because clocks differ; 5m. Comes on top of the validity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backdating: Option<Lifetime>,
}

/// One of `authorities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authority {
    /// Its id, as `etcd-ca`.
    pub name: Text,
    /// File below the PKI folder without ending: `etcd/ca` is `etcd/ca.crt` and `etcd/ca.key`.
    pub path: Text,
    /// The authority that signs it; absent for a root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Text>,
    /// Common name of the subject.
    pub common_name: Text,
    /// Organizations of the subject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<Text>,
    /// Alternative names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<Text>,
    /// Instead of the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity: Option<Lifetime>,
    /// Instead of the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<KeyAlgorithm>,
}

/// One of `certificates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Leaf {
    /// Its id, as `apiserver`.
    pub name: Text,
    /// File below the PKI folder without ending, as for an [`Authority`].
    pub path: Text,
    /// The authority that signs it.
    pub issuer: Text,
    /// Common name of the subject.
    pub common_name: Text,
    /// Organizations of the subject: groups, to Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<Text>,
    /// Alternative names: `DNS`, `IP` or `URI`, told by their form or by a prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<Text>,
    /// Extended key usages.
    pub usages: Vec<ExtendedKeyUsage>,
    /// Instead of the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity: Option<Lifetime>,
    /// Instead of the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<KeyAlgorithm>,
    /// Whether automatic rotation renews it.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub managed: bool,
}

/// One of `serviceAccountKeys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyPair {
    /// Its id, as `sa`.
    pub name: Text,
    /// File below the PKI folder without ending: `sa` is `sa.key` and `sa.pub`.
    pub path: Text,
    /// Instead of the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<KeyAlgorithm>,
}

/// One of `kubeconfigs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubeconfig {
    /// Its id, as `admin.conf`.
    pub name: Text,
    /// File below the Kubernetes folder.
    pub path: Text,
    /// The authority that signs its client certificate, and whose certificate it trusts.
    pub issuer: Text,
    /// Common name of the client: the user, to Kubernetes, and the name of the user entry.
    pub common_name: Text,
    /// Organizations of the client: its groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<Text>,
    /// URL of the API server.
    pub server: Text,
    /// Instead of the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity: Option<Lifetime>,
    /// Instead of the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<KeyAlgorithm>,
    /// Whether automatic rotation renews it.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub managed: bool,
    /// Made on the first control-plane node only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub first_node_only: bool,
    /// Made only when it is asked for by name.
    #[serde(default, skip_serializing_if = "is_false")]
    pub on_demand: bool,
}

const fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
const fn is_true(value: &bool) -> bool {
    *value
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Defaults {
    /// Algorithm of new keys.
    pub fn key_algorithm(&self) -> KeyAlgorithm {
        self.key_algorithm.unwrap_or(KeyAlgorithm::Rsa2048)
    }

    /// Validity of CAs.
    pub fn ca_validity(&self) -> Lifetime {
        self.ca_validity.unwrap_or(Lifetime::days(3650))
    }

    /// Validity of other certificates.
    pub fn validity(&self) -> Lifetime {
        self.validity.unwrap_or(Lifetime::days(365))
    }

    /// How long before the moment of issuing certificates begin.
    pub fn backdating(&self) -> Lifetime {
        self.backdating.unwrap_or(Lifetime::minutes(5))
    }
}

impl Spec {
    /// The authority called `name`.
    pub fn authority(&self, name: &str) -> Option<&Authority> {
        self.authorities.iter().find(|authority| *authority.name == *name)
    }

    /// The certificate called `name`.
    pub fn certificate(&self, name: &str) -> Option<&Leaf> {
        self.certificates.iter().find(|certificate| *certificate.name == *name)
    }

    /// The kubeconfig called `name`.
    pub fn kubeconfig(&self, name: &str) -> Option<&Kubeconfig> {
        self.kubeconfigs.iter().find(|kubeconfig| *kubeconfig.name == *name)
    }

    /// Every entry's name, in the order authorities, certificates, service account keys, kubeconfigs.
    pub fn names(&self) -> impl Iterator<Item = &Text> {
        let authorities = self.authorities.iter().map(|entry| &entry.name);
        let certificates = self.certificates.iter().map(|entry| &entry.name);
        let keys = self.service_account_keys.iter().map(|entry| &entry.name);
        authorities.chain(certificates).chain(keys).chain(self.kubeconfigs.iter().map(|entry| &entry.name))
    }

    /// The spec as YAML, with every default of `cluster` and `defaults` written out.
    ///
    /// # Errors
    /// When it cannot be serialised, which is a defect.
    pub fn to_yaml(&self) -> Result<String, String> {
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(&self.explicit(), options).map_err(|error| error.to_string())
    }

    /// The spec with every default of `cluster` and `defaults` filled in; a control plane endpoint has none.
    #[must_use]
    pub fn explicit(&self) -> Self {
        let mut spec = self.clone();
        spec.cluster.name.get_or_insert_with(|| Text::from(self.cluster.name()));
        spec.cluster.api_server_port.get_or_insert_with(|| self.cluster.api_server_port());
        spec.cluster.service_subnet.get_or_insert_with(|| Text::from(self.cluster.service_subnet()));
        spec.cluster.dns_domain.get_or_insert_with(|| Text::from(self.cluster.dns_domain()));
        spec.defaults = Defaults {
            key_algorithm: Some(self.defaults.key_algorithm()),
            ca_validity: Some(self.defaults.ca_validity()),
            validity: Some(self.defaults.validity()),
            backdating: Some(self.defaults.backdating()),
        };
        spec
    }
}

impl Cluster {
    /// Name in kubeconfigs.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("kubernetes")
    }

    /// Port of each API server.
    pub fn api_server_port(&self) -> u16 {
        self.api_server_port.unwrap_or(6443)
    }

    /// The service networks.
    pub fn service_subnet(&self) -> &str {
        self.service_subnet.as_deref().unwrap_or("10.96.0.0/12")
    }

    /// Domain of services.
    pub fn dns_domain(&self) -> &str {
        self.dns_domain.as_deref().unwrap_or("cluster.local")
    }
}

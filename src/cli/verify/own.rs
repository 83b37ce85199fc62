//! What a node itself uses: its credentials, each for the servers it is there for, and the CAs its servers hang from.

use std::path::Path;

use super::super::target::TargetNode;
use super::shown::{Scope, Shown};
use crate::live::component::Component;
use crate::live::credential::{Credential, certificates};
use crate::node::{FoundState, Query};
use crate::pki::certificate::Certificate;

/// Kubeconfigs that a control-plane node may have.
const KUBECONFIGS: [&str; 5] =
    ["admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf"];

/// Client certificates below the PKI folder, whom they are for, and whom they trust.
const PAIRS: [(&str, Component, &str); 3] = [
    ("apiserver-kubelet-client", Component::Kubelet, "ca.crt"),
    ("apiserver-etcd-client", Component::Etcd, "etcd/ca.crt"),
    ("etcd/healthcheck-client", Component::Etcd, "etcd/ca.crt"),
];

/// Every credential the node has for servers of its own.
pub(super) fn credentials(node: &TargetNode, kubernetes: &Path) -> Vec<Shown> {
    let kubeconfigs = KUBECONFIGS.map(|name| kubernetes.join(name));
    let stems = PAIRS.map(|(name, _, _)| node.layout.pki_dir.join(name));
    let certificates = stems.clone().map(|stem| stem.with_extension("crt"));
    let queries: Vec<Query> = kubeconfigs.iter().chain(&certificates).cloned().map(Query::Metadata).collect();
    let found = node.node.read(&queries).unwrap_or_default();
    let is_there =
        |path: &Path| found.iter().any(|found| found.path == path && !matches!(found.state, FoundState::Missing));
    let mut shown = Vec::new();
    for path in kubeconfigs.iter().filter(|path| is_there(path)) {
        shown.push(Shown {
            name: path.display().to_string(),
            expected: true,
            credential: Credential::read(&*node.node, path),
            scope: Scope::Only(vec![Component::ApiServer]),
        });
    }
    for (index, (_, component, trusted)) in PAIRS.into_iter().enumerate() {
        if is_there(&certificates[index]) {
            shown.push(Shown {
                name: certificates[index].display().to_string(),
                expected: true,
                credential: Credential::read_pair(&*node.node, &stems[index], &node.layout.pki_dir.join(trusted)),
                scope: Scope::Only(vec![component]),
            });
        }
    }
    // On a worker nothing but the kubelet's own credential knows a server; its kubelet is asked with it.
    if shown.iter().all(|shown| matches!(&shown.scope, Scope::Only(only) if only == &[Component::ApiServer])) {
        for shown in &mut shown {
            shown.scope = Scope::Only(vec![Component::ApiServer, Component::Kubelet]);
        }
    }
    shown
}

/// The CA certificates (DER) that the servers of a node hang from.
#[derive(Default)]
pub(super) struct Trusted {
    cluster: Vec<Vec<u8>>,
    etcd: Vec<Vec<u8>>,
}

impl Trusted {
    /// Reads them; none where there are none.
    pub(super) fn read(node: &TargetNode) -> Self {
        let files = ["ca.crt", "etcd/ca.crt"].map(|name| node.layout.pki_dir.join(name));
        let found = node.node.read(&files.clone().map(Query::File)).unwrap_or_default();
        let of = |path: &Path| {
            let content = found.iter().find(|found| found.path == path).map(|found| &found.state);
            if let Some(FoundState::File(content)) = content { certificates(content) } else { Vec::new() }
        };
        let [cluster, etcd] = files;
        Self { cluster: of(&cluster), etcd: of(&etcd) }
    }

    fn of(&self, component: Component) -> &[Vec<u8>] {
        match component {
            // With some profiles one CA signs everything.
            Component::Etcd if !self.etcd.is_empty() => &self.etcd,
            _ => &self.cluster,
        }
    }

    /// The credential with what is missing of it: certificates alone trust nobody, and one that must be refused has to be
    /// shown to the right server also after that has another CA.
    pub(super) fn completed(&self, credential: &Credential, expected: bool, component: Component) -> Credential {
        let credential = credential.clone();
        if expected && !credential.authorities.is_empty() {
            return credential;
        }
        credential.trusting(self.of(component).iter().cloned())
    }

    /// Whether a credential looks made for a component: by the name of its issuer, which CAs keep when they are replaced.
    pub(super) fn is_for(&self, credential: &Credential, component: Component) -> bool {
        let Some(identity) = &credential.identity else { return component == Component::ApiServer };
        let issuer = identity.chain.first().and_then(|der| Certificate::from_der(der).ok());
        let Some(issuer) = issuer.map(|leaf| leaf.issuer().clone()) else { return true };
        let signs = |authorities: &[Vec<u8>]| {
            authorities
                .iter()
                .filter_map(|der| Certificate::from_der(der).ok())
                .any(|authority| authority.subject() == &issuer)
        };
        let is_cluster = signs(&self.cluster);
        let is_etcd = signs(&self.etcd) || (self.etcd.is_empty() && is_cluster);
        // A kubeconfig is for API servers, whoever signed what is in it.
        let is_kubeconfig = credential.server.is_some();
        match component {
            Component::Etcd => is_etcd || !(is_cluster || is_kubeconfig),
            _ => is_cluster || is_kubeconfig || !is_etcd,
        }
    }
}

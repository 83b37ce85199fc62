//! A kubeadm node's files without kubeadm: made in memory, quickly, with elliptic curves, at a fixed time.
//!
//! A story changes one thing about a healthy node before the files are written.

use std::collections::BTreeMap;

use base64::Engine as _;
use kubepki::pki::algorithm::KeyAlgorithm;
use kubepki::pki::certificate::Certificate;
use kubepki::pki::issue::{Issuer, Template};
use kubepki::pki::name::Name;
use kubepki::pki::private_key::PrivateKey;
use kubepki::pki::san::San;
use kubepki::pki::usage::ExtendedKeyUsage;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::root::TestRoot;

/// When the node's certificates were issued.
pub const ISSUED: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);
/// A moment at which everything is fine: a month later.
pub const NOW: OffsetDateTime = datetime!(2026-02-01 00:00 UTC);

/// A certificate and its key.
pub struct Pair {
    pub certificate: Certificate,
    pub key: PrivateKey,
}

impl Pair {
    /// A root authority, ten years from [`ISSUED`].
    pub fn authority(common_name: &str) -> Self {
        Self::authority_until(common_name, ISSUED + Duration::days(3650))
    }

    /// A root authority that ends at `end`.
    pub fn authority_until(common_name: &str, end: OffsetDateTime) -> Self {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let sans = [San::Dns(common_name.into())];
        let template = Template::authority(Name::new(common_name, &[]), &sans, key.public_key(), (ISSUED, end));
        Self { certificate: template.self_sign(&key).unwrap(), key }
    }

    /// What `change` makes of a leaf for a year from [`ISSUED`], signed by this authority.
    pub fn issue_with(
        &self,
        common_name: &str,
        organizations: &[&str],
        usages: &[ExtendedKeyUsage],
        sans: &[San],
        change: impl FnOnce(&mut Template),
    ) -> Self {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let organizations: Vec<String> = organizations.iter().map(ToString::to_string).collect();
        let validity = (ISSUED, ISSUED + Duration::days(365));
        let subject = Name::new(common_name, &organizations);
        let mut template = Template::leaf(subject, usages, sans, key.public_key(), validity);
        change(&mut template);
        let issuer = Issuer { certificate: &self.certificate, key: &self.key };
        Self { certificate: template.sign(issuer).unwrap(), key }
    }

    /// A leaf for a year from [`ISSUED`].
    pub fn issue(&self, name: &str, organizations: &[&str], usages: &[ExtendedKeyUsage], sans: &[San]) -> Self {
        self.issue_with(name, organizations, usages, sans, |_| {})
    }

    /// The certificate as PEM.
    pub fn crt(&self) -> String {
        self.certificate.to_pem()
    }

    /// The key as PEM.
    pub fn pem_key(&self) -> String {
        self.key.to_pem().to_string()
    }
}

/// `serverAuth`.
pub const SERVER: &[ExtendedKeyUsage] = &[ExtendedKeyUsage::ServerAuth];
/// `clientAuth`.
pub const CLIENT: &[ExtendedKeyUsage] = &[ExtendedKeyUsage::ClientAuth];
/// Both.
pub const BOTH: &[ExtendedKeyUsage] = &[ExtendedKeyUsage::ServerAuth, ExtendedKeyUsage::ClientAuth];

/// Content and mode by absolute path.
pub type Files = BTreeMap<String, (String, u32)>;

/// Where all of a cluster's API servers are reached.
pub const ENDPOINT: &str = "10.0.0.1";

/// Names of the first node's API server.
pub fn apiserver_sans() -> Vec<San> {
    apiserver_sans_of("cp1", ENDPOINT)
}

/// Names of an API server.
pub fn apiserver_sans_of(node: &str, address: &str) -> Vec<San> {
    let names = [node, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1", address, ENDPOINT];
    let mut sans: Vec<San> = names.iter().map(|name| San::parse(name).unwrap()).collect();
    sans.dedup();
    sans
}

/// Names of the first etcd member.
pub fn etcd_sans() -> Vec<San> {
    etcd_sans_of("cp1", ENDPOINT)
}

/// Names of an etcd member.
pub fn etcd_sans_of(node: &str, address: &str) -> Vec<San> {
    [node, "localhost", address, "127.0.0.1", "::1"].iter().map(|name| San::parse(name).unwrap()).collect()
}

/// The files of one healthy control-plane node, and the authorities behind them.
pub struct Cluster {
    pub ca: Pair,
    pub front_proxy_ca: Pair,
    pub etcd_ca: Pair,
    /// What signs tokens.
    pub sa: PrivateKey,
    /// Content and mode by absolute path.
    pub files: Files,
}

impl Cluster {
    /// Everything kubeadm makes on the first control-plane node, and the kubelet after it.
    pub fn healthy() -> Self {
        let (ca, front_proxy_ca, etcd_ca) =
            (Pair::authority("kubernetes"), Pair::authority("front-proxy-ca"), Pair::authority("etcd-ca"));
        let sa = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let mut cluster = Self { ca, front_proxy_ca, etcd_ca, sa, files: Files::new() };
        cluster.files = cluster.control_plane("cp1", ENDPOINT);
        let client = cluster.ca.issue("kubernetes-super-admin", &["system:masters"], CLIENT, &[]);
        let text = kubeconfig("kubernetes-super-admin", &cluster.ca.crt(), &embedded(&client));
        cluster.put("/etc/kubernetes/super-admin.conf", text, 0o600);
        cluster
    }

    /// Everything kubeadm makes on a control-plane node that joins, and the kubelet after it.
    pub fn control_plane(&self, node: &str, address: &str) -> Files {
        let mut files = self.worker(node);
        for (name, authority) in
            [("ca", &self.ca), ("front-proxy-ca", &self.front_proxy_ca), ("etcd/ca", &self.etcd_ca)]
        {
            put_pair(&mut files, name, authority);
        }
        let (etcd, own) = (etcd_sans_of(node, address), apiserver_sans_of(node, address));
        for (name, leaf) in [
            ("apiserver", self.ca.issue("kube-apiserver", &[], SERVER, &own)),
            ("apiserver-kubelet-client", self.ca.issue("kube-apiserver-kubelet-client", &[], CLIENT, &[])),
            ("front-proxy-client", self.front_proxy_ca.issue("front-proxy-client", &[], CLIENT, &[])),
            ("etcd/server", self.etcd_ca.issue(node, &[], BOTH, &etcd)),
            ("etcd/peer", self.etcd_ca.issue(node, &[], BOTH, &etcd)),
            ("etcd/healthcheck-client", self.etcd_ca.issue("kube-etcd-healthcheck-client", &[], CLIENT, &[])),
            ("apiserver-etcd-client", self.etcd_ca.issue("kube-apiserver-etcd-client", &[], CLIENT, &[])),
        ] {
            put_pair(&mut files, name, &leaf);
        }
        put(&mut files, "/etc/kubernetes/pki/sa.key", self.sa.to_pem().to_string(), 0o600);
        put(&mut files, "/etc/kubernetes/pki/sa.pub", self.sa.public_key_pem(), 0o600);
        for (name, user, groups) in [
            ("admin.conf", "kubernetes-admin", &["kubeadm:cluster-admins"][..]),
            ("controller-manager.conf", "system:kube-controller-manager", &[]),
            ("scheduler.conf", "system:kube-scheduler", &[]),
        ] {
            let client = self.ca.issue(user, groups, CLIENT, &[]);
            let text = kubeconfig(user, &self.ca.crt(), &embedded(&client));
            put(&mut files, &format!("/etc/kubernetes/{name}"), text, 0o600);
        }
        files
    }

    /// Everything of a kubelet.
    pub fn worker(&self, node: &str) -> Files {
        let mut files = Files::new();
        put(&mut files, "/etc/kubernetes/pki/ca.crt", self.ca.crt(), 0o644);
        let kubelet = self.ca.issue(&format!("system:node:{node}"), &["system:nodes"], CLIENT, &[]);
        put(&mut files, &dated("client"), kubelet.crt() + &kubelet.pem_key(), 0o600);
        let current = "/var/lib/kubelet/pki/kubelet-client-current.pem";
        let reference = format!("client-certificate: {current}\n    client-key: {current}");
        let text = kubeconfig("default-auth", &self.ca.crt(), &reference);
        put(&mut files, "/etc/kubernetes/kubelet.conf", text, 0o600);
        // The kubelet makes a CA for one certificate and forgets its key (client-go, GenerateSelfSignedCertKey).
        let own = Pair::authority(&format!("{node}-ca@1767225600"));
        let serving = own.issue(&format!("{node}@1767225600"), &[], SERVER, &[San::Dns(node.into())]);
        put(&mut files, "/var/lib/kubelet/pki/kubelet.crt", serving.crt() + &own.crt(), 0o644);
        put(&mut files, "/var/lib/kubelet/pki/kubelet.key", serving.pem_key(), 0o600);
        files
    }

    /// The certificate a kubelet serves with where it asks the cluster for one (`serverTLSBootstrap`).
    pub fn put_kubelet_serving(&self, files: &mut Files, node: &str) {
        let sans = [San::Dns(node.into())];
        let serving = self.ca.issue(&format!("system:node:{node}"), &["system:nodes"], SERVER, &sans);
        put(files, &dated("server"), serving.crt() + &serving.pem_key(), 0o600);
    }

    /// Puts a file there, or replaces it.
    pub fn put(&mut self, path: &str, content: impl Into<String>, mode: u32) {
        self.files.insert(path.to_owned(), (content.into(), mode));
    }

    /// Puts a pair into kubeadm's folder as `NAME.crt` and `NAME.key`.
    pub fn put_pair(&mut self, name: &str, pair: &Pair) {
        put_pair(&mut self.files, name, pair);
    }

    /// Takes a file away.
    pub fn remove(&mut self, path: &str) {
        assert!(self.files.remove(path).is_some(), "{path} was not there");
    }

    /// Writes everything into a temporary root, with the kubelet's links.
    pub fn write(&self) -> TestRoot {
        self.write_into(TestRoot::new())
    }

    /// As [`Cluster::write`], in memory: for tests that do so a hundred times.
    pub fn write_in_memory(&self) -> TestRoot {
        self.write_into(TestRoot::in_memory())
    }

    fn write_into(&self, root: TestRoot) -> TestRoot {
        put_into(&root, &self.files);
        root
    }
}

/// Writes files into a root, with the kubelet's links.
pub fn put_into(root: &TestRoot, files: &Files) {
    for (path, (content, mode)) in files {
        root.put(path, content, *mode);
    }
    for (link, target) in links(files) {
        root.link(&link, &target);
    }
}

/// The kubelet's links to its current certificates, and what they say.
pub fn links(files: &Files) -> Vec<(String, String)> {
    let current = |kind: &str| format!("/var/lib/kubelet/pki/kubelet-{kind}-current.pem");
    let links = ["client", "server"].map(|kind| (current(kind), dated(kind)));
    links.into_iter().filter(|(link, target)| files.contains_key(target) && !files.contains_key(link)).collect()
}

fn dated(kind: &str) -> String {
    format!("/var/lib/kubelet/pki/kubelet-{kind}-2026-01-01-00-00-00.pem")
}

fn put(files: &mut Files, path: &str, content: String, mode: u32) {
    files.insert(path.to_owned(), (content, mode));
}

fn put_pair(files: &mut Files, name: &str, pair: &Pair) {
    files.insert(format!("/etc/kubernetes/pki/{name}.crt"), (pair.crt(), 0o644));
    files.insert(format!("/etc/kubernetes/pki/{name}.key"), (pair.pem_key(), 0o600));
}

/// The user fields of an embedded client certificate.
pub fn embedded(client: &Pair) -> String {
    format!("client-certificate-data: {}\n    client-key-data: {}", base64(client.crt()), base64(client.pem_key()))
}

/// Standard base64.
pub fn base64(text: impl AsRef<[u8]>) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A kubeconfig as kubeadm writes it.
pub fn kubeconfig(user: &str, ca: &str, user_fields: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority-data: {}
    server: https://10.0.0.1:6443
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: {user}
  name: {user}@kubernetes
current-context: {user}@kubernetes
users:
- name: {user}
  user:
    {user_fields}
",
        base64(ca)
    )
}

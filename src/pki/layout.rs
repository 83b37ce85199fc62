//! Where a distribution keeps its certificates: kubeadm, AKS nodes, k3s, RKE2, or one folder and nothing else.
//!
//! Only paths as the node itself names them; whether anything is there is for others to find out.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where kubepki keeps its records, below the folder of the certificates.
pub const RECORDS: &str = ".kubepki";
/// The ledger of revocations, among the records.
pub const LEDGER: &str = "revocations.yaml";
/// The register of issued certificates, among the records.
pub const REGISTER: &str = "register.jsonl";

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the control plane.
    ControlPlane,
    /// Runs workloads only.
    Worker,
}

impl Role {
    /// Every role, by its name in options and cluster files.
    pub const NAMED: [(&'static str, Self); 2] = [("control-plane", Self::ControlPlane), ("worker", Self::Worker)];
}

/// Whose habits a machine follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// `/etc/kubernetes/pki`.
    Kubeadm,
    /// `/etc/kubernetes/certs`, as on the nodes of AKS and of AKS enabled by Azure Arc.
    AksNode,
    /// `/var/lib/rancher/k3s`.
    K3s,
    /// `/var/lib/rancher/rke2`.
    Rke2,
    /// One PKI folder laid out as kubeadm's, without the machine around it.
    Folder,
}

/// The folders of one machine that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Whose habits these are.
    pub flavour: Flavour,
    /// Where the cluster's certificates and keys are.
    pub pki_dir: PathBuf,
    /// Where kubeconfigs and `manifests/` are; `None` for a folder.
    pub kubernetes_dir: Option<PathBuf>,
    /// The kubelet's folder; `None` for a folder.
    pub kubelet_dir: Option<PathBuf>,
}

impl Layout {
    /// One PKI folder and nothing else.
    pub fn folder(pki_dir: impl Into<PathBuf>) -> Self {
        Self { flavour: Flavour::Folder, pki_dir: pki_dir.into(), kubernetes_dir: None, kubelet_dir: None }
    }

    /// Every layout a machine may have, the likeliest first: the first one whose `pki_dir` exists applies, and kubeadm's
    /// when none does.
    pub fn candidates(kubernetes_dir: &Path, kubelet_dir: &Path) -> [Self; 4] {
        let with = |flavour, pki_dir: PathBuf| Self {
            flavour,
            pki_dir,
            kubernetes_dir: Some(kubernetes_dir.into()),
            kubelet_dir: Some(kubelet_dir.into()),
        };
        [
            with(Flavour::Kubeadm, kubernetes_dir.join("pki")),
            with(Flavour::AksNode, kubernetes_dir.join("certs")),
            with(Flavour::K3s, "/var/lib/rancher/k3s/server/tls".into()),
            with(Flavour::Rke2, "/var/lib/rancher/rke2/server/tls".into()),
        ]
    }

    /// Files of which a control-plane node has at least one; none for a folder.
    pub fn control_plane_marks(&self) -> Vec<PathBuf> {
        let Some(kubernetes_dir) = &self.kubernetes_dir else { return Vec::new() };
        let rancher = ["k3s", "rke2"].map(|name| PathBuf::from(format!("/var/lib/rancher/{name}/server/tls")));
        let own = ["manifests/kube-apiserver.yaml", "pki/apiserver.crt"].map(|name| kubernetes_dir.join(name));
        own.into_iter().chain(rancher).collect()
    }

    /// Files of which a machine that has joined a cluster has at least one; none for a folder.
    pub fn member_marks(&self) -> Vec<PathBuf> {
        let kubernetes = self.kubernetes_dir.iter();
        let kubelet = self.kubelet_dir.iter();
        let agents = ["k3s", "rke2"].map(|name| PathBuf::from(format!("/var/lib/rancher/{name}/agent")));
        kubernetes
            .flat_map(|dir| ["kubelet.conf", "bootstrap-kubelet.conf"].map(|name| dir.join(name)))
            .chain(kubelet.flat_map(|dir| ["pki", "kubeconfig", "bootstrap-kubeconfig"].map(|name| dir.join(name))))
            .chain(agents.into_iter().filter(|_| self.kubernetes_dir.is_some()))
            .collect()
    }

    /// Where ledger and register are: they stay with the certificates they are about.
    pub fn records_dir(&self) -> PathBuf {
        self.pki_dir.join(RECORDS)
    }

    /// kubepki's own folder on this machine, for journals, stages, backups and the lock.
    pub fn state_dir(&self) -> PathBuf {
        match &self.kubernetes_dir {
            Some(kubernetes_dir) => kubernetes_dir.join("tmp/kubepki"),
            None => self.records_dir(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_that_folder_and_nothing_else() {
        let layout = Layout::folder("/srv/pki");
        assert!(layout.member_marks().is_empty() && layout.control_plane_marks().is_empty());
        assert_eq!(layout.state_dir(), PathBuf::from("/srv/pki/.kubepki"));
    }

    #[test]
    fn a_machine_follows_its_own_folders() {
        let [kubeadm, ..] = Layout::candidates(Path::new("/opt/k8s"), Path::new("/data/kubelet"));
        assert_eq!(kubeadm.pki_dir, PathBuf::from("/opt/k8s/pki"));
        assert_eq!(kubeadm.state_dir(), PathBuf::from("/opt/k8s/tmp/kubepki"));
        assert!(kubeadm.member_marks().contains(&PathBuf::from("/data/kubelet/pki")));
        assert!(kubeadm.control_plane_marks().contains(&PathBuf::from("/opt/k8s/pki/apiserver.crt")));
    }
}

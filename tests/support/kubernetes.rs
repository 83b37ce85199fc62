//! A kube-apiserver with its etcd, run as kubeadm would from the files of one node; and kubectl to ask it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::etcd::Etcd;
use super::process::{Server, wait_for};
use super::skip;

/// kubectl, of the Kubernetes binaries or the distribution; says that `test` does not run when there is none.
pub fn kubectl(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty());
    let known = [named.map(|folder| PathBuf::from(folder).join("kubectl")), Some("/usr/bin/kubectl".into())];
    let found = known.into_iter().flatten().find(|program| program.exists());
    if found.is_none() {
        skip::skipped(test, "kubectl is not installed");
    }
    found
}

/// A control plane of one node.
pub struct ControlPlane {
    pub binaries: PathBuf,
    pub kubernetes: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    /// Further options of the API server.
    options: Vec<String>,
    /// Its storage.
    pub etcd: Etcd,
    server: Option<Server>,
}

impl ControlPlane {
    /// Starts etcd and an API server on `port` with the files below `kubernetes`, a node's `/etc/kubernetes`, and waits until
    /// it is ready. `etcd_trust` is what the API server trusts of etcd, below the PKI folder.
    pub fn start(binaries: &Path, kubernetes: &Path, port: u16, etcd_trust: &str, options: &[&str]) -> Self {
        let pki = kubernetes.join("pki");
        let etcd = Etcd::start(&binaries.join("etcd"), &[pki], etcd_trust);
        let mut plane = Self {
            binaries: binaries.to_owned(),
            kubernetes: kubernetes.to_owned(),
            folder: tempfile::tempdir().unwrap(),
            port,
            options: options.iter().map(ToString::to_string).collect(),
            etcd,
            server: None,
        };
        plane.start_server(etcd_trust);
        plane
    }

    /// Starts the API server again, so that it reads its files anew, and waits until it is ready.
    pub fn restart_server(&mut self, etcd_trust: &str) {
        self.server = None;
        self.start_server(etcd_trust);
    }

    /// Stops the API server as a crash would.
    pub fn stop_server(&mut self) {
        self.server = None;
    }

    fn start_server(&mut self, etcd_trust: &str) {
        let pki = self.kubernetes.join("pki");
        let mut command = Server::command(self.binaries.join("kube-apiserver"));
        command.env_clear().current_dir(self.folder.path());
        for (option, file) in [
            ("client-ca-file", "ca.crt"),
            ("tls-cert-file", "apiserver.crt"),
            ("tls-private-key-file", "apiserver.key"),
            ("kubelet-client-certificate", "apiserver-kubelet-client.crt"),
            ("kubelet-client-key", "apiserver-kubelet-client.key"),
            ("proxy-client-cert-file", "front-proxy-client.crt"),
            ("proxy-client-key-file", "front-proxy-client.key"),
            ("service-account-key-file", "sa.pub"),
            ("service-account-signing-key-file", "sa.key"),
            ("etcd-cafile", etcd_trust),
            ("etcd-certfile", "apiserver-etcd-client.crt"),
            ("etcd-keyfile", "apiserver-etcd-client.key"),
        ] {
            command.arg(format!("--{option}={}", pki.join(file).display()));
        }
        let proxy = if pki.join("front-proxy-ca.crt").exists() { "front-proxy-ca.crt" } else { "ca.crt" };
        command.arg(format!("--requestheader-client-ca-file={}", pki.join(proxy).display()));
        command
            .args(["--requestheader-allowed-names=front-proxy-client", "--requestheader-group-headers=X-Remote-Group"]);
        command.args(["--requestheader-username-headers=X-Remote-User"]);
        command.args(["--requestheader-extra-headers-prefix=X-Remote-Extra-"]);
        if !self.options.iter().any(|option| option.starts_with("--authorization-")) {
            command.arg("--authorization-mode=Node,RBAC");
        }
        command.arg("--service-cluster-ip-range=10.96.0.0/12");
        command.arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local");
        command.arg(format!("--etcd-servers={}", self.etcd.client_url(0)));
        command.args(["--bind-address=127.0.0.1", "--advertise-address=192.0.2.1"]);
        command.arg(format!("--secure-port={}", self.port)).arg("--cert-dir=certs").args(&self.options);
        self.server = Some(Server::start(command, &self.folder.path().join("log")));
        let is_ready = || self.kubectl("super-admin.conf", &["get", "--raw", "/readyz"]).status.success();
        wait_for("a ready API server", is_ready, || self.words());
    }

    /// Runs kubectl with one of the node's kubeconfigs.
    pub fn kubectl(&self, kubeconfig: &str, words: &[&str]) -> Output {
        let mut command = Command::new(self.binaries.join("kubectl"));
        command.env_clear().env("HOME", self.folder.path());
        command
            .arg("--kubeconfig")
            .arg(self.kubernetes.join(kubeconfig))
            .args(["--request-timeout", "20s"])
            .args(words);
        command.output().unwrap()
    }

    /// The end of what the API server has said.
    pub fn words(&self) -> String {
        self.server.as_ref().map_or_else(String::new, Server::words)
    }
}

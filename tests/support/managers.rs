//! A kube-controller-manager beside a [`ControlPlane`], with every controller that has to do with certificates and tokens.

use std::path::Path;

use super::kubernetes::ControlPlane;
use super::process::{Server, free_ports};

/// A running kube-controller-manager; stopped when dropped.
pub struct ControllerManager {
    folder: tempfile::TempDir,
    server: Server,
}

impl ControllerManager {
    /// Starts it with the files of the control plane. `root` is what it tells namespaces to trust, `signer` (without
    /// extension) the CA that it signs with.
    pub fn start(plane: &ControlPlane, root: &Path, signer: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = plane.kubernetes.join("controller-manager.conf");
        let mut command = Server::command(plane.binaries.join("kube-controller-manager"));
        command.env_clear().current_dir(folder.path());
        for option in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            command.arg(format!("--{option}={}", config.display()));
        }
        let pki = plane.kubernetes.join("pki");
        for (option, path) in [
            ("client-ca-file", pki.join("ca.crt")),
            ("requestheader-client-ca-file", pki.join("front-proxy-ca.crt")),
            ("root-ca-file", root.to_owned()),
            ("cluster-signing-cert-file", signer.with_extension("crt")),
            ("cluster-signing-key-file", signer.with_extension("key")),
            ("service-account-private-key-file", pki.join("sa.key")),
        ] {
            command.arg(format!("--{option}={}", path.display()));
        }
        command.args(["--controllers=*,bootstrap-signer-controller,token-cleaner-controller"]);
        command.args(["--use-service-account-credentials=true", "--leader-elect=false", "--cert-dir=certs"]);
        command.args(["--bind-address=127.0.0.1", &format!("--secure-port={}", free_ports(1)[0])]);
        let server = Server::start(command, &folder.path().join("log"));
        Self { folder, server }
    }

    /// The end of what it has said.
    pub fn words(&self) -> String {
        format!("{} (in {})", self.server.words(), self.folder.path().display())
    }
}

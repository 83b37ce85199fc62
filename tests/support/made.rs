//! A PKI that the binary made below a folder, with the spec it was made from.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::binary::{Run, Stage};
use super::process::succeed;

/// The PKI of one machine.
pub struct Made {
    pub stage: Stage,
    /// The spec, as `--print-spec -o json` has it.
    pub spec: Value,
}

/// The machine the PKI is for, unless the test says otherwise.
pub const MACHINE: [&str; 4] = ["--node-name", "cp1", "--advertise-address", "127.0.0.1"];

impl Made {
    /// Makes everything that `options` ask for, below `root` on a new stage.
    pub fn new(options: &[&str]) -> Self {
        let stage = Stage::new();
        std::fs::create_dir(stage.at("root")).unwrap();
        let made = Self { spec: Value::Null, stage };
        let spec = made.create(&["--print-spec", "-o", "json"], options).json();
        made.create(&["--yes", "-o", "none"], options).expect(0);
        Self { spec, ..made }
    }

    /// Everything of a control plane on this machine whose API server listens on `port`.
    pub fn for_port(port: u16, profile: &str) -> Self {
        let stage = Stage::new();
        let spec = stage.put(
            "spec.yaml",
            format!(
                "{{apiVersion: kubepki.io/v1, kind: CertificateSpec, profile: {profile}, \
                 cluster: {{apiServerPort: {port}}}, node: {{name: cp1, address: 127.0.0.1}}}}"
            ),
        );
        Self::new(&["--spec", spec.to_str().unwrap(), "--key-algorithm", "ecdsa-p256"])
    }

    /// Runs `create-certs` once more for the same root.
    pub fn create(&self, words: &[&str], options: &[&str]) -> Run {
        let root = self.stage.at("root");
        let mut all = vec!["create-certs", "--root", root.to_str().unwrap()];
        all.extend_from_slice(words);
        all.extend_from_slice(options);
        self.stage.run(&all)
    }

    /// A path below the PKI folder.
    pub fn pki(&self, path: &str) -> PathBuf {
        self.stage.at("root/etc/kubernetes/pki").join(path)
    }

    /// A path below the Kubernetes folder.
    pub fn kubernetes(&self, path: &str) -> PathBuf {
        self.stage.at("root/etc/kubernetes").join(path)
    }

    /// The entries of one list of the spec.
    pub fn entries(&self, list: &str) -> Vec<Value> {
        self.spec[list].as_array().cloned().unwrap_or_default()
    }

    /// The certificate file of an authority.
    pub fn authority(&self, name: &str) -> PathBuf {
        let authorities = self.entries("authorities");
        let entry = authorities.iter().find(|entry| entry["name"] == name).expect("an authority of the spec");
        self.pki(&format!("{}.crt", entry["path"].as_str().unwrap()))
    }

    /// The client certificate of a kubeconfig, in a file of its own.
    pub fn client_of(&self, kubeconfig: &str) -> PathBuf {
        let path = self.kubernetes(kubeconfig);
        let script = "grep client-certificate-data \"$0\" | cut -d: -f2 | tr -d ' ' | base64 -d";
        let pem = succeed(Command::new("sh").args(["-c", script]).arg(path));
        self.stage.put(&format!("{kubeconfig}.crt"), pem)
    }
}

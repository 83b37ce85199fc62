//! Cluster files: which machines a cluster has and how to reach them.
//!
//! Reading is strict: a misspelt field would otherwise silently do something else. Every error names file, line,
//! column and field.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_saphyr::MessageFormatter;

use crate::error::Failure;
use crate::pki::layout::Role;
use crate::pki::profile::Profile;

mod fields;

/// Larger files are refused (bytes).
const LARGEST: usize = 1024 * 1024;

/// `kind: Cluster`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterFile {
    /// `kubepki.io/v1`.
    #[serde(deserialize_with = "fields::api_version")]
    pub api_version: String,
    /// `Cluster`.
    #[serde(deserialize_with = "fields::kind")]
    pub kind: String,
    /// The cluster's name.
    pub metadata: Metadata,
    /// The cluster.
    pub spec: Spec,
}

/// Names a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// The cluster's name.
    #[serde(deserialize_with = "fields::filled")]
    pub name: String,
}

/// What a cluster consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// `HOST:PORT` under which the API is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<String>,
    /// Profile of its certificates: a name, or an inline profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileChoice>,
    /// `/etc/kubernetes` on every node.
    #[serde(default = "kubernetes_dir", deserialize_with = "fields::absolute")]
    pub kubernetes_dir: PathBuf,
    /// `/var/lib/kubelet` on every node.
    #[serde(default = "kubelet_dir", deserialize_with = "fields::absolute")]
    pub kubelet_dir: PathBuf,
    /// How nodes are reached, unless they say otherwise.
    #[serde(default)]
    pub ssh: Ssh,
    /// How a component is made to reread its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// The machines.
    #[serde(deserialize_with = "fields::distinct_nodes")]
    pub nodes: Vec<ClusterNode>,
}

/// A profile by name or in full.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ProfileChoice {
    /// A built-in one.
    #[serde(serialize_with = "fields::profile_name")]
    Named(Profile),
    /// The fields of a `CertificateSpec`.
    Inline(serde_json::Map<String, serde_json::Value>),
}

/// How to log in to a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ssh {
    /// User name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// TCP port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Private key file; the agent is used as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_file: Option<String>,
    /// Known host keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_hosts_file: Option<String>,
    /// `[USER@]HOST[:PORT]` to go through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jump_host: Option<String>,
    /// When to become root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sudo: Option<Sudo>,
}

/// When commands on a node run through sudo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sudo {
    /// When the user is not root.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How components are restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restart {
    /// What kind of thing a component is.
    #[serde(default = "static_pod")]
    pub strategy: RestartStrategy,
    /// Shell command by component, for [`RestartStrategy::Command`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commands: BTreeMap<String, String>,
    /// Shell command that restarts the kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<String>,
}

/// What kind of thing a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartStrategy {
    /// A static pod of the kubelet.
    StaticPod,
    /// A systemd unit.
    Systemd,
    /// Something with its own command.
    Command,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterNode {
    /// The node's name in Kubernetes.
    #[serde(deserialize_with = "fields::filled")]
    pub name: String,
    /// Address or host name; `local` for this machine.
    #[serde(deserialize_with = "fields::filled")]
    pub host: String,
    /// What it is.
    pub role: Role,
    /// How it is reached, where that differs from the cluster's `ssh`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ssh: Ssh,
}

impl ClusterNode {
    /// Whether the node is this machine.
    pub fn is_local(&self) -> bool {
        self.host == "local"
    }
}

impl ClusterFile {
    /// One with nothing in it but what goes without saying; without a name and nodes it is not complete.
    pub fn empty() -> Self {
        Self {
            api_version: "kubepki.io/v1".to_owned(),
            kind: "Cluster".to_owned(),
            metadata: Metadata { name: String::new() },
            spec: Spec {
                control_plane_endpoint: None,
                profile: None,
                kubernetes_dir: kubernetes_dir(),
                kubelet_dir: kubelet_dir(),
                ssh: Ssh::default(),
                restart: None,
                nodes: Vec::new(),
            },
        }
    }

    /// Reads a cluster file from its content; `path` is for messages only.
    ///
    /// # Errors
    /// A usage failure that names file, line, column and field.
    pub fn parse(content: &[u8], path: &Path) -> anyhow::Result<Self> {
        let path = path.display();
        if content.len() > LARGEST {
            return Err(Failure::usage(format!("{path}: larger than 1 MiB, this is no cluster file")).into());
        }
        let text = std::str::from_utf8(content).map_err(|_| Failure::usage(format!("{path}: it is not UTF-8")))?;
        // Anchors are of no use in so flat a document, and a few of them can be made to stand for gigabytes.
        let budget = serde_saphyr::budget! { max_documents: 1, max_anchors: 0, max_aliases: 0, max_merge_keys: 0 };
        let options = serde_saphyr::options! { budget: budget, with_snippet: false };
        let mut field = String::new();
        let parsed = serde_saphyr::with_deserializer_from_str_with_options(text, options, |document| {
            serde_path_to_error::deserialize(document).map_err(|error| {
                field = error.path().to_string();
                error.into_inner()
            })
        });
        parsed.map_err(|error| {
            let (message, place) = fault(&error);
            let field = field.trim_end_matches(".?");
            let field = if field.is_empty() || field == "." { String::new() } else { format!("{field}: ") };
            Failure::usage(format!("{path}:{place} {field}{message}"))
                .hint("the fields of a cluster file are described in docs/cluster-file.md")
                .into()
        })
    }
}

/// What is wrong, and `LINE:COLUMN:` where that is known.
fn fault(error: &serde_saphyr::Error) -> (String, String) {
    use serde_saphyr::budget::BudgetBreach::{Aliases, Anchors};
    let at = error.location().filter(|at| at.line() > 0);
    let place = at.map(|at| format!("{}:{}:", at.line(), at.column())).unwrap_or_default();
    let message = match error.without_snippet() {
        serde_saphyr::Error::Budget { breach: Anchors { .. } | Aliases { .. }, .. } => {
            "anchors and aliases are not for cluster files; write the value out".to_owned()
        }
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => format!("the field `{key}` is there twice"),
        other => serde_saphyr::DefaultMessageFormatter.format_message(other).into_owned(),
    };
    (message, place)
}

fn kubernetes_dir() -> PathBuf {
    "/etc/kubernetes".into()
}

fn kubelet_dir() -> PathBuf {
    "/var/lib/kubelet".into()
}

fn static_pod() -> RestartStrategy {
    RestartStrategy::StaticPod
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ExitCode, exit_code};

    const GOOD: &str = "\
apiVersion: kubepki.io/v1
kind: Cluster
metadata:
  name: lab
spec:
  controlPlaneEndpoint: 10.77.0.1:6443
  profile: kubeadm
  ssh: {user: root, port: 22, privateKeyFile: ~/.ssh/id_ed25519, sudo: auto}
  restart: {strategy: command, commands: {etcd: 'true'}, kubelet: systemctl restart kubelet}
  nodes:
  - {name: cp1, host: 10.77.0.11, role: control-plane}
  - {name: here, host: local, role: worker, ssh: {port: 2222}}
";

    fn refused(text: &str) -> String {
        let error = ClusterFile::parse(text.as_bytes(), Path::new("lab.yaml")).expect_err("refused");
        assert_eq!(exit_code(&error), ExitCode::Usage);
        error.to_string()
    }

    #[test]
    fn a_cluster_file_is_read_with_its_defaults() {
        let file = ClusterFile::parse(GOOD.as_bytes(), Path::new("lab.yaml")).expect("good");
        assert_eq!(file.spec.kubernetes_dir, Path::new("/etc/kubernetes"));
        assert_eq!(file.spec.nodes[1].role, Role::Worker);
        assert!(file.spec.nodes[1].is_local() && !file.spec.nodes[0].is_local());
    }

    #[test]
    fn it_is_written_so_that_it_reads_back_alike() {
        let file = ClusterFile::parse(GOOD.as_bytes(), Path::new("lab.yaml")).expect("good");
        let text = serde_saphyr::to_string(&file).expect("YAML");
        assert_eq!(ClusterFile::parse(text.as_bytes(), Path::new("lab.yaml")).expect("good"), file);
    }

    #[test]
    fn every_fault_is_named_with_its_line_column_and_field() {
        let cases = [
            ("kind: Cluster", "kind: Clutter", "lab.yaml:2:7: kind: \"Clutter\" should be Cluster"),
            ("kubepki.io/v1", "v1", "lab.yaml:1:13: apiVersion: \"v1\" should be kubepki.io/v1"),
            ("role: worker", "rôle: worker", "lab.yaml:12:31: spec.nodes[1].rôle: unknown field `rôle`"),
            ("role: worker", "role: boss", "lab.yaml:12:37: spec.nodes[1].role: unknown variant `boss`"),
            ("port: 22,", "port: 222222,", "lab.yaml:8:27: spec.ssh.port: invalid u16"),
            ("name: here", "name: cp1", "spec.nodes[1]: two nodes are called \"cp1\""),
            ("profile: kubeadm", "profile: kubadm", "lab.yaml:7:12: spec.profile: "),
            ("profile: kubeadm", "profiles: kubeadm", "lab.yaml:7:3: spec.profiles: unknown field `profiles`"),
            ("  name: lab", "  name: ''", "lab.yaml:4:9: metadata.name: must not be empty"),
            ("  name: lab\n", "  name: lab\n  name: lab\n", "lab.yaml:5:3: metadata: the field `name` is there twice"),
            (", role: worker", "", "spec.nodes[1]: missing field `role`"),
        ];
        for (good, bad, message) in cases {
            let text = refused(&GOOD.replace(good, bad));
            assert!(text.contains(message), "{text}");
        }
    }

    #[test]
    fn a_profile_may_be_written_out() {
        let text = GOOD.replace("profile: kubeadm", "profile: {profile: aks, defaults: {validity: 30d}}");
        let file = ClusterFile::parse(text.as_bytes(), Path::new("lab.yaml")).expect("good");
        let Some(ProfileChoice::Inline(fields)) = &file.spec.profile else { panic!("{:?}", file.spec.profile) };
        assert_eq!(fields["defaults"]["validity"], "30d");
        let text = serde_saphyr::to_string(&file).expect("YAML");
        assert_eq!(ClusterFile::parse(text.as_bytes(), Path::new("lab.yaml")).expect("good"), file);
    }

    #[test]
    fn what_is_no_yaml_is_refused_not_crashed_on() {
        for text in ["", "[", "\u{0}", "- a", "a: *b", "kind: Cluster\n---\nkind: Cluster"] {
            refused(text);
        }
        for length in 0..GOOD.len() {
            let _ = ClusterFile::parse(&GOOD.as_bytes()[..length], Path::new("lab.yaml"));
        }
        assert!(ClusterFile::parse(&vec![b' '; LARGEST + 1], Path::new("lab.yaml")).is_err());
    }
}

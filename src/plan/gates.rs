//! What must be true on a node before the next one may change: told from the files that changed and what was restarted.

use std::path::{Path, PathBuf};

use super::operation::{FileAction, NodeReport};

/// Something that running components must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// The server on this port of the node serves the first certificate of that file.
    Serves {
        /// The component, as `kube-apiserver`.
        component: &'static str,
        /// TCP port on the node.
        port: u16,
        /// The certificate's file.
        path: PathBuf,
    },
    /// The node's kube-apiserver says that it is ready.
    ApiReady,
    /// Every etcd member is healthy, and they have one leader.
    EtcdHealthy,
    /// The component's process is younger than the last change of that file.
    Started {
        /// The component.
        component: String,
        /// A file that it reads when it starts, or its manifest.
        since: PathBuf,
    },
    /// Somebody holds the component's lease and renews it.
    Led {
        /// `kube-controller-manager` or `kube-scheduler`.
        component: String,
    },
    /// The node's kubelet renews its lease, and the node is Ready.
    NodeReady,
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serves { component, port, .. } => write!(f, "{component} serves its new certificate on port {port}"),
            Self::ApiReady => f.write_str("kube-apiserver is ready"),
            Self::EtcdHealthy => f.write_str("etcd is healthy on every member"),
            Self::Started { component, .. } => write!(f, "{component} has started anew"),
            Self::Led { component } => write!(f, "{component} has a leader"),
            Self::NodeReady => f.write_str("the node is Ready"),
        }
    }
}

/// Servers by the entry of their certificate: component and port.
const SERVERS: [(&str, &str, u16); 3] =
    [("apiserver", "kube-apiserver", 6443), ("etcd-server", "etcd", 2379), ("etcd-peer", "etcd", 2380)];

/// Components that are led by one of their processes.
const LED: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// What has to be proven on a node after its files have changed. `runs` says which components have their place on it.
pub fn after(report: &NodeReport, runs: &dyn Fn(&str) -> bool) -> Vec<Gate> {
    let changed: Vec<_> = report.files.iter().filter(|file| file.action != FileAction::Unchanged).collect();
    let mut gates = Vec::new();
    if changed.iter().any(|file| file.name.starts_with("etcd-")) && runs("etcd") {
        gates.push(Gate::EtcdHealthy);
    }
    for (entry, component, port) in SERVERS {
        let certificate = changed.iter().find(|file| file.name == entry && !is_key(&file.path));
        if let Some(file) = certificate.filter(|_| runs(component)) {
            gates.push(Gate::Serves { component, port, path: file.path.clone().into() });
        }
    }
    for component in &report.restarts {
        // A static pod starts anew after its manifest, a service after the last of its files.
        let manifest = changed.iter().find(|file| file.name == format!("{component}.yaml"));
        let since = manifest.or_else(|| changed.last()).map(|file| PathBuf::from(&file.path));
        gates.extend(since.map(|since| Gate::Started { component: component.clone(), since }));
    }
    if !changed.is_empty() && runs("kube-apiserver") {
        gates.push(Gate::ApiReady);
    }
    for component in LED.iter().filter(|component| report.restarts.iter().any(|one| one == *component)) {
        gates.push(Gate::Led { component: (*component).to_owned() });
    }
    if report.restarts.iter().any(|component| component == "kubelet") {
        gates.push(Gate::NodeReady);
    }
    gates
}

fn is_key(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "key") || path.ends_with("-key.pem")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::operation::{FileReport, NodeState};

    fn report(files: &[(&str, &str)], restarts: &[&str]) -> NodeReport {
        let file = |(path, name): &(&str, &str)| FileReport {
            path: (*path).to_owned(),
            name: (*name).to_owned(),
            action: FileAction::Replaced,
            old_serial_number: None,
            new_serial_number: None,
            not_after: None,
            differences: Vec::new(),
        };
        NodeReport {
            name: "cp1".to_owned(),
            state: NodeState::Running,
            files: files.iter().map(file).collect(),
            restarts: restarts.iter().map(|name| (*name).to_owned()).collect(),
            error: None,
        }
    }

    #[test]
    fn every_changed_server_must_serve_and_every_restarted_component_must_be_new() {
        let report = report(
            &[
                ("/p/apiserver.key", "apiserver"),
                ("/p/apiserver.crt", "apiserver"),
                ("/p/etcd/server.crt", "etcd-server"),
                ("/m/kube-scheduler.yaml", "kube-scheduler.yaml"),
            ],
            &["kube-scheduler"],
        );
        let gates = after(&report, &|_| true);
        let scheduler = "kube-scheduler".to_owned();
        assert_eq!(
            gates,
            [
                Gate::EtcdHealthy,
                Gate::Serves { component: "kube-apiserver", port: 6443, path: "/p/apiserver.crt".into() },
                Gate::Serves { component: "etcd", port: 2379, path: "/p/etcd/server.crt".into() },
                Gate::Started { component: scheduler.clone(), since: "/m/kube-scheduler.yaml".into() },
                Gate::ApiReady,
                Gate::Led { component: scheduler },
            ]
        );
    }

    #[test]
    fn nothing_is_asked_of_what_does_not_run_there() {
        let worker = report(&[("/v/kubelet-client-current.pem", "kubelet-client")], &["kubelet"]);
        let gates = after(&worker, &|_| false);
        let since = "/v/kubelet-client-current.pem".into();
        assert_eq!(gates, [Gate::Started { component: "kubelet".to_owned(), since }, Gate::NodeReady]);
        assert!(after(&report(&[], &[]), &|_| true).is_empty());
    }
}

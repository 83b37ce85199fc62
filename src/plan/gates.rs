//! What must be true on a node before the next one may change: told from the files that changed and what was restarted.

use std::path::{Path, PathBuf};

use super::operation::{FileAction, FileReport, NodeReport};
use crate::pki::component::Component;

/// Something that running components must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// The node's server serves the first certificate of that file.
    Serves {
        /// Which server.
        component: Component,
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
            Self::Serves { component, path } => {
                write!(f, "{} serves the certificate in {}", component.program(), path.display())
            }
            Self::ApiReady => f.write_str("kube-apiserver is ready"),
            Self::EtcdHealthy => f.write_str("etcd is healthy on every member"),
            Self::Started { component, .. } => write!(f, "{component} has started anew"),
            Self::Led { component } => write!(f, "{component} has a leader"),
            Self::NodeReady => f.write_str("the node is Ready"),
        }
    }
}

/// Servers that read their certificate from a file that changes here. Kubelets renew theirs themselves.
const SERVERS: [Component; 3] = [Component::ApiServer, Component::Etcd, Component::EtcdPeer];

/// Components that are led by one of their processes.
const LED: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// What has to be proven on a node after its files have changed. `runs` says which components have their place on it.
pub fn after(report: &NodeReport, runs: &dyn Fn(&str) -> bool) -> Vec<Gate> {
    let changed: Vec<_> = report.files.iter().filter(|file| file.action != FileAction::Unchanged).collect();
    let mut gates = Vec::new();
    if changed.iter().any(|file| file.name.starts_with("etcd-")) && runs("etcd") {
        gates.push(Gate::EtcdHealthy);
    }
    for component in SERVERS.into_iter().filter(|component| runs(component.program())) {
        let shows = |file: &&&FileReport| component.shows().contains(&file.name.as_str()) && !is_key(&file.path);
        let certificate = changed.iter().find(shows);
        gates.extend(certificate.map(|file| Gate::Serves { component, path: file.path.clone().into() }));
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
    use crate::plan::operation::NodeState;

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
                Gate::Serves { component: Component::ApiServer, path: "/p/apiserver.crt".into() },
                Gate::Serves { component: Component::Etcd, path: "/p/etcd/server.crt".into() },
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

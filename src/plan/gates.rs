//! What must be true on a node before the next one may change: told from the files that changed and what was restarted.

use std::path::{Path, PathBuf};

use super::enforcement::{AUTHORIZATION, CLIENT_TRUST};
use crate::pki::server::Server;

/// Something that running components must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// The node's server serves the first certificate of that file.
    Serves {
        /// Which server.
        server: Server,
        /// The certificate's file.
        path: PathBuf,
    },
    /// The node's kube-apiserver says that it is ready.
    ApiReady,
    /// The node's kube-apiserver works by the authorizers in that file, if it reads that file at all.
    Authorizes {
        /// kubepki's configuration of authorizers.
        path: PathBuf,
    },
    /// The node's kube-apiserver asks for client certificates of those in that file, if it reads that file at all.
    Believes {
        /// kubepki's bundle of client trust.
        path: PathBuf,
    },
    /// Every etcd member is healthy, and they have one leader.
    EtcdHealthy,
    /// The component's process is younger than the last change of that file.
    Started {
        /// The component.
        component: String,
        /// A file that it reads when it starts, or its manifest.
        since: PathBuf,
    },
    /// The component's port answers nobody.
    Stopped {
        /// The component.
        component: String,
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
            Self::Serves { server, path } => {
                write!(f, "{} serves the certificate in {}", server.program(), path.display())
            }
            Self::ApiReady => f.write_str("kube-apiserver is ready"),
            Self::Authorizes { path } => write!(f, "kube-apiserver works by {}", path.display()),
            Self::Believes { path } => write!(f, "kube-apiserver believes the clients in {}", path.display()),
            Self::EtcdHealthy => f.write_str("etcd is healthy on every member"),
            Self::Stopped { component } => write!(f, "{component} has ended"),
            Self::Started { component, .. } => write!(f, "{component} has started anew"),
            Self::Led { component } => write!(f, "{component} has a leader"),
            Self::NodeReady => f.write_str("the node is Ready"),
        }
    }
}

/// Servers that read their certificate from a file that changes here. Kubelets renew theirs themselves.
const SERVERS: [Server; 3] = [Server::ApiServer, Server::Etcd, Server::EtcdPeer];

/// Components that are led by one of their processes.
const LED: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// What has changed on a node and has to be proven before anything else does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed<'a> {
    /// Path and kubeadm's id of each file.
    pub files: Vec<(&'a str, &'a str)>,
    /// Components that were started anew, or ended.
    pub restarted: Vec<&'a str>,
    /// The last file that changed before a component was restarted by a command.
    pub last: Option<&'a str>,
}

/// What has to be proven. `runs` says which components have their place on the node, `is_stopped` which of those have no
/// manifest just now, so that they must not run.
pub fn after(changed: &Changed<'_>, runs: &dyn Fn(&str) -> bool, is_stopped: &dyn Fn(&str) -> bool) -> Vec<Gate> {
    let mut gates = Vec::new();
    let is_up = |component: &str| runs(component) && !is_stopped(component);
    for component in changed.restarted.iter().filter(|component| is_stopped(component)) {
        gates.push(Gate::Stopped { component: (*component).to_owned() });
    }
    let has_etcd =
        changed.files.iter().any(|(_, name)| name.starts_with("etcd-")) || changed.restarted.contains(&"etcd");
    if has_etcd && is_up("etcd") {
        gates.push(Gate::EtcdHealthy);
    }
    for server in SERVERS.into_iter().filter(|server| is_up(server.program())) {
        let shows = |(path, name): &&(&str, &str)| server.shows().contains(name) && !is_key(path);
        let certificate = changed.files.iter().find(shows);
        gates.extend(certificate.map(|(path, _)| Gate::Serves { server, path: (*path).into() }));
    }
    for component in changed.restarted.iter().filter(|component| !is_stopped(component)) {
        // A static pod starts anew after its manifest, a service after the last of its files.
        let manifest = format!("{component}.yaml");
        let is_its = |(path, _): &&(&str, &str)| Path::new(path).file_name().is_some_and(|name| *name == *manifest);
        let since = changed.files.iter().find(is_its).map(|(path, _)| *path).or(changed.last).map(PathBuf::from);
        gates.extend(since.map(|since| Gate::Started { component: (*component).to_owned(), since }));
    }
    if !(changed.files.is_empty() && changed.restarted.is_empty()) && is_up("kube-apiserver") {
        gates.push(Gate::ApiReady);
        let changed =
            |wanted: &str| changed.files.iter().find(|(_, name)| *name == wanted).map(|(path, _)| path.into());
        gates.extend(changed(AUTHORIZATION).map(|path| Gate::Authorizes { path }));
        gates.extend(changed(CLIENT_TRUST).map(|path| Gate::Believes { path }));
    }
    for component in LED.iter().filter(|component| changed.restarted.contains(component) && is_up(component)) {
        gates.push(Gate::Led { component: (*component).to_owned() });
    }
    if changed.restarted.contains(&"kubelet") {
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

    #[test]
    fn every_changed_server_must_serve_and_every_restarted_component_must_be_new() {
        let changed = Changed {
            files: vec![
                ("/p/apiserver.key", "apiserver"),
                ("/p/apiserver.crt", "apiserver"),
                ("/p/etcd/server.crt", "etcd-server"),
                ("/m/kube-scheduler.yaml", "kube-scheduler.yaml"),
            ],
            restarted: vec!["kube-scheduler"],
            last: None,
        };
        let gates = after(&changed, &|_| true, &|_| false);
        let scheduler = "kube-scheduler".to_owned();
        assert_eq!(
            gates,
            [
                Gate::EtcdHealthy,
                Gate::Serves { server: Server::ApiServer, path: "/p/apiserver.crt".into() },
                Gate::Serves { server: Server::Etcd, path: "/p/etcd/server.crt".into() },
                Gate::Started { component: scheduler.clone(), since: "/m/kube-scheduler.yaml".into() },
                Gate::ApiReady,
                Gate::Led { component: scheduler },
            ]
        );
    }

    #[test]
    fn nothing_is_asked_of_what_does_not_run_there() {
        let path = "/v/kubelet-client-current.pem";
        let changed = Changed { files: vec![(path, "kubelet-client")], restarted: vec!["kubelet"], last: Some(path) };
        let gates = after(&changed, &|_| false, &|_| false);
        let since = path.into();
        assert_eq!(gates, [Gate::Started { component: "kubelet".to_owned(), since }, Gate::NodeReady]);
        assert!(after(&Changed::default(), &|_| true, &|_| false).is_empty());
    }

    #[test]
    fn a_component_without_its_manifest_must_have_ended_and_is_asked_nothing() {
        let changed = Changed {
            files: vec![
                ("/p/etcd/ca.crt", "etcd-ca"),
                ("/p/apiserver.crt", "apiserver"),
                ("/m/kube-apiserver.yaml", "kube-apiserver.yaml"),
            ],
            restarted: vec!["kube-apiserver"],
            last: None,
        };
        let gates = after(&changed, &|_| true, &|component| component == "kube-apiserver");
        assert_eq!(gates, [Gate::Stopped { component: "kube-apiserver".to_owned() }, Gate::EtcdHealthy]);
    }
}

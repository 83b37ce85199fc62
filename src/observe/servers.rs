//! The servers of a node to artifacts: which certificate each shows at this moment.
//!
//! What can be reached from here is asked from here; the rest is asked as the node itself sees it, through the connection
//! that there is to it. A port where nobody answers counts only where the node's own files say that somebody should.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kubelet_config;
use crate::node::probe::{self, Endpoint};
use crate::node::{Found, FoundState, Node, Query};
use crate::pki::certificate::Certificate;
use crate::pki::kubelet_config::KubeletConfig;
use crate::pki::layout::Role;
use crate::pki::server::Server;
use crate::snapshot::{Artifact, Content, Facts, Source, State};

/// How long a server that is asked from here may take, the connection included: with a firewall between, the longer way
/// is still to come.
const DIRECT: Duration = Duration::from_secs(2);

/// How long a server that is asked through its node may take.
const THROUGH: Duration = Duration::from_secs(5);

/// How the servers of a node are reached.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Decides which servers are looked for.
    pub role: Role,
    /// Whether a machine on which nothing of Kubernetes was found is asked as well.
    pub even_if_empty: bool,
}

/// Files that say what should run on the node.
pub(super) fn queries(kubernetes: &Path) -> Vec<Query> {
    let programs = [Server::ApiServer, Server::Etcd, Server::ControllerManager, Server::Scheduler];
    programs.iter().map(|program| Query::File(manifest(kubernetes, *program))).collect()
}

fn manifest(kubernetes: &Path, component: Server) -> PathBuf {
    kubernetes.join("manifests").join(format!("{}.yaml", component.program()))
}

/// What a node says about one of its servers.
pub(super) struct Plan {
    component: Server,
    port: u16,
    /// The address it listens on, where that is said.
    bound: Option<String>,
    /// Whether the node's files say that it should run.
    is_expected: bool,
}

/// What should run according to the files that were `found`.
pub(super) fn plans(role: Role, (kubernetes, kubelet): (&Path, &Path), found: &[Found]) -> Vec<Plan> {
    let text = |path: &Path| {
        let file = found.iter().find(|file| file.path == path)?;
        match &file.state {
            FoundState::File(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    };
    let is_there = |path: &Path| found.iter().any(|file| file.path == path && file.metadata.is_some());
    let plan = |component: &Server| {
        let component = *component;
        if component == Server::Kubelet {
            let config = text(&kubelet.join(kubelet_config::NAME));
            let read = config.as_ref().map(|config| KubeletConfig::parse(config.as_bytes()).unwrap_or_default());
            let port = read.as_ref().and_then(|config| config.port).unwrap_or(component.port());
            // Both are there once a machine has joined its cluster.
            let is_expected = read.is_some() && is_there(&kubernetes.join("kubelet.conf"));
            return Plan { component, port, bound: None, is_expected };
        }
        let manifest = text(&manifest(kubernetes, component));
        let (port, bound) = component.listens(manifest.as_deref().unwrap_or_default());
        Plan { component, port, bound: bound.map(str::to_owned), is_expected: manifest.is_some() }
    };
    Server::of(role).iter().map(plan).collect()
}

/// Asks every server of the node, side by side.
pub(super) fn ask(node: &dyn Node, facts: Option<&Facts>, plans: &[Plan]) -> Vec<Artifact> {
    let addresses = facts.map(|facts| facts.addresses.as_slice()).unwrap_or_default();
    // A loopback address is this machine's, and a port there forwarded to the node.
    let peer = node.address().filter(|address| !address.is_loopback());
    let home = peer.or_else(|| addresses.first().copied()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string();
    std::thread::scope(|scope| {
        let home = home.as_str();
        let running: Vec<_> = plans.iter().map(|plan| scope.spawn(move || one(node, peer, home, plan))).collect();
        running.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    })
}

fn one(node: &dyn Node, peer: Option<IpAddr>, home: &str, plan: &Plan) -> Option<Artifact> {
    let at = |host: &str| Endpoint { host: host.to_owned(), port: plan.port };
    let direct = peer.filter(|_| !plan.component.is_private());
    let answer = match direct.map(|address| probe::chain(&at(&address.to_string()), None, DIRECT)) {
        Some(Ok(chain)) => Ok(chain),
        _ => through(node, home, plan),
    };
    let state = match answer {
        Ok(chain) => State::Read(Box::new(Content {
            found_certificates: chain.iter().map(|der| Certificate::from_der(der)).collect(),
            ..Content::default()
        })),
        Err(reason) if plan.is_expected => State::Unreadable(reason),
        Err(_) => return None,
    };
    let path = PathBuf::from(at(home).to_string());
    let server = Some(plan.component);
    Some(Artifact { path, source: Source::Endpoint, part: None, server, link: None, metadata: None, state })
}

/// Asks at every address at which the server may listen, until somebody is there.
fn through(node: &dyn Node, home: &str, plan: &Plan) -> Result<Vec<Vec<u8>>, String> {
    let mut hosts: Vec<&str> = plan.bound.iter().map(String::as_str).collect();
    hosts.extend(if plan.component == Server::EtcdPeer { [home, "127.0.0.1"] } else { ["127.0.0.1", home] });
    if plan.component.is_private() || !plan.is_expected {
        hosts.truncate(1);
    }
    let mut reason = None;
    for (index, host) in hosts.iter().enumerate() {
        if hosts[..index].contains(host) {
            continue;
        }
        let endpoint = Endpoint { host: (*host).to_owned(), port: plan.port };
        match probe::chain_through(node, &endpoint, None, THROUGH) {
            Err(said) if said.starts_with("nothing listens") => reason = reason.or(Some(said)),
            answer => return answer,
        }
    }
    Err(reason.unwrap_or_else(|| "nothing listens there".to_owned()))
}

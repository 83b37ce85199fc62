//! One look at what a gate waits for: what running components say, never only what their files say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::apply::sha256;
use crate::cli::target::{Target, TargetNode};
use crate::live::NoAnswer;
use crate::live::api_server::ApiServer;
use crate::live::cluster::{COMPONENT_LEASES, NODE_LEASES};
use crate::live::component::{self, Component};
use crate::live::credential::{Credential, certificates};
use crate::live::etcd::{Etcd, Quorum, client_endpoint};
use crate::live::places::{Listener, Places};
use crate::node::http::Limits;
use crate::node::probe::{Endpoint, acceptable_through, chain_through};
use crate::node::wire::NoWire;
use crate::node::{Found, FoundState, Query};
use crate::pki::certificate::Certificate;
use crate::pki::component::flag;
use crate::pki::layout::Role;
use crate::pki::pem_file::PemFile;
use crate::pki::server::Server;
use crate::plan::enforcement::{API_SERVER, AUTHORIZATION_CONFIG, CLIENT_CA};
use crate::plan::gates::Gate;
use time::OffsetDateTime;

/// For one question and its answer.
const LIMIT: Duration = Duration::from_secs(10);

/// A lease that was not renewed for that long has nobody behind it; components renew theirs every 2 s, kubelets every 10 s.
const STALE: time::Duration = time::Duration::seconds(30);

/// Clocks tell seconds apart in files, and hundredths in processes.
const BLUR: time::Duration = time::Duration::seconds(1);

/// Whether the gate is open.
///
/// # Errors
/// Why not, in words.
pub fn look(target: &Target, node: &TargetNode, gate: &Gate, now: OffsetDateTime) -> Result<(), String> {
    match gate {
        Gate::Serves { server, path } => serves(node, *server, path),
        Gate::ApiReady => own_server(node, |server| server.ready()),
        Gate::Authorizes { path } => authorizes(node, path),
        Gate::Believes { path } => believes(node, path),
        Gate::EtcdHealthy => etcd(node, false),
        Gate::Stopped { component } => stopped(node, component),
        Gate::Started { component, since } => started(target, node, component, since, now),
        Gate::Led { component } => led(node, component, now),
        Gate::NodeReady => ready(node, now),
    }
}

fn serves(node: &TargetNode, server: Server, path: &Path) -> Result<(), String> {
    let found = read(node, Query::File(path.to_owned()))?;
    let FoundState::File(content) = &found.state else { return Err(format!("{} cannot be read", path.display())) };
    let file = PemFile::parse(content);
    let on_disk = file.certificates().next().ok_or_else(|| format!("there is no certificate in {}", path.display()))?;
    let manifest = manifest(node, server.program())?;
    let (port, bound) = server.listens(&manifest);
    let host = match (bound, server) {
        (Some(bound), _) => bound.to_owned(),
        // A member of etcd listens for its peers only at its own address.
        (None, Server::EtcdPeer) => own_address(node).unwrap_or_else(|| "127.0.0.1".to_owned()),
        (None, _) => "127.0.0.1".to_owned(),
    };
    let shown = chain_through(&*node.node, &Endpoint { host, port }, None, LIMIT)?;
    let leaf = shown.first().ok_or("it shows no certificate")?;
    if *leaf == *on_disk.der {
        return Ok(());
    }
    let serial = Certificate::from_der(leaf).map_or_else(|error| error, |leaf| leaf.serial().to_string());
    Err(format!("it still serves the certificate with serial number {serial}"))
}

/// Whether the API server has taken over the authorizers in a file, by what it says itself.
fn authorizes(node: &TargetNode, path: &Path) -> Result<(), String> {
    if flag(&manifest(node, API_SERVER)?, AUTHORIZATION_CONFIG).map(Path::new) != Some(path) {
        return Ok(());
    }
    let found = read(node, Query::File(path.to_owned()))?;
    let FoundState::File(content) = &found.state else { return Err(format!("{} cannot be read", path.display())) };
    let wanted = sha256(content);
    match own_server(node, |server| server.authorizers_in_force())? {
        Some(hash) if hash == wanted => Ok(()),
        Some(_) => Err("it still works by others; it may not take this file, and its log says why".to_owned()),
        None => Err("it does not say by which authorizers it works".to_owned()),
    }
}

/// Whether the API server believes the clients in a file and no others, by the names that it asks for in a handshake.
fn believes(node: &TargetNode, path: &Path) -> Result<(), String> {
    let manifest = manifest(node, API_SERVER)?;
    if flag(&manifest, CLIENT_CA).map(Path::new) != Some(path) {
        return Ok(());
    }
    let names = |path: &Path| -> Result<BTreeSet<Vec<u8>>, String> {
        let found = read(node, Query::File(path.to_owned()))?;
        let FoundState::File(content) = &found.state else { return Err(format!("{} cannot be read", path.display())) };
        let ders = certificates(content);
        Ok(ders
            .iter()
            .filter_map(|der| Certificate::from_der(der).ok())
            .map(|it| it.subject().der().to_vec())
            .collect())
    };
    let wanted = names(path)?;
    // It names those of front proxies as well.
    let proxies = flag(&manifest, "--requestheader-client-ca-file").filter(|path| !path.is_empty());
    let proxies = proxies.map(|path| names(Path::new(path))).transpose()?.unwrap_or_default();
    let endpoint = places(node)?.api_server.ok_or("there is no kube-apiserver on this node")?.endpoint;
    let asked: BTreeSet<Vec<u8>> = acceptable_through(&*node.node, &endpoint, LIMIT)?.into_iter().collect();
    let (missing, others) = (wanted.difference(&asked).count(), asked.difference(&wanted));
    let others = others.filter(|name| !proxies.contains(*name)).count();
    if missing == 0 && others == 0 {
        return Ok(());
    }
    Err(format!("it believes {others} others, and not yet {missing} of {}", wanted.len()))
}

/// The text of a static pod's manifest; empty where there is none.
pub(super) fn manifest(node: &TargetNode, program: &str) -> Result<String, String> {
    let folder = node.layout.kubernetes_dir.as_deref().unwrap_or(Path::new("/etc/kubernetes"));
    let found = read(node, Query::File(folder.join(format!("manifests/{program}.yaml"))))?;
    Ok(match &found.state {
        FoundState::File(content) => String::from_utf8_lossy(content).into_owned(),
        _ => String::new(),
    })
}

/// The first address of the machine's own; where it tells none, the one at which it is logged in to.
fn own_address(node: &TargetNode) -> Option<String> {
    let told = node.node.facts().ok().and_then(|facts| facts.addresses.first().copied());
    told.or_else(|| node.node.address().filter(|address| !address.is_loopback())).map(|address| address.to_string())
}

/// The node's own member of etcd.
pub(super) fn member(node: &TargetNode) -> Result<Etcd<'_>, String> {
    let listener = places(node)?.etcd.ok_or("there is no etcd on this node")?;
    Etcd::new(&*node.node, listener.endpoint, &client_of_etcd(node)?, limits())
}

/// Whether every member of etcd is well, and they agree on a leader; a quorum is enough where members `may_lack`.
///
/// # Errors
/// Why not, in words.
pub fn etcd(node: &TargetNode, may_lack: bool) -> Result<(), String> {
    let own = member(node)?;
    let words = |error: NoAnswer| error.to_string();
    if may_lack {
        // Its health is that of a read that a leader and a quorum confirm.
        return own.healthy().map_err(words);
    }
    let members = own.members().map_err(words)?;
    let mut answers = Vec::new();
    for member in &members {
        let name = if member.name.is_empty() { format!("{:x}", member.id) } else { member.name.clone() };
        let at = own.at(client_endpoint(member).map_err(words)?);
        at.healthy().map_err(|error| format!("member {name}: {error}"))?;
        answers.push(at.status().map_err(|error| format!("member {name}: {error}"))?);
    }
    let quorum = Quorum::of(&members, &answers);
    if quorum.well == quorum.voters && quorum.leader.is_some() {
        return Ok(());
    }
    Err(format!(
        "{} of {} members are well, {}",
        quorum.well,
        quorum.voters,
        match quorum.leader {
            Some(_) => "with a leader",
            None => "without a leader they agree on",
        }
    ))
}

/// The credential with which the node's own probes ask its member of etcd.
pub(in crate::cli) fn client_of_etcd(node: &TargetNode) -> Result<Credential, String> {
    let folder = node.layout.pki_dir.join("etcd");
    Credential::read_pair(&*node.node, &folder.join("healthcheck-client"), &folder.join("ca.crt"))
}

/// Asks the API server that some administrator of the target reaches, through `node` or that administrator's own.
///
/// # Errors
/// Why nobody answered, in words.
pub fn administered<T>(
    target: &Target,
    node: &TargetNode,
    ask: impl Fn(&ApiServer<'_>) -> Result<T, NoAnswer>,
) -> Result<T, String> {
    let mut reason = no_administrator();
    let rulers = target.nodes.iter().filter(|one| one.role == Role::ControlPlane);
    for ruler in rulers.chain(std::iter::once(node)) {
        match own_server(ruler, &ask) {
            Ok(answer) => return Ok(answer),
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

/// Whether the node's kubelet has a certificate to serve with.
///
/// # Errors
/// Why not, in words.
pub fn serves_tls(node: &TargetNode) -> Result<(), String> {
    let listener = places(node)?.kubelet.ok_or("there is no kubelet on this node")?;
    if !listener.tls {
        return Ok(());
    }
    chain_through(&*node.node, &listener.endpoint, None, LIMIT).map(drop)
}

fn started(target: &Target, node: &TargetNode, name: &str, since: &Path, now: OffsetDateTime) -> Result<(), String> {
    let component = Component::ALL.into_iter().find(|one| one.name() == name);
    let component = component.ok_or_else(|| format!("nobody knows how to ask {name} since when it runs"))?;
    let found = read(node, Query::Metadata(since.to_owned()))?;
    let changed = found.metadata.ok_or_else(|| format!("{} is not there", since.display()))?.modified;
    let credential = match component {
        // It may run on a machine of its own, where nobody administers a cluster.
        Component::Etcd => Some(client_of_etcd(node)?),
        _ => administrator(target, node),
    };
    let Some(credential) = credential else {
        // The kubelet tells nobody else; its lease is looked at besides.
        return if component == Component::Kubelet {
            renewed(node, Some(changed), now)
        } else {
            Err(no_administrator())
        };
    };
    let running = match component::running(&*node.node, component, &places(node)?, &credential, limits()) {
        Ok(running) => running,
        // A kubelet whose request for a serving certificate nobody has approved speaks no TLS.
        Err(NoAnswer::Unanswered(_)) if component == Component::Kubelet => return renewed(node, Some(changed), now),
        Err(error) => return Err(error.to_string()),
    };
    if running.started_at + BLUR >= changed {
        return Ok(());
    }
    Err(format!("its process runs since {}, its files are of {changed}", running.started_at))
}

/// Whether the component's port takes no connections any more.
fn stopped(node: &TargetNode, name: &str) -> Result<(), String> {
    let component = Component::ALL.into_iter().find(|one| one.name() == name);
    let places = places(node)?;
    let listener = component.and_then(|component| places.of(component));
    let endpoint = &listener.ok_or_else(|| format!("nobody knows where {name} listens"))?.endpoint;
    match node.node.dial(&endpoint.host, endpoint.port, LIMIT) {
        Ok(_) => Err(format!("port {} still takes connections", endpoint.port)),
        Err(NoWire::Closed(_)) => Ok(()),
        // A connection that broke on the way says nothing about the component.
        Err(NoWire::Unknown(reason)) => Err(format!("whether port {} is closed is not known: {reason}", endpoint.port)),
    }
}

fn led(node: &TargetNode, component: &str, now: OffsetDateTime) -> Result<(), String> {
    let lease = own_server(node, |server| server.lease(COMPONENT_LEASES, component))?;
    let now = clock(node, now)?;
    match (lease.holder, lease.renewed_at) {
        (Some(holder), Some(renewed)) if !holder.is_empty() && now - renewed < STALE => Ok(()),
        (_, renewed) => Err(format!("nobody renews its lease, last done {renewed:?}")),
    }
}

fn ready(node: &TargetNode, now: OffsetDateTime) -> Result<(), String> {
    renewed(node, None, now)?;
    let status = as_kubelet(node, |server, name| server.node(name))?;
    if status.ready { Ok(()) } else { Err(format!("it is not Ready: {}", status.message)) }
}

/// Whether the kubelet has renewed its node's lease, since `since` where that is given.
fn renewed(node: &TargetNode, since: Option<OffsetDateTime>, now: OffsetDateTime) -> Result<(), String> {
    let lease = as_kubelet(node, |server, name| server.lease(NODE_LEASES, name))?;
    let oldest = match since {
        Some(since) => since,
        None => clock(node, now)? - STALE,
    };
    match lease.renewed_at {
        Some(renewed) if renewed >= oldest => Ok(()),
        renewed => Err(format!("the kubelet has not renewed its lease since {renewed:?}")),
    }
}

/// Asks the node's own API server as an administrator.
fn own_server<T>(node: &TargetNode, ask: impl FnOnce(&ApiServer<'_>) -> Result<T, NoAnswer>) -> Result<T, String> {
    let listener = places(node)?.api_server.ok_or("there is no kube-apiserver on this node")?;
    let credential = own_administrator(node).ok_or_else(no_administrator)?;
    let server = ApiServer::new(&*node.node, listener.endpoint, &credential, limits())?;
    ask(&server).map_err(|error| error.to_string())
}

/// Asks the API server that the kubelet talks to, as the kubelet, with the node's name.
fn as_kubelet<T>(
    node: &TargetNode,
    ask: impl FnOnce(&ApiServer<'_>, &str) -> Result<T, NoAnswer>,
) -> Result<T, String> {
    let folder = node.layout.kubernetes_dir.as_deref().unwrap_or(Path::new("/etc/kubernetes"));
    let credential = Credential::read(&*node.node, &folder.join("kubelet.conf"))?;
    let server = credential.server.clone().ok_or("kubelet.conf names no server")?;
    let server = ApiServer::new(&*node.node, server, &credential, limits())?;
    let user = server.who_am_i().map_err(|error| error.to_string())?;
    let name = user.name.strip_prefix("system:node:");
    let name = name.ok_or_else(|| format!("the kubelet is taken for {}", user.name))?;
    ask(&server, name).map_err(|error| error.to_string())
}

/// An administrator's credential: of the node itself, else of another one of the target.
pub(in crate::cli) fn administrator(target: &Target, node: &TargetNode) -> Option<Credential> {
    let others = target.nodes.iter().filter(|one| one.role == Role::ControlPlane);
    std::iter::once(node).chain(others).find_map(own_administrator)
}

fn own_administrator(node: &TargetNode) -> Option<Credential> {
    let folder = node.layout.kubernetes_dir.as_deref()?;
    ["admin.conf", "super-admin.conf"].iter().find_map(|name| Credential::read(&*node.node, &folder.join(name)).ok())
}

pub(in crate::cli) fn no_administrator() -> String {
    "there is no admin.conf to ask with".to_owned()
}

/// Where the node's components listen. What has files there and no manifest listens where kubeadm would have it.
pub(in crate::cli) fn places(node: &TargetNode) -> Result<Places, String> {
    let nothing = Path::new("/");
    let kubernetes = node.layout.kubernetes_dir.as_deref().unwrap_or(nothing);
    let kubelet = node.layout.kubelet_dir.as_deref().unwrap_or(nothing);
    let mut places = Places::read(&*node.node, kubernetes, kubelet).map_err(|error| format!("{error:#}"))?;
    if [&places.api_server, &places.etcd, &places.controller_manager, &places.scheduler].iter().all(|it| it.is_some()) {
        return Ok(places);
    }
    let here = with_files(node);
    let usual = |component: &str, host: &str, port: u16| {
        let endpoint = Endpoint { host: host.to_owned(), port };
        here.contains(&component).then_some(Listener { endpoint, tls: true })
    };
    if places.api_server.is_none() && here.contains(&"kube-apiserver") {
        let host = own_address(node).unwrap_or_else(|| "127.0.0.1".to_owned());
        places.api_server = usual("kube-apiserver", &host, 6443);
    }
    places.etcd = places.etcd.or_else(|| usual("etcd", "127.0.0.1", 2379));
    places.controller_manager =
        places.controller_manager.or_else(|| usual("kube-controller-manager", "127.0.0.1", 10257));
    places.scheduler = places.scheduler.or_else(|| usual("kube-scheduler", "127.0.0.1", 10259));
    Ok(places)
}

/// The components of a control plane that the node has the files for.
pub(super) fn with_files(node: &TargetNode) -> Vec<&'static str> {
    let pki = |path: &str| Some(node.layout.pki_dir.join(path));
    let kubeconfig = |name: &str| node.layout.kubernetes_dir.as_ref().map(|folder| folder.join(name));
    let marks = [
        ("etcd", pki("etcd/server.crt")),
        ("kube-apiserver", pki("apiserver.crt")),
        ("kube-controller-manager", kubeconfig("controller-manager.conf")),
        ("kube-scheduler", kubeconfig("scheduler.conf")),
    ];
    let queries: Vec<Query> = marks.iter().filter_map(|(_, path)| path.clone()).map(Query::Metadata).collect();
    let found = node.node.read(&queries).unwrap_or_default();
    let is_there =
        |path: &PathBuf| found.iter().any(|found| found.path == *path && !matches!(found.state, FoundState::Missing));
    let here = marks.into_iter().filter(|(_, path)| path.as_ref().is_some_and(is_there));
    here.map(|(component, _)| component).collect()
}

/// The node's own clock.
fn clock(node: &TargetNode, now: OffsetDateTime) -> Result<OffsetDateTime, String> {
    node.node.facts().map(|facts| now + facts.clock_skew).map_err(|error| format!("{error:#}"))
}

pub(super) fn read(node: &TargetNode, query: Query) -> Result<Found, String> {
    let found = node.node.read(&[query]).map_err(|error| format!("{error:#}"))?;
    found.into_iter().next().ok_or_else(|| "nothing was read".to_owned())
}

pub(super) fn limits() -> Limits {
    // The metrics of a large cluster's API server are tens of megabytes.
    Limits { time: LIMIT, size: 256 * 1024 * 1024 }
}

//! Who is asked which machines there are: an API server through a kubeconfig, or a control-plane node over SSH.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DiscoverArgs;
use crate::cli::cluster_file::{ClusterFile, ClusterNode, Ssh};
use crate::cli::session::Session;
use crate::cli::target::login;
use crate::error::Failure;
use crate::live::api_server::ApiServer;
use crate::live::credential::Credential;
use crate::live::etcd::Etcd;
use crate::live::inventory::{self, Machine};
use crate::live::places::Places;
use crate::node::http::Limits;
use crate::node::local::LocalNode;
use crate::node::probe::Endpoint;
use crate::node::{FoundState, Node, Query};
use crate::pki::layout::Role;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(15);

/// kubeadm's folder on the node that is asked.
const KUBERNETES: &str = "/etc/kubernetes";

/// What the cluster said.
#[derive(Debug)]
pub(super) struct Found {
    /// Who said it, for people.
    pub(super) asked: String,
    /// The cluster's name, where it has one.
    pub(super) name: Option<String>,
    /// Where its API is reached.
    pub(super) endpoint: Option<String>,
    /// The machines.
    pub(super) machines: Vec<Machine>,
    /// What could not be found out.
    pub(super) warnings: Vec<String>,
}

/// Asks whom the options name.
pub(super) fn ask(args: &DiscoverArgs, session: &Session) -> anyhow::Result<Found> {
    match args.host.as_ref().or(args.node_host.as_ref()) {
        Some(host) => over_ssh(args, host, session),
        None => with_kubeconfig(args, session),
    }
}

fn with_kubeconfig(args: &DiscoverArgs, session: &Session) -> anyhow::Result<Found> {
    let here = LocalNode::open("local", "/")?;
    let path = kubeconfig(args, session, &here)?;
    let shown = path.display();
    let unusable =
        |why: String| Failure::failed(format!("{shown}: {why}")).hint("--kubeconfig and --context name another");
    let credential = match &args.context {
        None => {
            Credential::read(&here, &path).map_err(|why| Failure::failed(why).hint("--kubeconfig names another"))?
        }
        Some(context) => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            let read = |path: &Path| content(&here, path).map_err(|why| format!("{}: {why}", path.display()));
            let bytes = content(&here, &path).map_err(unusable)?;
            Credential::from_kubeconfig(&bytes, folder, Some(context), &read).map_err(unusable)?
        }
    };
    let Some(server) = credential.server.clone() else { return Err(unusable("it has no server".to_owned()).into()) };
    session.ui.step(&format!("asking {server} with {shown}"));
    let asked = format!("{server} with {shown}");
    from_api(&here, server, &credential, asked.clone()).map_err(|why| {
        Failure::failed(format!("{asked}: {why}"))
            .hint("with the API down, name a control-plane node: kubepki discover HOST")
            .into()
    })
}

fn content(node: &dyn Node, path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, String> {
    let found = node.read(&[Query::File(path.to_path_buf())]).map_err(|error| format!("{error:#}"))?;
    match found.into_iter().next().map(|found| found.state) {
        Some(FoundState::File(bytes)) => Ok(bytes),
        Some(FoundState::Unreadable(reason)) => Err(reason),
        _ => Err("it is not there".to_owned()),
    }
}

/// The kubeconfig to ask with.
fn kubeconfig(args: &DiscoverArgs, session: &Session, here: &LocalNode) -> anyhow::Result<PathBuf> {
    if let Some(given) = &args.kubeconfig {
        let path = super::file::absolute(given)?;
        let found = here.read(&[Query::Metadata(path.clone())])?;
        if matches!(found.first().map(|found| &found.state), Some(FoundState::Missing) | None) {
            return Err(Failure::not_found(format!("there is no kubeconfig {}", path.display())).into());
        }
        return Ok(path);
    }
    let list = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let listed = std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty());
    let usual = session.home().ok().map(|home| home.join(".kube/config"));
    let usual = usual.into_iter().chain([Path::new(KUBERNETES).join("admin.conf")]);
    let all: Vec<PathBuf> = listed.chain(usual).map(|path| super::file::absolute(&path)).collect::<Result<_, _>>()?;
    let found = here.read(&all.iter().cloned().map(Query::Metadata).collect::<Vec<_>>())?;
    let first = found.into_iter().find(|found| !matches!(found.state, FoundState::Missing | FoundState::Directory));
    first.map(|found| found.path).ok_or_else(|| {
        Failure::not_found("there is no kubeconfig to ask with")
            .hint("give --kubeconfig FILE, or a control-plane node: kubepki discover HOST")
            .into()
    })
}

fn from_api(node: &dyn Node, server: Endpoint, credential: &Credential, asked: String) -> Result<Found, String> {
    let own = server.to_string();
    let api = ApiServer::new(node, server, credential, Limits::within(LIMIT))?;
    let machines = api.machines().map_err(|why| why.to_string())?;
    let mut warnings = Vec::new();
    // Not everybody who may list nodes may read kubeadm's note.
    let noted = api.noted_by_kubeadm().unwrap_or_else(|why| {
        warnings.push(format!("kubeadm-config was not read ({why}); the endpoint is the kubeconfig's server"));
        inventory::Noted::default()
    });
    for machine in machines.iter().filter(|machine| machine.address.is_none()) {
        warnings.push(format!("node {} has no address in the API; its name is written as its host", machine.name));
    }
    Ok(Found { asked, name: noted.name, endpoint: noted.endpoint.or(Some(own)), machines, warnings })
}

/// `[USER@]HOST[:PORT]`.
fn parts(host: &str) -> anyhow::Result<(Option<String>, String, Option<u16>)> {
    let (user, rest) = match host.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, host),
    };
    let has_port = rest.starts_with('[') && rest.contains("]:") || rest.matches(':').count() == 1;
    let place: Endpoint = rest.parse().map_err(|_| Failure::usage(format!("{host:?} is no [USER@]HOST[:PORT]")))?;
    Ok((user.filter(|user| !user.is_empty()), place.host, has_port.then_some(place.port)))
}

/// A cluster file with these nodes and, for logging in, what the options say.
pub(super) fn skeleton(args: &DiscoverArgs, nodes: Vec<ClusterNode>) -> anyhow::Result<ClusterFile> {
    let host = args.host.as_ref().or(args.node_host.as_ref()).map(|host| parts(host)).transpose()?;
    let (user, _, port) = host.unwrap_or_default();
    let text = |path: &PathBuf| super::file::absolute(path).map(|path| path.display().to_string());
    let mut file = ClusterFile::empty();
    file.spec.ssh = Ssh {
        user: args.ssh.ssh_user.clone().or(user),
        port: args.ssh.ssh_port.or(port),
        private_key_file: args.ssh.ssh_private_key_file.as_ref().map(text).transpose()?,
        known_hosts_file: args.ssh.known_hosts.as_ref().map(text).transpose()?,
        jump_host: args.ssh.jump_host.clone(),
        sudo: None,
    };
    file.spec.nodes = nodes;
    Ok(file)
}

fn over_ssh(args: &DiscoverArgs, given: &str, session: &Session) -> anyhow::Result<Found> {
    let (_, host, _) = parts(given)?;
    let entry = ClusterNode { name: host.clone(), host, role: Role::ControlPlane, ssh: Ssh::default() };
    let file = skeleton(args, vec![entry.clone()])?;
    let node = args.ssh.node(&file, &entry, &login::access(session));
    node.connect()?;
    let folder = Path::new(KUBERNETES);
    let places = Places::read(&node, folder, Path::new("/var/lib/kubelet"))?;
    let asked = format!("node {}", entry.host);
    let mut troubles = Vec::new();
    for name in ["admin.conf", "super-admin.conf"] {
        let credential = match Credential::read(&node, &folder.join(name)) {
            Ok(credential) => credential,
            Err(why) => {
                troubles.push(why);
                continue;
            }
        };
        // The node's own API server first: it answers also when the load balancer does not.
        let own = places.api_server.as_ref().map(|listener| listener.endpoint.clone());
        for server in own.into_iter().chain(credential.server.clone()) {
            session.ui.step(&format!("asking {server} through {}", entry.host));
            match from_api(&node, server.clone(), &credential, asked.clone()) {
                Ok(mut found) => {
                    // What reaches the node's own server is not where clients go.
                    let named = credential.server.as_ref().map(ToString::to_string);
                    if found.endpoint == Some(server.to_string()) {
                        found.endpoint = named.or(found.endpoint);
                    }
                    return Ok(found);
                }
                Err(why) => troubles.push(format!("{server}: {why}")),
            }
        }
    }
    let why = troubles.join("; ");
    from_etcd(&node, &places, &asked, &why).ok_or_else(|| {
        Failure::failed(format!(
            "{}: neither its API server nor its etcd says which nodes there are: {why}",
            entry.host
        ))
        .hint("is it a control-plane node? A cluster file can be written by hand, see docs/cluster-file.md")
        .into()
    })
}

/// With the API down: the control-plane nodes, by etcd itself or by its manifest.
fn from_etcd(node: &dyn Node, places: &Places, asked: &str, why: &str) -> Option<Found> {
    let folder = Path::new(KUBERNETES);
    let pki = folder.join("pki/etcd");
    let told = || {
        let credential = Credential::read_pair(node, &pki.join("healthcheck-client"), &pki.join("ca.crt")).ok()?;
        let endpoint = places.etcd.as_ref()?.endpoint.clone();
        let members = Etcd::new(node, endpoint, &credential, Limits::within(LIMIT)).ok()?.members().ok()?;
        Some(inventory::of_members(&members)).filter(|machines| !machines.is_empty())
    };
    let (machines, who) = match told() {
        Some(machines) => (machines, "etcd"),
        None => {
            let manifest = content(node, &folder.join("manifests/etcd.yaml")).ok()?;
            (inventory::of_manifest(&String::from_utf8_lossy(&manifest)), "the manifest of its etcd")
        }
    };
    if machines.is_empty() {
        return None;
    }
    let endpoint = ["admin.conf", "super-admin.conf", "kubelet.conf"].iter().find_map(|name| {
        let bytes = content(node, &folder.join(name)).ok()?;
        let read = crate::pki::kubeconfig::Kubeconfig::parse(&bytes, folder).ok()?;
        let server = read.clusters.first()?.server.as_deref()?.parse::<Endpoint>().ok()?;
        Some(server.to_string())
    });
    let warning = format!(
        "the API did not answer ({why}); {who} names the control-plane nodes, the workers are to be added by hand or by \
         discovering again later"
    );
    Some(Found { asked: format!("{asked}, {who}"), name: None, endpoint, machines, warnings: vec![warning] })
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn hosts_are_read_as_ssh_users_write_them() {
        let read = |text: &str| parts(text).map(|(user, host, port)| (user.unwrap_or_default(), host, port)).ok();
        let told = |user: &str, host: &str, port| Some((user.to_owned(), host.to_owned(), port));
        assert_eq!(read("cp1"), told("", "cp1", None));
        assert_eq!(read("ops@10.0.0.1:2222"), told("ops", "10.0.0.1", Some(2222)));
        assert_eq!(read("root@[fd00::1]:22"), told("root", "fd00::1", Some(22)));
        assert_eq!(read("fd00::1"), told("", "fd00::1", None));
        assert_eq!((read("a b"), read("x:0")), (None, None));
    }
}

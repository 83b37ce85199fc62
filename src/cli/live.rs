//! What a rolling change needs to know of a live cluster: how its components are restarted, which run where, and how each
//! proves that it is well.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cluster_file::{ClusterFile, RestartStrategy};
use super::rolling::Rolling;
use super::session::Session;
use super::target::{Extent, Place, Target, TargetArgs, TargetNode};
use super::transactions::transactions;
use crate::apply::copies::At;
use crate::apply::journal::{Entry, FileState, Journal};
use crate::apply::sha256;
use crate::error::{ExitCode, Failure};
use crate::live::api_server::ApiServer;
use crate::live::wait::{Stopped, until};
use crate::node::{FoundState, Query};
use crate::pki::layout::{Flavour, Role};
use crate::plan::gates::{self, Changed, Gate};
use crate::plan::restart::{Manifest, Means, Strategy};
use between::{Barriers, Letting};

pub mod between;
pub mod drain;
pub(super) mod proof;
mod stale;
pub mod watch;

pub use proof::{administered, etcd, look, serves_tls};
pub use stale::stale;

/// The components of a control plane, in the order in which they depend on each other.
const COMPONENTS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// How long components have to come back and to be well, for each gate. A static pod waits for the end of its
/// predecessor (30 s) and for the kubelet to look (20 s).
const PATIENCE: Duration = Duration::from_secs(180);

/// The same where a cluster comes back from nothing: kubelets wait with each attempt, and everything starts at once.
const REVIVAL: Duration = Duration::from_secs(300);

/// How many workers are changed side by side unless `--parallel` says otherwise.
const WORKERS: u16 = 1;

/// Whether changes to `target` are those of running components, to be made node by node.
pub fn is_live(target: &Target, place: &Place) -> bool {
    match target.extent {
        Extent::WholeCluster | Extent::PartOfCluster => true,
        // Where nothing runs there is nothing to restart and nothing to wait for.
        Extent::Machine => *place == Place::ThisMachine && target.nodes.iter().any(runs_something),
        Extent::Folder => false,
    }
}

fn runs_something(node: &TargetNode) -> bool {
    let listens = |port| node.node.dial("127.0.0.1", port, Duration::from_secs(2)).is_ok();
    [6443, 2379, 10250].into_iter().any(listens)
}

/// Refuses to begin on a cluster that is not well: a change one node at a time relies on the others.
///
/// # Errors
/// Exit code 1, with what is wrong on which node.
pub fn refuse_unwell(session: &Session, target: &Target, manifests: &[Manifest]) -> anyhow::Result<()> {
    let faults = unwell(session, target, manifests);
    session.interrupt.check()?;
    if faults.is_empty() {
        return Ok(());
    }
    let faults: Vec<String> = faults.into_iter().map(|(node, words)| format!("{node}: {words}")).collect();
    Err(Failure::failed(format!("the cluster is not well, so nothing was changed:\n  {}", faults.join("\n  ")))
        .hint("a rolling change relies on the other nodes: `kubepki check-expiry` and the components' logs say more")
        .into())
}

/// What is not well on the control plane: node and words.
pub fn unwell(session: &Session, target: &Target, manifests: &[Manifest]) -> Vec<(String, String)> {
    let means = means(target.cluster.as_ref());
    let mut faults = Vec::new();
    for node in target.nodes.iter().filter(|node| node.role == Role::ControlPlane) {
        let mut gates = Vec::new();
        if runs(&means, manifests, node, "etcd") {
            gates.push(Gate::EtcdHealthy);
        }
        if runs(&means, manifests, node, "kube-apiserver") {
            gates.push(Gate::ApiReady);
        }
        for gate in gates.into_iter().filter(|_| !session.interrupt.is_asked()) {
            if let Err(reason) = proof::look(target, node, &gate, session.by_now()) {
                faults.push((node.node.name().to_owned(), format!("not so: {gate}: {reason}")));
            }
        }
    }
    faults
}

/// How the target's components are restarted.
pub fn means(cluster: Option<&ClusterFile>) -> Means {
    let Some(restart) = cluster.and_then(|file| file.spec.restart.as_ref()) else { return Means::default() };
    let strategy = match restart.strategy {
        RestartStrategy::StaticPod => Strategy::StaticPod,
        RestartStrategy::Systemd => Strategy::Systemd,
        RestartStrategy::Command => Strategy::Command(restart.commands.clone()),
    };
    let kubelet = restart.kubelet.clone().unwrap_or_else(|| Means::default().kubelet);
    Means { strategy, kubelet }
}

/// The manifests of the static pods on all nodes of the target.
///
/// # Errors
/// When a node cannot be read.
pub fn manifests(target: &Target) -> anyhow::Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for node in target.nodes.iter().filter(|node| node.layout.flavour == Flavour::Kubeadm) {
        let Some(folder) = &node.layout.kubernetes_dir else { continue };
        let paths: Vec<PathBuf> = COMPONENTS.iter().map(|name| folder.join(format!("manifests/{name}.yaml"))).collect();
        let found = node.node.read(&paths.iter().cloned().map(Query::File).collect::<Vec<_>>())?;
        for ((component, path), found) in COMPONENTS.iter().zip(paths).zip(found) {
            let FoundState::File(content) = &found.state else { continue };
            let name = node.node.name();
            let text = std::str::from_utf8(content).map_err(|_| {
                Failure::failed(format!("{name}: {} is not UTF-8, so it is no manifest", path.display()))
                    .hint("correct it by hand; the kubelet cannot read it either")
            })?;
            manifests.push(Manifest {
                node: name.to_owned(),
                component: (*component).to_owned(),
                path,
                text: text.to_owned(),
                sha256: sha256(content),
            });
        }
    }
    Ok(manifests)
}

/// How the target is changed node by node.
pub fn rolling<'a>(
    session: &'a Session,
    target: &'a Target,
    args: &'a TargetArgs,
    manifests: &'a [Manifest],
    parallel: Option<u16>,
    letting: Letting,
) -> Rolling<'a> {
    let means = means(target.cluster.as_ref());
    let own = means.clone();
    let prove = move |node: &TargetNode, journal: &Journal, step: usize| {
        gates_of(node, journal, step, &own, manifests)
            .into_iter()
            .try_for_each(|gate| wait_for(session, target, node, &gate))
    };
    let content = move |node: &TargetNode, journal: &Journal, path: &Path, at: At| {
        let transactions = transactions(session, &journal.operation.command, args, node, &|_| ());
        transactions.content(journal, &path.display().to_string(), at)
    };
    let barriers = Barriers::new(session, target, Box::new(content), letting);
    Rolling {
        means,
        parallel: parallel.unwrap_or(WORKERS).into(),
        prove: Box::new(prove),
        before: Box::new(move |node, journal, step, heading| {
            drain::drain(session, target, node, journal, (step, heading));
        }),
        between: Box::new(move |moment, legs| barriers.between(moment, legs)),
    }
}

/// What has to be true on a node after that step of its journal, forwards or back.
pub fn gates_of(node: &TargetNode, journal: &Journal, step: usize, means: &Means, manifests: &[Manifest]) -> Vec<Gate> {
    let led = |component: &str| manifest_of(journal, component).is_some();
    let runs = |component: &str| led(component) || runs(means, manifests, node, component);
    let gone: Vec<&str> = COMPONENTS.into_iter().filter(|name| is_stopped(node, journal, name)).collect();
    gates::after(&changed(node, journal, step), &runs, &|component| gone.contains(&component))
}

/// Asks the kube-apiserver of a node as its administrator.
///
/// # Errors
/// In words: when there is nobody to ask as, no server, or its answer is a refusal.
pub fn ask_api<T>(
    target: &Target,
    node: &TargetNode,
    ask: &mut dyn FnMut(&ApiServer<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let credential = proof::administrator(target, node).ok_or_else(proof::no_administrator)?;
    let listener = proof::places(node)?.api_server.ok_or("there is no kube-apiserver on this node")?;
    ask(&ApiServer::new(&*node.node, listener.endpoint, &credential, proof::limits())?)
}

/// What a step of a node has changed, forwards or back.
fn changed<'j>(node: &TargetNode, journal: &'j Journal, step: usize) -> Changed<'j> {
    let mut reports = journal.operation.nodes.iter().filter(|report| report.name == node.node.name());
    let report = reports.next();
    let name = |path: &str| {
        let file = report.and_then(|report| report.files.iter().find(|file| file.path == path));
        file.map_or("", |file| file.name.as_str())
    };
    let so_far = journal.changes.iter().filter(|entry| entry.step <= step);
    // What was taken away tells nobody when.
    let is_there = |entry: &&Entry| entry.after != FileState::Absent && !journal.restarting.contains(&entry.path);
    let last = so_far.clone().rfind(is_there);
    let here = so_far.filter(|entry| entry.step == step);
    let restarted = match journal.steps.get(step) {
        Some(step) => step.restarts.iter().chain(&step.stops).map(String::as_str).collect(),
        None => report.map(|report| report.restarts.iter().map(String::as_str).collect()).unwrap_or_default(),
    };
    Changed {
        files: here.map(|entry| (entry.path.as_str(), name(&entry.path))).collect(),
        restarted,
        last: last.map(|entry| entry.path.as_str()),
    }
}

/// The manifest of a component, where the operation changes it.
fn manifest_of<'j>(journal: &'j Journal, component: &str) -> Option<&'j Path> {
    let file = format!("{component}.yaml");
    let mut paths = journal.restarting.iter().map(Path::new);
    paths.find(|path| path.file_name().is_some_and(|name| *name == *file))
}

/// The text of a file of the node.
fn text_of(node: &TargetNode, path: &Path) -> Option<String> {
    let found = node.node.read(&[Query::File(path.to_owned())]).ok()?.into_iter().next()?;
    let FoundState::File(content) = &found.state else { return None };
    std::str::from_utf8(content).ok().map(str::to_owned)
}

/// Whether the operation has taken a component's manifest away and not brought it back yet.
fn is_stopped(node: &TargetNode, journal: &Journal, component: &str) -> bool {
    let Some(path) = manifest_of(journal, component) else { return false };
    let found = node.node.read(&[Query::Metadata(path.to_owned())]).ok().and_then(|found| found.into_iter().next());
    found.is_some_and(|found| matches!(found.state, FoundState::Missing))
}

/// Whether a component of the control plane has its place on the node.
pub fn runs(means: &Means, manifests: &[Manifest], node: &TargetNode, component: &str) -> bool {
    match means.strategy {
        Strategy::StaticPod => manifests.iter().any(|one| one.node == node.node.name() && one.component == component),
        Strategy::Systemd | Strategy::Command(_) => proof::with_files(node).contains(&component),
    }
}

/// Waits until a gate opens.
///
/// # Errors
/// When it does not in time; then the words are those of the last look.
fn wait_for(session: &Session, target: &Target, node: &TargetNode, gate: &Gate) -> anyhow::Result<()> {
    let hint = "look at the component's log on that node; the next node was not touched";
    wait_until(session, node.node.name(), &gate.to_string(), hint, || proof::look(target, node, gate, session.by_now()))
}

/// Waits until `look` says yes. `whom` is a node's name, or `cluster`.
///
/// # Errors
/// When it does not in time: with `whom`, `what` and the last refusal. 130 when interrupted.
fn wait_until(
    session: &Session,
    whom: &str,
    what: &str,
    hint: &str,
    look: impl FnMut() -> Result<(), String>,
) -> anyhow::Result<()> {
    wait_up_to(PATIENCE, session, (whom, what, hint), look)
}

/// As [`wait_until`], for components that have to come back from nothing, one after another.
///
/// # Errors
/// As [`wait_until`].
pub fn wait_within(
    session: &Session,
    whom: &str,
    what: &str,
    hint: &str,
    look: impl FnMut() -> Result<(), String>,
) -> anyhow::Result<()> {
    wait_up_to(REVIVAL, session, (whom, what, hint), look)
}

fn wait_up_to(
    patience: Duration,
    session: &Session,
    (whom, what, hint): (&str, &str, &str),
    mut look: impl FnMut() -> Result<(), String>,
) -> anyhow::Result<()> {
    session.ui.step(&format!("{whom}: waiting until {what}"));
    let look = || look().inspect_err(|reason| session.ui.debug(&format!("{whom}: not yet: {what}: {reason}")));
    match until(Instant::now() + patience, &session.interrupt, look) {
        Ok(()) => Ok(()),
        Err(Stopped::Interrupted) => Err(Failure::new(ExitCode::Interrupted, format!("{whom}: interrupted")).into()),
        Err(Stopped::Late(reason)) => {
            let message = format!("{whom}: not within {} s: {what}: {reason}", patience.as_secs());
            Err(Failure::failed(message).hint(hint).into())
        }
    }
}

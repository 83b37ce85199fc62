//! What has to be true of the cluster before a repair counts as done: of each node in turn while the cluster lives, of the
//! whole when it had to be brought back.

use super::RepairCertsArgs;
use super::approval;
use super::course::command_for;
use super::sight::Sight;
use crate::apply::journal::Journal;
use crate::cli::live::{self, between::Letting};
use crate::cli::rolling::{Heading, Moment, Rolling};
use crate::cli::session::Session;
use crate::cli::target::{TargetArgs, TargetNode};
use crate::error::Failure;
use crate::plan::gates::Gate;
use crate::plan::phase::Phase;
use crate::plan::repair::{Fault, Repair};

/// What is said when the whole does not get well.
const HINT: &str =
    "look at the component's log on that node (crictl logs, journalctl -u kubelet); `--continue` waits again";

/// How often it is looked again whether everything has settled, and how long between (seconds).
const LOOKS: usize = 12;
const PAUSE: time::Duration = time::Duration::seconds(5);

/// The engine for both ways: what belongs to a round of a repair is proven when the round is over everywhere.
pub(super) fn rolling<'a>(session: &'a Session, sight: &'a Sight, args: &'a TargetArgs) -> Rolling<'a> {
    let inner = live::rolling(session, &sight.target, args, &sight.manifests, None, Letting::default());
    let Rolling { means, parallel, prove, before, between } = inner;
    let own = move |node: &TargetNode, journal: &Journal, step: usize| {
        if journal.phase_of(step).is_of_repair() { Ok(()) } else { prove(node, journal, step) }
    };
    let drained = move |node: &TargetNode, journal: &Journal, step: usize, heading: Heading| {
        if !journal.phase_of(step).is_of_repair() {
            before(node, journal, step, heading);
        }
    };
    let moments = move |moment: Moment, legs: &[(&TargetNode, Journal)]| match moment {
        Moment::After(phase) if phase.is_of_repair() => whole(session, sight, phase, legs),
        Moment::Before(phase) | Moment::TakenBack(phase) if phase.is_of_repair() => Ok(()),
        other => between(other, legs),
    };
    Rolling { means, parallel, prove: Box::new(own), before: Box::new(drained), between: Box::new(moments) }
}

/// After a round of a repair: what it has started has to be well everywhere; after the last one, everything.
fn whole(session: &Session, sight: &Sight, phase: Phase, legs: &[(&TargetNode, Journal)]) -> anyhow::Result<()> {
    let last = legs.iter().flat_map(|(_, journal)| journal.phases()).max();
    let is_last = last == Some(phase);
    if phase == Phase::StartEtcd || is_last {
        for node in sight.rulers().filter(|node| sight.runs(node, "etcd")) {
            // Members that cannot be reached may be away; the others have to be enough.
            live::wait_within(session, node.node.name(), "etcd is healthy", HINT, || {
                live::etcd(node, sight.lost_ruler)
            })?;
        }
    }
    if phase == Phase::StartServers || is_last {
        for node in sight.rulers().filter(|node| sight.runs(node, "kube-apiserver")) {
            wait(session, sight, node, &Gate::ApiReady)?;
        }
    }
    if !is_last {
        return Ok(());
    }
    let mut seen: Vec<(String, Gate)> = Vec::new();
    for (node, journal) in legs {
        for step in 0..journal.step_count() {
            for gate in live::gates_of(node, journal, step, &sight.means, &sight.manifests) {
                let key = (node.node.name().to_owned(), gate);
                let is_done = matches!(key.1, Gate::EtcdHealthy | Gate::ApiReady) || seen.contains(&key);
                if !is_done {
                    wait(session, sight, node, &key.1)?;
                    seen.push(key);
                }
            }
        }
    }
    Ok(())
}

fn wait(session: &Session, sight: &Sight, node: &TargetNode, gate: &Gate) -> anyhow::Result<()> {
    live::wait_within(session, node.node.name(), &gate.to_string(), HINT, || {
        live::look(&sight.target, node, gate, session.by_now())
    })
}

impl Sight {
    /// Whether a component has its place on a node.
    fn runs(&self, node: &TargetNode, component: &str) -> bool {
        live::runs(&self.means, &self.manifests, node, component)
    }
}

/// Starts components anew on nodes of which no file has changed.
///
/// # Errors
/// Exit code 6 when a command fails.
pub(super) fn restart(session: &Session, sight: &Sight, components: &[(String, String)]) -> anyhow::Result<()> {
    for (name, component) in components {
        let (Some(node), Some(command)) = (sight.node(name), command_for(sight, component)) else { continue };
        session.ui.step(&format!("{name}: restarting {component}: {command}"));
        node.node.run(&command).map_err(|error| {
            error.context(Failure::partial(format!("{name}: {component} could not be restarted")).hint("run it again"))
        })?;
    }
    Ok(())
}

/// Looks again, until nothing that this repair mends is left, or it is clear that something stays. A kubelet that was down asks
/// for a serving certificate only now that it runs: that is approved as what was planned.
///
/// # Errors
/// When a node cannot be read any more, or a kubelet does not come to serve.
pub(super) fn settled(
    args: &RepairCertsArgs,
    session: &Session,
    sight: &Sight,
    before: &Repair,
) -> anyhow::Result<Repair> {
    let looks = if sight.is_live { LOOKS } else { 1 };
    let is_known =
        |fault: &Fault| before.left().iter().any(|known| known.node == fault.node && known.path == fault.path);
    let mut approved: Vec<String> = before.approvals.clone();
    for round in 1.. {
        let after = sight.look(args, session).map_err(|error| {
            error.context(Failure::partial("everything was written, but cannot be looked at").hint("run it again"))
        })?;
        let waiting = after.approvals.iter().filter(|name| sight.is_live && !approved.contains(name));
        let waiting: Vec<String> = waiting.cloned().collect();
        if !waiting.is_empty() {
            approval::approve(session, sight, &waiting)?;
            approved.extend(waiting);
            continue;
        }
        if round >= looks || after.faults.iter().all(is_known) || !session.wait(PAUSE) {
            return Ok(after);
        }
        session.ui.debug(&format!("{} findings have not settled yet", after.faults.len()));
    }
    Ok(Repair::default())
}

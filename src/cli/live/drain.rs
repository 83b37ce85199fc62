//! What is about to end lets go first: an API server takes no new connections for a moment, a member of etcd leads no more.
//!
//! kube-apiserver without `--shutdown-delay-duration` (kubeadm sets none) stops answering as soon as it is told to end, and
//! whoever has just connected gets an error. So its process may open no more files for a second before that (prlimit(1),
//! util-linux): connections wait in the kernel's queue before any TLS, load balancers see that and go elsewhere, requests
//! under way are answered. Without a second API server there is nowhere to go, so nothing is done.
//!
//! A step that was interrupted may have ended it already: then what runs is new, and is left alone.
//!
//! A leader of etcd that ends costs every client an election. It hands over while it still serves.

use std::path::Path;

use super::proof;
use crate::apply::journal::{FileState, Journal};
use crate::apply::sha256;
use crate::cli::rolling::Heading;
use crate::cli::session::Session;
use crate::cli::target::{Target, TargetNode};
use crate::pki::layout::Role;

/// The component.
const API_SERVER: &str = "kube-apiserver";

/// The other.
const ETCD: &str = "etcd";

/// Takes the limit away again after half a minute, should the process still be there then. The second is what a load
/// balancer needs to look twice, if it looks every half second. A limit of three is that of an earlier run that was stopped: what
/// was there before it nobody knows, and kube-apiserver raises its own to the hard one when it starts, as all programs in Go.
pub const DRAIN: &str = r#"
of_it() { [ "$(cat "/proc/$1/comm" 2>/dev/null)" = kube-apiserver ]; }
for process in $(pidof kube-apiserver); do
  of_it "$process" || continue
  limits=$(prlimit --pid "$process" --nofile --output SOFT,HARD --noheadings) || continue
  set -- $limits
  before=$1
  [ "$before" != 3 ] || before=$2
  prlimit --pid "$process" --nofile=3: || continue
  ( sleep 30; of_it "$process" && prlimit --pid "$process" --nofile="$before": ) </dev/null >/dev/null 2>&1 &
done
sleep 1
"#;

/// Before a step of a node that ends its API server or its member of etcd. What goes wrong is no error: the step would end
/// them anyway.
pub(super) fn drain(
    session: &Session,
    target: &Target,
    node: &TargetNode,
    journal: &Journal,
    (step, heading): (usize, Heading),
) {
    let Some(planned) = journal.steps.get(step) else { return };
    let ends = |name: &str| planned.stops.iter().chain(&planned.restarts).any(|component| component == name);
    let others = target.nodes.iter().filter(|other| other.role == Role::ControlPlane).count() > 1;
    let is_there = |name: &str| ends(name) && others && still_runs(node, journal, name, (step, heading));
    let name = node.node.name();
    if is_there(API_SERVER) && !waits_by_itself(node, journal) {
        session.ui.step(&format!("{name}: kube-apiserver takes no new connections for a moment before it ends"));
        if let Err(error) = node.node.run(DRAIN) {
            session.ui.debug(&format!("{name}: it could not be told to: {error:#}"));
        }
    }
    if is_there(ETCD) {
        match proof::member(node).and_then(|own| own.hand_over().map_err(|error| error.to_string())) {
            Ok(Some(leader)) => session.ui.step(&format!("{name}: etcd's lead goes to {leader}")),
            Ok(None) => {}
            Err(reason) => session.ui.debug(&format!("{name}: etcd did not hand over its lead: {reason}")),
        }
    }
}

/// Whether the step has yet to end the component: its manifest is there, and is not what the step leads to.
fn still_runs(node: &TargetNode, journal: &Journal, component: &str, (step, heading): (usize, Heading)) -> bool {
    let Some(path) = super::manifest_of(journal, component) else { return true };
    let Some(text) = super::text_of(node, path) else { return false };
    let entry = journal.changes.iter().find(|entry| entry.step == step && Path::new(&entry.path) == path);
    let goal = entry.map(|entry| match heading {
        Heading::Onwards => &entry.after,
        Heading::Back => &entry.before,
    });
    !matches!(goal, Some(FileState::File { sha256: goal, .. }) if *goal == sha256(text.as_bytes()))
}

/// Whether the API server goes on answering for a while after it was told to end.
fn waits_by_itself(node: &TargetNode, journal: &Journal) -> bool {
    let Some(path) = super::manifest_of(journal, API_SERVER) else { return false };
    super::text_of(node, path).is_some_and(|text| text.contains("--shutdown-delay-duration="))
}

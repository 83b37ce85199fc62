//! Since when every API server works by its files as they are now.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::cli::live::proof;
use crate::cli::session::Session;
use crate::cli::target::Target;
use crate::live::wait::{Stopped, until};
use crate::node::Node;
use crate::node::fleet::{AT_ONCE, side_by_side};
use crate::pki::layout::Role;
use crate::plan::enforcement::{AUTHORIZATION, CLIENT_TRUST};
use crate::plan::gates::Gate;

/// How long one may take: it rereads its files within a second, and polls them every minute should it have missed that.
const PATIENCE: Duration = Duration::from_secs(75);

/// How long one that answers nobody is waited for. It reads its files when it starts.
const GRACE: Duration = Duration::from_secs(5);

/// Asks every control-plane node's API server until it works by its files; the moment of the answer, or why there is none.
pub fn in_force(session: &Session, target: &Target) -> Vec<(String, Result<OffsetDateTime, String>)> {
    let rulers: Vec<_> = target.nodes.iter().filter(|node| node.role == Role::ControlPlane).collect();
    let nodes: Vec<&dyn Node> = rulers.iter().map(|node| &*node.node).collect();
    let answers = side_by_side(&nodes, AT_ONCE, &session.interrupt, &|_| {}, &|node| {
        let Some(ruler) = rulers.iter().find(|ruler| ruler.node.name() == node.name()) else {
            return Ok(Err("it is none of the target's".to_owned()));
        };
        let gates = [
            Gate::Authorizes { path: ruler.layout.pki_dir.join(AUTHORIZATION) },
            Gate::Believes { path: ruler.layout.pki_dir.join(CLIENT_TRUST) },
        ];
        let look = |gate: &Gate| proof::look(target, ruler, gate, session.by_now());
        let began = Instant::now();
        let is_up = until(began + GRACE, &session.interrupt, || look(&Gate::ApiReady));
        if let Err(stopped) = is_up {
            return Ok(Err(format!(
                "kube-apiserver does not answer ({}); it reads its files when it starts",
                words(stopped)
            )));
        }
        for gate in &gates {
            if let Err(stopped) = until(began + PATIENCE, &session.interrupt, || look(gate)) {
                return Ok(Err(words(stopped)));
            }
        }
        Ok(Ok(session.by_now()))
    });
    let said = answers.into_iter().map(|answer| answer.unwrap_or_else(|error| Err(format!("{error:#}"))));
    nodes.iter().map(|node| node.name().to_owned()).zip(said).collect()
}

fn words(stopped: Stopped<String>) -> String {
    match stopped {
        Stopped::Late(reason) => reason,
        Stopped::Interrupted => "interrupted".to_owned(),
    }
}

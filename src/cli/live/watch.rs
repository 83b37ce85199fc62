//! How long the API gave no answer while an operation ran, as whoever runs it would have noticed.

use std::time::Duration;

use crate::cli::target::Target;
use crate::live::availability::Probe;
use crate::live::credential::Credential;
use crate::node::local::LocalNode;
use crate::node::probe::Endpoint;
use crate::node::{FoundState, Node, Query};
use crate::pki::layout::Role;

/// Begins to ask the cluster's endpoint. `None` where nobody knows it or it is not reached from this machine, so that nothing
/// can be measured.
pub fn availability(target: &Target) -> Option<Probe> {
    let endpoint = declared(target).or_else(|| administrators(target))?;
    let here = LocalNode::open("local", "/").ok()?;
    here.dial(&endpoint.host, endpoint.port, Duration::from_secs(2)).ok()?;
    Probe::start(Box::new(here), endpoint).ok()
}

fn declared(target: &Target) -> Option<Endpoint> {
    let text = target.cluster.as_ref()?.spec.control_plane_endpoint.as_deref()?;
    text.parse().or_else(|_| format!("{text}:6443").parse()).ok()
}

fn administrators(target: &Target) -> Option<Endpoint> {
    let mut ruling = target.nodes.iter().filter(|node| node.role == Role::ControlPlane);
    ruling.find_map(|node| {
        let path = node.layout.kubernetes_dir.as_ref()?.join("admin.conf");
        let found = node.node.read(&[Query::Metadata(path.clone())]).ok()?.into_iter().next()?;
        let is_there = !matches!(found.state, FoundState::Missing);
        is_there.then(|| Credential::read(&*node.node, &path).ok())??.server
    })
}

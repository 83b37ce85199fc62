//! kube-apiserver: refuses by the certificate's SHA-256 in its authorization configuration.

use std::path::PathBuf;

use super::result::{ComponentState, Enforcement};
use super::{Case, Part, Seat};
use crate::error::Failure;

/// The files that the plan has to see.
pub fn reads(_seat: &Seat) -> Vec<PathBuf> {
    Vec::new()
}

/// The configuration on every control-plane node.
///
/// # Errors
/// None yet.
pub fn plan(case: &Case<'_>) -> Result<Part, Failure> {
    let state = |seat: &Seat| ComponentState {
        component: "kube-apiserver",
        node: Some(seat.node.clone()),
        state: Enforcement::NeedsPrepare,
        reason: "it reads no authorization configuration of kubepki: `kubepki revoke --prepare` sets that up once"
            .to_owned(),
        since: None,
    };
    Ok(Part { states: case.seats.iter().map(state).collect(), ..Part::default() })
}

//! etcd: refuses by serial number, read from a revocation list at every handshake.

use std::path::PathBuf;

use super::result::{ComponentState, Enforcement};
use super::{Case, Part, Seat};
use crate::error::Failure;

/// The files that the plan has to see.
pub fn reads(_seat: &Seat) -> Vec<PathBuf> {
    Vec::new()
}

/// The lists on every control-plane node.
///
/// # Errors
/// None yet.
pub fn plan(case: &Case<'_>) -> Result<Part, Failure> {
    let state = |seat: &Seat| ComponentState {
        component: "etcd",
        node: Some(seat.node.clone()),
        state: Enforcement::NeedsPrepare,
        reason: "it reads no revocation list of kubepki: `kubepki revoke --prepare` sets that up once".to_owned(),
        since: None,
    };
    Ok(Part { states: case.seats.iter().map(state).collect(), ..Part::default() })
}

//! Where a target stands: what the journals on its nodes say.

use super::session::Session;
use super::target::{Target, TargetArgs};
use super::transactions::transactions;
use crate::plan::operation::{Operation, ProvisioningState};
use crate::report::{Cell, Tone};

/// The last operation of each node that has one, with the node's name.
///
/// # Errors
/// When kubepki's own folder on a node, or a journal in it, cannot be read.
pub fn last_operations(
    session: &Session,
    args: &TargetArgs,
    target: &Target,
) -> anyhow::Result<Vec<(String, Operation)>> {
    let mut found = Vec::new();
    for node in &target.nodes {
        let transactions = transactions(session, "show", args, node, &|_| ());
        // A damaged journal may belong to an operation that has not ended: that must not pass for a success.
        let unfinished = transactions.unfinished()?.map(|journal| journal.operation);
        let last = match unfinished {
            Some(operation) => Some(operation),
            None => transactions.last()?,
        };
        found.extend(last.map(|operation| (node.node.name().to_owned(), operation)));
    }
    Ok(found)
}

/// What the operations of all nodes come to: the one that needs most attention decides. Nothing recorded is a success.
pub fn overall(operations: &[(String, Operation)]) -> ProvisioningState {
    let states = operations.iter().map(|(_, operation)| operation.provisioning_state);
    states.max_by_key(|state| urgency(*state)).unwrap_or(ProvisioningState::Succeeded)
}

fn urgency(state: ProvisioningState) -> u8 {
    match state {
        ProvisioningState::Planned | ProvisioningState::Succeeded => 0,
        ProvisioningState::Canceled => 1,
        ProvisioningState::CertificateRotating => 2,
        ProvisioningState::Failed => 3,
    }
}

/// A state in words and colour, as Azure writes it.
pub fn cell(state: ProvisioningState) -> Cell {
    let tone = match state {
        ProvisioningState::Succeeded => Tone::Good,
        ProvisioningState::Planned | ProvisioningState::Canceled => Tone::Plain,
        ProvisioningState::CertificateRotating => Tone::Attention,
        ProvisioningState::Failed => Tone::Bad,
    };
    Cell::toned(format!("{state:?}"), tone)
}

//! Issuance: kubepki itself makes no certificate that an entry of the ledger means.

use super::result::{ComponentState, Enforcement};
use super::{Case, Part};
use crate::error::Failure;

/// Says so: the ledger alone enforces it.
///
/// # Errors
/// Never; all components' plans have the same form.
pub fn plan(_case: &Case<'_>) -> Result<Part, Failure> {
    let state = ComponentState {
        component: "issuance",
        node: None,
        state: Enforcement::Enforced,
        reason:
            "kubepki issues nothing that these entries mean; requests that are approved by others are still signed by \
                 kube-controller-manager"
                .to_owned(),
        since: None,
    };
    Ok(Part { states: vec![state], ..Part::default() })
}

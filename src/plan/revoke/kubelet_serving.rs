//! Serving certificates of kubelets: nobody who connects to a kubelet asks for a revocation list, so they cannot be revoked.

use super::result::{ComponentState, Enforcement};
use super::{Case, Part};
use crate::error::Failure;

/// Says so, and until when those that are meant will be believed.
///
/// # Errors
/// Never; all components' plans have the same form.
pub fn plan(case: &Case<'_>) -> Result<Part, Failure> {
    let hit: Vec<_> = case.hit().filter(|known| known.is_kubelet_serving()).collect();
    let until = hit.iter().filter_map(|known| known.issued.not_after).max();
    let why = "whoever connects to a kubelet checks no revocation list";
    let reason = match until {
        Some(until) => {
            let date = until.date();
            format!("{why}: {} of these stay valid until they are renewed, at the latest until {date}", hit.len())
        }
        None => format!("{why}; none of these certificates is a kubelet's own for serving"),
    };
    let state = ComponentState {
        component: "kubelet-serving",
        node: None,
        state: Enforcement::NotEnforceable,
        reason,
        since: None,
    };
    let next_steps = if hit.is_empty() {
        Vec::new()
    } else {
        vec![
            "have these kubelets make new serving certificates: `kubepki repair-certs --fix-kubelet-credentials`"
                .into(),
        ]
    };
    Ok(Part { states: vec![state], next_steps, ..Part::default() })
}

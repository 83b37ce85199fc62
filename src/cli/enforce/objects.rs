//! `revoke --apply`: the revocations as objects in the cluster, for whoever looks there. What is enforced is the ledger on the
//! control-plane nodes; the objects are copies of it.

use serde_json::Value;

use super::anywhere;
use crate::cli::target::Target;
use crate::error::Failure;
use crate::live::revocation_objects::Stored;

/// The definition of the kind.
pub const DEFINITION: &str = include_str!("../../../docs/renewrevocation-crd.yaml");

/// Creates or updates these objects (as RenewRevocation documents in JSON), and the definition of their kind where the cluster
/// has none; says of each what became of it.
///
/// # Errors
/// Exit code 6 when no API server takes them; what was written before stays, and the same can be done again.
pub fn apply(target: &Target, objects: &[Value]) -> anyhow::Result<Vec<(String, Stored)>> {
    let definition: Value = serde_yaml::from_str(DEFINITION)?;
    let done = anywhere(target, |api| {
        api.define_revocations(&definition)?;
        objects.iter().map(|object| Ok((name(object), api.store_revocation(object)?))).collect::<Result<Vec<_>, _>>()
    });
    done.map_err(|reason| {
        Failure::partial(format!("the revocations are on the ledger, but not stored in the cluster: {reason}"))
            .hint(
                "the ledger on the nodes is what is enforced; `kubepki revoke --apply` stores it in the cluster later",
            )
            .into()
    })
}

/// Deletes the object of a revocation that was taken back; says whether there was one.
///
/// # Errors
/// Exit code 6 when no API server does it.
pub fn delete(target: &Target, namespace: &str, name: &str) -> anyhow::Result<bool> {
    anywhere(target, |api| api.delete_revocation(namespace, name)).map_err(|reason| {
        Failure::partial(format!("it is off the ledger, but the object {namespace}/{name} is not deleted: {reason}"))
            .hint("`kubectl delete renewrevocations` does it once an API server answers")
            .into()
    })
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

//! The ledger of a cluster out of those of its nodes, and what becomes of it: objects added, replaced, taken out.

use time::OffsetDateTime;

use crate::error::Failure;
use crate::pki::revocation::{Entry, Revocation};
use crate::snapshot::Snapshot;

/// The ledger that all nodes together have, with a sentence for everything in which they differ. Where one node revokes
/// something and another does not, it is revoked.
///
/// # Errors
/// When a node's ledger cannot be read: then nobody knows what it revokes, and writing it anew could let somebody in.
pub fn of(snapshot: &Snapshot) -> Result<(Vec<Revocation>, Vec<String>), Failure> {
    let (mut ledger, mut differences): (Vec<Revocation>, Vec<String>) = (Vec::new(), Vec::new());
    for node in &snapshot.nodes {
        if let Some(fault) = &node.records.ledger.fault {
            let message = format!("node {}: {}: {fault}", node.name, node.records.ledger_path().display());
            return Err(Failure::failed(message).hint(
                "correct it by hand, or copy that of another control-plane node; it is a list of RenewRevocation documents",
            ));
        }
        for revocation in &node.records.ledger.revocations {
            let Some(own) = ledger.iter_mut().find(|own| own.name == revocation.name) else {
                ledger.push(revocation.clone());
                continue;
            };
            let missing: Vec<_> =
                revocation.entries.iter().filter(|entry| !own.entries.contains(entry)).cloned().collect();
            if !missing.is_empty() || own.entries.iter().any(|entry| !revocation.entries.contains(entry)) {
                differences.push(format!(
                    "node {}: the revocation {} has other entries than on the nodes before it; all of them count",
                    node.name, own.name
                ));
            }
            own.entries.extend(missing);
        }
    }
    Ok((ledger, differences))
}

/// Puts `new` into a ledger. One of the same name is replaced; one that says the same stays as it is, with its time.
pub fn put(ledger: &mut Vec<Revocation>, new: &[Revocation], now: OffsetDateTime) {
    for revocation in new {
        let dated = Revocation { created: Some(revocation.created.unwrap_or(now)), ..revocation.clone() };
        match ledger.iter_mut().find(|own| own.name == revocation.name) {
            Some(own) if (&own.entries, &own.description) == (&dated.entries, &dated.description) => {}
            Some(own) => *own = dated,
            None => ledger.push(dated),
        }
    }
}

/// Takes the one of that name out.
///
/// # Errors
/// Exit code 3 when there is none.
pub fn take(ledger: &mut Vec<Revocation>, name: &str) -> Result<Revocation, Failure> {
    match ledger.iter().position(|revocation| revocation.name == name) {
        Some(place) => Ok(ledger.remove(place)),
        None => {
            let names: Vec<&str> = ledger.iter().map(|revocation| revocation.name.as_str()).collect();
            let hint =
                if names.is_empty() { "there is none".to_owned() } else { format!("there are {}", names.join(", ")) };
            Err(Failure::not_found(format!("there is no revocation `{name}`")).hint(hint))
        }
    }
}

/// The revocation that says what `entry` says, or more.
pub fn covering<'l>(ledger: &'l [Revocation], entry: &Entry) -> Option<&'l Revocation> {
    ledger.iter().find(|revocation| revocation.entries.iter().any(|own| own.covers(entry)))
}

/// The entries of one that was taken out which the ledger says all the same, with the name of the revocation that does.
pub fn still<'l>(ledger: &'l [Revocation], taken: &'l Revocation) -> Vec<(&'l Entry, &'l str)> {
    let entries = taken.entries.iter();
    entries.filter_map(|entry| Some((entry, covering(ledger, entry)?.name.as_str()))).collect()
}

//! Signing requests for everything that is selected and that an authority has to sign whose key is elsewhere.
//!
//! A request is for the key in use and says what the certificate in use says, so nothing on any node changes.

use time::OffsetDateTime;

use super::external::{file_name, folder_of};
use super::fate::{Fate, Left};
use super::inventory::{Inventory, KeyFound, Leaf};
use super::issue::source;
use super::request::{Offered, Request};
use super::select::{Selection, authority_elsewhere};
use super::{COMMAND, consequences, difference, refuse_idle_names, refuse_unseen};
use crate::error::Failure;
use crate::pki::hex;
use crate::plan::blueprint::{
    Basis, Blueprint, CertificatePlan, FileContent, IssuerPlan, KeyPlan, NodeBlueprint, PlannedFile,
};
use crate::plan::compare::{Wish, request_differences};
use crate::plan::operation::FileAction;
use crate::snapshot::{Content, Snapshot};

/// Mode of a request, which holds nothing secret.
const PUBLIC: u32 = 0o644;

/// Plans the requests: the files of each node are those below its own folder in `into`, on the machine that runs kubepki. A
/// request that lies there already and asks for the same stays. [`Request::external`] has to be
/// [`External::Asked`](super::External::Asked).
///
/// # Errors
/// As [`super::plan`]; also when nothing that is selected is signed elsewhere.
pub fn ask(snapshot: &Snapshot, request: &Request, into: &Offered, now: OffsetDateTime) -> Result<Blueprint, Failure> {
    refuse_unseen(snapshot)?;
    let inventory = Inventory::of(snapshot, false);
    let selection = Selection::of(&inventory, request, now)?;
    refuse_idle_names(&inventory, &selection, request)?;
    let mut blueprint = Blueprint { command: COMMAND.to_owned(), ..Blueprint::default() };
    let mut is_concerned = false;
    for (at, leaf) in inventory.leaves.iter().enumerate() {
        let is_elsewhere = authority_elsewhere(&inventory, leaf, request).is_some();
        is_concerned |= is_elsewhere && selection.leaves[at] != Fate::Untouched;
        if is_elsewhere && selection.leaves[at].is_new() {
            add(&mut blueprint, (leaf, file_name(&inventory, at)), request, into, now)?;
        }
    }
    if !is_concerned {
        return Err(Failure::failed(
            "nothing that is selected has to be signed elsewhere: the keys of its authorities are here",
        )
        .hint("the same command without --csr-only replaces it"));
    }
    blueprint.warnings = missing_keys(&inventory, &selection);
    Ok(blueprint)
}

/// Adds the request of one leaf.
fn add(
    blueprint: &mut Blueprint,
    (leaf, name): (&Leaf<'_>, String),
    request: &Request,
    into: &Offered,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let (Some(home), KeyFound::Matching(place)) = (leaf.homes.first(), leaf.key()) else { return Ok(()) };
    let (node, old) = (home.node.name.clone(), leaf.certificate);
    let path = folder_of(&into.folder, &node).join(format!("{name}.csr"));
    let change = difference::of(leaf, request)?;
    for words in change.words {
        blueprint.differences.push((node.clone(), path.clone(), words));
    }
    let wish = Wish {
        subject: change.subject.as_ref().unwrap_or(old.subject()),
        sans: change.sans.as_deref().unwrap_or(old.sans()),
        usages: change.usages.as_deref().unwrap_or(old.extended_key_usage().unwrap_or_default()),
    };
    let there = into.found.at(&path).filter(|artifact| !artifact.is_missing());
    let content = there.and_then(|artifact| artifact.content());
    let is_same = content.is_some_and(|content| asks_for(content, wish, leaf));
    let id = format!("{node}/{name}");
    let file = PlannedFile {
        path,
        step: 0,
        name: home.name.clone(),
        action: match (there, is_same) {
            (None, _) => FileAction::Created,
            (Some(_), true) => FileAction::Unchanged,
            (Some(_), false) => FileAction::Replaced,
        },
        content: (!is_same).then(|| FileContent::Request(id.clone())),
        mode: PUBLIC,
        seen: content.map(|content| hex(&content.sha256)),
        old_serial_number: Some(old.serial().to_string()),
        not_after: None,
    };
    if !is_same {
        blueprint.keys.push(KeyPlan { id: id.clone(), source: source(home, place) });
        let old = Box::new(old.clone());
        let basis = Basis::Renewal { old, subject: change.subject, sans: change.sans, usages: change.usages };
        let (key, issuer, not_after) = (id.clone(), IssuerPlan::External, now);
        blueprint.certificates.push(CertificatePlan { id, key, basis, issuer, not_before: now, not_after });
    }
    match blueprint.nodes.iter_mut().find(|known| known.node == node) {
        Some(known) => known.files.push(file),
        None => {
            blueprint.nodes.push(NodeBlueprint { node, files: vec![file], restarts: Vec::new(), steps: Vec::new() })
        }
    }
    Ok(())
}

/// Whether there is a request for the same key that asks for the same.
fn asks_for(content: &Content, wish: Wish<'_>, leaf: &Leaf<'_>) -> bool {
    let Some(Ok(request)) = content.requests.first() else { return false };
    leaf.certificate.certifies(&request.public_key) && request_differences(request, wish).is_empty()
}

/// What cannot be asked for, although it was selected.
fn missing_keys(inventory: &Inventory<'_>, selection: &Selection) -> Vec<String> {
    let concerns = |left: &Left| matches!(left, Left::NoKey { .. } | Left::UnknownIssuer { .. });
    consequences::left_alone_for(inventory, selection, &concerns)
}

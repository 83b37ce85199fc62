//! A blueprint and what was minted for it, as transactions: one per node, files in the blueprint's order.

use super::change::{Change, ChangeKind, Expected, FileMode, Request};
use super::existing;
use super::mint::Minted;
use super::render;
use crate::node::{Node, Owner};
use crate::plan::blueprint::{Blueprint, FileContent, NodeBlueprint, PlannedFile};
use crate::plan::operation::{FileAction, FileReport, Operation};

/// Permission bits of folders that a transaction has to make; kubeadm's are the same.
const FOLDER_MODE: u32 = 0o755;

/// The transaction of each node that has something to change, with the operation it belongs to.
///
/// # Errors
/// When a file cannot be rendered, see [`render::file`].
pub fn requests<'a>(
    blueprint: &Blueprint,
    operation: &Operation,
    nodes: &[&'a dyn Node],
    minted: &Minted,
) -> anyhow::Result<Vec<(&'a dyn Node, Request)>> {
    let mut requests = Vec::new();
    for plan in &blueprint.nodes {
        let node = existing::find(nodes, &plan.node)?;
        let changes = changes(node, blueprint, plan, minted)?;
        if !changes.is_empty() {
            let restarts = plan.files.iter().filter(|file| matches!(file.content, Some(FileContent::Manifest(_))));
            let restarting = restarts.map(|file| file.path.display().to_string()).collect();
            let (operation, words) = (operation.clone(), Vec::new());
            requests.push((
                node,
                Request {
                    operation,
                    changes,
                    directory_mode: FOLDER_MODE,
                    restarting,
                    steps: plan.steps.clone(),
                    words,
                },
            ));
        }
    }
    Ok(requests)
}

fn changes(
    node: &dyn Node,
    blueprint: &Blueprint,
    plan: &NodeBlueprint,
    minted: &Minted,
) -> anyhow::Result<Vec<Change>> {
    plan.files
        .iter()
        .filter(|file| file.action != FileAction::Unchanged)
        .map(|file| {
            let last = plan.files.iter().rfind(|other| other.path == file.path).unwrap_or(file);
            let planned = blueprint.report(plan, &file.path).unwrap_or_else(|| passing(file));
            change(node, file, report(last, planned, minted), minted)
        })
        .collect()
}

/// A file that comes and goes within the operation.
fn passing(file: &PlannedFile) -> FileReport {
    FileReport {
        path: file.path.display().to_string(),
        name: file.name.clone(),
        action: file.action,
        old_serial_number: None,
        new_serial_number: None,
        not_after: None,
        differences: Vec::new(),
    }
}

fn change(node: &dyn Node, file: &PlannedFile, report: FileReport, minted: &Minted) -> anyhow::Result<Change> {
    let seen = file.seen.clone().map_or(Expected::Absent, Expected::Sha256);
    let (kind, expected) = match &file.content {
        Some(FileContent::Link { was: Some(was), .. }) if file.action == FileAction::Removed => {
            (ChangeKind::Remove, Expected::LinkTo(was.clone()))
        }
        None => (ChangeKind::Remove, seen),
        Some(FileContent::Link { target, was }) => {
            (ChangeKind::Link { target: target.clone() }, was.clone().map_or(seen, Expected::LinkTo))
        }
        Some(dressed @ FileContent::Dressed { owner, .. }) => {
            let content = render::file(node, &file.path, dressed, minted)?;
            let owner = owner.map(|(uid, gid)| Owner { uid, gid });
            (ChangeKind::Write { content, mode: FileMode::Exactly(file.mode), owner }, seen)
        }
        Some(content) => {
            let content = render::file(node, &file.path, content, minted)?;
            (ChangeKind::Write { content, mode: FileMode::KeepOr(file.mode), owner: None }, seen)
        }
    };
    Ok(Change { report, kind, step: file.step, expected })
}

/// The file as the result shows it: now the new certificate has a serial number.
fn report(file: &PlannedFile, planned: FileReport, minted: &Minted) -> FileReport {
    let certificate = file.content.as_ref().and_then(|content| render::leading_certificate(content, minted));
    FileReport {
        new_serial_number: certificate.map(|certificate| certificate.serial().to_string()),
        not_after: certificate.map_or(file.not_after, |certificate| Some(certificate.not_after())),
        ..planned
    }
}

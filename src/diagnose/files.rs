//! Is every file there, readable, whole, and closed to everybody who should not see or change it?

use std::collections::HashMap;

use super::case::Case;
use super::finding::{Finding, FindingId};
use super::row::{Member, is_key_file};
use crate::snapshot::{Artifact, NodeSnapshot, Source, State, key_paths};

pub(super) fn check(case: &mut Case<'_, '_>) {
    let owners = usual_owners(case);
    for row in 0..case.rows.len() {
        state(case, row);
        // A key is looked at with its certificate.
        if case.rows[row].is_first() || case.rows[row].member == Member::Keys && !case.has_certificate(row) {
            access(case, row, &owners);
        }
    }
}

fn state(case: &mut Case<'_, '_>, row: usize) {
    let artifact = case.rows[row].artifact;
    if artifact.source == Source::Endpoint {
        return;
    }
    let path = artifact.path.display().to_string();
    let renew = case.renew(row);
    match (&artifact.state, case.rows[row].member) {
        (State::Missing { expected: true }, _) => {
            let create = case.command(&format!("create-certs --only {}", case.rows[row].name));
            let remedy = if artifact.part.is_some() { create } else { "check the path".to_owned() };
            case.add(row, FindingId::FileMissing, format!("{path} is not there"), remedy);
        }
        (State::Missing { expected: false }, _) => {
            let message = format!("{path} is not there; nothing says that this node needs it");
            case.add(row, FindingId::FileNotExpected, message, "nothing");
        }
        (State::Unreadable(reason), Member::Whole) => {
            let by_us = reason.contains("ermission");
            let remedy = if by_us { "run kubepki as root".to_owned() } else { renew };
            let id = if by_us { FindingId::FileUnreadable } else { malformed_or_unreadable(reason) };
            case.add(row, id, format!("{path}: {reason}"), remedy);
        }
        (State::Unreadable(_), _) => {}
        (State::Read(content), member) => {
            let problem = match member {
                Member::Certificate(index) => content.found_certificates[index].as_ref().err().cloned(),
                Member::Whole if content.kubeconfig.is_none() => Some("there is no certificate in it".to_owned()),
                Member::Damaged => Some(match content.damaged_blocks {
                    1 => "a PEM block begins and cannot be read".to_owned(),
                    count => format!("{count} PEM blocks begin and cannot be read"),
                }),
                _ => None,
            };
            if let Some(problem) = problem {
                let id = FindingId::FileMalformed;
                case.add(row, id, format!("{}: {problem}", case.rows[row].path), renew);
            }
        }
    }
}

/// What the observer says of files that were read and hold nothing, apart from those that could not be read.
fn malformed_or_unreadable(reason: &str) -> FindingId {
    let read = ["the file is", "no certificate"];
    if read.iter().any(|start| reason.starts_with(start)) {
        FindingId::FileMalformed
    } else {
        FindingId::FileUnreadable
    }
}

/// The owner of most files of each node.
fn usual_owners(case: &Case<'_, '_>) -> Vec<Option<u32>> {
    case.snapshot.nodes.iter().map(|node| usual_owner(node).map(|(uid, _)| uid)).collect()
}

/// User and group of most files of a node.
pub fn usual_owner(node: &NodeSnapshot) -> Option<(u32, u32)> {
    let mut counts: HashMap<(u32, u32), usize> = HashMap::new();
    for metadata in node.artifacts.iter().filter_map(|artifact| artifact.metadata) {
        *counts.entry((metadata.uid, metadata.gid)).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(owner, count)| (*count, std::cmp::Reverse(*owner))).map(|(owner, _)| owner)
}

fn access(case: &mut Case<'_, '_>, row: usize, owners: &[Option<u32>]) {
    let own = case.rows[row].artifact;
    let mut files = vec![own];
    if case.rows[row].member != Member::Keys {
        files.extend(key_paths(own).iter().filter_map(|path| case.file(row, path)));
    }
    for file in files {
        for Finding { id, message, remedy } in exposures(file, owners[case.rows[row].node]) {
            case.add(row, id, message, remedy);
        }
    }
}

/// What is wrong with mode and owner of a file, `usual` being the owner of most files beside it.
pub fn exposures(file: &Artifact, usual: Option<u32>) -> Vec<Finding> {
    let Some(metadata) = file.metadata else { return Vec::new() };
    let mut found = Vec::new();
    let mut add = |id, message, remedy| found.push(Finding { id, message, remedy });
    let path = file.path.display();
    let secret = holds_key(file);
    if secret && metadata.mode & 0o004 != 0 {
        let message = format!("everybody can read the private key in {path} (mode {:04o})", metadata.mode);
        add(FindingId::KeyExposed, message, format!("chmod 0600 {path}"));
    }
    if metadata.mode & 0o002 != 0 {
        let message = format!("everybody can change {path} (mode {:04o})", metadata.mode);
        add(FindingId::FileWritable, message, format!("chmod o-w {path}"));
    }
    // The components of a rootless control plane have system users; people have numbers from 1000 on.
    if secret && metadata.uid >= 1000 && usual.is_some_and(|usual| usual < 1000) {
        let message = format!("{path} belongs to user {}, its neighbours do not", metadata.uid);
        add(FindingId::OwnerUnexpected, message, format!("chown root: {path}"));
    }
    found
}

/// Whether a file holds a private key or a password.
pub fn holds_key(file: &Artifact) -> bool {
    match &file.state {
        State::Read(content) => match &content.kubeconfig {
            Some(Ok(kubeconfig)) => kubeconfig
                .users
                .iter()
                .any(|user| user.has_other_credential || user.key.file.is_none() && user.key.content.is_some()),
            _ => content.private_key.is_some() || content.damaged_blocks > 0 && is_key_file(file),
        },
        State::Unreadable(_) => is_key_file(file) && file.path.extension().is_none_or(|ending| ending != "pub"),
        State::Missing { .. } => false,
    }
}

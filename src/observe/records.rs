//! kubepki's own records: the ledger of revocations and the register of issued certificates, where there are any.

use std::path::{Path, PathBuf};

use super::{Scope, content};
use crate::node::{Found, FoundState, Query};
use crate::pki::catalog::Catalog;
use crate::pki::hex;
use crate::pki::layout::{LEDGER, RECORDS, REGISTER};
use crate::pki::register::Register;
use crate::pki::revocation::manifest;
use crate::snapshot::{Artifact, Records, Source, State};

/// Where they may lie, the likeliest first.
fn folders(scope: &Scope) -> Vec<PathBuf> {
    match scope {
        Scope::PkiDir(folder) => vec![folder.join(RECORDS)],
        Scope::Machine { kubernetes, .. } => {
            let rancher = [Catalog::K3s, Catalog::Rke2]
                .map(|catalog| Path::new(catalog.folder()).join("server/tls").join(RECORDS));
            let own = ["pki", "certs"].map(|name| kubernetes.join(name).join(RECORDS));
            own.into_iter().chain(rancher).collect()
        }
        Scope::Path(_) | Scope::Kubeconfig(_) => Vec::new(),
    }
}

/// What to ask a node for.
pub(super) fn queries(scope: &Scope) -> Vec<Query> {
    let folders = folders(scope);
    folders.iter().flat_map(|folder| [LEDGER, REGISTER].map(|name| Query::File(folder.join(name)))).collect()
}

/// Takes the records out of what was found: they are no certificates. With several folders the first counts that holds any.
pub(super) fn take(scopes: &[Scope], found: &mut Vec<Found>) -> Records {
    let folders: Vec<PathBuf> = scopes.iter().flat_map(folders).collect();
    let is_record = |path: &Path| folders.iter().any(|folder| path.parent() == Some(folder.as_path()));
    let mut own = Vec::new();
    found.retain(|file| {
        let is_own = is_record(&file.path);
        if is_own {
            own.push(file.clone());
        }
        !is_own
    });
    let is_there = |folder: &&PathBuf| {
        own.iter().any(|file| file.path.starts_with(folder) && !matches!(file.state, FoundState::Missing))
    };
    let Some(folder) = folders.iter().find(is_there).or(folders.first()) else { return Records::default() };
    let mut records = Records { folder: folder.clone(), ..Records::default() };
    for file in own.into_iter().filter(|file| file.path.starts_with(folder)) {
        let is_ledger = file.path.ends_with(LEDGER);
        match file.state {
            FoundState::File(bytes) if is_ledger => {
                records.ledger.sha256 = Some(hex(&content::sha256(&bytes)));
                match manifest::read(&bytes) {
                    Ok(revocations) => records.ledger.revocations = revocations,
                    // The last revocation was taken back.
                    Err(_) if bytes.iter().all(u8::is_ascii_whitespace) => {}
                    Err(fault) => records.ledger.fault = Some(fault.to_string()),
                }
            }
            FoundState::File(bytes) => {
                records.register_sha256 = Some(hex(&content::sha256(&bytes)));
                records.register = Register::read(&bytes);
            }
            FoundState::Unreadable(reason) if is_ledger => records.ledger.fault = Some(reason),
            FoundState::Unreadable(reason) => records.register.fault = Some(reason),
            FoundState::Directory | FoundState::Unread if is_ledger => {
                records.ledger.fault = Some("it is not a file".to_owned());
            }
            FoundState::Missing | FoundState::Directory | FoundState::Unread => {}
        }
    }
    records
}

/// A ledger that cannot be read is a file like any other that cannot: it has a row.
pub(super) fn damaged(records: &Records) -> Option<Artifact> {
    let reason = records.ledger.fault.clone()?;
    Some(Artifact {
        path: records.ledger_path(),
        source: Source::Pki,
        part: None,
        server: None,
        link: None,
        metadata: None,
        state: State::Unreadable(format!("nobody knows what is revoked: {reason}")),
    })
}

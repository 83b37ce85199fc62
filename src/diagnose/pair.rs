//! Does the private key belong to the certificate, and is it there at all?

use super::case::{Case, KeyOf};
use super::finding::FindingId;
use super::row::Member;
use crate::pki::catalog::Kind;
use crate::snapshot::{Source, State};

pub(super) fn check(case: &mut Case<'_, '_>) {
    for row in 0..case.rows.len() {
        match case.rows[row].member {
            Member::Certificate(0) => file(case, row),
            Member::User(name, 0) => user(case, row, name),
            Member::Keys => service_account(case, row),
            _ => {}
        }
    }
}

fn file(case: &mut Case<'_, '_>, row: usize) {
    if case.rows[row].artifact.source == Source::Endpoint {
        return;
    }
    let renew = case.renew(row);
    match case.key_of(row) {
        KeyOf::Found(key, artifact) => {
            let Some(content) = case.rows[row].artifact.content() else { return };
            let certifies = |index: usize| {
                content
                    .found_certificates
                    .get(index)
                    .and_then(|found| found.as_ref().ok())
                    .is_some_and(|certificate| certificate.certifies(&key.public_key))
            };
            if case.rows[row].certificate.is_none() || certifies(0) {
                return;
            }
            let later = (1..content.found_certificates.len()).find(|index| certifies(*index));
            let key_path = artifact.path.display();
            if let Some(later) = later {
                let message =
                    format!("{key_path} belongs to certificate {} of the file; readers take the first", later + 1);
                case.add(row, FindingId::BundleOrder, message, "put that certificate first in the file");
            } else {
                let message = format!("{key_path} is not the private key of this certificate");
                case.add(row, FindingId::KeyMismatch, message, renew);
            }
        }
        KeyOf::Unreadable(reason, artifact) => {
            let message = format!("the private key {} cannot be read: {reason}", artifact.path.display());
            let (id, remedy) = unreadable(&reason, renew);
            case.add(row, id, message, remedy);
        }
        KeyOf::Encrypted(artifact) => {
            let path = artifact.path.display();
            let message = format!("the private key {path} is encrypted; Kubernetes cannot use it");
            let remedy = format!("openssl pkey -in {path} -out {path}.plain, then put that in its place");
            case.add(row, FindingId::KeyEncrypted, message, remedy);
        }
        KeyOf::Absent if needs_key(case, row) => {
            let message = "its private key is not there; whatever uses it does not start again";
            case.add(row, FindingId::KeyMissing, message, renew);
        }
        KeyOf::Absent => {}
    }
}

/// A CA without a key is kept elsewhere; a leaf without one is of no use, unless it is a copy in a folder without keys.
fn needs_key(case: &Case<'_, '_>, row: usize) -> bool {
    let Some(part) = case.rows[row].artifact.part.filter(|part| part.entry.kind == Kind::Leaf) else { return false };
    let has_key = |other: &crate::snapshot::Artifact| {
        other.part.is_some_and(|it| it.catalog == part.catalog && it.entry.kind == Kind::Leaf && it.is_key)
    };
    part.entry.key.is_none() || case.node(row).artifacts.iter().any(has_key)
}

fn user(case: &mut Case<'_, '_>, row: usize, name: &str) {
    let content = case.rows[row].artifact.content();
    let Some(Ok(kubeconfig)) = content.and_then(|content| content.kubeconfig.as_ref()) else { return };
    let Some(user) = kubeconfig.users.iter().find(|user| user.name == name) else { return };
    let Some(certificate) = case.rows[row].certificate else { return };
    let renew = case.renew(row);
    let shown = user.key.file.as_ref().map_or_else(|| "client-key-data".to_owned(), |path| path.display().to_string());
    match &user.key.content {
        Some(Ok(content)) => match &content.private_key {
            Some(Ok(key)) if certificate.certifies(&key.public_key) => {}
            Some(Ok(_)) => {
                let message = format!("{shown} is not the private key of the client certificate");
                case.add(row, FindingId::KeyMismatch, message, renew);
            }
            Some(Err(error)) => case.add(row, FindingId::KeyUnreadable, format!("{shown}: {error}"), renew),
            None => case.add(row, FindingId::KeyUnreadable, format!("{shown}: there is no private key in it"), renew),
        },
        Some(Err(reason)) => case.add(row, FindingId::KeyUnreadable, format!("the client key: {reason}"), renew),
        // A reference out of a bare folder is not followed.
        None if user.key.file.is_some() => {}
        None => {
            case.add(row, FindingId::KeyMissing, "the user entry has a client certificate but no key", renew);
        }
    }
}

/// The service-account pair is no certificate: the API server checks tokens with every key in `sa.pub` and the controller
/// manager signs them with `sa.key`. Also keys that belong to no certificate.
fn service_account(case: &mut Case<'_, '_>, row: usize) {
    let artifact = case.rows[row].artifact;
    let Some(part) = artifact.part.filter(|part| part.entry.kind == Kind::ServiceAccount) else {
        return lone_key(case, row);
    };
    let remedy = case.command(&format!("rotate-certs --only {}", part.entry.id));
    let path = artifact.path.display().to_string();
    match &artifact.state {
        State::Unreadable(reason) => {
            let (id, remedy) = unreadable(reason, remedy);
            case.add(row, id, format!("{path}: {reason}"), remedy);
        }
        State::Read(content) => {
            let damaged = content.public_keys.iter().find_map(|key| key.as_ref().err());
            match &content.private_key {
                Some(Err(error)) => return case.add(row, FindingId::KeyUnreadable, format!("{path}: {error}"), remedy),
                None if part.is_key => {
                    let message = format!("{path}: there is no whole private key in it");
                    return case.add(row, FindingId::KeyUnreadable, message, remedy);
                }
                _ if content.damaged_blocks > 0 => {
                    let message = format!("{path}: {} of its PEM blocks cannot be read", content.damaged_blocks);
                    return case.add(row, FindingId::FileMalformed, message, remedy);
                }
                _ => {}
            }
            if let Some(reason) = damaged {
                return case.add(row, FindingId::FileMalformed, format!("{path}: {reason}"), remedy);
            }
            if !part.is_key {
                public_matches(case, row, remedy);
            }
        }
        State::Missing { .. } => {}
    }
}

fn public_matches(case: &mut Case<'_, '_>, row: usize, remedy: String) {
    let Some(id) = case.rows[row].id() else { return };
    let key =
        case.node(row).key_of(id).and_then(|file| file.content()).and_then(|content| content.private_key.as_ref());
    let (Some(Ok(key)), Some(content)) = (key, case.rows[row].artifact.content()) else { return };
    let known = content.public_keys.iter().filter_map(|found| found.as_ref().ok());
    if !known.clone().any(|public| *public == key.public_key) {
        let count = known.count();
        let message =
            format!("none of its {count} public keys is that of the private key; tokens signed now are refused");
        case.add(row, FindingId::ServiceAccountMismatch, message, remedy);
    }
}

/// A key file whose certificate is not there has nobody else to speak for it.
fn lone_key(case: &mut Case<'_, '_>, row: usize) {
    let artifact = case.rows[row].artifact;
    let path = artifact.path.display().to_string();
    let problem = match &artifact.state {
        State::Unreadable(reason) => reason.clone(),
        State::Read(content) => match &content.private_key {
            Some(Err(error)) => error.to_string(),
            _ if content.damaged_blocks > 0 => "part of it is damaged".to_owned(),
            _ => return,
        },
        State::Missing { .. } => return,
    };
    // Beside a certificate the finding stands with that.
    if !case.has_certificate(row) {
        let (id, remedy) = unreadable(&problem, "bring the file back from a backup".to_owned());
        case.add(row, id, format!("{path}: {problem}"), remedy);
    }
}

/// A key that only others may read is no damaged key.
fn unreadable(reason: &str, remedy: String) -> (FindingId, String) {
    if reason.contains("ermission") {
        (FindingId::FileUnreadable, "run kubepki as root".to_owned())
    } else {
        (FindingId::KeyUnreadable, remedy)
    }
}

//! What stands in the way of a rotation, as errors: node, path, what is wrong, and one next step.

use std::path::Path;

use super::fate::Left;
use super::held::Fault;
use super::inventory::{Authority, Home, Inventory, KeyFound, KeyPlace, Leaf, TokenKey};
use super::scope::{Candidate, Class, Scopes};
use crate::error::Failure;
use crate::pki::catalog::Kind;
use crate::pki::private_key::KeyError;
use crate::plan::problem::Problem;

/// Refuses when a file that the rotation is about cannot be read.
pub(super) fn unreadable(inventory: &Inventory<'_>, only: &Scopes) -> Result<(), Failure> {
    let concerns = |fault: &&Fault<'_>| {
        let class = match fault.kind {
            Some(Kind::Authority) => Class::Authority,
            Some(Kind::Leaf | Kind::Kubeconfig) => Class::Leaf,
            Some(Kind::ServiceAccount) => Class::ServiceAccount,
            None => return false,
        };
        let candidate = Candidate { class, name: &fault.name, path: Path::new(&fault.path) };
        let is_given_up = fault.is_replaceable && class != Class::Authority && only.name(candidate);
        only.contain(candidate) && !is_given_up
    };
    let Some(fault) = inventory.faults.iter().find(concerns) else { return Ok(()) };
    Err(of_fault(fault))
}

/// What may be behind an authority that is not known or has no key: a file of an authority that cannot be read. One that has
/// a place of its own lacks no other file than its own.
pub(super) fn unreadable_authority(inventory: &Inventory<'_>, left: &Left) -> Option<Failure> {
    let own = match left {
        Left::UnknownIssuer { .. } => None,
        Left::NoAuthorityKey { authority } => {
            let mut homes = inventory.authorities.iter().flat_map(|authority| &authority.homes);
            homes.any(|home| home.name == *authority && home.catalog.is_some()).then_some(authority)
        }
        _ => return None,
    };
    let is_behind = |fault: &&Fault<'_>| {
        fault.kind == Some(Kind::Authority) && own.is_none_or(|authority| fault.name == *authority)
    };
    inventory.faults.iter().find(is_behind).map(of_fault)
}

fn of_fault(fault: &Fault<'_>) -> Failure {
    let failure = Failure::failed(format!("node {}: {}: {}", fault.node, fault.path, fault.reason));
    if fault.reason.to_lowercase().contains("permission denied") {
        return failure.hint("run it as root");
    }
    failure.hint(format!(
        "restore {} from a backup, or, if it is lost, move it away and make it anew with `kubepki create-certs`",
        fault.path
    ))
}

/// Refuses an authority whose key cannot sign for it.
pub(super) fn authority_key(authority: &Authority<'_>) -> Result<(), Failure> {
    let Some(home) = authority.homes.first() else { return Ok(()) };
    match authority.key() {
        KeyFound::Matching(_) | KeyFound::Missing(_) => Ok(()),
        KeyFound::Foreign(place) => Err(foreign(home, place).hint(format!(
            "restore the key that belongs to {} from a backup; without a key file the authority counts as managed elsewhere",
            home.path.display()
        ))),
        KeyFound::Broken(place, error) => Err(broken(home, place, error)),
    }
}

/// Refuses a leaf whose key is not as expected, unless it was asked for by name: then a new pair replaces both.
pub(super) fn leaf_key(leaf: &Leaf<'_>, is_named: bool, same_key: bool) -> Result<(), Failure> {
    let Some(home) = leaf.homes.first() else { return Ok(()) };
    let way_out = format!("`--only {}` makes a new pair", home.name);
    match leaf.key() {
        KeyFound::Missing(_) if same_key => Err(Failure::failed(format!(
            "node {}: {}: its private key is not here, so it cannot be kept",
            home.node.name,
            home.place().display()
        ))
        .hint("leave --same-key away")),
        KeyFound::Matching(_) | KeyFound::Missing(_) => Ok(()),
        KeyFound::Foreign(_) | KeyFound::Broken(..) if is_named && !same_key => Ok(()),
        KeyFound::Foreign(place) => Err(foreign(home, place).hint(way_out)),
        KeyFound::Broken(place, KeyError::Encrypted) => Err(broken(home, place, &KeyError::Encrypted)),
        KeyFound::Broken(place, error) => {
            Err(Failure::failed(format!("node {}: {}: {error}", home.node.name, key_path(home, place))).hint(way_out))
        }
    }
}

/// Refuses to replace a token key that cannot be read, unless it was asked for by name.
pub(super) fn token_key(key: &TokenKey<'_>, is_named: bool) -> Result<(), Failure> {
    match key.private {
        Some((path, Err(error))) if !is_named => {
            Err(Failure::failed(format!("node {}: {}: {error}", key.node.name, path.display()))
                .hint(format!("`--only {}` makes a new pair; tokens signed before are refused then", key.name)))
        }
        _ => Ok(()),
    }
}

/// An authority that has ended, so that nothing under it can be issued again.
pub(super) fn ended(authority: &Authority<'_>, name: &str) -> Failure {
    let failure = Failure::failed(format!(
        "{}the authority ended on {}, so `{name}` cannot be issued again",
        authority
            .homes
            .first()
            .map(|home| format!("node {}: {}: ", home.node.name, home.path.display()))
            .unwrap_or_default(),
        authority.certificate.not_after().date()
    ));
    if !authority.has_key() {
        return failure
            .hint("whoever holds its key has to renew it first: put its new certificate in the place of the old one");
    }
    let scope = if authority.name() == "ca" { "cluster-ca" } else { authority.name() };
    failure.hint(format!(
        "`kubepki rotate-certs --only {scope}` replaces it and everything it signed; with --same-key it keeps its key"
    ))
}

/// Two certificates of one key, of which only one can be issued again.
pub(super) fn shared_key(one: &Leaf<'_>, other: &Leaf<'_>) -> Failure {
    let path = other.homes.first().map(|home| home.place().display().to_string()).unwrap_or_default();
    Failure::failed(format!("`{}` has the same private key as {path}, which cannot be issued again here", one.name()))
        .hint("--same-key keeps the key")
}

/// A request cannot be signed, because the key of a leaf is not as expected.
pub(super) fn key_to_ask_with(leaf: &Leaf<'_>) -> Failure {
    let way_out =
        format!("`kubepki create-certs --csr-only --force --only {}` makes a new pair and its request", leaf.name());
    let failure = match (leaf.homes.first(), leaf.key()) {
        (Some(home), KeyFound::Foreign(place)) => foreign(home, place),
        (Some(home), KeyFound::Broken(place, error)) => {
            Failure::failed(format!("node {}: {}: {error}", home.node.name, key_path(home, place)))
        }
        _ => Failure::failed(format!("`{}`: its private key is not here", leaf.name())),
    };
    failure.hint(way_out)
}

/// Authorities that could only be replaced in part.
pub(super) fn half(names: &[&str], problems: &[&Problem]) -> Failure {
    let mut message = format!(
        "`{}` cannot be replaced, because not everything that it has to sign came back as wanted:",
        names.join("`, `")
    );
    for problem in problems {
        message.push_str("\n  ");
        message.push_str(&problem.to_string());
    }
    let mut hints: Vec<String> = Vec::new();
    for hint in problems.iter().map(|problem| problem.hint()) {
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    Failure::failed(message).hint(hints.join("; "))
}

/// An authority whose key is here, below one that is replaced elsewhere.
pub(super) fn foreign_parent(authority: &Authority<'_>, parent: &Authority<'_>) -> Failure {
    let path = authority.homes.first().map(|home| home.place().display().to_string()).unwrap_or_default();
    Failure::failed(format!(
        "{path}: the authority `{}` was signed by `{}`, which is replaced by one whose key is not here",
        authority.name(),
        parent.name()
    ))
    .hint("replace it first, or have it signed by the new authority and put it in place yourself")
}

fn foreign(home: &Home<'_>, place: &KeyPlace<'_>) -> Failure {
    Failure::failed(format!(
        "node {}: the private key {} does not belong to the certificate {}",
        home.node.name,
        key_path(home, place),
        home.place().display()
    ))
}

fn broken(home: &Home<'_>, place: &KeyPlace<'_>, error: &KeyError) -> Failure {
    let path = key_path(home, place);
    let failure = Failure::failed(format!("node {}: {path}: {error}", home.node.name));
    match error {
        KeyError::Encrypted => failure.hint(format!(
            "put the decrypted key in its place: `openssl pkey -in {path} -out {path}.plain`, then move that over it"
        )),
        _ => failure
            .hint(format!("look at it with `openssl pkey -in {path} -noout -check`, or restore it from a backup")),
    }
}

fn key_path(home: &Home<'_>, place: &KeyPlace<'_>) -> String {
    match place {
        KeyPlace::File(path) => path.display().to_string(),
        KeyPlace::Kubeconfig(..) => home.place().display().to_string(),
    }
}

//! The files that kubeconfigs refer to, read where the kubeconfig is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{Keys, Scope, content};
use crate::node::{Found, FoundState, Node, Query};
use crate::snapshot::{Artifact, Content, Material, State};

/// Reads every file that a kubeconfig among `artifacts` refers to, in one go. A bare certificate folder is not left.
pub(super) fn follow(node: &dyn Node, scopes: &[Scope], artifacts: &mut [Artifact], keys: Keys) -> anyhow::Result<()> {
    let allowed = |path: &PathBuf| {
        scopes.iter().any(|scope| match scope {
            Scope::PkiDir(folder) => path.starts_with(folder),
            _ => true,
        })
    };
    let wanted: BTreeSet<PathBuf> =
        artifacts.iter_mut().flat_map(materials).filter_map(|material| material.file.clone()).filter(allowed).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    // Most lie where everything has been read already.
    let known = |artifact: &Artifact| match &artifact.state {
        State::Read(content) if wanted.contains(&artifact.path) && content.kubeconfig.is_none() => {
            Some((artifact.path.clone(), Ok((**content).clone())))
        }
        _ => None,
    };
    let mut found: BTreeMap<PathBuf, Result<Content, String>> = artifacts.iter().filter_map(known).collect();
    let left: Vec<Query> = wanted.into_iter().filter(|path| !found.contains_key(path)).map(Query::File).collect();
    if !left.is_empty() {
        found.extend(node.read(&left)?.into_iter().map(|file| (file.path.clone(), read(file, keys))));
    }
    for material in artifacts.iter_mut().flat_map(materials) {
        if let Some(result) = material.file.as_ref().and_then(|path| found.get(path)) {
            material.content = Some(result.clone().map(Box::new));
        }
    }
    Ok(())
}

fn read(file: Found, keys: Keys) -> Result<Content, String> {
    let reason = match file.state {
        FoundState::File(bytes) => return Ok(content::read(&bytes, keys)),
        FoundState::Missing => "does not exist".to_owned(),
        FoundState::Directory => "is a folder".to_owned(),
        FoundState::Unread => "was not read".to_owned(),
        FoundState::Unreadable(reason) => format!("cannot be read: {reason}"),
    };
    Err(format!("{} {reason}", file.path.display()))
}

fn materials(artifact: &mut Artifact) -> impl Iterator<Item = &mut Material> {
    let content = match &mut artifact.state {
        State::Read(content) => Some(content),
        State::Missing { .. } | State::Unreadable(_) => None,
    };
    let kubeconfig = content.and_then(|content| content.kubeconfig.as_mut()).and_then(|found| found.as_mut().ok());
    kubeconfig.into_iter().flat_map(|kubeconfig| {
        let authorities = kubeconfig.clusters.iter_mut().map(|cluster| &mut cluster.authority);
        let users = kubeconfig.users.iter_mut().flat_map(|user| [&mut user.certificate, &mut user.key]);
        authorities.chain(users)
    })
}

//! What a node found to artifacts: what each file is, what it holds, and which files are of no interest.

use std::path::Path;

use rayon::prelude::*;

use super::place::Place;
use super::{Keys, Scope, content};
use crate::node::{Found, FoundState};
use crate::pki::catalog::{Catalog, Keeper, Kind, kubelet};
use crate::pki::crl;
use crate::snapshot::{Artifact, Content, Metadata, Part, Source, State};

/// Files from which the work is spread over all cores; below, starting threads costs more than it saves.
const MANY: usize = 200;

/// Names that promise a certificate, a key, a request or a kubeconfig.
const TELLING: [&str; 11] = ["crt", "pem", "cer", "cert", "der", "key", "pub", "csr", "conf", "kubeconfig", "p8"];

/// Every file of interest.
pub(super) fn artifacts(found: Vec<Found>, scopes: &[Scope], places: &[Place], keys: Keys) -> Vec<Artifact> {
    let superseded = superseded(&found);
    let read = |(index, file): (usize, Found)| {
        if superseded[index] { None } else { artifact(file, scopes, places, keys) }
    };
    if found.len() < MANY {
        found.into_iter().enumerate().filter_map(read).collect()
    } else {
        found.into_par_iter().enumerate().filter_map(read).collect()
    }
}

/// Marks the dated files of a kubelet's folder that its `current` link has left behind, or, without a link, all but the
/// latest: the kubelet never removes them and nobody uses them.
fn superseded(found: &[Found]) -> Vec<bool> {
    let name = |file: &Found| file.path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let mut marks = vec![false; found.len()];
    for (index, file) in found.iter().enumerate() {
        let Some(own) = name(file).filter(|name| kubelet::is_dated(name)) else { continue };
        let kind = &own[.."kubelet-client-".len()];
        marks[index] = found.iter().any(|other| {
            let beside = other.path.parent() == file.path.parent() && !matches!(other.state, FoundState::Missing);
            let other = name(other).unwrap_or_default();
            let later = kubelet::is_dated(&other) && other > own;
            beside && other.starts_with(kind) && (later || other == format!("{kind}current.pem"))
        });
    }
    marks
}

fn artifact(file: Found, scopes: &[Scope], places: &[Place], keys: Keys) -> Option<Artifact> {
    let asked_for = scopes.iter().any(|scope| scope.named() == Some(file.path.as_path()));
    let part = places.iter().find_map(|place| place.part(&file.path));
    let extension = file.path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let telling = TELLING.contains(&extension) || part.is_some();
    let mut is_kubeconfig = part.is_some_and(|part| part.entry.kind == Kind::Kubeconfig)
        || scopes.iter().any(|scope| matches!(scope, Scope::Kubeconfig(path) if *path == file.path));
    let state = match file.state {
        FoundState::Missing if file.link.is_some() && telling => {
            State::Unreadable("the symbolic link leads to nothing".to_owned())
        }
        FoundState::Missing if asked_for => State::Missing { expected: true },
        FoundState::Directory if part.is_some() => State::Unreadable("it is a folder".to_owned()),
        FoundState::Missing | FoundState::Directory | FoundState::Unread => return None,
        // What cannot be looked at may be anything: names decide, and folders have none.
        FoundState::Unreadable(_) if !telling && !asked_for && !extension.is_empty() => return None,
        FoundState::Unreadable(reason) => State::Unreadable(reason),
        FoundState::File(bytes) => {
            let mut content = if is_kubeconfig { Content::default() } else { content::read(&bytes, keys) };
            is_kubeconfig |= content.is_empty() && content::looks_like_kubeconfig(&bytes);
            if is_kubeconfig {
                let folder = file.path.parent().unwrap_or(Path::new("/"));
                content.sha256 = content::sha256(&bytes);
                content.kubeconfig = Some(content::kubeconfig(&bytes, folder, keys));
            }
            if crl::is_list(&bytes) {
                // Good or bad, it is no certificate; what is revoked is told by the ledger.
                return None;
            }
            if content.is_empty() {
                if !telling && !asked_for {
                    return None;
                }
                State::Unreadable(nothing_in(&bytes).to_owned())
            } else {
                State::Read(Box::new(content))
            }
        }
    };
    let metadata = file.metadata.map(|found| Metadata {
        mode: found.mode,
        uid: found.uid,
        gid: found.gid,
        modified: found.modified,
    });
    let source = source(part, is_kubeconfig);
    Some(Artifact { path: file.path, source, part, server: None, link: file.link, metadata, state })
}

fn nothing_in(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() {
        "the file is empty"
    } else if bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
        "the file is blank"
    } else {
        "no certificate, key, request or kubeconfig in it"
    }
}

fn source(part: Option<Part>, is_kubeconfig: bool) -> Source {
    match part {
        _ if is_kubeconfig => Source::Kubeconfig,
        Some(part) if part.catalog == Catalog::Kubelet || part.entry.keeper == Keeper::Kubelet => Source::Kubelet,
        Some(part) if part.entry.id.starts_with("agent-kubelet") => Source::Kubelet,
        _ => Source::Pki,
    }
}

/// Puts artifacts in the order of the catalogs, then by path.
pub(super) fn sort(artifacts: &mut Vec<Artifact>) {
    let rank = |artifact: &Artifact| {
        let place =
            artifact.part.and_then(|part| part.catalog.entries().iter().position(|entry| *entry == *part.entry));
        (place.is_none(), artifact.part.map(|part| part.catalog), place)
    };
    artifacts.sort_by(|one, other| rank(one).cmp(&rank(other)).then_with(|| one.path.cmp(&other.path)));
    artifacts.dedup_by(|later, earlier| later.path == earlier.path);
}

//! Keys and certificates to files: every file that holds something replaced is written anew, nothing else is touched.
//!
//! The order is the one in which things break least if somebody looks in between: token keys, authorities, leaves,
//! kubeconfigs, other bundles, the kubelet's own; a key stands right before its certificate.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::fate::Fate;
use super::held::{self, Held, Spared};
use super::inventory::{Inventory, TokenKey};
use super::issue::Issuance;
use super::kubelet;
use super::request::Request;
use super::select::Selection;
use crate::error::Failure;
use crate::pki::catalog::Kind;
use crate::pki::certificate::Certificate;
use crate::pki::chain::{self, Signature};
use crate::pki::hex;
use crate::plan::blueprint::{
    CertificateRef, FileContent, Id, KeyPlan, KeySource, KubeconfigPlan, NodeBlueprint, PlannedFile, PublicKeyRef,
};
use crate::plan::operation::FileAction;
use crate::snapshot::{Kubeconfig, Material};

/// Mode of new files that hold a key.
pub(super) const SECRET: u32 = 0o600;

/// A file's place in the order: its kind, the pair it belongs to, and key before certificate.
type Rank = (u8, usize, u8);

/// Plans every file of every node. Keys that have to be written again although they stay are added to `issuance`.
///
/// # Errors
/// For a damaged file that would have to be written anew.
pub(super) fn plan(
    inventory: &Inventory<'_>,
    selection: &Selection,
    issuance: &mut Issuance,
    request: &Request,
    now: OffsetDateTime,
) -> Result<Vec<NodeBlueprint>, Failure> {
    let mut nodes: Vec<(&str, Vec<(Rank, PlannedFile)>)> = Vec::new();
    follow_links(inventory, issuance);
    for file in &inventory.files {
        let at = position(&mut nodes, &file.node.name);
        nodes[at].1.extend(rewritten(inventory, selection, file, issuance, request, now)?);
    }
    let known: HashSet<(&str, &Path)> =
        inventory.files.iter().map(|file| (file.node.name.as_str(), file.path)).collect();
    for ((node, path, user), id) in &issuance.key_places {
        if user.is_none() && !known.contains(&(node.as_str(), path.as_path())) {
            let at = position(&mut nodes, node);
            let name = inventory_name(inventory, node, path, id);
            let content = FileContent::PrivateKey(id.clone());
            nodes[at].1.push((rank(issuance, Some(id), None, 0), created(path.clone(), name, content)));
        }
    }
    for (node, left) in left_alone(inventory, selection) {
        let at = position(&mut nodes, node);
        let planned: HashSet<PathBuf> = nodes[at].1.iter().map(|(_, file)| file.path.clone()).collect();
        let left = left.into_iter().filter(|file| !planned.contains(&file.path));
        nodes[at].1.extend(left.map(|file| ((u8::MAX, 0, 0), file)));
    }
    Ok(nodes
        .into_iter()
        .map(|(node, mut files)| {
            files.sort_by_key(|(rank, _)| *rank);
            NodeBlueprint {
                node: node.to_owned(),
                files: files.into_iter().map(|(_, file)| file).collect(),
                restarts: Vec::new(),
                steps: Vec::new(),
            }
        })
        .collect())
}

/// Where a link stands in a key's place, the file it leads to is written.
fn follow_links(inventory: &Inventory<'_>, issuance: &mut Issuance) {
    if inventory.files.iter().all(|file| file.spared != Some(Spared::Alias)) {
        return;
    }
    let places = std::mem::take(&mut issuance.key_places).into_iter();
    issuance.key_places = places
        .map(|((node, path, user), id)| ((node.clone(), held::written(&inventory.files, &node, &path), user), id))
        .collect();
}

fn position<'a>(nodes: &mut Vec<(&'a str, Vec<(Rank, PlannedFile)>)>, name: &'a str) -> usize {
    nodes.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
        nodes.push((name, Vec::new()));
        nodes.len() - 1
    })
}

/// What becomes of one file, if it changes; the kubelet's current certificate is two changes.
fn rewritten(
    inventory: &Inventory<'_>,
    selection: &Selection,
    file: &Held<'_>,
    issuance: &mut Issuance,
    request: &Request,
    now: OffsetDateTime,
) -> Result<Vec<(Rank, PlannedFile)>, Failure> {
    if file.spared.is_some() {
        return Ok(Vec::new());
    }
    if let Some(kubeconfig) = file.kubeconfig() {
        let plan = kubeconfig_plan(file, kubeconfig, issuance);
        return Ok(plan
            .map(|(plan, leading)| {
                let mut planned = replaced(file, FileContent::Kubeconfig(plan));
                describe(&mut planned, leading, issuance);
                (rank(issuance, None, Some(Kind::Kubeconfig), 1), planned)
            })
            .into_iter()
            .collect());
    }
    let token_key = inventory.token_keys.iter().zip(&selection.token_keys).find(|(key, fate)| {
        let is_public = key.public.is_some_and(|(path, _)| path == file.path);
        fate.is_new() && is_public && key.node.name == file.node.name
    });
    if let Some((key, _)) = token_key {
        let content = public_keys(inventory, key, file, issuance, request);
        return Ok(vec![((0, 0, 1), replaced(file, content))]);
    }
    let Some(content) = pem(file, issuance) else { return Ok(Vec::new()) };
    refuse_loss(file)?;
    let leading = file.content.certificates().next();
    let id = leading.and_then(|certificate| issuance.instead.get(&certificate.fingerprint()).cloned());
    let mut planned = replaced(file, content);
    describe(&mut planned, leading, issuance);
    if kubelet::is_current(file) {
        return Ok(kubelet::dated(file, planned, now));
    }
    let is_key = u8::from(!matches!(planned.content, Some(FileContent::PrivateKey(_))));
    let key_id = match &planned.content {
        Some(FileContent::PrivateKey(id)) => Some(id.clone()),
        _ => id,
    };
    Ok(vec![(rank(issuance, key_id.as_ref(), file.part.map(|part| part.entry.kind), is_key), planned)])
}

/// The new content of a PEM file, if anything in it is replaced.
fn pem(file: &Held<'_>, issuance: &mut Issuance) -> Option<FileContent> {
    let node = &file.node.name;
    let new_key = issuance.key_at(node, file.path, None).cloned();
    let (certificates, is_changed) = substituted(file.content.certificates(), issuance);
    if certificates.is_empty() {
        if let Some(id) = new_key {
            return Some(FileContent::PrivateKey(id));
        }
        return copied_public_keys(file, issuance);
    }
    if !is_changed && new_key.is_none() {
        return None;
    }
    if file.content.is_der {
        return certificates.into_iter().next().map(FileContent::Der);
    }
    if file.content.private_key.is_none() {
        return Some(FileContent::Certificates(certificates));
    }
    let key = new_key.unwrap_or_else(|| kept_key(file, issuance));
    Some(FileContent::CertificatesAndKey(certificates, key))
}

/// The certificates with what takes their place, each once, and whether anything changes.
fn substituted<'a>(
    certificates: impl Iterator<Item = &'a Certificate>,
    issuance: &Issuance,
) -> (Vec<CertificateRef>, bool) {
    let all: Vec<&Certificate> = certificates.collect();
    let passed = passed_links(&all, issuance);
    let mut references: Vec<CertificateRef> = Vec::new();
    let mut done: Vec<&Id> = Vec::new();
    let mut is_changed = false;
    for certificate in all {
        match issuance.instead.get(&certificate.fingerprint()) {
            None if passed.contains(&certificate.der()) => {}
            None => references.push(CertificateRef::Existing(Box::new(certificate.clone()))),
            Some(id) => {
                is_changed = true;
                if !done.contains(&id) {
                    done.push(id);
                    references.push(CertificateRef::Planned(id.clone()));
                    let followers = issuance.followers.get(id).into_iter().flatten();
                    references.extend(followers.map(|one| CertificateRef::Existing(Box::new(one.clone()))));
                }
            }
        }
    }
    (references, is_changed)
}

/// Certificates that go with one that was signed elsewhere: the intermediates of the old one, and those that come with the new
/// one anyway.
fn passed_links<'a>(all: &[&'a Certificate], issuance: &'a Issuance) -> Vec<&'a [u8]> {
    let mut passed = Vec::new();
    for certificate in all {
        let id = issuance.instead.get(&certificate.fingerprint());
        let Some(followers) = id.and_then(|id| issuance.followers.get(id)) else { continue };
        passed.extend(followers.iter().map(Certificate::der));
        let mut current = *certificate;
        // A chain is at most as long as there are certificates.
        for _ in 0..all.len() {
            let links = |next: &&&Certificate| {
                let stays = next.is_self_issued() || issuance.instead.contains_key(&next.fingerprint());
                next.is_ca() && !stays && chain::issued(current, next) == Signature::Good
            };
            let Some(next) = all.iter().find(links) else { break };
            passed.push(next.der());
            current = next;
        }
    }
    passed
}

/// The id under which the key of a combined file is read again, because the certificate beside it changes.
fn kept_key(file: &Held<'_>, issuance: &mut Issuance) -> Id {
    let source = KeySource::File { node: file.node.name.clone(), path: file.path.to_path_buf() };
    if let Some(known) = issuance.keys.iter().find(|key| key.source == source) {
        return known.id.clone();
    }
    let id = format!("{}:{}", file.node.name, file.path.display());
    issuance.keys.push(KeyPlan { id: id.clone(), source });
    id
}

/// The new public key, and the old ones where tokens signed with them are to stay valid.
fn public_keys(
    inventory: &Inventory<'_>,
    key: &TokenKey<'_>,
    file: &Held<'_>,
    issuance: &Issuance,
    request: &Request,
) -> FileContent {
    let node = &key.node.name;
    let private = key.private.map(|(path, _)| held::written(&inventory.files, node, path));
    let new = private.and_then(|path| issuance.key_at(node, &path, None));
    let mut keys: Vec<PublicKeyRef> = new.map(|id| PublicKeyRef::Planned(id.clone())).into_iter().collect();
    if request.wait_for_tokens.is_some() || request.rounds {
        keys.extend(file.content.public_keys.iter().flatten().cloned().map(PublicKeyRef::Existing));
    }
    FileContent::PublicKeys(keys)
}

/// A copy of public keys elsewhere, in which only the replaced one changes.
fn copied_public_keys(file: &Held<'_>, issuance: &Issuance) -> Option<FileContent> {
    let keys: Vec<&Vec<u8>> = file.content.public_keys.iter().flatten().collect();
    let of_tokens = |key: &Vec<u8>| issuance.token_keys.get(key);
    keys.iter().any(|key| of_tokens(key).is_some()).then(|| {
        FileContent::PublicKeys(
            keys.into_iter()
                .map(|key| match of_tokens(key) {
                    Some(id) => PublicKeyRef::Planned(id.clone()),
                    None => PublicKeyRef::Existing(key.clone()),
                })
                .collect(),
        )
    })
}

/// The data fields of a kubeconfig that change, and the first certificate among them that is a user's.
fn kubeconfig_plan<'a>(
    file: &Held<'_>,
    kubeconfig: &'a Kubeconfig,
    issuance: &Issuance,
) -> Option<(KubeconfigPlan, Option<&'a Certificate>)> {
    let embedded =
        |material: &'a Material| material.file.is_none().then(|| substituted(material.certificates(), issuance));
    let mut authorities = Vec::new();
    for cluster in &kubeconfig.clusters {
        if let Some((references, true)) = embedded(&cluster.authority) {
            authorities.push((cluster.name.clone(), references));
        }
    }
    let mut clients = Vec::new();
    let mut leading = None;
    for user in &kubeconfig.users {
        let certificates = match embedded(&user.certificate) {
            Some((references, true)) => {
                leading = leading.or_else(|| user.certificate.certificates().next());
                references
            }
            _ => Vec::new(),
        };
        let key = issuance.key_at(&file.node.name, file.path, Some(&user.name)).cloned();
        if !certificates.is_empty() || key.is_some() {
            clients.push((user.name.clone(), certificates, key));
        }
    }
    let is_changed = !authorities.is_empty() || !clients.is_empty();
    is_changed.then_some((KubeconfigPlan::Existing { authorities, clients }, leading))
}

/// Refuses to write a file anew from which something would be lost.
fn refuse_loss(file: &Held<'_>) -> Result<(), Failure> {
    let place = || format!("node {}: {}", file.node.name, file.path.display());
    if let Some(damage) = file.damage() {
        return Err(Failure::failed(format!("{}: it has to be written anew, but {damage}", place()))
            .hint("take the damaged part out of the file, or move the file away"));
    }
    if file.content.is_der && file.content.certificates().next().is_none() {
        return Err(Failure::failed(format!("{}: it holds a bare DER key, which kubepki does not write", place()))
            .hint("put the key there as PEM: `openssl pkey -inform der -in FILE -out FILE.pem`"));
    }
    let holds_certificates = file.content.certificates().next().is_some();
    if holds_certificates && !(file.content.requests.is_empty() && file.content.public_keys.is_empty()) {
        return Err(Failure::failed(format!(
            "{}: it holds more than certificates and a key, which would be lost",
            place()
        ))
        .hint("move the signing requests and public keys in it to files of their own"));
    }
    Ok(())
}

fn replaced(file: &Held<'_>, content: FileContent) -> PlannedFile {
    PlannedFile {
        path: file.path.to_path_buf(),
        step: 0,
        name: file.name.clone(),
        action: FileAction::Replaced,
        content: Some(content),
        mode: SECRET,
        seen: Some(hex(&file.content.sha256)),
        old_serial_number: None,
        not_after: None,
    }
}

/// A file that is not there yet.
pub(super) fn created(path: PathBuf, name: String, content: FileContent) -> PlannedFile {
    PlannedFile {
        path,
        step: 0,
        name,
        action: FileAction::Created,
        content: Some(content),
        mode: SECRET,
        seen: None,
        old_serial_number: None,
        not_after: None,
    }
}

/// Fills in the old serial number and the new end, for a file whose first certificate is `leading`.
fn describe(planned: &mut PlannedFile, leading: Option<&Certificate>, issuance: &Issuance) {
    let Some(leading) = leading else { return };
    let end = issuance.instead.get(&leading.fingerprint()).and_then(|id| issuance.ends.get(id)).copied();
    planned.old_serial_number = Some(leading.serial().to_string());
    planned.not_after = Some(end.unwrap_or_else(|| leading.not_after()));
}

/// Everything that was asked for and stays as it is, by node.
fn left_alone<'a>(inventory: &Inventory<'a>, selection: &Selection) -> BTreeMap<&'a str, Vec<PlannedFile>> {
    let authorities = inventory.authorities.iter().map(|it| (&it.homes, it.certificate)).zip(&selection.authorities);
    let leaves = inventory.leaves.iter().map(|it| (&it.homes, it.certificate)).zip(&selection.leaves);
    let mut left: BTreeMap<&'a str, Vec<PlannedFile>> = BTreeMap::new();
    for ((homes, certificate), fate) in authorities.chain(leaves) {
        if let (Some(home), Fate::Left(_)) = (homes.first(), fate) {
            left.entry(&home.node.name).or_default().push(PlannedFile {
                path: home.path.to_path_buf(),
                step: 0,
                name: home.name.clone(),
                action: FileAction::Unchanged,
                content: None,
                mode: SECRET,
                seen: None,
                old_serial_number: Some(certificate.serial().to_string()),
                not_after: Some(certificate.not_after()),
            });
        }
    }
    left
}

/// The place in the order of a file about the key or certificate `id`.
fn rank(issuance: &Issuance, id: Option<&Id>, kind: Option<Kind>, part: u8) -> Rank {
    let pair = id.and_then(|id| issuance.position(id));
    match (pair, kind) {
        (_, Some(Kind::ServiceAccount)) => (0, 0, part),
        (Some(at), _) if issuance.authorities.contains(&issuance.certificates[at].id) => (1, at, part),
        (Some(at), _) => (2, at, part),
        (None, Some(Kind::Kubeconfig)) => (3, 0, part),
        (None, _) if id.is_some() => (0, 0, part),
        (None, _) => (4, 0, part),
    }
}

fn inventory_name(inventory: &Inventory<'_>, node: &str, key: &Path, id: &str) -> String {
    let homes =
        inventory.authorities.iter().flat_map(|it| &it.homes).chain(inventory.leaves.iter().flat_map(|it| &it.homes));
    let mut of_key = homes.filter(|home| home.node.name == node && home.key.is_at(key));
    of_key.next().map_or_else(|| id.to_owned(), |home| home.name.clone())
}

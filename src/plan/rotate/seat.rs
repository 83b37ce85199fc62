//! Where certificates are at home: at the top of a file, or in a kubeconfig's user entry, with a private key beside it.
//!
//! Certificates further down a file are chains and bundles: copies of what is at home elsewhere.

use super::held::{Held, Spared};
use super::inventory::{Home, KeyFound, KeyPlace};
use crate::pki::catalog::Kind;
use crate::pki::certificate::Certificate;
use crate::pki::private_key::KeyError;
use crate::snapshot::{self, FoundKey, Kubeconfig, NodeSnapshot, Places, User};

/// One certificate in one place of its own.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    /// The certificate.
    pub certificate: &'a Certificate,
    /// The place, with the key beside it.
    pub home: Home<'a>,
    /// Whether the catalog says that an authority is at home here.
    pub is_authority_by_catalog: bool,
    /// Whether the catalog knows the file at all.
    is_known: bool,
}

impl Seat<'_> {
    /// Lower is more its home: a place with the right key, then one that the catalog knows.
    pub(super) fn rank(&self) -> (bool, bool) {
        (!matches!(self.home.key, KeyFound::Matching(_)), !self.is_known)
    }

    /// Whether an authority is at home here, rather than trusted here.
    pub(super) fn is_home(&self) -> bool {
        self.is_authority_by_catalog || matches!(self.home.key, KeyFound::Matching(_))
    }
}

/// The seats in all files.
pub(super) fn all<'a>(files: &[Held<'a>]) -> Vec<Seat<'a>> {
    let mut nodes: Vec<(&'a NodeSnapshot, Places<'a>)> = Vec::new();
    let mut seats = Vec::new();
    for file in files {
        let known = nodes.iter().position(|(node, _)| std::ptr::eq(*node, file.node));
        let at = known.unwrap_or_else(|| {
            nodes.push((file.node, file.node.places()));
            nodes.len() - 1
        });
        seats.extend(of(file, &nodes[at].1));
    }
    seats
}

fn of<'a>(file: &Held<'a>, places: &Places<'a>) -> Vec<Seat<'a>> {
    // Another name of a file may be the one that is known, and have the key beside it.
    if file.spared == Some(Spared::Personal) {
        return Vec::new();
    }
    match file.kubeconfig() {
        Some(kubeconfig) => in_users(file, kubeconfig),
        None => at_top(file, places).into_iter().collect(),
    }
}

fn at_top<'a>(file: &Held<'a>, places: &Places<'a>) -> Option<Seat<'a>> {
    let certificate = file.content.certificates().next()?;
    Some(Seat {
        certificate,
        home: home(file, None, key_beside(file, certificate, places)),
        is_authority_by_catalog: file.part.is_some_and(|part| part.entry.kind == Kind::Authority && !part.is_key),
        is_known: file.part.is_some(),
    })
}

fn key_beside<'a>(file: &Held<'a>, certificate: &Certificate, places: &Places<'a>) -> KeyFound<'a> {
    if let Some(own) = &file.content.private_key {
        return judged(certificate, KeyPlace::File(file.path.to_path_buf()), own);
    }
    let Some(artifact) = places.at(file.path) else { return referred(file, certificate) };
    match places.key_for(artifact) {
        Some((place, found)) => judged(certificate, KeyPlace::File(place.path.clone()), found),
        // Only where the catalog says so is it clear where a new key belongs.
        None => KeyFound::Missing(file.part.and_then(|_| snapshot::key_paths(artifact).into_iter().next())),
    }
}

/// The key of a certificate file that was found through a kubeconfig: in the file that the same user entry names.
fn referred<'a>(file: &Held<'a>, certificate: &Certificate) -> KeyFound<'a> {
    let kubeconfigs =
        file.node.artifacts.iter().filter_map(|artifact| artifact.content()?.kubeconfig.as_ref()?.as_ref().ok());
    let mut users = kubeconfigs.flat_map(|kubeconfig| &kubeconfig.users);
    let user = users.find(|user| user.certificate.file.as_deref() == Some(file.path));
    let key = user.and_then(|user| Some((user.key.file.clone()?, user.key.content.as_ref()?.as_ref().ok()?)));
    match key.and_then(|(path, content)| Some((path, content.private_key.as_ref()?))) {
        Some((path, found)) => judged(certificate, KeyPlace::File(path), found),
        None => KeyFound::Missing(None),
    }
}

/// The users of a kubeconfig: the current one goes by the file's name, as with kubeadm, the others by their own as well.
fn in_users<'a>(file: &Held<'a>, kubeconfig: &'a Kubeconfig) -> Vec<Seat<'a>> {
    let current = kubeconfig.current_user().map(|user| user.name.as_str());
    let (first, others): (Vec<_>, Vec<_>) =
        kubeconfig.users.iter().partition(|user| Some(user.name.as_str()) == current);
    let mut seats: Vec<Seat<'a>> = Vec::new();
    for user in first.into_iter().chain(others) {
        let Some(mut seat) = in_user(file, user) else { continue };
        if !seats.is_empty() {
            seat.home.name = format!("{}#user/{}", file.name, user.name);
        }
        seats.push(seat);
    }
    seats
}

fn in_user<'a>(file: &Held<'a>, user: &'a User) -> Option<Seat<'a>> {
    let certificate = user.certificate.certificates().next()?;
    let key = match (&user.key.file, &user.key.content) {
        (place, Some(Ok(content))) => {
            let place = match place {
                Some(path) => KeyPlace::File(path.clone()),
                None => KeyPlace::Kubeconfig(file.path, &user.name),
            };
            content.private_key.as_ref().map_or(KeyFound::Missing(None), |found| judged(certificate, place, found))
        }
        _ => KeyFound::Missing(None),
    };
    Some(Seat {
        certificate,
        home: home(file, Some(&user.name), key),
        is_authority_by_catalog: false,
        // A file that a kubeconfig refers to is the certificate's own place, the kubeconfig is not.
        is_known: user.certificate.file.is_none(),
    })
}

fn home<'a>(file: &Held<'a>, user: Option<&'a str>, key: KeyFound<'a>) -> Home<'a> {
    Home {
        node: file.node,
        name: file.name.clone(),
        path: file.path,
        user,
        keeper: file.keeper(),
        catalog: file.part.map(|part| part.catalog),
        key,
    }
}

fn judged<'a>(certificate: &Certificate, place: KeyPlace<'a>, found: &'a Result<FoundKey, KeyError>) -> KeyFound<'a> {
    match found {
        Ok(key) if certificate.certifies(&key.public_key) => KeyFound::Matching(place),
        Ok(_) => KeyFound::Foreign(place),
        Err(error) => KeyFound::Broken(place, error),
    }
}

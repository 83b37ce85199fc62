//! What can be rotated and how it hangs together: authorities, what they signed, token keys, and where each key lies.
//!
//! A certificate is one thing however many files hold a copy; its own place is where its private key is. Certificates of
//! one key and one subject are one authority, so that a renewed one and its predecessor go together.

use std::path::{Path, PathBuf};

use super::held::{self, Fault, Held};
use super::scope::{Candidate, Class};
use super::seat::{self, Seat};
use crate::pki::catalog::{Catalog, Keeper, Kind};
use crate::pki::certificate::Certificate;
use crate::pki::chain::{self, Signature};
use crate::pki::private_key::KeyError;
use crate::snapshot::{Content, FoundKey, NodeSnapshot, Snapshot};

/// Everything that can be rotated.
#[derive(Debug)]
pub(super) struct Inventory<'a> {
    /// The files.
    pub files: Vec<Held<'a>>,
    /// Files that could not be read.
    pub faults: Vec<Fault<'a>>,
    /// The certificate authorities.
    pub authorities: Vec<Authority<'a>>,
    /// All other certificates with a place of their own.
    pub leaves: Vec<Leaf<'a>>,
    /// The key pairs that sign service-account tokens.
    pub token_keys: Vec<TokenKey<'a>>,
}

/// Where a certificate is at home.
#[derive(Debug, Clone)]
pub(super) struct Home<'a> {
    /// Its node.
    pub node: &'a NodeSnapshot,
    /// kubeadm's id or the file's name.
    pub name: String,
    /// The certificate file, or the kubeconfig.
    pub path: &'a Path,
    /// The user entry, in a kubeconfig.
    pub user: Option<&'a str>,
    /// Who keeps it fresh.
    pub keeper: Keeper,
    /// The catalog that knows the file.
    pub catalog: Option<Catalog>,
    /// The private key beside it.
    pub key: KeyFound<'a>,
}

impl Home<'_> {
    /// The place as results show it: `FILE` or `FILE#user/NAME`.
    pub(super) fn place(&self) -> PathBuf {
        match self.user {
            Some(user) => PathBuf::from(format!("{}#user/{user}", self.path.display())),
            None => self.path.to_path_buf(),
        }
    }
}

/// A private key's whereabouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyPlace<'a> {
    /// A PEM file.
    File(PathBuf),
    /// The data of a kubeconfig's user entry.
    Kubeconfig(&'a Path, &'a str),
}

/// The private key of a certificate, as found.
#[derive(Debug, Clone)]
pub(super) enum KeyFound<'a> {
    /// It is there and belongs to the certificate.
    Matching(KeyPlace<'a>),
    /// What is there belongs to another certificate.
    Foreign(KeyPlace<'a>),
    /// What is there cannot be read.
    Broken(KeyPlace<'a>, &'a KeyError),
    /// Nothing is there; where it should be, if that is known.
    Missing(Option<PathBuf>),
}

impl<'a> KeyFound<'a> {
    /// Whether it is, or should be, in that file.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        matches!(self.place(), Some(KeyPlace::File(place)) if place == path)
    }

    /// Where a new key goes, if that is known.
    pub(super) fn place(&self) -> Option<KeyPlace<'a>> {
        match self {
            Self::Matching(place) | Self::Foreign(place) | Self::Broken(place, _) => Some(place.clone()),
            Self::Missing(place) => place.clone().map(KeyPlace::File),
        }
    }
}

/// Who issued a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Issued {
    /// Itself.
    Itself,
    /// That authority of the inventory.
    By(usize),
    /// Nobody whose certificate was found.
    Unknown,
}

/// A certificate authority.
#[derive(Debug)]
pub(super) struct Authority<'a> {
    /// Its certificate, the one beside its key.
    pub certificate: &'a Certificate,
    /// All certificates of the same key, that one included.
    pub all: Vec<&'a Certificate>,
    /// Its places, the one with the key first.
    pub homes: Vec<Home<'a>>,
    /// Who issued it.
    pub issued: Issued,
}

/// Any other certificate.
#[derive(Debug)]
pub(super) struct Leaf<'a> {
    /// The certificate.
    pub certificate: &'a Certificate,
    /// Its places, the one with the key first.
    pub homes: Vec<Home<'a>>,
    /// Who issued it.
    pub issued: Issued,
}

/// A key pair that signs service-account tokens.
#[derive(Debug)]
pub(super) struct TokenKey<'a> {
    /// `sa`.
    pub name: &'a str,
    /// Its node.
    pub node: &'a NodeSnapshot,
    /// The private key's file.
    pub private: Option<(&'a Path, &'a Result<FoundKey, KeyError>)>,
    /// The file of the public keys.
    pub public: Option<(&'a Path, &'a Content)>,
}

impl<'a> Inventory<'a> {
    /// Sorts out what was found; `with_personal` as in [`held::files`].
    pub(super) fn of(snapshot: &'a Snapshot, with_personal: bool) -> Self {
        let files = held::files(snapshot, with_personal);
        let seats: Vec<Seat<'a>> = seat::all(&files);
        let mut authorities = authorities(&seats, &files);
        let mut leaves = leaves(&seats);
        let roots: Vec<(&Certificate, usize)> = authorities
            .iter()
            .enumerate()
            .flat_map(|(index, authority)| authority.all.iter().map(move |certificate| (*certificate, index)))
            .collect();
        for (index, authority) in authorities.iter_mut().enumerate() {
            authority.issued = issuer(authority.certificate, &roots, Some(index));
        }
        for leaf in &mut leaves {
            leaf.issued = match issuer(leaf.certificate, &roots, None) {
                Issued::Unknown => match successor(leaf.certificate, &authorities, &files) {
                    Issued::Unknown => over_intermediates(leaf.certificate, &authorities, &files),
                    known => known,
                },
                known => known,
            };
        }
        Self { faults: held::faults(snapshot), authorities, leaves, token_keys: token_keys(snapshot), files }
    }

    /// Whether everything lies on one node.
    pub(super) fn is_of_one_node(&self) -> bool {
        self.files.windows(2).all(|two| two[0].node.name == two[1].node.name)
    }

    /// Everything that `--only` can name.
    pub(super) fn candidates(&self) -> Vec<Candidate<'_>> {
        self.authorities
            .iter()
            .flat_map(Authority::candidates)
            .chain(self.leaves.iter().flat_map(Leaf::candidates))
            .chain(self.token_keys.iter().map(TokenKey::candidate))
            .collect()
    }
}

impl<'a> Authority<'a> {
    /// Its private key.
    pub(super) fn key(&self) -> &KeyFound<'a> {
        self.homes.first().map_or(&KeyFound::Missing(None), |home| &home.key)
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.homes.first().map_or("", |home| &home.name)
    }

    /// What `--only` can call it.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.homes.iter().map(|home| Candidate { class: Class::Authority, name: &home.name, path: home.path })
    }
}

impl<'a> Leaf<'a> {
    /// Its private key.
    pub(super) fn key(&self) -> &KeyFound<'a> {
        self.homes.first().map_or(&KeyFound::Missing(None), |home| &home.key)
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.homes.first().map_or("", |home| &home.name)
    }

    /// What `--only` can call it.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.homes.iter().map(|home| Candidate { class: Class::Leaf, name: &home.name, path: home.path })
    }
}

impl TokenKey<'_> {
    /// What `--only` can call it.
    pub(super) fn candidate(&self) -> Candidate<'_> {
        let private = self.private.map(|(path, _)| path);
        let path = self.public.map(|(path, _)| path).or(private).unwrap_or(Path::new(""));
        Candidate { class: Class::ServiceAccount, name: self.name, path }
    }
}

/// Groups the CA certificates by key. One that nobody here signs with and that signed nothing here is a stranger's, and
/// stays what it is: part of somebody's bundle.
fn authorities<'a>(seats: &[Seat<'a>], files: &[Held<'a>]) -> Vec<Authority<'a>> {
    let mut groups: Vec<(Vec<&Seat<'a>>, Vec<&'a Certificate>)> = Vec::new();
    let of_group = |groups: &[(Vec<&Seat<'a>>, Vec<&'a Certificate>)], wanted: &Certificate| {
        groups.iter().position(|(_, all)| all.iter().any(|known| is_same_authority(known, wanted)))
    };
    for seat in seats.iter().filter(|seat| seat.certificate.is_ca()) {
        match of_group(&groups, seat.certificate) {
            Some(at) => groups[at].0.push(seat),
            None => groups.push((vec![seat], vec![seat.certificate])),
        }
    }
    for certificate in files.iter().flat_map(certificates).filter(|certificate| certificate.is_ca()) {
        if let Some(at) = of_group(&groups, certificate)
            && !groups[at].1.iter().any(|known| known.der() == certificate.der())
        {
            groups[at].1.push(certificate);
        }
    }
    groups
        .into_iter()
        .filter_map(|(mut seats, all)| {
            seats.sort_by_key(|seat| seat.rank());
            let first = seats.first()?;
            let homes = seats.iter().filter(|seat| seat.is_home()).map(|seat| seat.home.clone()).collect::<Vec<_>>();
            let issued = Issued::Unknown;
            (!homes.is_empty()).then_some(Authority { certificate: first.certificate, all, homes, issued })
        })
        .collect()
}

/// Same name and same key: one is the other renewed.
fn is_same_authority(one: &Certificate, other: &Certificate) -> bool {
    one.subject().der() == other.subject().der() && one.certifies(other.public_key())
}

fn leaves<'a>(seats: &[Seat<'a>]) -> Vec<Leaf<'a>> {
    let mut groups: Vec<Vec<&Seat<'a>>> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for seat in seats.iter().filter(|seat| !seat.certificate.is_ca()) {
        let at = *known.entry(seat.certificate.fingerprint()).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[at].push(seat);
    }
    groups
        .into_iter()
        .filter_map(|mut seats| {
            seats.sort_by_key(|seat| seat.rank());
            let first = seats.first()?;
            Some(Leaf {
                certificate: first.certificate,
                homes: seats.iter().map(|seat| seat.home.clone()).collect(),
                issued: Issued::Unknown,
            })
        })
        .collect()
}

/// Every certificate in a file, wherever it stands in it.
pub(super) fn certificates<'a>(file: &Held<'a>) -> Vec<&'a Certificate> {
    let kubeconfig = file.kubeconfig();
    let embedded = kubeconfig.into_iter().flat_map(|kubeconfig| {
        let authorities = kubeconfig.clusters.iter().map(|cluster| &cluster.authority);
        let users = kubeconfig.users.iter().map(|user| &user.certificate);
        authorities.chain(users).filter(|material| material.file.is_none()).flat_map(|material| material.certificates())
    });
    file.content.certificates().chain(embedded).collect()
}

/// Finds the issuer of `certificate` among `roots`; `own` is the authority that the certificate itself is.
fn issuer(certificate: &Certificate, roots: &[(&Certificate, usize)], own: Option<usize>) -> Issued {
    if certificate.is_self_issued() && chain::signature(certificate, certificate) == Signature::Good {
        return Issued::Itself;
    }
    let others = roots.iter().filter(|(_, index)| Some(*index) != own);
    match chain::find_issuer(certificate, others.clone().map(|(root, _)| *root)) {
        Some((found, Signature::Good | Signature::Unsupported)) => others
            .into_iter()
            .find(|(root, _)| std::ptr::eq(*root, found))
            .map_or(Issued::Unknown, |(_, at)| Issued::By(*at)),
        _ => Issued::Unknown,
    }
}

/// The authority that took the place of the one that issued `certificate`, where only that one's certificate is left, in a
/// bundle: it has the same name and another key.
fn successor(certificate: &Certificate, authorities: &[Authority<'_>], files: &[Held<'_>]) -> Issued {
    let left = files.iter().flat_map(certificates).filter(|candidate| candidate.is_ca());
    let issuer = chain::find_issuer(certificate, left).filter(|(_, signature)| *signature == Signature::Good);
    let Some((issuer, _)) = issuer else { return Issued::Unknown };
    let same_name = |authority: &Authority<'_>| authority.certificate.subject().der() == issuer.subject().der();
    authorities.iter().position(same_name).map_or(Issued::Unknown, Issued::By)
}

/// The authority, kept elsewhere, to which intermediates lead that came with `certificate` in its file. One whose key is here
/// signs what is its own itself.
fn over_intermediates(certificate: &Certificate, authorities: &[Authority<'_>], files: &[Held<'_>]) -> Issued {
    let links: Vec<&Certificate> = files.iter().flat_map(certificates).filter(|candidate| candidate.is_ca()).collect();
    let mut current = certificate;
    // More links than there are would be a circle.
    for _ in 0..links.len() {
        let Some((next, Signature::Good)) = chain::find_issuer(current, links.iter().copied()) else { break };
        let is_next = |authority: &Authority<'_>| authority.all.iter().any(|own| own.der() == next.der());
        if let Some(at) = authorities.iter().position(is_next) {
            return if authorities[at].has_key() { Issued::Unknown } else { Issued::By(at) };
        }
        if next.is_self_issued() {
            break;
        }
        current = next;
    }
    Issued::Unknown
}

fn token_keys(snapshot: &Snapshot) -> Vec<TokenKey<'_>> {
    let mut keys: Vec<TokenKey<'_>> = Vec::new();
    for (node, artifact) in snapshot.artifacts() {
        let Some(part) = artifact.part.filter(|part| part.entry.kind == Kind::ServiceAccount) else { continue };
        let Some(content) = artifact.content() else { continue };
        let same = |key: &TokenKey<'_>| key.name == part.entry.id && key.node.name == node.name;
        let at = keys.iter().position(same).unwrap_or_else(|| {
            keys.push(TokenKey { name: part.entry.id, node, private: None, public: None });
            keys.len() - 1
        });
        if part.is_key {
            keys[at].private = content.private_key.as_ref().map(|key| (artifact.path.as_path(), key));
        } else {
            keys[at].public = Some((&artifact.path, content));
        }
    }
    keys
}

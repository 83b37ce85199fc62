//! Fates to keys and certificates: what is made, who signs it, and what takes the place of what.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::difference;
use super::fate::Fate;
use super::inventory::{Authority, Home, Inventory, Issued, KeyFound, KeyPlace, Leaf, TokenKey};
use super::period::Period;
use super::request::Request;
use super::select::{Selection, signing_authority};
use crate::error::Failure;
use crate::pki::algorithm::{KeyAlgorithm, KeyKind};
use crate::pki::certificate::Certificate;
use crate::pki::private_key::KeyError;
use crate::plan::blueprint::{Basis, CertificatePlan, Id, IssuerPlan, KeyPlan, KeySource};
use crate::snapshot::FoundKey;

mod taken;

/// Keys and certificates of a rotation, and what they replace.
#[derive(Debug, Default)]
pub(super) struct Issuance {
    /// Keys, made anew or read.
    pub keys: Vec<KeyPlan>,
    /// Certificates, issuers before what they issue.
    pub certificates: Vec<CertificatePlan>,
    /// By the SHA-256 of an old certificate, the one that takes its place.
    pub instead: HashMap<[u8; 32], Id>,
    /// Where new keys go: node, file, and the user entry in a kubeconfig.
    pub key_places: HashMap<(String, PathBuf, Option<String>), Id>,
    /// When each new certificate ends.
    pub ends: HashMap<Id, OffsetDateTime>,
    /// What new certificates say otherwise than the old ones, by node and file.
    pub differences: Vec<(String, PathBuf, String)>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// By the old public key of tokens, the key that takes its place.
    pub token_keys: HashMap<Vec<u8>, Id>,
    /// Which of the certificates are authorities'.
    pub authorities: Vec<Id>,
    /// By the id of a certificate that was signed elsewhere, the intermediates that came with it.
    pub followers: HashMap<Id, Vec<Certificate>>,
    periods: HashMap<usize, Period>,
    /// Every id of a key or certificate, with the certificate's position for keys as well.
    positions: HashMap<Id, usize>,
    /// Ids of keys that certify nothing new.
    loose_keys: HashSet<Id>,
    /// By the old public key, the key that takes its place: certificates that share one go on sharing one.
    key_instead: HashMap<Vec<u8>, Id>,
}

impl Issuance {
    /// Plans everything that `selection` replaces.
    ///
    /// # Errors
    /// For a key that cannot be made, or names that cannot be changed.
    pub(super) fn plan(
        inventory: &Inventory<'_>,
        selection: &Selection,
        request: &Request,
        now: OffsetDateTime,
    ) -> Result<Self, Failure> {
        let mut issuance = Self::default();
        // Parents first; a chain is at most as long as there are authorities.
        let mut waiting: Vec<usize> =
            (0..inventory.authorities.len()).filter(|at| selection.authorities[*at].is_new()).collect();
        while !waiting.is_empty() {
            let parent_waits = |at: &usize| matches!(inventory.authorities[*at].issued, Issued::By(parent) if waiting.contains(&parent));
            let (later, ready): (Vec<usize>, Vec<usize>) = waiting.iter().partition(|at| parent_waits(at));
            if ready.is_empty() {
                return Err(Failure::failed("two authorities certify each other, so neither can be replaced first"));
            }
            for at in ready {
                issuance.authority(inventory, selection, at, request, now)?;
            }
            waiting = later;
        }
        for (at, leaf) in inventory.leaves.iter().enumerate() {
            if selection.leaves[at].is_new() {
                match selection.returned.leaves.get(&at) {
                    Some(signed) => issuance.take_leaf(inventory, (leaf, signed), selection, request)?,
                    None => issuance.leaf(inventory, leaf, &selection.leaves[at], selection, request, now)?,
                }
            }
        }
        for (at, key) in inventory.token_keys.iter().enumerate() {
            if selection.token_keys[at].is_new()
                && let Some((path, found)) = key.private
            {
                // Nodes that share a key go on sharing one: a token signed on one is checked on another.
                let shared = found.as_ref().ok().and_then(|found| issuance.token_keys.get(&found.public_key).cloned());
                let id = match shared {
                    Some(id) => id,
                    None => issuance.token_key(key, found, request)?,
                };
                issuance.key_places.insert((key.node.name.clone(), path.to_path_buf(), None), id);
            }
        }
        Ok(issuance)
    }

    /// A new key pair for tokens in the place of `key`.
    fn token_key(
        &mut self,
        key: &TokenKey<'_>,
        found: &Result<FoundKey, KeyError>,
        request: &Request,
    ) -> Result<Id, Failure> {
        let kind = found.as_ref().map_or(KeyKind::Rsa(2048), |key| key.kind.clone());
        let algorithm = algorithm(&kind, request, key.name)?;
        let id = self.unused(key.name.to_owned());
        self.keys.push(KeyPlan { id: id.clone(), source: KeySource::New(algorithm) });
        self.loose_keys.insert(id.clone());
        if let Ok(found) = found {
            self.token_keys.insert(found.public_key.clone(), id.clone());
        }
        Ok(id)
    }

    fn authority(
        &mut self,
        inventory: &Inventory<'_>,
        selection: &Selection,
        at: usize,
        request: &Request,
        now: OffsetDateTime,
    ) -> Result<(), Failure> {
        let authority = &inventory.authorities[at];
        let id = self.unused(authority.name().to_owned());
        if let Some(new) = selection.returned.authorities.get(&at) {
            self.take_authority((at, id), authority, new);
            return Ok(());
        }
        let old = authority.certificate;
        let parent = match authority.issued {
            Issued::By(parent) => signing_authority(inventory, parent),
            Issued::Itself | Issued::Unknown => None,
        };
        let period = Period::authority(old, parent.map(|at| self.period(inventory, at)), request, now);
        if period.is_cut {
            self.warnings.push(format!("`{id}` ends early, with the authority that signed it"));
        }
        let key = self.key_for(&id, &authority.homes, old, &selection.authorities[at], request)?;
        let issuer = match parent {
            None => IssuerPlan::Itself,
            Some(parent) => self.issuer(inventory, parent)?,
        };
        self.periods.insert(at, period);
        self.authorities.push(id.clone());
        self.ends.insert(id.clone(), period.not_after);
        for certificate in &authority.all {
            self.instead.insert(certificate.fingerprint(), id.clone());
        }
        let basis = Basis::Renewal { old: Box::new(old.clone()), subject: None, sans: None, usages: None };
        self.push(id, key, basis, issuer, period);
        Ok(())
    }

    fn leaf(
        &mut self,
        inventory: &Inventory<'_>,
        leaf: &Leaf<'_>,
        fate: &Fate,
        selection: &Selection,
        request: &Request,
        now: OffsetDateTime,
    ) -> Result<(), Failure> {
        let Some(home) = leaf.homes.first() else { return Ok(()) };
        let id = self.unused(format!("{}/{}", home.node.name, home.name));
        let signer = match leaf.issued {
            Issued::By(by) => signing_authority(inventory, by),
            Issued::Itself | Issued::Unknown => None,
        };
        let period = Period::leaf(inventory, leaf, signer.map(|at| self.period(inventory, at)), request, now);
        let same_key = self.key_instead.get(leaf.certificate.public_key()).cloned();
        let key = match same_key.filter(|_| fate.has_new_key()) {
            Some(shared) => {
                self.place_key(&leaf.homes, &shared);
                shared
            }
            None => self.key_for(&id, &leaf.homes, leaf.certificate, fate, request)?,
        };
        let issuer = match signer {
            None => IssuerPlan::Itself,
            Some(at) => self.issuer(inventory, at)?,
        };
        if let Some(at) = signer {
            self.warn_about_period(
                &inventory.authorities[at],
                leaf,
                period,
                request,
                now,
                selection.authorities[at].is_new(),
            );
        }
        let change = difference::of(leaf, request)?;
        for words in &change.words {
            self.differences.push((home.node.name.clone(), home.path.to_path_buf(), words.clone()));
        }
        let old = Box::new(leaf.certificate.clone());
        let basis = Basis::Renewal { old, subject: change.subject, sans: change.sans, usages: change.usages };
        self.ends.insert(id.clone(), period.not_after);
        self.instead.insert(leaf.certificate.fingerprint(), id.clone());
        self.push(id, key, basis, issuer, period);
        Ok(())
    }

    fn warn_about_period(
        &mut self,
        authority: &Authority<'_>,
        leaf: &Leaf<'_>,
        period: Period,
        request: &Request,
        now: OffsetDateTime,
        authority_is_new: bool,
    ) {
        if period.is_cut {
            let advice = if authority_is_new { "--ca-validity makes that longer" } else { "rotate the authority soon" };
            self.warnings.push(format!(
                "`{}` ends early, on {}, with its authority `{}`; {advice}",
                leaf.name(),
                period.not_after.date(),
                authority.name()
            ));
        }
        if request.due.is_some_and(|due| due.reached(period.not_before, period.not_after, now)) {
            self.warnings
                .push(format!("`{}` will be due again at once: it lives no longer than --due allows", leaf.name()));
        }
    }

    fn push(&mut self, id: Id, key: Id, basis: Basis, issuer: IssuerPlan, period: Period) {
        let Period { not_before, not_after, .. } = period;
        let position = self.certificates.len();
        self.positions.insert(id.clone(), position);
        self.positions.entry(key.clone()).or_insert(position);
        self.certificates.push(CertificatePlan { id, key, basis, issuer, not_before, not_after });
    }

    /// The key of a new certificate: the one there is, or a new one of the same kind in its place.
    fn key_for(
        &mut self,
        id: &str,
        homes: &[Home<'_>],
        old: &Certificate,
        fate: &Fate,
        request: &Request,
    ) -> Result<Id, Failure> {
        let id = id.to_owned();
        let Some(home) = homes.first() else { return Ok(id) };
        if !fate.has_new_key() {
            let kept = || Failure::failed(format!("`{id}` has no key that could be kept"));
            let source = source(home, &home.key.place().ok_or_else(kept)?);
            self.keys.push(KeyPlan { id: id.clone(), source });
            return Ok(id);
        }
        let algorithm = algorithm(old.key_kind(), request, &home.name)?;
        self.keys.push(KeyPlan { id: id.clone(), source: KeySource::New(algorithm) });
        self.key_instead.insert(old.public_key().to_vec(), id.clone());
        self.place_key(homes, &id);
        Ok(id)
    }

    /// A new key goes wherever the old one is, and into the first place even if another key is there.
    fn place_key(&mut self, homes: &[Home<'_>], id: &str) {
        for (index, home) in homes.iter().enumerate() {
            let node = home.node.name.clone();
            let place = match &home.key {
                KeyFound::Matching(place) => Some(place.clone()),
                other => other.place().filter(|_| index == 0),
            };
            match place {
                Some(KeyPlace::File(path)) => drop(self.key_places.insert((node, path, None), id.to_owned())),
                Some(KeyPlace::Kubeconfig(path, user)) => {
                    self.key_places.insert((node, path.to_path_buf(), Some(user.to_owned())), id.to_owned());
                }
                None => {}
            }
        }
    }

    fn period(&self, inventory: &Inventory<'_>, at: usize) -> Period {
        self.periods.get(&at).copied().unwrap_or_else(|| Period::of(inventory.authorities[at].certificate))
    }

    /// How a certificate names its issuer: a new one, or one that stays and whose key is read once.
    fn issuer(&mut self, inventory: &Inventory<'_>, at: usize) -> Result<IssuerPlan, Failure> {
        let authority = &inventory.authorities[at];
        if let Some(id) = self.instead.get(&authority.certificate.fingerprint()) {
            return Ok(IssuerPlan::Planned(id.clone()));
        }
        let (Some(home), Some(place)) = (authority.homes.first(), authority.key().place()) else {
            return Err(Failure::failed(format!("the key of `{}` is not here", authority.name())));
        };
        let source = source(home, &place);
        let known = self.keys.iter().find(|key| key.source == source).map(|key| key.id.clone());
        let key = known.unwrap_or_else(|| {
            let id = self.unused(format!("{} (kept)", authority.name()));
            self.keys.push(KeyPlan { id: id.clone(), source });
            self.loose_keys.insert(id.clone());
            id
        });
        Ok(IssuerPlan::Existing { certificate: Box::new(authority.certificate.clone()), key })
    }

    /// An id that no key or certificate has yet.
    fn unused(&self, wanted: String) -> Id {
        let is_taken = |id: &String| self.positions.contains_key(id) || self.loose_keys.contains(id);
        if !is_taken(&wanted) {
            return wanted;
        }
        (2..=u32::MAX).map(|number| format!("{wanted} {number}")).find(|id| !is_taken(id)).unwrap_or(wanted)
    }

    /// The position of a certificate, or of the first certificate of a key, in the order of issuing.
    pub(super) fn position(&self, id: &str) -> Option<usize> {
        self.positions.get(id).copied()
    }

    /// The new key for that place.
    pub(super) fn key_at(&self, node: &str, path: &Path, user: Option<&str>) -> Option<&Id> {
        self.key_places.get(&(node.to_owned(), path.to_path_buf(), user.map(str::to_owned)))
    }
}

/// Where a key is read.
pub(super) fn source(home: &Home<'_>, place: &KeyPlace<'_>) -> KeySource {
    let node = home.node.name.clone();
    match place {
        KeyPlace::File(path) => KeySource::File { node, path: path.clone() },
        KeyPlace::Kubeconfig(path, user) => {
            KeySource::Kubeconfig { node, path: path.to_path_buf(), user: (*user).to_owned() }
        }
    }
}

fn algorithm(old: &KeyKind, request: &Request, name: &str) -> Result<KeyAlgorithm, Failure> {
    request.key_algorithm.or_else(|| old.algorithm()).ok_or_else(|| {
        Failure::failed(format!("`{name}` has a key of kind {old}, which kubepki does not make"))
            .hint("choose another with --key-algorithm, as ecdsa-p384, or keep the key with --same-key")
    })
}

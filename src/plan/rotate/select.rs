//! Who is replaced: what was asked for, what a replaced authority signed, and what shares a key with either.
//!
//! Everything that stands in the way is found here, before anything is planned: keys that do not fit, authorities that
//! have ended, damaged files. What can be left as it is without harm is left, with the reason.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::difference;
use super::external::Returned;
use super::fate::{Fate, Left};
use super::inventory::{Authority, Home, Inventory, Issued, KeyFound, Leaf};
use super::obstacle;
use super::period::Period;
use super::request::{External, Request};
use super::scope::{Candidate, Class, Scopes};
use crate::error::Failure;
use crate::pki::catalog::Keeper;
use crate::pki::certificate::Certificate;
use crate::plan::signed::Issuer;

/// The fate of everything in an inventory, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    /// Of the authorities.
    pub authorities: Vec<Fate>,
    /// Of the leaves.
    pub leaves: Vec<Fate>,
    /// Of the token keys.
    pub token_keys: Vec<Fate>,
    /// What was signed elsewhere and came back.
    pub returned: Returned,
}

impl Selection {
    /// Decides everybody's fate.
    ///
    /// # Errors
    /// Exit code 3 for names that nobody has, 1 for what stands in the way.
    pub(super) fn of(inventory: &Inventory<'_>, request: &Request, now: OffsetDateTime) -> Result<Self, Failure> {
        let only = &request.only;
        obstacle::unreadable(inventory, only)?;
        let candidates = inventory.candidates();
        if candidates.is_empty() && only.is_everything() {
            return Err(Failure::not_found("there is no certificate, authority or service-account key here")
                .hint("`kubepki create-certs` makes them; --pki-dir and --root name another place"));
        }
        only.check(&candidates)?;
        let mut selection = Self {
            authorities: vec![Fate::Untouched; inventory.authorities.len()],
            leaves: vec![Fate::Untouched; inventory.leaves.len()],
            token_keys: Vec::new(),
            returned: Returned::of(inventory, request, now),
        };
        for at in 0..inventory.authorities.len() {
            selection.authorities[at] = authority_fate(inventory, at, &selection.returned, request, now)?;
        }
        // A chain of authorities is followed from its top down.
        for _ in 0..inventory.authorities.len() {
            for (at, authority) in inventory.authorities.iter().enumerate() {
                let parent_is_new = selection.signer(authority.issued).is_some_and(Fate::has_new_key);
                if parent_is_new && !selection.authorities[at].is_new() && authority.has_key() {
                    selection.refuse_foreign_parent(inventory, authority)?;
                    obstacle::authority_key(authority)?;
                    selection.authorities[at] = Fate::New { same_key: true };
                }
            }
        }
        for (at, authority) in inventory.authorities.iter().enumerate() {
            if selection.authorities[at].is_new() {
                selection.refuse_ended_above(inventory, authority.issued, authority.name(), now)?;
            }
        }
        for at in 0..inventory.leaves.len() {
            selection.leaves[at] = selection.leaf(inventory, at, request, now)?;
        }
        selection.refuse_half(inventory)?;
        selection.follow_shared_keys(inventory)?;
        selection.token_keys = inventory
            .token_keys
            .iter()
            .map(|key| {
                Ok(match only.contain(key.candidate()) {
                    false => Fate::Untouched,
                    true if matches!(request.external, External::Asked) => Fate::Untouched,
                    true if request.due.is_some() => Fate::Left(Left::NeverDue),
                    true if request.same_key => Fate::Untouched,
                    true if key.private.is_none() => Fate::Left(Left::NoKey { has_place: false }),
                    true => {
                        obstacle::token_key(key, only.name(key.candidate()))?;
                        Fate::New { same_key: false }
                    }
                })
            })
            .collect::<Result<_, Failure>>()?;
        if let Some(failure) = selection.left().find_map(|left| obstacle::unreadable_authority(inventory, left)) {
            return Err(failure);
        }
        selection.refuse_what_was_named_in_vain(inventory, only)?;
        Ok(selection)
    }

    /// Why things that were asked for are left as they are.
    fn left(&self) -> impl Iterator<Item = &Left> {
        let fates = self.authorities.iter().chain(&self.leaves).chain(&self.token_keys);
        fates.filter_map(|fate| match fate {
            Fate::Left(left) => Some(left),
            Fate::Untouched | Fate::New { .. } => None,
        })
    }

    /// The fate of the authority that issued something, if it is known.
    fn signer(&self, issued: Issued) -> Option<&Fate> {
        match issued {
            Issued::By(at) => self.authorities.get(at),
            Issued::Itself | Issued::Unknown => None,
        }
    }

    fn leaf(
        &mut self,
        inventory: &Inventory<'_>,
        at: usize,
        request: &Request,
        now: OffsetDateTime,
    ) -> Result<Fate, Failure> {
        let leaf = &inventory.leaves[at];
        let elsewhere = authority_elsewhere(inventory, leaf, request);
        let is_named = leaf.candidates().any(|candidate| request.only.name(candidate));
        // Whoever names an authority means what it signed as well; that one has its certificate made elsewhere.
        let of_selected = |by: usize| inventory.authorities[by].candidates().any(|it| request.only.contain(it));
        let is_asked_for =
            leaf.candidates().any(|candidate| request.only.contain(candidate)) || elsewhere.is_some_and(of_selected);
        let follows = self.must_follow(leaf);
        if !follows && !is_asked_for {
            return Ok(Fate::Untouched);
        }
        if !follows && let Some(left) = not_due(leaf.certificate, request, now) {
            return Ok(Fate::Left(left));
        }
        if request.only_differences && !follows && difference::of(leaf, request)?.words.is_empty() {
            return Ok(Fate::Left(Left::AsWanted));
        }
        match leaf.homes.first().map(|home| home.keeper) {
            // Where nobody in the cluster signs, the kubelet asks in vain.
            Some(Keeper::Kubelet) if elsewhere.is_some() => {}
            Some(Keeper::Kubelet) if !is_named && (!follows || is_serving_request(leaf) && !request.rounds) => {
                return Ok(Fate::Left(Left::KubeletsOwn));
            }
            Some(Keeper::Distribution) if !is_named => return Ok(Fate::Left(Left::DistributionsOwn)),
            _ => {}
        }
        if let Some(by) = elsewhere {
            return self.signed_elsewhere(inventory, (at, by), follows, request, now);
        }
        if matches!(request.external, External::Asked) {
            return Ok(Fate::Untouched);
        }
        let issuer = match leaf.issued {
            Issued::Itself if is_named => None,
            Issued::Itself => return Ok(Fate::Left(Left::SelfSigned)),
            Issued::Unknown => {
                let issuer = leaf.certificate.issuer().text().to_owned();
                return Ok(Fate::Left(Left::UnknownIssuer { issuer }));
            }
            Issued::By(by) => match signing_authority(inventory, by) {
                Some(at) => Some(at),
                None => {
                    let authority = inventory.authorities[by].name().to_owned();
                    return Ok(Fate::Left(Left::NoAuthorityKey { authority }));
                }
            },
        };
        let same_key = request.same_key;
        if leaf.key().place().is_none() || (matches!(leaf.key(), KeyFound::Missing(_)) && !is_named) {
            return Ok(Fate::Left(Left::NoKey { has_place: leaf.key().place().is_some() }));
        }
        if let Some(at) = issuer {
            let authority = &inventory.authorities[at];
            if self.authorities[at].is_new() {
                obstacle::leaf_key(leaf, is_named, same_key)?;
                return Ok(Fate::New { same_key });
            }
            if request.due.is_some() {
                let period = Period::leaf(inventory, leaf, Some(Period::of(authority.certificate)), request, now);
                if period.is_cut && period.not_after <= leaf.certificate.not_after() {
                    return Ok(Fate::Left(Left::NothingGained { authority: authority.name().to_owned() }));
                }
            }
            obstacle::authority_key(authority)?;
            self.refuse_ended_above(inventory, leaf.issued, leaf.name(), now)?;
        }
        obstacle::leaf_key(leaf, is_named, same_key)?;
        Ok(Fate::New { same_key })
    }

    /// A leaf of an authority whose key is elsewhere: what comes back is taken, or a request goes out.
    fn signed_elsewhere(
        &mut self,
        inventory: &Inventory<'_>,
        (at, by): (usize, usize),
        follows: bool,
        request: &Request,
        now: OffsetDateTime,
    ) -> Result<Fate, Failure> {
        let (leaf, authority) = (&inventory.leaves[at], &inventory.authorities[by]);
        let name = authority.name().to_owned();
        // Its key may be there after all.
        if let Some(failure) = obstacle::unreadable_authority(inventory, &Left::NoAuthorityKey { authority: name }) {
            return Err(failure);
        }
        if leaf.key().place().is_none() {
            return Ok(Fate::Left(Left::NoKey { has_place: false }));
        }
        let External::Offered(offered) = &request.external else {
            return match leaf.key() {
                KeyFound::Matching(_) => Ok(Fate::New { same_key: true }),
                KeyFound::Missing(_) => Ok(Fate::Left(Left::NoKey { has_place: true })),
                KeyFound::Foreign(_) | KeyFound::Broken(..) => Err(obstacle::key_to_ask_with(leaf)),
            };
        };
        if !follows {
            self.refuse_ended_above(inventory, leaf.issued, leaf.name(), now)?;
        }
        let old = authority.all.iter().map(|certificate| (*certificate).clone());
        let known: Vec<Certificate> = match self.returned.authorities.get(&by).filter(|_| self.authorities[by].is_new())
        {
            Some(new) if new.has_new_key => vec![new.certificate.clone()],
            Some(new) => old.chain([new.certificate.clone()]).collect(),
            None => old.collect(),
        };
        let issuer = Issuer { name: authority.name(), known: &known };
        self.returned.leaf(inventory, at, (issuer, follows.then_some(by)), (request, offered), now)
    }

    /// Refuses to replace an authority by one that came back when not all that has to follow came back as well.
    fn refuse_half(&self, inventory: &Inventory<'_>) -> Result<(), Failure> {
        let prevents = |by: &Option<usize>| by.is_some_and(|by| self.authorities[by].is_new());
        let problems = self.returned.problems.iter().filter(|(by, _)| prevents(by));
        let (by, problems): (Vec<_>, Vec<_>) = problems.map(|(by, problem)| (*by, problem)).unzip();
        let mut names: Vec<&str> = by.into_iter().flatten().map(|by| inventory.authorities[by].name()).collect();
        names.dedup();
        if problems.is_empty() { Ok(()) } else { Err(obstacle::half(&names, &problems)) }
    }

    /// Refuses to leave an authority behind whose parent is replaced elsewhere.
    fn refuse_foreign_parent(&self, inventory: &Inventory<'_>, authority: &Authority<'_>) -> Result<(), Failure> {
        match authority.issued {
            Issued::By(parent) if self.returned.authorities.contains_key(&parent) => {
                Err(obstacle::foreign_parent(authority, &inventory.authorities[parent]))
            }
            _ => Ok(()),
        }
    }

    /// Refuses to issue `name` when its authority, or one above that, has ended and is not replaced itself: the new certificate
    /// would not be valid.
    fn refuse_ended_above(
        &self,
        inventory: &Inventory<'_>,
        issued: Issued,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<(), Failure> {
        let mut above = issued;
        // A chain is at most as long as there are authorities; two that certify each other never end.
        for height in 0..inventory.authorities.len() {
            let Issued::By(by) = above else { break };
            let at = signing_authority(inventory, by).unwrap_or(by);
            let authority = &inventory.authorities[at];
            // It signs with the certificate beside its key; further up, peers may have any that still counts.
            let counts = |certificate: &Certificate| certificate.not_after() > now;
            let is_valid = counts(authority.certificate)
                || height > 0 && authority.all.iter().any(|certificate| counts(certificate));
            if !is_valid && !self.authorities[at].is_new() {
                return Err(obstacle::ended(authority, name));
            }
            above = authority.issued;
        }
        Ok(())
    }

    /// Whether a leaf stops being valid unless it is issued again.
    fn must_follow(&self, leaf: &Leaf<'_>) -> bool {
        match self.signer(leaf.issued) {
            Some(Fate::New { same_key: false }) => true,
            // Its authority keeps name and key but not its serial number.
            Some(Fate::New { same_key: true }) => leaf.certificate.names_its_issuers_serial(),
            _ => false,
        }
    }

    /// Selects whatever has the same private key as something that gets a new one.
    fn follow_shared_keys(&mut self, inventory: &Inventory<'_>) -> Result<(), Failure> {
        let mut by_key: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
        for (at, leaf) in inventory.leaves.iter().enumerate() {
            by_key.entry(leaf.certificate.public_key()).or_default().push(at);
        }
        let twins: Vec<(usize, &Vec<usize>)> = by_key
            .values()
            .filter(|leaves| leaves.len() > 1)
            .flat_map(|leaves| leaves.iter().map(move |at| (*at, leaves)))
            .filter(|(at, _)| self.leaves[*at].has_new_key())
            .collect();
        for (with, leaves) in twins {
            for at in leaves.iter().copied() {
                let (one, other) = (&inventory.leaves[with], &inventory.leaves[at]);
                if self.leaves[at].is_new() {
                    continue;
                }
                // A copy of a former certificate, without a key of its own, is nobody's pair.
                let is_shared = |home: &Home<'_>, with: &Home<'_>| {
                    let same_place = home.key.place().is_some() && home.key.place() == with.key.place();
                    same_place && home.node.name == with.node.name
                };
                if !other.homes.iter().any(|home| one.homes.iter().any(|with| is_shared(home, with))) {
                    continue;
                }
                let signer = match other.issued {
                    Issued::By(by) => signing_authority(inventory, by),
                    Issued::Itself | Issued::Unknown => None,
                };
                match signer {
                    Some(by) if !matches!(self.leaves[at], Fate::Left(Left::KubeletsOwn | Left::DistributionsOwn)) => {
                        obstacle::authority_key(&inventory.authorities[by])?;
                        self.leaves[at] = Fate::New { same_key: false };
                    }
                    _ => return Err(obstacle::shared_key(one, other)),
                }
            }
        }
        Ok(())
    }

    fn refuse_what_was_named_in_vain(&self, inventory: &Inventory<'_>, only: &Scopes) -> Result<(), Failure> {
        let authorities = inventory.authorities.iter().map(|it| it.candidates().collect::<Vec<_>>());
        let leaves = inventory.leaves.iter().map(|it| it.candidates().collect::<Vec<_>>());
        let token_keys = inventory.token_keys.iter().map(|it| vec![it.candidate()]);
        let fates = self.authorities.iter().chain(&self.leaves).chain(&self.token_keys);
        for (candidates, fate) in authorities.chain(leaves).chain(token_keys).zip(fates) {
            let Fate::Left(left) = fate else { continue };
            let Some(named) = candidates.iter().find(|candidate| only.name(**candidate)) else { continue };
            if left.is_failure_when_named() {
                return Err(vain(*named, left));
            }
        }
        Ok(())
    }
}

fn authority_fate(
    inventory: &Inventory<'_>,
    at: usize,
    returned: &Returned,
    request: &Request,
    now: OffsetDateTime,
) -> Result<Fate, Failure> {
    let authority = &inventory.authorities[at];
    if !authority.candidates().any(|candidate| request.only.contain(candidate)) {
        return Ok(Fate::Untouched);
    }
    if let Some(left) = not_due(authority.certificate, request, now) {
        return Ok(Fate::Left(left));
    }
    if !authority.has_key() {
        return Ok(match (&request.external, returned.authorities.get(&at)) {
            (External::Left, _) => Fate::Left(Left::NoAuthorityKey { authority: authority.name().to_owned() }),
            (_, Some(new)) => Fate::New { same_key: !new.has_new_key },
            (_, None) => Fate::Untouched,
        });
    }
    if matches!(request.external, External::Asked) {
        return Ok(Fate::Untouched);
    }
    obstacle::authority_key(authority)?;
    match authority.issued {
        Issued::Itself => {}
        Issued::Unknown => {
            let issuer = authority.certificate.issuer().text().to_owned();
            return Ok(Fate::Left(Left::UnknownIssuer { issuer }));
        }
        Issued::By(parent) => {
            let parent = &inventory.authorities[parent];
            if !parent.has_key() {
                return Ok(Fate::Left(Left::NoAuthorityKey { authority: parent.name().to_owned() }));
            }
            obstacle::authority_key(parent)?;
        }
    }
    Ok(Fate::New { same_key: request.same_key })
}

fn vain(named: Candidate<'_>, left: &Left) -> Failure {
    let what = match named.class {
        Class::Authority => "the authority",
        Class::Leaf => "the certificate",
        Class::ServiceAccount => "the service-account key",
    };
    let message = format!("{what} `{}` ({}) cannot be replaced here: {left}", named.name, named.path.display());
    let failure = Failure::failed(message);
    match left.advice() {
        Some(advice) => failure.hint(advice),
        None => failure,
    }
}

fn not_due(certificate: &Certificate, request: &Request, now: OffsetDateTime) -> Option<Left> {
    let threshold = request.due?;
    (!threshold.reached(certificate.not_before(), certificate.not_after(), now)).then_some(Left::NotDue)
}

/// The authority that signs in the place of `by`: itself, or, where only its certificate is left over from an earlier
/// rotation, the one of the same name that has its key here.
pub(super) fn signing_authority(inventory: &Inventory<'_>, by: usize) -> Option<usize> {
    let issuer = &inventory.authorities[by];
    if issuer.has_key() {
        return Some(by);
    }
    inventory
        .authorities
        .iter()
        .position(|other| other.has_key() && other.certificate.subject().der() == issuer.certificate.subject().der())
}

/// The authority that signs `leaf` and has its key elsewhere, where that is not simply left as it is.
pub(super) fn authority_elsewhere(inventory: &Inventory<'_>, leaf: &Leaf<'_>, request: &Request) -> Option<usize> {
    match leaf.issued {
        Issued::By(by) if !matches!(request.external, External::Left) => {
            signing_authority(inventory, by).is_none().then_some(by)
        }
        _ => None,
    }
}

/// A serving certificate that the kubelet got by a signing request: the kubelet asks for another when it is told to.
fn is_serving_request(leaf: &Leaf<'_>) -> bool {
    leaf.homes.iter().any(|home| home.name.starts_with("kubelet-server"))
}

impl Authority<'_> {
    /// Whether there is a key to sign with, whatever its condition.
    pub(super) fn has_key(&self) -> bool {
        !matches!(self.key(), KeyFound::Missing(_))
    }
}

//! Who issued what: every certificate's issuer among everything found, by name, key identifier and signature.
//!
//! Candidates are indexed by name and key identifier, and signatures are checked on all cores, so that the work grows
//! with the number of certificates and not with its square.

use std::collections::HashMap;

use rayon::prelude::*;

use super::row::{Member, Row};
use crate::pki::catalog::{Catalog, Kind};
use crate::pki::certificate::Certificate;
use crate::pki::chain::{self, Signature};
use crate::snapshot::{Snapshot, Source};

/// Signatures tried for one certificate at most; Go stops there as well (`crypto/x509`, `maxChainSignatureChecks`).
const MOST_TRIES: usize = 100;

/// Certificates from which the work is spread over all cores.
const MANY: usize = 64;

/// What is known about the issuer of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Issuance {
    /// Not asked: no certificate, or one that is trusted because it is listed.
    NotAsked,
    /// It signed itself; whether the signature is good.
    Itself(Signature),
    /// That row's certificate issued it, which is among those its peers trust, or nobody says whom they trust.
    By(usize),
    /// That row's certificate issued it, but its peers trust others.
    ByOther(usize),
    /// That row has the issuer's name and key identifier, and the signature is not good.
    Claims(usize, Signature),
    /// Those that its peers trust did not issue it; the row is one of them.
    Foreign(usize),
    /// Nothing with the issuer's name was looked at.
    Unseen,
}

/// Finds the issuer of every row's certificate.
pub(super) fn find(rows: &[Row<'_>], snapshot: &Snapshot) -> Vec<Issuance> {
    let index = Index::new(rows);
    let judge = |row: usize| index.judge(row, snapshot);
    if rows.len() < MANY {
        (0..rows.len()).map(judge).collect()
    } else {
        (0..rows.len()).into_par_iter().map(judge).collect()
    }
}

struct Index<'r, 'a> {
    rows: &'r [Row<'a>],
    /// Rows of authorities by subject and key identifier.
    exact: HashMap<(&'r [u8], &'r [u8]), Vec<usize>>,
    /// Rows of authorities by subject alone.
    named: HashMap<&'r [u8], Vec<usize>>,
    /// Rows of authorities in the catalogs, by node and id.
    entries: HashMap<(usize, &'static str), Vec<usize>>,
}

impl<'r, 'a> Index<'r, 'a> {
    fn new(rows: &'r [Row<'a>]) -> Self {
        let mut index = Self { rows, exact: HashMap::new(), named: HashMap::new(), entries: HashMap::new() };
        for (position, row) in rows.iter().enumerate() {
            let Some(certificate) = row.certificate.filter(|_| row.is_authority) else { continue };
            // What a server shows about itself proves nothing about it.
            if row.artifact.source == Source::Endpoint {
                continue;
            }
            let subject = certificate.subject().der();
            index.named.entry(subject).or_default().push(position);
            if let Some(key_id) = certificate.subject_key_id() {
                index.exact.entry((subject, key_id)).or_default().push(position);
            }
            let part = row.artifact.part.filter(|part| part.entry.kind == Kind::Authority);
            if let Some(part) = part {
                index.entries.entry((row.node, part.entry.id)).or_default().push(position);
            }
        }
        index
    }

    fn judge(&self, position: usize, snapshot: &Snapshot) -> Issuance {
        let row = &self.rows[position];
        let Some(certificate) = row.certificate else { return Issuance::NotAsked };
        match row.member {
            // Trusted because a kubeconfig lists it.
            Member::Cluster(..) => return Issuance::NotAsked,
            _ if row.artifact.source == Source::Endpoint => return Issuance::NotAsked,
            _ => {}
        }
        let is_root = certificate.is_self_issued()
            && certificate.authority_key_id().is_none_or(|id| certificate.subject_key_id().is_none_or(|own| own == id));
        if is_root {
            return Issuance::Itself(chain::signature(certificate, certificate));
        }
        // Members after the first are helpers of the first, or a bundle's further anchors.
        let anchors = if row.is_first() { self.anchors(row, snapshot) } else { Vec::new() };
        let candidates = self.candidates(certificate);
        let mut claims = None;
        let mut other = None;
        for &candidate in &candidates {
            let Some(issuer) = self.rows[candidate].certificate.filter(|_| candidate != position) else { continue };
            match chain::signature(certificate, issuer) {
                Signature::Good if anchors.is_empty() || self.leads_to(candidate, &anchors) => {
                    return Issuance::By(candidate);
                }
                Signature::Good => other = other.or(Some(candidate)),
                wrong if chain::names_match(certificate, issuer) => claims = claims.or(Some((candidate, wrong))),
                _ => {}
            }
        }
        match (other, claims, anchors.first(), candidates.first()) {
            (Some(other), ..) => Issuance::ByOther(other),
            (None, Some((candidate, signature)), ..) => Issuance::Claims(candidate, signature),
            (None, None, Some(anchor), _) => Issuance::Foreign(*anchor),
            // Somebody of that name is here, and is another one.
            (None, None, None, Some(candidate)) => Issuance::Foreign(*candidate),
            (None, None, None, None) => Issuance::Unseen,
        }
    }

    /// The authorities that could have issued `certificate`, the likeliest first.
    fn candidates(&self, certificate: &Certificate) -> Vec<usize> {
        let name = certificate.issuer().der();
        let named = self.named.get(name).map(Vec::as_slice).unwrap_or_default();
        let exact = certificate.authority_key_id().and_then(|id| self.exact.get(&(name, id)));
        // With the right key identifier among them, the others of that name are not worth a signature.
        exact.map_or(named, Vec::as_slice).iter().copied().take(MOST_TRIES).collect()
    }

    /// The certificates that peers of a row trust, where the catalog says which; empty where it does not.
    fn anchors(&self, row: &Row<'_>, snapshot: &Snapshot) -> Vec<usize> {
        let Some(part) = row.artifact.part else { return Vec::new() };
        let of = |id: &'static str| self.entries.get(&(row.node, id)).map(Vec::as_slice).unwrap_or_default();
        let mut anchors = part.entry.issuer.map(of).unwrap_or_default().to_vec();
        if anchors.is_empty() {
            // Without the usual issuer there is nothing to say who is trusted.
            return anchors;
        }
        anchors.extend(part.entry.also_issued_by.iter().flat_map(|id| of(id)));
        if matches!(part.catalog, Catalog::K3s | Catalog::Rke2) {
            // A server's own folder and the agent's beside it have the same authorities under two ids.
            anchors
                .retain(|anchor| self.rows[*anchor].artifact.part.is_some_and(|other| other.catalog == part.catalog));
        }
        debug_assert!(row.node < snapshot.nodes.len());
        anchors
    }

    /// Whether `candidate` is one of `anchors`, the same certificate elsewhere, or issued by one of them.
    fn leads_to(&self, candidate: usize, anchors: &[usize]) -> bool {
        let mut current = candidate;
        for _ in 0..8 {
            let Some(certificate) = self.rows[current].certificate else { return false };
            let same = |anchor: &usize| self.rows[*anchor].certificate.is_some_and(|other| other == certificate);
            if anchors.contains(&current) || anchors.iter().any(same) {
                return true;
            }
            let above = self.candidates(certificate).into_iter().filter(|next| *next != current).find(|next| {
                let issuer = self.rows[*next].certificate;
                issuer.is_some_and(|issuer| chain::signature(certificate, issuer) == Signature::Good)
            });
            match above {
                Some(next) => current = next,
                None => return false,
            }
        }
        false
    }
}

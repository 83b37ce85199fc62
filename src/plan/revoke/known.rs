//! Every certificate that anybody knows of, once each, and which entries revoke it: those on nodes and in given files, those
//! in the registers, those that the cluster or an audit log told of.

use std::collections::HashMap;

use time::OffsetDateTime;

use crate::diagnose::Row;
use crate::pki::algorithm::KeyKind;
use crate::pki::certificate::Certificate;
use crate::pki::chain::{Signature, find_issuer};
use crate::pki::register::{Issued, Origin};
use crate::pki::revocation::{Hit, Revocation, Traits, matching};
use crate::snapshot::{Snapshot, Source};

/// One certificate.
#[derive(Debug, Clone)]
pub struct Known {
    /// What is known of it.
    pub issued: Issued,
    /// The certificate itself, where it lies somewhere.
    pub certificate: Option<Certificate>,
    /// Where it lies.
    pub places: Vec<Place>,
    /// Names of the revocations that revoke it, with the place of the entry in each; none when it is good.
    pub by: Vec<(String, usize)>,
}

/// Where a certificate lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node's name, or `local`.
    pub node: String,
    /// Absolute path as rows have it, `FILE#user/NAME` in a kubeconfig.
    pub path: String,
    /// Absolute path of the file in which it lies; for a server, its address.
    pub file: String,
    /// kubeadm's id of the file, where it has one.
    pub id: Option<&'static str>,
    /// What kind of place.
    pub source: Source,
    /// Whether it is a component's or a user's own there, and not an authority it trusts or shows behind its own.
    pub is_own: bool,
}

impl Known {
    /// The certificate, from where it lies or from the register.
    pub fn at_hand(&self) -> Option<Certificate> {
        self.certificate.clone().or_else(|| self.issued.certificate())
    }

    /// Whether an entry revokes it.
    pub fn is_revoked(&self) -> bool {
        !self.by.is_empty()
    }

    /// Whether it has not ended at `now`. Of one whose end nobody knows it is not.
    pub fn is_alive(&self, now: OffsetDateTime) -> bool {
        self.issued.not_after.is_none_or(|end| end >= now)
    }

    /// Whether it serves a kubelet and is of no use to a client: nothing refuses such a certificate.
    pub fn is_kubelet_serving(&self) -> bool {
        let is_kubelets = self.places.iter().any(|place| {
            place.source == Source::Kubelet || place.source == Source::Endpoint && place.path.ends_with(":10250")
        });
        let is_node = self.issued.common_name.as_deref().is_some_and(|name| name.starts_with("system:node:"));
        !self.issued.is_ca && !self.issued.is_client && (is_kubelets || is_node)
    }

    /// Words that tell people which one it is.
    pub fn label(&self) -> String {
        let subject =
            self.issued.subject.as_deref().or(self.issued.common_name.as_deref()).unwrap_or("unknown subject");
        match self.places.first() {
            Some(place) => format!("{subject} ({} on {})", place.path, place.node),
            None => subject.to_owned(),
        }
    }
}

/// The certificates of `rows`, of the registers in `snapshot`, and `told`; `ledger` says which of them are revoked.
pub fn known(snapshot: &Snapshot, rows: &[Row<'_>], told: &[Issued], ledger: &[Revocation]) -> Vec<Known> {
    let authorities: Vec<&Certificate> =
        rows.iter().filter_map(|row| row.certificate).filter(|certificate| certificate.is_ca()).collect();
    let mut all: Vec<Known> = Vec::new();
    let mut at: HashMap<String, usize> = HashMap::new();
    for row in rows {
        let Some(certificate) = row.certificate else { continue };
        let place = Place {
            node: row.node_name.to_owned(),
            path: row.path.clone(),
            file: row.file().display().to_string(),
            id: row.id(),
            source: row.artifact.source,
            is_own: row.is_first(),
        };
        let position = *at.entry(certificate.fingerprint_hex()).or_insert_with(|| {
            let issued = issued(certificate, &authorities, &place, snapshot.taken_at);
            all.push(Known { issued, certificate: Some(certificate.clone()), places: Vec::new(), by: Vec::new() });
            all.len() - 1
        });
        if let Some(known) = all.get_mut(position) {
            known.places.push(place);
        }
    }
    let registers = snapshot.nodes.iter().flat_map(|node| &node.records.register.entries);
    for issued in registers.chain(told) {
        // What can be looked at says more than what was written down about it.
        at.entry(issued.sha256.clone()).or_insert_with(|| {
            all.push(Known { issued: issued.clone(), certificate: None, places: Vec::new(), by: Vec::new() });
            all.len() - 1
        });
    }
    for known in &mut all {
        let found = |hit: Hit<'_>| (hit.revocation.name.clone(), hit.place);
        known.by = match &known.certificate {
            Some(certificate) => matching::hits(ledger, &Traits::from(certificate)).map(found).collect(),
            None => {
                let (serial, names) = (known.issued.serial(), known.issued.names());
                matching::hits(ledger, &known.issued.traits(serial.as_ref(), &names)).map(found).collect()
            }
        };
    }
    all
}

/// What the register keeps of a certificate that lies somewhere.
fn issued(certificate: &Certificate, authorities: &[&Certificate], place: &Place, now: OffsetDateTime) -> Issued {
    let issuer = find_issuer(certificate, authorities.iter().copied());
    let issuer_key: Option<&KeyKind> =
        issuer.filter(|(_, signature)| *signature == Signature::Good).map(|(issuer, _)| issuer.key_kind());
    Issued::of(certificate, issuer_key, Origin::Node, format!("{}: {}", place.node, place.path), now)
}

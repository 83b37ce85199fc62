//! Certificates that were signed elsewhere, in the place of those that would be issued here.

use super::{Issuance, KeyPlace, source};
use crate::error::Failure;
use crate::pki::algorithm::KeyKind;
use crate::pki::certificate::Certificate;
use crate::pki::chain::{Signature, issued};
use crate::plan::blueprint::{Basis, CertificatePlan, Id, IssuerPlan, KeyPlan, Taken};
use crate::plan::rotate::difference;
use crate::plan::rotate::external::Successor;
use crate::plan::rotate::inventory::{Authority, Inventory, Issued, Leaf};
use crate::plan::rotate::period::Period;
use crate::plan::rotate::request::Request;
use crate::plan::rotate::select::Selection;
use crate::plan::rounds::cross_id;
use crate::plan::signed::Signed;

impl Issuance {
    /// Takes the certificate that came back for an authority.
    pub(super) fn take_authority(&mut self, (at, id): (usize, Id), authority: &Authority<'_>, new: &Successor) {
        let period = Period::of(&new.certificate);
        self.periods.insert(at, period);
        self.authorities.push(id.clone());
        self.ends.insert(id.clone(), period.not_after);
        for certificate in &authority.all {
            self.instead.insert(certificate.fingerprint(), id.clone());
        }
        let old = Box::new(authority.certificate.clone());
        let basis = Basis::Renewal { old, subject: None, sans: None, usages: None };
        let key = id.clone();
        self.push(id.clone(), key, basis, taken(&new.certificate, None, None), period);
        if let Some(cross) = &new.cross {
            let (id, key, old) = (cross_id(&id), id, Box::new(cross.clone()));
            let Period { not_before, not_after, .. } = Period::of(cross);
            let basis = Basis::Renewal { old, subject: None, sans: None, usages: None };
            let issuer = taken(cross, Some(authority.certificate.key_kind().clone()), None);
            self.certificates.push(CertificatePlan { id, key, basis, issuer, not_before, not_after });
        }
    }

    /// Takes the certificate that came back for a leaf.
    ///
    /// # Errors
    /// When names are to change that cannot be written.
    pub(super) fn take_leaf(
        &mut self,
        inventory: &Inventory<'_>,
        (leaf, signed): (&Leaf<'_>, &Signed),
        selection: &Selection,
        request: &Request,
    ) -> Result<(), Failure> {
        let Some(home) = leaf.homes.first() else { return Ok(()) };
        let id = self.unused(format!("{}/{}", home.node.name, home.name));
        let (new, old) = (&signed.certificate, leaf.certificate);
        // Only a file that holds the key as well is written with it, so only then is the key read.
        if let Some(place @ KeyPlace::File(_)) = home.key.place().filter(|_| home.key.is_at(home.path)) {
            self.keys.push(KeyPlan { id: id.clone(), source: source(home, &place) });
        }
        let by = match leaf.issued {
            Issued::By(by) => Some(by),
            Issued::Itself | Issued::Unknown => None,
        };
        let authority = by.and_then(|by| {
            let old = inventory.authorities[by].certificate.fingerprint();
            self.instead.get(&old).cloned()
        });
        if new.not_after() <= old.not_after() {
            let (name, end) = (leaf.name(), new.not_after().date());
            self.warnings.push(format!("`{name}`: the signed certificate ends on {end}, no later than the one in use"));
        }
        if let Some(end) = by.map(|by| self.period(inventory, by).not_after).filter(|end| *end < new.not_after()) {
            let name = leaf.name();
            self.warnings
                .push(format!("`{name}`: the signed certificate outlives its authority, which ends on {}", end.date()));
        }
        let change = difference::of(leaf, request)?;
        for words in &change.words {
            self.differences.push((home.node.name.clone(), home.path.to_path_buf(), words.clone()));
        }
        let key_kind =
            by.and_then(|by| signer_of(signed, &inventory.authorities[by], selection.returned.authorities.get(&by)));
        let basis = Basis::Renewal {
            old: Box::new(old.clone()),
            subject: change.subject,
            sans: change.sans,
            usages: change.usages,
        };
        let period = Period::of(new);
        self.ends.insert(id.clone(), period.not_after);
        self.instead.insert(old.fingerprint(), id.clone());
        self.followers.insert(id.clone(), signed.intermediates().cloned().collect());
        let key = id.clone();
        self.push(id, key, basis, taken(new, key_kind, authority), period);
        Ok(())
    }
}

fn taken(certificate: &Certificate, signer: Option<KeyKind>, authority: Option<Id>) -> IssuerPlan {
    IssuerPlan::Taken(Box::new(Taken { certificate: certificate.clone(), signer, authority }))
}

/// The kind of key that has signed a certificate: an intermediate's, or that of the authority, old or new.
fn signer_of(signed: &Signed, authority: &Authority<'_>, successor: Option<&Successor>) -> Option<KeyKind> {
    let successor = successor.map(|successor| &successor.certificate);
    let mut all = signed.rest.iter().chain(successor).chain(authority.all.iter().copied());
    let found = all.find(|one| issued(&signed.certificate, one) == Signature::Good);
    found.map(|signer| signer.key_kind().clone())
}

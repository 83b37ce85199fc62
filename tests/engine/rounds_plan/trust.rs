//! Who believes whom: certificate chains as Go's crypto/x509 checks them (verify.go: candidates for an issuer are all
//! roots and all certificates that were sent, by subject bytes and signature; a leaf among the roots is trusted as it is).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use kubepki::pki::certificate::Certificate;
use kubepki::pki::chain::{Signature, issued};
use kubepki::pki::san::San;
use kubepki::pki::usage::ExtendedKeyUsage;
use time::{Duration, OffsetDateTime};

use super::things::Content;
use crate::support::cluster::NOW;

/// When everything happens.
const AT: OffsetDateTime = NOW.saturating_add(Duration::HOUR);

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum As {
    Server,
    Client,
}

/// Checks chains, each once, and counts how often it was asked.
#[derive(Default)]
pub(super) struct Judge {
    known: RefCell<HashMap<(usize, usize, As), bool>>,
    pub(super) asked: Cell<usize>,
}

impl Judge {
    /// Whether somebody with these roots believes whoever shows this chain.
    pub(super) fn believes(&self, roots: &Content, shown: &Content, shown_as: As) -> bool {
        self.asked.set(self.asked.get() + 1);
        let key = (roots.id, shown.id, shown_as);
        if let Some(known) = self.known.borrow().get(&key) {
            return *known;
        }
        let believes = is_trusted(&roots.roots, &shown.chain, shown_as);
        self.known.borrow_mut().insert(key, believes);
        believes
    }
}

/// Whether a server's certificate is for that host.
pub(super) fn names(server: &Content, host: &str) -> bool {
    server.chain.first().is_some_and(|leaf| leaf.sans().contains(&San::parse(host).unwrap()))
}

fn is_trusted(roots: &[Certificate], chain: &[Certificate], shown_as: As) -> bool {
    let Some((leaf, others)) = chain.split_first() else { return false };
    let usage = match shown_as {
        As::Server => ExtendedKeyUsage::ServerAuth,
        As::Client => ExtendedKeyUsage::ClientAuth,
    };
    leaf.allows(&usage) && leads_to(leaf, others, roots, others.len())
}

/// Whether a path of at most `length` of the certificates that were sent leads from `certificate` to a root.
fn leads_to(certificate: &Certificate, sent: &[Certificate], roots: &[Certificate], length: usize) -> bool {
    let counts = |it: &Certificate| it.not_before() <= AT && AT < it.not_after();
    let signed = |by: &&Certificate| counts(by) && by.is_ca() && issued(certificate, by) == Signature::Good;
    let is_root = roots.iter().any(|root| root.fingerprint() == certificate.fingerprint());
    counts(certificate)
        && (is_root
            || roots.iter().any(|root| signed(&root))
            || length > 0 && sent.iter().filter(signed).any(|by| leads_to(by, sent, roots, length - 1)))
}

#[cfg(test)]
mod tests {
    use kubepki::pki::issue::{Issuer, Template};

    use super::*;
    use crate::support::cluster::{CLIENT, ISSUED, Pair, SERVER};

    #[test]
    fn a_cross_certificate_leads_from_the_old_root_to_what_the_new_one_signed() {
        let (old, new, other) = (Pair::authority("kubernetes"), Pair::authority("kubernetes"), Pair::authority("x"));
        let server = new.issue("kube-apiserver", &[], SERVER, &[]).certificate;
        let validity = (ISSUED, ISSUED + Duration::days(365));
        let cross = Template::renewing(&new.certificate, new.key.public_key(), validity)
            .sign(Issuer { certificate: &old.certificate, key: &old.key })
            .unwrap();
        let roots = |pairs: &[&Pair]| pairs.iter().map(|pair| pair.certificate.clone()).collect::<Vec<_>>();
        let (alone, with_cross) = (vec![server.clone()], vec![server, cross]);
        assert!(!is_trusted(&roots(&[&old]), &alone, As::Server));
        assert!(is_trusted(&roots(&[&old]), &with_cross, As::Server));
        assert!(is_trusted(&roots(&[&old, &new]), &alone, As::Server));
        assert!(is_trusted(&roots(&[&new]), &with_cross, As::Server));
        assert!(!is_trusted(&roots(&[&other]), &with_cross, As::Server));
        assert!(!is_trusted(&roots(&[&new]), &with_cross, As::Client), "a server's certificate");
        let late = new.issue_with("x", &[], CLIENT, &[], |it| it.not_before = AT + Duration::SECOND).certificate;
        assert!(!is_trusted(&roots(&[&new]), &[late], As::Client));
    }
}

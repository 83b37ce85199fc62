//! Whose client certificates a server believes: authorities, or single certificates one by one.
//!
//! A certificate that stands in the bundle itself is believed without its authority (Go crypto/x509 `verify.go`), so a bundle
//! of the good certificates without their authority leaves out exactly those that are revoked: the only cut for
//! `system:masters`. The names of all members go into every TLS handshake, at most 65,535 bytes (RFC 8446 section 4.2.4);
//! beyond that nobody could connect any more.

use std::collections::HashSet;

use super::certificate::Certificate;
use super::pem_file::PemFile;

/// Most bytes that the names may take, each with the two bytes of its length.
const MOST_HINTS: usize = 60_000;

const HEADER: &str = "\
# Whose client certificates kube-apiserver and kube-controller-manager believe; read whenever it changes.
# `kubepki revoke` and `kubepki rotate-certs` write this file.
";

/// A bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTrust {
    /// Authorities, everything they signed is believed.
    pub authorities: Vec<Certificate>,
    /// Single certificates that are believed although nobody who signed them is.
    pub pinned: Vec<Certificate>,
}

impl ClientTrust {
    /// Reads a bundle.
    ///
    /// # Errors
    /// In words, when something in it is no certificate.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let file = PemFile::parse(text);
        if file.damaged > 0 {
            return Err("a part of it is damaged".to_owned());
        }
        let mut trust = Self::default();
        for block in file.certificates() {
            let certificate = Certificate::from_der(&block.der)?;
            if certificate.is_ca() { trust.authorities.push(certificate) } else { trust.pinned.push(certificate) }
        }
        Ok(trust)
    }

    /// Whether single certificates are believed instead of everything an authority signed.
    pub fn is_pinned(&self) -> bool {
        !self.pinned.is_empty()
    }

    /// The bundle as PEM, each certificate once, with what it is about in front of it.
    ///
    /// # Errors
    /// In words: when nobody would be believed, or the names are too many for a handshake. Then nothing may be written.
    pub fn to_text(&self) -> Result<String, String> {
        if self.authorities.is_empty() && self.pinned.is_empty() {
            return Err("nobody would be believed".to_owned());
        }
        let hints = self.hints();
        if hints > MOST_HINTS {
            return Err(format!(
                "the names of {} certificates take {hints} bytes in every TLS handshake, and {MOST_HINTS} is the most; \
                 `kubepki rotate-certs --only cluster-ca` ends all certificates of the cluster's CA instead",
                self.pinned.len() + self.authorities.len()
            ));
        }
        let mut text = HEADER.to_owned();
        let mut known = HashSet::new();
        for certificate in self.authorities.iter().chain(&self.pinned) {
            if known.insert(certificate.fingerprint()) {
                text.push_str(&certificate.to_pem());
            }
        }
        Ok(text)
    }

    /// Bytes that the names take in a handshake. Each name counts once, as in Go's list.
    fn hints(&self) -> usize {
        let names = self.authorities.iter().chain(&self.pinned).map(|one| one.subject().der().len() + 2);
        names.sum()
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::pki::algorithm::KeyAlgorithm;
    use crate::pki::issue::{Issuer, Template};
    use crate::pki::name::Name;
    use crate::pki::private_key::PrivateKey;
    use crate::pki::usage::ExtendedKeyUsage;

    const VALIDITY: (time::OffsetDateTime, time::OffsetDateTime) =
        (datetime!(2026-01-01 00:00 UTC), datetime!(2027-01-01 00:00 UTC));

    fn made() -> (Certificate, Certificate) {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
        let authority = Template::authority(Name::new("kubernetes", &[]), &[], key.public_key(), VALIDITY);
        let authority = authority.self_sign(&key).expect("a CA");
        let usages = [ExtendedKeyUsage::ClientAuth];
        let leaf = Template::leaf(Name::new("jane", &[]), &usages, &[], key.public_key(), VALIDITY);
        let leaf = leaf.sign(Issuer { certificate: &authority, key: &key }).expect("a certificate");
        (authority, leaf)
    }

    #[test]
    fn a_bundle_says_who_is_believed_and_each_once() {
        let (authority, leaf) = made();
        let trust = ClientTrust { authorities: vec![authority.clone(), authority], pinned: vec![leaf] };
        let text = trust.to_text().expect("good");
        let back = ClientTrust::read(text.as_bytes()).expect("good");
        assert_eq!((back.authorities.len(), back.pinned.len(), back.is_pinned()), (1, 1, true));
        assert_eq!(back.to_text().expect("good"), text);
        assert!(ClientTrust::default().to_text().is_err(), "nobody");
        let torn = &text[..text.len() - 40];
        assert!(ClientTrust::read(torn.as_bytes()).is_err());
    }

    #[test]
    fn more_names_than_a_handshake_holds_are_refused_with_the_way_out() {
        let (_, leaf) = made();
        let one = leaf.subject().der().len() + 2;
        let trust = |count: usize| ClientTrust { authorities: Vec::new(), pinned: vec![leaf.clone(); count] };
        assert!(trust(MOST_HINTS / one).to_text().is_ok());
        assert!(trust(MOST_HINTS / one + 1).to_text().is_err_and(|why| why.contains("rotate-certs")));
    }
}

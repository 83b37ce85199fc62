//! CA certificates as a set: what a copy of somebody's trust holds, whatever its order and the text around them.

use std::collections::BTreeSet;
use std::fmt;

use time::OffsetDateTime;

use super::credential::certificates;
use crate::pki::certificate::Certificate;
use crate::pki::pem_file::encode;

/// CA certificates (DER), each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthoritySet(BTreeSet<Vec<u8>>);

impl AuthoritySet {
    /// The certificates in a PEM text; what is no certificate in it is passed over.
    pub fn from_pem(pem: &[u8]) -> Self {
        certificates(pem).into_iter().collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The certificates, as DER.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Whether that certificate (DER) is among them.
    pub fn contains(&self, der: &[u8]) -> bool {
        self.0.contains(der)
    }

    /// Whether every one of `others` is among them.
    pub fn contains_all(&self, others: &Self) -> bool {
        others.0.is_subset(&self.0)
    }

    /// Whether one of `others` at least is among them.
    pub fn meets(&self, others: &Self) -> bool {
        !self.0.is_disjoint(&others.0)
    }

    /// Those that are not among `others`.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        Self(self.0.difference(&others.0).cloned().collect())
    }

    /// These and `others`.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        Self(self.0.union(&others.0).cloned().collect())
    }

    /// Whether one of them is, or is another certificate of, an authority that is among `others` too: renewed with the key it
    /// had, an authority has several.
    pub fn is_akin_to(&self, others: &Self) -> bool {
        let others_of = others.certificates();
        let is_same = |one: &Certificate, other: &Certificate| {
            one.subject().der() == other.subject().der() && one.certifies(other.public_key())
        };
        self.meets(others) || self.certificates().iter().any(|one| others_of.iter().any(|other| is_same(one, other)))
    }

    /// Those that have not expired at `now`; what cannot be read stays.
    #[must_use]
    pub fn unexpired(&self, now: OffsetDateTime) -> Self {
        let has_ended = |der: &Vec<u8>| Certificate::from_der(der).is_ok_and(|found| found.not_after() < now);
        Self(self.0.iter().filter(|der| !has_ended(der)).cloned().collect())
    }

    /// Those that can be read as certificates.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.0.iter().filter_map(|der| Certificate::from_der(der).ok()).collect()
    }

    /// SHA-256 of each certificate.
    pub fn fingerprints(&self) -> BTreeSet<[u8; 32]> {
        self.certificates().iter().map(Certificate::fingerprint).collect()
    }
}

impl FromIterator<Vec<u8>> for AuthoritySet {
    fn from_iter<I: IntoIterator<Item = Vec<u8>>>(ders: I) -> Self {
        Self(ders.into_iter().collect())
    }
}

impl fmt::Display for AuthoritySet {
    /// For people: `CN=kubernetes (1f2e3d4c), …`, the number being the start of the SHA-256 fingerprint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no certificate");
        }
        let words = |der: &Vec<u8>| match Certificate::from_der(der) {
            Ok(found) => format!("{} ({})", found.subject().text(), &found.fingerprint_hex()[..8]),
            Err(_) => "an unreadable certificate".to_owned(),
        };
        f.write_str(&self.0.iter().map(words).collect::<Vec<_>>().join(", "))
    }
}

/// Certificates (DER) as one PEM text, in their order.
pub fn bundle(ders: &[Vec<u8>]) -> String {
    ders.iter().map(|der| encode("CERTIFICATE", der).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_do_not_know_order_or_repetition() {
        let of = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<AuthoritySet>();
        let ders = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        let text = format!("# words\n{}", bundle(&ders(&["b", "a", "b"])));
        assert_eq!(AuthoritySet::from_pem(text.as_bytes()), of(&["a", "b"]));
        assert!(of(&["a", "b"]).meets(&of(&["b", "c"])) && !of(&["a"]).meets(&of(&[])));
        assert!(of(&["a", "b"]).contains_all(&of(&["b"])) && !of(&["b"]).contains_all(&of(&["a", "b"])));
        assert_eq!(of(&["a", "b"]).without(&of(&["b"])).with(&of(&["c"])), of(&["a", "c"]));
        assert_eq!(of(&[]).to_string(), "no certificate");
        assert_eq!(of(&["x"]).to_string(), "an unreadable certificate");
        assert_eq!(of(&["x"]).unexpired(OffsetDateTime::UNIX_EPOCH), of(&["x"]));
    }

    #[test]
    fn a_certificate_of_the_same_key_is_of_the_same_authority() {
        use crate::pki::algorithm::KeyAlgorithm;
        use crate::pki::issue::Template;
        use crate::pki::name::Name;
        use crate::pki::private_key::PrivateKey;
        use time::macros::datetime;

        let [one, other] = [(); 2].map(|()| PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("random numbers"));
        let authority = |key: &PrivateKey| -> AuthoritySet {
            let validity = (datetime!(2026-01-01 0:00 UTC), datetime!(2036-01-01 0:00 UTC));
            let template = Template::authority(Name::new("kubernetes", &[]), &[], key.public_key(), validity);
            [template.self_sign(key).expect("its own key").der().to_vec()].into_iter().collect()
        };
        let (first, renewed, stranger) = (authority(&one), authority(&one), authority(&other));
        assert!(!first.meets(&renewed) && first.is_akin_to(&renewed));
        assert!(!first.is_akin_to(&stranger) && !first.is_akin_to(&AuthoritySet::default()));
    }
}

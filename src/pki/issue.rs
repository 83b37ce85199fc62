//! Writing certificates: a template, an issuer, a signature.
//!
//! Written over raw bytes (see `der.rs`): the issuer name is the CA's subject byte for byte, the authority key
//! identifier is the CA's own subject key identifier, and a renewal carries every extension of the old certificate.
//! Extensions stand in Go's order: key usage, extended key usage, basic constraints, subject key, authority key, names.

use aws_lc_rs::{digest, rand};
use time::OffsetDateTime;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;
use yasna::Tag;

use super::certificate::Certificate;
use super::der::{self, Extension};
use super::name::Name;
use super::private_key::{KeyError, PrivateKey};
use super::san::{self, San};
use super::usage::{ExtendedKeyUsage, KeyUsage};

/// Whoever signs: a CA certificate and its key.
#[derive(Debug, Clone, Copy)]
pub struct Issuer<'a> {
    /// The CA's certificate.
    pub certificate: &'a Certificate,
    /// Its private key; must belong to the certificate, see [`Issuer::new`].
    pub key: &'a PrivateKey,
}

impl<'a> Issuer<'a> {
    /// Pairs a CA certificate with its key.
    ///
    /// # Errors
    /// When the key is another one, or the certificate is no CA's or may not sign.
    pub fn new(certificate: &'a Certificate, key: &'a PrivateKey) -> Result<Self, String> {
        if !certificate.certifies(key.public_key()) {
            return Err("the private key does not belong to the CA certificate".to_owned());
        }
        if !certificate.is_ca() {
            return Err("the certificate is no CA certificate (basic constraints)".to_owned());
        }
        if certificate.key_usage().is_some_and(|usage| !usage.contains(KeyUsage::KEY_CERT_SIGN)) {
            return Err("the CA certificate may not sign certificates (key usage)".to_owned());
        }
        Ok(Self { certificate, key })
    }
}

/// Everything a certificate says, but for its serial number, its issuer and its authority key identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Whom it is about.
    pub subject: Name,
    /// First second of validity, UTC; fractions are dropped.
    pub not_before: OffsetDateTime,
    /// Last second of validity, UTC.
    pub not_after: OffsetDateTime,
    /// The certified key, `SubjectPublicKeyInfo` DER.
    pub public_key: Vec<u8>,
    /// All extensions in order; where the authority key identifier belongs, it is inserted or replaced when signing.
    pub extensions: Vec<Extension>,
}

impl Template {
    /// A leaf as kubeadm makes it: critical key usage, critical `CA:FALSE`, no subject key identifier
    /// (Kubernetes: `cmd/kubeadm/app/util/pkiutil/pki_helpers.go`, `NewSignedCert`).
    pub fn leaf(
        subject: Name,
        usages: &[ExtendedKeyUsage],
        sans: &[San],
        public_key: &[u8],
        validity: (OffsetDateTime, OffsetDateTime),
    ) -> Self {
        let mut extensions = vec![Extension::new(der::OID_KEY_USAGE, true, KeyUsage::LEAF.der())];
        if !usages.is_empty() {
            extensions.push(Extension::new(der::OID_EXTENDED_KEY_USAGE, false, ExtendedKeyUsage::sequence(usages)));
        }
        extensions.push(Extension::new(der::OID_BASIC_CONSTRAINTS, true, basic_constraints(false)));
        if !sans.is_empty() {
            // RFC 5280 section 4.2.1.6: with an empty subject the names are all there is, and critical.
            extensions.push(Extension::new(der::OID_SAN, subject.is_empty(), san::general_names(sans)));
        }
        Self { subject, not_before: validity.0, not_after: validity.1, public_key: public_key.to_vec(), extensions }
    }

    /// A CA as kubeadm makes it, and `cRLSign`: no path length, subject key identifier as Go computes it.
    pub fn authority(
        subject: Name,
        sans: &[San],
        public_key: &[u8],
        validity: (OffsetDateTime, OffsetDateTime),
    ) -> Self {
        let mut extensions = vec![
            Extension::new(der::OID_KEY_USAGE, true, KeyUsage::AUTHORITY.der()),
            Extension::new(der::OID_BASIC_CONSTRAINTS, true, basic_constraints(true)),
            Extension::new(der::OID_SKI, false, octet_string(&subject_key_id(public_key))),
        ];
        if !sans.is_empty() {
            extensions.push(Extension::new(der::OID_SAN, subject.is_empty(), san::general_names(sans)));
        }
        Self { subject, not_before: validity.0, not_after: validity.1, public_key: public_key.to_vec(), extensions }
    }

    /// The same certificate again, for `public_key`: subject bytes and every extension are carried over. The subject key
    /// identifier is kept while the key is the same, and computed anew for another key.
    pub fn renewing(old: &Certificate, public_key: &[u8], validity: (OffsetDateTime, OffsetDateTime)) -> Self {
        let mut extensions: Vec<Extension> = old.extensions().to_vec();
        if !old.certifies(public_key) {
            for extension in extensions.iter_mut().filter(|extension| extension.oid == der::OID_SKI) {
                extension.value = octet_string(&subject_key_id(public_key));
            }
        }
        Self {
            subject: old.subject().clone(),
            not_before: validity.0,
            not_after: validity.1,
            public_key: public_key.to_vec(),
            extensions,
        }
    }

    /// Replaces the alternative names; an empty list removes the extension.
    #[must_use]
    pub fn with_sans(mut self, sans: &[San]) -> Self {
        let critical = self.subject.is_empty();
        self.put(
            der::OID_SAN,
            (!sans.is_empty()).then(|| Extension::new(der::OID_SAN, critical, san::general_names(sans))),
        );
        self
    }

    /// Replaces the extended key usages; an empty list removes the extension.
    #[must_use]
    pub fn with_usages(mut self, usages: &[ExtendedKeyUsage]) -> Self {
        let value = || ExtendedKeyUsage::sequence(usages);
        self.put(
            der::OID_EXTENDED_KEY_USAGE,
            (!usages.is_empty()).then(|| Extension::new(der::OID_EXTENDED_KEY_USAGE, false, value())),
        );
        self
    }

    /// Adds what a CA of ours can do (`cRLSign`, which kubeadm's lack) to the key usage it has.
    #[must_use]
    pub fn with_authority_key_usage(mut self, old: Option<KeyUsage>) -> Self {
        let usage = KeyUsage(KeyUsage::AUTHORITY.0 | old.map_or(0, |usage| usage.0));
        self.put(der::OID_KEY_USAGE, Some(Extension::new(der::OID_KEY_USAGE, true, usage.der())));
        self
    }

    fn put(&mut self, oid: &[u8], extension: Option<Extension>) {
        let at = self.extensions.iter().position(|known| known.oid == oid);
        match (at, extension) {
            (Some(at), Some(extension)) => self.extensions[at] = extension,
            (Some(at), None) => drop(self.extensions.remove(at)),
            (None, Some(extension)) => self.extensions.push(extension),
            (None, None) => {}
        }
    }

    /// Signs with a CA. The end is the template's: callers clamp it to the CA's own.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign(&self, issuer: Issuer<'_>) -> Result<Certificate, KeyError> {
        let authority_key_id = issuer.certificate.subject_key_id();
        self.write(issuer.certificate.subject().der(), authority_key_id, issuer.key)
    }

    /// Signs with its own key: a root. Go writes no authority key identifier into those.
    ///
    /// # Errors
    /// When the key is not the template's or cannot sign.
    pub fn self_sign(&self, key: &PrivateKey) -> Result<Certificate, KeyError> {
        if key.public_key() != self.public_key {
            return Err(KeyError::Crypto("a root is signed by its own key only".to_owned()));
        }
        self.write(self.subject.der(), None, key)
    }

    fn write(
        &self,
        issuer_name: &[u8],
        authority_key_id: Option<&[u8]>,
        key: &PrivateKey,
    ) -> Result<Certificate, KeyError> {
        let (algorithm, null) = key.signature_algorithm()?;
        let serial = random_serial()?;
        let extensions = self.extensions_for(authority_key_id);
        let tbs = yasna::construct_der(|writer| {
            writer.write_sequence(|tbs| {
                tbs.next().write_tagged(Tag::context(0), |version| version.write_u8(2));
                tbs.next().write_bigint_bytes(&serial, true);
                der::write_algorithm(tbs.next(), algorithm, null);
                tbs.next().write_der(issuer_name);
                tbs.next().write_sequence(|validity| {
                    der::write_time(validity.next(), self.not_before);
                    der::write_time(validity.next(), self.not_after);
                });
                tbs.next().write_der(self.subject.der());
                tbs.next().write_der(&self.public_key);
                if !extensions.is_empty() {
                    tbs.next().write_tagged(Tag::context(3), |tagged| {
                        tagged.write_sequence(|list| {
                            extensions.iter().for_each(|extension| extension.write(list.next()))
                        });
                    });
                }
            });
        });
        let signature = key.sign(&tbs)?;
        let der = yasna::construct_der(|writer| {
            writer.write_sequence(|certificate| {
                certificate.next().write_der(&tbs);
                der::write_algorithm(certificate.next(), algorithm, null);
                certificate.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Certificate::from_der(&der).map_err(KeyError::Crypto)
    }

    /// The extensions with the authority key identifier of whoever signs: replaced where the old certificate had one, else
    /// before the names, where Go has it.
    fn extensions_for(&self, authority_key_id: Option<&[u8]>) -> Vec<Extension> {
        let mut extensions = self.extensions.clone();
        let at = extensions.iter().position(|extension| extension.oid == der::OID_AKI);
        match (authority_key_id, at) {
            (Some(id), at) => {
                let value = yasna::construct_der(|writer| {
                    writer.write_sequence(|sequence| sequence.next().write_der(&der::implicit_bytes(0, id)));
                });
                let extension = Extension::new(der::OID_AKI, false, value);
                match at {
                    Some(at) => extensions[at] = extension,
                    None => {
                        let names = extensions.iter().position(|extension| extension.oid == der::OID_SAN);
                        extensions.insert(names.unwrap_or(extensions.len()), extension);
                    }
                }
            }
            (None, Some(at)) => drop(extensions.remove(at)),
            (None, None) => {}
        }
        extensions
    }
}

/// The first 160 bits of the SHA-256 of the key bits, as Go computes it since 1.25 (RFC 7093 section 2, method 1).
fn subject_key_id(public_key: &[u8]) -> Vec<u8> {
    let bits = SubjectPublicKeyInfo::from_der(public_key)
        .map_or_else(|_| public_key.to_vec(), |(_, info)| info.subject_public_key.data.to_vec());
    digest::digest(&digest::SHA256, &bits).as_ref()[..20].to_vec()
}

/// 127 random bits: positive, not zero, 16 octets (RFC 5280 section 4.1.2.2 allows 20).
fn random_serial() -> Result<[u8; 16], KeyError> {
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| KeyError::Crypto("the system has no random numbers".to_owned()))?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn basic_constraints(ca: bool) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|sequence| {
            if ca {
                sequence.next().write_bool(true);
            }
        });
    })
}

fn octet_string(bytes: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| writer.write_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::algorithm::KeyAlgorithm;
    use crate::pki::chain::{self, Signature};
    use time::macros::datetime;

    fn validity() -> (OffsetDateTime, OffsetDateTime) {
        (datetime!(2026-01-01 0:00 UTC), datetime!(2056-01-01 0:00 UTC))
    }

    fn authority(algorithm: KeyAlgorithm) -> (Certificate, PrivateKey) {
        let key = PrivateKey::generate(algorithm).expect("random source");
        let template = Template::authority(
            Name::new("kubernetes", &[]),
            &[San::Dns("kubernetes".into())],
            key.public_key(),
            validity(),
        );
        (template.self_sign(&key).expect("own key"), key)
    }

    #[test]
    fn a_leaf_carries_what_kubeadm_writes_in_its_order() {
        let (ca, ca_key) = authority(KeyAlgorithm::EcdsaP384);
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("random source");
        let sans = [
            San::Dns("cp1".into()),
            San::Ip("10.0.0.1".parse().expect("address")),
            San::Ip("fd00::1".parse().expect("address")),
        ];
        let template = Template::leaf(
            Name::new("kube-apiserver", &[]),
            &[ExtendedKeyUsage::ServerAuth],
            &sans,
            key.public_key(),
            validity(),
        );
        let leaf = template.sign(Issuer::new(&ca, &ca_key).expect("pair")).expect("signs");
        assert_eq!(leaf.sans(), sans);
        assert_eq!(leaf.issuer().der(), ca.subject().der());
        assert_eq!(leaf.authority_key_id(), ca.subject_key_id());
        assert_eq!(leaf.key_usage(), Some(KeyUsage::LEAF));
        assert!(!leaf.is_ca() && ca.is_ca());
        assert_eq!(leaf.not_after(), validity().1);
        let order: Vec<&[u8]> = leaf.extensions().iter().map(|extension| extension.oid.as_slice()).collect();
        assert_eq!(
            order,
            [der::OID_KEY_USAGE, der::OID_EXTENDED_KEY_USAGE, der::OID_BASIC_CONSTRAINTS, der::OID_AKI, der::OID_SAN]
        );
        assert_eq!(chain::issued(&leaf, &ca), Signature::Good);
        assert_eq!(chain::issued(&ca, &ca), Signature::Good);
        let (other, _) = authority(KeyAlgorithm::EcdsaP384);
        assert_eq!(chain::issued(&leaf, &other), Signature::Bad);
    }

    #[test]
    fn a_renewal_keeps_every_extension_and_the_subject_bytes() {
        let (ca, ca_key) = authority(KeyAlgorithm::EcdsaP256);
        let same = Template::renewing(&ca, ca.public_key(), validity()).self_sign(&ca_key).expect("own key");
        assert_eq!(same.subject().der(), ca.subject().der());
        assert_eq!(same.extensions(), ca.extensions());
        assert_ne!(same.serial(), ca.serial());
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("random source");
        let other = Template::renewing(&ca, key.public_key(), validity()).self_sign(&key).expect("own key");
        assert_ne!(other.subject_key_id(), ca.subject_key_id());
    }

    #[test]
    fn a_renewal_keeps_extensions_whose_identifier_is_made_from_a_uuid() {
        let (ca, ca_key) = authority(KeyAlgorithm::EcdsaP256);
        let mut template = Template::renewing(&ca, ca.public_key(), validity());
        // 2.25.340282366920938463463374607431768211455 (ITU-T X.667).
        let mut oid = vec![0x69, 0x83];
        oid.extend([0xff; 17]);
        oid.push(0x7f);
        template.extensions.push(Extension::new(&oid, false, vec![5, 0]));
        let old = template.self_sign(&ca_key).expect("own key");
        let new = Template::renewing(&old, ca.public_key(), validity()).self_sign(&ca_key).expect("own key");
        assert_eq!(new.extensions(), template.extensions);
        assert!(new.extension(&oid).is_some());
    }

    #[test]
    fn a_foreign_key_is_no_issuer() {
        let (ca, _) = authority(KeyAlgorithm::EcdsaP256);
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("random source");
        assert!(Issuer::new(&ca, &key).is_err());
    }
}

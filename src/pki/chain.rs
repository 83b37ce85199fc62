//! Who signed whom: by name, key identifier and signature, never by name alone.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::certificate::Certificate;

/// What a signature check said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// Made by that key.
    Good,
    /// Not made by that key.
    Bad,
    /// Of a kind that cannot be checked here: neither good nor bad.
    Unsupported,
}

/// Checks the signature of `certificate` with the key of `signer`; names are not looked at.
pub fn signature(certificate: &Certificate, signer: &Certificate) -> Signature {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate.der()) else { return Signature::Bad };
    let Ok((_, signer_parsed)) = X509Certificate::from_der(signer.der()) else { return Signature::Bad };
    let key = signer_parsed.public_key();
    let message = parsed.tbs_certificate.as_ref();
    let bytes = parsed.signature_value.as_ref();
    let oid = parsed.signature_algorithm.algorithm.to_id_string();
    // x509-parser picks an ECDSA algorithm by hash alone and knows no P-521 or SHA-512, so those are done here.
    if let Some(algorithm) = ecdsa(&oid, signer.key_kind()) {
        return match UnparsedPublicKey::new(algorithm, &key.subject_public_key.data[..]).verify(message, bytes) {
            Ok(()) => Signature::Good,
            Err(_) => Signature::Bad,
        };
    }
    match oid.as_str() {
        // RSA with SHA-256, SHA-384, SHA-512, SHA-1; Ed25519
        "1.2.840.113549.1.1.11"
        | "1.2.840.113549.1.1.12"
        | "1.2.840.113549.1.1.13"
        | "1.2.840.113549.1.1.5"
        | "1.3.101.112" => match parsed.verify_signature(Some(key)) {
            Ok(()) => Signature::Good,
            Err(_) => Signature::Bad,
        },
        _ => Signature::Unsupported,
    }
}

fn ecdsa(oid: &str, key: &super::algorithm::KeyKind) -> Option<&'static dyn VerificationAlgorithm> {
    use super::algorithm::KeyKind::{EcdsaP256, EcdsaP384, EcdsaP521};
    let hash = oid.strip_prefix("1.2.840.10045.4.3.")?;
    Some(match (key, hash) {
        (EcdsaP256, "2") => &signature::ECDSA_P256_SHA256_ASN1,
        (EcdsaP256, "3") => &signature::ECDSA_P256_SHA384_ASN1,
        (EcdsaP256, "4") => &signature::ECDSA_P256_SHA512_ASN1,
        (EcdsaP384, "2") => &signature::ECDSA_P384_SHA256_ASN1,
        (EcdsaP384, "3") => &signature::ECDSA_P384_SHA384_ASN1,
        (EcdsaP384, "4") => &signature::ECDSA_P384_SHA512_ASN1,
        (EcdsaP521, "2") => &signature::ECDSA_P521_SHA256_ASN1,
        (EcdsaP521, "3") => &signature::ECDSA_P521_SHA384_ASN1,
        (EcdsaP521, "4") => &signature::ECDSA_P521_SHA512_ASN1,
        _ => return None,
    })
}

/// Whether `issuer` could have issued `certificate` by name and key identifier (RFC 5280 section 4.2.1.1); says nothing
/// about the signature.
pub fn names_match(certificate: &Certificate, issuer: &Certificate) -> bool {
    certificate.issuer().der() == issuer.subject().der()
        && match (certificate.authority_key_id(), issuer.subject_key_id()) {
            (Some(wanted), Some(own)) => wanted == own,
            _ => true,
        }
}

/// Whether `issuer` issued `certificate`: names, key identifiers and signature.
pub fn issued(certificate: &Certificate, issuer: &Certificate) -> Signature {
    if certificate.issuer().der() == issuer.subject().der() { signature(certificate, issuer) } else { Signature::Bad }
}

/// Finds the issuer of `certificate` among `candidates`, those with the matching key identifier first.
///
/// Returns the issuer with [`Signature::Good`], or the best guess with what is wrong about it.
pub fn find_issuer<'a>(
    certificate: &Certificate,
    candidates: impl IntoIterator<Item = &'a Certificate>,
) -> Option<(&'a Certificate, Signature)> {
    let mut named: Vec<&Certificate> =
        candidates.into_iter().filter(|candidate| candidate.subject().der() == certificate.issuer().der()).collect();
    named.sort_by_key(|candidate| !names_match(certificate, candidate));
    let mut guess = None;
    for candidate in named {
        match signature(certificate, candidate) {
            Signature::Good => return Some((candidate, Signature::Good)),
            other => {
                guess.get_or_insert((candidate, other));
            }
        }
    }
    guess
}

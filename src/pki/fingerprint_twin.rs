//! The other form of a certificate that is signed with ECDSA, and its fingerprint.
//!
//! A signature (r, s) is as good as (r, n - s), n being the order of the curve's base point. Anybody who holds such a
//! certificate can exchange one for the other: it stays valid and gets another SHA-256. Whoever refuses a certificate by its
//! fingerprint has to refuse both forms. RSA signatures (PKCS#1 v1.5) have one form only.

use aws_lc_rs::digest;
use x509_parser::der_parser::asn1_rs::{Any, FromDer as _};

use super::algorithm::KeyKind;
use super::certificate::Certificate;

/// The curves of ECDSA keys that Go's TLS takes, with the order of the base point (FIPS 186-4 appendix D.1.2, big endian).
const ORDERS: [(KeyKind, &[u8]); 3] = [
    (
        KeyKind::EcdsaP256,
        &[
            0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
            0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
        ],
    ),
    (
        KeyKind::EcdsaP384,
        &[
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2,
            0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
        ],
    ),
    (
        KeyKind::EcdsaP521,
        &[
            0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfa, 0x51, 0x86,
            0x87, 0x83, 0xbf, 0x2f, 0x96, 0x6b, 0x7f, 0xcc, 0x01, 0x48, 0xf7, 0x09, 0xa5, 0xd0, 0x3b, 0xb5, 0xc9, 0xb8,
            0x89, 0x9c, 0x47, 0xae, 0xbb, 0x6f, 0xb7, 0x1e, 0x91, 0x38, 0x64, 0x09,
        ],
    ),
];

/// Every SHA-256 under which the certificate can appear besides its own: one when the issuer's key is ECDSA and known, none
/// when its signature is of another kind, one for each curve that fits when nobody knows the issuer's key.
pub fn fingerprints(certificate: &Certificate, issuer_key: Option<&KeyKind>) -> Vec<[u8; 32]> {
    let fits = ORDERS.iter().filter(|(kind, _)| issuer_key.is_none_or(|known| known == kind));
    let others = fits.filter_map(|(_, order)| twin_of(certificate.der(), order));
    others
        .map(|der| {
            let mut sum = [0; 32];
            sum.copy_from_slice(digest::digest(&digest::SHA256, &der).as_ref());
            sum
        })
        .collect()
}

/// The other form of an ECDSA-signed certificate whose issuer has a key of that kind, DER.
pub fn twin(certificate: &Certificate, issuer_key: &KeyKind) -> Option<Vec<u8>> {
    let (_, order) = ORDERS.iter().find(|(kind, _)| kind == issuer_key)?;
    twin_of(certificate.der(), order)
}

fn twin_of(der: &[u8], order: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = Any::from_der(der).ok()?;
    let (after_tbs, _) = Any::from_der(certificate.data).ok()?;
    let (signature, algorithm) = Any::from_der(after_tbs).ok()?;
    // ecdsa-with-SHA1 and ecdsa-with-SHA2 (1.2.840.10045.4.x), whatever hash.
    let (_, oid) = Any::from_der(algorithm.data).ok()?;
    if !oid.data.starts_with(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4]) {
        return None;
    }
    let head = &certificate.data[..certificate.data.len() - signature.len()];
    let (_, bits) = Any::from_der(signature).ok()?;
    let (_, pair) = Any::from_der(bits.data.strip_prefix(&[0])?).ok()?;
    let (rest, r) = Any::from_der(pair.data).ok()?;
    let (_, s) = Any::from_der(rest).ok()?;
    let (r, s) = (magnitude(r.data), difference(order, magnitude(s.data))?);
    if !is_below(r, order) {
        return None;
    }
    let pair = yasna::construct_der(|writer| {
        writer.write_sequence(|sequence| {
            sequence.next().write_bigint_bytes(r, true);
            sequence.next().write_bigint_bytes(&s, true);
        });
    });
    let bits = yasna::construct_der(|writer| writer.write_bitvec_bytes(&pair, pair.len() * 8));
    Some(yasna::construct_der(|writer| {
        writer.write_sequence(|sequence| {
            sequence.next().write_der(head);
            sequence.next().write_der(&bits);
        });
    }))
}

/// A positive INTEGER's content without leading zeros.
fn magnitude(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len())..]
}

fn is_below(number: &[u8], limit: &[u8]) -> bool {
    (number.len(), number) < (limit.len(), limit)
}

/// `order - number`, without leading zeros; `None` unless 0 < number < order.
fn difference(order: &[u8], number: &[u8]) -> Option<Vec<u8>> {
    if number.is_empty() || !is_below(number, order) {
        return None;
    }
    let mut result = order.to_vec();
    let offset = order.len() - number.len();
    let mut borrow = false;
    for at in (0..order.len()).rev() {
        let taken = at.checked_sub(offset).map_or(0, |at| number[at]);
        let (without, under) = result[at].overflowing_sub(taken);
        let (without, under_again) = without.overflowing_sub(u8::from(borrow));
        result[at] = without;
        borrow = under || under_again;
    }
    Some(magnitude(&result).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::algorithm::KeyAlgorithm;
    use crate::pki::chain::{Signature, issued};
    use crate::pki::issue::{Issuer, Template};
    use crate::pki::name::Name;
    use crate::pki::private_key::PrivateKey;
    use time::macros::datetime;

    fn leaf_of(algorithm: KeyAlgorithm) -> (Certificate, Certificate) {
        let key = PrivateKey::generate(algorithm).expect("random source");
        let validity = (datetime!(2026-01-01 0:00 UTC), datetime!(2027-01-01 0:00 UTC));
        let root = Template::authority(Name::new("ca", &[]), &[], key.public_key(), validity);
        let root = root.self_sign(&key).expect("signs");
        let leaf = Template::leaf(Name::new("jane", &[]), &[], &[], key.public_key(), validity);
        (leaf.sign(Issuer { certificate: &root, key: &key }).expect("signs"), root)
    }

    #[test]
    fn the_other_form_is_valid_too_and_its_other_form_is_the_first() {
        for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384] {
            // Numbers may begin with zeros or need one in front: every length has to come up.
            for _ in 0..40 {
                let (leaf, root) = leaf_of(algorithm);
                let other = twin(&leaf, root.key_kind()).expect("ECDSA");
                let other = Certificate::from_der(&other).expect("a certificate");
                assert_ne!(other.fingerprint(), leaf.fingerprint());
                assert_eq!(issued(&other, &root), Signature::Good);
                assert_eq!((other.serial(), other.subject()), (leaf.serial(), leaf.subject()));
                assert_eq!(twin(&other, root.key_kind()).as_deref(), Some(leaf.der()));
                assert_eq!(fingerprints(&leaf, Some(root.key_kind())), [other.fingerprint()]);
                assert!(fingerprints(&leaf, None).contains(&other.fingerprint()));
            }
        }
    }

    #[test]
    fn an_rsa_signature_has_one_form_only() {
        let (leaf, root) = leaf_of(KeyAlgorithm::Rsa2048);
        assert!(fingerprints(&leaf, Some(root.key_kind())).is_empty());
        assert!(fingerprints(&leaf, None).is_empty());
    }
}

//! Private keys: reading every form found on nodes, making new ones, signing, and writing them as kubeadm does.
//!
//! A key shows nothing of itself in `Debug` and wipes its bytes when dropped. Reading only the public half
//! ([`public_half`]) is cheap and does not check the key; loading ([`PrivateKey::from_pem`]) does.

use aws_lc_rs::encoding::{AsDer as _, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair};
use rcgen::{KeyPair, PublicKeyData as _, RsaKeySize, SigningKey as _};
use yasna::Tag;
use yasna::models::ObjectIdentifier;
use zeroize::Zeroizing;

use super::algorithm::{KeyAlgorithm, KeyKind};
use super::pem_file::{self, Block, PemFile};

/// Why a key could not be read or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The file has no private key block.
    #[error("no private key in it")]
    NoKey,
    /// The key is encrypted; kubepki asks for no passphrases of keys.
    #[error("the private key is encrypted; decrypt it with `openssl pkey -in FILE -out FILE.plain` first")]
    Encrypted,
    /// The key's bytes are damaged or of a kind that is not supported.
    #[error("the private key cannot be read: {0}")]
    Invalid(String),
    /// Key generation or signing failed.
    #[error("{0}")]
    Crypto(String),
}

/// A loaded private key that can sign.
pub struct PrivateKey {
    pair: KeyPair,
    kind: KeyKind,
    public_key: Vec<u8>,
    pem: Zeroizing<String>,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({})", self.kind)
    }
}

impl PrivateKey {
    /// Makes a new key. RSA takes from 60 ms (2048 bits) to over a second (4096), elliptic curves take microseconds.
    ///
    /// # Errors
    /// When the system's random source or the key generation fails.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        let rsa = |size| {
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size)
                .map_err(|error| KeyError::Crypto(format!("generating an RSA key failed: {error}")))
        };
        match algorithm {
            KeyAlgorithm::Rsa2048 => Self::from_generated_rsa(rsa(RsaKeySize::_2048)?),
            KeyAlgorithm::Rsa3072 => Self::from_generated_rsa(rsa(RsaKeySize::_3072)?),
            KeyAlgorithm::Rsa4096 => Self::from_generated_rsa(rsa(RsaKeySize::_4096)?),
            KeyAlgorithm::EcdsaP256 => Self::from_generated_ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)),
            KeyAlgorithm::EcdsaP384 => Self::from_generated_ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING)),
        }
    }

    fn from_generated_rsa(pair: KeyPair) -> Result<Self, KeyError> {
        // kubeadm writes PKCS#1; it is the OCTET STRING inside the PKCS#8 structure (RFC 5958, RFC 8017 A.1.2).
        let pkcs1 = pkcs8_parts(pair.serialized_der()).map_err(KeyError::Invalid)?.1;
        let pem = pem_file::encode("RSA PRIVATE KEY", &pkcs1);
        Self::from_pair(pair, pem)
    }

    fn from_generated_ec(pair: Result<EcdsaKeyPair, aws_lc_rs::error::Unspecified>) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Crypto("generating an ECDSA key failed".to_owned());
        let pair = pair.map_err(failed)?;
        let sec1: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().map_err(failed)?;
        let pem = pem_file::encode("EC PRIVATE KEY", sec1.as_ref());
        Self::from_pem(pem.as_bytes())
    }

    fn from_pair(pair: KeyPair, pem: Zeroizing<String>) -> Result<Self, KeyError> {
        let public_key = pair.subject_public_key_info();
        let kind = super::certificate::key_kind(&public_key).map_err(KeyError::Invalid)?;
        Ok(Self { pair, kind, public_key, pem })
    }

    /// Loads the first private key of a PEM file: PKCS#1, PKCS#8 or SEC1; RSA, P-256, P-384, P-521 or Ed25519. The
    /// library checks that the key is whole and consistent.
    ///
    /// # Errors
    /// When there is none, or it is encrypted, damaged or of an unsupported kind.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, KeyError> {
        let file = PemFile::parse(bytes);
        let block = file.private_key().ok_or(KeyError::NoKey)?;
        refuse_encrypted(block)?;
        let text = pem_file::encode(&block.tag, &block.der);
        let pair = KeyPair::from_pem(&text).map_err(|error| KeyError::Invalid(error.to_string()))?;
        Self::from_pair(pair, text)
    }

    /// What kind of key it is.
    pub fn kind(&self) -> &KeyKind {
        &self.kind
    }

    /// The public half, `SubjectPublicKeyInfo` DER (RFC 5280 section 4.1).
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The key as PEM: as it was read, or for new keys in kubeadm's form (`RSA PRIVATE KEY`, `EC PRIVATE KEY`).
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.pem.clone()
    }

    /// The public half as PEM (`PUBLIC KEY`), the content of `sa.pub`.
    pub fn public_key_pem(&self) -> String {
        pem_file::encode("PUBLIC KEY", &self.public_key).to_string()
    }

    /// Signs `message`: RSA PKCS#1 v1.5 with SHA-256, ECDSA with the hash of its curve's size, Ed25519. The algorithm
    /// identifier that belongs to the signature is [`PrivateKey::signature_algorithm`].
    ///
    /// # Errors
    /// When the library refuses the key.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.pair.sign(message).map_err(|error| KeyError::Crypto(format!("signing failed: {error}")))
    }

    /// Object identifier of the signatures made by [`PrivateKey::sign`], and whether it takes NULL parameters.
    ///
    /// # Errors
    /// For a key kind that cannot sign certificates here.
    pub fn signature_algorithm(&self) -> Result<(&'static [u64], bool), KeyError> {
        match self.kind {
            KeyKind::Rsa(_) => Ok((&[1, 2, 840, 113_549, 1, 1, 11], true)),
            KeyKind::EcdsaP256 => Ok((&[1, 2, 840, 10045, 4, 3, 2], false)),
            KeyKind::EcdsaP384 => Ok((&[1, 2, 840, 10045, 4, 3, 3], false)),
            KeyKind::EcdsaP521 => Ok((&[1, 2, 840, 10045, 4, 3, 4], false)),
            KeyKind::Ed25519 => Ok((&[1, 3, 101, 112], false)),
            KeyKind::Other(ref oid) => Err(KeyError::Invalid(format!("keys of kind {oid} are not supported"))),
        }
    }
}

fn refuse_encrypted(block: &Block) -> Result<(), KeyError> {
    if block.tag.contains("ENCRYPTED") || block.has_headers { Err(KeyError::Encrypted) } else { Ok(()) }
}

/// The public half (`SubjectPublicKeyInfo` DER) of the first private key in a PEM file, without loading the key where
/// its encoding tells it: enough to compare it with a certificate.
///
/// # Errors
/// When there is no key, or it is encrypted or damaged.
pub fn public_half(bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
    let file = PemFile::parse(bytes);
    let block = file.private_key().ok_or(KeyError::NoKey)?;
    refuse_encrypted(block)?;
    let quick = match block.tag.as_str() {
        "RSA PRIVATE KEY" => rsa_public_key(&block.der).ok(),
        "PRIVATE KEY" => match pkcs8_parts(&block.der) {
            Ok((oid, inner)) if oid == RSA_ENCRYPTION => rsa_public_key(&inner).ok(),
            _ => None,
        },
        "EC PRIVATE KEY" => ec_public_key(&block.der).ok().flatten(),
        _ => None,
    };
    quick.map_or_else(|| PrivateKey::from_pem(bytes).map(|key| key.public_key), Ok)
}

const RSA_ENCRYPTION: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];
const EC_PUBLIC_KEY: &[u64] = &[1, 2, 840, 10045, 2, 1];

/// Algorithm and inner key of a PKCS#8 structure (RFC 5958 section 2).
fn pkcs8_parts(der: &[u8]) -> Result<(Vec<u64>, Zeroizing<Vec<u8>>), String> {
    yasna::parse_der(der, |reader| {
        reader.read_sequence(|sequence| {
            sequence.next().read_u8()?;
            let oid = sequence.next().read_sequence(|algorithm| {
                let oid = algorithm.next().read_oid()?;
                algorithm.read_optional(|parameters| parameters.read_der())?;
                Ok(oid)
            })?;
            let inner = Zeroizing::new(sequence.next().read_bytes()?);
            for tag in [0, 1] {
                sequence
                    .read_optional(|extra| extra.read_tagged_implicit(Tag::context(tag), |value| value.read_der()))?;
            }
            Ok((oid.components().clone(), inner))
        })
    })
    .map_err(|error| format!("damaged PKCS#8 structure: {error}"))
}

/// `SubjectPublicKeyInfo` of an `RSAPrivateKey` (RFC 8017 A.1.2: version, modulus, public exponent, …).
fn rsa_public_key(der: &[u8]) -> Result<Vec<u8>, String> {
    let (modulus, exponent) = yasna::parse_der(der, |reader| {
        reader.read_sequence(|sequence| {
            sequence.next().read_u8()?;
            let modulus = sequence.next().read_bigint_bytes()?;
            let exponent = sequence.next().read_bigint_bytes()?;
            for _ in 0..6 {
                drop(Zeroizing::new(sequence.next().read_bigint_bytes()?.0));
            }
            Ok((modulus.0, exponent.0))
        })
    })
    .map_err(|error| format!("damaged RSA key: {error}"))?;
    let key = yasna::construct_der(|writer| {
        writer.write_sequence(|sequence| {
            sequence.next().write_bigint_bytes(&modulus, true);
            sequence.next().write_bigint_bytes(&exponent, true);
        });
    });
    Ok(wrap_rsa_public_key(&key))
}

/// `SubjectPublicKeyInfo` around an `RSAPublicKey` (RFC 8017 A.1.1), the content of an `RSA PUBLIC KEY` block.
///
/// # Errors
/// When the bytes are no such key, in words.
pub fn rsa_public_key_info(der: &[u8]) -> Result<Vec<u8>, String> {
    let info = wrap_rsa_public_key(der);
    match super::certificate::key_kind(&info)? {
        KeyKind::Rsa(_) => Ok(info),
        _ => Err("no RSA public key".to_owned()),
    }
}

fn wrap_rsa_public_key(key: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|sequence| {
            sequence.next().write_sequence(|algorithm| {
                algorithm.next().write_oid(&ObjectIdentifier::from_slice(RSA_ENCRYPTION));
                algorithm.next().write_null();
            });
            sequence.next().write_bitvec_bytes(key, key.len() * 8);
        });
    })
}

/// `SubjectPublicKeyInfo` of an `ECPrivateKey` that says its curve and its public key (RFC 5915 section 3). `None` when the
/// point is compressed: certificates have it in full, and only loading the key unfolds it.
fn ec_public_key(der: &[u8]) -> Result<Option<Vec<u8>>, yasna::ASN1Error> {
    let (curve, (bits, length)) = yasna::parse_der(der, |reader| {
        reader.read_sequence(|sequence| {
            sequence.next().read_u8()?;
            drop(Zeroizing::new(sequence.next().read_bytes()?));
            // Copied as it stands: not every identifier that can be read can be written.
            let (_, curve) = sequence
                .next()
                .read_tagged(Tag::context(0), |curve| curve.read_with_buffer(|curve| curve.read_oid()))?;
            let key = sequence.next().read_tagged(Tag::context(1), |key| key.read_bitvec_bytes())?;
            Ok((curve, key))
        })
    })?;
    if bits.first() != Some(&4) {
        return Ok(None);
    }
    Ok(Some(yasna::construct_der(|writer| {
        writer.write_sequence(|sequence| {
            sequence.next().write_sequence(|algorithm| {
                algorithm.next().write_oid(&ObjectIdentifier::from_slice(EC_PUBLIC_KEY));
                algorithm.next().write_der(curve);
            });
            sequence.next().write_bitvec_bytes(&bits, length);
        });
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_of_a_key_may_have_any_identifier() {
        // 2.18446744073709551535, the largest whose first two numbers fit in 64 bits.
        let curve = [6, 10, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let key = yasna::construct_der(|writer| {
            writer.write_sequence(|sequence| {
                sequence.next().write_u8(1);
                sequence.next().write_bytes(&[1; 32]);
                sequence.next().write_tagged(Tag::context(0), |inner| inner.write_der(&curve));
                sequence.next().write_tagged(Tag::context(1), |inner| inner.write_bitvec_bytes(&[4; 65], 520));
            });
        });
        let half = public_half(pem_file::encode("EC PRIVATE KEY", &key).as_bytes()).expect("it says its public key");
        assert!(half.windows(curve.len()).any(|window| window == curve));
    }

    #[test]
    fn new_keys_are_written_in_kubeadms_form_and_read_back() {
        for (algorithm, tag) in [
            (KeyAlgorithm::Rsa2048, "RSA PRIVATE KEY"),
            (KeyAlgorithm::EcdsaP256, "EC PRIVATE KEY"),
            (KeyAlgorithm::EcdsaP384, "EC PRIVATE KEY"),
        ] {
            let key = PrivateKey::generate(algorithm).expect("random source");
            assert_eq!(key.kind(), &KeyKind::from(algorithm));
            let pem = key.to_pem();
            assert!(pem.starts_with(&format!("-----BEGIN {tag}-----\n")) && pem.ends_with("-----\n"));
            assert_eq!(PrivateKey::from_pem(pem.as_bytes()).expect("own output").public_key(), key.public_key());
            assert_eq!(public_half(pem.as_bytes()).as_deref(), Ok(key.public_key()));
            assert_eq!(format!("{key:?}"), format!("PrivateKey({algorithm})"));
        }
    }

    #[test]
    fn encrypted_missing_and_damaged_keys_are_told_apart() {
        assert_eq!(PrivateKey::from_pem(b"nothing").expect_err("no key"), KeyError::NoKey);
        let encrypted = pem_file::encode("ENCRYPTED PRIVATE KEY", b"x");
        assert_eq!(public_half(encrypted.as_bytes()), Err(KeyError::Encrypted));
        let damaged = pem_file::encode("RSA PRIVATE KEY", &[0x30, 3, 2, 1, 0]);
        assert!(matches!(public_half(damaged.as_bytes()), Err(KeyError::Invalid(_))));
    }
}

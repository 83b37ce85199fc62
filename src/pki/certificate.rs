//! A certificate, parsed once into an owned value that keeps its original bytes.
//!
//! Reading is tolerant: an extension that cannot be read is remembered as such and does not hide the rest. Judging is
//! the business of `diagnose`.

use std::fmt;

use aws_lc_rs::digest;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::Oid as ParsedOid;
use x509_parser::der_parser::asn1_rs::{self, Any, FromDer as _};
use x509_parser::extensions::{AuthorityKeyIdentifier, ParsedExtension};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::algorithm::KeyKind;
use super::der::{Extension, OID_AKI};
use super::name::Name;
use super::san::San;
use super::usage::{ExtendedKeyUsage, KeyUsage};
use super::{hex, pem_file};

/// An X.509 version 3 certificate (RFC 5280).
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    subject: Name,
    issuer: Name,
    serial: SerialNumber,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    key_kind: KeyKind,
    public_key: Vec<u8>,
    signature_algorithm: String,
    extensions: Vec<Extension>,
    sans: Vec<San>,
    key_usage: Option<KeyUsage>,
    extended_key_usage: Option<Vec<ExtendedKeyUsage>>,
    is_ca: Option<bool>,
    path_length: Option<u32>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    unreadable_extensions: Vec<String>,
}

impl Certificate {
    /// Reads one DER certificate.
    ///
    /// # Errors
    /// When the bytes are no certificate, or have something after it; in words.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let (rest, parsed) =
            X509Certificate::from_der(der).map_err(|error| format!("no X.509 certificate: {error}"))?;
        if !rest.is_empty() {
            return Err(format!("{} bytes after the certificate", rest.len()));
        }
        if !algorithms_agree(der) {
            return Err("it names two different signature algorithms".to_owned());
        }
        let validity = parsed.validity();
        let mut certificate = Self {
            der: der.to_vec(),
            subject: Name::from_x509(parsed.subject()).map_err(|fault| format!("its subject: {fault}"))?,
            issuer: Name::from_x509(parsed.issuer()).map_err(|fault| format!("its issuer: {fault}"))?,
            serial: SerialNumber::from_der_integer(parsed.raw_serial()),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            key_kind: kind_of(parsed.public_key()),
            public_key: parsed.public_key().raw.to_vec(),
            signature_algorithm: parsed.signature_algorithm.algorithm.to_id_string(),
            extensions: Vec::new(),
            sans: Vec::new(),
            key_usage: None,
            extended_key_usage: None,
            is_ca: None,
            path_length: None,
            subject_key_id: None,
            authority_key_id: None,
            unreadable_extensions: Vec::new(),
        };
        for extension in parsed.iter_extensions() {
            let oid = extension.oid.as_bytes().to_vec();
            certificate.extensions.push(Extension {
                oid,
                critical: extension.critical,
                value: extension.value.to_vec(),
            });
            certificate.take(extension.parsed_extension(), &extension.oid);
        }
        Ok(certificate)
    }

    fn take(&mut self, extension: &ParsedExtension<'_>, oid: &ParsedOid<'_>) {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                self.sans = names.general_names.iter().map(San::from_general_name).collect();
            }
            ParsedExtension::KeyUsage(usage) => self.key_usage = Some(KeyUsage(usage.flags)),
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.extended_key_usage = Some(ExtendedKeyUsage::from_parsed(usage));
            }
            ParsedExtension::BasicConstraints(constraints) => {
                self.is_ca = Some(constraints.ca);
                self.path_length = constraints.path_len_constraint;
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::ParseError { .. } => self.unreadable_extensions.push(oid.to_id_string()),
            _ => {}
        }
    }

    /// The certificate's own bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate as one PEM block.
    pub fn to_pem(&self) -> String {
        pem_file::encode("CERTIFICATE", &self.der).to_string()
    }

    /// Whom it is about.
    pub fn subject(&self) -> &Name {
        &self.subject
    }

    /// Who says so.
    pub fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// Its number, unique per issuer.
    pub fn serial(&self) -> &SerialNumber {
        &self.serial
    }

    /// First second of its validity, UTC.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Last second of its validity, UTC.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// What kind of key it certifies.
    pub fn key_kind(&self) -> &KeyKind {
        &self.key_kind
    }

    /// The certified key, `SubjectPublicKeyInfo` DER.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Dotted object identifier of the issuer's signature.
    pub fn signature_algorithm(&self) -> &str {
        &self.signature_algorithm
    }

    /// Every extension in file order, values raw.
    pub fn extensions(&self) -> &[Extension] {
        &self.extensions
    }

    /// The extension with that object identifier.
    pub fn extension(&self, oid: &[u8]) -> Option<&Extension> {
        self.extensions.iter().find(|extension| extension.oid == oid)
    }

    /// Its alternative names.
    pub fn sans(&self) -> &[San] {
        &self.sans
    }

    /// Key usage, if it has that extension.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.key_usage
    }

    /// Extended key usage, if it has that extension.
    pub fn extended_key_usage(&self) -> Option<&[ExtendedKeyUsage]> {
        self.extended_key_usage.as_deref()
    }

    /// Whether a peer may use it as `usage`: without the extension, for anything.
    pub fn allows(&self, usage: &ExtendedKeyUsage) -> bool {
        let any = ExtendedKeyUsage::Other("2.5.29.37.0".to_owned());
        self.extended_key_usage.as_ref().is_none_or(|usages| usages.contains(usage) || usages.contains(&any))
    }

    /// Whether it is a CA certificate (basic constraints `CA:TRUE`).
    pub fn is_ca(&self) -> bool {
        self.is_ca == Some(true)
    }

    /// Path length constraint, if any.
    pub fn path_length(&self) -> Option<u32> {
        self.path_length
    }

    /// Whether subject and issuer are the same bytes.
    pub fn is_self_issued(&self) -> bool {
        self.subject.der() == self.issuer.der()
    }

    /// Subject key identifier, raw.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.subject_key_id.as_deref()
    }

    /// Key identifier of the issuer, raw.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.authority_key_id.as_deref()
    }

    /// Whether it names its issuer's certificate by serial number as well (RFC 5280 section 4.2.1.1): then the issuer's
    /// certificate cannot be renewed without it, even with the same key.
    pub fn names_its_issuers_serial(&self) -> bool {
        self.extension(OID_AKI).is_some_and(|extension| {
            matches!(AuthorityKeyIdentifier::from_der(&extension.value), Ok((_, id)) if id.authority_cert_serial.is_some())
        })
    }

    /// Object identifiers of extensions whose value is damaged.
    pub fn unreadable_extensions(&self) -> &[String] {
        &self.unreadable_extensions
    }

    /// SHA-256 of the DER, 32 bytes.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, &self.der).as_ref());
        bytes
    }

    /// The fingerprint as lower-case hex.
    pub fn fingerprint_hex(&self) -> String {
        hex(&self.fingerprint())
    }

    /// Whether `public_key` (`SubjectPublicKeyInfo` DER) is the key it certifies. Keys are compared by value: algorithm
    /// identifiers of the same key may be written with or without parameters.
    pub fn certifies(&self, public_key: &[u8]) -> bool {
        self.public_key == public_key
            || match (SubjectPublicKeyInfo::from_der(&self.public_key), SubjectPublicKeyInfo::from_der(public_key)) {
                (Ok((_, own)), Ok((_, other))) => {
                    own.algorithm.algorithm == other.algorithm.algorithm
                        && own.subject_public_key.data == other.subject_public_key.data
                }
                _ => false,
            }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, serial {}, until {})", self.subject.text(), self.serial, self.not_after)
    }
}

/// A certificate's serial number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber {
    magnitude: Vec<u8>,
    negative: bool,
}

impl SerialNumber {
    /// From the content of a DER INTEGER (two's complement, big endian).
    pub(super) fn from_der_integer(bytes: &[u8]) -> Self {
        let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
        let mut magnitude = bytes.to_vec();
        if negative {
            let mut carry = true;
            for byte in magnitude.iter_mut().rev() {
                let (sum, overflow) = (!*byte).overflowing_add(u8::from(carry));
                *byte = sum;
                carry = overflow;
            }
        }
        Self::from_parts(&magnitude, negative)
    }

    /// From unsigned big-endian bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::from_parts(bytes, false)
    }

    fn from_parts(bytes: &[u8], negative: bool) -> Self {
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        Self { magnitude: bytes[first..].to_vec(), negative }
    }

    /// The number without its sign, big endian, no leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        &self.magnitude
    }
}

impl fmt::Display for SerialNumber {
    /// Lower-case hex, two digits a byte, no separators; `00` for zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negative {
            f.write_str("-")?;
        }
        f.write_str(&if self.magnitude.is_empty() { "00".to_owned() } else { hex(&self.magnitude) })
    }
}

/// Whether the signature algorithm is the same inside and outside of the signed part (RFC 5280 section 4.1.1.2). Compared as
/// bytes: the parser takes any tag for an object identifier, and the outer one is not covered by the signature.
fn algorithms_agree(der: &[u8]) -> bool {
    let agree = || -> Result<bool, asn1_rs::Err<asn1_rs::Error>> {
        let (_, certificate) = Any::from_der(der)?;
        let (rest, signed) = Any::from_der(certificate.data)?;
        let outer = element(rest)?;
        let (mut rest, mut first) = Any::from_der(signed.data)?;
        if first.class() == asn1_rs::Class::ContextSpecific {
            (rest, first) = Any::from_der(rest)?;
        }
        drop(first);
        Ok(element(rest)? == outer)
    };
    agree().unwrap_or(false)
}

/// The bytes of the first element, header included.
fn element(der: &[u8]) -> Result<&[u8], asn1_rs::Err<asn1_rs::Error>> {
    let (rest, _) = Any::from_der(der)?;
    Ok(&der[..der.len() - rest.len()])
}

/// The kind of a `SubjectPublicKeyInfo`.
pub(crate) fn key_kind(public_key: &[u8]) -> Result<KeyKind, String> {
    SubjectPublicKeyInfo::from_der(public_key)
        .map(|(_, info)| kind_of(&info))
        .map_err(|error| format!("no public key: {error}"))
}

fn kind_of(info: &SubjectPublicKeyInfo<'_>) -> KeyKind {
    let curve = || {
        info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok()).map(|oid| oid.to_id_string())
    };
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => {
            let first = key.modulus.iter().position(|byte| *byte != 0).unwrap_or(key.modulus.len());
            let bits = key.modulus[first..].first().map_or(0, |byte| 8 - byte.leading_zeros() as usize);
            KeyKind::Rsa((key.modulus.len() - first).saturating_sub(1) * 8 + bits)
        }
        Ok(PublicKey::EC(_)) => match curve().as_deref() {
            Some("1.2.840.10045.3.1.7") => KeyKind::EcdsaP256,
            Some("1.3.132.0.34") => KeyKind::EcdsaP384,
            Some("1.3.132.0.35") => KeyKind::EcdsaP521,
            Some(other) => KeyKind::Other(other.to_owned()),
            None => KeyKind::Other(info.algorithm.algorithm.to_id_string()),
        },
        _ => match info.algorithm.algorithm.to_id_string().as_str() {
            "1.3.101.112" => KeyKind::Ed25519,
            other => KeyKind::Other(other.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::algorithm::KeyAlgorithm;
    use crate::pki::issue::{Issuer, Template};
    use crate::pki::private_key::PrivateKey;
    use time::macros::datetime;

    #[test]
    fn serial_numbers_are_shown_as_openssl_shows_them_in_lower_case() {
        for (der, shown) in [
            (&[0x00, 0xff][..], "ff"),
            (&[0x0a, 0x1b], "0a1b"),
            (&[0x00], "00"),
            (&[0xff], "-01"),
            (&[0x80], "-80"),
            (&[0xff, 0x00], "-0100"),
            (&[], "00"),
        ] {
            assert_eq!(SerialNumber::from_der_integer(der).to_string(), shown);
        }
    }

    #[test]
    fn a_name_that_would_be_cut_short_is_an_error() {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("random source");
        let (own, ca) = (Name::new("jane", &["dev".into(), "ops".into()]), Name::new("authority", &["ops".into()]));
        let validity = (datetime!(2026-01-01 0:00 UTC), datetime!(2027-01-01 0:00 UTC));
        let root = Template::authority(ca.clone(), &[], key.public_key(), validity).self_sign(&key).expect("signs");
        let template = Template::leaf(own.clone(), &[ExtendedKeyUsage::ClientAuth], &[], key.public_key(), validity);
        let whole = template.sign(Issuer { certificate: &root, key: &key }).expect("signs");
        for (name, at, which) in [(&own, 4, "subject"), (&own, 16, "subject"), (&ca, 18, "issuer")] {
            let mut der = whole.der().to_vec();
            let begin = der.windows(name.der().len()).position(|window| window == name.der()).expect("it is in there");
            assert_eq!(der[begin + at], 0x30, "an attribute begins there");
            der[begin + at] = 0x2f;
            let error = Certificate::from_der(&der).expect_err("damaged");
            assert!(error.contains(which), "{error}");
        }
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(Certificate::from_der(b"garbage").is_err());
        assert!(Certificate::from_der(&[]).is_err());
    }
}

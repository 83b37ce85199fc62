//! The few pieces of DER that certificates, requests and keys share.
//!
//! rcgen re-encodes names, keeps one value per attribute type and drops extensions it does not know, so what kubepki
//! issues is written here over raw bytes: an issuer's name is the CA's subject, byte for byte.

use time::OffsetDateTime;
use yasna::models::{GeneralizedTime, ObjectIdentifier, UTCTime};
use yasna::tags::TAG_OID;
use yasna::{DERWriter, Tag};

/// An object identifier as the content of its DER: it is only ever compared and copied, and its numbers may be of any
/// size (those made from UUIDs have 128 bits, ITU-T X.667).
pub type Oid = Vec<u8>;

/// One X.509 extension, its value as raw DER (RFC 5280 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// `extnID`.
    pub oid: Oid,
    /// Whether a reader that does not know it must refuse the certificate.
    pub critical: bool,
    /// Content of `extnValue`, DER.
    pub value: Vec<u8>,
}

/// Subject key identifier, RFC 5280 section 4.2.1.2.
pub const OID_SKI: &[u8] = &[0x55, 0x1d, 14];
/// Key usage, section 4.2.1.3.
pub const OID_KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
/// Subject alternative name, section 4.2.1.6.
pub const OID_SAN: &[u8] = &[0x55, 0x1d, 17];
/// Basic constraints, section 4.2.1.9.
pub const OID_BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
/// Authority key identifier, section 4.2.1.1.
pub const OID_AKI: &[u8] = &[0x55, 0x1d, 35];
/// Extended key usage, section 4.2.1.12.
pub const OID_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
/// PKCS#9 extension request of a CSR, RFC 2985 section 5.4.2.
pub const OID_EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];

impl Extension {
    /// An extension from its object identifier, criticality and DER value.
    pub fn new(oid: &[u8], critical: bool, value: Vec<u8>) -> Self {
        Self { oid: oid.to_vec(), critical, value }
    }

    /// Writes the `Extension` SEQUENCE; `critical` only when true, as DER wants defaults left out.
    pub(crate) fn write(&self, writer: DERWriter<'_>) {
        writer.write_sequence(|sequence| {
            write_oid(sequence.next(), &self.oid);
            if self.critical {
                sequence.next().write_bool(true);
            }
            sequence.next().write_bytes(&self.value);
        });
    }
}

/// Writes an object identifier from its content.
pub(crate) fn write_oid(writer: DERWriter<'_>, oid: &[u8]) {
    writer.write_tagged_implicit(TAG_OID, |inner| inner.write_bytes(oid));
}

/// Writes a `Time`: UTCTime before 2050, GeneralizedTime from then on (RFC 5280 section 4.1.2.5).
pub(crate) fn write_time(writer: DERWriter<'_>, time: OffsetDateTime) {
    let whole = time.replace_nanosecond(0).unwrap_or(time).to_offset(time::UtcOffset::UTC);
    if (1950..2050).contains(&whole.year()) {
        writer.write_utctime(&UTCTime::from_datetime(whole));
    } else {
        writer.write_generalized_time(&GeneralizedTime::from_datetime(whole));
    }
}

/// Writes an `AlgorithmIdentifier` without parameters, or with NULL for RSA (RFC 4055 section 5).
pub(crate) fn write_algorithm(writer: DERWriter<'_>, oid: &[u64], null_parameters: bool) {
    writer.write_sequence(|sequence| {
        sequence.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if null_parameters {
            sequence.next().write_null();
        }
    });
}

/// The `SET OF`-free wrapper of already encoded items: SEQUENCE OF raw DER values.
pub(crate) fn sequence_of(items: &[Vec<u8>]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|sequence| {
            for item in items {
                sequence.next().write_der(item);
            }
        });
    })
}

/// An implicitly tagged OCTET STRING content, as general names and key identifiers have it.
pub(crate) fn implicit_bytes(tag: u64, bytes: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_tagged_implicit(Tag::context(tag), |inner| inner.write_bytes(bytes));
    })
}

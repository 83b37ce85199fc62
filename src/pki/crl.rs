//! Certificate revocation lists (RFC 5280 section 5): written as DER, read again to see what the last one said.
//!
//! Written over raw bytes as certificates are (see `der.rs`): the issuer is the CA's subject byte for byte. The list has a
//! number, and a reason for each entry; etcd looks at the serial numbers alone.

use time::OffsetDateTime;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use yasna::Tag;
use yasna::tags::TAG_ENUM;

use super::certificate::{Certificate, SerialNumber};
use super::der::{self, Extension};
use super::pem_file::{self, PemFile};
use super::private_key::{KeyError, PrivateKey};

/// CRL number, RFC 5280 section 5.2.3.
const OID_NUMBER: &[u8] = &[0x55, 0x1d, 20];
/// Reason code, section 5.3.1.
const OID_REASON: &[u8] = &[0x55, 0x1d, 21];

/// The label in PEM (RFC 7468 section 7).
pub const LABEL: &str = "X509 CRL";

/// What a list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    /// Greater than that of every earlier list of the same CA.
    pub number: u64,
    /// When it was made, UTC.
    pub this_update: OffsetDateTime,
    /// By when there will be another one.
    pub next_update: OffsetDateTime,
    /// What is revoked, each number once.
    pub entries: Vec<Revoked>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Which certificate of the CA.
    pub serial: SerialNumber,
    /// Since when.
    pub since: OffsetDateTime,
    /// Why.
    pub reason: Reason,
}

/// Why a certificate is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its holder has, or can get, another one.
    Superseded = 4,
    /// Its holder is not to have access any more.
    PrivilegeWithdrawn = 9,
}

/// What matters of a list that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number; 0 when it has none, or one that is too large to count on from.
    pub number: u64,
    /// By when there is to be another one; `None` when it does not say.
    pub next_update: Option<OffsetDateTime>,
    /// The serial numbers in it, in its order.
    pub serials: Vec<SerialNumber>,
    der: Vec<u8>,
}

impl RevocationList {
    /// Signs the list with the CA's key. Whether the CA's certificate allows that (`cRLSign`) is not asked: etcd does not
    /// either, see [`may_sign`].
    ///
    /// # Errors
    /// When the key is not the CA's or cannot sign.
    pub fn sign(&self, authority: &Certificate, key: &PrivateKey) -> Result<Vec<u8>, KeyError> {
        if !authority.certifies(key.public_key()) {
            return Err(KeyError::Crypto("a revocation list is signed with the key of its CA".to_owned()));
        }
        let (algorithm, null) = key.signature_algorithm()?;
        let list = yasna::construct_der(|writer| {
            writer.write_sequence(|list| {
                list.next().write_u8(1);
                der::write_algorithm(list.next(), algorithm, null);
                list.next().write_der(authority.subject().der());
                der::write_time(list.next(), self.this_update);
                der::write_time(list.next(), self.next_update);
                if !self.entries.is_empty() {
                    list.next().write_sequence(|entries| {
                        for entry in &self.entries {
                            entries.next().write_sequence(|fields| entry.write(fields));
                        }
                    });
                }
                list.next().write_tagged(Tag::context(0), |tagged| {
                    tagged.write_sequence(|extensions| {
                        if let Some(id) = authority.subject_key_id() {
                            let value = yasna::construct_der(|writer| {
                                writer.write_sequence(|fields| fields.next().write_der(&der::implicit_bytes(0, id)));
                            });
                            Extension::new(der::OID_AKI, false, value).write(extensions.next());
                        }
                        let number = yasna::construct_der(|writer| writer.write_u64(self.number));
                        Extension::new(OID_NUMBER, false, number).write(extensions.next());
                    });
                });
            });
        });
        let signature = key.sign(&list)?;
        Ok(yasna::construct_der(|writer| {
            writer.write_sequence(|whole| {
                whole.next().write_der(&list);
                der::write_algorithm(whole.next(), algorithm, null);
                whole.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        }))
    }
}

impl Revoked {
    fn write(&self, fields: &mut yasna::DERWriterSeq<'_>) {
        let is_positive = !self.serial.to_string().starts_with('-');
        fields.next().write_bigint_bytes(self.serial.as_bytes(), is_positive);
        der::write_time(fields.next(), self.since);
        fields.next().write_sequence(|extensions| {
            let reason = yasna::construct_der(|writer| {
                writer.write_tagged_implicit(TAG_ENUM, |inner| inner.write_bytes(&[self.reason as u8]));
            });
            Extension::new(OID_REASON, false, reason).write(extensions.next());
        });
    }
}

/// Reads a list, DER or PEM.
///
/// # Errors
/// When it is none, in words.
pub fn read(bytes: &[u8]) -> Result<Found, String> {
    let file = PemFile::parse(bytes);
    let der = file.blocks.iter().find(|block| block.tag == LABEL).map_or(bytes, |block| &block.der);
    let (rest, list) =
        CertificateRevocationList::from_der(der).map_err(|error| format!("no revocation list: {error}"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes after the revocation list", rest.len()));
    }
    let number = list.crl_number().and_then(|number| u64::try_from(number.clone()).ok()).unwrap_or_default();
    let serials = list.iter_revoked_certificates().map(|entry| SerialNumber::from_der_integer(entry.raw_serial()));
    Ok(Found {
        number,
        next_update: list.next_update().map(|at| at.to_datetime()),
        serials: serials.collect(),
        der: der.to_vec(),
    })
}

impl Found {
    /// Whether the CA has signed it.
    pub fn is_of(&self, authority: &Certificate) -> bool {
        let Ok((_, list)) = CertificateRevocationList::from_der(&self.der) else { return false };
        let Ok((_, key)) = x509_parser::x509::SubjectPublicKeyInfo::from_der(authority.public_key()) else {
            return false;
        };
        list.issuer().as_raw() == authority.subject().der() && list.verify_signature(&key).is_ok()
    }
}

/// Whether the bytes are nothing but revocation lists, DER or PEM.
pub fn is_list(bytes: &[u8]) -> bool {
    let file = PemFile::parse(bytes);
    if file.blocks.is_empty() {
        return matches!(CertificateRevocationList::from_der(bytes), Ok(([], _)));
    }
    file.damaged == 0 && file.blocks.iter().all(|block| block.tag == LABEL)
}

/// The list as PEM.
pub fn to_pem(der: &[u8]) -> String {
    pem_file::encode(LABEL, der).to_string()
}

/// Whether others than etcd believe in lists of this CA: its key usage allows them, or it has none.
pub fn may_sign(authority: &Certificate) -> bool {
    authority.key_usage().is_none_or(|usage| usage.contains(super::usage::KeyUsage::CRL_SIGN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::algorithm::KeyAlgorithm;
    use crate::pki::issue::Template;
    use crate::pki::name::Name;
    use time::macros::datetime;

    #[test]
    fn what_is_written_is_read_and_belongs_to_its_authority() {
        for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Rsa2048] {
            let key = PrivateKey::generate(algorithm).expect("random source");
            let validity = (datetime!(2026-01-01 0:00 UTC), datetime!(2056-01-01 0:00 UTC));
            let root = |key: &PrivateKey| {
                Template::authority(Name::new("etcd-ca", &[]), &[], key.public_key(), validity)
                    .self_sign(key)
                    .expect("signs")
            };
            let authority = root(&key);
            let revoked = |serial: &[u8], reason| Revoked {
                serial: SerialNumber::from_bytes(serial),
                since: datetime!(2026-01-02 3:04:05 UTC),
                reason,
            };
            let entries = vec![revoked(&[0xff; 16], Reason::Superseded), revoked(&[1], Reason::PrivilegeWithdrawn)];
            for entries in [Vec::new(), entries] {
                let serials: Vec<SerialNumber> = entries.iter().map(|entry| entry.serial.clone()).collect();
                let list = RevocationList {
                    number: 7,
                    this_update: datetime!(2026-01-02 3:04:05 UTC),
                    next_update: datetime!(2055-01-02 3:04:05 UTC),
                    entries,
                };
                let der = list.sign(&authority, &key).expect("signs");
                let found = read(&der).expect("a list");
                assert_eq!((found.number, found.next_update, &found.serials), (7, Some(list.next_update), &serials));
                assert!(found.is_of(&authority));
                let other = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("random source");
                assert!(!found.is_of(&root(&other)));
                assert!(list.sign(&authority, &other).is_err());
                assert_eq!(read(to_pem(&der).as_bytes()).as_ref(), Ok(&found));
                assert!(is_list(&der) && is_list(to_pem(&der).as_bytes()));
                assert!(!is_list(authority.der()) && !is_list(authority.to_pem().as_bytes()) && !is_list(b""));
            }
        }
    }
}

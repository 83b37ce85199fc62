//! Key usage bits and extended key usages, by their standard names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use yasna::models::ObjectIdentifier;

/// Key usage bits in the order of RFC 5280 section 4.2.1.3; bit 0 is `digitalSignature`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage(pub u16);

impl KeyUsage {
    /// `digitalSignature`.
    pub const DIGITAL_SIGNATURE: Self = Self(1);
    /// `keyEncipherment`.
    pub const KEY_ENCIPHERMENT: Self = Self(1 << 2);
    /// `keyCertSign`.
    pub const KEY_CERT_SIGN: Self = Self(1 << 5);
    /// `cRLSign`.
    pub const CRL_SIGN: Self = Self(1 << 6);
    /// What kubeadm puts on leaves.
    pub const LEAF: Self = Self(1 | 1 << 2);
    /// What kubeadm puts on CAs, and `cRLSign`: without it nobody but etcd accepts a revocation list of the CA.
    pub const AUTHORITY: Self = Self(1 | 1 << 2 | 1 << 5 | 1 << 6);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The BIT STRING value of the extension, DER: most significant bit first, trailing zeros cut.
    pub(crate) fn der(self) -> Vec<u8> {
        let length = 16 - self.0.leading_zeros() as usize;
        let mut bytes = [0_u8; 2];
        for bit in (0..length).filter(|bit| self.0 & 1 << bit != 0) {
            bytes[bit / 8] |= 0x80 >> (bit % 8);
        }
        yasna::construct_der(|writer| writer.write_bitvec_bytes(&bytes[..length.div_ceil(8)], length))
    }
}

/// What a certificate may be used for (RFC 5280 section 4.2.1.12).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExtendedKeyUsage {
    /// `serverAuth`: presented by TLS servers.
    ServerAuth,
    /// `clientAuth`: presented by TLS clients.
    ClientAuth,
    /// Anything else, by its dotted object identifier.
    Other(String),
}

const SERVER_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];

impl ExtendedKeyUsage {
    pub(crate) fn from_parsed(usage: &x509_parser::extensions::ExtendedKeyUsage<'_>) -> Vec<Self> {
        let mut all = Vec::new();
        if usage.server_auth {
            all.push(Self::ServerAuth);
        }
        if usage.client_auth {
            all.push(Self::ClientAuth);
        }
        let named = [
            (usage.any, "2.5.29.37.0"),
            (usage.code_signing, "1.3.6.1.5.5.7.3.3"),
            (usage.email_protection, "1.3.6.1.5.5.7.3.4"),
            (usage.time_stamping, "1.3.6.1.5.5.7.3.8"),
            (usage.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
        ];
        all.extend(named.into_iter().filter(|(set, _)| *set).map(|(_, oid)| Self::Other(oid.to_owned())));
        all.extend(usage.other.iter().map(|oid| Self::Other(oid.to_id_string())));
        all
    }

    fn numbers(&self) -> Vec<u64> {
        match self {
            Self::ServerAuth => SERVER_AUTH.to_vec(),
            Self::ClientAuth => CLIENT_AUTH.to_vec(),
            Self::Other(dotted) => dotted.split('.').filter_map(|number| number.parse().ok()).collect(),
        }
    }

    /// The extension's value, DER: SEQUENCE OF object identifiers.
    pub(crate) fn sequence(usages: &[Self]) -> Vec<u8> {
        yasna::construct_der(|writer| {
            writer.write_sequence(|sequence| {
                for usage in usages {
                    sequence.next().write_oid(&ObjectIdentifier::from_slice(&usage.numbers()));
                }
            });
        })
    }
}

impl fmt::Display for ExtendedKeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerAuth => "serverAuth",
            Self::ClientAuth => "clientAuth",
            Self::Other(dotted) => dotted,
        })
    }
}

impl FromStr for ExtendedKeyUsage {
    type Err = String;

    /// Reads RFC names in any case, Kubernetes' spelling (`server auth`) and dotted object identifiers.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain: String =
            text.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).collect::<String>().to_ascii_lowercase();
        match plain.as_str() {
            "serverauth" => Ok(Self::ServerAuth),
            "clientauth" => Ok(Self::ClientAuth),
            dotted => {
                let numbers: Option<Vec<u64>> = dotted.split('.').map(|number| number.parse().ok()).collect();
                match numbers.as_deref() {
                    // The first two numbers are encoded as one (X.690 section 8.19.4), which has to fit in 64 bits.
                    Some([0 | 1, 0..=39, ..] | [2, 0..0xffff_ffff_ffff_ffaf, ..]) => Ok(Self::Other(dotted.to_owned())),
                    _ => Err(format!("unknown usage `{text}`; one of serverAuth, clientAuth or an object identifier")),
                }
            }
        }
    }
}

impl Serialize for ExtendedKeyUsage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ExtendedKeyUsage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_strings_are_cut_after_the_last_set_bit() {
        assert_eq!(KeyUsage::LEAF.der(), [0x03, 0x02, 0x05, 0xa0]);
        assert_eq!(KeyUsage::AUTHORITY.der(), [0x03, 0x02, 0x01, 0xa6]);
        assert_eq!(KeyUsage(1 << 8).der(), [0x03, 0x03, 0x07, 0x00, 0x80]);
    }

    #[test]
    fn usages_are_read_in_kubernetes_spelling_too() {
        assert_eq!("server auth".parse(), Ok(ExtendedKeyUsage::ServerAuth));
        assert_eq!("1.3.6.1.5.5.7.3.4".parse(), Ok(ExtendedKeyUsage::Other("1.3.6.1.5.5.7.3.4".into())));
        for wrong in ["9.9", "2", "2.18446744073709551615.1"] {
            assert!(wrong.parse::<ExtendedKeyUsage>().is_err(), "{wrong}");
        }
    }
}

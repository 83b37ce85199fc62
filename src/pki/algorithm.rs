//! Key algorithms: the five that kubepki makes, and every kind it recognises in what others made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An algorithm for new keys. kubeadm's `encryptionAlgorithm` has the same five.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAlgorithm {
    /// RSA with a 2048-bit modulus, kubeadm's default.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA with a 3072-bit modulus.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA with a 4096-bit modulus.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
    /// ECDSA on NIST P-256.
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
}

impl KeyAlgorithm {
    /// Every algorithm, in the order shown to users.
    pub const ALL: [Self; 5] = [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::EcdsaP256, Self::EcdsaP384];

    /// The name in options, specs and reports, as `ecdsa-p384`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyAlgorithm {
    type Err = String;

    /// Reads kubepki's names and kubeadm's (`RSA-2048`, `ECDSA-P256`), in any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = text.to_ascii_lowercase();
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == wanted).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("unknown key algorithm `{text}`; one of {known}")
        })
    }
}

/// What kind of public key a certificate or key file holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA with a modulus of that many bits.
    Rsa(usize),
    /// ECDSA on NIST P-256.
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
    /// ECDSA on NIST P-521.
    EcdsaP521,
    /// Ed25519; Kubernetes' own loaders refuse it for CAs and service accounts.
    Ed25519,
    /// Anything else, by its object identifier.
    Other(String),
}

impl KeyKind {
    /// The algorithm with which a new key of the same kind is made, if kubepki makes such keys.
    pub fn algorithm(&self) -> Option<KeyAlgorithm> {
        match self {
            Self::Rsa(2048) => Some(KeyAlgorithm::Rsa2048),
            Self::Rsa(3072) => Some(KeyAlgorithm::Rsa3072),
            Self::Rsa(4096) => Some(KeyAlgorithm::Rsa4096),
            Self::EcdsaP256 => Some(KeyAlgorithm::EcdsaP256),
            Self::EcdsaP384 => Some(KeyAlgorithm::EcdsaP384),
            _ => None,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "rsa-{bits}"),
            Self::EcdsaP256 => f.write_str("ecdsa-p256"),
            Self::EcdsaP384 => f.write_str("ecdsa-p384"),
            Self::EcdsaP521 => f.write_str("ecdsa-p521"),
            Self::Ed25519 => f.write_str("ed25519"),
            Self::Other(oid) => f.write_str(oid),
        }
    }
}

impl From<KeyAlgorithm> for KeyKind {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::Rsa2048 => Self::Rsa(2048),
            KeyAlgorithm::Rsa3072 => Self::Rsa(3072),
            KeyAlgorithm::Rsa4096 => Self::Rsa(4096),
            KeyAlgorithm::EcdsaP256 => Self::EcdsaP256,
            KeyAlgorithm::EcdsaP384 => Self::EcdsaP384,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_kubeadms_spelling_too() {
        assert_eq!("ECDSA-P384".parse(), Ok(KeyAlgorithm::EcdsaP384));
        assert_eq!("rsa-4096".parse(), Ok(KeyAlgorithm::Rsa4096));
        assert!("dsa".parse::<KeyAlgorithm>().is_err_and(|error| error.contains("rsa-2048")));
    }

    #[test]
    fn names_survive_a_round_trip_through_json() {
        for algorithm in KeyAlgorithm::ALL {
            let text = serde_json::to_string(&algorithm).expect("plain string");
            assert_eq!(text, format!("\"{algorithm}\""));
            assert_eq!(serde_json::from_str::<KeyAlgorithm>(&text).expect("own output"), algorithm);
        }
    }
}

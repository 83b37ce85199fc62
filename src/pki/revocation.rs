//! Revocations: which certificates shall count no more, as `RenewRevocation` objects say it.
//!
//! A revocation is a named list of entries. An entry names certificates by serial number, group, DNS name or address, and
//! with `notBefore` only those issued before that moment; without it also those still to come. The form is that of AKS
//! enabled by Azure Arc (`certificates.microsoft.com/v1`).

use std::net::IpAddr;

use time::OffsetDateTime;

use super::certificate::SerialNumber;

pub mod entry;
mod flat;
pub mod manifest;
pub mod matching;

pub use entry::DnsPattern;
pub use matching::{Hit, Traits};

/// `apiVersion` of the objects.
pub const API_VERSION: &str = "certificates.microsoft.com/v1";
/// `kind` of the objects.
pub const KIND: &str = "RenewRevocation";
/// The namespace of an object that names none.
pub const NAMESPACE: &str = "kube-system";

/// One `RenewRevocation` object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// `metadata.name`: lower-case letters, digits, `-` and `.`; unique in a ledger.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.creationTimestamp`: since when it counts, UTC.
    pub created: Option<OffsetDateTime>,
    /// `spec.description`.
    pub description: Option<String>,
    /// `spec.revocations`; never empty.
    pub entries: Vec<Entry>,
}

/// One entry of a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which certificates.
    pub kind: Kind,
    /// Only those whose validity begins before this moment; `None` is all of them, future ones too.
    pub not_before: Option<OffsetDateTime>,
    /// For people.
    pub description: Option<String>,
}

/// What an entry names certificates by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The serial number, whoever issued it.
    Serial(SerialNumber),
    /// An organization of the subject: a group in Kubernetes.
    Group(String),
    /// A DNS name, or all names that end alike, among the alternative names.
    Dns(DnsPattern),
    /// An address among the alternative names; never an IPv4 address written as IPv6.
    Ip(IpAddr),
}

impl Kind {
    /// The word in manifests.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Serial(_) => "SerialNumber",
            Self::Group(_) => "Group",
            Self::Dns(_) => "DNS",
            Self::Ip(_) => "IP",
        }
    }

    /// The value as manifests have it.
    pub fn value(&self) -> String {
        match self {
            Self::Serial(serial) => serial.to_string(),
            Self::Group(group) => group.clone(),
            Self::Dns(pattern) => pattern.to_string(),
            Self::Ip(address) => address.to_string(),
        }
    }
}

impl std::fmt::Display for Kind {
    /// As people read it: `serial number 77fd…`, `group dev`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match self {
            Self::Serial(_) => "serial number",
            Self::Group(_) => "group",
            Self::Dns(_) => "DNS name",
            Self::Ip(_) => "address",
        };
        write!(f, "{word} {}", self.value())
    }
}

impl Revocation {
    /// Whether the name may be that of an object in a cluster (Kubernetes: DNS-1123 subdomain).
    pub fn is_name(name: &str) -> bool {
        let is_label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        name.len() <= 253 && name.split('.').all(is_label)
    }

    /// The first pair of entries of which one says nothing that the other does not: the position of the superfluous one,
    /// then of the other.
    pub fn overlap(&self) -> Option<(usize, usize)> {
        for (at, entry) in self.entries.iter().enumerate() {
            for (before, other) in self.entries[..at].iter().enumerate() {
                if entry.kind == other.kind || other.covers(entry) {
                    return Some((at, before));
                }
                if entry.covers(other) {
                    return Some((before, at));
                }
            }
        }
        None
    }
}

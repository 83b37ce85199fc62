//! Subject alternative names: reading, writing, and what a peer's name or address must match.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use x509_parser::extensions::GeneralName;

use super::der;

/// One subject alternative name (RFC 5280 section 4.2.1.6).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum San {
    /// `dNSName`, an exact name or a wildcard as `*.example.com`.
    Dns(String),
    /// `iPAddress`.
    Ip(IpAddr),
    /// `uniformResourceIdentifier`.
    Uri(String),
    /// `rfc822Name`.
    Email(String),
    /// Any other general name, as text; carried over byte for byte on renewal, never written anew.
    Other(String),
}

impl San {
    /// Reads what an operator types: an address, a DNS name, or a name with its kind in front (`URI:spiffe://…`).
    ///
    /// # Errors
    /// When the text is neither, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        for (prefix, make) in
            [("DNS:", Self::dns as fn(&str) -> _), ("IP:", Self::ip), ("URI:", Self::uri), ("email:", Self::email)]
        {
            if text.len() >= prefix.len()
                && text.is_char_boundary(prefix.len())
                && text[..prefix.len()].eq_ignore_ascii_case(prefix)
            {
                return make(&text[prefix.len()..]);
            }
        }
        Self::ip(text).or_else(|_| Self::dns(text))
    }

    fn dns(name: &str) -> Result<Self, String> {
        let name = name.trim_end_matches('.');
        let labels = name.strip_prefix("*.").unwrap_or(name);
        let label_fits = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() <= 253 && labels.split('.').all(label_fits) {
            Ok(Self::Dns(name.to_owned()))
        } else {
            Err(format!("`{name}` is neither an IP address nor a DNS name"))
        }
    }

    fn ip(address: &str) -> Result<Self, String> {
        address.parse().map(Self::Ip).map_err(|_| format!("`{address}` is no IP address"))
    }

    fn uri(uri: &str) -> Result<Self, String> {
        let fits = uri.contains(':') && uri.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self::Uri(uri.to_owned())) } else { Err(format!("`{uri}` is no URI")) }
    }

    fn email(address: &str) -> Result<Self, String> {
        let fits = address.contains('@') && address.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self::Email(address.to_owned())) } else { Err(format!("`{address}` is no mail address")) }
    }

    pub(crate) fn from_general_name(name: &GeneralName<'_>) -> Self {
        match name {
            GeneralName::DNSName(name) => Self::Dns((*name).to_owned()),
            GeneralName::URI(uri) => Self::Uri((*uri).to_owned()),
            GeneralName::RFC822Name(address) => Self::Email((*address).to_owned()),
            GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
                Ok(four) => Self::Ip(IpAddr::from(four)),
                Err(_) => <[u8; 16]>::try_from(*bytes).map_or_else(
                    |_| Self::Other(format!("IP:{}", super::hex(bytes))),
                    |sixteen| Self::Ip(IpAddr::from(sixteen)),
                ),
            },
            other => Self::Other(format!("{other}")),
        }
    }

    /// Whether a client that connects to `wanted` accepts a certificate with this name (RFC 6125: a wildcard stands for
    /// exactly one leftmost label; names are compared without case).
    pub fn covers(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Dns(own), Self::Dns(wanted)) => match own.strip_prefix("*.") {
                Some(parent) => wanted.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
                None => own.eq_ignore_ascii_case(wanted),
            },
            (own, wanted) => own == wanted,
        }
    }

    fn der(&self) -> Vec<u8> {
        match self {
            Self::Email(text) => der::implicit_bytes(1, text.as_bytes()),
            Self::Dns(text) | Self::Other(text) => der::implicit_bytes(2, text.as_bytes()),
            Self::Uri(text) => der::implicit_bytes(6, text.as_bytes()),
            Self::Ip(IpAddr::V4(address)) => der::implicit_bytes(7, &address.octets()),
            Self::Ip(IpAddr::V6(address)) => der::implicit_bytes(7, &address.octets()),
        }
    }
}

/// The `GeneralNames` value of a subject alternative name extension, DER.
///
/// [`San::Other`] cannot be written: callers that carry such names over copy the whole extension.
pub fn general_names(names: &[San]) -> Vec<u8> {
    let items: Vec<Vec<u8>> = names.iter().filter(|name| !matches!(name, San::Other(_))).map(San::der).collect();
    der::sequence_of(&items)
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Ip(address) => write!(f, "IP:{address}"),
            Self::Uri(uri) => write!(f, "URI:{uri}"),
            Self::Email(address) => write!(f, "email:{address}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl FromStr for San {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for San {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for San {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_type_is_told_apart() {
        assert_eq!(San::parse("10.0.0.1"), Ok(San::Ip("10.0.0.1".parse().expect("address"))));
        assert_eq!(San::parse("fd00::1"), Ok(San::Ip("fd00::1".parse().expect("address"))));
        assert_eq!(San::parse("api.example.com."), Ok(San::Dns("api.example.com".into())));
        assert_eq!(San::parse("URI:spiffe://x/y"), Ok(San::Uri("spiffe://x/y".into())));
        assert_eq!(San::parse("ip:::1").map(|san| san.to_string()), Ok("IP:::1".into()));
        for wrong in ["", "a b", "-x", "*", "a..b", "é", "IP:host", "*.*.x"] {
            assert!(San::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label_only() {
        let wild = San::Dns("*.example.com".into());
        assert!(wild.covers(&San::Dns("API.example.com".into())));
        assert!(!wild.covers(&San::Dns("a.b.example.com".into())));
        assert!(!wild.covers(&San::Dns("example.com".into())));
    }
}

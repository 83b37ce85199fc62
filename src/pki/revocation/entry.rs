//! The values of an entry as people write them: serial numbers, names, addresses, moments.
//!
//! Reading is strict where a slip would revoke something else, and generous where the same thing is written in several
//! ways: serial numbers as `openssl`, browsers and `kubepki` show them, names with a dot at the end.

use std::fmt;
use std::net::IpAddr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Entry, Kind};
use crate::pki::certificate::SerialNumber;

/// Octets of the longest serial number (RFC 5280 section 4.1.2.2).
const LONGEST_SERIAL: usize = 20;

/// A DNS name, or an ending.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DnsPattern {
    /// This name alone; lower case, without a dot at the end. May begin with `*.`, for certificates that say the same.
    Name(String),
    /// Every name that ends with this, which begins with a dot: `.cluster.local` is `a.cluster.local` and
    /// `a.b.cluster.local`, not `cluster.local`.
    Suffix(String),
}

impl DnsPattern {
    /// Reads `kubernetes.default.svc.` or `.cluster.local`.
    ///
    /// # Errors
    /// When it is no DNS name, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no DNS name; write `api.example.com`, or `.example.com` for all names below it");
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let labels = name.strip_prefix('.').or_else(|| name.strip_prefix("*.")).unwrap_or(&name);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > 253 || !labels.split('.').all(is_label) {
            return Err(wrong());
        }
        if labels.parse::<IpAddr>().is_ok() {
            return Err(format!("`{text}` is an address: use the kind IP"));
        }
        Ok(if name.starts_with('.') { Self::Suffix(name) } else { Self::Name(name) })
    }

    /// Whether a name out of a certificate is meant.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        match self {
            Self::Name(own) => own.eq_ignore_ascii_case(name),
            Self::Suffix(ending) => {
                let start = name.len().checked_sub(ending.len()).filter(|start| *start > 0);
                start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
            }
        }
    }

    /// Whether every name that `other` means is meant by this, too.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Name(name)) => self.matches(name),
            (Self::Suffix(ending), Self::Suffix(other)) => other.ends_with(ending.as_str()),
            (Self::Name(_), Self::Suffix(_)) => false,
        }
    }
}

impl fmt::Display for DnsPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Suffix(text) => f.write_str(text),
        }
    }
}

impl Entry {
    /// Whether every certificate that `other` matches is matched by this, too.
    pub fn covers(&self, other: &Self) -> bool {
        let is_within = match (&self.kind, &other.kind) {
            (Kind::Dns(own), Kind::Dns(other)) => own.covers(other),
            (own, other) => own == other,
        };
        is_within && self.not_before.is_none_or(|own| other.not_before.is_some_and(|other| other <= own))
    }
}

/// Reads a serial number in hex: any case, digits alone or in groups parted by `:` or single spaces, with or without `0x`,
/// `serial=` (openssl) and leading zeros.
///
/// # Errors
/// When it is no such number, in words.
pub fn serial(text: &str) -> Result<SerialNumber, String> {
    let wrong = |why: &str| format!("`{text}` is no serial number in hexadecimal digits: {why}");
    let digits = text.trim();
    let digits = digits.strip_prefix("serial=").unwrap_or(digits);
    let digits = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).unwrap_or(digits);
    let mut nibbles = Vec::with_capacity(digits.len());
    let mut after_digit = false;
    for letter in digits.chars() {
        match letter.to_digit(16) {
            Some(digit) => {
                nibbles.push(u8::try_from(digit).unwrap_or_default());
                after_digit = true;
            }
            None if after_digit && matches!(letter, ':' | ' ') => after_digit = false,
            None if matches!(letter, ':' | ' ') => return Err(wrong("two separators with nothing between them")),
            None => return Err(wrong(&format!("it holds {letter:?}"))),
        }
    }
    if nibbles.is_empty() {
        return Err(wrong("it is empty"));
    }
    if !after_digit {
        return Err(wrong("it ends with a separator"));
    }
    if nibbles.len() % 2 == 1 {
        nibbles.insert(0, 0);
    }
    let bytes: Vec<u8> = nibbles.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let serial = SerialNumber::from_bytes(&bytes);
    if serial.as_bytes().len() > LONGEST_SERIAL {
        return Err(wrong(&format!("it has more than {LONGEST_SERIAL} bytes; a fingerprint is no serial number")));
    }
    if serial.as_bytes().is_empty() {
        return Err(wrong("no certificate has the number 0"));
    }
    Ok(serial)
}

/// Reads a group: an organization as certificates have it, letter by letter.
///
/// # Errors
/// When it cannot be one, in words.
pub fn group(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("the group is empty".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err(format!("the group {text:?} holds a control character"));
    }
    Ok(text.to_owned())
}

/// Reads an address; an IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is that IPv4 address.
///
/// # Errors
/// When it is none, in words.
pub fn ip(text: &str) -> Result<IpAddr, String> {
    let address = text.trim().parse::<IpAddr>();
    address.map(|address| address.to_canonical()).map_err(|_| format!("`{text}` is no IP address"))
}

/// Reads `notBefore`: RFC 3339 with a zone.
///
/// # Errors
/// When it is no such moment, in words.
pub fn not_before(text: &str) -> Result<OffsetDateTime, String> {
    let wrong = || format!("`{text}` is no moment; write it as 2026-01-31T12:00:00Z");
    let moment = OffsetDateTime::parse(&text.trim().to_ascii_uppercase(), &Rfc3339).map_err(|_| wrong())?;
    moment.checked_to_offset(time::UtcOffset::UTC).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_may_be_written_as_every_tool_shows_it() {
        let same = [
            "77fdf4b1033b387aaace6ce1c18710c2",
            "77FDF4B1033B387AAACE6CE1C18710C2",
            "77:fd:f4:b1:03:3b:38:7a:aa:ce:6c:e1:c1:87:10:c2",
            "77 FD F4 B1 03 3B 38 7A AA CE 6C E1 C1 87 10 C2",
            "0x77fdf4b1033b387aaace6ce1c18710c2",
            "serial=77FDF4B1033B387AAACE6CE1C18710C2",
            " 0077fdf4b1033b387aaace6ce1c18710c2 ",
        ];
        for text in same {
            assert_eq!(serial(text).map(|serial| serial.to_string()), Ok(same[0].to_owned()), "{text}");
        }
        assert_eq!(serial("a1b").map(|serial| serial.to_string()), Ok("0a1b".to_owned()));
    }

    #[test]
    fn what_is_no_serial_number_is_refused() {
        let long = "1".repeat(41);
        let wrong =
            ["", " ", "0x", "xyz", "12g4", "12::34", ":12", "12:", "-12", "12-34", "0", "00:00", "1.2", "١٢", &long];
        for text in wrong {
            assert!(serial(text).is_err(), "{text:?}");
        }
        assert!(serial(&"f".repeat(40)).is_ok());
    }

    #[test]
    fn a_dot_at_the_end_says_nothing_and_a_dot_in_front_means_all_names_below() {
        let parse = |text| DnsPattern::parse(text).expect("a name");
        assert_eq!(parse("kubernetes.default.svc."), parse("Kubernetes.Default.svc"));
        assert!(parse("kubernetes.default.svc.").matches("kubernetes.default.SVC"));
        let below = parse(".cluster.local");
        for (name, is_below) in [
            ("a.cluster.local", true),
            ("a.b.Cluster.Local", true),
            ("*.cluster.local", true),
            ("a.cluster.local.", true),
            ("cluster.local", false),
            (".cluster.local", false),
            ("mycluster.local", false),
            ("a.cluster.local.example.com", false),
        ] {
            assert_eq!(below.matches(name), is_below, "{name}");
        }
        assert!(parse("*.example.com").matches("*.example.com"));
        assert!(!parse("a.example.com").matches("*.example.com"));
        for wrong in ["", ".", "..", "a..b", "a b", "-a", "é", "*", "a.*.b", "10.0.0.1", ".10.0.0.1", "fd00::1", "a.."]
        {
            assert!(DnsPattern::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_both_families() {
        assert_eq!(ip("::ffff:10.0.0.1"), ip("10.0.0.1"));
        assert_eq!(ip("FD00::0001"), ip("fd00::1"));
        for wrong in ["", "10.0.0", "10.0.0.256", "10.0.0.0/8", "host", "[::1]"] {
            assert!(ip(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_moment_needs_a_zone() {
        assert_eq!(not_before("2020-04-17T19:22:05+02:00"), not_before("2020-04-17t17:22:05z"));
        for wrong in ["", "2020-04-17", "2020-04-17T17:22:05", "yesterday", "2020-13-01T00:00:00Z"] {
            assert!(not_before(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_entry_covers_what_it_matches_anyway() {
        let entry = |kind: &str, before: Option<&str>| Entry {
            kind: Kind::Dns(DnsPattern::parse(kind).expect("a name")),
            not_before: before.map(|text| not_before(text).expect("a moment")),
            description: None,
        };
        let (early, late) = (Some("2020-01-01T00:00:00Z"), Some("2021-01-01T00:00:00Z"));
        assert!(entry(".local", None).covers(&entry(".cluster.local", early)));
        assert!(entry(".local", late).covers(&entry("a.local", early)));
        assert!(!entry(".local", early).covers(&entry("a.local", late)));
        assert!(!entry(".local", early).covers(&entry("a.local", None)));
        assert!(!entry("a.local", None).covers(&entry(".local", None)));
    }
}

//! The register of issued certificates: who got which, so that a revocation by group or name finds all of them.
//!
//! A text of JSON objects, one a line, only ever appended to. Every line names the SHA-256 of the line before it, so that a
//! line that is gone or changed shows. A last line that a crash has torn is as if it were not there. Nothing in it is
//! secret, but it says who may do what.

use std::collections::HashSet;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::algorithm::KeyKind;
use super::certificate::{Certificate, SerialNumber};
use super::revocation::{Traits, entry};
use super::san::San;
use super::usage::ExtendedKeyUsage;
use super::{fingerprint_twin, hex};

/// One certificate. What nobody could tell is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issued {
    /// SHA-256 of the DER, lower-case hex.
    pub sha256: String,
    /// SHA-256 of its other form or forms, where its issuer signs with ECDSA.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub twins: Vec<String>,
    /// Serial number, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// RFC 4514 text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The user in Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// The groups in Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<String>,
    /// `DNS:…`, `IP:…`, `URI:…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<String>,
    /// RFC 4514 text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Key identifier of the issuer, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_key_id: Option<String>,
    /// First second of its validity.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub not_before: Option<OffsetDateTime>,
    /// Last second of its validity.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// Whether it is an authority's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_ca: bool,
    /// Whether one can log in with it.
    #[serde(default)]
    pub is_client: bool,
    /// When it was issued, or first seen.
    #[serde(with = "time::serde::rfc3339")]
    pub recorded_at: OffsetDateTime,
    /// How it came here.
    pub source: Origin,
    /// For whom or what, in words: a file, a person, a request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub for_whom: String,
    /// A client's certificate (base64 of the DER), so that it can be told apart from those that are refused even where no
    /// file of it is at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub der: Option<String>,
}

/// How a certificate came into the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// kubepki issued it.
    Issued,
    /// It lay on a node.
    Node,
    /// Somebody gave the file.
    File,
    /// It was in a CertificateSigningRequest.
    Request,
    /// An audit log named it.
    AuditLog,
}

impl Origin {
    /// The word in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Node => "node",
            Self::File => "file",
            Self::Request => "request",
            Self::AuditLog => "audit-log",
        }
    }
}

impl Issued {
    /// What the register keeps of a certificate. `issuer_key` is the kind of its issuer's key, where that is known.
    pub fn of(
        certificate: &Certificate,
        issuer_key: Option<&KeyKind>,
        source: Origin,
        for_whom: impl Into<String>,
        recorded_at: OffsetDateTime,
    ) -> Self {
        let is_client = !certificate.is_ca() && certificate.allows(&ExtendedKeyUsage::ClientAuth);
        Self {
            sha256: certificate.fingerprint_hex(),
            twins: fingerprint_twin::fingerprints(certificate, issuer_key).iter().map(|sum| hex(sum)).collect(),
            serial_number: Some(certificate.serial().to_string()),
            subject: Some(certificate.subject().text().to_owned()),
            common_name: certificate.subject().common_name().map(str::to_owned),
            organizations: certificate.subject().organizations().to_vec(),
            sans: certificate.sans().iter().map(ToString::to_string).collect(),
            issuer: Some(certificate.issuer().text().to_owned()),
            issuer_key_id: certificate.authority_key_id().map(hex),
            not_before: Some(certificate.not_before()),
            not_after: Some(certificate.not_after()),
            is_ca: certificate.is_ca(),
            is_client,
            recorded_at,
            source,
            for_whom: for_whom.into(),
            der: is_client.then(|| BASE64.encode(certificate.der())),
        }
    }

    /// The certificate itself, where it was kept.
    pub fn certificate(&self) -> Option<Certificate> {
        let der = BASE64.decode(self.der.as_deref()?).ok()?;
        Certificate::from_der(&der).ok().filter(|certificate| certificate.fingerprint_hex() == self.sha256)
    }

    /// The serial number as a value.
    pub fn serial(&self) -> Option<SerialNumber> {
        self.serial_number.as_deref().and_then(|text| entry::serial(text).ok())
    }

    /// The alternative names as values; what cannot be read back is left out.
    pub fn names(&self) -> Vec<San> {
        self.sans.iter().filter_map(|text| San::parse(text).ok()).collect()
    }

    /// What the rules of revocations look at. A certificate of which nobody knows when its validity begins was issued before
    /// it was seen.
    pub fn traits<'a>(&'a self, serial: Option<&'a SerialNumber>, sans: &'a [San]) -> Traits<'a> {
        Traits {
            serial,
            organizations: &self.organizations,
            sans,
            not_before: self.not_before.unwrap_or(self.recorded_at),
            is_ca: self.is_ca,
        }
    }
}

/// A line of the text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    /// SHA-256 of the line before, without its line break; empty in the first.
    previous: String,
    #[serde(flatten)]
    issued: Issued,
}

/// A register as read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Register {
    /// The certificates in the order in which they came.
    pub entries: Vec<Issued>,
    /// Where lines are missing or changed, in words; what can be read is used all the same.
    pub fault: Option<String>,
    /// The text up to the end of the last whole line.
    text: Vec<u8>,
    /// SHA-256 of the last whole line; empty when there is none.
    last: String,
}

impl Register {
    /// Reads a text.
    pub fn read(text: &[u8]) -> Self {
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut register = Self { text: text[..whole].to_vec(), ..Self::default() };
        for (index, line) in text[..whole].split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice::<Line>(line) {
                Ok(found) => {
                    if found.previous != register.last {
                        let what = format!("line {} does not follow from the line before it", index + 1);
                        register.fault.get_or_insert(what);
                    }
                    register.entries.push(found.issued);
                }
                Err(error) => {
                    register.fault.get_or_insert(format!("line {} cannot be read: {error}", index + 1));
                }
            }
            register.last = sum(line);
        }
        register
    }

    /// Whether a certificate with that SHA-256 (lower-case hex) is in it.
    pub fn knows(&self, sha256: &str) -> bool {
        self.entries.iter().any(|entry| entry.sha256 == sha256)
    }

    /// The whole text with those of `new` that are not in it yet; `None` when that is none.
    ///
    /// # Errors
    /// When the library cannot write a value, which is a defect.
    pub fn with(&self, new: &[Issued]) -> Result<Option<Vec<u8>>, serde_json::Error> {
        let mut known: HashSet<&str> = self.entries.iter().map(|entry| entry.sha256.as_str()).collect();
        let (mut text, mut previous) = (self.text.clone(), self.last.clone());
        for issued in new.iter().filter(|issued| known.insert(&issued.sha256)) {
            let line = serde_json::to_vec(&Line { previous, issued: issued.clone() })?;
            previous = sum(&line);
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        Ok((text.len() > self.text.len()).then_some(text))
    }
}

fn sum(line: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, line).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn issued(name: &str) -> Issued {
        Issued {
            sha256: sum(name.as_bytes()),
            twins: Vec::new(),
            serial_number: Some("0a1b".into()),
            subject: Some(format!("CN={name}")),
            common_name: Some(name.into()),
            organizations: vec!["dev".into()],
            sans: vec!["DNS:a.b".into(), "IP:10.0.0.1".into()],
            issuer: None,
            issuer_key_id: None,
            not_before: None,
            not_after: Some(datetime!(2027-01-01 0:00 UTC)),
            is_ca: false,
            is_client: true,
            recorded_at: datetime!(2026-01-01 0:00 UTC),
            source: Origin::AuditLog,
            for_whom: "somebody".into(),
            der: None,
        }
    }

    fn appended(text: &[u8], names: &[&str]) -> Vec<u8> {
        let new: Vec<Issued> = names.iter().map(|name| issued(name)).collect();
        Register::read(text).with(&new).expect("JSON").unwrap_or_else(|| text.to_vec())
    }

    #[test]
    fn what_is_appended_is_read_and_nothing_comes_twice() {
        let text = appended(&appended(b"", &["a", "b"]), &["b", "c", "c"]);
        let register = Register::read(&text);
        assert_eq!(register.entries, ["a", "b", "c"].map(issued));
        assert_eq!(register.fault, None);
        assert_eq!(register.with(&[issued("a")]).expect("JSON"), None);
    }

    #[test]
    fn a_torn_last_line_is_as_if_it_were_not_there() {
        let text = appended(b"", &["a", "b"]);
        let first = text.iter().position(|byte| *byte == b'\n').expect("two lines") + 1;
        for length in first..text.len() {
            let register = Register::read(&text[..length]);
            assert_eq!((register.entries.len(), &register.fault), (1, &None), "{length}");
            assert_eq!(appended(&text[..length], &["b"]), text);
        }
    }

    #[test]
    fn a_line_that_is_gone_or_changed_shows_and_the_others_count() {
        let text = String::from_utf8(appended(b"", &["a", "b", "c"])).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        let without = format!("{}\n{}\n", lines[0], lines[2]);
        let changed = text.replacen("somebody", "nobody", 1);
        let damaged = text.replacen("\"sha256\"", "\"sha\"", 1);
        for (text, left) in [(without, 2), (changed, 3), (damaged, 2)] {
            let register = Register::read(text.as_bytes());
            assert!(register.fault.as_deref().is_some_and(|fault| fault.starts_with("line ")), "{text}");
            assert_eq!(register.entries.len(), left);
        }
    }

    #[test]
    fn a_certificate_whose_beginning_nobody_knows_was_issued_before_it_was_seen() {
        let (entry, serial) = (issued("a"), SerialNumber::from_bytes(&[0x0a, 0x1b]));
        assert_eq!(entry.serial(), Some(serial.clone()));
        let names = entry.names();
        assert_eq!(names.len(), 2);
        assert_eq!(entry.traits(Some(&serial), &names).not_before, datetime!(2026-01-01 0:00 UTC));
    }
}

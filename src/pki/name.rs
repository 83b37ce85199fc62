//! Distinguished names: written as Go writes them, shown as RFC 4514 text, compared as bytes.
//!
//! Go compares the raw bytes of issuer and subject, so a name is kept as DER and never re-encoded.

use std::fmt::Write as _;

use x509_parser::der_parser::asn1_rs::{Any, FromDer as _, Tag};
use x509_parser::x509::X509Name;
use yasna::DERWriter;
use yasna::models::ObjectIdentifier;
use yasna::tags::TAG_PRINTABLESTRING;

/// A distinguished name as raw DER, with its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    der: Vec<u8>,
    text: String,
    common_name: Option<String>,
    organizations: Vec<String>,
}

const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];

/// RFC 4514 section 3: the attribute types that have a short name.
const SHORT_NAMES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

impl Name {
    /// A new name in Go's form: all organizations in one set, then the common name; PrintableString where the text
    /// allows it, else UTF8String (Go: crypto/x509/pkix, encoding/asn1).
    pub fn new(common_name: &str, organizations: &[String]) -> Self {
        let der = yasna::construct_der(|writer| {
            writer.write_sequence(|rdns| {
                if !organizations.is_empty() {
                    rdns.next().write_set_of(|set| {
                        for organization in organizations {
                            write_attribute(set.next(), ORGANIZATION, organization);
                        }
                    });
                }
                if !common_name.is_empty() {
                    rdns.next().write_set_of(|set| write_attribute(set.next(), COMMON_NAME, common_name));
                }
            });
        });
        Self::from_der(&der).unwrap_or_else(|_| {
            // Cannot happen for what was just written; the bytes are right all the same.
            Self { der, text: String::new(), common_name: None, organizations: Vec::new() }
        })
    }

    /// Takes over a parsed name. The parser stops at the first attribute it cannot read and passes over the rest, so a name
    /// that holds more than it has read is refused.
    ///
    /// # Errors
    /// When an attribute is damaged; in words.
    pub(crate) fn from_x509(name: &X509Name<'_>) -> Result<Self, String> {
        if count_attributes(name.as_raw()) != Some(name.iter_attributes().count()) {
            return Err("a damaged attribute in a name".to_owned());
        }
        let plain = |any: &Any<'_>| string_value(any).unwrap_or_else(|| format!("#{}", super::hex(any.data)));
        Ok(Self {
            der: name.as_raw().to_vec(),
            text: rfc4514(name),
            common_name: name.iter_common_name().last().map(|attribute| plain(attribute.attr_value())),
            organizations: name.iter_organization().map(|attribute| plain(attribute.attr_value())).collect(),
        })
    }

    /// The name's DER, a SEQUENCE of relative distinguished names.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// RFC 4514 text, last relative distinguished name first: `CN=kubernetes-admin,O=kubeadm:cluster-admins`. Attributes of
    /// one relative distinguished name stand as they are encoded, `O=dev+O=ops`; OpenSSL reverses those as well.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The (last) common name: Kubernetes' user name.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Every organization: Kubernetes' groups.
    pub fn organizations(&self) -> &[String] {
        &self.organizations
    }

    /// Whether the name has no attributes at all.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// How many attributes a DER name holds, whatever is in them; none when it is not whole.
fn count_attributes(der: &[u8]) -> Option<usize> {
    let (_, name) = Any::from_der(der).ok().filter(|(rest, _)| rest.is_empty())?;
    let (mut rdns, mut count) = (name.data, 0);
    while !rdns.is_empty() {
        let (after, rdn) = Any::from_der(rdns).ok()?;
        let mut attributes = rdn.data;
        while !attributes.is_empty() {
            attributes = Any::from_der(attributes).ok()?.0;
            count += 1;
        }
        rdns = after;
    }
    Some(count)
}

fn write_attribute(writer: DERWriter<'_>, oid: &[u64], value: &str) {
    let printable = |byte: u8| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte);
    writer.write_sequence(|attribute| {
        attribute.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if value.bytes().all(printable) {
            // yasna's own writer refuses the question mark, which is in the set (X.680 section 41.4).
            attribute.next().write_tagged_implicit(TAG_PRINTABLESTRING, |inner| inner.write_bytes(value.as_bytes()));
        } else {
            attribute.next().write_utf8_string(value);
        }
    });
}

/// The text of a string type; BMPString and T61String by code unit (Latin-1 is what T61 means in practice).
fn string_value(any: &Any<'_>) -> Option<String> {
    match any.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            std::str::from_utf8(any.data).ok().map(str::to_owned)
        }
        Tag::T61String => Some(any.data.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => {
            let units: Vec<u16> = any.data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            any.data.len().is_multiple_of(2).then(|| String::from_utf16(&units).ok()).flatten()
        }
        _ => None,
    }
}

fn rfc4514(name: &X509Name<'_>) -> String {
    let rdns: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (index, rdn) in rdns.iter().rev().enumerate() {
        if index > 0 {
            text.push(',');
        }
        for (position, attribute) in rdn.iter().enumerate() {
            if position > 0 {
                text.push('+');
            }
            let oid = attribute.attr_type().to_id_string();
            let short = SHORT_NAMES.into_iter().find(|(id, _)| *id == oid).map(|(_, short)| short);
            match (short, string_value(attribute.attr_value())) {
                (Some(short), Some(value)) => {
                    let _ = write!(text, "{short}={}", escape(&value));
                }
                // RFC 4514 section 2.4: a type without a short name has its value as hexadecimal BER.
                _ => {
                    let value = attribute.attr_value();
                    let _ = write!(text, "{oid}=#{}", super::hex(&encoded(value)));
                }
            }
        }
    }
    text
}

fn encoded(any: &Any<'_>) -> Vec<u8> {
    use x509_parser::der_parser::asn1_rs::ToDer as _;
    any.to_der_vec().unwrap_or_else(|_| any.data.to_vec())
}

/// RFC 4514 section 2.4. Control characters are escaped too: a subject must not be able to move a terminal's cursor.
fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || (index == 0 && matches!(c, ' ' | '#'))
            || (index == last && c == ' ');
        if special {
            text.push('\\');
            text.push(c);
        } else if c.is_control() {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                let _ = write!(text, "\\{byte:02X}");
            }
        } else {
            text.push(c);
        }
    }
    text
}

impl Name {
    /// Reads a DER name.
    ///
    /// # Errors
    /// When the bytes are no DER name or have something after it.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        match X509Name::from_der(der) {
            Ok(([], name)) => Self::from_x509(&name),
            Ok(_) => Err("bytes after the name".to_owned()),
            Err(error) => Err(format!("no DER name: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_organizations_stand_in_one_set_before_the_common_name() {
        let name = Name::new("jane", &["dev".into(), "ops".into()]);
        assert_eq!(name.text(), "CN=jane,O=dev+O=ops");
        assert_eq!(name.common_name(), Some("jane"));
        assert_eq!(name.organizations(), ["dev", "ops"]);
        assert_eq!(name.der()[..4], [0x30, name.der()[1], 0x31, name.der()[3]]);
    }

    #[test]
    fn special_and_control_characters_are_escaped() {
        let name = Name::new(" a,b+\"c\\ \u{1b}[2J", &["#x".into()]);
        assert_eq!(name.text(), "CN=\\ a\\,b\\+\\\"c\\\\ \\1B[2J,O=\\#x");
    }

    #[test]
    fn a_name_with_a_damaged_attribute_is_none() {
        // SEQUENCE { SET { O=dev, O=ops }, SET { CN=jane } }: the attributes begin at bytes 4, 16 and 30.
        let der = Name::new("jane", &["dev".into(), "ops".into()]).der().to_vec();
        assert!(Name::from_der(&der).is_ok());
        for at in [4, 16, 30] {
            assert_eq!(der[at], 0x30, "an attribute begins at {at}");
            let mut damaged = der.clone();
            damaged[at] = 0x2f;
            assert!(Name::from_der(&damaged).is_err(), "{at}");
        }
    }

    #[test]
    fn names_outside_the_printable_set_are_utf8_strings() {
        assert_eq!(Name::new("a@b", &[]).der()[11], 0x0c);
        for printable in ["system:masters", "who?"] {
            let name = Name::new(printable, &[]);
            assert_eq!((name.der()[11], name.common_name()), (0x13, Some(printable)));
        }
    }
}

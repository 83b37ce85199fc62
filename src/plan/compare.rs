//! What a certificate says against what it was asked to say, in words for people.
//!
//! Only what matters to those who look at it is compared: names as sets, subjects by common name and organizations, because
//! other tools write the same thing in other bytes.

use time::OffsetDateTime;

use crate::pki::certificate::Certificate;
use crate::pki::chain::{self, Signature};
use crate::pki::csr::Request;
use crate::pki::name::Name;
use crate::pki::san::San;
use crate::pki::spec::ResolvedLeaf;
use crate::pki::usage::{ExtendedKeyUsage, KeyUsage};

/// What a certificate shall say, as far as anybody looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Its subject.
    pub subject: &'a Name,
    /// Its names.
    pub sans: &'a [San],
    /// Its extended key usages.
    pub usages: &'a [ExtendedKeyUsage],
}

impl<'a> From<&'a ResolvedLeaf> for Wish<'a> {
    fn from(leaf: &'a ResolvedLeaf) -> Self {
        Self { subject: &leaf.subject, sans: &leaf.sans, usages: &leaf.usages }
    }
}

/// Every way in which `certificate` differs from `wanted`. Length and age are not compared, but it has to be valid at
/// `now`.
pub fn differences<'a>(certificate: &Certificate, wanted: impl Into<Wish<'a>>, now: OffsetDateTime) -> Vec<String> {
    let wanted: Wish<'a> = wanted.into();
    let mut words = Vec::new();
    if certificate.is_ca() {
        words.push("it is a CA certificate".to_owned());
    }
    words.extend(validity(certificate, now));
    if !same_subject(certificate.subject(), wanted.subject) {
        words.push(format!("its subject is {}, not {}", certificate.subject().text(), wanted.subject.text()));
    }
    words.extend(lists("name", certificate.sans(), wanted.sans, same_san));
    let usages = certificate.extended_key_usage().unwrap_or_default();
    words.extend(lists("usage", usages, wanted.usages, ExtendedKeyUsage::eq));
    let needed = KeyUsage::DIGITAL_SIGNATURE;
    if certificate.key_usage().is_some_and(|usage| !usage.contains(needed)) {
        words.push("its key usage lacks digitalSignature".to_owned());
    }
    words
}

/// Every way in which a signing request differs from `wanted`; its key is not looked at.
pub fn request_differences<'a>(request: &Request, wanted: impl Into<Wish<'a>>) -> Vec<String> {
    let wanted: Wish<'a> = wanted.into();
    let mut words = Vec::new();
    if !same_subject(&request.subject, wanted.subject) {
        words.push(format!("its subject is {}, not {}", request.subject.text(), wanted.subject.text()));
    }
    words.extend(lists("name", &request.sans, wanted.sans, same_san));
    words.extend(lists("usage", &request.usages, wanted.usages, ExtendedKeyUsage::eq));
    words
}

/// Why a certificate is not valid at `now`.
pub fn validity(certificate: &Certificate, now: OffsetDateTime) -> Option<String> {
    if certificate.not_after() < now {
        Some(format!("it expired on {}", date(certificate.not_after())))
    } else if certificate.not_before() > now {
        Some(format!("it is not valid before {}", date(certificate.not_before())))
    } else {
        None
    }
}

/// Whether some certificate of `authority` issued `certificate`; where the kind of signature cannot be checked, names and
/// key identifiers have to do.
pub fn is_issued_by(certificate: &Certificate, authority: &[Certificate]) -> bool {
    authority.iter().any(|issuer| match chain::issued(certificate, issuer) {
        Signature::Good => true,
        Signature::Unsupported => chain::names_match(certificate, issuer),
        Signature::Bad => false,
    })
}

/// Whether `certificate` leads to `authority`, over the intermediates in `rest` if need be: each of them a CA and valid at
/// `now`.
pub fn leads_to(
    certificate: &Certificate,
    rest: &[Certificate],
    authority: &[Certificate],
    now: OffsetDateTime,
) -> bool {
    let mut current = certificate;
    for _ in 0..=rest.len() {
        if is_issued_by(current, authority) {
            return true;
        }
        let fits = |next: &&Certificate| {
            next.is_ca() && validity(next, now).is_none() && is_issued_by(current, std::slice::from_ref(*next))
        };
        match rest.iter().find(fits) {
            Some(next) => current = next,
            None => return false,
        }
    }
    false
}

/// The date of a moment, as `2026-01-02`.
pub fn date(at: OffsetDateTime) -> String {
    at.date().to_string()
}

fn same_subject(own: &Name, wanted: &Name) -> bool {
    let groups = |name: &Name| {
        let mut groups = name.organizations().to_vec();
        groups.sort();
        groups
    };
    own.common_name() == wanted.common_name() && groups(own) == groups(wanted)
}

fn same_san(one: &San, other: &San) -> bool {
    match (one, other) {
        (San::Dns(one), San::Dns(other)) => one.eq_ignore_ascii_case(other),
        (one, other) => one == other,
    }
}

fn lists<T: ToString>(what: &str, own: &[T], wanted: &[T], same: impl Fn(&T, &T) -> bool) -> Vec<String> {
    let without = |list: &[T], other: &[T]| {
        let rest = list.iter().filter(|item| !other.iter().any(|known| same(item, known)));
        rest.map(T::to_string).collect::<Vec<_>>()
    };
    let words = |verb: &str, items: Vec<String>| {
        let plural = if items.len() == 1 { "" } else { "s" };
        (!items.is_empty()).then(|| format!("it {verb} the {what}{plural} {}", items.join(", ")))
    };
    let lacks = words("lacks", without(wanted, own));
    let more = words("has beyond that", without(own, wanted));
    lacks.into_iter().chain(more).collect()
}

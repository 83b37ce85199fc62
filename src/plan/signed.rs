//! Signed certificates that came back from an external CA: where each lies, and whether it is what was asked for.
//!
//! Each is looked at as if a stranger had sent it: it has to be for the key that is here, to say what is wanted, to lead to
//! the authority that is trusted, and to be valid now.

use std::path::PathBuf;

use time::OffsetDateTime;

use super::compare::{self, Wish};
use crate::pki::certificate::Certificate;
use crate::pki::usage::KeyUsage;
use crate::snapshot::{Artifact, NodeSnapshot, State};

/// File name endings that a signed certificate may come back with.
const ENDINGS: [&str; 4] = ["crt", "pem", "cer", "cert"];

/// A signed certificate as it came: the one for the key, and what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The one for the key.
    pub certificate: Certificate,
    /// Everything else in the same file.
    pub rest: Vec<Certificate>,
}

impl Signed {
    /// The intermediates that came with it, which peers are shown as well.
    pub fn intermediates(&self) -> impl Iterator<Item = &Certificate> {
        self.rest.iter().filter(|certificate| !certificate.is_self_issued())
    }
}

/// Whom a signed certificate has to come from.
#[derive(Debug, Clone, Copy)]
pub struct Issuer<'a> {
    /// The authority's name.
    pub name: &'a str,
    /// Its certificates that are, or will be, trusted; none when it is not there.
    pub known: &'a [Certificate],
}

/// The first file with one of these names, of any ending, in the first of these folders that has one.
pub fn find<'a>(offered: &'a NodeSnapshot, folders: &[PathBuf], names: &[&str]) -> Option<&'a Artifact> {
    let files = folders.iter().flat_map(|folder| {
        names.iter().flat_map(move |name| ENDINGS.iter().map(move |ending| folder.join(format!("{name}.{ending}"))))
    });
    files.into_iter().find_map(|path| offered.at(&path).filter(|artifact| !artifact.is_missing()))
}

/// Takes the certificate for `public_key` (`SubjectPublicKeyInfo` DER, or why there is none) out of a file.
///
/// # Errors
/// In words: everything that is wrong with it.
pub fn judge<'a>(
    artifact: &Artifact,
    wanted: impl Into<Wish<'a>>,
    public_key: Result<&[u8], String>,
    issuer: Issuer<'_>,
    now: OffsetDateTime,
) -> Result<Signed, Vec<String>> {
    let one = |words: String| vec![words];
    let mut certificates = readable(Some(artifact)).map_err(one)?;
    let public_key = public_key.map_err(one)?;
    let position = certificates.iter().position(|certificate| certificate.certifies(public_key));
    let position = position.ok_or_else(|| one("it is for another key than the one that waits here".to_owned()))?;
    let certificate = certificates.remove(position);
    let mut words = compare::differences(&certificate, wanted, now);
    words.extend(chain_words(&certificate, &certificates, issuer, now));
    if words.is_empty() { Ok(Signed { certificate, rest: certificates }) } else { Err(words) }
}

/// What keeps a certificate from leading to its authority, over what came with it if need be.
fn chain_words(
    certificate: &Certificate,
    rest: &[Certificate],
    Issuer { name, known }: Issuer<'_>,
    now: OffsetDateTime,
) -> Option<String> {
    if known.is_empty() {
        return Some(format!("the certificate of `{name}` is not there; put it in the folder as {name}.crt"));
    }
    if compare::leads_to(certificate, rest, known, now) {
        return None;
    }
    Some(format!("it is not issued by `{name}`, but by {}", certificate.issuer().text()))
}

/// What keeps a certificate from being that of a CA that signs at `now`.
pub fn authority_words(certificate: &Certificate, now: OffsetDateTime) -> Vec<String> {
    let mut words = Vec::new();
    if !certificate.is_ca() {
        words.push("it is no CA certificate (basic constraints)".to_owned());
    }
    if certificate.key_usage().is_some_and(|usage| !usage.contains(KeyUsage::KEY_CERT_SIGN)) {
        words.push("it may not sign certificates (key usage lacks keyCertSign)".to_owned());
    }
    words.extend(compare::validity(certificate, now));
    words
}

/// The certificates of a file that has nothing else wrong with it.
///
/// # Errors
/// In words.
pub fn readable(artifact: Option<&Artifact>) -> Result<Vec<Certificate>, String> {
    let content = match artifact.map(|artifact| &artifact.state) {
        Some(State::Read(content)) => content,
        Some(State::Unreadable(reason)) => return Err(reason.clone()),
        _ => return Err("nothing can be read in it".to_owned()),
    };
    if content.damaged_blocks > 0 {
        return Err(format!("{} of its PEM blocks cannot be read", content.damaged_blocks));
    }
    let certificates: Result<Vec<Certificate>, String> = content.found_certificates.iter().cloned().collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("there is no certificate in it".to_owned()),
        other => other,
    }
}

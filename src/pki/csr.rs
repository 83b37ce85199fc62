//! Certificate signing requests (PKCS#10, RFC 2986): written for external CAs, and read back to compare.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use yasna::{DERWriter, Tag};

use super::der::{self, Extension};
use super::issue::Template;
use super::name::Name;
use super::pem_file;
use super::private_key::{KeyError, PrivateKey};
use super::san::San;
use super::usage::ExtendedKeyUsage;

/// Writes the request for what `template` says, signed by its own key, as PEM (`CERTIFICATE REQUEST`).
///
/// # Errors
/// When the key is not the template's or cannot sign.
pub fn request(template: &Template, key: &PrivateKey) -> Result<String, KeyError> {
    if key.public_key() != template.public_key {
        return Err(KeyError::Crypto("a request is signed by its own key only".to_owned()));
    }
    let (algorithm, null) = key.signature_algorithm()?;
    // The CA decides about key identifiers; asking for them makes some CAs refuse.
    let wanted = |extension: &&Extension| extension.oid != der::OID_AKI && extension.oid != der::OID_SKI;
    let info = yasna::construct_der(|writer| {
        writer.write_sequence(|info| {
            info.next().write_u8(0);
            info.next().write_der(template.subject.der());
            info.next().write_der(&template.public_key);
            info.next().write_tagged_implicit(Tag::context(0), |attributes| {
                attributes.write_set_of(|set| extension_request(set.next(), template.extensions.iter().filter(wanted)));
            });
        });
    });
    let signature = key.sign(&info)?;
    let der = yasna::construct_der(|writer| {
        writer.write_sequence(|request| {
            request.next().write_der(&info);
            der::write_algorithm(request.next(), algorithm, null);
            request.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    Ok(pem_file::encode("CERTIFICATE REQUEST", &der).to_string())
}

fn extension_request<'a>(writer: DERWriter<'_>, extensions: impl Iterator<Item = &'a Extension>) {
    writer.write_sequence(|attribute| {
        der::write_oid(attribute.next(), der::OID_EXTENSION_REQUEST);
        attribute.next().write_set_of(|values| {
            values.next().write_sequence(|list| extensions.for_each(|extension| extension.write(list.next())));
        });
    });
}

/// What a signing request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Wanted subject.
    pub subject: Name,
    /// The key to certify, `SubjectPublicKeyInfo` DER.
    pub public_key: Vec<u8>,
    /// Wanted alternative names.
    pub sans: Vec<San>,
    /// Wanted extended key usages.
    pub usages: Vec<ExtendedKeyUsage>,
}

impl Request {
    /// Reads the first request of a PEM file and checks that it is signed by its own key.
    ///
    /// # Errors
    /// When there is none, it is damaged, or its signature is wrong; in words.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, String> {
        let file = pem_file::PemFile::parse(bytes);
        let is_request =
            |block: &&pem_file::Block| block.tag == "CERTIFICATE REQUEST" || block.tag == "NEW CERTIFICATE REQUEST";
        let block = file.blocks.iter().find(is_request).ok_or("no certificate signing request in it")?;
        let (rest, parsed) =
            X509CertificationRequest::from_der(&block.der).map_err(|error| format!("no signing request: {error}"))?;
        if !rest.is_empty() {
            return Err("bytes after the signing request".to_owned());
        }
        parsed.verify_signature().map_err(|_| "the request is not signed by its own key".to_owned())?;
        let info = &parsed.certification_request_info;
        let mut request = Self {
            subject: Name::from_x509(&info.subject).map_err(|fault| format!("its subject: {fault}"))?,
            public_key: info.subject_pki.raw.to_vec(),
            sans: Vec::new(),
            usages: Vec::new(),
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            match extension {
                ParsedExtension::SubjectAlternativeName(names) => {
                    request.sans = names.general_names.iter().map(San::from_general_name).collect();
                }
                ParsedExtension::ExtendedKeyUsage(usage) => request.usages = ExtendedKeyUsage::from_parsed(usage),
                _ => {}
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::algorithm::KeyAlgorithm;
    use time::macros::datetime;

    fn wish(key: &PrivateKey) -> (Name, Vec<San>, Vec<ExtendedKeyUsage>, Template) {
        let validity = (datetime!(2026-01-01 0:00 UTC), datetime!(2027-01-01 0:00 UTC));
        let subject = Name::new("jane", &["dev".into(), "ops".into()]);
        let (sans, usages) = (vec![San::Dns("jane".into())], vec![ExtendedKeyUsage::ClientAuth]);
        let template = Template::leaf(subject.clone(), &usages, &sans, key.public_key(), validity);
        (subject, sans, usages, template)
    }

    #[test]
    fn a_request_is_read_back_with_its_key() {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP384).expect("random source");
        let (subject, sans, usages, template) = wish(&key);
        let pem = request(&template, &key).expect("signs");
        assert_eq!(
            Request::from_pem(pem.as_bytes()),
            Ok(Request { subject, public_key: key.public_key().to_vec(), sans, usages })
        );
    }

    #[test]
    fn a_subject_that_would_be_cut_short_is_an_error_even_when_it_is_signed() {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("random source");
        let (subject, _, _, template) = wish(&key);
        let pem = request(&template, &key).expect("signs");
        let whole = pem_file::PemFile::parse(pem.as_bytes()).blocks.remove(0).der.to_vec();
        let (_, parsed) = X509CertificationRequest::from_der(&whole).expect("a request");
        let mut info = parsed.certification_request_info.raw.to_vec();
        let begin = info.windows(subject.der().len()).position(|window| window == subject.der()).expect("in there");
        info[begin + 16] = 0x2f;
        let signature = key.sign(&info).expect("signs");
        let (algorithm, null) = key.signature_algorithm().expect("known");
        let damaged = yasna::construct_der(|writer| {
            writer.write_sequence(|request| {
                request.next().write_der(&info);
                der::write_algorithm(request.next(), algorithm, null);
                request.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        let error =
            Request::from_pem(pem_file::encode("CERTIFICATE REQUEST", &damaged).as_bytes()).expect_err("damaged");
        assert!(error.contains("its subject"), "{error}");
    }
}

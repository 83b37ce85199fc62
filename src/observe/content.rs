//! Bytes of a file to what it holds: PEM in any mixture, DER, kubeconfigs.
//!
//! Nothing here fails: what is damaged is recorded beside what is not.

use std::path::Path;

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use super::Keys;
use crate::pki::certificate::{self, Certificate};
use crate::pki::csr::Request;
use crate::pki::kubeconfig;
use crate::pki::pem_file::{self, Block, PemFile};
use crate::pki::private_key::{self, KeyError};
use crate::snapshot::{Cluster, Content, FoundKey, Kubeconfig, Material, User};

/// Labels of private keys as DER files may hold them, most usual first.
const KEY_TAGS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// Reads a file's bytes as PEM or DER.
pub(super) fn read(bytes: &[u8], keys: Keys) -> Content {
    let file = PemFile::parse(bytes);
    let mut content =
        if file.blocks.is_empty() && file.damaged == 0 { der(bytes, keys) } else { pem(bytes, &file, keys) };
    content.sha256 = sha256(bytes);
    content
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

fn pem(bytes: &[u8], file: &PemFile, keys: Keys) -> Content {
    let mut content = Content { damaged_blocks: file.damaged, ..Content::default() };
    content.found_certificates = file.certificates().map(|block| Certificate::from_der(&block.der)).collect();
    content.private_key = file.private_key().map(|_| key(bytes, keys));
    content.public_keys = file.public_keys().map(public_key).collect();
    let is_request = |block: &&Block| block.tag.ends_with("CERTIFICATE REQUEST");
    content.requests = file
        .blocks
        .iter()
        .filter(is_request)
        .map(|block| Request::from_pem(pem_file::encode(&block.tag, &block.der).as_bytes()))
        .collect();
    content
}

fn key(pem: &[u8], keys: Keys) -> Result<FoundKey, KeyError> {
    let public_key = private_key::public_half(pem)?;
    let kind = certificate::key_kind(&public_key).map_err(KeyError::Invalid)?;
    let pem = (keys == Keys::Keep).then(|| Zeroizing::new(pem.to_vec()));
    Ok(FoundKey { public_key, kind, pem })
}

fn public_key(block: &Block) -> Result<Vec<u8>, String> {
    if block.tag == "RSA PUBLIC KEY" {
        return private_key::rsa_public_key_info(&block.der);
    }
    certificate::key_kind(&block.der).map(|_| block.der.to_vec())
}

fn der(bytes: &[u8], keys: Keys) -> Content {
    let mut content = Content { is_der: true, ..Content::default() };
    // Every DER structure that matters here is a SEQUENCE of more than 127 bytes: 0x30 and a long length.
    if !matches!(bytes, [0x30, 0x81..=0x83, ..]) {
        return content;
    }
    let certificate = Certificate::from_der(bytes);
    if certificate.is_ok() {
        content.found_certificates.push(certificate);
        return content;
    }
    let read_key = KEY_TAGS.iter().find_map(|tag| key(pem_file::encode(tag, bytes).as_bytes(), keys).ok());
    if let Some(found) = read_key {
        content.private_key = Some(Ok(found));
        return content;
    }
    match Request::from_pem(pem_file::encode("CERTIFICATE REQUEST", bytes).as_bytes()) {
        Ok(request) => content.requests.push(Ok(request)),
        Err(_) => match certificate::key_kind(bytes) {
            Ok(_) => content.public_keys.push(Ok(bytes.to_vec())),
            // Closest to what such a file usually is.
            Err(_) => content.found_certificates.push(certificate),
        },
    }
    content
}

/// Whether a file that holds neither PEM nor DER is worth reading as a kubeconfig.
pub(super) fn looks_like_kubeconfig(bytes: &[u8]) -> bool {
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    bytes.len() <= kubeconfig::LARGEST && has(b"clusters") && (has(b"users") || has(b"contexts"))
}

/// Reads a kubeconfig with everything embedded in it; the files it refers to are left for later.
pub(super) fn kubeconfig(bytes: &[u8], folder: &Path, keys: Keys) -> Result<Kubeconfig, String> {
    let parsed = kubeconfig::Kubeconfig::parse(bytes, folder).map_err(|problem| problem.to_string())?;
    let clusters = parsed.clusters.into_iter().map(|cluster| Cluster {
        authority: material(&cluster.certificate_authority, keys),
        name: cluster.name,
        server: cluster.server,
        tls_server_name: cluster.tls_server_name,
        insecure_skip_tls_verify: cluster.insecure_skip_tls_verify,
    });
    let users = parsed.users.into_iter().map(|user| User {
        certificate: material(&user.client_certificate, keys),
        key: material(&user.client_key, keys),
        has_other_credential: user.token.is_some()
            || user.token_file.is_some()
            || user.has_password
            || user.exec.is_some(),
        name: user.name,
    });
    Ok(Kubeconfig {
        clusters: clusters.collect(),
        users: users.collect(),
        contexts: parsed.contexts,
        current_context: parsed.current_context,
        problems: parsed.problems.iter().map(ToString::to_string).collect(),
    })
}

fn material(found: &kubeconfig::Material, keys: Keys) -> Material {
    match found.source() {
        kubeconfig::Source::Absent => Material::default(),
        kubeconfig::Source::Embedded(bytes) => Material { file: None, content: Some(Ok(Box::new(read(bytes, keys)))) },
        kubeconfig::Source::Broken(problem) => Material { file: None, content: Some(Err(problem.to_string())) },
        kubeconfig::Source::File(path) => Material { file: Some(path.to_path_buf()), content: None },
    }
}

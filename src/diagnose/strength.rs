//! Is it made of something that peers still accept: hash, key size, key kind, whole extensions, unique serial numbers?

use std::collections::HashMap;

use super::case::Case;
use super::finding::FindingId;
use super::issuers::Issuance;
use super::row::Member;
use crate::pki::algorithm::KeyKind;
use crate::pki::catalog::Catalog;
use crate::pki::certificate::Certificate;

/// RFC 5280 names of broken signatures: MD2, MD4, MD5 and SHA-1 with RSA, SHA-1 with DSA and ECDSA. Go refuses them all
/// since 1.18 (`crypto/x509`, `InsecureAlgorithmError`).
const BROKEN: [(&str, &str); 6] = [
    ("1.2.840.113549.1.1.2", "MD2"),
    ("1.2.840.113549.1.1.3", "MD4"),
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.2.840.10040.4.3", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
];

/// Bits of an RSA modulus below which a key is too weak (NIST SP 800-57 part 1: 112 bits of strength).
const SHORTEST_RSA: usize = 2048;

pub(super) fn check(case: &mut Case<'_, '_>) {
    for row in 0..case.rows.len() {
        // What a kubeconfig trusts is judged where it is kept.
        if matches!(case.rows[row].member, Member::Cluster(..)) {
            continue;
        }
        let Some(certificate) = case.rows[row].certificate else { continue };
        algorithms(case, row, certificate);
        let damaged = certificate.unreadable_extensions();
        if !damaged.is_empty() {
            let message = format!("extensions that cannot be read: {}", damaged.join(", "));
            let remedy = case.renew(row);
            case.add(row, FindingId::ExtensionUnreadable, message, remedy);
        }
    }
    serials(case);
}

fn algorithms(case: &mut Case<'_, '_>, row: usize, certificate: &Certificate) {
    let renew = case.renew(row);
    let hash = BROKEN.iter().find(|(oid, _)| *oid == certificate.signature_algorithm()).map(|(_, name)| *name);
    // Nobody checks the signature that a root made of itself.
    if let Some(hash) = hash.filter(|_| !matches!(case.issuances[row], Issuance::Itself(_))) {
        case.add(row, FindingId::SignatureWeak, format!("signed with {hash}, which peers refuse"), renew.clone());
    }
    match certificate.key_kind() {
        KeyKind::Rsa(bits) if *bits < SHORTEST_RSA => {
            case.add(
                row,
                FindingId::KeyWeak,
                format!("its RSA key has {bits} bits; {SHORTEST_RSA} are the least"),
                renew,
            );
        }
        // Kubernetes: cmd/kubeadm/app/util/pkiutil, TryLoadKeyFromDisk knows RSA and ECDSA.
        KeyKind::Ed25519 | KeyKind::Other(_) if is_kubeadms(case, row) => {
            let kind = certificate.key_kind();
            let message = format!("its key is of kind {kind}; Kubernetes' own tools read RSA and ECDSA keys only");
            case.add(row, FindingId::KeyKindUnsupported, message, renew);
        }
        _ => {}
    }
}

fn is_kubeadms(case: &Case<'_, '_>, row: usize) -> bool {
    case.rows[row].artifact.part.is_some_and(|part| part.catalog == Catalog::Kubeadm)
}

fn serials(case: &mut Case<'_, '_>) {
    let mut known: HashMap<(&[u8], &[u8]), usize> = HashMap::new();
    let mut twice = Vec::new();
    for (position, row) in case.rows.iter().enumerate() {
        let Some(certificate) = row.certificate else { continue };
        let key = (certificate.issuer().der(), certificate.serial().as_bytes());
        match known.get(&key) {
            Some(earlier) if case.rows[*earlier].certificate != Some(certificate) => twice.push((position, *earlier)),
            Some(_) => {}
            None => {
                known.insert(key, position);
            }
        }
    }
    for (row, earlier) in twice {
        // Roots of the same name number themselves, each from its own beginning.
        let roots = [row, earlier].iter().any(|one| matches!(case.issuances[*one], Issuance::Itself(_)));
        if roots {
            continue;
        }
        let message = format!("the same serial number and issuer as {}", case.rows[earlier].path);
        let remedy = case.renew(row);
        case.add(row, FindingId::SerialDuplicate, message, remedy);
    }
}

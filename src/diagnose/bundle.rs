//! Files with several certificates: the same one twice, CAs that nothing here needs.

use std::collections::HashMap;

use super::case::{Case, KeyOf};
use super::finding::FindingId;
use super::issuers::Issuance;
use super::row::Member;
use crate::pki::catalog::Kind;
use crate::pki::certificate::Certificate;

pub(super) fn check(case: &mut Case<'_, '_>) {
    duplicates(case);
    unneeded(case);
}

fn duplicates(case: &mut Case<'_, '_>) {
    let mut first_at: HashMap<(usize, &str, &[u8]), usize> = HashMap::new();
    let mut twice = Vec::new();
    for (position, row) in case.rows.iter().enumerate() {
        let Some(certificate) = row.certificate else { continue };
        let group = match row.member {
            Member::Certificate(_) => "",
            Member::User(name, _) | Member::Cluster(name, _) => name,
            _ => continue,
        };
        let key = (std::ptr::from_ref(row.artifact).addr(), group, certificate.der());
        if let Some(earlier) = first_at.get(&key) {
            let is_same_kind =
                std::mem::discriminant(&case.rows[*earlier].member) == std::mem::discriminant(&row.member);
            if is_same_kind {
                twice.push((position, *earlier));
            }
        } else {
            first_at.insert(key, position);
        }
    }
    for (row, earlier) in twice {
        let message = format!("the same certificate as {}", case.rows[earlier].path);
        case.add(row, FindingId::BundleDuplicate, message, "take one of the two out of the file");
    }
}

/// A trust bundle holds more than one CA while one takes over from another. Afterwards the old one is a risk without use:
/// whoever has its key is still trusted.
fn unneeded(case: &mut Case<'_, '_>) {
    let mut needed = vec![false; case.rows.len()];
    for (position, issuance) in case.issuances.iter().enumerate() {
        if let Issuance::By(issuer) | Issuance::ByOther(issuer) = issuance
            && position != *issuer
        {
            needed[*issuer] = true;
        }
    }
    // The same CA may stand in several files: what one needs, all need.
    let wanted: Vec<Certificate> = case
        .rows
        .iter()
        .zip(&needed)
        .filter(|(row, needed)| **needed && row.is_authority)
        .filter_map(|(row, _)| row.certificate.cloned())
        .collect();
    let wanted: std::collections::HashSet<&[u8]> = wanted.iter().map(Certificate::der).collect();
    for row in 0..case.rows.len() {
        let part = case.rows[row].artifact.part;
        let Member::Certificate(_) = case.rows[row].member else { continue };
        let Some(certificate) = case.rows[row].certificate.filter(|certificate| certificate.is_ca()) else { continue };
        let bundle = case.rows[row].artifact.content().map_or(0, |content| content.certificates().count());
        if part.is_none_or(|part| part.entry.kind != Kind::Authority) || bundle < 2 {
            continue;
        }
        let has_key = matches!(case.key_of(row), KeyOf::Found(key, _) if certificate.certifies(&key.public_key));
        if !has_key && !wanted.contains(certificate.der()) {
            let message = "the bundle trusts this CA, and nothing that was read comes from it";
            let remedy = "when no other node needs it either, take it out of the bundle";
            case.add(row, FindingId::AnchorUnneeded, message, remedy);
        }
    }
}

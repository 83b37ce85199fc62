//! Did a CA that its peers trust issue it, and may that CA sign at all?

use super::case::Case;
use super::finding::FindingId;
use super::issuers::Issuance;
use super::row::Member;
use crate::pki::catalog::Kind;
use crate::pki::chain::{self, Signature};
use crate::pki::usage::KeyUsage;
use crate::snapshot::Source;

pub(super) fn check(case: &mut Case<'_, '_>) {
    for row in 0..case.rows.len() {
        issuance(case, row);
        authority(case, row);
    }
}

fn issuance(case: &mut Case<'_, '_>, row: usize) {
    // What of a kubeconfig is trusted by whom is another question, see `kubeconfig.rs`.
    let standalone = matches!(case.rows[row].member, Member::User(..)) && case.rows[row].artifact.part.is_none();
    if standalone {
        return;
    }
    let Some(certificate) = case.rows[row].certificate else { return };
    let issuer_text = if certificate.issuer().is_empty() { "an empty name" } else { certificate.issuer().text() };
    let name = |other: usize| case.rows[other].name.clone();
    let renew = case.renew(row);
    match case.issuances[row] {
        Issuance::NotAsked | Issuance::By(_) | Issuance::Itself(Signature::Good) => self_signed_leaf(case, row),
        Issuance::Itself(Signature::Bad) => {
            let message = "its own signature does not fit it: the file was damaged or altered";
            case.add(row, FindingId::SignatureBad, message, "bring the file back from a backup or from another node");
        }
        Issuance::ByOther(other) => {
            let wanted = case.rows[row].ca_name.clone().unwrap_or_default();
            let message = format!("issued by {}, but its peers trust {wanted}", name(other));
            case.add(row, FindingId::IssuerWrong, message, renew);
        }
        Issuance::Claims(other, Signature::Bad) => {
            let message = format!("says that {} issued it, but the signature is not that CA's", name(other));
            case.add(row, FindingId::SignatureBad, message, renew);
        }
        Issuance::Claims(other, _) => unsupported(case, row, &name(other)),
        Issuance::Itself(_) => unsupported(case, row, "itself"),
        Issuance::Foreign(anchor) => {
            let known = case.rows[anchor].certificate;
            let same_name = known.is_some_and(|ca| ca.subject().der() == certificate.issuer().der());
            let message = if same_name {
                format!("issued by another CA that is called {issuer_text} as well; {} did not issue it", name(anchor))
            } else {
                format!("issued by {issuer_text}, but its peers trust {}", name(anchor))
            };
            case.add(row, FindingId::IssuerUnknown, message, renew);
        }
        // Made by whoever uses it, as the kubelet's serving certificate.
        Issuance::Unseen if case.rows[row].artifact.part.is_some_and(|part| part.entry.issuer.is_none()) => {}
        Issuance::Unseen => {
            let message =
                format!("its CA, {issuer_text}, is not among the files that were read; nobody checked the chain");
            case.add(row, FindingId::IssuerNotSeen, message, "give the CA's file with --path as well");
        }
    }
}

fn unsupported(case: &mut Case<'_, '_>, row: usize, issuer: &str) {
    let algorithm = case.rows[row].certificate.map(|certificate| certificate.signature_algorithm().to_owned());
    let message = format!(
        "the signature by {issuer} is of a kind that cannot be checked here ({})",
        algorithm.unwrap_or_default()
    );
    let remedy = format!("openssl verify -partial_chain -CAfile CA {}", case.rows[row].artifact.path.display());
    case.add(row, FindingId::SignatureUnsupported, message, remedy);
}

/// A leaf that should have an issuer and signed itself.
fn self_signed_leaf(case: &mut Case<'_, '_>, row: usize) {
    if !matches!(case.issuances[row], Issuance::Itself(_)) || case.rows[row].is_authority || !case.rows[row].is_first()
    {
        return;
    }
    let expected = case.rows[row].artifact.part.is_some_and(|part| part.entry.issuer.is_some());
    let node = case.node(row);
    let ca = case.rows[row].ca_name.clone().filter(|ca| node.certificate(ca).is_some());
    if let (true, Some(ca)) = (expected, ca) {
        let renew = case.renew(row);
        case.add(row, FindingId::IssuerUnknown, format!("signed by itself, but its peers trust {ca}"), renew);
    }
}

/// RFC 5280 sections 4.2.1.3 and 4.2.1.9: what a certificate must say for its key to sign others.
fn authority(case: &mut Case<'_, '_>, row: usize) {
    let in_catalog = case.rows[row].artifact.part.is_some_and(|part| part.entry.kind == Kind::Authority);
    let Some(certificate) = case.rows[row].certificate else { return };
    if case.rows[row].artifact.source == Source::Endpoint || !case.rows[row].is_authority {
        return;
    }
    let missing = if !certificate.is_ca() {
        // A pinned leaf behind the CA is no mistake.
        if !(in_catalog && case.rows[row].is_first()) {
            return;
        }
        "basic constraints `CA:TRUE`"
    } else if certificate.key_usage().is_some_and(|usage| !usage.contains(KeyUsage::KEY_CERT_SIGN)) {
        "key usage `keyCertSign`"
    } else {
        return;
    };
    // A root of version 1, from before there were extensions, is taken as it is by OpenSSL and refused by Go.
    let message = format!("it lacks {missing}, so nothing that it signs is trusted");
    let renew = case.renew(row);
    case.add(row, FindingId::AuthorityCannotSign, message, renew);
}

/// Whether `signature` of something by something else is worth trusting; used where rules look at a single pair.
pub(super) fn is_good(
    certificate: &crate::pki::certificate::Certificate,
    issuer: &crate::pki::certificate::Certificate,
) -> bool {
    chain::issued(certificate, issuer) == Signature::Good
}

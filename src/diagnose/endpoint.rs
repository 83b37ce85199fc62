//! TLS servers: did they answer, do they name themselves rightly, and would those who trust our CAs trust them?

use std::net::IpAddr;

use super::case::Case;
use super::chain;
use super::finding::FindingId;
use super::row::{Member, Row};
use super::served;
use crate::pki::catalog::Kind;
use crate::pki::certificate::Certificate;
use crate::pki::san::San;
use crate::pki::server::Server;
use crate::snapshot::{Artifact, Source, State};

pub(super) fn check(case: &mut Case<'_, '_>) {
    for row in 0..case.rows.len() {
        if case.rows[row].artifact.source != Source::Endpoint {
            continue;
        }
        match (&case.rows[row].artifact.state, case.rows[row].member) {
            (State::Unreadable(reason), _) if case.rows[row].artifact.server.is_some() => {
                served::silent(case, row, reason);
            }
            (State::Unreadable(reason), _) => {
                let remedy = "check address and port, and whether the server runs";
                case.add(row, FindingId::EndpointUnreadable, reason.clone(), remedy);
            }
            (State::Read(_), Member::Certificate(0)) => {
                name(case, row);
                trust(case, row);
                match case.rows[row].artifact.server {
                    Some(server) => served::check(case, row, server),
                    None => differs(case, row),
                }
            }
            (State::Read(content), Member::Certificate(index)) => {
                if let Some(Err(reason)) = content.found_certificates.get(index) {
                    case.add(row, FindingId::FileMalformed, reason.clone(), "look at the server's certificate file");
                }
            }
            _ => {}
        }
    }
}

/// The name a client expects: what was asked for with `--server-name`, else the host.
fn wanted(artifact: &Artifact) -> Option<San> {
    let expected = artifact.content()?.server_name.as_deref()?;
    let bare = expected.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => Some(San::Ip(address)),
        Err(_) => Some(San::Dns(bare.trim_end_matches('.').to_owned())),
    }
}

fn name(case: &mut Case<'_, '_>, row: usize) {
    let Some(certificate) = case.rows[row].certificate else {
        let reason = "its certificate cannot be read";
        return case.add(row, FindingId::FileMalformed, reason, "look at the server's certificate file");
    };
    let Some(wanted) = wanted(case.rows[row].artifact) else { return };
    if !certificate.sans().iter().any(|own| own.covers(&wanted)) {
        let names: Vec<String> = certificate.sans().iter().map(ToString::to_string).collect();
        let names = if names.is_empty() { "none at all".to_owned() } else { names.join(", ") };
        let message = format!("its certificate does not name {wanted}, but {names}");
        let remedy = "reach it by one of those names, give --server-name, or renew it with --add-san";
        case.add(row, FindingId::ServerNameWrong, message, remedy);
    }
}

/// Whether one of the CAs found in the same run stands behind the server. Without any there is nothing to judge by.
fn trust(case: &mut Case<'_, '_>, row: usize) {
    let anchors: Vec<&Certificate> = case
        .rows
        .iter()
        .filter(|other| other.is_authority && other.artifact.source != Source::Endpoint)
        .filter_map(|other| other.certificate)
        .collect();
    let (Some(mut current), Some(content)) = (case.rows[row].certificate, case.rows[row].artifact.content()) else {
        return;
    };
    if anchors.is_empty() {
        let message = "no CA was read in this run, so nobody checked the chain";
        let remedy = "give the CA with --kubeconfig, --pki-dir or --path as well";
        return case.add(row, FindingId::IssuerNotSeen, message, remedy);
    }
    // A chain of more than a few members is a mistake, and a circle is one too.
    for _ in 0..8 {
        let issued = |issuer: &&&Certificate| chain::is_good(current, issuer);
        if anchors.iter().any(|anchor| *anchor == current || issued(&anchor)) {
            return;
        }
        let next = content.certificates().find(|member| *member != current && chain::is_good(current, member));
        let Some(next) = next else { break };
        current = next;
    }
    // Nobody gave it a certificate, so it made one: those who talk to it do not check.
    let signs_itself = case.rows[row].artifact.server.is_some_and(Server::may_sign_itself);
    let is_clusters = |other: &Row<'_>| {
        let is_authority = other.artifact.part.is_some_and(|part| part.entry.kind == Kind::Authority);
        let named = other.certificate.is_some_and(|one| one.subject().der() == current.issuer().der());
        named && (is_authority || matches!(other.member, Member::Cluster(..)))
    };
    let is_known = || case.rows.iter().any(is_clusters);
    if signs_itself && !is_known() {
        return;
    }
    let issuer = current.issuer().text();
    let message = if current.is_self_issued() {
        format!("none of the CAs that were read stands behind it; its chain ends in {issuer}, signed by itself")
    } else {
        format!("none of the CAs that were read stands behind it; its chain ends below {issuer}")
    };
    case.add(row, FindingId::IssuerUnknown, message, "restart the server, or give its CA with --path as well");
}

/// A certificate that lies renewed on the disk while the server still shows the old one.
fn differs(case: &mut Case<'_, '_>, row: usize) {
    let Some(served) = case.rows[row].certificate else { return };
    let mut renewed = None;
    for (position, other) in case.rows.iter().enumerate() {
        let Some(certificate) = other.certificate else { continue };
        if other.artifact.source == Source::Endpoint || !matches!(other.member, Member::Certificate(0)) {
            continue;
        }
        if certificate == served {
            return;
        }
        let same = certificate.subject().der() == served.subject().der()
            && certificate.issuer().der() == served.issuer().der()
            && certificate.sans() == served.sans()
            && !certificate.sans().is_empty();
        if same && certificate.not_before() > served.not_before() {
            renewed = Some(position);
        }
    }
    if let Some(disk) = renewed {
        let path = &case.rows[disk].path;
        let message = format!("it still shows serial number {}; {path} has a newer certificate", served.serial());
        case.add(row, FindingId::ServedDiffers, message, "restart the server, or wait until it rereads the file");
    }
}

//! The servers of a node: does each show what lies in its file on that node, and does it answer at all?

use super::case::Case;
use super::finding::FindingId;
use super::row::{Member, Row};
use crate::pki::server::Server;
use crate::snapshot::{Source, State};

/// Compares what `server` shows with its file, and with every other file of the node.
pub(super) fn check(case: &mut Case<'_, '_>, row: usize, server: Server) {
    let (Some(shown), node) = (case.rows[row].certificate, case.rows[row].node) else { return };
    let is_file = |other: &&Row<'_>| {
        other.node == node
            && other.artifact.source != Source::Endpoint
            && matches!(other.member, Member::Certificate(0) | Member::Whole)
    };
    let files: Vec<&Row<'_>> = case.rows.iter().filter(is_file).collect();
    // What is in memory only cannot be compared. With flags of its own a server may show any file of the node.
    if server.shows().is_empty() || files.iter().any(|file| file.certificate == Some(shown)) {
        return;
    }
    let mut ids = server.shows().iter();
    let file = ids.find_map(|id| files.iter().find(|file| file.id() == Some(id)));
    let (program, place) = (server.program(), case.rows[row].node_name);
    let Some(file) = file.filter(|file| !file.is_missing()) else {
        let is_own = server.may_sign_itself() && shown.is_self_issued();
        if !is_own && case.node(row).facts.is_some() {
            let message = format!(
                "{program} on node {place} shows serial number {}, which is in no file that was read there",
                shown.serial()
            );
            let remedy = "look at its flags for the file, and bring that back: it is needed at the next start";
            case.add(row, FindingId::ServedNotOnDisk, message, remedy);
        }
        return;
    };
    // A file that cannot be read has findings of its own.
    let Some(on_disk) = file.certificate else { return };
    let what = if on_disk.not_before() > shown.not_before() { "still shows" } else { "shows" };
    let renewed = if on_disk.not_before() > shown.not_before() { "was renewed and has" } else { "has" };
    let message = format!(
        "{program} on node {place} {what} serial number {}; {} {renewed} {}",
        shown.serial(),
        file.path,
        on_disk.serial()
    );
    let remedy = format!("restart {program} on node {place}, unless it rereads the file within a minute");
    case.add(row, FindingId::ServedDiffers, message, remedy);
}

/// A server that should run and shows nothing.
pub(super) fn silent(case: &mut Case<'_, '_>, row: usize, reason: &str) {
    let Some(server) = case.rows[row].artifact.server else { return };
    let (program, place) = (server.program(), case.rows[row].node_name);
    let message = format!("{program} should run on node {place} and shows no certificate: {reason}");
    let waits = server == Server::Kubelet && reason.contains("refused the handshake");
    let remedy = match server {
        _ if waits => "`kubectl get csr` shows whether its request waits; `kubectl certificate approve NAME` signs it",
        Server::Kubelet => "journalctl -u kubelet, on that node",
        _ => "crictl ps -a and crictl logs, on that node",
    };
    debug_assert!(matches!(case.rows[row].artifact.state, State::Unreadable(_)));
    case.add(row, FindingId::ServerSilent, message, remedy);
}

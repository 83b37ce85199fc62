//! The kubelet's own store: its `current` files must be symbolic links (client-go `certificate_store.go`).

use super::case::Case;
use super::finding::FindingId;
use crate::pki::catalog::Catalog;
use crate::snapshot::State;

pub(super) fn check(case: &mut Case<'_, '_>) {
    for row in 0..case.rows.len() {
        let artifact = case.rows[row].artifact;
        let Some(part) = artifact.part.filter(|part| part.catalog == Catalog::Kubelet) else { continue };
        let is_current = part.entry.path.ends_with("-current.pem");
        if is_current
            && case.rows[row].is_first()
            && artifact.link.is_none()
            && matches!(artifact.state, State::Read(_))
        {
            let path = artifact.path.display();
            let message = format!("{path} is a plain file, not a symbolic link: the kubelet cannot replace it");
            let remedy = case.command("repair-certs --fix-kubelet-credentials");
            case.add(row, FindingId::KubeletCurrentNotALink, message, remedy);
        }
    }
}

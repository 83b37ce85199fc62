//! What becomes of etcd's revocation lists when its CA is replaced: in the step in which only the new CA is left, they are
//! signed by that one, and empty, for whatever the old one had issued is refused anyway.
//!
//! Until then the old lists stay: etcd reads only serial numbers, so it does not matter who has signed them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use time::{Duration, OffsetDateTime};

use super::{Existing, Seat, etcd, planned};
use crate::pki::crl::{self, RevocationList};
use crate::plan::blueprint::{Blueprint, CertificateRef, FileContent};

/// For how long others believe in the new list.
const VALIDITY: Duration = Duration::days(365);

/// Adds the lists to a rotation, wherever there are any and etcd's CA gets another key. `files` is what is there now.
pub fn follow(
    blueprint: &mut Blueprint,
    seats: &[Seat],
    files: &BTreeMap<(String, PathBuf), Existing>,
    now: OffsetDateTime,
) {
    for node in &mut blueprint.nodes {
        let Some(seat) = seats.iter().find(|seat| seat.node == node.node) else { continue };
        let bundle = seat.pki_dir.join("etcd/ca.crt");
        let Some(place) = node.files.iter().rposition(|file| file.path == bundle) else { continue };
        let Some(FileContent::Certificates(references)) = &node.files[place].content else { continue };
        // In the end one is left, and it is new.
        let [CertificateRef::Planned(id)] = references.as_slice() else { continue };
        let id = id.clone();
        let Some(certificate) = blueprint.certificates.iter().find(|plan| plan.id == id) else { continue };
        let is_new = blueprint
            .keys
            .iter()
            .any(|key| key.id == certificate.key && matches!(key.source, crate::plan::blueprint::KeySource::New(_)));
        if !is_new {
            continue;
        }
        let step = node.files[place].step;
        let existing: Vec<(PathBuf, &Existing)> = etcd::reads(seat)
            .into_iter()
            .filter_map(|path| Some((path.clone(), files.get(&(seat.node.clone(), path))?)))
            .collect();
        let number = existing.iter().filter_map(|(_, file)| crl::read(&file.bytes).ok()).map(|list| list.number).max();
        let list = RevocationList {
            number: number.unwrap_or_default() + 1,
            this_update: now,
            next_update: (now + VALIDITY).min(certificate.not_after),
            entries: Vec::new(),
        };
        for (path, file) in existing {
            let content = FileContent::RevocationList {
                list: Box::new(list.clone()),
                authority: CertificateRef::Planned(id.clone()),
                key: certificate.key.clone(),
                pem: path.extension().is_some_and(|ending| ending == "pem"),
            };
            let mut planned = planned(path, content, 0o644, Some(file.sha256.clone()));
            planned.step = step;
            node.files.insert(place + 1, planned);
        }
    }
}

//! The kubelet's own certificates, which it keeps in dated files behind a link (Kubernetes:
//! `client-go/util/certificate/certificate_store.go`): as a client, and as a server where it asks the cluster for one.
//!
//! Renewing them is the kubelet's business. Only when their authority is replaced there is nobody left to ask: then they get
//! a new dated file, and the link is moved to it, exactly as the kubelet would have done.

use std::path::{Path, PathBuf};

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

use super::files::created;
use super::held::Held;
use crate::pki::catalog::Catalog;
use crate::plan::blueprint::{FileContent, PlannedFile};
use crate::plan::operation::FileAction;

/// Links to current certificates, by the ids of their entries.
const CURRENT: [&str; 2] = ["kubelet-client", "kubelet-server"];

const STAMP: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]-[hour]-[minute]-[second]");

/// The date in the name of a dated file of the kind `id`.
fn date_of(id: &str, name: &str) -> Option<OffsetDateTime> {
    let stamp = name.strip_prefix(id)?.strip_prefix('-')?.strip_suffix(".pem")?;
    PrimitiveDateTime::parse(stamp, STAMP).ok().map(PrimitiveDateTime::assume_utc)
}

/// The date of a new file. Kubelets write local time: it has to be the later one wherever the node is, and never the old
/// one.
fn date_after(last: Option<OffsetDateTime>, now: OffsetDateTime) -> OffsetDateTime {
    // Nothing is later than the last second of all; then only another name matters.
    last.and_then(|last| last.checked_add(Duration::seconds(1))).map_or(now, |next| now.max(next))
}

/// Whether `file` is the kubelet's link to one of its current certificates.
pub(super) fn is_current(file: &Held<'_>) -> bool {
    file.part.is_some_and(|part| part.catalog == Catalog::Kubelet && CURRENT.contains(&part.entry.id))
}

/// The dated file that takes the place of `old` behind the link `current` of the kind `id`.
pub(in crate::plan) fn dated_path(current: &Path, id: &str, old: Option<&Path>, now: OffsetDateTime) -> PathBuf {
    let last = old.and_then(|link| date_of(id, link.file_name()?.to_str()?));
    let date = date_after(last, now);
    let stamp = date.format(STAMP).unwrap_or_else(|_| date.unix_timestamp().to_string());
    current.with_file_name(format!("{id}-{stamp}.pem"))
}

/// A new dated file with what `planned` was to hold, then the link to it. The dated files before stay, as they do when the
/// kubelet renews.
pub(super) fn dated(file: &Held<'_>, planned: PlannedFile, now: OffsetDateTime) -> Vec<((u8, usize, u8), PlannedFile)> {
    let id = file.part.map_or(CURRENT[0], |part| part.entry.id);
    let target = dated_path(file.path, id, file.link, now);
    let Some(content) = planned.content else { return Vec::new() };
    let new = PlannedFile {
        old_serial_number: planned.old_serial_number,
        not_after: planned.not_after,
        ..created(target.clone(), planned.name.clone(), content)
    };
    let link = PlannedFile {
        path: planned.path,
        step: 0,
        name: planned.name,
        action: FileAction::Replaced,
        content: Some(FileContent::Link { target, was: file.link.map(Into::into) }),
        mode: planned.mode,
        seen: planned.seen,
        old_serial_number: None,
        not_after: None,
    };
    vec![((5, 0, 0), new), ((5, 0, 1), link)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_new_file_is_the_later_one_and_never_the_old_one() {
        let now = datetime!(2026-01-02 03:04:05 UTC);
        let date = |name: &str| date_after(date_of("kubelet-client", name), now);
        assert_eq!(date("kubelet-client-2025-12-31-00-00-00.pem"), now);
        assert_eq!(date("kubelet-client-2026-01-02-05-00-00.pem"), datetime!(2026-01-02 05:00:01 UTC));
        for odd in ["kubelet-client-9999-12-31-23-59-59.pem", "kubelet-client-99999-12-31-23-59-59.pem", "other.pem"] {
            assert_eq!(date(odd), now, "{odd}");
        }
    }
}

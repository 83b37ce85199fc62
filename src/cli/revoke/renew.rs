//! `--renew`: what is in use and would be revoked gets new certificates first.

use crate::cli::change::ChangeArgs;
use crate::cli::session::Session;
use crate::cli::target::TargetArgs;
use crate::cli::{rotate_certs, rotation};
use crate::diagnose::Row;
use crate::error::Failure;
use crate::pki::revocation::Revocation;
use crate::plan::revoke::Case;
use crate::plan::rotate::COMMAND;
use crate::report::Format;

/// A kubelet's own client certificate. It renews that by itself in its time, but not for this.
const OF_KUBELETS: [&str; 2] = ["kubelet-client", "kubelet.conf"];

/// Absolute paths of the files whose certificates this run would revoke and kubepki can renew.
pub(super) fn paths(case: &Case<'_>, rows: &[Row<'_>]) -> Vec<String> {
    let hit: Vec<&str> = case.hit().map(|known| known.issued.sha256.as_str()).collect();
    let is_hit = |row: &Row<'_>| row.certificate.is_some_and(|one| hit.contains(&one.fingerprint_hex().as_str()));
    let mut paths: Vec<String> = rows
        .iter()
        .filter(|row| row.managed || row.id().is_some_and(|id| OF_KUBELETS.contains(&id)))
        .filter(|row| row.is_first() && is_hit(row))
        .map(|row| row.file().display().to_string())
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Renews them, as `rotate-certs --only` does; nothing that `new` will revoke is issued.
///
/// # Errors
/// As `rotate-certs`; nothing is revoked then.
pub(super) fn renew(
    target: &TargetArgs,
    paths: &[String],
    new: Vec<Revocation>,
    session: &mut Session,
) -> anyhow::Result<()> {
    let only = paths.iter().flat_map(|path| ["--only".to_owned(), path.clone()]);
    let words: Vec<String> = std::iter::once(COMMAND.to_owned()).chain(only).collect();
    let asked = rotation(&words).ok_or_else(|| Failure::failed("these files cannot be renewed by their names"))?;
    let asked = asked.on(target.clone(), ChangeArgs { yes: true, ..ChangeArgs::default() });
    session.ui.status("renewing what is in use and will be revoked");
    // The result of the whole run is that of the revocation.
    let (format, query) = (std::mem::replace(&mut session.ui.format, Format::None), session.ui.query.take());
    session.upcoming = new;
    let done = rotate_certs::run(&asked, session);
    session.upcoming.clear();
    (session.ui.format, session.ui.query) = (format, query);
    done.map(|_| ())
}

//! A copy of etcd's data before the first round, beside the copies of the files.

use std::time::Duration;

use super::round::{Round, Seat};
use crate::live::component::Component;
use crate::live::credential::Credential;
use crate::live::etcd::Etcd;
use crate::node::http::Limits;
use crate::node::{Content, Effect};

/// For the whole copy. A database that takes longer, or is larger, is for etcd's own tools.
const LIMITS: Limits = Limits { time: Duration::from_secs(300), size: 1024 * 1024 * 1024 };

/// Saves etcd's data on the first node that has a member. That it cannot be saved is told and is no error: nothing of what
/// follows writes to etcd's files.
pub(super) fn save(round: &Round<'_>) {
    let Some(seat) = round.members().next() else { return };
    let (name, ui) = (seat.name(), &round.session.ui);
    ui.step(&format!("{name}: saving a snapshot of etcd"));
    match copy(round, seat) {
        Ok(place) => ui.status(&format!("{name}: a snapshot of etcd is in {place}")),
        Err(reason) => ui.warning(&format!(
            "{name}: etcd's data is not saved: {reason}; `etcdctl snapshot save` does that (nothing of a rotation changes it)"
        )),
    }
}

fn copy(round: &Round<'_>, seat: &Seat<'_>) -> Result<String, String> {
    let node = &seat.node.node;
    let folder = seat.node.layout.pki_dir.join("etcd");
    let credential = Credential::read_pair(&**node, &folder.join("healthcheck-client"), &folder.join("ca.crt"))?;
    let endpoint = seat.endpoint(Component::Etcd).ok_or("there is no etcd on this node")?;
    let etcd = Etcd::new(&**node, endpoint.clone(), &credential, LIMITS)?;
    let database = etcd.snapshot(LIMITS).map_err(|error| error.to_string())?;
    let (_, journal) = round.legs.first().ok_or("there is no operation")?;
    let path = seat.node.layout.state_dir().join(&journal.operation.id).join("backup/etcd-snapshot.db");
    let content = Content::Bytes(&database);
    let written = node.apply(&Effect::Install { path: &path, content, mode: 0o600, owner: None });
    written.map(|()| path.display().to_string()).map_err(|error| format!("{error:#}"))
}

//! The person's side: which kubeconfig, whose name, where copies go, what is on their `PATH`.
//!
//! kubectl's rules for the file, not az's: a list in `KUBECONFIG` means its first existing file, else its last one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::macros::format_description;

use crate::cli::session::home;
use crate::error::Failure;
use crate::node::local::LocalNode;
use crate::node::{FoundState, LockOwner, Node, Query};

/// The kubeconfig to write: `given`, else by `KUBECONFIG`, else `~/.kube/config`.
pub(super) fn chosen(given: Option<&Path>, node: &LocalNode) -> anyhow::Result<PathBuf> {
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())));
    if let Some(given) = given {
        return Ok(absolute(given)?);
    }
    let list = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let listed: Vec<PathBuf> = std::env::split_paths(&list)
        .filter(|path| path != Path::new(""))
        .map(|path| absolute(&path))
        .collect::<Result<_, _>>()?;
    let queries: Vec<Query> = listed.iter().cloned().map(Query::Metadata).collect();
    let found = node.read(&queries)?;
    let first = found.into_iter().find(|found| !matches!(found.state, FoundState::Missing)).map(|found| found.path);
    if let Some(file) = first.or_else(|| listed.into_iter().next_back()) {
        return Ok(file);
    }
    let home =
        home().ok_or_else(|| Failure::usage("HOME is not set, so there is no ~/.kube/config").hint("--file FILE"))?;
    Ok(home.join(".kube/config"))
}

/// Where the copy of a kubeconfig goes that is changed at `now`; nothing when there is no home.
pub(super) fn backup(now: OffsetDateTime) -> Option<PathBuf> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let stamp = now.format(format).ok()?;
    Some(home()?.join(format!(".kubepki/backups/kubeconfig-{stamp}-{}", std::process::id())))
}

/// The name of the person at work: behind sudo the one who typed it.
pub(super) fn operator(node: &LocalNode) -> String {
    let uid = rustix::process::geteuid();
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let behind_sudo = if uid.is_root() { variable("SUDO_USER") } else { None };
    let named = behind_sudo.or_else(|| variable("LOGNAME")).or_else(|| variable("USER"));
    named.or_else(|| listed_user(node, uid.as_raw())).unwrap_or_else(|| format!("uid-{}", uid.as_raw()))
}

/// The user name of `uid` in `/etc/passwd` (passwd(5)).
fn listed_user(node: &LocalNode, uid: u32) -> Option<String> {
    let found = node.read(&[Query::File("/etc/passwd".into())]).ok()?;
    let FoundState::File(content) = &found.first()?.state else { return None };
    let text = String::from_utf8_lossy(content);
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(uid) && !name.is_empty()).then(|| name.to_owned())
    })
}

/// Who holds the lock.
pub(super) fn lock_owner(operator: &str, now: OffsetDateTime) -> LockOwner {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    LockOwner {
        command: "get-credentials".to_owned(),
        who: format!("{operator}@{host}"),
        pid: std::process::id(),
        since: now,
    }
}

/// Whether a program can be started by its name.
pub(super) fn is_on_path(program: &str) -> anyhow::Result<bool> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places =
        std::env::split_paths(&path).filter(|folder| folder.is_absolute() && folder.as_os_str() != OsStr::new("/"));
    let queries: Vec<Query> = places.map(|folder| Query::Metadata(folder.join(program))).collect();
    let found = LocalNode::open("local", "/")?.read(&queries)?;
    Ok(found.iter().any(|found| {
        matches!(found.state, FoundState::Unread) && found.metadata.as_ref().is_some_and(|file| file.mode & 0o111 != 0)
    }))
}

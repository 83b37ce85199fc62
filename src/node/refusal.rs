//! What a change refuses and how it fails, in the same words wherever the node is.

use std::fmt::Write as _;
use std::path::Path;

use time::format_description::well_known::Rfc3339;

use super::LockOwner;
use crate::error::Failure;

/// A change of one path on one node.
#[derive(Clone, Copy)]
pub(super) struct Refusal<'a> {
    /// The node's name.
    pub(super) node: &'a str,
    pub(super) path: &'a Path,
}

impl Refusal<'_> {
    /// `cannot …` with the system's reason; `is_full` when there is no room.
    pub(super) fn failed(&self, what: &str, reason: &str, is_full: bool) -> anyhow::Error {
        let failure = Failure::failed(format!("{}: {what} {}: {reason}", self.node, self.path.display()));
        let room = "free some space on that file system and run the command again";
        if is_full { failure.hint(room).into() } else { failure.into() }
    }

    /// The path cannot name a file.
    pub(super) fn not_a_file(&self) -> anyhow::Error {
        Failure::failed(format!("{}: {} is not the absolute path of a file", self.node, self.path.display())).into()
    }

    /// Somebody who is not trusted owns a link on the way.
    pub(super) fn link(&self, link: &Path, uid: u32) -> anyhow::Error {
        let way = if link == self.path { String::new() } else { format!(" on the way to {}", self.path.display()) };
        Failure::failed(format!(
            "{}: will not write through the symbolic link {}{way}: it belongs to user {uid}, who could point it \
             elsewhere",
            self.node,
            link.display(),
        ))
        .hint(format!("give the link to root (chown -h root {}) or name the file it points to", link.display()))
        .into()
    }

    /// What is there is no file.
    pub(super) fn irregular(&self) -> anyhow::Error {
        Failure::failed(format!("{}: will not replace {}: it is not a regular file", self.node, self.path.display()))
            .into()
    }

    /// A link leads to a file of somebody who is not trusted.
    pub(super) fn behind_link(&self, uid: u32) -> anyhow::Error {
        Failure::failed(format!(
            "{}: will not write through the symbolic link {}: the file it leads to belongs to user {uid}",
            self.node,
            self.path.display(),
        ))
        .hint("name the file itself instead of the link, or correct the link")
        .into()
    }

    /// Everybody may rename files in the folder of a private file.
    pub(super) fn open_folder(&self) -> anyhow::Error {
        let shown = self.folder().display();
        Failure::failed(format!(
            "{}: will not write the private file {}: everybody may rename files in {shown}",
            self.node,
            self.path.display()
        ))
        .hint(format!("chmod o-w {shown}"))
        .into()
    }

    /// The folder of a private file belongs to somebody who is not trusted.
    pub(super) fn foreign_folder(&self, uid: u32) -> anyhow::Error {
        let shown = self.folder().display();
        Failure::failed(format!(
            "{}: will not write the private file {}: {shown} belongs to user {uid}",
            self.node,
            self.path.display(),
        ))
        .hint(format!("chown root {shown}, or run the command as that user"))
        .into()
    }

    /// The file to be copied cannot be.
    pub(super) fn cannot_copy(&self, reason: &str) -> anyhow::Error {
        Failure::failed(format!("{}: cannot copy {}: {reason}", self.node, self.path.display())).into()
    }

    /// Something else is where a folder should be.
    pub(super) fn in_the_way(&self) -> anyhow::Error {
        Failure::failed(format!("{}: {} is in the way: it is not a folder", self.node, self.path.display())).into()
    }

    /// Only kubepki's own folders are removed with everything in them.
    pub(super) fn not_our_own(&self) -> anyhow::Error {
        Failure::failed(format!("{}: will not remove {}: it is not kubepki's own", self.node, self.path.display()))
            .into()
    }

    /// What is where the lock should be was not made by kubepki.
    pub(super) fn foreign_lock(&self, reason: &str) -> anyhow::Error {
        Failure::failed(format!("{}: cannot lock {}: {reason}", self.node, self.path.display()))
            .hint(format!("remove {}: kubepki did not make it", self.path.display()))
            .into()
    }

    /// Somebody else holds the lock; `text` is what is written in it.
    pub(super) fn held(&self, text: &[u8], asking: &LockOwner) -> anyhow::Error {
        let Ok(holder) = serde_json::from_slice::<Holder>(text) else {
            let message = format!("{}: another kubepki has just started here ({})", self.node, self.path.display());
            let hint = "wait until it has ended, then run the command again";
            return Failure::failed(message).hint(hint).passing().into();
        };
        let Holder { owner, holder } = holder;
        let since = owner.since.format(&Rfc3339).unwrap_or_default();
        let mut message = format!("{}: kubepki {} is already running here, started", self.node, owner.command);
        let _ = write!(message, " by {} (process {}) at {since}", owner.who, owner.pid);
        if let Some(age) = age(asking.since - owner.since) {
            let _ = write!(message, ", {age} ago");
        }
        let _ = write!(message, "; it holds the lock {}", self.path.display());
        let mut hint =
            format!("wait until it has ended, or end process {} of {}: its lock goes with it", owner.pid, owner.who);
        if let Some(holder) = holder {
            let _ = write!(
                hint,
                ", within minutes also when that machine has vanished (at once: kill {holder} on the node)"
            );
        }
        Failure::failed(message).hint(hint).passing().into()
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }
}

/// What a lock file says. A lock that is held over a network names the process that holds it here.
#[derive(serde::Deserialize)]
struct Holder {
    #[serde(flatten)]
    owner: LockOwner,
    holder: Option<u32>,
}

/// A span in its largest whole unit; `None` when the clocks contradict each other.
fn age(span: time::Duration) -> Option<String> {
    let units = [(span.whole_days(), "d"), (span.whole_hours(), "h"), (span.whole_minutes(), "min")];
    if span.is_negative() {
        return None;
    }
    let larger = units.into_iter().find(|(count, _)| *count > 0);
    let (count, unit) = larger.unwrap_or((span.whole_seconds(), "s"));
    Some(format!("{count} {unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        use time::Duration;
        assert_eq!(age(Duration::seconds(59)).as_deref(), Some("59 s"));
        assert_eq!(age(Duration::seconds(60)).as_deref(), Some("1 min"));
        assert_eq!(age(Duration::hours(25)).as_deref(), Some("1 d"));
        assert_eq!(age(Duration::seconds(-1)), None);
    }
}

//! What a transaction is asked to do: files of one node, in order, as bytes.
//!
//! Nothing here knows what the bytes are. A key stands right before its certificate, so that the time in which the two
//! do not match is as short as it can be.

use std::fmt;
use std::path::PathBuf;

use aws_lc_rs::{digest, rand};
use time::OffsetDateTime;
use time::macros::format_description;
use zeroize::Zeroizing;

use crate::error::Failure;
use crate::node::Owner;
use crate::pki::hex;
use crate::plan::operation::{FileReport, Operation};
use crate::plan::phase::Step;

/// A transaction on one node.
#[derive(Debug)]
pub struct Request {
    /// Id, command, phases, next steps. Its report of this node may already list files that stay as they are; those
    /// that change are added, or replaced where they are listed.
    pub operation: Operation,
    /// The changes in the order in which they happen.
    pub changes: Vec<Change>,
    /// Permission bits of folders that do not exist yet.
    pub directory_mode: u32,
    /// Paths whose change restarts something; they stand last.
    pub restarting: Vec<String>,
    /// The node's steps; none when all changes are one.
    pub steps: Vec<Step>,
    /// What was asked for, for an operation over several nodes; see [`super::journal::Journal::words`].
    pub words: Vec<String>,
}

/// One file's change.
#[derive(Debug)]
pub struct Change {
    /// The file as the result shows it; its path is the one that changes.
    pub report: FileReport,
    /// What is done.
    pub kind: ChangeKind,
    /// The place of its step among the request's; changes stand in the order of their steps.
    pub step: usize,
    /// What the plan saw there, for the first change of a path. Anything else there now stops the transaction before it begins.
    pub expected: Expected,
}

/// What is done with a file.
pub enum ChangeKind {
    /// It gets this content; a symbolic link there is followed.
    Write {
        /// The whole content.
        content: Zeroizing<Vec<u8>>,
        /// Its permission bits.
        mode: FileMode,
        /// Its owner; `None` leaves a file that exists with the owner it has, and gives a new one to the caller.
        owner: Option<Owner>,
    },
    /// It becomes a symbolic link.
    Link {
        /// What the link says.
        target: PathBuf,
    },
    /// It goes; of a symbolic link only the link.
    Remove,
}

impl fmt::Debug for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { content, mode, owner } => {
                write!(f, "Write({} bytes, {mode:?}, {owner:?})", content.len())
            }
            Self::Link { target } => write!(f, "Link({})", target.display()),
            Self::Remove => f.write_str("Remove"),
        }
    }
}

/// Permission bits of a written file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMode {
    /// Those of the file that is there; these for a new one.
    KeepOr(u32),
    /// These, whatever is there.
    Exactly(u32),
}

/// What a plan saw at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Absent,
    /// A file whose content has this SHA-256, lower-case hex; links followed.
    Sha256(String),
    /// A symbolic link that says this.
    LinkTo(PathBuf),
    /// Whatever there is.
    Anything,
}

/// The SHA-256 of a content in lower-case hex, as plans and journals have it.
pub fn sha256(content: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, content).as_ref())
}

/// A fresh operation id: the time to the second and four random bytes, `20260102T030405Z-1f2e3d4c`. Ids sort by time.
///
/// # Errors
/// When the system gives no random numbers.
pub fn operation_id(now: OffsetDateTime) -> anyhow::Result<String> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let mut random = [0; 4];
    rand::fill(&mut random).map_err(|_| Failure::failed("the system gives no random numbers"))?;
    Ok(format!("{}-{}", now.to_offset(time::UtcOffset::UTC).format(format)?, hex(&random)))
}

/// Whether a name is an operation's id: then a folder of that name is one of ours.
pub(super) fn is_operation_id(name: &str) -> bool {
    let digits = |range| name.get(range).is_some_and(|part: &str| part.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() == 25
        && digits(0..8)
        && digits(9..15)
        && name.get(8..9) == Some("T")
        && name.get(15..17) == Some("Z-")
        && name.get(17..).is_some_and(|part| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn ids_carry_the_time_and_are_recognised() {
        let id = operation_id(datetime!(2026-01-02 05:04:05 +02:00)).expect("random numbers");
        assert!(id.starts_with("20260102T030405Z-"), "{id}");
        assert!(is_operation_id(&id), "{id}");
        assert_ne!(id, operation_id(datetime!(2026-01-02 05:04:05 +02:00)).expect("random numbers"));
        for name in ["", "lock", "20260102T030405Z", "20260102T030405Z-1F2E3D4C", "20260102T030405Z-1f2e3d4c5", "../.."]
        {
            assert!(!is_operation_id(name), "{name}");
        }
    }

    #[test]
    fn content_does_not_show_in_debug_text() {
        let kind = ChangeKind::Write {
            content: Zeroizing::new(b"secret".to_vec()),
            mode: FileMode::Exactly(0o600),
            owner: None,
        };
        assert_eq!(format!("{kind:?}"), "Write(6 bytes, Exactly(384), None)");
    }
}

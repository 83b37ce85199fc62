//! The journal of one operation on one node: what was there, what is to be there, file by file.
//!
//! It is written when everything is staged and backed up and nothing has changed yet: from then on the operation can
//! be finished or taken back, whatever happens. It holds hashes, never content. Its last line is the SHA-256 of all
//! lines before, because a journal that is acted upon must not be half of one.

use anyhow::anyhow;
use serde::{Deserialize, Serialize};

use super::change::sha256;
use crate::plan::operation::{Operation, ProvisioningState};
use crate::plan::phase::Step;

const API_VERSION: &str = "kubepki.io/v1";
const KIND: &str = "Journal";
const CHECKSUM: &str = "  \"checksum\": \"";

/// Everything needed to finish an operation on one node, or to take it back.
///
/// Unknown fields at this level are ignored, so that later versions may add to the story; in [`Entry`] and
/// [`FileState`] they are refused, because there they would change what has to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// `kubepki.io/v1`.
    pub api_version: String,
    /// `Journal`.
    pub kind: String,
    /// The node whose files these are.
    pub node: String,
    /// The operation as it is shown.
    pub operation: Operation,
    /// Folders that the operation makes, outermost first.
    pub directories: Vec<String>,
    /// Permission bits of those folders.
    #[serde(with = "octal")]
    pub directory_mode: u32,
    /// The changes in order. Copies are named after their place here, from `0001`.
    pub changes: Vec<Entry>,
    /// Paths whose change restarts something: they come last on the way back, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarting: Vec<String>,
    /// The steps in order; none when all changes are one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// How many steps are done and proven. The changes of the next one may be half made; those of later ones are not begun.
    #[serde(default)]
    pub done: usize,
    /// Whether the next step has begun, or has been taken back without a proof that the node is well since. Journals that
    /// do not say so may have.
    #[serde(default = "yes")]
    pub begun: bool,
    /// The words after the command's name, for an operation over several nodes: what was asked for. Nothing secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
}

/// One file's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Absolute path on the node.
    pub path: String,
    /// The place of its step among the journal's. A path may change in several steps, each from what the one before left.
    #[serde(default)]
    pub step: usize,
    /// What was there.
    pub before: FileState,
    /// What will be there.
    pub after: FileState,
}

/// What is at a path, as far as it decides what has to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", deny_unknown_fields)]
pub enum FileState {
    /// Nothing.
    Absent,
    /// A regular file, perhaps behind a symbolic link.
    File {
        /// SHA-256 of its content, lower-case hex.
        sha256: String,
        /// Permission bits.
        #[serde(with = "octal")]
        mode: u32,
        /// Owner; absent where a new file is the caller's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        /// Group; absent where a new file is the caller's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    },
    /// A symbolic link.
    Link {
        /// What it says.
        target: String,
    },
}

impl FileState {
    /// The content's hash, of a file.
    pub(super) fn sha256(&self) -> Option<&str> {
        match self {
            Self::File { sha256, .. } => Some(sha256),
            Self::Absent | Self::Link { .. } => None,
        }
    }
}

impl Journal {
    /// A journal of what is about to happen.
    pub(super) fn new(node: &str, operation: Operation, directory_mode: u32) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            node: node.to_owned(),
            operation,
            directories: Vec::new(),
            directory_mode,
            changes: Vec::new(),
            restarting: Vec::new(),
            steps: Vec::new(),
            done: 0,
            begun: false,
            words: Vec::new(),
        }
    }

    /// Whether the operation has ended, one way or the other.
    pub fn is_finished(&self) -> bool {
        match self.operation.provisioning_state {
            ProvisioningState::Succeeded | ProvisioningState::Canceled => true,
            ProvisioningState::Planned | ProvisioningState::CertificateRotating | ProvisioningState::Failed => false,
        }
    }

    /// The journal as it is written to disk.
    ///
    /// # Errors
    /// Never, as long as all its fields can be written as JSON.
    pub fn to_text(&self) -> anyhow::Result<String> {
        let text = serde_json::to_string_pretty(self)?;
        let body = text.strip_suffix("\n}").ok_or_else(|| anyhow!("a journal is not one JSON object"))?;
        let body = format!("{body},\n");
        let checksum = sha256(body.as_bytes());
        Ok(format!("{body}{CHECKSUM}{checksum}\"\n}}\n"))
    }

    /// Reads a journal.
    ///
    /// # Errors
    /// When it is damaged, or written by a version whose journals mean something else.
    pub fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(text).map_err(|_| anyhow!("it is not UTF-8 text"))?;
        let (body, end) = text.rsplit_once(CHECKSUM).ok_or_else(|| anyhow!("its end is missing"))?;
        let checksum = end.trim_end().strip_suffix('}').and_then(|end| end.trim_end().strip_suffix('"'));
        if checksum != Some(sha256(body.as_bytes()).as_str()) {
            return Err(anyhow!("it does not match its checksum"));
        }
        // The version first: a later one may not have the fields that are read below.
        let kind: Kind = serde_json::from_str(text)?;
        if kind.api_version != API_VERSION || kind.kind != KIND {
            return Err(anyhow!("it is a {} of {}, not a {KIND} of {API_VERSION}", kind.kind, kind.api_version));
        }
        let journal: Self = serde_json::from_str(text)?;
        journal.misfit().map_or(Ok(journal), |reason| Err(anyhow!(reason)))
    }
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    api_version: String,
    kind: String,
}

/// Permission bits as people write them, `"0600"`.
mod octal {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{mode:04o}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
        mode.ok_or_else(|| D::Error::custom(format!("{text:?} are no permission bits")))
    }
}

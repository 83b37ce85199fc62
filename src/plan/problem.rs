//! What is in the way of a plan, and what can be done about it.

use std::fmt;
use std::path::PathBuf;

/// One file that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The node it is on.
    pub node: String,
    /// The file.
    pub path: PathBuf,
    /// Name of the entry it belongs to.
    pub name: String,
    /// What is wrong with it.
    pub words: Vec<String>,
    /// What can be done.
    pub remedy: Remedy,
}

/// What can be done about a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// `--force` replaces it.
    Force,
    /// `--force` replaces it when it is named, because much hangs on it: a CA, or the key of all tokens.
    ForceByName {
        /// What else has to be known before.
        instead: String,
    },
    /// Only people can tell.
    ByHand(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}: {}", self.node, self.path.display(), self.name, self.words.join("; "))
    }
}

impl Problem {
    /// The next step.
    pub fn hint(&self) -> String {
        match &self.remedy {
            Remedy::Force => "--force replaces what differs, and keeps a backup; --what-if --force shows it".to_owned(),
            Remedy::ForceByName { instead } => {
                format!("{instead}, or make it anew with everything that hangs on it: --force --only {}", self.name)
            }
            Remedy::ByHand(text) => text.clone(),
        }
    }
}

//! What running components say, asked over the wire: the API server, etcd, the kubelet and the rest, each as its own node
//! reaches it.
//!
//! Values in, values out. Every request has a limit, every wait a deadline, and both come from the caller; nothing here
//! judges what an answer means for an operation.

use crate::node::http::Unanswered;

pub mod aggregation;
pub mod api_server;
pub mod authority_set;
pub mod availability;
pub mod client_lives;
pub mod cluster;
pub mod cluster_info;
pub mod component;
pub mod credential;
pub mod enforcement;
pub mod etcd;
pub mod etcd_snapshot;
pub mod holders;
pub mod inventory;
pub mod issued;
mod list;
pub mod places;
pub mod proof;
pub mod revocation_objects;
pub mod signing;
pub mod token_holders;
pub mod tokens;
pub mod trust_copies;
pub mod wait;

/// The longest text of a server that is passed on (characters).
const LONGEST_TEXT: usize = 400;

/// Why a question to a component was not answered with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing, or nothing whole, came back.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// A status other than success.
    #[error("{}", status_words(*status, reason, message))]
    Status {
        /// The HTTP status, 300 to 599.
        status: u16,
        /// One word, as `NotFound`; may be empty.
        reason: String,
        /// The server's own sentence.
        message: String,
    },
    /// Success, but not with what the API promises.
    #[error("its answer makes no sense: {0}")]
    Malformed(String),
}

impl NoAnswer {
    /// The HTTP status, when there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the server does not know who we are: the credential is of no use there.
    pub fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Unanswered(Unanswered::Refused(_))) || self.status() == Some(401)
    }

    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }
}

fn status_words(status: u16, reason: &str, message: &str) -> String {
    match (reason, message) {
        ("", "") => format!("HTTP status {status}"),
        ("", message) => format!("{message} (HTTP status {status})"),
        (reason, "") => format!("{reason} (HTTP status {status})"),
        (reason, message) => format!("{message} ({status} {reason})"),
    }
}

/// A text from outside on one line and of a sensible length.
fn tidy(text: &str) -> String {
    let line: Vec<&str> = text.split(|letter: char| letter.is_control()).map(str::trim).collect();
    let line = line.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    if line.chars().count() <= LONGEST_TEXT {
        return line;
    }
    line.chars().take(LONGEST_TEXT).chain("…".chars()).collect()
}

//! What can go wrong with a connection, sorted by what it means for the caller.

use std::time::Duration;

/// Session error codes of libssh2 (`libssh2.h`) that somebody branches on.
pub(super) mod code {
    pub(in crate::node::ssh) const FILE: i32 = -16;
    pub(in crate::node::ssh) const AUTHENTICATION_FAILED: i32 = -18;
    pub(in crate::node::ssh) const PUBLICKEY_UNVERIFIED: i32 = -19;
    pub(in crate::node::ssh) const CHANNEL_FAILURE: i32 = -21;
    pub(in crate::node::ssh) const REQUEST_DENIED: i32 = -22;
    pub(in crate::node::ssh) const CHANNEL_CLOSED: i32 = -26;
    pub(in crate::node::ssh) const CHANNEL_EOF_SENT: i32 = -27;
    pub(in crate::node::ssh) const AGAIN: i32 = -37;
    pub(in crate::node::ssh) const KEY_EXCHANGE: [i32; 3] = [-5, -8, -33];
    pub(in crate::node::ssh) const BANNER: i32 = -2;
    pub(in crate::node::ssh) const LOST: [i32; 4] = [-1, -7, -13, -43];
}

/// Why something did not come about.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No answer within this time.
    Late(Duration),
    /// Somebody asked this process to stop.
    Interrupted,
    /// The connection is gone.
    Lost(String),
    /// The other side refused, or libssh2 did; the connection stands.
    Refused(ssh2::Error),
    /// More came than anybody would send in earnest (bytes).
    TooMuch(usize),
}

impl Trouble {
    /// The session error code, when there is one.
    pub(super) fn code(&self) -> Option<i32> {
        match self {
            Self::Refused(error) => session_code(error),
            _ => None,
        }
    }
}

impl From<ssh2::Error> for Trouble {
    fn from(error: ssh2::Error) -> Self {
        match session_code(&error) {
            Some(code) if code::LOST.contains(&code) => Self::Lost("the other side closed it".to_owned()),
            // libssh2 gives a connection that ends during a login the number of a wrong passphrase.
            Some(code::PUBLICKEY_UNVERIFIED) if error.message().starts_with("Waiting for") => {
                Self::Lost("the other side closed it".to_owned())
            }
            _ => Self::Refused(error),
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        // Channels hide the session's error in one of theirs.
        match error.downcast::<ssh2::Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::Lost(crate::node::reading::words(&error)),
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Late(limit) => write!(f, "no answer within {}", seconds(*limit)),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Lost(reason) => write!(f, "the connection broke: {reason}"),
            Self::Refused(error) => write!(f, "{}", error.message()),
            Self::TooMuch(limit) => write!(f, "it sent more than {limit} bytes"),
        }
    }
}

/// The number of a session error.
pub(super) fn session_code(error: &ssh2::Error) -> Option<i32> {
    match error.code() {
        ssh2::ErrorCode::Session(code) => Some(code),
        ssh2::ErrorCode::SFTP(_) => None,
    }
}

/// A span in words.
pub(super) fn seconds(span: Duration) -> String {
    if span.subsec_millis() == 0 { format!("{} s", span.as_secs()) } else { format!("{} ms", span.as_millis()) }
}

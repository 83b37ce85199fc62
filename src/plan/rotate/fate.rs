//! What becomes of each certificate, and why one that was asked for stays as it is.

use std::fmt;

/// What becomes of one certificate, authority or token key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Fate {
    /// Nobody asked for it.
    #[default]
    Untouched,
    /// Asked for, and left as it is.
    Left(Left),
    /// Replaced.
    New {
        /// With the key it has.
        same_key: bool,
    },
}

impl Fate {
    /// Whether it is replaced.
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Self::New { .. })
    }

    /// Whether it is replaced and gets another key.
    pub(super) fn has_new_key(&self) -> bool {
        matches!(self, Self::New { same_key: false })
    }
}

/// Why something that was asked for is left as it is. None of this is an error by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Left {
    /// `--due`: not yet.
    NotDue,
    /// The authority's key is kept elsewhere.
    NoAuthorityKey {
        /// The authority's name.
        authority: String,
    },
    /// Nobody knows who signed it.
    UnknownIssuer {
        /// The issuer's name in the certificate.
        issuer: String,
    },
    /// Its own key is not here.
    NoKey {
        /// Whether it is known where the key should be.
        has_place: bool,
    },
    /// It signed itself and no authority is behind it.
    SelfSigned,
    /// The kubelet renews it.
    KubeletsOwn,
    /// k3s or RKE2 renews it.
    DistributionsOwn,
    /// It would end no later than it does, because its authority ends.
    NothingGained {
        /// The authority's name.
        authority: String,
    },
    /// Token keys do not expire.
    NeverDue,
    /// It says already what it is wanted to say, and nothing else was asked for.
    AsWanted,
    /// An external authority has to sign it, and no good signed certificate came back; what is wrong is told apart.
    NotReturned,
}

impl Left {
    /// Whether an operator who asked for it by name has to hear of a failure.
    pub(super) fn is_failure_when_named(&self) -> bool {
        !matches!(self, Self::NotDue | Self::NothingGained { .. } | Self::NeverDue | Self::AsWanted | Self::NotReturned)
    }

    /// Whether a key or certificate that is kept elsewhere would be needed to replace it. What is due (`is_due_only`) may be a
    /// forgotten copy that nobody can renew, so only a known authority counts then.
    pub(super) fn is_for_want_of_something(&self, is_due_only: bool) -> bool {
        match self {
            Self::NoAuthorityKey { .. } => true,
            Self::UnknownIssuer { .. } | Self::NoKey { .. } => !is_due_only,
            _ => false,
        }
    }

    /// What to do about it, if anything.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match self {
            Self::NoAuthorityKey { .. } => Some(
                "`kubepki rotate-certs --csr-only` writes signing requests for whoever holds that key, and `--import-signed DIR` takes \
                     the signed certificates back",
            ),
            Self::UnknownIssuer { .. } => Some(
                "`kubepki create-certs --csr-only --only NAME` writes a signing request for whoever holds that key, and \
                     `--import-signed DIR` takes the signed certificate back",
            ),
            Self::NoKey { has_place: true } => Some("name it with --only to make a new pair"),
            Self::NoKey { has_place: false } => Some(
                "put its key beside it, with the same name and the ending .key, or take the file away if nothing uses it",
            ),
            Self::NothingGained { .. } => Some("rotate the authority, with everything it signed: `--only ca`"),
            Self::NotDue
            | Self::SelfSigned
            | Self::KubeletsOwn
            | Self::DistributionsOwn
            | Self::NeverDue
            | Self::AsWanted
            | Self::NotReturned => None,
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDue => f.write_str("not due yet"),
            Self::NoAuthorityKey { authority } => {
                write!(f, "the authority `{authority}` is managed elsewhere: its key is not here")
            }
            Self::UnknownIssuer { issuer } => write!(f, "the certificate of its issuer `{issuer}` is not here"),
            Self::NoKey { .. } => f.write_str("its private key is not here"),
            Self::SelfSigned => f.write_str("it is signed by itself and belongs to no authority"),
            Self::KubeletsOwn => f.write_str("the kubelet renews it itself"),
            Self::DistributionsOwn => f.write_str("k3s or RKE2 renews it when it starts"),
            Self::NothingGained { authority } => {
                write!(f, "it already ends when its authority `{authority}` does")
            }
            Self::NeverDue => f.write_str("service-account keys have no end"),
            Self::AsWanted => f.write_str("it says already what is wanted"),
            Self::NotReturned => f.write_str("no good signed certificate came back for it"),
        }
    }
}

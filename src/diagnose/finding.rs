//! Findings: what can be wrong, how bad each is, and which status it gives a certificate.
//!
//! Ids are stable words for scripts; each has a section in `docs/findings.md`.

use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; everything works and will go on working.
    Notice,
    /// Works, but needs attention.
    Warning,
    /// Could not be told; counts as a warning, never as fine.
    Unknown,
    /// Does not work, or will not after the next restart.
    Broken,
}

impl Severity {
    /// The word in result objects.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Broken => "broken",
        }
    }
}

/// What a certificate is, in one word. The later of two wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Nothing wrong.
    Ok,
    /// Works, but needs attention.
    Attention,
    /// Peers refuse it: chain, usage or name.
    Untrusted,
    /// Its private key is another one's.
    KeyMismatch,
    /// Its issuer or administrator took it back.
    Revoked,
    /// Its time has not come.
    NotYetValid,
    /// Its time is over.
    Expired,
    /// It, or its key, could not be read.
    Unreadable,
    /// It, or its key, is not there.
    Missing,
}

impl Status {
    /// Every status, the worst last.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Attention,
        Self::Untrusted,
        Self::KeyMismatch,
        Self::Revoked,
        Self::NotYetValid,
        Self::Expired,
        Self::Unreadable,
        Self::Missing,
    ];

    /// The word in result objects.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Attention => "attention",
            Self::Untrusted => "untrusted",
            Self::KeyMismatch => "key-mismatch",
            Self::Revoked => "revoked",
            Self::NotYetValid => "not-yet-valid",
            Self::Expired => "expired",
            Self::Unreadable => "unreadable",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing about one certificate or file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub id: FindingId,
    /// What was seen, with names and numbers; lower case, no full stop.
    pub message: String,
    /// One command to type next, or one sentence where no command helps.
    pub remedy: String,
}

impl Finding {
    /// How bad it is.
    pub const fn severity(&self) -> Severity {
        self.id.severity()
    }
}

macro_rules! findings {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $severity:ident, $status:ident;)*) => {
        /// Everything that can be found.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FindingId {
            $($(#[$doc])* $variant,)*
        }

        impl FindingId {
            /// Every id.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable word.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How bad it is.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// The status it gives.
            pub const fn status(self) -> Status {
                match self { $(Self::$variant => Status::$status,)* }
            }
        }
    };
}

findings! {
    /// The end of its validity is past.
    CertificateExpired = "certificate-expired", Broken, Expired;
    /// The beginning of its validity is still to come.
    CertificateNotYetValid = "certificate-not-yet-valid", Broken, NotYetValid;
    /// Past `--critical`.
    CertificateCritical = "certificate-critical", Broken, Attention;
    /// Past `--warn`.
    CertificateExpiring = "certificate-expiring", Warning, Attention;
    /// A CA past `--ca-warn`.
    AuthorityExpiring = "authority-expiring", Warning, Attention;
    /// The kubelet is about to renew it by itself.
    RenewalPending = "renewal-pending", Notice, Ok;
    /// It ends after the CA that issued it.
    OutlivesIssuer = "outlives-issuer", Warning, Attention;

    /// An entry of a revocation means it.
    CertificateRevoked = "certificate-revoked", Broken, Revoked;

    /// None of the CAs that its peers trust issued it.
    IssuerUnknown = "issuer-unknown", Broken, Untrusted;
    /// Another CA of this node issued it than its peers trust.
    IssuerWrong = "issuer-wrong", Broken, Untrusted;
    /// The signature does not fit the certificate.
    SignatureBad = "signature-bad", Broken, Untrusted;
    /// The signature is of a kind that cannot be checked here.
    SignatureUnsupported = "signature-unsupported", Unknown, Attention;
    /// Its CA was not among what was looked at.
    IssuerNotSeen = "issuer-not-seen", Notice, Ok;
    /// A CA whose certificate does not allow it to sign certificates.
    AuthorityCannotSign = "authority-cannot-sign", Broken, Untrusted;

    /// The private key is not the certificate's.
    KeyMismatch = "key-mismatch", Broken, KeyMismatch;
    /// The private key is not there.
    KeyMissing = "key-missing", Broken, Missing;
    /// The private key is damaged.
    KeyUnreadable = "key-unreadable", Broken, Unreadable;
    /// The private key is encrypted.
    KeyEncrypted = "key-encrypted", Broken, Unreadable;
    /// `sa.pub` does not hold the public half of `sa.key`.
    ServiceAccountMismatch = "service-account-mismatch", Broken, KeyMismatch;
    /// The key of a bundle belongs to a later certificate in it than the first.
    BundleOrder = "bundle-order", Broken, KeyMismatch;

    /// A name or address under which it is reached is not in it.
    NameMissing = "name-missing", Warning, Attention;
    /// It may not be used for what it is used for.
    UsageMissing = "usage-missing", Broken, Untrusted;
    /// Common name or organization are not what its peers look for.
    IdentityWrong = "identity-wrong", Warning, Attention;
    /// It makes its holder an administrator whose rights nobody can take away.
    SystemMasters = "system-masters", Notice, Ok;

    /// A file that ought to be there is not.
    FileMissing = "file-missing", Broken, Missing;
    /// A file that kubeadm lists is not there, and need not be.
    FileNotExpected = "file-not-expected", Notice, Ok;
    /// A file could not be read.
    FileUnreadable = "file-unreadable", Broken, Unreadable;
    /// A file is damaged or holds something else.
    FileMalformed = "file-malformed", Broken, Unreadable;
    /// Everybody on the machine can read a private key.
    KeyExposed = "key-exposed", Warning, Attention;
    /// Everybody on the machine can change a file.
    FileWritable = "file-writable", Warning, Attention;
    /// A private key belongs to an ordinary user among files of root.
    OwnerUnexpected = "owner-unexpected", Warning, Attention;

    /// A bundle holds the same certificate twice.
    BundleDuplicate = "bundle-duplicate", Notice, Ok;
    /// A bundle trusts a CA that nothing here needs.
    AnchorUnneeded = "anchor-unneeded", Notice, Ok;

    /// kubectl would refuse the kubeconfig.
    KubeconfigMalformed = "kubeconfig-malformed", Broken, Unreadable;
    /// A kubeconfig trusts another CA than the cluster has.
    ClusterTrustStale = "cluster-trust-stale", Broken, Untrusted;
    /// A kubeconfig does not check the server's certificate.
    ServerNotVerified = "server-not-verified", Warning, Attention;

    /// A `current` file of the kubelet is not the symbolic link it must be.
    KubeletCurrentNotALink = "kubelet-current-not-a-link", Warning, Attention;

    /// It is signed with a broken hash.
    SignatureWeak = "signature-weak", Broken, Untrusted;
    /// Its key is short.
    KeyWeak = "key-weak", Warning, Attention;
    /// Its key is of a kind that Kubernetes' own loaders refuse.
    KeyKindUnsupported = "key-kind-unsupported", Warning, Attention;
    /// Two certificates of one CA have the same serial number.
    SerialDuplicate = "serial-duplicate", Warning, Attention;
    /// An extension is damaged.
    ExtensionUnreadable = "extension-unreadable", Unknown, Attention;

    /// Nodes of one cluster have different authorities of the same name.
    AuthorityDisagrees = "authority-disagrees", Broken, Untrusted;
    /// A node of a cluster trusts CAs that the others do not, or the other way round.
    BundleDisagrees = "bundle-disagrees", Warning, Attention;
    /// A control-plane node refuses the tokens that another one signs.
    ServiceAccountDisagrees = "service-account-disagrees", Broken, KeyMismatch;
    /// Control-plane nodes have different keys for tokens, and accept each other's.
    ServiceAccountMixed = "service-account-mixed", Warning, Attention;
    /// A node's clock is wrong.
    ClockSkew = "clock-skew", Warning, Attention;
    /// A server shows another certificate than lies on its disk.
    ServedDiffers = "served-differs", Warning, Attention;
    /// A server of a node shows a certificate that is in none of the node's files.
    ServedNotOnDisk = "served-not-on-disk", Warning, Attention;

    /// No certificate could be had from a server.
    EndpointUnreadable = "endpoint-unreadable", Broken, Unreadable;
    /// A server's certificate does not name the server.
    ServerNameWrong = "server-name-wrong", Broken, Untrusted;
    /// A server that should run on a node shows no certificate.
    ServerSilent = "server-silent", Warning, Attention;
}

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique_kebab_case_words_and_severity_fits_status() {
        let mut seen = HashSet::new();
        for id in FindingId::ALL {
            assert!(seen.insert(id.name()), "{id} twice");
            assert!(id.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{id}");
            match id.severity() {
                Severity::Notice => assert_eq!(id.status(), Status::Ok, "{id}"),
                Severity::Warning | Severity::Unknown => assert_eq!(id.status(), Status::Attention, "{id}"),
                Severity::Broken => assert!(id.status() >= Status::Attention, "{id}"),
            }
        }
        let names: HashSet<&str> = Status::ALL.iter().map(|status| status.name()).collect();
        assert_eq!(names.len(), Status::ALL.len());
        assert!(Status::ALL.is_sorted());
    }
}

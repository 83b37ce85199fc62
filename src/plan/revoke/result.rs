//! The result of `revoke`: what was hit, what each component does about it, and what was proven.
//!
//! Keys are camelCase and stable; times RFC 3339 UTC. A match is a row of `check-expiry` with the entry that revokes it.

use serde::Serialize;
use time::OffsetDateTime;

use crate::diagnose::Row;
use crate::pki::certificate::Certificate;
use crate::pki::register::Issued;
use crate::pki::revocation::{Entry, Revocation};
use crate::plan::operation::{NodeReport, ProvisioningState};

/// The whole result.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevocationResult {
    /// Always `RevocationResult`.
    pub kind: &'static str,
    /// The name of the revocation; several are parted by commas.
    pub name: String,
    /// `Planned` or `Succeeded`.
    pub provisioning_state: ProvisioningState,
    /// The certificates that its entries mean.
    pub matches: Vec<MatchRow>,
    /// What each component does about them.
    pub components: Vec<ComponentState>,
    /// What was tried with the revoked credentials.
    pub proof: Vec<Proof>,
    /// Whose access it is about, for a kubeconfig.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
    /// Whether it is taken off the ledger.
    #[serde(skip)]
    pub taken_back: bool,
    /// The files that change, by node.
    pub nodes: Vec<NodeReport>,
    /// What people must do now.
    pub next_steps: Vec<String>,
}

/// One match: the keys of a row of `check-expiry`, and why it is here.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchRow {
    /// kubeadm's id, or the file's name; the common name where no file is known.
    pub name: String,
    /// As `notAfter`.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expiration_date: Option<OffsetDateTime>,
    /// Seconds until then.
    pub residual_time: i64,
    /// Whether the CA's key is kept elsewhere.
    pub externally_managed: bool,
    /// Id of the CA that issues it.
    pub ca_name: Option<String>,
    /// Always false.
    pub missing: bool,
    /// The node's name, or `local`; absent where only the register knows it.
    pub node: Option<String>,
    /// Absolute path there.
    pub path: Option<String>,
    /// As in `check-expiry`, or `register`.
    pub source: &'static str,
    /// RFC 4514 text.
    pub subject: Option<String>,
    /// RFC 4514 text.
    pub issuer: Option<String>,
    /// Lower-case hex.
    pub serial_number: Option<String>,
    /// Lower-case hex.
    pub fingerprint_sha256: String,
    /// First second of validity.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_before: Option<OffsetDateTime>,
    /// Last second of validity.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// `DNS:…`, `IP:…`, `URI:…`.
    pub sans: Vec<String>,
    /// `rsa-2048` and so on, where the certificate is at hand.
    pub key_algorithm: Option<String>,
    /// Share of the lifetime that is over, in percent.
    pub used_percent: Option<f64>,
    /// Whether `auto-rotate` renews it.
    pub managed: bool,
    /// Always `revoked`.
    pub status: &'static str,
    /// As in `check-expiry`.
    pub findings: Vec<FindingReport>,
    /// The entry that revokes it.
    pub revoked_by: RevokedBy,
}

/// One finding.
#[derive(Debug, Clone, Serialize)]
pub struct FindingReport {
    id: &'static str,
    severity: &'static str,
    message: String,
    remedy: String,
}

/// The entry that revokes a certificate.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokedBy {
    /// Name of the revocation.
    pub name: String,
    /// Place of the entry in it, from 0.
    pub entry: usize,
    /// `SerialNumber`, `Group`, `DNS` or `IP`.
    pub kind: &'static str,
    /// What the entry says.
    pub value: String,
    /// Only certificates from before this moment.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_before: Option<OffsetDateTime>,
}

/// What a component does about the revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentState {
    /// `kube-apiserver`, `etcd`, `kubelet-serving` or `issuance`.
    pub component: &'static str,
    /// The node's name; absent where it is the same everywhere.
    pub node: Option<String>,
    /// Whether it refuses what is revoked.
    pub state: Enforcement,
    /// Why, how, and until when; a sentence.
    pub reason: String,
    /// Since when; absent in a plan and where nothing is enforced.
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
}

/// Whether a component refuses what is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// It does.
    Enforced,
    /// It cannot.
    NotEnforceable,
    /// It could, once `revoke --prepare` has set the cluster up.
    NeedsPrepare,
}

impl Enforcement {
    /// The word in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::NotEnforceable => "not-enforceable",
            Self::NeedsPrepare => "needs-prepare",
        }
    }
}

/// One attempt with a revoked credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// `HOST:PORT`.
    pub endpoint: String,
    /// Whether it was let in.
    pub accepted: bool,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// Whose access a kubeconfig gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// User entry of the kubeconfig, or the file.
    pub entry: String,
    /// Kubernetes' user.
    pub user: String,
    /// Kubernetes' groups.
    pub groups: Vec<String>,
    /// What these may do, in words, as far as that is known without asking the cluster.
    pub rights: String,
    /// Until when.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
}

impl MatchRow {
    /// A match that lies somewhere.
    pub fn of_row(row: &Row<'_>, certificate: &Certificate, by: (&Revocation, usize), at: OffsetDateTime) -> Self {
        let findings = row.findings.iter().map(|finding| FindingReport {
            id: finding.id.name(),
            severity: finding.severity().name(),
            message: finding.message.clone(),
            remedy: finding.remedy.clone(),
        });
        Self {
            name: row.name.clone(),
            expiration_date: Some(certificate.not_after()),
            residual_time: (certificate.not_after() - at).whole_seconds(),
            externally_managed: row.externally_managed,
            ca_name: row.ca_name.clone().filter(|_| !row.is_authority),
            missing: false,
            node: Some(row.node_name.to_owned()),
            path: Some(row.path.clone()),
            source: row.artifact.source.name(),
            subject: Some(certificate.subject().text().to_owned()),
            issuer: Some(certificate.issuer().text().to_owned()),
            serial_number: Some(certificate.serial().to_string()),
            fingerprint_sha256: certificate.fingerprint_hex(),
            not_before: Some(certificate.not_before()),
            not_after: Some(certificate.not_after()),
            sans: certificate.sans().iter().map(ToString::to_string).collect(),
            key_algorithm: Some(certificate.key_kind().to_string()),
            used_percent: row.used_percent(at).map(|used| (used * 100.0).round() / 100.0),
            managed: row.managed,
            status: "revoked",
            findings: findings.collect(),
            revoked_by: RevokedBy::of(by),
        }
    }

    /// A match that is only written down.
    pub fn of_register(issued: &Issued, by: (&Revocation, usize), at: OffsetDateTime) -> Self {
        Self {
            name: issued
                .common_name
                .clone()
                .or_else(|| issued.subject.clone())
                .unwrap_or_else(|| issued.sha256.clone()),
            expiration_date: issued.not_after,
            residual_time: issued.not_after.map_or(0, |end| (end - at).whole_seconds()),
            externally_managed: false,
            ca_name: None,
            missing: false,
            node: None,
            path: (!issued.for_whom.is_empty()).then(|| issued.for_whom.clone()),
            source: "register",
            subject: issued.subject.clone(),
            issuer: issued.issuer.clone(),
            serial_number: issued.serial_number.clone(),
            fingerprint_sha256: issued.sha256.clone(),
            not_before: issued.not_before,
            not_after: issued.not_after,
            sans: issued.sans.clone(),
            key_algorithm: None,
            used_percent: None,
            managed: false,
            status: "revoked",
            findings: Vec::new(),
            revoked_by: RevokedBy::of(by),
        }
    }
}

impl RevokedBy {
    fn of((revocation, place): (&Revocation, usize)) -> Self {
        let entry: Option<&Entry> = revocation.entries.get(place);
        Self {
            name: revocation.name.clone(),
            entry: place,
            kind: entry.map_or("", |entry| entry.kind.name()),
            value: entry.map(|entry| entry.kind.value()).unwrap_or_default(),
            not_before: entry.and_then(|entry| entry.not_before),
        }
    }
}

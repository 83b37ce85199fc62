//! The operation object: what a changing command is going to do, does, or has done.
//!
//! The same value is the `--what-if` result (`Planned`), the final result and what `show` reads from a journal. Keys are camelCase
//! and stable; times RFC 3339 UTC; serial numbers lower-case hex. It never holds a secret.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::phase::Phase;

/// One run of a changing command over all its nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Always `Operation`.
    pub kind: String,
    /// `20260102T030405Z-` and four random bytes in hex; names journal and backup.
    pub id: String,
    /// The command, as `rotate-certs`.
    pub command: String,
    /// Where it stands.
    pub provisioning_state: ProvisioningState,
    /// When the first effect was about to happen; absent in a plan.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When the last effect had happened.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// Seconds for which the operation's own probe found the API unavailable; absent where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailability_seconds: Option<f64>,
    /// The phases in order.
    #[serde(default)]
    pub phases: Vec<PhaseReport>,
    /// What happens on each node.
    pub nodes: Vec<NodeReport>,
    /// What people must do now, in order.
    #[serde(default)]
    pub next_steps: Vec<String>,
}

impl Operation {
    /// Takes over state, times and phases of `part`, the same operation as one node has it, and that node's report. A phase
    /// began when it began on the first node, and ended when it ended on the last.
    pub fn adopt(&mut self, part: Self, node: &str) {
        self.provisioning_state = part.provisioning_state;
        self.started_at = self.started_at.or(part.started_at);
        self.ended_at = part.ended_at;
        for phase in part.phases {
            match self.phases.iter_mut().find(|own| own.name == phase.name) {
                Some(own) => {
                    own.started_at = own.started_at.into_iter().chain(phase.started_at).min();
                    own.ended_at = own.ended_at.max(phase.ended_at);
                }
                None => self.phases.push(phase),
            }
        }
        for report in part.nodes.into_iter().filter(|report| report.name == node) {
            if let Some(own) = self.nodes.iter_mut().find(|own| own.name == node) {
                *own = report;
            }
        }
    }

    /// The times of a phase; made after those of the phases before it where the operation has none yet.
    pub fn phase(&mut self, phase: Phase) -> &mut PhaseReport {
        let name = phase.name();
        let position = self.phases.iter().position(|report| report.name == name).unwrap_or_else(|| {
            self.phases.push(PhaseReport {
                name: name.to_owned(),
                started_at: None,
                ended_at: None,
                nodes: Vec::new(),
            });
            self.phases.len() - 1
        });
        &mut self.phases[position]
    }
}

/// `provisioningState` in Azure's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProvisioningState {
    /// `--what-if`: nothing has happened.
    Planned,
    /// Under way or interrupted; `--continue` and `--abort` apply.
    CertificateRotating,
    /// Finished.
    Succeeded,
    /// Ended with an error; `--continue` and `--abort` apply.
    Failed,
    /// Taken back by `--abort`, or refused at the question.
    Canceled,
}

/// One phase of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseReport {
    /// What the phase does, in a few words.
    pub name: String,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// What it changes on each node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<PhaseNode>,
}

/// What a phase changes on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseNode {
    /// The node's name.
    pub name: String,
    /// Absolute paths in the order in which they change; one that changes twice is named twice.
    pub files: Vec<String>,
    /// Components that are restarted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarts: Vec<String>,
}

/// What happens on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// The node's name, or `local`.
    pub name: String,
    /// Where the node stands.
    pub state: NodeState,
    /// Its files in the order in which they change.
    pub files: Vec<FileReport>,
    /// Components that were (or will be) restarted.
    #[serde(default)]
    pub restarts: Vec<String>,
    /// What went wrong here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// State of one node within an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeState {
    /// Not begun.
    Pending,
    /// Some of its changes are in place.
    Running,
    /// All of its changes are in place.
    Finished,
    /// Back to the state before.
    RolledBack,
    /// Stopped with an error.
    Failed,
}

/// One file's fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileReport {
    /// Absolute path on its node.
    pub path: String,
    /// kubeadm's id of what the file holds, as `apiserver-kubelet-client` or `admin.conf`.
    pub name: String,
    /// What is done with it.
    pub action: FileAction,
    /// Serial number of the certificate it held, lower-case hex.
    #[serde(default)]
    pub old_serial_number: Option<String>,
    /// Serial number of the certificate it holds now; absent in a plan, where nothing is issued yet.
    #[serde(default)]
    pub new_serial_number: Option<String>,
    /// When the new certificate ends (in a plan: will end).
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// What the new certificate says otherwise than the old one, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FileAction {
    /// It was not there.
    Created,
    /// It was there with another content.
    Replaced,
    /// It stays as it is.
    Unchanged,
    /// It goes.
    Removed,
}

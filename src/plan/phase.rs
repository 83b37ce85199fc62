//! The rounds of a change over a whole cluster, and the steps of one node within them.
//!
//! A round ends everywhere before the next one begins anywhere. Within a round each node has steps of its own: files, then
//! what reads them is started anew and proves that it is well, then the next step.

use serde::{Deserialize, Serialize};

/// A round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Everything at once: nothing that others depend on is replaced.
    #[default]
    Renew,
    /// Whatever trusts the old authorities and token keys trusts the new ones as well.
    TrustBoth,
    /// Kubelets trust both and get client certificates of the new authority.
    Kubelets,
    /// Certificates and tokens come from the new authorities and keys.
    IssueNew,
    /// The old authorities and token keys are trusted no more.
    DropOld,
    /// Repair of a cluster that does not live: all files of all nodes, and kubelets, which start everything else.
    Mend,
    /// Then etcd, everywhere.
    StartEtcd,
    /// Then the API servers.
    StartServers,
    /// Then whoever asks those.
    StartRest,
}

impl Phase {
    /// What it does, in a few words; the name of the phase in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Renew => "renew",
            Self::TrustBoth => "trust old and new",
            Self::Kubelets => "kubelets",
            Self::IssueNew => "issue from new",
            Self::DropOld => "drop old",
            Self::Mend => "mend files",
            Self::StartEtcd => "start etcd",
            Self::StartServers => "start API servers",
            Self::StartRest => "start the rest",
        }
    }

    /// Whether it belongs to the repair of a cluster that does not live: proofs come when a round is over everywhere.
    pub fn is_of_repair(self) -> bool {
        matches!(self, Self::Mend | Self::StartEtcd | Self::StartServers | Self::StartRest)
    }

    /// Whether an operation can be taken back once this phase has begun on a node.
    pub fn can_be_taken_back(self) -> bool {
        self != Self::DropOld
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One step of a node: its files are those that carry its place in the node's list of steps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// The round to which it belongs; never an earlier one than that of the step before.
    pub phase: Phase,
    /// Components that are started anew once its files are in place, as `kube-apiserver`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarts: Vec<String>,
    /// Components that end because their manifest goes away, until a later step brings it back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<String>,
}

//! The order of everything on one node: slots that become steps when something is in them.

use std::collections::BTreeMap;

use crate::plan::blueprint::{NodeBlueprint, PlannedFile};
use crate::plan::phase::{Phase, Step};

/// A place in the order on one node. What is in one is done and proven before the next one begins, and taken back after it
/// has been: so a file that is read when somebody starts is in one slot with the start of whoever reads it. Apart from each
/// other, the way back would start them on what is still the new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// Where there are no rounds: the API server ends, if its own etcd is about to.
    RenewStop,
    /// Everything of etcd, and etcd.
    RenewEtcd,
    /// The API server.
    RenewApi,
    /// Everything else, and whoever reads it when starting.
    RenewRest,
    /// The controller manager gets its signer and its root CA from files of their own; kubeconfigs trust both.
    TrustSigner,
    /// The API server ends, where its own etcd is about to.
    TrustStop,
    /// Bundles trust both. etcd reads its own when it starts.
    TrustBundles,
    /// The API server, which reads some of them when it starts.
    TrustApi,
    /// Everything of the kubelet, and the kubelet.
    Kubelet,
    /// etcd's servers and clients.
    IssueEtcd,
    /// Everything else that is issued and read whenever it changes, and those who issue.
    IssueAll,
    /// What is issued and read at the start of API server, controller manager and scheduler.
    IssueStarts,
    /// The API server ends, as before.
    DropStop,
    /// Bundles without the old, and etcd.
    DropFiles,
    /// The API server.
    DropApi,
    /// Controller manager, scheduler, kubelet.
    DropManagers,
    /// What was only needed meanwhile.
    DropRemains,
}

impl Slot {
    fn phase(self) -> Phase {
        match self {
            Self::RenewStop | Self::RenewEtcd | Self::RenewApi | Self::RenewRest => Phase::Renew,
            Self::TrustSigner | Self::TrustStop | Self::TrustBundles | Self::TrustApi => Phase::TrustBoth,
            Self::Kubelet => Phase::Kubelets,
            Self::IssueEtcd | Self::IssueAll | Self::IssueStarts => Phase::IssueNew,
            Self::DropStop | Self::DropFiles | Self::DropApi | Self::DropManagers | Self::DropRemains => Phase::DropOld,
        }
    }
}

#[derive(Debug, Default)]
struct Draft {
    files: Vec<PlannedFile>,
    /// Manifests: they come last, because they restart something.
    manifests: Vec<PlannedFile>,
    restarts: Vec<String>,
    stops: Vec<String>,
}

/// Everything that happens on one node.
#[derive(Debug, Default)]
pub(super) struct Slots(BTreeMap<Slot, Draft>);

impl Slots {
    /// A file changes.
    pub(super) fn put(&mut self, slot: Slot, file: PlannedFile) {
        self.0.entry(slot).or_default().files.push(file);
    }

    /// Whether files change there.
    pub(super) fn has_files(&self, slot: Slot) -> bool {
        self.0.get(&slot).is_some_and(|draft| !draft.files.is_empty())
    }

    /// A component is started anew, by its manifest where that is given.
    pub(super) fn restart(&mut self, slot: Slot, component: &str, manifest: Option<PlannedFile>) {
        let draft = self.0.entry(slot).or_default();
        draft.manifests.extend(manifest);
        draft.restarts.push(component.to_owned());
    }

    /// A component ends, because its manifest goes.
    pub(super) fn stop(&mut self, slot: Slot, component: &str, manifest: Option<PlannedFile>) {
        let draft = self.0.entry(slot).or_default();
        draft.manifests.extend(manifest);
        draft.stops.push(component.to_owned());
    }

    /// Makes the steps of `node`; `kept` are files that stay as they are.
    pub(super) fn fill(self, node: &mut NodeBlueprint, kept: Vec<PlannedFile>) {
        for (slot, draft) in self.0 {
            let at = node.steps.len();
            let files = draft.files.into_iter().chain(draft.manifests);
            node.files.extend(files.map(|file| PlannedFile { step: at, ..file }));
            node.restarts.extend(draft.restarts.iter().cloned());
            node.steps.push(Step { phase: slot.phase(), restarts: draft.restarts, stops: draft.stops });
        }
        node.files.extend(kept);
    }
}

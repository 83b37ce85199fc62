//! The programs of Kubernetes that run on nodes, and the flags they are started with.

/// A process of Kubernetes on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// The kubelet.
    Kubelet,
    /// A member of etcd.
    Etcd,
}

impl Component {
    /// Every component.
    pub const ALL: [Self; 5] = [Self::ApiServer, Self::ControllerManager, Self::Scheduler, Self::Kubelet, Self::Etcd];

    /// Its name, as that of its process.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Etcd => "etcd",
        }
    }
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The value of `--name=value` among the arguments in the text of a static pod's manifest; the last one counts.
pub fn flag<'a>(manifest: &'a str, name: &str) -> Option<&'a str> {
    let lines = manifest.lines().map(|line| line.trim().trim_start_matches("- ").trim_matches(['"', '\'']));
    lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::trim).next_back()
}

//! What running components hold of their files, and when they read them (which file is reread when: Kubernetes 1.36 and etcd
//! 3.6; the facts are in `docs/rotation.md`).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::things::{Content, Disk};

/// Flags of one component that name files, by when these are read. Bundles of client CAs are read whenever they change and
/// need no place here, nor do etcd's own pairs and `--etcd-certfile`, which are read for each connection.
pub(super) struct Reads {
    pub(super) component: &'static str,
    /// When it starts.
    at_start: &'static [&'static str],
    /// Certificate and key, whenever they change and fit each other.
    pairs: &'static [(&'static str, &'static str)],
}

const KUBELET: &str = "--kubeconfig=/etc/kubernetes/kubelet.conf
--client-certificate=/var/lib/kubelet/pki/kubelet-client-current.pem
--serving=/var/lib/kubelet/pki/kubelet-server-current.pem
--client-ca-file=/etc/kubernetes/pki/ca.crt";

/// All components; the kubelet's configuration is written as flags here.
pub(super) static COMPONENTS: [Reads; 5] = [
    Reads { component: "etcd", at_start: &["--trusted-ca-file", "--peer-trusted-ca-file"], pairs: &[] },
    Reads {
        component: "kube-apiserver",
        at_start: &["--etcd-cafile", "--service-account-key-file", "--service-account-signing-key-file"],
        pairs: &[
            ("--tls-cert-file", "--tls-private-key-file"),
            ("--proxy-client-cert-file", "--proxy-client-key-file"),
            ("--kubelet-client-certificate", "--kubelet-client-key"),
        ],
    },
    Reads {
        component: "kube-controller-manager",
        at_start: &["--root-ca-file", "--kubeconfig", "--service-account-private-key-file"],
        pairs: &[("--cluster-signing-cert-file", "--cluster-signing-key-file")],
    },
    Reads { component: "kube-scheduler", at_start: &["--kubeconfig"], pairs: &[] },
    Reads { component: "kubelet", at_start: &["--kubeconfig", "--client-certificate", "--serving"], pairs: &[] },
];

/// Where the kubelet of a node without a serving certificate of the cluster's finds nothing.
const OPTIONAL: &str = "--serving";

/// Why a component does not come up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Between two renames; it tries again.
    UnfitPair(String),
    /// A file is not there.
    Missing(String),
    /// The signer's file holds another number of certificates than one.
    Signers(usize),
}

/// A running component.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Process {
    component: &'static str,
    /// What it was started with.
    manifest: Rc<Content>,
    memory: BTreeMap<&'static str, Rc<Content>>,
}

impl Process {
    /// Starts a component with this manifest on what is on disk.
    pub(super) fn start(reads: &Reads, manifest: &Rc<Content>, disk: &Disk) -> Result<Self, Fault> {
        let mut process = Self { component: reads.component, manifest: manifest.clone(), memory: BTreeMap::new() };
        for flag in reads.at_start {
            match process.file(flag, disk) {
                Some(content) => process.memory.insert(flag, content.clone()),
                None if *flag == OPTIONAL => None,
                None => return Err(Fault::Missing(process.path(flag).to_owned())),
            };
        }
        for (certificate, key) in reads.pairs {
            if process.signs_nothing(certificate) {
                continue;
            }
            for flag in [certificate, key] {
                process.file(flag, disk).ok_or_else(|| Fault::Missing(process.path(flag).to_owned()))?;
            }
            process.reload(certificate, key, disk);
            if !process.memory.contains_key(certificate) {
                return Err(Fault::UnfitPair(process.path(certificate).to_owned()));
            }
        }
        match process.signers(disk) {
            Some(count) if count != 1 => Err(Fault::Signers(count)),
            _ => Ok(process),
        }
    }

    /// Starts it again, without another look at its manifest.
    pub(super) fn again(&self, disk: &Disk) -> Result<Self, Fault> {
        Self::start(reads(self.component), &self.manifest, disk)
    }

    /// Looks at the files that it watches.
    pub(super) fn notice(&mut self, disk: &Disk) {
        for (certificate, key) in reads(self.component).pairs {
            if !self.signs_nothing(certificate) {
                self.reload(certificate, key, disk);
            }
        }
    }

    fn reload(&mut self, certificate: &'static str, key: &'static str, disk: &Disk) {
        let (Some(new), Some(new_key)) = (self.file(certificate, disk), self.file(key, disk)) else { return };
        if new.fits(new_key) {
            let new = new.clone();
            self.memory.insert(certificate, new);
        }
    }

    /// Whether that is the flag of a signer, and there is none: kubeadm leaves it empty where the CA's key is elsewhere.
    fn signs_nothing(&self, flag: &str) -> bool {
        flag.starts_with("--cluster-signing-") && self.manifest.flag(flag).is_none_or(str::is_empty)
    }

    /// How many certificates are in the file with which it signs, where it does. When the file goes it keeps the one it has.
    pub(super) fn signers(&self, disk: &Disk) -> Option<usize> {
        let signs = self.component == "kube-controller-manager";
        if !signs || self.signs_nothing("--cluster-signing-cert-file") {
            return None;
        }
        Some(self.file("--cluster-signing-cert-file", disk)?.chain.len())
    }

    /// What it holds in memory of the file of a flag.
    pub(super) fn holds(&self, flag: &str) -> &Rc<Content> {
        self.memory.get(flag).unwrap_or_else(|| panic!("{} holds no {flag}", self.component))
    }

    /// The same, where there may be none.
    pub(super) fn may_hold(&self, flag: &str) -> Option<&Rc<Content>> {
        self.memory.get(flag)
    }

    /// Everything that it holds in memory.
    pub(super) fn remembers(&self) -> impl Iterator<Item = &Content> {
        self.memory.values().map(|content| &**content)
    }

    /// What is in the file of a flag now.
    pub(super) fn reads<'a>(&self, flag: &str, disk: &'a Disk) -> &'a Rc<Content> {
        self.file(flag, disk).unwrap_or_else(|| panic!("{} has no {}", self.component, self.path(flag)))
    }

    /// A pair that is read for each connection; `None` between the renames.
    pub(super) fn shows<'a>(&self, certificate: &str, key: &str, disk: &'a Disk) -> Option<&'a Rc<Content>> {
        Some(self.reads(certificate, disk)).filter(|shown| shown.fits(self.reads(key, disk)))
    }

    fn file<'a>(&self, flag: &str, disk: &'a Disk) -> Option<&'a Rc<Content>> {
        disk.at(self.path(flag))
    }

    fn path(&self, name: &str) -> &str {
        self.manifest.flag(name).unwrap_or_else(|| panic!("{} has no flag {name}", self.component))
    }
}

/// What a component reads.
pub(super) fn reads(component: &str) -> &'static Reads {
    COMPONENTS.iter().find(|reads| reads.component == component).unwrap_or_else(|| panic!("no {component} here"))
}

/// The kubelet's flags, as far as they name files.
pub(super) fn kubelet_flags() -> &'static [u8] {
    KUBELET.as_bytes()
}

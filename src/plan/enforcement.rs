//! How kube-apiserver and etcd of one control-plane node come to refuse what is revoked: which files of kubepki's they
//! read, and whether they do.
//!
//! The files lie in folders that the static pods see as folders, so that a renamed file reaches the running process.
//! `prepare` is the one restart that makes components read them; from then on `hot` changes files only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};

use crate::pki::component::flag;
use crate::pki::hex;
use crate::pki::kubeadm_config::{ExtraArgument, Part};
use crate::plan::blueprint::{FileContent, PlannedFile};
use crate::plan::operation::FileAction;
use crate::plan::restart::Manifest;

pub mod hot;
pub mod prepare;

/// The command's name in plans and journals.
pub const COMMAND: &str = "revoke";

/// The component's name.
pub const API_SERVER: &str = "kube-apiserver";
/// The component's name.
pub const CONTROLLER_MANAGER: &str = "kube-controller-manager";
/// The component's name.
pub const ETCD: &str = "etcd";

/// The name of kube-apiserver's authorizers in plans and results.
pub const AUTHORIZATION: &str = "kubepki/authorization.yaml";
/// The name of the bundle of client trust in plans and results.
pub const CLIENT_TRUST: &str = "kubepki/client-trust.crt";
const DENY: &str = "kubepki/deny.kubeconfig";

/// Its flag for authorizers.
pub const AUTHORIZATION_CONFIG: &str = "--authorization-config";
const AUTHORIZATION_MODE: &str = "--authorization-mode";
/// Its flag, and that of kube-controller-manager, for client trust.
pub const CLIENT_CA: &str = "--client-ca-file";
const CLIENT_CRL: &str = "--client-crl-file";
const PEER_CRL: &str = "--peer-crl-file";

/// A control-plane node, as far as enforcement goes.
#[derive(Debug, Clone)]
pub struct Seat {
    /// The node's name.
    pub node: String,
    /// The folder of its certificates.
    pub pki_dir: PathBuf,
    /// The manifests of its static pods.
    pub manifests: Vec<Manifest>,
    /// What is in the files of [`Seat::wanted`], those that are there.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Seat {
    /// What has to be read of a node.
    pub fn wanted(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.authorization(), self.deny(), self.client_trust(), self.pki_dir.join("ca.crt")];
        paths.extend(self.crls());
        for (component, name) in
            [(API_SERVER, AUTHORIZATION_CONFIG), (API_SERVER, CLIENT_CA), (CONTROLLER_MANAGER, CLIENT_CA)]
        {
            paths.extend(self.flag(component, name).map(PathBuf::from));
        }
        paths.sort();
        paths.dedup();
        paths
    }

    /// Where kube-apiserver's authorizers are.
    pub fn authorization(&self) -> PathBuf {
        self.pki_dir.join(AUTHORIZATION)
    }

    /// Where the kubeconfig is that these need.
    pub fn deny(&self) -> PathBuf {
        self.pki_dir.join(DENY)
    }

    /// Where the bundle of client trust is.
    pub fn client_trust(&self) -> PathBuf {
        self.pki_dir.join(CLIENT_TRUST)
    }

    /// Where the revocation lists for etcd are: of its clients, of its members.
    pub fn crls(&self) -> [PathBuf; 2] {
        ["client", "peer"].map(|kind| self.pki_dir.join(format!("etcd/kubepki/{kind}.crl")))
    }

    /// The manifest of a component, where it is a static pod here.
    pub fn manifest(&self, component: &str) -> Option<&Manifest> {
        self.manifests.iter().find(|manifest| manifest.component == component)
    }

    /// The value of a component's flag.
    pub fn flag(&self, component: &str, name: &str) -> Option<&str> {
        flag(&self.manifest(component)?.text, name).filter(|value| !value.is_empty())
    }

    /// The text of a file that was read.
    pub fn text(&self, path: &Path) -> Option<&str> {
        std::str::from_utf8(self.files.get(path)?).ok()
    }

    /// Why kube-apiserver does not look at kubepki's authorizers; `None` when it does.
    pub fn without_authorization(&self) -> Option<String> {
        let own = self.authorization();
        match self.flag(API_SERVER, AUTHORIZATION_CONFIG) {
            _ if self.manifest(API_SERVER).is_none() => Some("it is no static pod of this node".to_owned()),
            Some(path) if Path::new(path) == own => {
                (!self.files.contains_key(&own)).then(|| format!("{} is not there", own.display()))
            }
            _ => Some(format!("its {AUTHORIZATION_CONFIG} is not {}", own.display())),
        }
    }

    /// Why kube-apiserver does not trust by kubepki's bundle; `None` when it does.
    pub fn without_client_trust(&self) -> Option<String> {
        let own = self.client_trust();
        match self.flag(API_SERVER, CLIENT_CA) {
            Some(path) if Path::new(path) == own => {
                (!self.files.contains_key(&own)).then(|| format!("{} is not there", own.display()))
            }
            _ => Some(format!("its {CLIENT_CA} is not {}", own.display())),
        }
    }

    /// The flags of its components that name files of kubepki's, as kubeadm has to know them.
    pub fn arguments(&self) -> Vec<ExtraArgument> {
        let folders = ["kubepki", "etcd/kubepki"].map(|folder| self.pki_dir.join(folder));
        let mut arguments = Vec::new();
        for (part, component, names) in [
            (Part::ApiServer, API_SERVER, &[AUTHORIZATION_CONFIG, CLIENT_CA][..]),
            (Part::ControllerManager, CONTROLLER_MANAGER, &[CLIENT_CA]),
            (Part::Etcd, ETCD, &[CLIENT_CRL, PEER_CRL]),
        ] {
            for name in names {
                let value = self.flag(component, name);
                let own = value.filter(|value| folders.iter().any(|folder| Path::new(value).starts_with(folder)));
                let bare = |name: &str| name.trim_start_matches('-').to_owned();
                arguments.extend(own.map(|value| ExtraArgument {
                    part,
                    name: bare(name),
                    value: Some(value.to_owned()),
                }));
                // Two ways to say who decides are one too many.
                let replaced = own.is_some() && *name == AUTHORIZATION_CONFIG;
                arguments.extend(replaced.then(|| ExtraArgument { part, name: bare(AUTHORIZATION_MODE), value: None }));
            }
        }
        arguments
    }

    /// A file that will hold `content`: nothing when it does so already.
    pub(super) fn planned(&self, path: PathBuf, name: &str, content: Vec<u8>) -> Option<PlannedFile> {
        let there = self.files.get(&path);
        if there.is_some_and(|there| *there == content) {
            return None;
        }
        Some(PlannedFile {
            name: name.to_owned(),
            step: 0,
            action: if there.is_some() { FileAction::Replaced } else { FileAction::Created },
            seen: there.map(|there| hex(digest(&SHA256, there).as_ref())),
            content: Some(FileContent::Bytes(content)),
            mode: 0o644,
            old_serial_number: None,
            not_after: None,
            path,
        })
    }
}

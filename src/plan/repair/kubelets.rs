//! A kubelet's credentials as the kubelet itself keeps them: a dated file with certificates and key behind an absolute link,
//! and a `kubelet.conf` that refers to that link. Nothing here needs the API.
//!
//! A certificate of a kubelet that has not ended beats whatever `kubelet.conf` embeds (Kubernetes:
//! `client-go/util/certificate/certificate_store.go`), so a new one always goes into the store.

use std::path::{Path, PathBuf};

use super::authorities::Authorities;
use super::builder::{Builder, SECRET, Stage, USUAL, leading};
use super::cases::Case;
use super::kubeconfigs::{is_breaking, readable};
use crate::diagnose::{FindingId, Member};
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::certificate::Certificate;
use crate::pki::name::Name;
use crate::pki::usage::ExtendedKeyUsage;
use crate::plan::blueprint::{Basis, CertificateRef, FileContent, KubeconfigPlan, PlannedFile};
use crate::plan::operation::FileAction;
use crate::plan::rotate::kubelet::dated_path;
use crate::snapshot::{Artifact, Kubeconfig};

/// Id of the client certificate's link.
const CLIENT: &str = "kubelet-client";

/// Id of the kubeconfig.
const CONF: &str = "kubelet.conf";

/// Group of every kubelet (Kubernetes: pkg/auth/nodeidentifier).
const NODES: &str = "system:nodes";

/// What a kubelet's name in the cluster begins with.
const PREFIX: &str = "system:node:";

/// Where a kubelet's files are.
struct Places {
    conf: PathBuf,
    current: PathBuf,
    left: PathBuf,
}

impl<'a> Builder<'a> {
    /// Mends the client certificate of a node's kubelet, and `kubelet.conf`.
    pub(super) fn kubelet(
        &mut self,
        authorities: &Authorities,
        node: usize,
        case: &Case<'_>,
    ) -> Result<String, String> {
        let places = self.places(node)?;
        let mut done: Vec<String> = Vec::new();
        if self.found(node, &places.left).is_some() {
            self.remove(node, Stage::Kubelets, &places.left, "kubelet-client-updated")?;
            done.push("what an interrupted renewal left is removed".to_owned());
        }
        let conf = self.found(node, &places.conf).and_then(readable).filter(|conf| is_whole(conf));
        let user = conf.and_then(Kubeconfig::current_user);
        let refers = user.is_some_and(|user| {
            [&user.certificate, &user.key].iter().all(|one| one.file.as_deref() == Some(&*places.current))
        });
        let is_bad = |id: &str, wanted: fn(&Member<'_>) -> bool| {
            let own = case.rows.iter().filter(|row| row.id() == Some(id) && wanted(&row.member));
            own.flat_map(|row| &row.findings)
                .any(|finding| is_breaking(finding.id) || finding.id == FindingId::KubeletCurrentNotALink)
        };
        let store_is_bad = is_bad(CLIENT, |_| true);
        let store_is_there = self.found(node, &places.current).is_some();
        let client_is_bad = is_bad(CONF, |member| matches!(member, Member::User(..) | Member::Whole));
        let embeds = user.is_some() && !refers && !client_is_bad;
        let needs_store = store_is_bad || client_is_bad || !store_is_there && !embeds;
        let needs_conf = conf.is_none() || needs_store && !refers;
        let needs_trust = is_bad(CONF, |member| matches!(member, Member::Cluster(..))) || authorities.is_renewed("ca");
        if needs_store {
            done.push(self.store(authorities, node, &places)?);
        }
        let trusted = || authorities.bundle();
        if needs_conf {
            let plan = KubeconfigPlan::OfKubelet {
                server: self.server_of(node, &places)?,
                user: self.user_of(node, &places)?,
                authorities: trusted()?,
                store: places.current.clone(),
            };
            let content = (FileContent::Kubeconfig(plan), SECRET);
            self.write(node, Stage::Kubelets, (&places.conf, CONF), content, None)?;
            done.push("kubelet.conf is made again and points to it".to_owned());
        } else if let (Some(conf), Some(user), true) = (conf, user, needs_trust) {
            let clusters = conf.clusters_of(&user.name).map(|cluster| Ok((cluster.name.clone(), trusted()?)));
            let authorities = clusters.collect::<Result<_, String>>()?;
            let plan = KubeconfigPlan::Existing { authorities, clients: Vec::new() };
            let content = (FileContent::Kubeconfig(plan), SECRET);
            self.write(node, Stage::Kubelets, (&places.conf, CONF), content, None)?;
            done.push("the CA in kubelet.conf is corrected".to_owned());
        }
        if done.is_empty() {
            return Err("nobody knows what would help: bring its files back from a backup".to_owned());
        }
        Ok(done.join("; "))
    }

    /// A new client certificate in the store.
    fn store(&mut self, authorities: &Authorities, node: usize, places: &Places) -> Result<String, String> {
        let old = self.client_of(node, places);
        let user = self.user_of(node, places)?;
        let signer = authorities.signer(self, &["ca"], old).map_err(|reason| {
            format!(
                "{reason}. A kubelet without a certificate can be let in again by a token: on a control-plane node `kubeadm \
                 token create --print-join-command`, here `kubeadm reset` and that command"
            )
        })?;
        let basis = match old {
            Some(old) => Basis::Renewal { old: Box::new(old.clone()), subject: None, sans: None, usages: None },
            None => Basis::Leaf {
                subject: Name::new(&user, &[NODES.to_owned()]),
                sans: Vec::new(),
                usages: vec![ExtendedKeyUsage::ClientAuth],
            },
        };
        let id = format!("{}/{CLIENT}", self.node(node).name);
        // As the kubelet makes them (certificate_manager.go, generateCSR).
        self.new_key(&id, KeyAlgorithm::EcdsaP256);
        let above = signer.above.clone();
        let end = self.certificate(&id, basis, (old, USUAL), signer);
        let found = self.found(node, &places.current);
        let was = found.and_then(|one| one.link.clone());
        let target = dated_path(&places.current, CLIENT, was.as_deref(), self.request.now);
        let chain = std::iter::once(CertificateRef::Planned(id.clone())).chain(above).collect();
        let content = (FileContent::CertificatesAndKey(chain, id), SECRET);
        self.write(node, Stage::Kubelets, (&target, CLIENT), content, Some(end))?;
        let seen = if was.is_some() { None } else { self.seen(node, &places.current)? };
        let action = if found.is_some() { FileAction::Replaced } else { FileAction::Created };
        let link = PlannedFile {
            path: places.current.clone(),
            step: 0,
            name: CLIENT.to_owned(),
            action,
            content: Some(FileContent::Link { target, was }),
            mode: SECRET,
            seen,
            old_serial_number: old.map(|old| old.serial().to_string()),
            not_after: None,
        };
        self.put(node, Stage::Kubelets, link);
        Ok(format!("the kubelet gets a new client certificate as {user}"))
    }

    fn places(&self, node: usize) -> Result<Places, String> {
        let design = self.design(node).ok_or("nobody knows where this kubelet's files are")?;
        let kubelet = design.kubelet_dir.as_ref().ok_or("nobody knows where this kubelet's folder is")?;
        let kubernetes = design.kubernetes_dir.as_ref().ok_or("nobody knows where kubelet.conf belongs")?;
        let store = kubelet.join("pki");
        Ok(Places {
            conf: kubernetes.join(CONF),
            current: store.join("kubelet-client-current.pem"),
            left: store.join("kubelet-client-updated.pem"),
        })
    }

    /// The certificate it had, wherever one can be read that says who the node is.
    fn client_of(&self, node: usize, places: &Places) -> Option<&'a Certificate> {
        let stored = self.found(node, &places.current).and_then(leading);
        let left_behind = self.node(node).artifacts.iter().filter(|one| is_dated_client(one)).find_map(leading);
        let embedded = self.found(node, &places.conf).and_then(leading);
        [stored, left_behind, embedded].into_iter().flatten().find(|one| is_nodes(one))
    }

    /// The name under which the cluster knows it: of its old certificate, not of the host.
    fn user_of(&self, node: usize, places: &Places) -> Result<String, String> {
        if let Some(name) = self.client_of(node, places).and_then(|old| old.subject().common_name()) {
            return Ok(name.to_owned());
        }
        let named = self.found(node, &places.conf).and_then(readable).and_then(Kubeconfig::current_user);
        if let Some(user) = named.filter(|user| user.name.starts_with(PREFIX)) {
            return Ok(user.name.clone());
        }
        let design = self.design(node).and_then(|design| design.name.clone());
        design.map(|name| format!("{PREFIX}{name}")).ok_or_else(|| "nothing tells the node's name".to_owned())
    }

    /// Where it reaches the API server.
    fn server_of(&self, node: usize, places: &Places) -> Result<String, String> {
        let old = self.found(node, &places.conf).and_then(readable);
        let old = old.and_then(|conf| conf.clusters.first()?.server.clone());
        let design = || self.design(node).and_then(|design| design.kubelet_server.clone());
        let server = old.filter(|server| server.starts_with("https://")).or_else(design);
        server.ok_or_else(|| "nothing tells where its API server is: say it in a cluster file".to_owned())
    }

    /// A serving certificate that is of no use goes: the kubelet asks for another one when it starts.
    pub(super) fn kubelet_serving(&mut self, node: usize, path: &Path) -> Result<String, String> {
        self.remove(node, Stage::Kubelets, path, "kubelet-server")?;
        self.server(node, "kubelet");
        Ok("it goes, the kubelet asks the cluster for another one, and that request is approved if it fits the node"
            .to_owned())
    }

    /// A serving certificate that the kubelet signs itself: it makes another one when there is none.
    pub(super) fn kubelet_self_signed(&mut self, node: usize) -> Result<String, String> {
        let own = self.node(node).artifacts.iter().filter(|one| one.id() == Some("kubelet") && !one.is_missing());
        for path in own.map(|one| one.path.clone()).collect::<Vec<_>>() {
            self.remove(node, Stage::Kubelets, &path, "kubelet")?;
        }
        self.server(node, "kubelet");
        Ok("it goes, and the kubelet makes another one when it starts".to_owned())
    }
}

fn is_dated_client(artifact: &Artifact) -> bool {
    let name = artifact.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with(CLIENT) && crate::pki::catalog::kubelet::is_dated(name)
}

/// Whether a certificate is a kubelet's as a client, however old.
fn is_nodes(certificate: &Certificate) -> bool {
    let subject = certificate.subject();
    let name = subject.common_name().unwrap_or_default();
    name.len() > PREFIX.len()
        && name.starts_with(PREFIX)
        && subject.organizations().iter().any(|own| own == NODES)
        && certificate.allows(&ExtendedKeyUsage::ClientAuth)
}

/// Whether a kubelet's kubeconfig has everything in it, whatever that is worth.
fn is_whole(conf: &Kubeconfig) -> bool {
    let Some(user) = conf.current_user() else { return false };
    let cluster = conf.clusters_of(&user.name).next();
    let has_cluster = cluster.is_some_and(|cluster| {
        cluster.server.is_some()
            && (cluster.authority.certificates().next().is_some() || cluster.authority.file.is_some())
    });
    let has_client = user.certificate.file.is_some() || user.certificate.content.is_some() || user.has_other_credential;
    conf.problems.is_empty() && has_cluster && has_client
}

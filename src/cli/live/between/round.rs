//! Who is asked between two rounds, with which credentials, and how long.

use std::path::Path;
use std::time::Duration;

use super::material::{At, ContentAt, Leg, Material, content_of};
use crate::cli::live::{means, proof, wait_until};
use crate::cli::session::Session;
use crate::cli::target::{Target, TargetNode};
use crate::error::Failure;
use crate::live::NoAnswer;
use crate::live::api_server::ApiServer;
use crate::live::component::Component;
use crate::live::credential::{Credential, certificates};
use crate::live::places::Places;
use crate::live::proof::{Verdict, prove};
use crate::node::http::Limits;
use crate::node::probe::Endpoint;
use crate::pki::layout::Role;
use crate::plan::restart::Strategy;

/// For one question and its answer; a page of a list may be large.
pub(super) const LIMITS: Limits = Limits { time: Duration::from_secs(20), size: 256 * 1024 * 1024 };

/// A user whom nobody knows and who may do nothing; only whether the server believes in it is asked.
const NOBODY: &str = "kubepki:probe";

/// Everything that is authenticated has this group.
const AUTHENTICATED: &str = "system:authenticated";

/// A control-plane node: what runs there, and how an administrator asks.
pub(super) struct Seat<'a> {
    pub(super) node: &'a TargetNode,
    places: Places,
    administrator: Option<Credential>,
}

impl Seat<'_> {
    /// The node's name.
    pub(super) fn name(&self) -> &str {
        self.node.node.name()
    }

    /// Where a component listens, if it runs there.
    pub(super) fn endpoint(&self, component: Component) -> Option<&Endpoint> {
        self.places.of(component).map(|listener| &listener.endpoint)
    }

    /// The node's own API server, asked as an administrator.
    pub(super) fn api(&self) -> Result<ApiServer<'_>, String> {
        self.api_as(self.administrator.as_ref().ok_or_else(proof::no_administrator)?)
    }

    /// The node's own API server, asked as somebody else.
    pub(super) fn api_as<'s>(&'s self, credential: &'s Credential) -> Result<ApiServer<'s>, String> {
        let endpoint = self.endpoint(Component::ApiServer).ok_or("there is no kube-apiserver on this node")?;
        ApiServer::new(&*self.node.node, endpoint.clone(), credential, LIMITS)
    }

    /// Whether the node's API server believes a front proxy with that certificate when it vouches for somebody.
    pub(super) fn vouched(&self, proxy: &Credential) -> Result<bool, NoAnswer> {
        let api = self.api_as(proxy).map_err(NoAnswer::Malformed)?;
        Ok(api.who_am_i_behind_proxy(NOBODY, AUTHENTICATED)?.name == NOBODY)
    }

    /// The authorities (DER) by which administrators know API servers now.
    pub(super) fn authorities(&self) -> Vec<Vec<u8>> {
        self.administrator.as_ref().map(|credential| credential.authorities.clone()).unwrap_or_default()
    }

    /// Shows a credential to a component of the node.
    pub(super) fn show(&self, component: Component, credential: &Credential) -> Result<Verdict, String> {
        let endpoint = self.endpoint(component).ok_or_else(|| format!("there is no {component} on this node"))?;
        Ok(prove(&*self.node.node, component, endpoint, credential, LIMITS))
    }
}

/// One moment of an operation.
pub(super) struct Round<'a> {
    pub(super) session: &'a Session,
    pub(super) target: &'a Target,
    pub(super) legs: &'a [Leg<'a>],
    pub(super) material: Material,
    content: &'a ContentAt<'a>,
    seats: Vec<Seat<'a>>,
}

impl<'a> Round<'a> {
    /// Looks where the components of the control plane are.
    pub(super) fn new(
        session: &'a Session,
        target: &'a Target,
        legs: &'a [Leg<'a>],
        content: &'a ContentAt<'a>,
        material: Material,
    ) -> anyhow::Result<Self> {
        let mut seats = Vec::new();
        for node in target.nodes.iter().filter(|node| node.role == Role::ControlPlane) {
            session.interrupt.check()?;
            seats.push(Seat { node, places: places(target, node)?, administrator: proof::administrator(target, node) });
        }
        Ok(Self { session, target, legs, material, content, seats })
    }

    /// The control-plane nodes with a kube-apiserver.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Seat<'a>> {
        self.seats.iter().filter(|seat| seat.endpoint(Component::ApiServer).is_some())
    }

    /// The control-plane nodes with a member of etcd.
    pub(super) fn members(&self) -> impl Iterator<Item = &Seat<'a>> {
        self.seats.iter().filter(|seat| seat.endpoint(Component::Etcd).is_some())
    }

    /// Waits until `probe` says yes.
    ///
    /// # Errors
    /// When it does not in time: with node, question and the last answer.
    pub(super) fn wait(&self, node: &str, what: &str, probe: impl FnMut() -> Result<(), String>) -> anyhow::Result<()> {
        let hint = "the next round was not begun; look at that component's log";
        wait_until(self.session, node, what, hint, probe)
    }

    /// Asks each API server, addressed one by one, until it says yes.
    pub(super) fn everywhere(
        &self,
        what: &str,
        ask: &dyn Fn(&Seat<'_>, &ApiServer<'_>) -> Result<(), String>,
    ) -> anyhow::Result<()> {
        let what = format!("kube-apiserver {what}");
        self.servers().try_for_each(|seat| self.wait(seat.name(), &what, || ask(seat, &seat.api()?)))
    }

    /// Asks one API server after the other until one says yes: for what the cluster keeps. Without any, nothing is kept.
    pub(super) fn anywhere(
        &self,
        what: &str,
        ask: &dyn Fn(&ApiServer<'_>) -> Result<(), String>,
    ) -> anyhow::Result<()> {
        if self.servers().next().is_none() {
            self.session.ui.debug(&format!("there is no API server to ask: {what}"));
            return Ok(());
        }
        self.wait("cluster", what, || self.now(ask).map(drop))
    }

    /// What the first API server that knows says now; `None` when there is no API server.
    ///
    /// # Errors
    /// In words, when none says yes; those of the last one.
    pub(super) fn now<T>(&self, ask: &dyn Fn(&ApiServer<'_>) -> Result<T, String>) -> Result<Option<T>, String> {
        let mut last = None;
        for seat in self.servers() {
            match seat.api().and_then(|api| ask(&api)) {
                Ok(value) => return Ok(Some(value)),
                Err(reason) => last = Some(format!("{}: {reason}", seat.name())),
            }
        }
        last.map_or(Ok(None), Err)
    }

    /// Waits until every member of etcd is healthy.
    pub(super) fn etcd_healthy(&self) -> anyhow::Result<()> {
        self.members().try_for_each(|seat| {
            self.wait(seat.name(), "etcd is healthy on every member", || proof::etcd(seat.node, false))
        })
    }

    /// Whether some node of the control plane has that file of its PKI folder at a point of the operation.
    ///
    /// # Errors
    /// When a node cannot be read.
    pub(super) fn has(&self, name: &str, at: At) -> anyhow::Result<bool> {
        for leg in self.legs.iter().filter(|(node, _)| node.role == Role::ControlPlane) {
            if content_of(leg, self.content, &leg.0.layout.pki_dir.join(name), at)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A certificate and its key in the PKI folder of the control plane at a point of the operation; `name` as
    /// `etcd/healthcheck-client`. It trusts `authorities`. That of `node` if it has its own, else any other's.
    ///
    /// # Errors
    /// When it is damaged; `None` when no node has it.
    pub(super) fn pair(
        &self,
        node: &TargetNode,
        name: &str,
        at: At,
        authorities: &[Vec<u8>],
    ) -> anyhow::Result<Option<Credential>> {
        for leg in self.legs_from(node) {
            let file = |extension: &str| leg.0.layout.pki_dir.join(format!("{name}.{extension}"));
            let certificate = content_of(leg, self.content, &file("crt"), at)?;
            let key = content_of(leg, self.content, &file("key"), at)?;
            if let (Some(certificate), Some(key)) = (certificate, key) {
                let read = Credential::from_pair(&certificate, &key, &[]);
                let credential = read.map_err(|why| damaged(leg, &file("crt"), &why))?;
                return Ok(Some(credential.trusting(authorities.iter().cloned())));
            }
        }
        Ok(None)
    }

    /// The administrator's credential at a point of the operation, of `node` if it has one, else any other's. It trusts
    /// `authorities` as well.
    ///
    /// # Errors
    /// When it is damaged; `None` when no node has one.
    pub(super) fn administrator(
        &self,
        node: &TargetNode,
        at: At,
        authorities: Vec<Vec<u8>>,
    ) -> anyhow::Result<Option<Credential>> {
        for leg in self.legs_from(node) {
            let Some(folder) = &leg.0.layout.kubernetes_dir else { continue };
            for name in ["admin.conf", "super-admin.conf"] {
                let path = folder.join(name);
                let Some(text) = content_of(leg, self.content, &path, at)? else { continue };
                let file = |named: &Path| match content_of(leg, self.content, named, at) {
                    Ok(Some(content)) => Ok(content),
                    Ok(None) => Err(format!("{}: it is not there", named.display())),
                    Err(error) => Err(format!("{}: {error:#}", named.display())),
                };
                let read = Credential::from_kubeconfig(&text, folder, None, &file);
                let credential = read.map_err(|why| damaged(leg, &path, &why))?;
                return Ok(Some(credential.trusting(authorities)));
            }
        }
        Ok(None)
    }

    /// The legs of the control plane, that of `node` first.
    fn legs_from<'s>(&'s self, node: &'s TargetNode) -> impl Iterator<Item = &'s Leg<'a>> {
        let is_own = move |leg: &&Leg<'a>| leg.0.node.name() == node.node.name();
        let ruling = self.legs.iter().filter(|(node, _)| node.role == Role::ControlPlane);
        let others = ruling.filter(move |leg| !is_own(leg));
        self.legs.iter().filter(move |leg| is_own(leg) && leg.0.role == Role::ControlPlane).chain(others)
    }
}

fn damaged(leg: &Leg<'_>, path: &Path, why: &str) -> anyhow::Error {
    Failure::failed(format!("{}: {}: {why}", leg.0.node.name(), path.display()))
        .hint("the operation's copy of this file is of no use; until the old is being dropped --abort goes back without it")
        .into()
}

/// Where the components of a node listen. Static pods have manifests; what else runs is told by its files.
pub(super) fn places(target: &Target, node: &TargetNode) -> anyhow::Result<Places> {
    if means(target.cluster.as_ref()).strategy != Strategy::StaticPod {
        let words = |why: String| Failure::failed(format!("{}: {why}", node.node.name()));
        return Ok(proof::places(node).map_err(words)?);
    }
    let nothing = Path::new("/");
    let kubernetes = node.layout.kubernetes_dir.as_deref().unwrap_or(nothing);
    Places::read(&*node.node, kubernetes, node.layout.kubelet_dir.as_deref().unwrap_or(nothing))
}

/// A credential must be accepted.
pub(super) fn accepted(verdict: Verdict) -> Result<(), String> {
    match verdict.accepted {
        Some(true) => Ok(()),
        _ => Err(verdict.reason),
    }
}

/// A credential must be refused.
pub(super) fn refused(verdict: Verdict) -> Result<(), String> {
    match verdict.accepted {
        Some(false) => Ok(()),
        Some(true) => Err(format!("it still accepts it, as that of {}", verdict.reason)),
        None => Err(verdict.reason),
    }
}

/// The certificates of a bundle on a node's disk (DER); none where there is none.
pub(super) fn on_disk(node: &TargetNode, name: &str) -> Vec<Vec<u8>> {
    let path = node.layout.pki_dir.join(name);
    match proof::read(node, crate::node::Query::File(path)).map(|found| found.state) {
        Ok(crate::node::FoundState::File(content)) => certificates(&content),
        _ => Vec::new(),
    }
}

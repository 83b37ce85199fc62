//! Is a revoked credential refused: asked of every API server and etcd member by itself, with the credential where its key is
//! at hand, else by asking what would be said to its holder.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::{LIMITS, own};
use crate::cli::live::proof::{client_of_etcd, places};
use crate::cli::session::Session;
use crate::cli::target::{Target, TargetNode};
use crate::live::api_server::ApiServer;
use crate::live::component::Component;
use crate::live::credential::{Credential, certificates};
use crate::live::enforcement::Holder;
use crate::live::proof::{prove, prove_beside};
use crate::live::wait::until;
use crate::node::{FoundState, Query};
use crate::pki::certificate::Certificate;
use crate::pki::chain::{Signature, issued};
use crate::pki::layout::Role;

/// How long a server may take to refuse: it rereads its files within a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The node's name.
    pub node: String,
    /// `HOST:PORT`.
    pub endpoint: String,
    /// Who was asked.
    pub component: Component,
    /// Whether it let the holder in; `None` when it did not say.
    pub accepted: Option<bool>,
    /// Whom it takes the holder for, or why there is no yes.
    pub reason: String,
    /// When, UTC.
    pub at: OffsetDateTime,
}

/// Who holds a credential, by what an API server says to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The user's name.
    pub name: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// What it may do in namespace `default`, one line for each rule.
    pub rights: Vec<String>,
}

/// Whom the cluster takes a credential for and what it may do, as long as it is let in somewhere.
pub fn person(target: &Target, credential: &Credential) -> Option<Person> {
    let rulers = target.nodes.iter().filter(|node| node.role == Role::ControlPlane);
    rulers.into_iter().find_map(|node| {
        let endpoint = places(node).ok()?.api_server?.endpoint;
        let shown = trusting(node, credential, Component::ApiServer);
        let api = ApiServer::new(&*node.node, endpoint, &shown, LIMITS).ok()?;
        let user = api.who_am_i().ok().filter(|user| !user.is_anonymous())?;
        let rights = api.own_rules().unwrap_or_default();
        Some(Person { name: user.name, groups: user.groups, rights })
    })
}

/// Shows the credential to every server that it is for, once.
pub fn show(session: &Session, target: &Target, credential: &Credential) -> Vec<Answer> {
    asked(target, credential, |node, component| shown(session, node, component, credential))
}

/// The same until each refuses it, or time is over: what enforces reads its files a moment after they have changed.
pub fn refused(session: &Session, target: &Target, credential: &Credential) -> Vec<Answer> {
    asked(target, credential, |node, component| patiently(session, || shown(session, node, component, credential)))
}

/// What every API server would say to the holder of a certificate whose key is not at hand, until each would refuse it.
/// About members of `system:masters` they say nothing else than yes.
pub fn judged(session: &Session, target: &Target, holder: &Holder<'_>) -> Vec<Answer> {
    let rulers = target.nodes.iter().filter(|node| node.role == Role::ControlPlane);
    let answers = rulers.filter_map(|node| {
        let endpoint = places(node).ok()?.api_server?.endpoint.to_string();
        Some(patiently(session, || {
            let said = own(target, node, |api| api.judge(holder));
            let (accepted, reason) = match said {
                Ok(judgement) => (Some(!judgement.denied), judgement.reason),
                Err(reason) => (None, reason),
            };
            Some(Answer {
                node: node.node.name().to_owned(),
                endpoint: endpoint.clone(),
                component: Component::ApiServer,
                accepted,
                reason,
                at: session.by_now(),
            })
        }))
    });
    answers.flatten().collect()
}

fn asked(
    target: &Target,
    credential: &Credential,
    ask: impl Fn(&TargetNode, Component) -> Option<Answer>,
) -> Vec<Answer> {
    let mut answers = Vec::new();
    for node in target.nodes.iter().filter(|node| node.role == Role::ControlPlane) {
        let is_etcds = is_of_etcd(node, credential);
        let component = if is_etcds && credential.server.is_none() { Component::Etcd } else { Component::ApiServer };
        answers.extend(ask(node, component));
    }
    answers
}

/// The last answer, or the first one that is a refusal.
fn patiently(session: &Session, mut ask: impl FnMut() -> Option<Answer>) -> Option<Answer> {
    let mut last = None;
    let _ = until(Instant::now() + PATIENCE, &session.interrupt, || {
        last = ask();
        match &last {
            Some(answer) if answer.accepted != Some(false) => Err(()),
            _ => Ok(()),
        }
    });
    last
}

fn shown(session: &Session, node: &TargetNode, component: Component, credential: &Credential) -> Option<Answer> {
    let endpoint = places(node).ok()?.of(component)?.endpoint.clone();
    let credential = trusting(node, credential, component);
    let known = if component == Component::Etcd { client_of_etcd(node).ok() } else { None };
    let verdict = match known {
        Some(known) => prove_beside(&*node.node, &endpoint, &credential, &known, LIMITS),
        None => prove(&*node.node, component, &endpoint, &credential, LIMITS),
    };
    Some(Answer {
        node: node.node.name().to_owned(),
        endpoint: endpoint.to_string(),
        component,
        accepted: verdict.accepted,
        reason: verdict.reason,
        at: session.by_now(),
    })
}

/// The credential, believing the servers of the node: a certificate alone believes nobody.
fn trusting(node: &TargetNode, credential: &Credential, component: Component) -> Credential {
    let file = if component == Component::Etcd { "etcd/ca.crt" } else { "ca.crt" };
    credential.clone().trusting(authorities(node, file))
}

/// Whether etcd's CA has signed it.
fn is_of_etcd(node: &TargetNode, credential: &Credential) -> bool {
    let leaf = credential.identity.as_ref().and_then(|identity| identity.chain.first());
    let Some(leaf) = leaf.and_then(|der| Certificate::from_der(der).ok()) else { return false };
    let signs = |der: &Vec<u8>| Certificate::from_der(der).is_ok_and(|it| issued(&leaf, &it) == Signature::Good);
    authorities(node, "etcd/ca.crt").iter().any(signs) && !authorities(node, "ca.crt").iter().any(signs)
}

fn authorities(node: &TargetNode, file: &str) -> Vec<Vec<u8>> {
    let found = node.node.read(&[Query::File(node.layout.pki_dir.join(file))]).unwrap_or_default();
    match found.into_iter().next().map(|found| found.state) {
        Some(FoundState::File(content)) => certificates(&content),
        _ => Vec::new(),
    }
}

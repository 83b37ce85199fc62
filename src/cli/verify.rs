//! `verify`: are new credentials accepted and old ones refused, by every server itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use time::OffsetDateTime;

use super::live::proof::client_of_etcd;
use super::live::{self, proof::places};
use super::session::Session;
use super::target::{Extent, Place, Target, TargetArgs, TargetNode};
use crate::error::{ExitCode, Failure};
use crate::live::component::Component;
use crate::live::credential::Credential;
use crate::live::places::Places;
use crate::live::proof::{prove, prove_beside};
use crate::node::Node;
use crate::node::fleet::{AT_ONCE, side_by_side};
use crate::node::http::Limits;
use crate::pki::layout::Role;
use crate::pki::lifetime::Lifetime;
use crate::plan::restart::Strategy;

mod own;
mod shown;
mod view;

use shown::{Scope, Shown};
use view::{Proof, VerificationResult};

/// Prove over the wire that new credentials are accepted and old ones are refused
///
/// Every API server, etcd member and kubelet of the target is asked separately, as its own node reaches it, and answers
/// for itself: past load balancers and without a cache. Without credentials, those that the nodes themselves use are
/// proved. Nothing is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubepki verify -n lab
  kubepki verify -n lab --kubeconfig new.conf --refused-kubeconfig ~/backup/old.conf
  kubepki verify -n lab --refused-certificate old-etcd-client.crt --refused-key old-etcd-client.key --component etcd
  kubepki verify --cluster-file lab.yaml -o json --query \"endpoints[?accepted!=expected]\"")]
pub struct VerifyArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Kubeconfig whose credential must be accepted; may be given more than once
    #[arg(long = "kubeconfig", value_name = "FILE")]
    kubeconfigs: Vec<PathBuf>,

    /// Kubeconfig whose credential must be refused; may be given more than once
    #[arg(long = "refused-kubeconfig", value_name = "FILE")]
    refused_kubeconfigs: Vec<PathBuf>,

    /// Client certificate that must be accepted; may be given more than once
    #[arg(long = "certificate", value_name = "FILE")]
    certificates: Vec<PathBuf>,

    /// Its private key, in the order of the certificates [default: in the certificate's file]
    #[arg(long = "key", value_name = "FILE", requires = "certificates")]
    keys: Vec<PathBuf>,

    /// Client certificate that must be refused; may be given more than once
    #[arg(long = "refused-certificate", value_name = "FILE")]
    refused_certificates: Vec<PathBuf>,

    /// Its private key, in the order of the certificates [default: in the certificate's file]
    #[arg(long = "refused-key", value_name = "FILE", requires = "refused_certificates")]
    refused_keys: Vec<PathBuf>,

    /// Only these servers; may be given more than once [default: those a credential is for]
    #[arg(long = "component", value_name = "COMPONENT", value_parser = component_parser(), value_delimiter = ',')]
    components: Vec<Component>,

    /// How long one server may take to answer
    #[arg(long, value_name = "LENGTH", default_value = "10s")]
    timeout: Lifetime,
}

/// The servers that know people themselves, by their names in the option.
const NAMED: [(&str, Component); 3] =
    [("api-server", Component::ApiServer), ("etcd", Component::Etcd), ("kubelet", Component::Kubelet)];

fn component_parser() -> impl TypedValueParser<Value = Component> {
    PossibleValuesParser::new(NAMED.map(|(name, _)| name)).map(|given| {
        NAMED.into_iter().find(|(name, _)| *name == given).map_or(Component::ApiServer, |(_, component)| component)
    })
}

/// Asks every server and prints what each said.
pub fn run(args: &VerifyArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    if matches!(args.target.place, Place::Root(_) | Place::Folder(_)) {
        return Err(Failure::usage("nothing runs in a folder: verify asks running servers")
            .hint("name a cluster, or leave the target out on a node; `kubepki check-expiry` judges files")
            .into());
    }
    // Stopping in the middle is harmless, but what runs for many nodes shall stop at once.
    session.interrupt.listen()?;
    let given = Shown::given(args)?;
    let target = Target::survey(&args.target, session)?;
    let limits = Limits::within(Duration::try_from(args.timeout.duration()).unwrap_or(Duration::from_secs(10)));
    let strategy = live::means(target.cluster.as_ref()).strategy;
    let asker = Asker { args, given: &given, strategy, limits, now: session.now, begun: Instant::now() };
    let nodes: Vec<&dyn Node> = target.nodes.iter().map(|node| &*node.node).collect();
    let of = |node: &dyn Node| target.nodes.iter().find(|known| known.node.name() == node.name());
    let answers = side_by_side(&nodes, AT_ONCE, &session.interrupt, &|_| {}, &|node| {
        Ok(of(node).map(|node| asker.ask(node)).unwrap_or_default())
    });
    session.interrupt.check()?;
    let mut proofs = Vec::new();
    for answer in answers {
        proofs.extend(answer?);
    }
    if proofs.is_empty() {
        return Err(nothing_to_ask(args, &target));
    }
    let result = VerificationResult::new(proofs);
    session.result(&result)?;
    Ok(result.exit_code())
}

fn nothing_to_ask(args: &VerifyArgs, target: &Target) -> anyhow::Error {
    let what = if args.components.is_empty() { "server that knows people" } else { "such server" };
    let place = if target.extent == Extent::Machine { "on this machine" } else { "on these nodes" };
    Failure::not_found(format!("there is no {what} {place}"))
        .hint("--cluster-file and --name give the nodes of a cluster; servers are found by manifests/ and the kubelet's config.yaml")
        .into()
}

/// Everything that is the same for all nodes.
struct Asker<'a> {
    args: &'a VerifyArgs,
    given: &'a [Shown],
    strategy: Strategy,
    limits: Limits,
    now: OffsetDateTime,
    begun: Instant,
}

impl Asker<'_> {
    /// Every server of `node` with every credential that is for it.
    fn ask(&self, node: &TargetNode) -> Vec<Proof> {
        let lost = |reason: String| vec![Proof::lost(node.node.name(), reason, self.clock())];
        if let Some(trouble) = &node.trouble {
            return lost(trouble.clone());
        }
        let (Some(kubernetes), Some(kubelet)) = (&node.layout.kubernetes_dir, &node.layout.kubelet_dir) else {
            return Vec::new();
        };
        let places = match self.strategy {
            Strategy::StaticPod => Places::read(&*node.node, kubernetes, kubelet).map_err(|error| format!("{error:#}")),
            // No manifest says where they listen.
            Strategy::Systemd | Strategy::Command(_) => places(node),
        };
        let places = match places {
            Ok(places) => places,
            Err(reason) => return lost(reason),
        };
        let trusted = own::Trusted::read(node);
        let own;
        let shown = if self.given.is_empty() {
            own = own::credentials(node, kubernetes);
            &own
        } else {
            self.given
        };
        let mut proofs = Vec::new();
        for (_, component) in NAMED.into_iter().filter(|(_, component)| self.wants(*component)) {
            let Some(listener) = places.of(component) else { continue };
            for shown in shown.iter().filter(|shown| self.is_for(shown, component, &trusted, node.role)) {
                let proof = |accepted, reason: String| Proof {
                    endpoint: listener.endpoint.to_string(),
                    node: node.node.name().to_owned(),
                    component,
                    credential: shown.name.clone(),
                    expected: shown.expected,
                    accepted,
                    reason,
                    at: self.clock(),
                };
                let credential = match &shown.credential {
                    Ok(credential) => trusted.completed(credential, shown.expected, component),
                    Err(why) => {
                        proofs.push(proof(None, why.clone()));
                        continue;
                    }
                };
                // Whom a list of etcd's names is told apart from silence beside somebody whom it answers.
                let is_to_be_refused = component == Component::Etcd && !shown.expected;
                let known = if is_to_be_refused { client_of_etcd(node).ok() } else { None };
                let verdict = match known {
                    Some(known) => prove_beside(&*node.node, &listener.endpoint, &credential, &known, self.limits),
                    None => prove(&*node.node, component, &listener.endpoint, &credential, self.limits),
                };
                let verdict = shown.judged(verdict, component);
                proofs.push(proof(verdict.accepted, verdict.reason));
            }
        }
        proofs
    }

    fn wants(&self, component: Component) -> bool {
        self.args.components.is_empty() || self.args.components.contains(&component)
    }

    /// Whether a credential belongs before a component: by what was said, else by who signed it.
    fn is_for(&self, shown: &Shown, component: Component, trusted: &own::Trusted, role: Role) -> bool {
        match &shown.scope {
            Scope::Only(only) => only.contains(&component),
            Scope::ByIssuer if !self.args.components.is_empty() => true,
            Scope::ByIssuer => match &shown.credential {
                Ok(credential) => trusted.is_for(credential, component),
                // It is to be heard of once for each node that would have seen it.
                Err(_) => component == if role == Role::Worker { Component::Kubelet } else { Component::ApiServer },
            },
        }
    }

    fn clock(&self) -> OffsetDateTime {
        self.now + self.begun.elapsed()
    }
}

/// A file of this machine as somebody typed its name.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())).into())
}

/// A credential that no server has to have the right certificate for has no use.
fn usage(path: &Path, why: &str) -> anyhow::Error {
    let why = why.strip_prefix(&format!("{}: ", path.display())).unwrap_or(why);
    Failure::usage(format!("{}: {why}", path.display())).into()
}

/// A kubeconfig of this machine.
fn kubeconfig(node: &dyn Node, path: &Path) -> anyhow::Result<Credential> {
    Credential::read(node, &absolute(path)?).map_err(|why| usage(path, &why))
}

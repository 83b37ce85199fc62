//! Revocations at work in a live cluster: control-plane nodes are prepared once, and afterwards asked whether they refuse what
//! is revoked.

use crate::cli::live::proof::{administrator, no_administrator, places};
use crate::cli::live::{self, between::Letting};
use crate::cli::rolling::{Moment, Rolling};
use crate::cli::session::Session;
use crate::cli::target::{Target, TargetArgs, TargetNode};
use crate::error::Failure;
use crate::live::NoAnswer;
use crate::live::api_server::ApiServer;
use crate::node::http::Limits;
use crate::node::{FoundState, Query};
use crate::pki::kubeadm_config::{with_extra_arguments, without_values_below};
use crate::pki::layout::Role;
use crate::plan::enforcement::Seat;
use crate::plan::phase::Phase;
use crate::plan::restart::Manifest;

pub mod in_force;
pub mod objects;
pub mod prepare;
pub mod proof;

/// For one question and its answer.
const LIMITS: Limits = Limits { time: std::time::Duration::from_secs(20), size: 256 * 1024 * 1024 };

/// The control-plane nodes with what their components read.
///
/// # Errors
/// When a node cannot be read.
pub fn seats(target: &Target, manifests: &[Manifest]) -> anyhow::Result<Vec<Seat>> {
    let mut seats = Vec::new();
    for node in target.nodes.iter().filter(|node| node.role == Role::ControlPlane) {
        let own = manifests.iter().filter(|manifest| manifest.node == node.node.name()).cloned().collect();
        let mut seat = Seat {
            node: node.node.name().to_owned(),
            pki_dir: node.layout.pki_dir.clone(),
            manifests: own,
            files: std::collections::BTreeMap::new(),
        };
        let found = node.node.read(&seat.wanted().into_iter().map(Query::File).collect::<Vec<_>>())?;
        for found in found {
            if let FoundState::File(content) = &found.state {
                seat.files.insert(found.path.clone(), content.to_vec());
            }
        }
        seats.push(seat);
    }
    Ok(seats)
}

/// How a live cluster is changed by revocations: as by any other operation, and when manifests have got flags of ours, kubeadm
/// is told to keep them.
pub fn rolling<'a>(
    session: &'a Session,
    target: &'a Target,
    args: &'a TargetArgs,
    manifests: &'a [Manifest],
) -> Rolling<'a> {
    let rolling = live::rolling(session, target, args, manifests, None, Letting::default());
    let usual = rolling.between;
    let between = move |moment: Moment, legs: &[(&TargetNode, crate::apply::journal::Journal)]| {
        usual(moment, legs)?;
        if legs.iter().all(|(_, journal)| journal.restarting.is_empty()) {
            return Ok(());
        }
        match moment {
            Moment::After(Phase::Renew) => keep_flags(session, target),
            Moment::TakenBack(Phase::Renew) => forget_flags(session, target),
            _ => Ok(()),
        }
    };
    Rolling { between: Box::new(between), ..rolling }
}

/// Notes the flags that manifests now have where a kubeadm upgrade takes them from.
pub(super) fn keep_flags(session: &Session, target: &Target) -> anyhow::Result<()> {
    let manifests = live::manifests(target)?;
    let arguments: Vec<_> = seats(target, &manifests)?.iter().flat_map(Seat::arguments).collect();
    configuration(session, target, &|text| with_extra_arguments(text, &arguments))
}

/// Takes them out again, unless manifests still have some: then it was not the preparation that was taken back.
fn forget_flags(session: &Session, target: &Target) -> anyhow::Result<()> {
    let manifests = live::manifests(target)?;
    if seats(target, &manifests)?.iter().any(|seat| !seat.arguments().is_empty()) {
        return keep_flags(session, target);
    }
    let folders: Vec<_> = target.nodes.iter().map(|node| node.layout.pki_dir.clone()).collect();
    let folders: Vec<_> =
        folders.iter().flat_map(|folder| [folder.join("kubepki"), folder.join("etcd/kubepki")]).collect();
    configuration(session, target, &|text| without_values_below(text, &folders))
}

/// Changes kubeadm's ClusterConfiguration, where there is one.
fn configuration(
    session: &Session,
    target: &Target,
    change: &dyn Fn(&str) -> Result<Option<String>, String>,
) -> anyhow::Result<()> {
    anywhere(target, |api| {
        let Some(text) = api.kubeadm_configuration()? else { return Ok(()) };
        match change(&text) {
            Ok(None) => Ok(()),
            Ok(Some(text)) => {
                session.ui.step("kubeadm-config: noting flags for the next kubeadm upgrade");
                api.write_kubeadm_configuration(&text)
            }
            Err(reason) => {
                session.ui.warning(&format!(
                    "the config map kubeadm-config stays as it is, so a kubeadm upgrade would undo this: {reason}"
                ));
                Ok(())
            }
        }
    })
    .map_err(|reason| {
        Failure::failed(format!("the config map kube-system/kubeadm-config: {reason}"))
            .hint("an administrator's kubeconfig on a control-plane node has to be able to change it")
            .into()
    })
}

/// Asks the API servers one after another as an administrator until one answers.
///
/// # Errors
/// With the last reason.
pub fn anywhere<T>(target: &Target, ask: impl Fn(&ApiServer<'_>) -> Result<T, NoAnswer>) -> Result<T, String> {
    let mut last = "there is no kube-apiserver in the target".to_owned();
    for node in target.nodes.iter().filter(|node| node.role == Role::ControlPlane) {
        match own(target, node, &ask) {
            Ok(answer) => return Ok(answer),
            Err(reason) => last = format!("{}: {reason}", node.node.name()),
        }
    }
    Err(last)
}

/// Asks a node's own API server as an administrator.
pub(super) fn own<T>(
    target: &Target,
    node: &TargetNode,
    ask: impl Fn(&ApiServer<'_>) -> Result<T, NoAnswer>,
) -> Result<T, String> {
    let listener = places(node)?.api_server.ok_or("there is no kube-apiserver on this node")?;
    let credential = administrator(target, node).ok_or_else(no_administrator)?;
    let api = ApiServer::new(&*node.node, listener.endpoint, &credential, LIMITS)?;
    ask(&api).map_err(|error| error.to_string())
}

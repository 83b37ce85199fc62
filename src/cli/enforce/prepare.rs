//! `revoke --prepare`: one control-plane node after another gets the files and flags with which revocations take effect at once.

use super::{keep_flags, rolling, seats};
use crate::apply::change::operation_id;
use crate::cli::carry_out::Crew;
use crate::cli::change::ChangeArgs;
use crate::cli::live;
use crate::cli::session::Session;
use crate::cli::target::{Extent, Target, TargetArgs};
use crate::error::Failure;
use crate::pki::authorization::Denied;
use crate::pki::layout::Role;
use crate::plan::blueprint::{Blueprint, FileContent, KeyPlan, NodeBlueprint, PlannedFile};
use crate::plan::enforcement::prepare::{Preparation, plan};
use crate::plan::enforcement::{API_SERVER, Seat};
use crate::plan::operation::{FileAction, NodeState, Operation, ProvisioningState};
use crate::plan::restart::Manifest;
use crate::plan::rounds::{Setting, in_steps};

/// What lists etcd gets in the beginning.
pub struct Lists<'a> {
    /// For its clients and its members, of one node; `None` where there is no etcd to prepare.
    pub of: &'a dyn Fn(&Seat) -> Option<[FileContent; 2]>,
    /// The keys that sign them.
    pub keys: Vec<KeyPlan>,
}

/// Prepares the target. `None` when the plan was only to be shown.
///
/// # Errors
/// Exit code 1 when a component cannot be prepared or the answer is no: nothing has changed; 6 when it stopped in between.
pub fn prepare(
    session: &Session,
    target: &Target,
    args: &TargetArgs,
    change: &ChangeArgs,
    denied: &Denied,
    lists: &Lists<'_>,
) -> anyhow::Result<Option<Operation>> {
    if target.extent == Extent::Folder {
        return Err(Failure::usage(
            "--pki-dir names certificates alone; --prepare changes the manifests of a control plane",
        )
        .hint("name a cluster with --cluster-file or --name, or a node's root with --root")
        .into());
    }
    let is_live = live::is_live(target, &args.place);
    let manifests = live::manifests(target)?;
    let seats = seats(target, &manifests)?;
    if !seats.iter().any(|seat| seat.manifest(API_SERVER).is_some()) {
        return Err(Failure::not_found(
            "there is no static pod of kube-apiserver in the target, so there is nothing to prepare",
        )
        .hint("--prepare knows control planes as kubeadm makes them")
        .into());
    }
    let mut preparation = plan(&seats, denied, lists.of)?;
    preparation.blueprint.keys.clone_from(&lists.keys);
    let count = preparation.blueprint.nodes.len();
    let restarts: usize = preparation.blueprint.nodes.iter().map(|node| node.restarts.len()).sum();
    if preparation.blueprint.is_empty() && preparation.manifests.is_empty() {
        let mut operation = preparation.blueprint.operation(&operation_id(session.now)?);
        if change.what_if {
            session.result(&operation)?;
            return Ok(None);
        }
        if is_live {
            keep_flags(session, target)?;
        }
        operation.provisioning_state = ProvisioningState::Succeeded;
        (operation.started_at, operation.ended_at) = (Some(session.now), Some(session.now));
        return Ok(Some(operation));
    }
    let blueprint = if is_live { in_order(session, target, preparation, &manifests)? } else { at_rest(preparation) };
    if is_live && !change.what_if {
        live::refuse_unwell(session, target, &manifests)?;
    }
    let mut crew =
        Crew::new(session, target, args, crate::plan::enforcement::COMMAND).asked_with(session.words.clone());
    if is_live {
        crew = crew.rolling(rolling(session, target, args, &manifests), session.words.clone());
    }
    let nodes = if count == 1 { "1 control-plane node".to_owned() } else { format!("{count} control-plane nodes") };
    let question = if is_live {
        format!("Prepare {nodes} for revocations, one after another, with {restarts} restarts of components?")
    } else {
        format!("Prepare the files of {nodes} for revocations?")
    };
    let outcome = crew.carry_out(change, &blueprint, &question)?;
    Ok(outcome.map(|mut operation| {
        operation.nodes.iter_mut().for_each(|node| node.state = NodeState::Finished);
        operation
    }))
}

/// Files, then each component with its new flags, one proven well before the next one is touched.
fn in_order(
    session: &Session,
    target: &Target,
    preparation: Preparation,
    manifests: &[Manifest],
) -> anyhow::Result<Blueprint> {
    let Preparation { mut blueprint, manifests: changed, .. } = preparation;
    let is_changed = |one: &&Manifest| changed.iter().any(|new| new.node == one.node && new.component == one.component);
    let unchanged = manifests.iter().filter(|one| !is_changed(one));
    let all: Vec<Manifest> = changed.iter().chain(unchanged).cloned().collect();
    let means = live::means(target.cluster.as_ref());
    let roles: Vec<_> = target.nodes.iter().map(|node| (node.node.name().to_owned(), node.role)).collect();
    let stamp = operation_id(session.now)?;
    let setting = Setting { roles: &roles, means: &means, manifests: &all, stamp: &stamp };
    in_steps(&mut blueprint, &setting)?;
    let rulers = roles.iter().filter(|(_, role)| *role == Role::ControlPlane).count();
    if rulers == 1 && blueprint.nodes.iter().any(|node| node.restarts.iter().any(|one| one == API_SERVER)) {
        let warning = "there is one kube-apiserver: the API will be away while it restarts, for about 5 to 40 seconds";
        blueprint.warnings.push(warning.to_owned());
    }
    if target.extent != Extent::WholeCluster {
        let step = "do the same on every other control-plane node: each enforces for itself";
        blueprint.next_steps.push(step.to_owned());
    }
    Ok(blueprint)
}

/// Files and manifests alone: whoever starts the machine starts what reads them.
fn at_rest(preparation: Preparation) -> Blueprint {
    let Preparation { mut blueprint, manifests, .. } = preparation;
    for node in &mut blueprint.nodes {
        let own = manifests.iter().filter(|manifest| manifest.node == node.node);
        node.files.extend(own.map(|manifest| PlannedFile {
            path: manifest.path.clone(),
            name: format!("{}.yaml", manifest.component),
            step: 0,
            action: FileAction::Replaced,
            content: Some(FileContent::Manifest(manifest.text.clone())),
            mode: 0o600,
            seen: Some(manifest.sha256.clone()),
            old_serial_number: None,
            not_after: None,
        }));
        for component in std::mem::take(&mut node.restarts) {
            let step =
                format!("on {}: {component} starts anew with its changed manifest; see that it comes back", node.node);
            blueprint.next_steps.push(step);
        }
    }
    blueprint.next_steps.push(
        "put the same flags into extraArgs of kubeadm's ClusterConfiguration, so that a kubeadm upgrade keeps them"
            .to_owned(),
    );
    blueprint
}

/// Starts every API server anew, one after another: connections that were opened before a revocation end with it.
///
/// # Errors
/// As [`prepare`].
pub fn end_connections(session: &Session, target: &Target, args: &TargetArgs) -> anyhow::Result<Option<Operation>> {
    let manifests = live::manifests(target)?;
    let mut blueprint = Blueprint { command: crate::plan::enforcement::COMMAND.to_owned(), ..Blueprint::default() };
    for manifest in manifests.iter().filter(|manifest| manifest.component == API_SERVER) {
        blueprint.nodes.push(NodeBlueprint {
            node: manifest.node.clone(),
            files: Vec::new(),
            restarts: vec![API_SERVER.to_owned()],
            steps: Vec::new(),
        });
    }
    let preparation = Preparation { blueprint, ..Preparation::default() };
    let blueprint = in_order(session, target, preparation, &manifests)?;
    live::refuse_unwell(session, target, &manifests)?;
    // Without words: once this is finished nothing is left of what was asked for.
    let crew = Crew::new(session, target, args, crate::plan::enforcement::COMMAND)
        .rolling(rolling(session, target, args, &manifests), Vec::new());
    // Whoever agreed to the revocation has agreed to this with it.
    let agreed = ChangeArgs { yes: true, ..ChangeArgs::default() };
    crew.carry_out(&agreed, &blueprint, "")
}

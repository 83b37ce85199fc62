//! `show`: where a cluster stands, in one look.

use time::OffsetDateTime;

use super::session::Session;
use super::state::{last_operations, overall};
use super::target::{Place, Target, TargetArgs};
use crate::diagnose::{Diagnosis, Member, Policy, Row, Status, diagnose};
use crate::error::{ExitCode, Failure};
use crate::observe::{self, Keys, Scope, Wanted};
use crate::plan::operation::{NodeState, Operation};
use crate::report::Report;
use crate::report::time_text::rfc3339;
use crate::snapshot::{Snapshot, Source};

mod services;
mod view;

use view::{Authority, ClusterState, LastOperation};

/// Show where a cluster stands
///
/// Its last operation and whether that ended well, its certificate authorities, how many certificates have which status,
/// and who renews what. `kubepki check-expiry` has the certificates one by one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubepki show
  kubepki show -n lab -g prod -o table
  kubepki show --root /host --query provisioningState -o tsv")]
pub struct ShowArgs {
    #[command(flatten)]
    target: TargetArgs,
}

/// Shows the target.
pub fn run(args: &ShowArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    let target = Target::resolve(&args.target, session)?;
    let operations = last_operations(session, &args.target, &target)?;
    let snapshot = look(&args.target, &target, session.now)?;
    let policy = Policy { target: args.target.words(), ..Policy::at(session.now) };
    let diagnosis = diagnose(&snapshot, &policy);
    if operations.is_empty() && diagnosis.rows.iter().all(|row| row.certificate.is_none()) {
        let places: Vec<String> = target.nodes.iter().map(|node| node.layout.pki_dir.display().to_string()).collect();
        return Err(Failure::not_found(format!("there are no certificates in {}", places.join(", ")))
            .hint("`kubepki create-certs` makes them; --pki-dir, --root and --name look elsewhere")
            .into());
    }
    let state = ClusterState {
        name: name(&args.target, &target),
        resource_group: match &args.target.place {
            Place::Cluster(cluster) => cluster.group.clone(),
            _ => None,
        },
        provisioning_state: overall(&operations),
        operation: newest(&operations).map(|newest| summary(newest, &operations)),
        created_at: created_at(&diagnosis),
        last_updated: last_updated(&diagnosis, newest(&operations)),
        certificate_authorities: authorities(&diagnosis),
        counts: counts(&diagnosis),
        auto_rotation: services::auto_rotation(&target)?,
        kubelet_serving: services::kubelet_serving(&target)?,
        tls_bootstrap: services::tls_bootstrap(&target)?,
    };
    session.result(&state as &dyn Report)?;
    Ok(ExitCode::Done)
}

fn look(args: &TargetArgs, target: &Target, now: OffsetDateTime) -> anyhow::Result<Snapshot> {
    let mut snapshot = Snapshot { taken_at: now, nodes: Vec::new() };
    for node in &target.nodes {
        let wanted = Wanted { scopes: vec![Scope::of(&node.layout)], keys: Keys::PublicHalf };
        let mut found = observe::node(&*node.node, &wanted);
        if let Some(error) = &found.error {
            return Err(Failure::partial(format!("{}: {error}", found.name)).into());
        }
        if matches!(args.place, Place::Root(_)) {
            // A mounted disk has no clock and no addresses of its own.
            found.facts = None;
        }
        snapshot.nodes.push(found);
    }
    Ok(snapshot)
}

fn name(args: &TargetArgs, target: &Target) -> String {
    match (&target.cluster, &args.place) {
        (Some(cluster), _) => cluster.metadata.name.clone(),
        (None, Place::Folder(path) | Place::Root(path)) => path.display().to_string(),
        (None, _) => "local".to_owned(),
    }
}

fn newest(operations: &[(String, Operation)]) -> Option<&Operation> {
    operations.iter().map(|(_, operation)| operation).max_by_key(|operation| operation.started_at)
}

/// The operation `newest`, put together from what each node knows of it.
fn summary(newest: &Operation, operations: &[(String, Operation)]) -> LastOperation {
    let own = || operations.iter().filter(|(_, operation)| operation.id == newest.id);
    // A node's journal knows best about that node; about one that has no journal the others know as much.
    let has_journal = |name: &str| own().any(|(node, _)| node == name);
    let nodes = || {
        let mine =
            own().flat_map(|(node, operation)| operation.nodes.iter().filter(move |report| report.name == *node));
        mine.chain(newest.nodes.iter().filter(|report| !has_journal(&report.name)))
    };
    let named = |wanted: &dyn Fn(NodeState) -> bool| -> Vec<String> {
        let mut names: Vec<String> = nodes().filter(|node| wanted(node.state)).map(|node| node.name.clone()).collect();
        names.dedup();
        names
    };
    LastOperation {
        kind: newest.command.clone(),
        id: newest.id.clone(),
        provisioning_state: newest.provisioning_state,
        phase: newest.phases.iter().rev().find(|phase| phase.started_at.is_some()).map(|phase| phase.name.clone()),
        started_at: newest.started_at.map(rfc3339),
        ended_at: newest.ended_at.map(rfc3339),
        finished_nodes: named(&|state| matches!(state, NodeState::Finished | NodeState::RolledBack)),
        pending_nodes: named(&|state| !matches!(state, NodeState::Finished | NodeState::RolledBack)),
        error: nodes().find_map(|node| node.error.clone()),
    }
}

/// How many certificates have each status. A file that may be missing and is counts for nothing.
fn counts(diagnosis: &Diagnosis<'_>) -> Vec<(&'static str, usize)> {
    let counted = |row: &&Row<'_>| row.certificate.is_some() || row.status() != Status::Ok;
    let with = |status| diagnosis.rows.iter().filter(counted).filter(|row| row.status() == status).count();
    Status::ALL.iter().map(|status| (status.name(), with(*status))).collect()
}

fn created_at(diagnosis: &Diagnosis<'_>) -> Option<String> {
    let oldest = authority_rows(diagnosis).filter_map(|row| row.certificate).map(|ca| ca.not_before()).min();
    oldest.map(rfc3339)
}

fn last_updated(diagnosis: &Diagnosis<'_>, operation: Option<&Operation>) -> Option<String> {
    let recorded = operation.and_then(|operation| operation.ended_at.or(operation.started_at));
    let newest = || diagnosis.rows.iter().filter_map(|row| row.certificate).map(|held| held.not_before()).max();
    recorded.or_else(newest).map(rfc3339)
}

fn authority_rows<'a, 'b>(diagnosis: &'b Diagnosis<'a>) -> impl Iterator<Item = &'b Row<'a>> {
    let is_file = |row: &&Row<'_>| matches!(row.member, Member::Whole | Member::Certificate(_));
    diagnosis.rows.iter().filter(|row| row.is_authority && row.artifact.source == Source::Pki).filter(is_file)
}

/// Every CA once, however many nodes have it.
fn authorities(diagnosis: &Diagnosis<'_>) -> Vec<Authority> {
    let mut found: Vec<Authority> = Vec::new();
    for row in authority_rows(diagnosis) {
        let fingerprint = row.certificate.map(crate::pki::certificate::Certificate::fingerprint_hex);
        if fingerprint.is_some() && found.iter().any(|known| known.fingerprint_sha256 == fingerprint) {
            continue;
        }
        found.push(Authority {
            name: row.name.clone(),
            status: row.status().name(),
            subject: row.certificate.map(|ca| ca.subject().text().to_owned()),
            serial_number: row.certificate.map(|ca| ca.serial().to_string()),
            fingerprint_sha256: fingerprint,
            key_algorithm: row.certificate.map(|ca| ca.key_kind().to_string()),
            not_before: row.certificate.map(|ca| rfc3339(ca.not_before())),
            not_after: row.certificate.map(|ca| rfc3339(ca.not_after())),
            ends: row.certificate.map(|ca| ca.not_after()),
            externally_managed: row.externally_managed,
        });
    }
    found
}

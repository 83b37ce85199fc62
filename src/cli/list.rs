//! `list`: every cluster this user has a file for, and where it stands.

use serde::Serialize;
use time::OffsetDateTime;

use super::cluster_file::{ClusterFile, ClusterNode};
use super::record;
use super::session::Session;
use super::state::{last_operations, overall};
use super::target::{KnownCluster, Place, Target, TargetArgs, known_clusters, read_cluster_file};
use crate::error::ExitCode;
use crate::plan::operation::ProvisioningState;
use crate::report::{Cell, Report, Table, Tone, View, value_of};

/// List the clusters that have a cluster file
///
/// The files are ~/.kubepki/clusters/[GROUP/]NAME.yaml. A file that cannot be read is listed with its error.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubepki list
  kubepki list -g prod -o tsv --query \"[].name\"")]
pub struct ListArgs {
    /// Only the clusters in this folder below ~/.kubepki/clusters
    #[arg(short = 'g', long, value_name = "GROUP")]
    #[arg(add = clap_complete::ArgValueCompleter::new(super::candidates::groups))]
    pub resource_group: Option<String>,
}

/// The clusters.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Clusters(Vec<ListedCluster>);

/// One cluster, without details.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedCluster {
    name: String,
    resource_group: Option<String>,
    provisioning_state: Option<ProvisioningState>,
    nodes: Option<usize>,
    cluster_file: String,
    error: Option<String>,
}

/// Lists the clusters.
pub fn run(args: &ListArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    let known = known_clusters(&session.home()?)?;
    let is_wanted = |known: &KnownCluster| args.resource_group.is_none() || known.name.group == args.resource_group;
    let clusters = known.into_iter().filter(is_wanted).map(|known| listed(known, session)).collect();
    session.result(&Clusters(clusters))?;
    Ok(ExitCode::Done)
}

fn listed(known: KnownCluster, session: &Session) -> ListedCluster {
    let file = read_cluster_file(&known.path);
    let args = TargetArgs { place: Place::Cluster(known.name.clone()), ..TargetArgs::default() };
    // A list does not log in to other machines.
    let is_here = |file: &ClusterFile| file.spec.nodes.iter().all(ClusterNode::is_local);
    let state = match &file {
        Ok(file) if !is_here(file) => {
            record::last(session, file).map(|last| last.map(|operation| operation.provisioning_state))
        }
        _ => Target::resolve(&args, session)
            .and_then(|target| last_operations(session, &args, &target))
            .map(|operations| Some(overall(&operations))),
    };
    ListedCluster {
        error: state.as_ref().err().map(|error| format!("{error:#}")),
        name: known.name.name,
        resource_group: known.name.group,
        provisioning_state: state.ok().flatten(),
        nodes: file.ok().map(|file| file.spec.nodes.len()),
        cluster_file: known.path.display().to_string(),
    }
}

impl Report for Clusters {
    fn to_value(&self) -> anyhow::Result<serde_json::Value> {
        value_of(self)
    }

    fn view(&self, _now: OffsetDateTime) -> View {
        if self.0.is_empty() {
            return View::default().line("no cluster files in ~/.kubepki/clusters");
        }
        let mut table = Table::new(["NAME", "RESOURCE GROUP", "PROVISIONING STATE", "NODES", "CLUSTER FILE"])
            .dispensable(["CLUSTER FILE"]);
        for cluster in &self.0 {
            let state = match (cluster.provisioning_state, &cluster.error) {
                (Some(state), _) => super::state::cell(state),
                (None, Some(error)) => Cell::toned(error.as_str(), Tone::Attention),
                (None, None) => "unknown".into(),
            };
            table.push([
                cluster.name.as_str().into(),
                cluster.resource_group.as_deref().unwrap_or("-").into(),
                state,
                cluster.nodes.map_or("-".into(), |nodes| nodes.to_string().into()),
                cluster.cluster_file.as_str().into(),
            ]);
        }
        View::default().table(table)
    }
}

//! `discover`: a cluster file from a running cluster, instead of writing it by hand.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap_complete::ArgValueCompleter;
use serde::Serialize;
use time::OffsetDateTime;

use super::candidates;
use super::cluster_file::{ClusterFile, ClusterNode, Metadata, Spec, Ssh};
use super::session::Session;
use super::target::ClusterName;
use super::target::login::SshArgs;
use crate::error::{ExitCode, Failure};
use crate::live::inventory::Machine;
use crate::pki::layout::Role;
use crate::report::text::counted;
use crate::report::{Format, Report, View, value_of};

mod file;
mod source;

use file::Action;
use source::Found;

/// Write a cluster file from a running cluster
///
/// Asks the cluster for its nodes: through a kubeconfig (the one that kubectl would use unless --kubeconfig is given), or
/// with HOST over SSH from one control-plane node, whose own admin.conf is used there and never leaves it unencrypted.
/// kubectl is not needed. When the API is down, HOST's etcd still names the control-plane nodes.
///
/// Nodes are listed with their InternalIP and role. The SSH options given are written into the file. A file that is there
/// and says something else is replaced only with --force, or after a question.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubepki discover                                           # prints the file
  kubepki discover -n lab -g prod --ssh-user ops             # then: kubepki check-expiry -n lab -g prod
  kubepki discover --kubeconfig ~/lab.kubeconfig --context lab --file lab.yaml
  kubepki discover ops@10.0.0.11 --ssh-private-key-file ~/.ssh/lab -n lab")]
pub struct DiscoverArgs {
    /// Control-plane node to ask over SSH instead of a kubeconfig
    #[arg(value_name = "[USER@]HOST[:PORT]", value_parser = NonEmptyStringValueParser::new())]
    #[arg(conflicts_with_all = ["kubeconfig", "context"])]
    pub host: Option<String>,

    /// The same as the argument HOST
    #[arg(long, value_name = "[USER@]HOST[:PORT]", value_parser = NonEmptyStringValueParser::new())]
    #[arg(conflicts_with_all = ["host", "kubeconfig", "context"])]
    pub node_host: Option<String>,

    /// Kubeconfig to ask with [default: the first of $KUBECONFIG, else ~/.kube/config, else this node's admin.conf]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig instead of its current one
    #[arg(long, value_name = "CONTEXT", value_parser = NonEmptyStringValueParser::new())]
    pub context: Option<String>,

    /// Save as ~/.kubepki/clusters/[GROUP/]NAME.yaml
    #[arg(short, long, value_name = "NAME", add = ArgValueCompleter::new(candidates::clusters))]
    pub name: Option<String>,

    /// Folder of --name below ~/.kubepki/clusters
    #[arg(short = 'g', long, value_name = "GROUP", requires = "name")]
    #[arg(add = ArgValueCompleter::new(candidates::groups))]
    pub resource_group: Option<String>,

    /// Write there instead; - prints the file, as without --name and --file
    #[arg(short, long, value_name = "FILE|-")]
    pub file: Option<PathBuf>,

    /// Replace a file that says something else, without a question
    #[arg(long)]
    pub force: bool,

    /// How nodes are logged in to; written into the file.
    #[command(flatten)]
    pub ssh: SshArgs,
}

/// What was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Discovered {
    kind: &'static str,
    file: String,
    name: String,
    control_plane_endpoint: Option<String>,
    nodes: Vec<DiscoveredNode>,
    action: Action,
}

#[derive(Debug, Serialize)]
struct DiscoveredNode {
    name: String,
    host: String,
    role: Role,
}

impl Report for Discovered {
    fn to_value(&self) -> anyhow::Result<serde_json::Value> {
        value_of(self)
    }

    fn view(&self, _now: OffsetDateTime) -> View {
        View::default()
    }

    fn rows(&self) -> anyhow::Result<serde_json::Value> {
        Ok(self.nodes.iter().map(|node| serde_json::json!([node.name, node.host, node.role])).collect())
    }
}

/// Asks, writes and tells.
pub fn run(args: &DiscoverArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    let saved = args.name.clone().map(|name| ClusterName::new(name, args.resource_group.clone()));
    let saved = saved.transpose().map_err(Failure::usage)?;
    let is_printed = args.file.as_deref().is_some_and(|file| file.as_os_str() == "-");
    let path = match (&args.file, &saved) {
        (Some(_), _) if is_printed => None,
        (Some(file), _) => Some(file::absolute(file)?),
        (None, Some(name)) => Some(name.path(&session.home()?)),
        (None, None) => None,
    };
    let found = source::ask(args, session)?;
    for warning in &found.warnings {
        session.ui.warning(warning);
    }
    let stem = path.as_ref().and_then(|path| path.file_stem()?.to_str().map(str::to_owned));
    let name = args.name.clone().or(stem).or_else(|| found.name.clone()).unwrap_or_else(|| "kubernetes".to_owned());
    let cluster = cluster(args, name, &found)?;
    let text = file::text(&cluster, &found.asked, session.now)?;
    let Some(path) = path else {
        session.ui.raw(text.as_bytes())?;
        return Ok(ExitCode::Done);
    };
    let action = file::write(&path, &text, &cluster, args.force, session)?;
    let nodes = &cluster.spec.nodes;
    if matches!(session.ui.format, Format::Table) && session.ui.query.is_none() {
        let ruling = nodes.iter().filter(|node| node.role == Role::ControlPlane).count();
        session.ui.status(&format!(
            "{} {}: {} and {}",
            action.words(),
            path.display(),
            counted(ruling, "control-plane node"),
            counted(nodes.len() - ruling, "worker")
        ));
        session.ui.hint(&match &saved {
            Some(ClusterName { name, group: Some(group) }) if args.file.is_none() => {
                format!("kubepki check-expiry -n {name} -g {group}")
            }
            Some(ClusterName { name, .. }) if args.file.is_none() => format!("kubepki check-expiry -n {name}"),
            _ => format!("kubepki check-expiry --cluster-file {}", path.display()),
        });
    } else {
        let listed = nodes.iter().map(|node| DiscoveredNode {
            name: node.name.clone(),
            host: node.host.clone(),
            role: node.role,
        });
        session.result(&Discovered {
            kind: "DiscoveredCluster",
            file: path.display().to_string(),
            name: cluster.metadata.name.clone(),
            control_plane_endpoint: cluster.spec.control_plane_endpoint.clone(),
            nodes: listed.collect(),
            action,
        })?;
    }
    Ok(ExitCode::Done)
}

/// The cluster file for what was found.
fn cluster(args: &DiscoverArgs, name: String, found: &Found) -> anyhow::Result<ClusterFile> {
    let mut machines: Vec<&Machine> = found.machines.iter().collect();
    machines.sort_by_key(|one| (!one.is_control_plane, one.name.clone()));
    let nodes = machines.iter().map(|one| ClusterNode {
        name: one.name.clone(),
        host: one.address.clone().unwrap_or_else(|| one.name.clone()),
        role: if one.is_control_plane { Role::ControlPlane } else { Role::Worker },
        ssh: Ssh::default(),
    });
    let nodes: Vec<ClusterNode> = nodes.collect();
    if nodes.is_empty() {
        return Err(Failure::not_found(format!("{} knows of no nodes", found.asked)).into());
    }
    let mut file = source::skeleton(args, Vec::new())?;
    file.metadata = Metadata { name };
    file.spec = Spec { control_plane_endpoint: found.endpoint.clone(), nodes, ..file.spec };
    Ok(file)
}

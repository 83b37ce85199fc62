//! Which machines and which folders a command is about.
//!
//! This machine unless told otherwise; one folder, a mounted root, or a cluster file. What stands on the command line
//! beats what the environment presets. Nothing is looked for inside the files here.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use clap_complete::ArgValueCompleter;

use super::candidates;
use super::cluster_file::{ClusterFile, ClusterNode};
use super::session::Session;
use crate::error::{Failure, hints};
use crate::node::fleet::{AT_ONCE, Event, side_by_side};
use crate::node::local::LocalNode;
use crate::node::{FoundState, Node, Query};
use crate::pki::layout::{Layout, Role};
use crate::report::progress::Progress;
use crate::report::text::counted;

mod clusters;
pub mod login;

use login::SshArgs;

pub use clusters::{ClusterName, KnownCluster, known_clusters};

/// The options of every command that is about certificates on machines.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Target options (this machine unless one is given)")]
struct TargetOptions {
    /// One PKI folder, laid out as /etc/kubernetes/pki, and nothing else
    #[arg(long, value_name = "DIR")]
    pki_dir: Option<PathBuf>,

    /// Treat DIR as / of a node: a mounted disk, /host of a debug pod
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Cluster file that lists the nodes
    #[arg(long, value_name = "FILE")]
    cluster_file: Option<PathBuf>,

    /// Cluster whose file is ~/.kubepki/clusters/[GROUP/]NAME.yaml
    #[arg(short, long, value_name = "NAME", add = ArgValueCompleter::new(candidates::clusters))]
    name: Option<String>,

    /// Folder of --name below ~/.kubepki/clusters
    #[arg(short = 'g', long, value_name = "GROUP", add = ArgValueCompleter::new(candidates::groups))]
    resource_group: Option<String>,

    /// Only this node; may be given more than once
    #[arg(long = "node", value_name = "NODE", value_delimiter = ',')]
    #[arg(add = ArgValueCompleter::new(candidates::nodes))]
    nodes: Vec<String>,

    /// Only nodes of this role
    #[arg(long, value_name = "ROLE", value_parser = role_parser())]
    role: Option<Role>,

    #[command(flatten)]
    ssh: SshArgs,
}

/// The target as the operator named it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetArgs {
    /// Where the nodes come from.
    pub place: Place,
    /// Names given with `--node`.
    pub nodes: Vec<String>,
    /// `--role`.
    pub role: Option<Role>,
    /// How nodes are logged in to.
    pub ssh: SshArgs,
}

/// Where the nodes come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Place {
    /// This machine.
    #[default]
    ThisMachine,
    /// `--pki-dir`.
    Folder(PathBuf),
    /// `--root`.
    Root(PathBuf),
    /// `--cluster-file`.
    ClusterFile(PathBuf),
    /// `--name` with or without `--resource-group`.
    Cluster(ClusterName),
}

/// The machines a command works on.
#[derive(Debug)]
pub struct Target {
    /// How much of a cluster this is.
    pub extent: Extent,
    /// Its cluster file.
    pub cluster: Option<ClusterFile>,
    /// The chosen nodes, in the order of the cluster file.
    pub nodes: Vec<TargetNode>,
}

/// How much of a cluster a target covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A folder: no live machine.
    Folder,
    /// One machine, which may or may not be all of its cluster.
    Machine,
    /// All nodes of a cluster file.
    WholeCluster,
    /// Some nodes of a cluster file.
    PartOfCluster,
}

/// One machine of a target.
pub struct TargetNode {
    /// Reads and writes there.
    pub node: Box<dyn Node>,
    /// What it is.
    pub role: Role,
    /// Its folders.
    pub layout: Layout,
    /// Why it cannot be asked, where it cannot.
    pub trouble: Option<String>,
}

impl std::fmt::Debug for TargetNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TargetNode").field("node", &self.node.name()).finish_non_exhaustive()
    }
}

impl Target {
    /// Finds the machines that `args` name and the folders that matter on each, and connects to all of them.
    ///
    /// # Errors
    /// Exit code 2 for a wrong folder or cluster file, 3 for an unknown cluster or node, 1 when a node cannot be reached.
    pub fn resolve(args: &TargetArgs, session: &Session) -> anyhow::Result<Self> {
        let target = Self::survey(args, session)?;
        session.interrupt.check()?;
        let lost: Vec<&str> = target.nodes.iter().filter_map(|node| node.trouble.as_deref()).collect();
        if lost.is_empty() {
            return Ok(target);
        }
        let count = format!("{} of {}", lost.len(), counted(target.nodes.len(), "node"));
        Err(Failure::failed(format!("{count} cannot be reached:\n  {}", lost.join("\n  ")))
            .hint("check the connection with `ssh`; --node leaves nodes out where that is safe")
            .into())
    }

    /// As [`Target::resolve`], but a node that cannot be reached stays in the target with its [`TargetNode::trouble`].
    ///
    /// # Errors
    /// Exit code 2 for a wrong folder or cluster file, 3 for an unknown cluster or node.
    pub fn survey(args: &TargetArgs, session: &Session) -> anyhow::Result<Self> {
        Self::found(args, session, true)
    }

    /// As [`Target::survey`], but the nodes of a cluster file are not connected to: each has the role and the folders that
    /// the file says, and kubeadm's habits. For whoever looks at all habits anyway.
    ///
    /// # Errors
    /// As [`Target::survey`].
    pub fn unseen(args: &TargetArgs, session: &Session) -> anyhow::Result<Self> {
        Self::found(args, session, false)
    }

    fn found(args: &TargetArgs, session: &Session, connects: bool) -> anyhow::Result<Self> {
        match (&args.place, Self::cluster_file(args, session)?) {
            (Place::ThisMachine, _) => Self::machine(args, Path::new("/")),
            (Place::Root(root), _) => Self::machine(args, root),
            (Place::Folder(folder), _) => Self::folder(args, folder),
            (Place::ClusterFile(_) | Place::Cluster(_), None) => Err(Failure::not_found("there is no cluster").into()),
            (Place::ClusterFile(_) | Place::Cluster(_), Some((path, file))) => {
                Self::cluster(args, &path, &file, session, connects)
            }
        }
    }

    /// The cluster file that `args` name, and where it is. Nothing is connected for that.
    ///
    /// # Errors
    /// Exit code 2 for a wrong one, 3 when it is not there.
    pub fn cluster_file(args: &TargetArgs, session: &Session) -> anyhow::Result<Option<(PathBuf, ClusterFile)>> {
        Ok(match &args.place {
            Place::ThisMachine | Place::Root(_) | Place::Folder(_) => None,
            Place::ClusterFile(path) => Some((path.clone(), read_cluster_file(path)?)),
            Place::Cluster(name) => {
                let path = name.path(&session.home()?);
                let file = clusters::read(name, &path, &session.home()?)?;
                Some((path, file))
            }
        })
    }

    fn folder(args: &TargetArgs, folder: &Path) -> anyhow::Result<Self> {
        args.expect_only("local")?;
        let layout = Layout::folder(absolute(folder)?);
        let node = Box::new(LocalNode::open("local", "/")?);
        let role = Role::ControlPlane;
        Ok(Self {
            extent: Extent::Folder,
            cluster: None,
            nodes: vec![TargetNode { node, role, layout, trouble: None }],
        })
    }

    fn machine(args: &TargetArgs, root: &Path) -> anyhow::Result<Self> {
        args.expect_only("local")?;
        let node = Box::new(LocalNode::open("local", absolute(root)?)?);
        let candidates = Layout::candidates(Path::new("/etc/kubernetes"), Path::new("/var/lib/kubelet"));
        let (layout, role) = look(&*node, &candidates)?;
        let found = TargetNode { node, role, layout, trouble: None };
        if args.role.is_some_and(|role| role != found.role) {
            return Err(Failure::not_found("node local: it has another role than --role asks for").into());
        }
        Ok(Self { extent: Extent::Machine, cluster: None, nodes: vec![found] })
    }

    fn cluster(
        args: &TargetArgs,
        path: &Path,
        file: &ClusterFile,
        session: &Session,
        connects: bool,
    ) -> anyhow::Result<Self> {
        let names: Vec<&str> = file.spec.nodes.iter().map(|node| node.name.as_str()).collect();
        if let Some(unknown) = args.nodes.iter().find(|name| !names.contains(&name.as_str())) {
            return Err(Failure::not_found(format!("{}: there is no node {unknown:?}", path.display()))
                .hint(format!("its nodes are {}", names.join(", ")))
                .into());
        }
        let wanted = file.spec.nodes.iter().filter(|node| {
            (args.nodes.is_empty() || args.nodes.contains(&node.name)) && args.role.is_none_or(|role| role == node.role)
        });
        let wanted: Vec<_> = wanted.collect();
        if wanted.is_empty() {
            return Err(Failure::not_found(format!("{}: no node fits --node and --role", path.display())).into());
        }
        let candidates = Layout::candidates(&file.spec.kubernetes_dir, &file.spec.kubelet_dir);
        let access = login::access(session);
        let open = |node: &&ClusterNode| -> anyhow::Result<Box<dyn Node>> {
            Ok(if node.is_local() {
                Box::new(LocalNode::open(&node.name, "/")?)
            } else {
                Box::new(args.ssh.node(file, node, &access))
            })
        };
        let opened = wanted.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
        let is_whole = opened.len() == file.spec.nodes.len();
        let extent = if is_whole { Extent::WholeCluster } else { Extent::PartOfCluster };
        if !connects {
            let [layout, ..] = candidates;
            let nodes = opened.into_iter().zip(&wanted).map(|(node, entry)| TargetNode {
                node,
                role: entry.role,
                layout: layout.clone(),
                trouble: None,
            });
            return Ok(Self { extent, cluster: Some(file.clone()), nodes: nodes.collect() });
        }
        let seen: Vec<&dyn Node> = opened.iter().map(|node| &**node).collect();
        let bar = Progress::start(&session.ui, "connecting", seen.len());
        let tell = |event: Event<'_>| {
            if let Event::Ended(name, is_well) = event {
                bar.advance();
                session.ui.step(&format!("{name}: {}", if is_well { "connected" } else { "not reached" }));
            }
        };
        let looked = side_by_side(&seen, AT_ONCE, &session.interrupt, &tell, &|node| look(node, &candidates));
        drop(bar);
        let nodes: Vec<TargetNode> = (opened.into_iter().zip(looked).zip(&wanted))
            .map(|((node, looked), entry)| {
                let (layout, trouble) = match looked {
                    Ok((layout, _)) => (layout, None),
                    Err(error) => (candidates[0].clone(), Some(told(node.name(), &error))),
                };
                TargetNode { node, role: entry.role, layout, trouble }
            })
            .collect();
        Ok(Self { extent, cluster: Some(file.clone()), nodes })
    }
}

/// Which of `candidates` a machine follows, and what it seems to be.
fn look(node: &dyn Node, candidates: &[Layout; 4]) -> anyhow::Result<(Layout, Role)> {
    let [fallback, ..] = candidates;
    let (ruling, joined) = (fallback.control_plane_marks(), fallback.member_marks());
    let pki_dirs = candidates.iter().map(|layout| &layout.pki_dir);
    let queries: Vec<Query> = pki_dirs.chain(&ruling).chain(&joined).cloned().map(Query::Metadata).collect();
    let found = node.read(&queries)?;
    let is_there =
        |path: &PathBuf| found.iter().any(|found| found.path == *path && !matches!(found.state, FoundState::Missing));
    let layout = candidates.iter().find(|layout| is_there(&layout.pki_dir)).unwrap_or(fallback).clone();
    // A machine without anything is about to become a control-plane node: workers get their files by joining.
    let is_worker = joined.iter().any(is_there) && !ruling.iter().any(is_there);
    Ok((layout, if is_worker { Role::Worker } else { Role::ControlPlane }))
}

/// An error that begins with the name of its node, with what to do about it.
fn told(node: &str, error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let hint = match hints(error).as_slice() {
        [] => String::new(),
        hints => format!(" ({})", hints.join("; ")),
    };
    if text.starts_with(node) { format!("{text}{hint}") } else { format!("{node}: {text}{hint}") }
}

impl TargetArgs {
    /// The words that name this target on a command line, for hints: `--pki-dir /srv/pki`; empty for this machine.
    pub fn words(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        let mut add = |option: &str, value: &str| words.extend([option.to_owned(), quoted(value)]);
        match &self.place {
            Place::ThisMachine => {}
            Place::Folder(path) => add("--pki-dir", &path.to_string_lossy()),
            Place::Root(path) => add("--root", &path.to_string_lossy()),
            Place::ClusterFile(path) => add("--cluster-file", &path.to_string_lossy()),
            Place::Cluster(name) => {
                add("-n", &name.name);
                name.group.iter().for_each(|group| add("-g", group));
            }
        }
        self.nodes.iter().for_each(|node| add("--node", node));
        if let Some((name, _)) = Role::NAMED.into_iter().find(|(_, role)| Some(*role) == self.role) {
            add("--role", name);
        }
        self.ssh.words().iter().for_each(|(option, value)| words.extend([(*option).to_owned(), quoted(value)]));
        words.join(" ")
    }

    /// Refuses `--node` names other than that of the only node there is.
    fn expect_only(&self, name: &str) -> anyhow::Result<()> {
        match self.nodes.iter().find(|wanted| *wanted != name) {
            Some(unknown) => Err(Failure::not_found(format!("there is no node {unknown:?}, only {name:?}"))
                .hint("--cluster-file or --name give a cluster with named nodes")
                .into()),
            None => Ok(()),
        }
    }
}

/// Reads a cluster file from this machine.
///
/// # Errors
/// Exit code 3 when it is not there, 2 when it is wrong.
pub fn read_cluster_file(path: &Path) -> anyhow::Result<ClusterFile> {
    let shown = path.display();
    let found = LocalNode::open("local", "/")?.read(&[Query::File(absolute(path)?)])?;
    match found.into_iter().next().map(|found| found.state) {
        Some(FoundState::File(content)) => ClusterFile::parse(&content, path),
        Some(FoundState::Unreadable(reason)) => Err(Failure::usage(format!("cannot read {shown}: {reason}")).into()),
        Some(FoundState::Directory) => Err(Failure::usage(format!("{shown} is a folder, not a cluster file")).into()),
        _ => Err(Failure::not_found(format!("there is no cluster file {shown}")).into()),
    }
}

/// `word` as a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+:@%,=".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn role_parser() -> impl clap::builder::TypedValueParser<Value = Role> {
    let names = PossibleValuesParser::new(Role::NAMED.map(|(name, _)| name));
    names.map(|given| Role::NAMED.into_iter().find(|(name, _)| *name == given).map_or(Role::Worker, |(_, role)| role))
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())).into())
}

impl Args for TargetArgs {
    fn augment_args(command: Command) -> Command {
        TargetOptions::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        TargetOptions::augment_args_for_update(command)
    }
}

impl FromArgMatches for TargetArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let options = TargetOptions::from_arg_matches(matches)?;
        let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let group_is_typed = typed("resource_group");
        let conflict = |message: String| clap::Error::raw(ErrorKind::ArgumentConflict, message + "\n");
        let mut places: Vec<(&str, bool, Place)> = Vec::new();
        if let Some(folder) = options.pki_dir {
            places.push(("--pki-dir", typed("pki_dir"), Place::Folder(folder)));
        }
        if let Some(root) = options.root {
            places.push(("--root", typed("root"), Place::Root(root)));
        }
        if let Some(file) = options.cluster_file {
            places.push(("--cluster-file", typed("cluster_file"), Place::ClusterFile(file)));
        }
        if let Some(name) = options.name {
            let name = ClusterName::new(name, options.resource_group)
                .map_err(|message| clap::Error::raw(ErrorKind::ValueValidation, message + "\n"))?;
            places.push(("--name", typed("name") || group_is_typed, Place::Cluster(name)));
        } else if group_is_typed {
            return Err(conflict("--resource-group needs --name".into()));
        }
        if places.iter().any(|(_, typed, _)| *typed) {
            places.retain(|(_, typed, _)| *typed);
        }
        if let [(first, _, _), (second, _, _), ..] = places.as_slice() {
            return Err(conflict(format!("{first} and {second} both name a target; give one of them")));
        }
        let place = places.pop().map(|(_, _, place)| place).unwrap_or_default();
        Ok(Self { place, nodes: options.nodes, role: options.role, ssh: options.ssh })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        target: TargetArgs,
    }

    /// Parses `words` as if the options in `presets` stood in the environment.
    fn parse(words: &[&str], presets: &[(&'static str, &'static str)]) -> Result<TargetArgs, clap::Error> {
        use clap::CommandFactory;
        let mut command = Only::command();
        for (id, value) in presets {
            // A default behaves as the environment does here: it is there, but not typed.
            command = command.mut_arg(*id, |arg| arg.default_value(*value));
        }
        let matches = command.try_get_matches_from(std::iter::once(&"kubepki").chain(words))?;
        Only::from_arg_matches(&matches).map(|only| only.target)
    }

    #[test]
    fn this_machine_is_meant_unless_something_else_is_said() {
        assert_eq!(parse(&[], &[]).expect("good"), TargetArgs::default());
        let lab = ClusterName { group: Some("prod".into()), name: "lab".into() };
        assert_eq!(parse(&["-g", "prod", "-n", "lab"], &[]).expect("good").place, Place::Cluster(lab));
    }

    #[test]
    fn two_targets_are_refused_but_the_command_line_beats_the_environment() {
        assert!(parse(&["--pki-dir", "a", "--root", "b"], &[]).is_err());
        assert!(parse(&[], &[("pki_dir", "a"), ("root", "b")]).is_err());
        let place = parse(&["--pki-dir", "a"], &[("root", "b"), ("name", "lab")]).expect("good").place;
        assert_eq!(place, Place::Folder("a".into()));
    }

    #[test]
    fn a_group_without_a_name_is_refused_only_when_typed() {
        assert!(parse(&["-g", "prod"], &[]).is_err());
        assert_eq!(parse(&[], &[("resource_group", "prod")]).expect("good").place, Place::ThisMachine);
    }

    #[test]
    fn the_words_of_a_target_name_the_same_target() {
        for words in [
            &["--pki-dir", "/srv/it's mine"][..],
            &["-n", "lab", "-g", "prod", "--node", "cp1", "--node", "w1", "--role", "worker"],
            &[],
        ] {
            let said = parse(words, &[]).expect("good").words();
            let plain: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            assert_eq!(said, plain.join(" "));
        }
        assert_eq!(quoted("/srv/it's mine"), r"'/srv/it'\''s mine'");
    }

    #[test]
    fn nodes_may_be_repeated_or_separated_by_commas() {
        let nodes = parse(&["--node", "a,b", "--node", "c", "--role", "worker"], &[]).expect("good");
        assert_eq!((nodes.nodes, nodes.role), (vec!["a".into(), "b".into(), "c".into()], Some(Role::Worker)));
    }
}

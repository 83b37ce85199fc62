//! The options that name a target, and a target in the words of those options.
//!
//! What stands on the command line beats what the environment presets.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use clap_complete::ArgValueCompleter;

use super::clusters::ClusterName;
use super::login::SshArgs;
use crate::cli::candidates;
use crate::error::Failure;
use crate::pki::layout::Role;

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
    pub(super) fn expect_only(&self, name: &str) -> anyhow::Result<()> {
        match self.nodes.iter().find(|wanted| *wanted != name) {
            Some(unknown) => Err(Failure::not_found(format!("there is no node {unknown:?}, only {name:?}"))
                .hint("--cluster-file or --name give a cluster with named nodes")
                .into()),
            None => Ok(()),
        }
    }
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

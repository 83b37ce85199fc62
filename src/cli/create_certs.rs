//! `create-certs`: a whole PKI, or what is missing of one.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap_complete::ArgValueCompleter;

use super::candidates;
use super::carry_out::Crew;
use super::change::ChangeArgs;
use super::offered;
use super::problems::refused;
use super::rolling::{Resumed, Rolling};
use super::session::Session;
use super::target::{Extent, Place, Target, TargetArgs};
use crate::error::{ExitCode, Failure};
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::lifetime::Lifetime;
use crate::pki::profile::Profile;
use crate::pki::san::San;
use crate::pki::spec::Spec;
use crate::plan::blueprint::Blueprint;
use crate::plan::create::{self, COMMAND, Import, Refusal};
use crate::plan::operation::{FileAction, Operation, ProvisioningState};
use crate::report::Format;

mod places;
pub(super) mod spec;

/// Make a whole PKI, or what is missing of one
///
/// Writes certificate authorities, certificates, service account keys and kubeconfigs as a profile or a spec lists them.
/// What is there and fits stays; a second run changes nothing. What is there and differs is an error, unless --force
/// replaces it. An authority whose key is not there is external: what it has to sign comes out as signing requests, and
/// --import-signed takes the signed certificates back.
///
/// A healthy authority is never replaced here, see `kubepki rotate-certs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubepki create-certs                                             # this machine, as `kubeadm init` would
  kubepki create-certs --control-plane-endpoint api.example.com:6443 --san 192.0.2.10 --what-if
  kubepki create-certs --pki-dir ./pki --key-algorithm ecdsa-p384 --yes
  kubepki create-certs --profile aks-arc --print-spec > spec.yaml  # edit it, then:
  kubepki create-certs --spec spec.yaml
  kubepki create-certs --csr-only --yes                            # have the requests signed, then:
  kubepki create-certs --import-signed ./signed --yes")]
pub struct CreateCertsArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    change: ChangeArgs,

    /// Spec that lists what there shall be (kind: CertificateSpec)
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,

    /// Built-in profile to make, or to build the spec on [default: the cluster file's, else kubeadm]
    #[arg(long, value_name = "PROFILE", value_parser = profile_parser())]
    profile: Option<Profile>,

    /// Algorithm of new keys
    #[arg(long, value_name = "ALGORITHM", value_parser = algorithm_parser(), ignore_case = true)]
    key_algorithm: Option<KeyAlgorithm>,

    /// How long new authorities are valid, as 10y
    #[arg(long, value_name = "LENGTH")]
    ca_validity: Option<Lifetime>,

    /// How long other new certificates are valid, as 1y or 90d
    #[arg(long, value_name = "LENGTH")]
    validity: Option<Lifetime>,

    /// Further name or address of the API server; may be given more than once
    #[arg(long = "san", value_name = "NAME|IP", value_delimiter = ',')]
    sans: Vec<San>,

    /// Address under which all nodes reach the API [default: each node's own]
    #[arg(long, value_name = "HOST[:PORT]")]
    control_plane_endpoint: Option<String>,

    /// Address of this node's components [default: the one of the default route]
    #[arg(long, value_name = "IP")]
    advertise_address: Option<std::net::IpAddr>,

    /// Name of this node in the cluster [default: the host name in lower case]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,

    /// Network of services, or one of IPv4 and one of IPv6 with a comma [default: 10.96.0.0/12]
    #[arg(long, value_name = "CIDR")]
    service_subnet: Option<String>,

    /// Domain of services [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    service_dns_domain: Option<String>,

    /// Print the spec with all options applied, and write nothing
    #[arg(long)]
    print_spec: bool,

    /// Write signing requests for everything, whether the authority's key is there or not
    #[arg(long, conflicts_with = "print_spec")]
    csr_only: bool,

    /// Take signed certificates back from this folder, after checking key, names, usages and chain
    #[arg(long, value_name = "DIR", conflicts_with_all = ["csr_only", "print_spec", "force"])]
    import_signed: Option<PathBuf>,

    /// Only this entry, as apiserver or admin.conf; may be given more than once
    #[arg(long, value_name = "NAME", value_delimiter = ',', add = ArgValueCompleter::new(candidates::entries))]
    only: Vec<String>,

    /// Replace what is there and differs; a broken authority only when --only names it
    #[arg(long)]
    force: bool,

    /// Finish what an interrupted run began
    #[arg(long = "continue", conflicts_with_all = ["abort", "print_spec", "import_signed"])]
    resume: bool,

    /// Take back what an interrupted run began
    #[arg(long, conflicts_with_all = ["print_spec", "import_signed"])]
    abort: bool,
}

/// Makes what is missing.
pub fn run(args: &CreateCertsArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    create_certs(args, session, &session.words)
}

/// `words` ask for the same again.
fn create_certs(args: &CreateCertsArgs, session: &Session, words: &[String]) -> anyhow::Result<ExitCode> {
    // A spec can be printed anywhere; only a cluster file has a say in it.
    let is_needed = !args.print_spec || matches!(args.target.place, Place::ClusterFile(_) | Place::Cluster(_));
    let target = if is_needed { Some(Target::resolve(&args.target, session)?) } else { None };
    let spec = spec::load(args, target.as_ref().and_then(|target| target.cluster.as_ref()))?;
    let Some(target) = target.filter(|_| !args.print_spec) else { return print(&spec, session) };
    let mut crew = Crew::new(session, &target, &args.target, COMMAND);
    if matches!(target.extent, Extent::WholeCluster | Extent::PartOfCluster) {
        // Nodes share what is made here, so all of them get it or none.
        crew = crew.rolling(Rolling::of_files(), words.to_vec());
    }
    match recover(args, session, &crew)? {
        Next::Ended(code) => return Ok(code),
        Next::Again(words) => return again(args, &words, session),
        Next::Plan => {}
    }
    let places = places::places(&target, &spec, session)?;
    let snapshot = places::observe(&target, &spec, session)?;
    let places = places::with_illegible(places, &target, &snapshot)?;
    let command_line = crew.command_line(COMMAND);
    let request = create::Request {
        spec: &spec,
        snapshot: &snapshot,
        nodes: &places,
        now: session.now,
        only: &args.only,
        force: args.force,
        csr_only: args.csr_only,
        command_line: &command_line,
    };
    if let Some(folder) = &args.import_signed {
        let folder = std::path::absolute(folder)?;
        let offered = offered::read(&folder)?;
        let import = create::import(&request, &folder, &offered).map_err(|refusal| failure(refusal, args))?;
        return take_back(args, session, &crew, &import);
    }
    let blueprint = create::create(&request).map_err(|refusal| failure(refusal, args))?;
    let operation = carry_out(args, session, &crew, &blueprint)?;
    if let Some(operation) = operation {
        session.result(&operation)?;
    }
    Ok(ExitCode::Done)
}

/// Shows the plan, asks and carries it out; without changes there is nothing to ask. `None` when it was only shown.
fn carry_out(
    args: &CreateCertsArgs,
    session: &Session,
    crew: &Crew<'_>,
    blueprint: &Blueprint,
) -> anyhow::Result<Option<Operation>> {
    if blueprint.is_empty() && !args.change.what_if {
        let mut operation = blueprint.operation(&crate::apply::change::operation_id(session.now)?);
        operation.provisioning_state = ProvisioningState::Succeeded;
        operation.nodes.iter_mut().for_each(|node| node.state = crate::plan::operation::NodeState::Finished);
        (operation.started_at, operation.ended_at) = (Some(session.now), Some(session.now));
        return Ok(Some(operation));
    }
    crew.carry_out(&args.change, blueprint, &question(blueprint))
}

/// Imports what is good, and says what is not.
fn take_back(args: &CreateCertsArgs, session: &Session, crew: &Crew<'_>, import: &Import) -> anyhow::Result<ExitCode> {
    for problem in &import.problems {
        session.ui.warning(&problem.to_string());
    }
    if import.blueprint.is_empty() && !import.problems.is_empty() {
        return Err(refused(&import.problems, "nothing was imported, nothing was changed"));
    }
    let operation = carry_out(args, session, crew, &import.blueprint)?;
    let Some(operation) = operation else { return Ok(ExitCode::Done) };
    session.result(&operation)?;
    if import.problems.is_empty() {
        return Ok(ExitCode::Done);
    }
    let changed = import.blueprint.changes().filter(|(_, file)| file.action != FileAction::Removed).count();
    Err(refused(&import.problems, &format!("{changed} imported, {} not", import.problems.len()))
        .context(Failure::partial("some certificates could not be imported")))
}

/// What comes after an unfinished operation was dealt with.
enum Next {
    Ended(ExitCode),
    /// Nothing had changed anywhere yet, and these words ask for it again.
    Again(Vec<String>),
    /// What this run was asked for.
    Plan,
}

/// Finishes or takes back what was interrupted: when asked to, or, for an earlier run of this command, before anything else.
fn recover(args: &CreateCertsArgs, session: &Session, crew: &Crew<'_>) -> anyhow::Result<Next> {
    if args.abort || args.resume {
        let outcome = if args.abort {
            crew.abort(args.force)?
        } else {
            match crew.resume()? {
                Resumed::NotBegun(words) => return Ok(Next::Again(words)),
                resumed => resumed.operation(),
            }
        };
        let Some(operation) = outcome else {
            let message = "no create-certs is unfinished here; nothing was changed";
            return Err(Failure::failed(message).hint("run it without --continue and --abort").into());
        };
        session.result(&operation)?;
        return Ok(Next::Ended(ExitCode::Done));
    }
    let Some(journal) = crew.unfinished()? else { return Ok(Next::Plan) };
    crew.refuse_other(&journal)?;
    let command = crew.command_line(COMMAND);
    let unfinished = || {
        let message = format!("{}: an earlier create-certs has begun and is not finished", journal.node);
        Failure::partial(message).hint(format!("`{command} --continue` finishes it, `{command} --abort` takes it back"))
    };
    // Planning on half-written files would call them damage.
    if args.change.what_if || !args.change.yes {
        return Err(unfinished().into());
    }
    session.ui.status("finishing what an earlier run began");
    crew.resume()?;
    Ok(Next::Plan)
}

/// Plans anew what an interrupted run had asked for when it had changed nothing yet.
fn again(args: &CreateCertsArgs, words: &[String], session: &Session) -> anyhow::Result<ExitCode> {
    let mut asked = super::anew(super::creation(words), session)?;
    asked.target = args.target.clone();
    // Whoever began it agreed to it, and whoever continues it does again.
    asked.change = ChangeArgs { yes: true, ..ChangeArgs::default() };
    (asked.resume, asked.abort) = (false, false);
    // Interrupted once more, it is still what was asked for first.
    create_certs(&asked, session, words)
}

fn print(spec: &Spec, session: &Session) -> anyhow::Result<ExitCode> {
    if matches!(session.ui.format, Format::Table | Format::Yaml) && session.ui.query.is_none() {
        session.ui.raw(spec.to_yaml().map_err(anyhow::Error::msg)?.as_bytes())?;
    } else {
        session.result(spec)?;
    }
    Ok(ExitCode::Done)
}

fn question(blueprint: &Blueprint) -> String {
    let count = |action| blueprint.changes().filter(|(_, file)| file.action == action).count();
    let nodes =
        blueprint.nodes.iter().filter(|node| node.files.iter().any(|file| file.action != FileAction::Unchanged));
    let nodes = crate::report::text::counted(nodes.count(), "node");
    let files = |count| crate::report::text::counted(count, "file");
    match (count(FileAction::Created), count(FileAction::Replaced)) {
        (created, 0) => format!("Create {} on {nodes}?", files(created)),
        (created, replaced) => {
            format!("Create {} and REPLACE {} on {nodes}, with a backup of each?", files(created), files(replaced))
        }
    }
}

fn failure(refusal: Refusal, args: &CreateCertsArgs) -> anyhow::Error {
    match refusal {
        Refusal::Spec(error) => spec::failure(&error, args.spec.as_deref()),
        Refusal::UnknownName(name, known) => Failure::not_found(format!("there is no entry `{name}` to make here"))
            .hint(format!("entries are {}", known.join(", ")))
            .into(),
        Refusal::Problems(problems) => refused(&problems, "nothing was changed"),
    }
}

fn profile_parser() -> impl TypedValueParser<Value = Profile> {
    PossibleValuesParser::new(Profile::ALL.map(Profile::name)).try_map(|name| name.parse::<Profile>())
}

fn algorithm_parser() -> impl TypedValueParser<Value = KeyAlgorithm> {
    PossibleValuesParser::new(KeyAlgorithm::ALL.map(KeyAlgorithm::name)).try_map(|name| name.parse::<KeyAlgorithm>())
}

//! `rotate-certs`: new certificates, authorities and service-account keys in the place of old ones.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap_complete::ArgValueCompleter;

use super::backup_copy;
use super::candidates;
use super::carry_out::Crew;
use super::change::ChangeArgs;
use super::live::{self, between::Letting};
use super::revoke;
use super::rolling::Resumed;
use super::session::Session;
use super::target::{Target, TargetArgs};
use crate::apply::change::operation_id;
use crate::apply::journal::Journal;
use crate::diagnose::{Policy, diagnose};
use crate::error::{ExitCode, Failure};
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::layout::Role;
use crate::pki::lifetime::{Lifetime, Threshold};
use crate::pki::san::San;
use crate::plan::blueprint::Blueprint;
use crate::plan::enforcement::CLIENT_TRUST;
use crate::plan::operation::{NodeState, Operation, ProvisioningState};
use crate::plan::restart::arrange;
use crate::plan::rotate::scope::{Scope, Scopes};
use crate::plan::rotate::{self, COMMAND, Import, Request};
use crate::plan::rounds::{self, Setting};
use crate::snapshot::Snapshot;
use crate::verify;

mod external;
mod question;
mod reconcile;
mod sight;

use question::question;

/// Replace certificates, authorities and service-account keys
///
/// Without --only everything: all authorities, everything they signed, service-account keys, and the CA data in every
/// kubeconfig. New certificates say what the old ones said and live as long as those did, never longer than their
/// authority; keys are new. An authority whose key is elsewhere stays, and so does what it signed, unless new certificates come
/// from there: --csr-only writes the requests, --import-signed takes what was signed, a new authority included.
///
/// On a running cluster (--cluster-file, --name) nodes change one after another: files, then restarts of the components
/// that read them only when they start, then proof that the node is well. What all nodes share is replaced only where the
/// whole cluster can be seen. With files alone (--root, --pki-dir) nothing is restarted; the result says what to restart.
///
/// Running it again after an interruption finishes what was begun.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubepki rotate-certs --what-if                        # what would happen to everything on this machine
  kubepki rotate-certs --only leaf                      # all certificates but the authorities
  kubepki rotate-certs -n prod --only leaf              # on a whole cluster over SSH, node after node
  kubepki rotate-certs --only leaf --due --yes          # only those past 80 % of their life, without a question
  kubepki rotate-certs --only apiserver --add-san api.example.com
  kubepki rotate-certs --only cluster-ca --same-key     # longer life for the CA, nothing else changes
  kubepki rotate-certs --pki-dir ./pki --key-algorithm ecdsa-p384 --yes
  kubepki rotate-certs -n prod --csr-only               # requests for authorities whose key is elsewhere; then:
  kubepki rotate-certs -n prod --import-signed kubepki-requests-prod
  kubepki rotate-certs --abort                          # back to the state before an interrupted run")]
pub struct RotateCertsArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    change: ChangeArgs,

    /// Only this: ca (all authorities), leaf, sa, cluster-ca, etcd-ca, front-proxy-ca, agent-ca, or a certificate's name
    /// or path; may be given more than once
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    #[arg(add = ArgValueCompleter::new(candidates::rotation_scopes))]
    only: Vec<Scope>,

    /// Only what has used up that much of its life, or has no more than that left [80% when no value is given]
    #[arg(long, value_name = "SHARE|LENGTH", num_args = 0..=1, default_missing_value = "80%")]
    due: Option<Threshold>,

    /// Algorithm of new keys [default: that of each old key]
    #[arg(long, value_name = "ALGORITHM", value_parser = algorithm_parser(), ignore_case = true)]
    #[arg(conflicts_with = "same_key")]
    key_algorithm: Option<KeyAlgorithm>,

    /// How long new certificates are valid, as 90d [default: as long as each old one]
    #[arg(long, value_name = "LENGTH")]
    validity: Option<Lifetime>,

    /// How long new authorities are valid, as 10y [default: as long as each old one]
    #[arg(long, value_name = "LENGTH")]
    ca_validity: Option<Lifetime>,

    /// Keep the keys; an authority renewed like that stays the same authority, and what it signed stays valid
    #[arg(long)]
    same_key: bool,

    /// Name or address to add to server certificates: to the selected ones, without --only to apiserver alone
    #[arg(long = "add-san", value_name = "NAME|IP", value_delimiter = ',')]
    add_sans: Vec<San>,

    /// Name or address to take out of server certificates, as with --add-san
    #[arg(long = "remove-san", value_name = "NAME|IP", value_delimiter = ',')]
    remove_sans: Vec<San>,

    /// Take subject, names and usages of certificates from the spec instead of the old ones; the plan shows the difference
    #[arg(long)]
    reconcile: bool,

    /// Spec for --reconcile [default: the cluster file's, else what kubeadm makes on such a node]
    #[arg(long, value_name = "FILE", requires = "reconcile")]
    spec: Option<PathBuf>,

    /// Write signing requests for what authorities have to sign whose key is elsewhere, for the keys in use; nothing on any node
    /// changes
    #[arg(long, conflicts_with_all = ["import_signed", "resume", "abort", "same_key", "key_algorithm", "validity"])]
    #[arg(conflicts_with_all = ["ca_validity", "wait_for_tokens", "no_wait", "backup_dir"])]
    csr_only: bool,

    /// Folder for the signing requests, as NODE/NAME.csr [default: kubepki-requests-CLUSTER]
    #[arg(long, value_name = "DIR", requires = "csr_only")]
    csr_dir: Option<PathBuf>,

    /// Take what was signed elsewhere from this folder, NODE/NAME.crt, after checking key, names, usages and chain; with another
    /// ca.crt, etcd/ca.crt or front-proxy-ca.crt in it that authority is replaced
    #[arg(long, value_name = "DIR", conflicts_with = "abort")]
    import_signed: Option<PathBuf>,

    /// Nodes changed side by side, where several can be
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    parallel: Option<u16>,

    /// How long tokens signed with the old service-account key stay valid. A running cluster waits that long before the old is
    /// dropped, 0d drops it at once; with files alone the old keys stay in sa.pub, behind the new one
    #[arg(long, value_name = "LENGTH")]
    wait_for_tokens: Option<Lifetime>,

    /// Let go of the old although something still needs it: tokens of pods, certificates that the cluster issued
    #[arg(long)]
    force: bool,

    /// Rewrite kubeconfigs in home folders of the nodes, too
    #[arg(long)]
    update_kubeconfigs: bool,

    /// Finish what an interrupted run began
    #[arg(long = "continue", conflicts_with = "abort")]
    resume: bool,

    /// Go back to the state before an interrupted run
    #[arg(long)]
    abort: bool,

    /// On a running cluster: return as soon as everything is staged and go on in the background; `kubepki wait` waits for it
    #[arg(long)]
    no_wait: bool,

    /// Folder on this machine for another copy of every file before it changes
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
}

/// Rotates.
pub fn run(args: &RotateCertsArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    rotate_certs(args, session, &session.words)
}

/// `words` ask for the same again.
fn rotate_certs(args: &RotateCertsArgs, session: &Session, words: &[String]) -> anyhow::Result<ExitCode> {
    let mut request = args.request()?;
    let target = Target::resolve(&args.target, session)?;
    let is_live = live::is_live(&target, &args.target.place);
    let manifests = if is_live { live::manifests(&target)? } else { Vec::new() };
    let mut crew = Crew::new(session, &target, &args.target, COMMAND);
    if is_live {
        let letting = Letting { force: args.force, wait_for_tokens: args.wait_for_tokens };
        let rolling = live::rolling(session, &target, &args.target, &manifests, args.parallel, letting);
        crew = crew.rolling(rolling, words.to_vec()).detached(args.no_wait);
    }
    if args.csr_only {
        return external::ask(args, request, &crew, session);
    }
    if args.resume || args.abort {
        match recover(args, session, &crew, is_live.then_some(&target))? {
            Next::Ended(code) => return Ok(code),
            Next::Again(words) => return again(args, &words, session),
        }
    }
    if let Some(journal) = crew.unfinished()? {
        crew.refuse_other(&journal)?;
        match finish(args, session, &crew, &journal)? {
            Next::Ended(code) => return Ok(code),
            Next::Again(words) => return again(args, &words, session),
        }
    }
    if let Some(folder) = &args.import_signed {
        request.external = external::offered(folder)?;
    }
    let snapshot = sight::observe(&target, session)?;
    if args.reconcile {
        request.wanted = reconcile::wanted(args.spec.as_deref(), &target, &snapshot)?;
    }
    request.reach = sight::reach(&target, &args.target.place, &snapshot)?;
    request.restarts = is_live;
    let mut import = rotate::import(&snapshot, &request, session.now)?;
    if is_live && rounds::are_needed(&import.blueprint) {
        request.rounds = true;
        import = rotate::import(&snapshot, &request, session.now)?;
    }
    external::weigh(&import, session)?;
    let Import { mut blueprint, problems, .. } = import;
    if !request.rounds {
        refuse_narrowed(&blueprint, &snapshot)?;
    }
    blueprint.warnings.extend(sight::uncovered(&target, &blueprint)?);
    if blueprint.is_empty() && !args.change.what_if {
        blueprint.warnings.iter().for_each(|warning| session.ui.warning(warning));
        let mut operation = blueprint.operation(&operation_id(session.now)?);
        settle(&mut operation, session);
        session.result(&operation)?;
        return Ok(ExitCode::Done);
    }
    if request.restarts {
        let means = live::means(target.cluster.as_ref());
        let roles: Vec<(String, Role)> =
            target.nodes.iter().map(|node| (node.node.name().to_owned(), node.role)).collect();
        let stamp = operation_id(session.now)?;
        let setting = Setting { roles: &roles, means: &means, manifests: &manifests, stamp: &stamp };
        if request.rounds {
            refuse_unfit(&rounds::obstacles(&snapshot, &manifests, session.now))?;
            rounds::arrange(&mut blueprint, &setting)?;
        } else if rounds::needs_steps(&blueprint, &setting) {
            rounds::in_steps(&mut blueprint, &setting)?;
        } else {
            for (node, component, reason) in arrange(&mut blueprint, &means, &manifests, &stamp) {
                blueprint.next_steps.insert(0, format!("on {node}: restart {component} ({reason})"));
            }
        }
    }
    revoke::lists_follow(&mut blueprint, &target, session)?;
    let question = question(&blueprint, request.restarts);
    if !args.change.what_if && !request.restarts {
        // A result lists the restarts that were made: none here, the next steps have them.
        blueprint.nodes.iter_mut().for_each(|node| node.restarts.clear());
    }
    if request.restarts && !args.change.what_if {
        live::refuse_unwell(session, &target, &manifests)?;
    }
    let crew = crew.with_copies_in(args.backup_dir.as_deref().map(backup_copy::folder).transpose()?);
    let probe = if is_live && !args.change.what_if { live::watch::availability(&target) } else { None };
    let Some(mut operation) = crew.carry_out(&args.change, &blueprint, &question)? else {
        return Ok(ExitCode::Done);
    };
    if operation.provisioning_state == ProvisioningState::CertificateRotating {
        session.result(&operation)?;
        return external::end(&problems);
    }
    operation.unavailability_seconds = probe.map(|probe| probe.finish().unavailable.as_secs_f64());
    let after = sight::observe(&target, session).map_err(|error| {
        error.context(
            Failure::partial("everything was written, but cannot be looked at").hint("`kubepki show` looks again"),
        )
    })?;
    let mut broken = verify::broken_promises(&blueprint, &after);
    let policy = Policy::at(session.now);
    for (path, words) in verify::newly_broken(&diagnose(&snapshot, &policy), &diagnose(&after, &policy)) {
        let is_written = blueprint.changes().any(|(_, file)| file.path == path);
        // What was left to somebody else may have lost its authority; the next steps or this line say so.
        if is_written { broken.push(words) } else { session.ui.warning(&words) }
    }
    session.result(&operation)?;
    if broken.is_empty() {
        return external::end(&problems);
    }
    let mut message = "everything was written, but not all of it is as planned".to_owned();
    for words in broken {
        message.push_str("\n  ");
        message.push_str(&words);
    }
    Err(Failure::partial(message).hint("the files from before are in the backup of the operation").into())
}

impl RotateCertsArgs {
    /// The same for another target, agreed to in another way.
    pub(super) fn on(self, target: TargetArgs, change: ChangeArgs) -> Self {
        Self { target, change, ..self }
    }

    /// The wishes as the planner wants them.
    fn request(&self) -> anyhow::Result<Request> {
        let mut only = Scopes(self.only.clone());
        let asks_for_keys = only.0.contains(&Scope::ServiceAccounts);
        if asks_for_keys && self.same_key {
            return Err(Failure::usage(
                "a service-account key has nothing but its key, so --same-key leaves nothing to do",
            )
            .hint("leave --same-key or `--only sa` away")
            .into());
        }
        if asks_for_keys && self.due.is_some() {
            return Err(Failure::usage("service-account keys have no end, so they are never due")
                .hint("leave --due or `--only sa` away")
                .into());
        }
        if let Some(san) = self.add_sans.iter().find(|san| self.remove_sans.contains(san)) {
            return Err(Failure::usage(format!("{san} is both to be added and to be taken out")).into());
        }
        for (option, length) in [("--validity", self.validity), ("--ca-validity", self.ca_validity)] {
            if length.is_some_and(|length| length.duration().is_zero()) {
                return Err(
                    Failure::usage(format!("{option}: a certificate that is valid for no time is of no use")).into()
                );
            }
        }
        let changes_names = !self.add_sans.is_empty() || !self.remove_sans.is_empty();
        let chooses_for_itself = changes_names && only.is_everything();
        let only_differences = chooses_for_itself && self.validity.is_none() && self.key_algorithm.is_none();
        if chooses_for_itself {
            only.0.push(Scope::Named("apiserver".to_owned()));
        }
        Ok(Request {
            only,
            due: self.due,
            key_algorithm: self.key_algorithm,
            validity: self.validity,
            ca_validity: self.ca_validity,
            same_key: self.same_key,
            add_sans: self.add_sans.clone(),
            remove_sans: self.remove_sans.clone(),
            only_differences,
            wanted: Vec::new(),
            wait_for_tokens: self.wait_for_tokens.filter(|length| !length.duration().is_zero()),
            reach: rotate::Reach::default(),
            restarts: false,
            update_kubeconfigs: self.update_kubeconfigs,
            rounds: false,
            external: rotate::External::Left,
        })
    }
}

/// What comes after an unfinished operation was dealt with.
enum Next {
    Ended(ExitCode),
    /// Nothing had changed anywhere yet, and these words ask for it again.
    Again(Vec<String>),
}

/// `--continue` and `--abort`.
fn recover(
    args: &RotateCertsArgs,
    session: &Session,
    crew: &Crew<'_>,
    running: Option<&Target>,
) -> anyhow::Result<Next> {
    let running = if crew.unfinished()?.is_some() { running } else { None };
    let probe = running.and_then(live::watch::availability);
    let outcome = if args.abort {
        crew.abort(false)?
    } else {
        match crew.resume()? {
            Resumed::NotBegun(words) => return Ok(Next::Again(words)),
            resumed => resumed.operation(),
        }
    };
    match outcome {
        Some(mut operation) => {
            operation.unavailability_seconds = probe.map(|probe| probe.finish().unavailable.as_secs_f64());
            session.result(&operation)?;
        }
        None => session.ui.status(if args.abort {
            "no rotation is unfinished here: nothing to take back"
        } else {
            "no rotation is unfinished here: nothing to continue"
        }),
    }
    Ok(Next::Ended(ExitCode::Done))
}

/// The same command again after an interruption: it finishes what was begun, as it was planned then.
fn finish(args: &RotateCertsArgs, session: &Session, crew: &Crew<'_>, journal: &Journal) -> anyhow::Result<Next> {
    if args.change.what_if {
        session.ui.status("a rotation is unfinished; the same command without --what-if finishes it");
        session.result(&journal.operation)?;
        return Ok(Next::Ended(ExitCode::Done));
    }
    if !args.change.yes {
        let begun = journal.operation.started_at.map(|at| format!(" on {at}")).unwrap_or_default();
        session.agree(None, &format!("Finish the rotation that was begun{begun} on node {}?", journal.node))?;
    }
    session.ui.status("finishing the rotation that an earlier run began; run the command again for anything else");
    match crew.resume()? {
        Resumed::NotBegun(words) => return Ok(Next::Again(words)),
        resumed => resumed.operation().map_or(Ok(()), |operation| session.result(&operation))?,
    }
    Ok(Next::Ended(ExitCode::Done))
}

/// Plans anew what an interrupted run had asked for when it had changed nothing yet.
fn again(args: &RotateCertsArgs, words: &[String], session: &Session) -> anyhow::Result<ExitCode> {
    let mut asked = super::anew(super::rotation(words), session)?;
    asked.target = args.target.clone();
    // Whoever began it agreed to it, and whoever continues it does again.
    asked.change = ChangeArgs { yes: true, ..ChangeArgs::default() };
    (asked.resume, asked.abort) = (false, false);
    // Interrupted once more, it is still what was asked for first.
    rotate_certs(&asked, session, words)
}

/// Where client trust is narrowed to single certificates, a renewed one of those would be refused by every API server whose
/// bundle has not got it yet.
fn refuse_narrowed(blueprint: &Blueprint, snapshot: &Snapshot) -> anyhow::Result<()> {
    let is_narrowed = |node: &str, path: &Path| {
        let content = snapshot.node(node).and_then(|node| node.at(path)?.content());
        path.ends_with(CLIENT_TRUST) && content.is_some_and(|content| content.certificates().any(|one| !one.is_ca()))
    };
    match blueprint.changes().find(|(node, file)| is_narrowed(&node.node, &file.path)) {
        None => Ok(()),
        Some((node, file)) => Err(Failure::failed(format!(
            "node {}: {}: a revocation has narrowed client trust to single certificates, so renewed ones would be refused",
            node.node,
            file.path.display()
        ))
        .hint("`kubepki rotate-certs --only cluster-ca` replaces the cluster's CA, renews everything it signed and ends that")
        .into()),
    }
}

fn refuse_unfit(obstacles: &[String]) -> anyhow::Result<()> {
    if obstacles.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("the cluster is not fit for a rotation in rounds:\n  {}", obstacles.join("\n  ")))
        .hint("put that right first; `kubepki rotate-certs --only leaf` renews certificates that end soon")
        .into())
}

/// Marks an operation that had nothing to do as done.
fn settle(operation: &mut Operation, session: &Session) {
    operation.provisioning_state = ProvisioningState::Succeeded;
    operation.nodes.iter_mut().for_each(|node| node.state = NodeState::Finished);
    (operation.started_at, operation.ended_at) = (Some(session.now), Some(session.now));
}

fn algorithm_parser() -> impl TypedValueParser<Value = KeyAlgorithm> {
    PossibleValuesParser::new(KeyAlgorithm::ALL.map(KeyAlgorithm::name)).try_map(|name| name.parse::<KeyAlgorithm>())
}

//! `check-expiry`: everything that can expire, judged, with an exit code for scripts.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap_complete::ArgValueCompleter;
use time::OffsetDateTime;

use super::candidates;
use super::session::Session;
use super::target::{Place, Target, TargetArgs};
use crate::diagnose::{self, Policy, Row, Severity};
use crate::error::{ExitCode, Failure};
use crate::node::probe::Endpoint;
use crate::pki::lifetime::{Lifetime, Threshold};
use crate::report::expiry::ExpiryReport;
use crate::report::{monitoring, prometheus};
use crate::snapshot::{Snapshot, Source};

mod look;
pub mod moment;
mod profile;
mod write;

/// Show when certificates expire and what else is wrong with them
///
/// Reads every certificate of every bundle, file and kubeconfig, and of TLS servers given with --endpoint, and judges
/// dates, chain, private key, names, usages, and the files' modes and owners. A broken file is a row like any other.
/// Nothing is ever changed.
///
/// On a live node, also what each of its servers shows at this moment: API server, etcd, controller manager, scheduler and
/// kubelet, compared with the files. A port that cannot be reached from here is asked through the node.
///
/// With --kubeconfig, --path or --endpoint alone, only those are looked at.
///
/// Exit code 0: nothing wrong. 4: something needs attention. 5: something is broken (expired, not yet valid, untrusted,
/// key mismatch, missing, unreadable). 3: nothing was found, or not what was named. docs/findings.md explains every finding.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubepki check-expiry                                       # this machine
  kubepki check-expiry --pki-dir ./pki -o json --query \"certificates[?status!='ok'].[name,status]\"
  kubepki check-expiry --cluster-file lab.yaml               # every node of a cluster, over SSH
  kubepki check-expiry --root /mnt/disk                      # the disk of a node that does not start
  kubepki check-expiry --kubeconfig ~/.kube/config --context prod
  kubepki check-expiry --endpoint api.example.com:6443 --endpoint [fd00::11]:10250
  kubepki check-expiry --warn 30d --critical 7d --monitoring # for Nagios and its like
  kubepki check-expiry --prometheus=/var/lib/node_exporter/kubepki.prom --no-fail
  kubepki check-expiry --at 2027-01-01                       # what will have expired by then")]
pub struct CheckExpiryArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Kubeconfig to look into; may be given more than once
    #[arg(long = "kubeconfig", value_name = "FILE")]
    kubeconfigs: Vec<PathBuf>,

    /// Only what this context of the kubeconfigs uses [default kubeconfig: $KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,

    /// TLS server to ask for its certificates, as 10.0.0.1:6443 or [fd00::1]:6443; may be given more than once
    #[arg(long = "endpoint", value_name = "HOST:PORT")]
    endpoints: Vec<Endpoint>,

    /// Name that the servers are asked for and must have in their certificates [default: the host]
    #[arg(long, value_name = "NAME", requires = "endpoints")]
    server_name: Option<String>,

    /// Only what comes from there; may be given more than once
    #[arg(long = "source", value_name = "SOURCE", value_parser = source_parser(), value_delimiter = ',')]
    sources: Vec<Source>,

    /// File, or folder with everything below it, to look into; may be given more than once
    #[arg(long = "path", value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,

    /// When a certificate needs attention: share of its lifetime used, or time left, as 80% or 30d
    #[arg(long, value_name = "SHARE|LENGTH", default_value = "80%")]
    warn: Threshold,

    /// When a certificate counts as broken before its end: time left, or share of its lifetime used
    #[arg(long, value_name = "LENGTH|SHARE", default_value = "0d")]
    critical: Threshold,

    /// When a certificate authority needs attention: time left, or share of its lifetime used. By default one that was
    /// made for a year or less is judged by --warn
    #[arg(long, value_name = "LENGTH|SHARE", default_value = "1y")]
    ca_warn: Threshold,

    /// Judge as of this moment: 2027-01-01, 2027-01-01T12:00:00Z, or +30d from now
    #[arg(long, value_name = "TIME", value_parser = moment::parse, allow_hyphen_values = true)]
    at: Option<moment::Moment>,

    /// Only this certificate, as apiserver or admin.conf; may be given more than once
    #[arg(long, value_name = "NAME", value_delimiter = ',', add = ArgValueCompleter::new(candidates::certificates))]
    only: Vec<String>,

    /// End with exit code 0 whatever is found
    #[arg(long)]
    no_fail: bool,

    /// Print one line for a monitoring system and end with its codes: 0 ok, 1 warning, 2 critical, 3 unknown
    #[arg(long, conflicts_with_all = ["prometheus", "watch"])]
    monitoring: bool,

    /// Print gauges in Prometheus' text format, or write them to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    prometheus: Option<PathBuf>,

    /// Look again and again, every 10 seconds or as often as said; Ctrl-C ends it with the last exit code
    #[arg(long, value_name = "LENGTH", num_args = 0..=1, require_equals = true, default_missing_value = "10s")]
    watch: Option<Lifetime>,
}

/// Looks, judges and prints.
pub fn run(args: &CheckExpiryArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    let Some(pause) = args.watch else {
        let outcome = once(args, session);
        return match outcome {
            Err(error) if args.monitoring => {
                session.ui.raw(monitoring::unknown(&error).as_bytes())?;
                Ok(code_of(monitoring::State::Unknown))
            }
            other => other,
        };
    };
    // Ctrl-C ends the watching, not the program in the middle of a page.
    session.interrupt.listen()?;
    loop {
        session.ui.clear()?;
        let code = once(args, session)?;
        if !session.wait(pause.duration()) {
            return Ok(code);
        }
        session.look_at_the_clock();
    }
}

fn once(args: &CheckExpiryArgs, session: &Session) -> anyhow::Result<ExitCode> {
    let snapshot = look::look(args, session)?;
    let at = args.at.map_or(session.now, |moment| moment.seen_from(session.now));
    let diagnosis = diagnose::diagnose(&snapshot, &policy(args, session, at)?);
    let rows = wanted(args, &diagnosis.rows, &snapshot)?;
    let report = ExpiryReport {
        rows,
        snapshot: &snapshot,
        at,
        made_at: session.now,
        renew_all: format!("kubepki rotate-certs --due{}", target_words(args)),
    };
    if args.monitoring {
        let (line, state) = monitoring::line(&report);
        session.ui.raw(line.as_bytes())?;
        return Ok(code_of(state));
    }
    match args.prometheus.as_deref() {
        Some(path) if path == "-" => session.ui.raw(prometheus::text(&report).as_bytes())?,
        Some(path) => write::atomically(path, prometheus::text(&report).as_bytes())?,
        None => session.result(&report)?,
    }
    let unreachable = snapshot.nodes.iter().any(|node| node.error.is_some());
    Ok(match report.severity() {
        _ if args.no_fail => ExitCode::Done,
        Some(Severity::Broken) => ExitCode::Broken,
        _ if unreachable => ExitCode::Partial,
        Some(Severity::Warning | Severity::Unknown) => ExitCode::Attention,
        Some(Severity::Notice) | None => ExitCode::Done,
    })
}

/// Monitoring systems have codes of their own, which are numbers to us.
fn code_of(state: monitoring::State) -> ExitCode {
    match state {
        monitoring::State::Ok => ExitCode::Done,
        monitoring::State::Warning => ExitCode::Failed,
        monitoring::State::Critical => ExitCode::Usage,
        monitoring::State::Unknown => ExitCode::NotFound,
    }
}

fn policy(args: &CheckExpiryArgs, session: &Session, at: OffsetDateTime) -> anyhow::Result<Policy> {
    let defaults = Policy::at(at);
    Ok(Policy {
        warn_is_default: args.warn == defaults.warn,
        ca_warn_is_default: args.ca_warn == defaults.ca_warn,
        // Somebody may ask for `sa` alone.
        with_keys: !args.only.is_empty(),
        warn: args.warn,
        critical: args.critical,
        ca_warn: args.ca_warn,
        unmanaged: profile::unmanaged(&args.target, session)?,
        target: target_words(args),
        ..defaults
    })
}

/// The options that name the target, with a space in front.
fn target_words(args: &CheckExpiryArgs) -> String {
    match args.target.words() {
        words if words.is_empty() => words,
        words => format!(" {words}"),
    }
}

/// The rows that `--source`, `--context` and `--only` leave.
fn wanted<'r>(args: &CheckExpiryArgs, rows: &'r [Row<'r>], snapshot: &Snapshot) -> anyhow::Result<Vec<&'r Row<'r>>> {
    // What is not found here may lie on a node that nobody reached.
    let unreachable = snapshot.nodes.iter().any(|node| node.error.is_some());
    let is_unknown = |name: &&String| !unreachable && !rows.iter().any(|row| row.is_called(name));
    if let Some(unknown) = args.only.iter().find(is_unknown) {
        let mut known: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        known.retain(|name| !name.contains(['#', '[']));
        known.dedup();
        let hint = match known.as_slice() {
            [] => "nothing was found at all; --pki-dir, --root and --path say where to look".to_owned(),
            known if known.len() > 30 => {
                format!("found were {} and {} others", known[..30].join(", "), known.len() - 30)
            }
            known => format!("found were {}", known.join(", ")),
        };
        return Err(Failure::not_found(format!("there is no certificate `{unknown}`")).hint(hint).into());
    }
    let rows = rows.iter().filter(|row| args.sources.is_empty() || args.sources.contains(&row.artifact.source));
    let rows = rows.filter(|row| args.only.is_empty() || args.only.iter().any(|name| row.is_called(name)));
    let rows: Vec<&Row<'_>> = rows.filter(|row| look::in_context(args, row)).collect();
    if rows.is_empty() && !unreachable {
        let place = match &args.target.place {
            Place::Folder(folder) => format!("in {}", folder.display()),
            Place::Root(root) => format!("below {}", root.display()),
            _ => "there".to_owned(),
        };
        let failure = Failure::not_found(format!("no certificate was found {place}"));
        return Err(failure.hint("--pki-dir, --root, --kubeconfig, --path and --endpoint say where to look").into());
    }
    Ok(rows)
}

fn source_parser() -> impl TypedValueParser<Value = Source> {
    const ALL: [Source; 5] = [Source::Pki, Source::Kubeconfig, Source::Kubelet, Source::Endpoint, Source::Identity];
    PossibleValuesParser::new(ALL.map(Source::name))
        .map(|given| ALL.into_iter().find(|source| source.name() == given).unwrap_or(Source::Pki))
}

/// The machines of the target, for the parts of the command that need them.
fn target(args: &CheckExpiryArgs, session: &Session) -> anyhow::Result<Target> {
    Target::unseen(&args.target, session)
}

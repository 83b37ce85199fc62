//! `revoke`: certificates that shall count no more, and what each component does about that.

use std::path::PathBuf;

use super::change::ChangeArgs;
use super::live;
use super::rolling::Rolling;
use super::session::Session;
use super::target::{Target, TargetArgs};
use crate::error::{ExitCode, Failure};
use crate::pki::revocation::Revocation;
use crate::plan::blueprint::Blueprint;
use crate::plan::revoke::{etcd_rotation, ledger};
use crate::report::revocation::LedgerReport;

pub use crate::plan::revoke::COMMAND;

mod enforced;
mod given;
mod matches;
mod recover;
mod renew;
mod sight;
mod told;
mod wanted;
mod work;

use recover::Next;
use wanted::{NotBefore, Wanted, not_before};
use work::{Step, Work};

/// Take certificates back before they end
///
/// Writes what is revoked into a ledger on every control-plane node and lets each component refuse it that can:
/// kube-apiserver by the certificate's hash, etcd by serial number, kubepki itself when it is to issue such a certificate
/// again. --prepare sets the components up for that once. The result says for each component whether it enforces the
/// revocation; check-expiry shows what is revoked.
///
/// Certificates are named by serial number, group (organization), DNS name or address; a name that begins with a dot means
/// all names below it. With --not-before only certificates issued before that moment are meant. Without it renewed and
/// future ones are meant as well: for anything but serial numbers that has to be said with --not-before none.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubepki revoke --kubeconfig leaked.conf               # who that is, what they may do, and an end to it
  kubepki revoke --serial 77:fd:f4:b1 --description 'lost laptop'
  kubepki revoke --group dev --not-before now           # everybody in the group needs a new certificate
  kubepki revoke --dns .old.example.com --not-before none --what-if
  kubepki revoke -f revocations.yaml --yes              # RenewRevocation manifests
  kubepki revoke --list
  kubepki revoke --delete revoke-20260102t030405z
  kubepki revoke -n prod --prepare                      # once for each cluster")]
pub struct RevokeArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    change: ChangeArgs,

    /// Serial number in hexadecimal digits, in any usual form; may be given more than once
    #[arg(long = "serial", value_name = "HEX", value_delimiter = ',')]
    serials: Vec<String>,

    /// Group: an organization in the subject; may be given more than once
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,

    /// DNS name among the alternative names; with a dot in front all names below it; may be given more than once
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    dns: Vec<String>,

    /// Address among the alternative names; may be given more than once
    #[arg(long = "ip", value_name = "IP", value_delimiter = ',')]
    ips: Vec<String>,

    /// The client certificates in this kubeconfig, by their serial numbers; may be given more than once
    #[arg(long = "kubeconfig", value_name = "FILE")]
    kubeconfigs: Vec<PathBuf>,

    /// Of the kubeconfig only the user of this context
    #[arg(long, value_name = "CONTEXT", requires = "kubeconfigs")]
    context: Option<String>,

    /// The first certificate in this file (PEM or DER), by its serial number; may be given more than once
    #[arg(long = "certificate", value_name = "FILE")]
    certificates: Vec<PathBuf>,

    /// Audit log of kube-apiserver (JSON lines) to look for certificates that lie nowhere; may be given more than once
    #[arg(long = "audit-log", value_name = "FILE")]
    audit_logs: Vec<PathBuf>,

    /// Only certificates issued before: now, 2026-01-31T12:00:00Z or -1h; none means existing and future ones
    #[arg(long, value_name = "TIME|now|none", value_parser = not_before, allow_hyphen_values = true)]
    not_before: Option<NotBefore>,

    /// Why, for whoever reads the list
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Name of the revocation [default: made from the time]
    #[arg(long, value_name = "NAME", value_parser = revocation_name)]
    revocation_name: Option<String>,

    /// RenewRevocation manifests (certificates.microsoft.com/v1), - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Set the components up to enforce revocations, node after node; needed once
    #[arg(long)]
    prepare: bool,

    /// Restart every kube-apiserver afterwards, one after another: what was opened before ends, as watches and terminals
    #[arg(long)]
    end_connections: bool,

    /// Store the revocations in the cluster as well (docs/renewrevocation-crd.yaml)
    #[arg(long)]
    apply: bool,

    /// Show what is revoked
    #[arg(long, conflicts_with_all = ["delete", "prepare", "apply", "renew", "file", "serials", "groups", "dns", "ips"])]
    #[arg(conflicts_with_all = ["kubeconfigs", "certificates", "resume", "abort"])]
    list: bool,

    /// Take a revocation back, by its name; what it revoked counts again
    #[arg(long, value_name = "NAME")]
    #[arg(conflicts_with_all = ["prepare", "renew", "file", "serials", "groups", "dns", "ips", "kubeconfigs", "certificates"])]
    delete: Option<String>,

    /// Renew first what is in use and would be revoked
    #[arg(long)]
    renew: bool,

    /// Revoke although that locks out the control plane, kubelets or yourself
    #[arg(long)]
    force: bool,

    /// Finish what an interrupted run began
    #[arg(long = "continue", conflicts_with = "abort")]
    resume: bool,

    /// Go back to the state before an interrupted run
    #[arg(long)]
    abort: bool,
}

fn revocation_name(text: &str) -> Result<String, String> {
    if Revocation::is_name(text) {
        return Ok(text.to_owned());
    }
    Err("a name has lower-case letters, digits, `-` and `.`, as `leaked-laptop`".to_owned())
}

/// Revokes.
pub fn run(args: &RevokeArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    args.refuse_idle()?;
    let mut given = given::read(args)?;
    // What is wrong with the words is told before anything happens.
    let wanted = wanted::revocations(args, &given.serials(), session.now)?;
    match wanted.refuse_unsaid(args) {
        Err(failure) if args.change.what_if => session.ui.warning(&failure.to_string()),
        said => said?,
    }
    let mut elsewhere = told::audit_logs(&args.audit_logs, session)?;
    let target = Target::resolve(&args.target, session)?;
    let seats = sight::seats(&target)?;
    let is_live = live::is_live(&target, &args.target.place);
    if !is_live {
        args.refuse_at_rest()?;
    }
    match recover::before(args, session, &target, is_live)? {
        Next::Plan => {}
        Next::Ended(code) => return Ok(code),
        Next::Again(words) => return recover::again(args, words, session),
    }
    if args.prepare && enforced::prepared(&args.change, args, session, &target)?.is_none() {
        return Ok(ExitCode::Done);
    }
    if is_live {
        enforced::look_up(&target, &mut given);
    }
    let snapshot = sight::observe(&target, session)?;
    let (mut whole, differences) = ledger::of(&snapshot)?;
    differences.iter().for_each(|difference| session.ui.warning(difference));
    if args.list {
        session.result(&LedgerReport(&whole))?;
        return Ok(ExitCode::Done);
    }
    let taken = args.delete.as_ref().map(|name| ledger::take(&mut whole, name)).transpose()?;
    for (entry, other) in taken.iter().flat_map(|taken| ledger::still(&whole, taken)) {
        session.ui.status(&format!("{entry}: stays revoked, by the revocation {other}"));
    }
    let Wanted { new, standing } = wanted.on(&whole, args, session.now)?;
    for (entry, name) in &standing {
        session.ui.status(&format!("{entry}: is revoked already, by the revocation {name}"));
    }
    ledger::put(&mut whole, &new, session.now);
    let manifests = live::manifests(&target)?;
    if is_live {
        elsewhere.extend(told::requests(&target, &snapshot, session));
    }
    let mut work = Work {
        args,
        session,
        target: &target,
        given: &given,
        elsewhere,
        manifests: &manifests,
        is_live,
        new: new.iter().map(|revocation| revocation.name.clone()).collect(),
        standing: standing.into_iter().map(|(_, name)| name).collect(),
        taken,
        renewed: false,
    };
    let (paths, mut elsewhere) = match work.carry_out(&snapshot, &seats, &whole)? {
        Step::Done(code) => return Ok(code),
        // What is about to be replaced must not be forgotten: it is what will be revoked.
        Step::RenewFirst(paths, found) => (paths, found),
    };
    elsewhere.append(&mut work.elsewhere);
    let (new_names, standing) = (work.new, work.standing);
    renew::renew(&args.target, &paths, new, session)?;
    // Everything is looked at again: what is revoked now is what was there before.
    let snapshot = sight::observe(&target, session)?;
    let work = Work {
        args,
        session,
        target: &target,
        given: &given,
        elsewhere,
        manifests: &manifests,
        is_live,
        new: new_names,
        standing,
        taken: None,
        renewed: true,
    };
    match work.carry_out(&snapshot, &seats, &whole)? {
        Step::Done(code) => Ok(code),
        Step::RenewFirst(..) => Err(Failure::failed("what was renewed is revoked again; nothing is on the ledger yet")
            .hint("`--not-before now` spares what is issued from now on")
            .into()),
    }
}

/// A change of files that nothing is restarted for and nothing waits for: it has to work while the API is down.
fn quiet<'a>(target: &Target) -> Rolling<'a> {
    Rolling {
        means: live::means(target.cluster.as_ref()),
        parallel: 1,
        prove: Box::new(|_, _, _| Ok(())),
        before: Box::new(|_, _, _, _| ()),
        between: Box::new(|_, _| Ok(())),
    }
}

/// Has etcd's revocation lists follow a rotation of etcd's CA.
///
/// # Errors
/// When a node cannot be read.
pub(super) fn lists_follow(blueprint: &mut Blueprint, target: &Target, session: &Session) -> anyhow::Result<()> {
    // Without a control-plane node there are no lists.
    let seats = sight::seats(target).unwrap_or_default();
    let files = sight::files(target, &seats, session)?;
    etcd_rotation::follow(blueprint, &seats, &files, session.now);
    Ok(())
}

/// The options that name the target, with a space in front.
fn target_words(target: &TargetArgs) -> String {
    match target.words() {
        words if words.is_empty() => words,
        words => format!(" {words}"),
    }
}

impl RevokeArgs {
    /// Whether options name certificates, and not only a manifest.
    fn names_certificates(&self) -> bool {
        let lists = [&self.serials, &self.groups, &self.dns, &self.ips];
        let files = [&self.kubeconfigs, &self.certificates];
        lists.iter().any(|list| !list.is_empty()) || files.iter().any(|list| !list.is_empty())
    }

    /// Refuses what only a running cluster can do.
    fn refuse_at_rest(&self) -> Result<(), Failure> {
        let asked = [(self.apply, "--apply"), (self.end_connections, "--end-connections")];
        match asked.into_iter().find_map(|(is_asked, option)| is_asked.then_some(option)) {
            None => Ok(()),
            Some(option) => Err(Failure::usage(format!("{option} needs a running cluster, and nothing runs here"))
                .hint("name one with --cluster-file or --name, or leave the option away")),
        }
    }

    /// Refuses a command that asks for nothing.
    fn refuse_idle(&self) -> Result<(), Failure> {
        let does_some = self.prepare || self.apply || self.list || self.delete.is_some() || self.renew;
        if self.names_certificates() || self.file.is_some() || does_some || self.resume || self.abort {
            return Ok(());
        }
        Err(Failure::usage("nothing to revoke: no certificate is named")
            .hint("--serial, --group, --dns, --ip, --kubeconfig, --certificate or -f FILE; `kubepki revoke --help`"))
    }
}

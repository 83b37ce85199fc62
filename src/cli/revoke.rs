//! `revoke`: certificates that shall count no more, and what each component does about that.

use std::path::PathBuf;

use super::carry_out::Crew;
use super::change::ChangeArgs;
use super::enforce;
use super::live;
use super::rolling::Rolling;
use super::session::{Decision, Session};
use super::target::{Target, TargetArgs};
use crate::diagnose::{Policy, diagnose};
use crate::error::{ExitCode, Failure};
use crate::pki::register::{Issued, Origin};
use crate::pki::revocation::Revocation;
use crate::plan::blueprint::Blueprint;
use crate::plan::operation::{Operation, ProvisioningState};
use crate::plan::restart::Manifest;
use crate::plan::revoke::known::{Known, known};
use crate::plan::revoke::result::RevocationResult;
use crate::plan::revoke::{COMMAND, Case, Plan, etcd_rotation, ledger, lockout, plan};
use crate::report::revocation::LedgerReport;
use crate::report::text::counted;
use crate::snapshot::Snapshot;

mod enforced;
mod given;
mod matches;
mod recover;
mod renew;
mod sight;
mod told;
mod wanted;

use given::Given;
use matches::matches;
use recover::recover;
use wanted::{NotBefore, not_before};

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
    let mut elsewhere = told::audit_logs(&args.audit_logs, session)?;
    let target = Target::resolve(&args.target, session)?;
    let seats = sight::seats(&target)?;
    let is_live = live::is_live(&target, &args.target.place);
    let manifests = live::manifests(&target)?;
    let crew = || {
        let crew = Crew::new(session, &target, &args.target, COMMAND);
        if is_live { crew.rolling(quiet(&target), Vec::new()) } else { crew }
    };
    if let Some(journal) = crew().unfinished()?.filter(|_| !args.list) {
        // What restarts components has to wait for them; files alone wait for nobody.
        let begun = if is_live && !journal.restarting.is_empty() {
            let rolling = enforce::rolling(session, &target, &args.target, &manifests);
            Crew::new(session, &target, &args.target, COMMAND).rolling(rolling, Vec::new())
        } else {
            crew()
        };
        if args.resume || args.abort {
            return recover(args, session, &begun);
        }
        begun.refuse_other(&journal)?;
        if !args.change.what_if {
            session.ui.status("finishing what an earlier run began");
            begun.resume()?;
        }
    } else if args.resume || args.abort {
        return recover(args, session, &crew());
    }
    if args.prepare && enforced::prepared(&args.change, args, session, &target)?.is_none() {
        return Ok(ExitCode::Done);
    }
    if is_live {
        enforced::look_up(&target, &mut given);
    }
    let crew = crew();
    let snapshot = sight::observe(&target, session)?;
    let (mut whole, differences) = ledger::of(&snapshot)?;
    differences.iter().for_each(|difference| session.ui.warning(difference));
    if args.list {
        session.result(&LedgerReport(&whole))?;
        return Ok(ExitCode::Done);
    }
    let new = match &args.delete {
        Some(name) => {
            ledger::take(&mut whole, name)?;
            Vec::new()
        }
        None => wanted::revocations(args, &given.serials(), &whole, session.now)?,
    };
    if args.change.what_if {
        if let Err(failure) = wanted::refuse_unsaid(args, &new) {
            session.ui.warning(&failure.to_string());
        }
    } else {
        wanted::refuse_unsaid(args, &new)?;
    }
    ledger::put(&mut whole, &new, session.now);
    let names: Vec<String> = new.iter().map(|revocation| revocation.name.clone()).collect();
    let manifests = live::manifests(&target)?;
    if is_live {
        elsewhere.extend(told::requests(&target, &snapshot, session));
    }
    let work = Work {
        args,
        session,
        target: &target,
        given: &given,
        elsewhere: &elsewhere,
        manifests: &manifests,
        is_live,
        renewed: false,
    };
    let step = work.carry_out(&crew, &snapshot, &seats, &whole, &names)?;
    drop(crew);
    let paths = match step {
        Step::Done(code) => return Ok(code),
        Step::RenewFirst(paths, found) => {
            // What is about to be replaced must not be forgotten: it is what will be revoked.
            elsewhere.extend(found);
            paths
        }
    };
    renew::renew(&args.target, &paths, new, session)?;
    // Everything is looked at again: what is revoked now is what was there before.
    let mut crew = Crew::new(session, &target, &args.target, COMMAND);
    if is_live {
        crew = crew.rolling(quiet(&target), Vec::new());
    }
    let snapshot = sight::observe(&target, session)?;
    let work = Work {
        args,
        session,
        target: &target,
        given: &given,
        elsewhere: &elsewhere,
        manifests: &manifests,
        is_live,
        renewed: true,
    };
    match work.carry_out(&crew, &snapshot, &seats, &whole, &names)? {
        Step::Done(code) => Ok(code),
        Step::RenewFirst(..) => Err(Failure::failed("what was renewed is revoked again").into()),
    }
}

/// What comes after a plan.
enum Step {
    Done(ExitCode),
    /// These files hold certificates that are in use and would be revoked; it was agreed to renew them. And everything
    /// that was found before.
    RenewFirst(Vec<String>, Vec<Issued>),
}

/// One run with everything it was asked for.
struct Work<'a> {
    args: &'a RevokeArgs,
    session: &'a Session,
    target: &'a Target,
    given: &'a Given,
    elsewhere: &'a [Issued],
    manifests: &'a [Manifest],
    is_live: bool,
    /// Whether what is in use has been renewed, and everything agreed to.
    renewed: bool,
}

impl Work<'_> {
    fn carry_out(
        &self,
        crew: &Crew<'_>,
        before: &Snapshot,
        seats: &[crate::plan::revoke::Seat],
        whole: &[Revocation],
        names: &[String],
    ) -> anyhow::Result<Step> {
        let (args, session, now) = (self.args, self.session, self.session.now);
        let after = self.as_it_will_be(before, whole);
        let diagnosis = diagnose(&after, &Policy { target: target_words(&args.target), ..Policy::at(now) });
        let known = known(&after, &diagnosis.rows, self.elsewhere, whole);
        let told = self.told(&known);
        let files = sight::files(self.target, seats, session)?;
        let case = Case {
            snapshot: before,
            seats,
            ledger: whole,
            names,
            known: &known,
            told: &told,
            manifests: self.manifests,
            files: &files,
            is_live: self.is_live,
            prepare: args.prepare,
            now,
        };
        let Plan { blueprint, states } = plan(&case)?;
        let mut result = RevocationResult {
            kind: "RevocationResult",
            name: args.delete.clone().unwrap_or_else(|| names.join(", ")),
            provisioning_state: ProvisioningState::Planned,
            matches: matches(&diagnosis.rows, &known, whole, names, now),
            components: states,
            proof: Vec::new(),
            holders: self.given.holders.clone(),
            taken_back: args.delete.is_some(),
            nodes: blueprint.operation("").nodes,
            next_steps: blueprint.next_steps.clone(),
        };
        let renewable = if args.renew && !self.renewed { renew::paths(&case, &diagnosis.rows) } else { Vec::new() };
        let locked_out = lockout::of(&case, &told::operator(), &renewable);
        if !locked_out.is_empty() {
            self.lock_out(&locked_out)?;
        }
        let hit: Vec<&Known> = case.hit().collect();
        if !hit.is_empty() && hit.iter().all(|known| known.is_kubelet_serving()) {
            session.result(&result)?;
            let message = "nothing was changed: all that matches are serving certificates of kubelets, and those cannot be revoked";
            return Err(Failure::failed(message)
                .hint("whoever connects to a kubelet checks no list; have the kubelet make a new one: `kubepki repair-certs`")
                .into());
        }
        let question = self.question(names, hit.len(), seats.len());
        // The question about --prepare was the one question.
        let mut change = if args.prepare { enforced::agreed(&args.change) } else { args.change.clone() };
        if !renewable.is_empty() {
            let renews = format!("renewed first: {}", renewable.join(", "));
            result.next_steps.insert(0, renews);
            let nodes: Vec<&str> = seats.iter().map(|seat| seat.node.as_str()).collect();
            let question = format!("Renew {} and then: {question}", counted(renewable.len(), "file"));
            return Ok(match session.decide(&change, &result, &nodes, &question)? {
                Decision::OnlyShow => Step::Done(ExitCode::Done),
                Decision::Apply => Step::RenewFirst(renewable, told),
            });
        }
        if self.renewed {
            change = ChangeArgs { yes: true, ..ChangeArgs::default() };
        }
        let Some(operation) = crew.carry_out_shown(&change, &blueprint, &question, Some(&result))? else {
            return Ok(Step::Done(ExitCode::Done));
        };
        if hit.is_empty() && !names.is_empty() {
            session
                .ui
                .status("no certificate that is known matches; the entries stay on the ledger for those that turn up");
        }
        if args.prepare {
            // Lists for etcd are there only now.
            enforced::prepared(&enforced::agreed(&args.change), args, session, self.target)?;
        }
        self.finish(&mut result, operation);
        if self.is_live {
            self.prove(&mut result, &hit)?;
        }
        if args.apply {
            self.store(whole)?;
        }
        session.result(&result)?;
        Ok(Step::Done(ExitCode::Done))
    }

    /// The snapshot with the new ledger on every node, and the given files.
    fn as_it_will_be(&self, before: &Snapshot, whole: &[Revocation]) -> Snapshot {
        let mut after = before.clone();
        for node in &mut after.nodes {
            node.records.ledger.revocations = whole.to_vec();
        }
        if let Some(found) = &self.given.found {
            let mut found = found.clone();
            let here = after.nodes.iter().position(|node| node.name == found.name);
            match here.and_then(|place| after.nodes.get_mut(place)) {
                Some(node) => {
                    found.artifacts.retain(|artifact| node.at(&artifact.path).is_none());
                    node.artifacts.append(&mut found.artifacts);
                }
                None => after.nodes.push(found),
            }
        }
        after
    }

    /// What goes into the registers: everything that was found and is not there yet.
    fn told(&self, known: &[Known]) -> Vec<Issued> {
        let found = known.iter().filter(|known| known.certificate.is_some() && !known.issued.is_ca);
        let given: Vec<String> = self.given.certificates.iter().map(|one| one.fingerprint_hex()).collect();
        let origin = |issued: &Issued| if given.contains(&issued.sha256) { Origin::File } else { issued.source };
        let found = found.map(|known| Issued { source: origin(&known.issued), ..known.issued.clone() });
        found.chain(self.elsewhere.iter().cloned()).collect()
    }

    fn lock_out(&self, who: &[String]) -> anyhow::Result<()> {
        let list = who.join("\n  ");
        if self.args.force || self.args.change.what_if {
            self.session.ui.warning(&format!("this locks out:\n  {list}"));
            return Ok(());
        }
        Err(Failure::failed(format!("nothing was changed, because this would lock out:\n  {list}"))
            .hint("--renew renews them first; --not-before spares newer ones; --force revokes all the same")
            .into())
    }

    fn question(&self, names: &[String], hit: usize, seats: usize) -> String {
        let nodes = counted(seats, "control-plane node");
        match &self.args.delete {
            Some(name) => format!("Take the revocation {name} back on {nodes}? What it revoked counts again."),
            None if names.is_empty() => format!("Change the files above on {nodes}?"),
            None => format!("Revoke {} ({}) on {nodes}?", counted(hit, "certificate"), names.join(", ")),
        }
    }

    fn finish(&self, result: &mut RevocationResult, operation: Operation) {
        use crate::plan::revoke::result::Enforcement;
        let now = self.session.by_now();
        let now = now.replace_nanosecond(0).unwrap_or(now);
        result.provisioning_state = operation.provisioning_state;
        result.nodes = operation.nodes;
        for state in result.components.iter_mut().filter(|state| state.state == Enforcement::Enforced) {
            state.since = state.since.or(Some(now));
        }
    }
}

/// A change of files that nothing is restarted for and nothing waits for: it has to work while the API is down.
fn quiet<'a>(target: &Target) -> Rolling<'a> {
    Rolling {
        means: live::means(target.cluster.as_ref()),
        parallel: 1,
        prove: Box::new(|_, _, _| Ok(())),
        before: Box::new(|_, _, _| ()),
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
    /// Refuses a command that asks for nothing.
    fn refuse_idle(&self) -> Result<(), Failure> {
        let names_some = [&self.serials, &self.groups, &self.dns, &self.ips].iter().any(|list| !list.is_empty());
        let gives_some = !self.kubeconfigs.is_empty() || !self.certificates.is_empty() || self.file.is_some();
        let does_some = self.prepare || self.apply || self.list || self.delete.is_some() || self.renew;
        if names_some || gives_some || does_some || self.resume || self.abort {
            return Ok(());
        }
        Err(Failure::usage("nothing to revoke: no certificate is named")
            .hint("--serial, --group, --dns, --ip, --kubeconfig, --certificate or -f FILE; `kubepki revoke --help`"))
    }
}

//! `repair-certs`: finds what is broken, missing or wrong, and makes only that again, also with everything down.

use std::path::PathBuf;

use super::backup_copy;
use super::carry_out::Crew;
use super::change::ChangeArgs;
use super::live;
use super::rolling::Resumed;
use super::session::Session;
use super::target::TargetArgs;
use crate::apply::change::operation_id;
use crate::apply::journal::Journal;
use crate::error::{ExitCode, Failure};
use crate::plan::operation::{NodeState, ProvisioningState};
use crate::plan::repair::{COMMAND, Fault, Repair, Scope};
use crate::report::text::counted;

mod approval;
mod course;
mod design;
mod gates;
mod sight;

use course::Course;
use sight::Sight;

/// Find what is expired, revoked, missing or wrong, and make it work again
///
/// Looks at certificates, keys, authorities, service-account keys, kubeconfigs and the kubelet's own files, and at what
/// running components hold in memory. Each finding is shown with its remedy, one question is asked, and only what is broken
/// is made again: subjects, names and usages are kept, keys are new. Files that all nodes share come from the nodes on which
/// they are right. Authorities are never replaced.
///
/// It needs no API server. On a cluster that is down everywhere (--cluster-file, --name) the files of all nodes come first,
/// then kubelets, etcd, API servers and the rest are started in that order, and the whole has to be well in the end. On one
/// that lives nodes change one after another. With files alone (--root, --pki-dir) the result says what to restart.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubepki repair-certs --what-if                        # what is wrong on this machine, and what would be done
  kubepki repair-certs -n prod --yes                    # a whole cluster over SSH, whatever state it is in
  kubepki repair-certs -n prod --node w1 --fix-kubelet-credentials
  kubepki repair-certs --root /mnt                      # a disk of a machine that does not start
  kubepki repair-certs --abort                          # back to the state before an interrupted run")]
pub struct RepairCertsArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    change: ChangeArgs,

    /// Only the credentials of kubelets: client and serving certificates, kubelet.conf
    #[arg(long)]
    fix_kubelet_credentials: bool,

    /// Only what belongs to identities of the cloud agent
    #[arg(long)]
    fix_cloud_credentials: bool,

    /// Act where nothing proves what is right (authorities or token keys that disagree), renew authorities whose time is over
    /// with their own keys, and make lost token keys anew
    #[arg(long)]
    force: bool,

    /// Finish what an interrupted run began
    #[arg(long = "continue", conflicts_with = "abort")]
    resume: bool,

    /// Go back to the state before an interrupted run
    #[arg(long)]
    abort: bool,

    /// Folder on this machine for another copy of every file before it changes
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
}

/// Repairs.
pub fn run(args: &RepairCertsArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    let session: &Session = session;
    let sight = Sight::of(args, session)?;
    let rolling = sight.is_live.then(|| gates::rolling(session, &sight, &args.target));
    let mut crew = Crew::new(session, &sight.target, &args.target, COMMAND);
    if let Some(rolling) = rolling {
        crew = crew.rolling(rolling, session.words.clone());
    }
    if let Some(code) = recover(args, session, &sight, &crew)? {
        return Ok(code);
    }
    let mut repair = sight.look(args, session)?;
    if let Some(reason) = &repair.refusal {
        return Err(Failure::failed(format!("nothing was changed: new certificates would be revoked at once: {reason}"))
            .hint("`kubepki revoke --list` shows the entries; --delete takes one back, --not-before now spares what comes after")
            .into());
    }
    if let Some(reason) = repair.ended.as_ref().filter(|_| sight.is_live) {
        let message = format!("nothing was changed, because nothing could get well: {reason}");
        return Err(Failure::failed(message)
            .hint("what it signed stays good when it is renewed with its own key")
            .into());
    }
    tell(session, &repair);
    if !repair.does_something() {
        return nothing(session, &sight, &repair);
    }
    let course = if sight.is_live { Course::choose(session, &sight, &repair) } else { Course::Files };
    let left = course.arrange(&sight, &mut repair.blueprint, &operation_id(session.now)?)?;
    for (node, component, reason) in left {
        repair.blueprint.next_steps.insert(0, format!("on {node}: restart {component} ({reason})"));
    }
    let lonely = course.lonely(&repair.blueprint);
    let crew = crew.with_copies_in(args.backup_dir.as_deref().map(backup_copy::folder).transpose()?);
    let is_running = sight.is_live && !args.change.what_if;
    if !sight.is_live && !args.change.what_if {
        // A result lists the restarts that were made: none here, the next steps have them.
        repair.blueprint.nodes.iter_mut().for_each(|node| node.restarts.clear());
    }
    let probe = if is_running { live::watch::availability(&sight.target) } else { None };
    let Some(mut operation) = crew.carry_out(&args.change, &repair.blueprint, &question(&repair, course))? else {
        return Ok(ExitCode::Done);
    };
    if is_running {
        gates::restart(session, &sight, &lonely)?;
        approval::approve(session, &sight, &repair.approvals)?;
    }
    operation.unavailability_seconds = probe.map(|probe| probe.finish().unavailable.as_secs_f64());
    let after = gates::settled(args, session, &sight, &repair)?;
    session.result(&operation)?;
    conclude(&sight, &repair, &after)
}

/// Says what is wrong and is not in the table of files.
fn tell(session: &Session, repair: &Repair) {
    for fault in repair.faults.iter().filter(|fault| fault.is_mended) {
        session.ui.status(&fault.to_string());
    }
    // Where that is everything, the error says it.
    for fault in repair.faults.iter().filter(|fault| !fault.is_mended && repair.does_something()) {
        session.ui.warning(&fault.to_string());
    }
}

/// Nothing is wrong, or nothing of it can be mended.
fn nothing(session: &Session, sight: &Sight, repair: &Repair) -> anyhow::Result<ExitCode> {
    if repair.is_empty() {
        session.ui.status("nothing to repair");
        let mut operation = repair.blueprint.operation(&operation_id(session.now)?);
        operation.provisioning_state = ProvisioningState::Succeeded;
        operation.nodes.iter_mut().for_each(|node| node.state = NodeState::Finished);
        (operation.started_at, operation.ended_at) = (Some(session.now), Some(session.now));
        session.result(&operation)?;
        return sight.refuse_lost().map(|()| ExitCode::Done);
    }
    let left: Vec<&Fault> = repair.faults.iter().collect();
    Err(Failure::failed(format!("nothing was changed: none of it can be mended from here:{}", listed(&left)))
        .hint("do what the findings say, then run the command again")
        .into())
}

fn listed(faults: &[&Fault]) -> String {
    faults.iter().fold(String::new(), |list, fault| format!("{list}\n  {fault}"))
}

/// What is still wrong decides how it ends.
fn conclude(sight: &Sight, before: &Repair, after: &Repair) -> anyhow::Result<ExitCode> {
    let left: Vec<&Fault> = after.faults.iter().collect();
    if left.is_empty() {
        return sight.refuse_lost().map(|()| ExitCode::Done);
    }
    let is_known =
        |fault: &&Fault| before.left().iter().any(|known| known.path == fault.path && known.node == fault.node);
    let (known, new): (Vec<&Fault>, Vec<&Fault>) = left.into_iter().partition(is_known);
    let message = match (known.as_slice(), new.as_slice()) {
        (known, []) => format!("everything else is mended, but this is not:{}", listed(known)),
        (_, new) => format!("everything was written, but not all of it is well:{}", listed(new)),
    };
    Err(Failure::partial(message).hint("each finding says what helps; run the command again after that").into())
}

/// `--continue` and `--abort`; an earlier run of this command is finished before anything else.
fn recover(
    args: &RepairCertsArgs,
    session: &Session,
    sight: &Sight,
    crew: &Crew<'_>,
) -> anyhow::Result<Option<ExitCode>> {
    if args.abort || args.resume {
        let outcome = if args.abort {
            crew.abort(args.force)?
        } else {
            match crew.resume()? {
                Resumed::NotBegun(_) => {
                    session.ui.status("the interrupted run had not changed anything yet: planning it anew");
                    return Ok(None);
                }
                resumed => resumed.operation(),
            }
        };
        let Some(operation) = outcome else {
            session.ui.status("no repair is unfinished here");
            return Ok(Some(ExitCode::Done));
        };
        session.result(&operation)?;
        if args.abort {
            return Ok(Some(ExitCode::Done));
        }
        // What comes after the last file: kubelets that wait for a certificate, and a look at the whole.
        let found = sight.look(args, session)?;
        if sight.is_live {
            approval::approve(session, sight, &found.approvals)?;
        }
        let after = gates::settled(args, session, sight, &Repair::default())?;
        return conclude(sight, &Repair::default(), &after).map(Some);
    }
    let Some(journal) = crew.unfinished()? else { return Ok(None) };
    crew.refuse_other(&journal)?;
    if args.change.what_if || !args.change.yes {
        return Err(unfinished(crew, &journal).into());
    }
    session.ui.status("finishing what an earlier run began");
    crew.resume()?;
    Ok(None)
}

fn unfinished(crew: &Crew<'_>, journal: &Journal) -> Failure {
    let command = crew.command_line(COMMAND);
    let message = format!("{}: an earlier {COMMAND} has begun and is not finished", journal.node);
    Failure::partial(message).hint(format!("`{command} --continue` finishes it, `{command} --abort` takes it back"))
}

/// What is mended, on how many nodes, at what cost.
fn question(repair: &Repair, course: Course) -> String {
    let mended = repair.faults.iter().filter(|fault| fault.is_mended).count();
    let files = counted(repair.blueprint.ends().count(), "file");
    let is_changed =
        |node: &&crate::plan::blueprint::NodeBlueprint| !node.files.is_empty() || !node.restarts.is_empty();
    let nodes = counted(repair.blueprint.nodes.iter().filter(is_changed).count(), "node");
    let cost = match course {
        Course::Together => " The cluster is not well: everything concerned is started anew at once.",
        Course::Rolling if repair.blueprint.nodes.iter().any(|node| !node.restarts.is_empty()) => {
            " Components are restarted, one node after another."
        }
        Course::Rolling | Course::Files => "",
    };
    format!("Mend {} ({files} on {nodes}), with a backup of each?{cost}", counted(mended, "finding"))
}

impl RepairCertsArgs {
    fn scope(&self) -> Scope {
        Scope { kubelets: self.fix_kubelet_credentials, cloud: self.fix_cloud_credentials }
    }
}

//! `wait`: return when the operation that runs on a cluster has ended.

use std::time::{Duration, Instant};

use super::session::Session;
use super::state::{last_operations, overall};
use super::target::{Target, TargetArgs};
use crate::apply::transaction::ways_out;
use crate::error::{ExitCode, Failure};
use crate::live::wait::sleep;
use crate::plan::operation::{PhaseReport, ProvisioningState};
use crate::plan::phase::Phase;

/// Wait until the running operation has ended
///
/// Asks the nodes again and again. Nothing running is an end, too. An operation that stopped half-way gives exit code 6, with
/// the command that finishes it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubepki rotate-certs -n lab --yes --no-wait && kubepki wait -n lab
  kubepki wait -n lab --interval 10 --timeout 1800")]
pub struct WaitArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,

    /// Give up after so many seconds, with exit code 1
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(0..=31_536_000))]
    timeout: u64,
}

/// Waits.
pub fn run(args: &WaitArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    let target = Target::resolve(&args.target, session)?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let mut told = None;
    loop {
        let operations = last_operations(session, &args.target, &target)?;
        let running =
            operations.iter().map(|(_, operation)| operation).find(|operation| is_open(operation.provisioning_state));
        let Some(operation) = running else { return Ok(ExitCode::Done) };
        if overall(&operations) == ProvisioningState::Failed {
            let words = args.target.words();
            let command = format!("kubepki {}{}{words}", operation.command, if words.is_empty() { "" } else { " " });
            let drop_old = |phase: &PhaseReport| phase.name == Phase::DropOld.name() && phase.started_at.is_some();
            let is_late = operation.phases.iter().any(drop_old);
            let error =
                operations.iter().flat_map(|(_, operation)| &operation.nodes).find_map(|node| node.error.clone());
            let reason = error.map(|error| format!(": {error}")).unwrap_or_default();
            return Err(Failure::partial(format!(
                "operation {} has stopped and is not finished{reason}",
                operation.id
            ))
            .hint(ways_out(&command, !is_late))
            .into());
        }
        let phase =
            operation.phases.iter().rev().find(|phase| phase.started_at.is_some()).map(|phase| phase.name.clone());
        if told != Some(phase.clone()) {
            let words = phase.as_deref().map(|phase| format!(", {phase}")).unwrap_or_default();
            session.ui.status(&format!("{} {} is under way{words}", operation.command, operation.id));
            told = Some(phase);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::failed(format!("operation {} has not ended within {} s", operation.id, args.timeout))
                .hint("`kubepki show` says how far it is")
                .into());
        }
        sleep(left.min(Duration::from_secs(args.interval)), &session.interrupt);
        session.interrupt.check()?;
    }
}

fn is_open(state: ProvisioningState) -> bool {
    matches!(state, ProvisioningState::CertificateRotating | ProvisioningState::Failed)
}

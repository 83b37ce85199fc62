//! What an interrupted run began: finished, or taken back.

use super::RevokeArgs;
use crate::cli::carry_out::Crew;
use crate::cli::rolling::Resumed;
use crate::cli::session::Session;
use crate::error::ExitCode;

/// `--continue` and `--abort`.
pub(super) fn recover(args: &RevokeArgs, session: &Session, crew: &Crew<'_>) -> anyhow::Result<ExitCode> {
    if let Some(journal) = crew.unfinished()? {
        crew.refuse_other(&journal)?;
    }
    let outcome = if args.abort {
        crew.abort(false)?
    } else {
        match crew.resume()? {
            Resumed::NotBegun(_) => {
                session.ui.status("the interrupted run had not changed anything yet: run the command again as it was");
                return Ok(ExitCode::Done);
            }
            resumed => resumed.operation(),
        }
    };
    match outcome {
        Some(operation) => session.result(&operation)?,
        None => session.ui.status("no revocation is unfinished here"),
    }
    Ok(ExitCode::Done)
}

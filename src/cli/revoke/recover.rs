//! What an interrupted run began: finished, or taken back. A preparation that was to be followed by a revocation is
//! followed by it.

use std::path::Path;

use super::{COMMAND, RevokeArgs, quiet};
use crate::apply::journal::Journal;
use crate::cli::carry_out::Crew;
use crate::cli::change::ChangeArgs;
use crate::cli::rolling::Resumed;
use crate::cli::session::Session;
use crate::cli::target::Target;
use crate::cli::{enforce, live, revocation};
use crate::error::{ExitCode, Failure};
use crate::plan::operation::ProvisioningState;

/// What comes after an unfinished operation was dealt with.
pub(super) enum Next {
    Ended(ExitCode),
    /// What these words ask for is still to be done.
    Again(Vec<String>),
    /// What this run was asked for.
    Plan,
}

/// Finishes or takes back what was interrupted: when asked to, or, for an earlier run of this command, before anything else.
///
/// # Errors
/// As [`Crew::resume`] and [`Crew::abort`]; exit code 6 for an operation of another command.
pub(super) fn before(args: &RevokeArgs, session: &Session, target: &Target, is_live: bool) -> anyhow::Result<Next> {
    if args.list {
        return Ok(Next::Plan);
    }
    let manifests = live::manifests(target)?;
    let mut crew = Crew::new(session, target, &args.target, COMMAND);
    let begun: Vec<Journal> = crew.journals()?.into_iter().flatten().collect();
    if is_live {
        // What restarts components has to wait for them; files alone wait for nobody.
        let restarts = begun.iter().any(|journal| !journal.restarting.is_empty());
        let rolling =
            if restarts { enforce::rolling(session, target, &args.target, &manifests) } else { quiet(target) };
        crew = crew.rolling(rolling, Vec::new());
    }
    if let Some(journal) = begun.first() {
        crew.refuse_other(journal)?;
    }
    if args.resume || args.abort {
        return ended(args, session, &crew, begun.first());
    }
    if !begun.is_empty() && !args.change.what_if {
        session.ui.status("finishing what an earlier run began");
        crew.resume()?;
    }
    Ok(Next::Plan)
}

/// `--continue` and `--abort`.
fn ended(args: &RevokeArgs, session: &Session, crew: &Crew<'_>, begun: Option<&Journal>) -> anyhow::Result<Next> {
    let words = begun.map(|journal| journal.words.clone()).unwrap_or_default();
    let outcome = if args.abort {
        crew.abort(false)?
    } else {
        match crew.resume()? {
            Resumed::NotBegun(words) if words.is_empty() => {
                session.ui.status("the interrupted run had not changed anything yet: run the command again as it was");
                return Ok(Next::Ended(ExitCode::Done));
            }
            Resumed::NotBegun(words) => return Ok(Next::Again(words)),
            resumed => resumed.operation(),
        }
    };
    let is_through =
        outcome.as_ref().is_some_and(|operation| operation.provisioning_state == ProvisioningState::Succeeded);
    if args.resume && is_through && !words.is_empty() {
        return Ok(Next::Again(words));
    }
    match outcome {
        Some(operation) => session.result(&operation)?,
        None => session.ui.status("no revocation is unfinished here"),
    }
    Ok(Next::Ended(ExitCode::Done))
}

/// What the interrupted run was asked for: it had got as far as its preparation, or not even there.
///
/// # Errors
/// As the command itself; exit code 6 when nobody knows any more what it was asked for.
pub(super) fn again(args: &RevokeArgs, words: Vec<String>, session: &mut Session) -> anyhow::Result<ExitCode> {
    let hint = "run the command again as it was, without --continue";
    let asked = revocation(&words).filter(|asked| asked.file.as_deref() != Some(Path::new("-")));
    let mut asked = asked.ok_or_else(|| {
        Failure::partial("what was to be revoked is not known any more, so nobody is revoked yet").hint(hint)
    })?;
    session.ui.status(&format!("going on with what was asked for: kubepki {}", words.join(" ")));
    asked.target = args.target.clone();
    // Whoever began it agreed to it, and whoever continues it does again.
    asked.change = ChangeArgs { yes: true, ..ChangeArgs::default() };
    (asked.resume, asked.abort) = (false, false);
    session.words = words;
    super::run(&asked, session)
}

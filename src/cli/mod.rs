//! Words to requests: the only room that knows clap, one file per command.
//!
//! A command is a struct of options, whose doc comment is its help, and a `run` below it. Adding one takes a file, a
//! line in [`Command`] and a line in the match of [`Command::run`]. Nothing here decides anything about certificates.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{self, ExitCode};
use crate::plan::{create, rotate};
use crate::report::Ui;

pub mod backup_copy;
pub mod candidates;
pub mod carry_out;
pub mod change;
pub mod check_expiry;
pub mod cluster_file;
pub mod completion;
pub mod create_certs;
pub mod discover;
pub mod enforce;
pub mod environment;
pub mod get_credentials;
pub mod global;
pub mod list;
pub mod live;
pub mod offered;
pub mod problems;
pub mod record;
pub mod records;
pub mod repair_certs;
pub mod revoke;
pub mod rolling;
pub mod rotate_certs;
pub mod session;
pub mod show;
pub mod state;
pub mod target;
pub mod transactions;
pub mod verify;
pub mod version;
pub mod wait;

use session::Session;

const ABOUT_EXIT_CODES: &str = "\
Exit codes:
    0  done, nothing to do, or nothing wrong
    1  failed or cancelled; nothing changed
    2  usage: an option, a cluster file or a spec is wrong
    3  not found: cluster, node, certificate, identity
    4  check: attention (past the warning threshold)
    5  check: broken (expired, not yet valid, revoked, untrusted, key mismatch, missing, unreadable)
    6  partial: some nodes not reached or not finished; state kept
  130  interrupted; state kept

Every option can be preset by an environment variable: --cluster-file by KUBEPKI_CLUSTER_FILE. The command line wins.

Examples:
  kubepki check-expiry
  kubepki check-expiry --pki-dir ./pki -o json --query \"certificates[?status!='ok'].name\"
  kubepki rotate-certs --what-if
  kubepki rotate-certs --only leaf --yes";

/// Own the PKI of a self-managed Kubernetes cluster
///
/// Creates, checks and rotates its certificates, certificate authorities, service-account keys and kubeconfigs, on this
/// machine, in a folder or on a mounted disk. Private keys stay where they are, and nothing is changed unasked.
#[derive(Debug, Parser)]
#[command(name = "kubepki", version, after_help = ABOUT_EXIT_CODES, max_term_width = 120)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: global::GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the doc comment of the options is the help text")]
pub enum Command {
    CheckExpiry(Box<check_expiry::CheckExpiryArgs>),
    Completion(completion::CompletionArgs),
    CreateCerts(Box<create_certs::CreateCertsArgs>),
    Discover(Box<discover::DiscoverArgs>),
    GetCredentials(Box<get_credentials::GetCredentialsArgs>),
    List(list::ListArgs),
    RepairCerts(Box<repair_certs::RepairCertsArgs>),
    Revoke(Box<revoke::RevokeArgs>),
    RotateCerts(Box<rotate_certs::RotateCertsArgs>),
    Show(show::ShowArgs),
    Verify(Box<verify::VerifyArgs>),
    Version(version::VersionArgs),
    Wait(wait::WaitArgs),
}

impl Command {
    /// Whether it must never be torn away in the middle.
    fn changes_something(&self) -> bool {
        match self {
            Self::CreateCerts(_)
            | Self::Discover(_)
            | Self::GetCredentials(_)
            | Self::Revoke(_)
            | Self::RepairCerts(_)
            | Self::RotateCerts(_) => true,
            Self::CheckExpiry(_)
            | Self::Completion(_)
            | Self::List(_)
            | Self::Show(_)
            | Self::Verify(_)
            | Self::Version(_)
            | Self::Wait(_) => false,
        }
    }

    fn run(&self, session: &mut Session) -> anyhow::Result<ExitCode> {
        if self.changes_something() {
            session.interrupt.listen()?;
        }
        match self {
            Self::CheckExpiry(args) => check_expiry::run(args, session),
            Self::Completion(args) => completion::run(args, session),
            Self::CreateCerts(args) => create_certs::run(args, session),
            Self::Discover(args) => discover::run(args, session),
            Self::GetCredentials(args) => get_credentials::run(args, session),
            Self::List(args) => list::run(args, session),
            Self::Revoke(args) => revoke::run(args, session),
            Self::RepairCerts(args) => repair_certs::run(args, session),
            Self::RotateCerts(args) => rotate_certs::run(args, session),
            Self::Show(args) => show::run(args, session),
            Self::Verify(args) => verify::run(args, session),
            Self::Version(args) => version::run(args, session),
            Self::Wait(args) => wait::run(args, session),
        }
    }
}

/// The whole command line as clap knows it, with the environment variables that preset its options.
pub fn command() -> clap::Command {
    let command = Cli::command().mut_subcommands(|command| command.display_name("kubepki"));
    environment::preset_options(command)
}

/// Runs the program with `arguments` (the first is the program's own name) and returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    completion::answer_shell();
    let parsed = global::colour_help(command(), &arguments).try_get_matches_from(arguments.clone());
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Done };
            // A closed pipe is no reason to complain about a help text nobody reads to its end.
            let _ = error.print();
            return code;
        }
    };
    let ui = match cli.global.ui() {
        Ok(ui) => ui,
        Err(error) => {
            Ui::plain(cli.global.wants_colours()).error(&error);
            return error::exit_code(&error);
        }
    };
    let words = words_of(&arguments, &cli.command);
    let line = arguments.into_iter().skip(1).collect();
    cli.command.run(&mut Session::start(ui.clone()).asked_with(words, line)).unwrap_or_else(|error| {
        ui.error(&error);
        error::exit_code(&error)
    })
}

/// The words after the program's name, if they say all that was asked for: none when the environment says something too.
fn words_of(arguments: &[OsString], asked: &Command) -> Vec<String> {
    let name = match asked {
        Command::CreateCerts(_) => create::COMMAND,
        Command::Revoke(_) => revoke::COMMAND,
        Command::RotateCerts(_) => rotate::COMMAND,
        _ => return Vec::new(),
    };
    let presets = |command: &clap::Command| command.get_arguments().any(|argument| argument.get_env().is_some());
    if command().find_subcommand(name).is_none_or(presets) {
        return Vec::new();
    }
    let words = arguments.iter().skip(1).map(|word| word.to_str().map(str::to_owned));
    words.collect::<Option<_>>().unwrap_or_default()
}

/// The options of the `rotate-certs` that `words` are, whatever the environment says now.
pub(crate) fn rotation(words: &[String]) -> Option<rotate_certs::RotateCertsArgs> {
    match asked(words)? {
        Command::RotateCerts(args) => Some(*args),
        _ => None,
    }
}

/// The options of the `create-certs` that `words` are, whatever the environment says now.
fn creation(words: &[String]) -> Option<create_certs::CreateCertsArgs> {
    match asked(words)? {
        Command::CreateCerts(args) => Some(*args),
        _ => None,
    }
}

/// The options of the `revoke` that `words` are, whatever the environment says now.
fn revocation(words: &[String]) -> Option<revoke::RevokeArgs> {
    match asked(words)? {
        Command::Revoke(args) => Some(*args),
        _ => None,
    }
}

/// What an interrupted run had been asked for, to plan it anew because it had not changed anything yet.
///
/// # Errors
/// When it is not known: nothing is left to go by.
fn anew<T>(asked: Option<T>, session: &Session) -> anyhow::Result<T> {
    session.ui.status("the interrupted run had not changed anything yet: planning it anew");
    asked.ok_or_else(|| {
        error::Failure::failed("nothing has changed; what the interrupted run was asked for is not known any more")
            .hint("run the command again without --continue")
            .into()
    })
}

fn asked(words: &[String]) -> Option<Command> {
    let line = std::iter::once("kubepki".to_owned()).chain(words.iter().cloned());
    let matches = Cli::command().try_get_matches_from(line).ok()?;
    Some(Cli::from_arg_matches(&matches).ok()?.command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}

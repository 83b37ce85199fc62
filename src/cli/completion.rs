//! `completion`: the script that teaches a shell to complete kubepki's commands, options and names.
//!
//! The scripts ask kubepki itself for every candidate, so they know the clusters, nodes and certificates of the moment.

use std::ffi::OsString;
use std::path::Path;

use clap_complete::env::{EnvCompleter, Shells};
use clap_complete::{CompleteEnv, Shell};

use super::session::Session;
use crate::error::{ExitCode, Failure};

/// Set by the scripts when they ask for candidates.
const VARIABLE: &str = "KUBEPKI_COMPLETE";

/// Print the completion script of a shell
///
/// Commands, options and values are completed, and so are the names of clusters, nodes and certificates, as they are
/// on this machine at that moment.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bash:        source <(kubepki completion bash)           # in ~/.bashrc
  zsh:         source <(kubepki completion zsh)            # in ~/.zshrc, after compinit
  fish:        kubepki completion fish | source            # in ~/.config/fish/config.fish
  powershell:  kubepki completion powershell | Out-String | Invoke-Expression   # in $PROFILE
  elvish:      eval (kubepki completion elvish | slurp)    # in ~/.config/elvish/rc.elv")]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum, ignore_case = true)]
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: &CompletionArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    session.ui.raw(&script(args.shell, &own_name())?)?;
    Ok(ExitCode::Done)
}

/// The completion script for `shell`, which calls `program` for candidates.
///
/// # Errors
/// For a shell nobody has written a script for.
pub fn script(shell: Shell, program: &str) -> anyhow::Result<Vec<u8>> {
    let mut script = Vec::new();
    let name = shell.to_string();
    let shells = Shells::builtins();
    let completer: &dyn EnvCompleter =
        shells.completer(&name).ok_or_else(|| Failure::usage(format!("there is no completion script for {name}")))?;
    completer.write_registration(VARIABLE, "kubepki", "kubepki", program, &mut script)?;
    Ok(script)
}

/// Answers a shell that asks for candidates, and ends the process; returns when nobody asked.
pub fn answer_shell() {
    CompleteEnv::with_factory(super::command).var(VARIABLE).complete();
}

/// How this program was called, so that the script of a kubepki outside `PATH` finds it again.
fn own_name() -> String {
    let called = std::env::args_os().next().unwrap_or_else(|| OsString::from("kubepki"));
    let path = Path::new(&called);
    let absolute = if path.components().count() > 1 { std::path::absolute(path).ok() } else { None };
    absolute.map_or_else(|| "kubepki".into(), |path| path.to_string_lossy().into_owned())
}

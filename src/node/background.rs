//! Another run of this program that goes on when this one has ended.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::Failure;

/// Starts this program with `words`. What it says goes to the file at `log`, which must not be there yet; it reads nothing and
/// does not hear what is typed at this terminal.
///
/// # Errors
/// When the file cannot be made or the program cannot be started.
pub fn start(words: &[OsString], log: &Path) -> anyhow::Result<()> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot go on in the background: {error}"));
    let mut options = OpenOptions::new();
    let said = options.append(true).create_new(true).mode(0o600).open(log).map_err(failed)?;
    let copy: File = said.try_clone().map_err(failed)?;
    let program = std::env::current_exe().map_err(failed)?;
    // It is waited for by whoever adopts it.
    Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(said)
        .stderr(copy)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    Ok(())
}

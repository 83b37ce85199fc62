//! A command that an operator wrote, or a fixed one that restarts a service, on this machine.

use std::io::{Read, Seek, SeekFrom};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::Failure;

/// What to do when a command fails.
pub(super) const BY_HAND: &str = "try it by hand on that node";

/// How often an unfinished command is looked at.
const GLANCE: Duration = Duration::from_millis(50);

/// Runs `command` in a shell and waits for its end, `limit` at most; then it is killed.
///
/// # Errors
/// When it cannot be started, ends with another exit status than 0, or does not end in time. The message has the last
/// lines of what it said.
pub(super) fn run(node: &str, command: &str, limit: Duration) -> anyhow::Result<()> {
    let failed = |why: String| Failure::failed(format!("{node}: `{command}`: {why}")).hint(BY_HAND);
    // A file and not a pipe: a service that goes on in the background would hold a pipe open.
    let mut said = rustix::fs::memfd_create("kubepki-command", rustix::fs::MemfdFlags::CLOEXEC)
        .map(std::fs::File::from)
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let copy = || said.try_clone().map(Stdio::from).map_err(|error| failed(format!("cannot be run: {error}")));
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(copy()?)
        .stderr(copy()?)
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(status) => break status,
            None if begun.elapsed() >= limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("did not end within {} s", limit.as_secs())).into());
            }
            None => std::thread::sleep(GLANCE),
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut words = String::new();
    let _ = said.seek(SeekFrom::Start(0));
    let _ = (&said).take(64 * 1024).read_to_string(&mut words);
    Err(failed(complaint(&status.to_string(), &words)).into())
}

/// How a command ended, with the last lines of what it said.
pub(super) fn complaint(status: &str, said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(3)..];
    if last.is_empty() { status.to_owned() } else { format!("{status}: {}", last.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_succeeds_fails_with_its_words_or_is_ended() {
        assert!(run("cp1", "true", Duration::from_secs(5)).is_ok());
        let error = run("cp1", "echo no such unit >&2; exit 5", Duration::from_secs(5)).expect_err("fails");
        assert!(error.to_string().contains("exit status: 5: no such unit"), "{error}");
        let error = run("cp1", "sleep 60", Duration::from_millis(200)).expect_err("too long");
        assert!(error.to_string().contains("did not end within 0 s"), "{error}");
    }

    #[test]
    fn a_service_left_in_the_background_is_not_waited_for() {
        assert!(run("cp1", "sleep 5 & true", Duration::from_secs(2)).is_ok());
    }
}

//! Runs a program of this machine to its end, with a limit to one's patience.

use std::io;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// What a program said.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) success: bool,
    /// Standard output.
    pub(super) answer: String,
    /// Standard error.
    pub(super) complaint: String,
}

/// Runs `command` without input.
///
/// # Errors
/// When it cannot be started, or has not ended within `patience`.
pub(super) fn output(mut command: Command, patience: Duration) -> io::Result<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = Pid::from_child(&child);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(patience) else {
        // Not waited for yet, so the number is still its own.
        let _ = kill_process(pid, Signal::KILL);
        return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not end"));
    };
    let output = output?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Output { success: output.status.success(), answer: text(&output.stdout), complaint: text(&output.stderr) })
}

/// Whether a test can use `program`; says so where nobody can overlook it when not.
#[cfg(test)]
pub(super) fn is_installed(program: &str) -> bool {
    use std::io::Write;
    let found = Command::new(program).arg("-?").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        assert!(std::env::var_os("KUBEPKI_TEST_ALL").is_none(), "{program} is not installed");
        let _ = writeln!(io::stderr(), "\n*** NOT RUN: a comparison with {program}: it is not installed ***\n");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_heard_on_both_streams() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let output = output(command, Duration::from_secs(60)).expect("it runs");
        assert_eq!((output.answer.as_str(), output.complaint.as_str(), output.success), ("out\n", "err\n", false));
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let error = output(command, Duration::from_millis(50)).expect_err("it sleeps");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

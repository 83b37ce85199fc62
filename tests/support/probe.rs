//! Runs one test of this very program as a process of its own, for what needs a real one: kills, locks, strace.

use std::process::Command;

/// Tells a test that it is the process, and what it is to do.
const VARIABLE: &str = "KUBEPKI_TEST_PROBE";

/// The words given to [`process`], when the calling test is that process.
pub fn words() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// A command that runs `test` of this program, `module::name`, with `words` for it; `before` are words that go before
/// the program, as `["strace", "-f"]`.
pub fn process(before: &[&str], test: &str, words: &str) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = match before {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(VARIABLE, words);
    command
}

/// Whether a program is installed.
pub fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

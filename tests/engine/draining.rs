//! An API server that lets go before it ends hears again when it does not end, however often it was asked to.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kubepki::cli::live::drain::DRAIN;

use crate::support::probe::installed;
use crate::support::skip::skipped;

/// A program of that name, so that no API server of this machine is meant.
const NAME: &str = "kubepki-drained";

struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Soft limit of open files.
fn limit(process: &Child) -> String {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &process.id().to_string(), "--nofile", "--output", "SOFT", "--noheadings"]);
    String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn an_api_server_that_was_told_twice_to_let_go_and_does_not_end_hears_again() {
    let test = "an_api_server_that_was_told_twice_to_let_go_and_does_not_end_hears_again";
    // The latter knows no option that does nothing.
    if !installed("prlimit") || Command::new("pidof").output().is_err() {
        return skipped(test, "prlimit or pidof is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(NAME);
    std::fs::copy("/bin/sleep", &program).unwrap();
    let process = Ending(Command::new(&program).arg("300").stdin(Stdio::null()).spawn().unwrap());
    let before = limit(&process.0);
    assert_ne!(before, "3");
    let script = DRAIN.replace("kube-apiserver", NAME).replace("sleep 30", "sleep 15");
    for _ in 0..2 {
        let run = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(run.status.success(), "{run:?}");
    }
    let end = Instant::now() + Duration::from_secs(120);
    assert_eq!(limit(&process.0), "3");
    // The first of the two takes its limit away, then the second one does.
    std::thread::sleep(Duration::from_secs(18));
    while limit(&process.0) == "3" {
        assert!(Instant::now() < end, "it stays deaf");
        std::thread::sleep(Duration::from_millis(100));
    }
}

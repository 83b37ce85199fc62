//! The tests' own servers: none of them outlives the run that started it.
//!
//! Linux sends the parent-death signal when the starting thread ends, which it does with its process too.

use crate::support::process::{Server, setpriv, wait_for};
use crate::support::skip;

#[test]
fn a_server_ends_with_whoever_started_it() {
    if setpriv().is_none() {
        return skip::skipped("a_server_ends_with_whoever_started_it", "there is no setpriv");
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let starts = || {
        let mut command = Server::command("sh");
        command.args(["-c", "echo up; exec sleep 1000"]);
        let server = Server::start(command, &log);
        wait_for("a running server", || server.words().contains("up"), String::new);
        server
    };
    let mut abandoned = std::thread::scope(|scope| scope.spawn(starts).join().unwrap());
    wait_for("the server's end", || abandoned.has_ended(), String::new);
}

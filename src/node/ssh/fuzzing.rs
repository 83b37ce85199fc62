//! A way in for the fuzz targets, compiled for them and with the tests, which keep it in order: what a node answers and
//! what host key files say, without a connection.

use std::path::Path;

use super::answer::Answer;
use super::key_file;
use super::known_hosts::KnownHosts;
use super::options::Hop;
use super::wiped::Wiped;
use super::{facts, reading, records};
use crate::node::refusal::Refusal;
use crate::node::{Found, LockOwner};

/// What every answer here begins with, after a line end.
pub const NONCE: &str = "0123456789abcdef";

/// The answer of a script that printed `stdout` after its greeting, and `stderr`.
fn answer(stdout: &[u8], stderr: &[u8]) -> Option<Answer> {
    let mut all = Wiped::default();
    all.push(format!("\nkubepki {NONCE}\n").as_bytes());
    all.push(stdout);
    Answer::find(all, stderr.to_vec(), NONCE).ok()
}

/// The files below `top` by such an answer; `None` when it makes no sense.
pub fn files(top: &Path, stdout: &[u8], stderr: &[u8], careful: bool) -> Option<Vec<Found>> {
    let answer = answer(stdout, stderr)?;
    records::parse(answer.words(), &answer, careful).map(|records| reading::walked(top, records))
}

/// The machine's facts by such an answer, in words.
pub fn facts(stdout: &[u8]) -> Option<String> {
    facts::parse(&mut answer(stdout, b"")?.words()).map(|told| format!("{told:?}"))
}

/// What is said about a lock in whose file `text` stands.
pub fn held(text: &[u8], asking: &LockOwner) -> anyhow::Error {
    Refusal { node: "cp1", path: Path::new("/lock") }.held(text, asking)
}

/// Whether a file of host keys is for `key` as that of `name`, in words.
pub fn judged(known_hosts: &[u8], name: &str, key: &[u8]) -> String {
    let mut known = KnownHosts::default();
    known.read(known_hosts, Path::new("known_hosts"), name);
    format!("{:?} {:?}", known.judge(key), known.key_types())
}

/// Whether a key file of OpenSSH's own format needs a passphrase, and its public key.
pub fn openssh_key(content: &[u8]) -> Option<(bool, Vec<u8>)> {
    key_file::openssh(content)
}

/// Jump hosts, each as it is written.
pub fn jump_hosts(text: &str) -> Option<Vec<String>> {
    Hop::parse_list(text).ok().map(|hops| hops.iter().map(ToString::to_string).collect())
}

//! Getting in: kinds of keys, passphrases, the agent, and what is said when nothing helps.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kubepki::error::hints;
use kubepki::node::Node;
use kubepki::node::interrupt::Interrupt;
use kubepki::node::ssh::{ConfigFile, Questions, SshAccess, SshNode, SshOptions, UnknownHostKey};
use zeroize::Zeroizing;

use crate::server::{Server, Setup, can_run, make_key, nobody};

/// Somebody who gives these answers to questions for a passphrase, and remembers the questions.
#[derive(Clone, Default)]
struct Person {
    answers: Arc<Mutex<Vec<&'static str>>>,
    asked: Arc<Mutex<Vec<(PathBuf, bool)>>>,
}

impl Person {
    fn who_answers(answers: &[&'static str]) -> Self {
        let answers = answers.iter().rev().copied().collect();
        Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() }
    }

    fn access(&self) -> Arc<SshAccess> {
        SshAccess::new(self.clone(), Interrupt::default())
    }

    fn asked(&self) -> Vec<bool> {
        self.asked.lock().unwrap().iter().map(|(_, again)| *again).collect()
    }
}

impl Questions for Person {
    fn is_host_key_right(&self, _: &UnknownHostKey<'_>) -> Option<bool> {
        None
    }

    fn passphrase(&self, key_file: &Path, again: bool) -> Option<Zeroizing<String>> {
        self.asked.lock().unwrap().push((key_file.to_owned(), again));
        self.answers.lock().unwrap().pop().map(|answer| Zeroizing::new(answer.to_owned()))
    }
}

/// Lets a key in, and says how to come with it.
fn allow(server: &Server, key: &Path) -> SshOptions {
    let mut public = key.as_os_str().to_owned();
    public.push(".pub");
    fs::copy(public, server.at("authorized_keys")).unwrap();
    SshOptions { private_key_file: Some(key.to_owned()), ..server.options("root") }
}

fn connect(options: &SshOptions, access: &Arc<SshAccess>) -> anyhow::Result<()> {
    SshNode::new("cp1", options.clone(), access).facts().map(drop)
}

fn refusal(options: &SshOptions, access: &Arc<SshAccess>) -> String {
    let error = connect(options, access).unwrap_err();
    format!("{error:#} [{}]", hints(&error).join("; "))
}

const KINDS: [&[&str]; 6] = [
    &["-t", "ed25519"],
    &["-t", "ecdsa", "-b", "256"],
    &["-t", "ecdsa", "-b", "384"],
    &["-t", "rsa", "-b", "2048"],
    &["-t", "rsa", "-b", "2048", "-m", "PEM"],
    &["-t", "ecdsa", "-b", "521", "-m", "PKCS8"],
];

#[test]
fn every_kind_of_key_opens_the_door() {
    if !can_run("every_kind_of_key_opens_the_door") {
        return;
    }
    let server = Server::start();
    for (number, kind) in KINDS.iter().enumerate() {
        let key = make_key(server.folder.path(), &format!("key{number}"), kind);
        connect(&allow(&server, &key), &nobody()).unwrap_or_else(|error| panic!("{kind:?}: {error:#}"));
        fs::remove_file(format!("{}.pub", key.display())).unwrap();
        let options = SshOptions { private_key_file: Some(key), ..server.options("root") };
        connect(&options, &nobody()).unwrap_or_else(|error| panic!("{kind:?} without .pub: {error:#}"));
    }
}

#[test]
fn a_passphrase_is_asked_for_once_for_all_nodes() {
    if !can_run("a_passphrase_is_asked_for_once_for_all_nodes") {
        return;
    }
    let server = Server::start();
    for (number, kind) in KINDS.iter().enumerate() {
        let arguments = [kind, &["-N", "open sesame"][..]].concat();
        let key = make_key(server.folder.path(), &format!("key{number}"), &arguments);
        let options = allow(&server, &key);
        let person = Person::who_answers(&["wrong", "open sesame"]);
        let access = person.access();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| connect(&options, &access))).collect();
            for thread in threads {
                thread.join().unwrap().unwrap_or_else(|error| panic!("{kind:?}: {error:#}"));
            }
        });
        assert_eq!(person.asked(), [false, true], "{kind:?}");
        fs::remove_file(format!("{}.pub", key.display())).unwrap();
        let person = Person::who_answers(&["open sesame"]);
        connect(&options, &person.access()).unwrap_or_else(|error| panic!("{kind:?} without .pub: {error:#}"));
        assert_eq!(person.asked(), [false], "{kind:?}");
    }
}

#[test]
fn nobody_types_for_a_key_that_the_server_does_not_want() {
    if !can_run("nobody_types_for_a_key_that_the_server_does_not_want") {
        return;
    }
    let server = Server::start();
    let key = make_key(server.folder.path(), "key", &["-t", "ed25519", "-N", "open sesame"]);
    let options = SshOptions { private_key_file: Some(key.clone()), ..server.options("root") };
    let person = Person::who_answers(&["open sesame"]);
    let text = refusal(&options, &person.access());
    assert!(text.contains(&format!("{} (not accepted)", key.display())), "{text}");
    assert!(person.asked().is_empty());
}

#[test]
fn a_locked_key_without_a_passphrase_is_named() {
    if !can_run("a_locked_key_without_a_passphrase_is_named") {
        return;
    }
    let server = Server::start();
    let key = make_key(server.folder.path(), "key", &["-t", "ed25519", "-N", "open sesame"]);
    let options = allow(&server, &key);
    assert!(refusal(&options, &nobody()).contains("it needs a passphrase, and nobody gave one"));
    let person = Person::who_answers(&["a", "b", "c", "d"]);
    assert!(refusal(&options, &person.access()).contains("wrong passphrase"));
    assert_eq!(person.asked(), [false, true, true]);
}

#[test]
fn who_is_not_let_in_learns_what_was_tried_and_what_to_do() {
    if !can_run("who_is_not_let_in_learns_what_was_tried_and_what_to_do") {
        return;
    }
    let server = Server::start();
    let stranger = make_key(server.folder.path(), "stranger", &["-t", "ed25519"]);
    let options = SshOptions { private_key_file: Some(stranger.clone()), ..server.options("root") };
    let text = refusal(&options, &nobody());
    let place = format!("[127.0.0.1]:{} does not let root in", server.port());
    let tried = format!("{} (not accepted)", stranger.display());
    for part in ["cp1: ", &place, &tried, "ssh-copy-id", "ssh-add", "--ssh-private-key-file"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    let absent = server.at("no-such-key");
    let text = refusal(&SshOptions { private_key_file: Some(absent.clone()), ..options.clone() }, &nobody());
    assert!(text.contains(&format!("{} (no such file or directory)", absent.display())), "{text}");
    let text = refusal(&SshOptions { user: Some("nobody-at-all".to_owned()), ..server.options("root") }, &nobody());
    assert!(text.contains("does not let nobody-at-all in"), "{text}");
}

/// An agent with some keys.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn with(folder: &Path, keys: &[PathBuf]) -> Self {
        let socket = folder.join("agent.sock");
        // Ends with this program, however that ends: the pipe closes.
        let child = Command::new("/bin/sh")
            .args(["-c", "ssh-agent -D -a \"$0\" >/dev/null 2>&1 & cat; kill $!"])
            .arg(&socket)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let agent = Self { child, socket };
        let limit = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(&agent.socket).is_err() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(5));
        }
        for key in keys {
            let output = Command::new("ssh-add").arg(key).env("SSH_AUTH_SOCK", &agent.socket).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        agent
    }

    /// A configuration file that leads to this agent and to no key file.
    fn config(&self, folder: &Path, more: &str) -> ConfigFile {
        let path = folder.join("ssh_config");
        let mut file = fs::File::create(&path).unwrap();
        writeln!(file, "IdentityAgent {}\nIdentityFile /nonexistent\n{more}", self.socket.display()).unwrap();
        ConfigFile::File(path)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

#[test]
fn the_agents_keys_are_tried_all() {
    if !can_run("the_agents_keys_are_tried_all") {
        return;
    }
    let server = Server::start();
    let folder = server.folder.path();
    for (number, kind) in KINDS.iter().enumerate() {
        let agent_folder = tempfile::tempdir().unwrap();
        let wrong = make_key(agent_folder.path(), "wrong", &["-t", "ed25519"]);
        let right = make_key(folder, &format!("key{number}"), kind);
        allow(&server, &right);
        let agent = Agent::with(agent_folder.path(), &[wrong, right]);
        let config = agent.config(agent_folder.path(), "");
        let options = SshOptions { private_key_file: None, config, ..server.options("root") };
        connect(&options, &nobody()).unwrap_or_else(|error| panic!("{kind:?}: {error:#}"));
    }
}

#[test]
fn an_agent_full_of_keys_does_not_lock_the_right_one_out() {
    if !can_run("an_agent_full_of_keys_does_not_lock_the_right_one_out") {
        return;
    }
    let server = Server::with(&Setup { config: "MaxAuthTries 4".to_owned(), ..Setup::default() });
    let folder = tempfile::tempdir().unwrap();
    let mut keys: Vec<PathBuf> =
        (0..8).map(|number| make_key(folder.path(), &format!("wrong{number}"), &["-t", "ed25519"])).collect();
    let agent = Agent::with(folder.path(), &keys);
    let config = agent.config(folder.path(), "");
    // A key file that was named comes before most of them.
    let options = SshOptions { config: config.clone(), ..server.options("root") };
    connect(&options, &nobody()).unwrap();
    // The last of the agent is reached through a further connection.
    let right = make_key(folder.path(), "right", &["-t", "ed25519"]);
    allow(&server, &right);
    keys.push(right);
    drop(agent);
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::with(folder.path(), &keys);
    let config = agent.config(folder.path(), "");
    let options = SshOptions { private_key_file: None, config, ..server.options("root") };
    connect(&options, &nobody()).unwrap();
    assert!(server.log().contains("Too many authentication failures"), "the test did not test it");
    // Only the keys that were asked for.
    let config = agent.config(folder.path(), "IdentitiesOnly yes");
    let text = refusal(&SshOptions { config, ..options }, &nobody());
    assert!(text.contains("no agent and no key file to try"), "{text}");
}

#[test]
fn a_server_that_takes_no_keys_is_named_for_what_it_takes() {
    if !can_run("a_server_that_takes_no_keys_is_named_for_what_it_takes") {
        return;
    }
    let config = "PubkeyAuthentication no\nMatch User root\nPasswordAuthentication yes".to_owned();
    let server = Server::with(&Setup { config, ..Setup::default() });
    let text = refusal(&server.options("root"), &nobody());
    assert!(text.contains("it takes only password, kubepki only keys"), "{text}");
}

//! Login by public key: the agent's keys, the given key file, the usual ones.
//!
//! Passwords are not supported: they would have to be typed for every node. A server counts failed attempts and hangs
//! up (MaxAuthTries, six by default), so the most likely keys come first and the rest goes through a new connection.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ssh2::{Agent, Session};
use zeroize::Zeroizing;

use super::access::SshAccess;
use super::config::{AgentSocket, Target};
use super::key_file::{KeyFile, PublicPart};
use super::link::{Link, Patience};
use super::trouble::{Trouble, code};
use crate::error::Failure;
use crate::node::reading::words;

/// How many of the agent's other keys are tried before a key file that was named.
const BEFORE_THE_NAMED: usize = 3;

/// Connections that are spent on trying keys: somebody who watches the log should not take us for a burglar.
const MOST_CONNECTIONS: usize = 3;

/// How often a passphrase is asked for.
const MOST_ANSWERS: usize = 3;

/// How an attempt to log in ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    Done,
    /// No key was accepted.
    Refused,
    /// The server ended the connection in the middle.
    HungUp,
}

/// Something to log in with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Candidate {
    /// A key of the agent, by its public half.
    Agent {
        blob: Vec<u8>,
        comment: String,
    },
    File(KeyFile),
}

/// The keys for one login, in order, over as many connections as it takes.
pub(super) struct Tries {
    files: Vec<KeyFile>,
    /// Key file that was asked for by name.
    named: Option<KeyFile>,
    candidates: Option<Vec<Candidate>>,
    next: usize,
    connections: usize,
    /// Keys of the agent that were not accepted.
    strange: usize,
    /// What came of everything else, for the message.
    notes: Vec<String>,
}

impl Tries {
    /// Looks at the key files of `target`; `named` is the one the user asked for.
    pub(super) fn new(target: &Target, named: Option<&Path>) -> Self {
        let named = named.map(super::options::at_home);
        let mut tries = Self {
            files: Vec::new(),
            named: None,
            candidates: None,
            next: 0,
            connections: 0,
            strange: 0,
            notes: Vec::new(),
        };
        for path in &target.key_files {
            let is_named = named.as_deref() == Some(path);
            match KeyFile::look(path) {
                Ok(file) if is_named => tries.named = Some(file),
                Ok(file) => tries.files.push(file),
                // The usual ones need not be there.
                Err(error) if !is_named && error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tries.notes.push(format!("{} ({})", path.display(), words(&error))),
            }
        }
        tries
    }

    /// Tries the keys that are left.
    pub(super) fn log_in(
        &mut self,
        link: &mut Link,
        target: &Target,
        access: &SshAccess,
        patience: Patience<'_>,
    ) -> Result<Login, Trouble> {
        self.connections += 1;
        let agent = self.agent(&link.session, &target.agent);
        if self.candidates.is_none() {
            let candidates = self.order(agent.as_ref(), target.identities_only);
            self.candidates = Some(candidates);
        }
        let candidates = self.candidates.clone().unwrap_or_default();
        while let Some(candidate) = candidates.get(self.next) {
            self.next += 1;
            let outcome = match candidate {
                Candidate::Agent { blob, comment } => {
                    let outcome = with_agent(link, agent.as_ref(), blob, &target.user, patience);
                    match &outcome {
                        Err(trouble) if trouble.code() == Some(code::AUTHENTICATION_FAILED) => self.strange += 1,
                        other => self.note(&format!("{comment} of the agent"), other),
                    }
                    outcome
                }
                Candidate::File(file) => {
                    let outcome = self.with_file(link, file, target, access, patience);
                    self.note(&file.path.display().to_string(), &outcome);
                    outcome
                }
            };
            match outcome {
                Ok(()) => return Ok(Login::Done),
                Err(Trouble::Lost(_)) => return Ok(Login::HungUp),
                Err(Trouble::Refused(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(Login::Refused)
    }

    /// Whether another connection is worth it.
    pub(super) fn may_reconnect(&self) -> bool {
        let left = self.candidates.as_ref().is_some_and(|candidates| self.next < candidates.len());
        left && self.connections < MOST_CONNECTIONS
    }

    fn note(&mut self, what: &str, outcome: &Result<(), Trouble>) {
        let result = match outcome {
            Ok(()) => return,
            Err(Trouble::Refused(error))
                if super::trouble::session_code(error) == Some(code::AUTHENTICATION_FAILED) =>
            {
                "not accepted".to_owned()
            }
            Err(Trouble::Refused(error)) if super::trouble::session_code(error) == Some(code::FILE) => {
                "cannot be read as a key".to_owned()
            }
            Err(Trouble::Lost(_)) => "the server hung up".to_owned(),
            Err(other) => other.to_string(),
        };
        // A more telling note may be there already.
        if !self.notes.iter().any(|note| note.starts_with(what)) {
            self.notes.push(format!("{what} ({result})"));
        }
    }

    /// A connection to the agent, when there is one that answers.
    fn agent(&mut self, session: &Session, socket: &AgentSocket) -> Option<Agent> {
        if *socket == AgentSocket::None
            || (*socket == AgentSocket::Usual && std::env::var_os("SSH_AUTH_SOCK").is_none())
        {
            return None;
        }
        let mut agent = session.agent().ok()?;
        if let AgentSocket::At(path) = socket {
            agent.set_identity_path(path).ok()?;
        }
        match agent.connect().and_then(|()| agent.list_identities()) {
            Ok(()) => Some(agent),
            Err(_) => {
                self.notes.push("the agent (no answer)".to_owned());
                None
            }
        }
    }

    /// The keys in the order of their likelihood.
    fn order(&self, agent: Option<&Agent>, identities_only: bool) -> Vec<Candidate> {
        let held: Vec<Candidate> = agent
            .and_then(|agent| agent.identities().ok())
            .unwrap_or_default()
            .into_iter()
            .map(|key| Candidate::Agent { blob: key.blob().to_vec(), comment: key.comment().to_owned() })
            .collect();
        arrange(&held, self.named.as_ref(), &self.files, identities_only)
    }

    fn with_file(
        &mut self,
        link: &mut Link,
        file: &KeyFile,
        target: &Target,
        access: &SshAccess,
        patience: Patience<'_>,
    ) -> Result<(), Trouble> {
        let user = &target.user;
        if !file.locked {
            return with_phrase(link, file, user, None, patience);
        }
        // With the public half at hand the server says whether it wants the key before anybody has to type.
        if file.public.is_some() {
            match with_phrase(link, file, user, Some(""), patience) {
                Err(trouble) if trouble.code() == Some(code::AUTHENTICATION_FAILED) => return Err(trouble),
                Err(Trouble::Refused(_)) => {}
                other => return other,
            }
        }
        let mut wrong: Option<Zeroizing<String>> = None;
        for _ in 0..MOST_ANSWERS {
            let Some(phrase) = access.passphrase(&file.path, wrong.as_ref()) else {
                let reason =
                    if wrong.is_some() { "wrong passphrase" } else { "it needs a passphrase, and nobody gave one" };
                self.notes.push(format!("{} ({reason})", file.path.display()));
                return Err(unusable());
            };
            // Typing takes its time; the login starts anew.
            let patience = Patience::new(patience.limit, patience.interrupt);
            match with_phrase(link, file, user, Some(&phrase), patience) {
                Err(trouble) if matches!(trouble.code(), Some(code::FILE | code::PUBLICKEY_UNVERIFIED)) => {
                    wrong = Some(phrase);
                }
                other => return other,
            }
        }
        self.notes.push(format!("{} (wrong passphrase)", file.path.display()));
        Err(unusable())
    }

    /// Says who did not get in, and what was tried.
    pub(super) fn refusal(
        &self,
        node: &str,
        link: &mut Link,
        target: &Target,
        patience: Patience<'_>,
    ) -> anyhow::Error {
        let methods = link.drive(patience, |session| session.auth_methods(&target.user).map(str::to_owned));
        let place = super::config::known_name(&target.host_name, target.port);
        let mut notes = self.notes.clone();
        if self.strange > 0 {
            let plural = if self.strange == 1 { "" } else { "s" };
            notes.insert(0, format!("{} key{plural} of the agent (not accepted)", self.strange));
        }
        let left = self.candidates.as_ref().map_or(0, |candidates| candidates.len() - self.next);
        if left > 0 {
            notes.push(format!("{left} more keys were not tried, because the server hung up"));
        }
        let tried = if notes.is_empty() {
            "there is no agent and no key file to try".to_owned()
        } else {
            format!("tried {}", notes.join(", "))
        };
        let other = match methods {
            Ok(methods) if !methods.split(',').any(|method| method == "publickey") => {
                format!("; it takes only {methods}, kubepki only keys")
            }
            _ => String::new(),
        };
        Failure::failed(format!("{node}: {place} does not let {} in: {tried}{other}", target.user))
            .hint(format!(
                "add your key there (ssh-copy-id -p {} {}@{}), or load it (ssh-add), or name it with \
                 --ssh-private-key-file",
                target.port, target.user, target.host_name
            ))
            .into()
    }
}

/// The key cannot be used; what that means is in the notes.
fn unusable() -> Trouble {
    Trouble::Refused(ssh2::Error::from_errno(ssh2::ErrorCode::Session(code::FILE)))
}

/// The agent's copy of a named key first, then a few others of the agent, the named file, the rest, the usual files.
fn arrange(held: &[Candidate], named: Option<&KeyFile>, files: &[KeyFile], identities_only: bool) -> Vec<Candidate> {
    let blob = |file: &KeyFile| file.public.as_ref().map(|public| public.blob.clone());
    let is_of = |candidate: &Candidate, file: &KeyFile| match candidate {
        Candidate::Agent { blob: key, .. } => blob(file).as_ref() == Some(key),
        Candidate::File(_) => false,
    };
    let all = || named.into_iter().chain(files);
    let (mut first, rest): (Vec<Candidate>, Vec<Candidate>) =
        held.iter().cloned().partition(|candidate| named.is_some_and(|file| is_of(candidate, file)));
    let rest: Vec<Candidate> =
        rest.into_iter().filter(|held| !identities_only || all().any(|file| is_of(held, file))).collect();
    // What the agent has need not be opened from its file.
    let in_agent = |file: &&KeyFile| held.iter().any(|candidate| is_of(candidate, file));
    let split = rest.len().min(BEFORE_THE_NAMED);
    first.extend_from_slice(&rest[..split]);
    first.extend(named.filter(|file| !in_agent(file)).cloned().map(Candidate::File));
    first.extend_from_slice(&rest[split..]);
    first.extend(files.iter().filter(|file| !in_agent(file)).cloned().map(Candidate::File));
    first
}

fn with_agent(
    link: &mut Link,
    agent: Option<&Agent>,
    blob: &[u8],
    user: &str,
    patience: Patience<'_>,
) -> Result<(), Trouble> {
    let key = agent.and_then(|agent| agent.identities().ok()?.into_iter().find(|key| key.blob() == blob));
    let (Some(agent), Some(key)) = (agent, key) else { return Err(unusable()) };
    link.drive(patience, |_| agent.userauth(user, &key))
}

/// Offers a key file. The public half is given when it is known: then the private one is worked out once, not twice.
fn with_phrase(
    link: &mut Link,
    file: &KeyFile,
    user: &str,
    phrase: Option<&str>,
    patience: Patience<'_>,
) -> Result<(), Trouble> {
    match &file.public {
        Some(PublicPart { blob, file: None }) if file.locked => {
            // Encrypted, so a copy of the text in memory gives nothing away.
            let text = std::fs::read_to_string(&file.path)?;
            let public = format!("{} {}", super::host_key::key_type(blob), STANDARD.encode(blob));
            link.drive(patience, |session| session.userauth_pubkey_memory(user, Some(&public), &text, phrase))
        }
        public => {
            let public = public.as_ref().and_then(|public| public.file.as_deref());
            link.drive(patience, |session| session.userauth_pubkey_file(user, public, &file.path, phrase))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(names: &[&str]) -> Vec<Candidate> {
        names
            .iter()
            .map(|name| Candidate::Agent { blob: name.as_bytes().to_vec(), comment: (*name).to_owned() })
            .collect()
    }

    fn file(name: &str) -> KeyFile {
        let public = Some(PublicPart { blob: name.as_bytes().to_vec(), file: None });
        KeyFile { path: name.into(), locked: false, public }
    }

    fn names(candidates: &[Candidate]) -> String {
        let name = |candidate: &Candidate| match candidate {
            Candidate::Agent { comment, .. } => comment.clone(),
            Candidate::File(file) => format!("file:{}", file.path.display()),
        };
        candidates.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn likely_keys_come_before_the_server_hangs_up() {
        let agent = held(&["a", "b", "c", "d", "e"]);
        let usual = [file("u"), file("e")];
        assert_eq!(names(&arrange(&agent, Some(&file("x")), &usual, false)), "a b c file:x d e file:u");
        assert_eq!(names(&arrange(&agent, Some(&file("d")), &usual, false)), "d a b c e file:u");
        assert_eq!(names(&arrange(&agent, None, &usual, false)), "a b c d e file:u");
        assert_eq!(names(&arrange(&[], Some(&file("x")), &usual, false)), "file:x file:u file:e");
    }

    #[test]
    fn with_identities_only_the_agents_other_keys_are_left_out() {
        let agent = held(&["a", "b", "x"]);
        assert_eq!(names(&arrange(&agent, Some(&file("x")), &[file("b")], true)), "x b");
    }
}

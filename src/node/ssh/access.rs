//! What all connections of one run share: whom to ask, what was answered, and logins on jump hosts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use zeroize::Zeroizing;

use super::connect;
use super::jump::Jump;
use super::link::Patience;
use super::options::{ConfigFile, Hop, SshOptions};
use super::settings::Settings;
use crate::error::Failure;
use crate::node::interrupt::Interrupt;

/// Longer chains of jump hosts are a loop in somebody's configuration.
const LONGEST_CHAIN: usize = 8;

/// Questions to a person that come up during a login. One is asked at a time.
pub trait Questions: Send + Sync {
    /// Whether the key that an unknown host shows is the right one; `None` when there is nobody to ask.
    fn is_host_key_right(&self, question: &UnknownHostKey<'_>) -> Option<bool>;

    /// The passphrase of a private key file, without its line end; `None` when there is nobody to ask or who answers.
    /// `again` says that the last answer was wrong.
    fn passphrase(&self, key_file: &Path, again: bool) -> Option<Zeroizing<String>>;
}

/// Nobody is there: unknown hosts and locked keys are refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct NobodyToAsk;

impl Questions for NobodyToAsk {
    fn is_host_key_right(&self, _: &UnknownHostKey<'_>) -> Option<bool> {
        None
    }

    fn passphrase(&self, _: &Path, _: bool) -> Option<Zeroizing<String>> {
        None
    }
}

/// A host that no known hosts file has.
#[derive(Debug)]
pub struct UnknownHostKey<'a> {
    /// The node, or jump host, that is being connected.
    pub node: &'a str,
    /// Name of the host in known_hosts: `host` or `[host]:port`.
    pub host: &'a str,
    /// As `ssh-ed25519`.
    pub key_type: &'a str,
    /// `SHA256:` and base64, as `ssh-keygen -l` shows it.
    pub fingerprint: &'a str,
    /// Where the key is written when the answer is yes.
    pub known_hosts: &'a Path,
}

/// Shared by all connections of one run.
pub struct SshAccess {
    questions: Box<dyn Questions>,
    interrupt: Interrupt,
    /// Held while a question is open, so that the same one is not asked twice.
    answers: Mutex<Answers>,
    jumps: Mutex<HashMap<JumpKey, Place>>,
    settings: Settings,
    /// Rung when a place changes.
    changed: Condvar,
}

/// What was answered before.
#[derive(Default)]
pub(super) struct Answers {
    passphrases: HashMap<PathBuf, Option<Zeroizing<String>>>,
}

/// A login on a jump host.
enum Place {
    /// Somebody is at it.
    Coming,
    There(Weak<Jump>),
}

/// What makes two logins on a jump host the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct JumpKey {
    hops: Vec<Hop>,
    config: ConfigFile,
    known_hosts: Option<PathBuf>,
    private_key: Option<PathBuf>,
}

impl std::fmt::Debug for SshAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshAccess").finish_non_exhaustive()
    }
}

impl SshAccess {
    /// Logins that put their questions to `questions` and give up when `interrupt` says so.
    pub fn new(questions: impl Questions + 'static, interrupt: Interrupt) -> Arc<Self> {
        Arc::new(Self {
            questions: Box::new(questions),
            interrupt,
            answers: Mutex::default(),
            jumps: Mutex::default(),
            settings: Settings::default(),
            changed: Condvar::new(),
        })
    }

    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn questions(&self) -> &dyn Questions {
        self.questions.as_ref()
    }

    /// Waits for one's turn to ask.
    pub(super) fn turn_to_ask(&self) -> MutexGuard<'_, Answers> {
        unpoisoned(&self.answers)
    }

    /// The passphrase of a key file: the known one, else by asking. `again` when the last one was `wrong`.
    pub(super) fn passphrase(&self, file: &Path, wrong: Option<&Zeroizing<String>>) -> Option<Zeroizing<String>> {
        let mut answers = self.turn_to_ask();
        match answers.passphrases.get(file) {
            // Another connection may have found the right one while this one tried a wrong one.
            Some(Some(known)) if wrong != Some(known) => return Some(known.clone()),
            Some(None) => return None,
            _ => {}
        }
        let answer = self.questions.passphrase(file, wrong.is_some());
        answers.passphrases.insert(file.to_owned(), answer.clone());
        answer
    }

    /// The login on the last of `hops`, made now unless there is one. `on_the_way` are the jump hosts that wait for it.
    pub(super) fn jump(&self, hops: &[Hop], options: &SshOptions, on_the_way: &[Hop]) -> anyhow::Result<Arc<Jump>> {
        let Some((last, before)) = hops.split_last() else {
            return Err(Failure::usage("an empty list of jump hosts").into());
        };
        if on_the_way.contains(last) || on_the_way.len() >= LONGEST_CHAIN {
            return Err(Failure::usage(format!("jump host {}: it is to be reached through itself", last.host))
                .hint("look for a circle of ProxyJump lines in the SSH configuration")
                .into());
        }
        let key = JumpKey {
            hops: hops.to_vec(),
            config: options.config.clone(),
            known_hosts: options.known_hosts_file.clone(),
            private_key: options.private_key_file.clone(),
        };
        if let Some(jump) = self.wait_for_turn(&key, last, options)? {
            return Ok(jump);
        }
        let mut options = options.for_hop(last.clone());
        if !before.is_empty() {
            options.jump_host = Some(before.iter().map(Hop::to_string).collect::<Vec<_>>().join(","));
        }
        let on_the_way = [on_the_way, std::slice::from_ref(last)].concat();
        let jump = self.log_in(last, &options, &on_the_way);
        let place = Place::There(jump.as_ref().map(Arc::downgrade).unwrap_or_default());
        unpoisoned(&self.jumps).insert(key, place);
        self.changed.notify_all();
        jump
    }

    /// A login that somebody else has made, `None` when it is one's own turn to make it.
    fn wait_for_turn(&self, key: &JumpKey, hop: &Hop, options: &SshOptions) -> anyhow::Result<Option<Arc<Jump>>> {
        let patience = Patience::new(options.connect_timeout * 4, Some(&self.interrupt));
        let mut places = unpoisoned(&self.jumps);
        loop {
            match places.get(key) {
                Some(Place::There(jump)) => {
                    if let Some(jump) = jump.upgrade().filter(|jump| jump.is_alive()) {
                        return Ok(Some(jump));
                    }
                    break;
                }
                None => break,
                Some(Place::Coming) => {
                    let nap = patience.nap().map_err(|trouble| {
                        Failure::failed(format!("jump host {}: another login on it does not end: {trouble}", hop.host))
                    })?;
                    let waited = self.changed.wait_timeout(places, nap);
                    places = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        places.insert(key.clone(), Place::Coming);
        Ok(None)
    }

    fn log_in(&self, hop: &Hop, options: &SshOptions, on_the_way: &[Hop]) -> anyhow::Result<Arc<Jump>> {
        let link = connect::connect(&format!("jump host {}", hop.host), options, self, on_the_way)?;
        let jump = Jump::start(link).map_err(|error| Failure::failed(format!("jump host {}: {error}", hop.host)))?;
        Ok(Arc::new(jump))
    }
}

/// A lock whose last holder panicked guards nothing that could be half done here.
pub(super) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

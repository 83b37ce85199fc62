//! A lock on another machine, held by a process there that lives as long as the connection.
//!
//! The process says so by signs of life that go out while nothing else does. When they stop coming, for a connection can
//! die without anybody being told, it gives the lock back by itself. Should its former owner come to life again, every
//! write finds that the lock file no longer has its token, and is refused.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::answer::Answer;
use super::channel::{self, Output, Stay};
use super::command::{random_name, scripts};
use super::link::{Held, Patience};
use super::shell::{Ending, Shell};
use super::trouble::Trouble;
use super::writing::{message, refused_lock};
use crate::node::refusal::Refusal;
use crate::node::{LockGuard, LockOwner};

/// Answers are a few lines, or the text of a lock file (bytes).
const MOST: usize = 1024 * 1024;

/// How many signs of life may be missed.
const MISSED: u32 = 6;

/// How long giving a lock back may take; after that the connection is cut, which gives it back too.
const FAREWELL: Duration = Duration::from_secs(5);

struct RemoteLock {
    shell: Arc<Shell>,
    token: String,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LockGuard for RemoteLock {}

impl std::fmt::Debug for RemoteLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteLock").field("node", &self.shell.node).finish_non_exhaustive()
    }
}

/// Takes the lock `path` or says who has it.
pub(super) fn lock(shell: &Arc<Shell>, path: &Path, owner: &LockOwner) -> anyhow::Result<Box<dyn LockGuard>> {
    let refusal = Refusal { node: &shell.node, path };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(refusal.not_a_file()) };
    if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
        return Err(refusal.not_a_file());
    }
    let token = format!("{}{}", random_name()?, random_name()?);
    let mut text = serde_json::to_value(owner)?;
    text["token"] = token.clone().into();
    let silence = (shell.options().keepalive * MISSED).as_secs().max(1);

    let mut message = message(&scripts::LOCK, &[])?;
    message.add(parent.as_os_str().as_bytes()).add(name.as_bytes()).add(text.to_string()).add(silence.to_string());
    let is_ready = |stdout: &[u8]| {
        let mut heard = super::wiped::Wiped::default();
        heard.push(stdout);
        Answer::find(heard, Vec::new(), &message.nonce).is_ok_and(|answer| is_locked(&answer))
    };
    match shell.hold(&scripts::LOCK, &message, MOST, is_ready)? {
        Stay::Ready(channel) => {
            let mut state = shell.state();
            state.fences.push((path.as_os_str().as_bytes().to_vec(), token.clone()));
            if let Some(link) = &mut state.link {
                link.held.push(Held { token: token.clone(), channel });
            }
        }
        Stay::Ended(Output { stdout, stderr, status, signal, .. }) => {
            return Err(match Answer::find(stdout, stderr, &message.nonce) {
                Ok(answer) => refused(shell, path, owner, &answer),
                Err(complaints) => shell.speechless(&complaints, &Ending { status, signal }),
            });
        }
    }
    let (stop, stopped) = mpsc::channel();
    let thread = {
        let shell = Arc::clone(shell);
        thread::Builder::new().name("lock".to_owned()).spawn(move || {
            loop {
                match stopped.recv_timeout(shell.options().keepalive / 2) {
                    Err(RecvTimeoutError::Timeout) => tend(&shell),
                    _ => return,
                }
            }
        })?
    };
    Ok(Box::new(RemoteLock { shell: Arc::clone(shell), token, stop: Some(stop), thread: Some(thread) }))
}

fn is_locked(answer: &Answer) -> bool {
    let mut words = answer.words();
    while let Some(line) = words.text_line() {
        if line.starts_with("locked ") {
            return true;
        }
    }
    false
}

fn refused(shell: &Shell, path: &Path, owner: &LockOwner, answer: &Answer) -> anyhow::Error {
    let refusal = Refusal { node: &shell.node, path };
    let mut words = answer.words();
    while let Some(line) = words.text_line() {
        match line.split_once(' ') {
            Some(("held", _)) => return refusal.held(words.counted(line).unwrap_or_default(), owner),
            Some(("foreign", reason)) => return refusal.foreign_lock(reason),
            _ => {}
        }
    }
    refused_lock(shell, path, answer)
}

/// A sign of life, unless the connection is busy and gives them itself.
fn tend(shell: &Shell) {
    let Some(mut state) = shell.idle_state() else { return };
    let Some(link) = &mut state.link else { return };
    // Nobody listens between two commands, so silence means nothing.
    link.begin();
    if link.tend().is_err() {
        state.link = None;
    }
}

impl Drop for RemoteLock {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let mut state = self.shell.state();
        state.fences.retain(|(_, token)| *token != self.token);
        let Some(link) = &mut state.link else { return };
        let Some(index) = link.held.iter().position(|held| held.token == self.token) else { return };
        let mut channel = link.held.swap_remove(index).channel;
        link.begin();
        // Waits for the end, so that the lock is free when this returns.
        let patience = Patience::new(FAREWELL, None);
        let ended = link
            .drive(patience, |_| channel.send_eof())
            .and_then(|()| channel::drain(link, &mut channel, patience))
            .and_then(|()| link.drive(patience, |_| channel.wait_close()));
        if matches!(ended, Err(Trouble::Lost(_) | Trouble::Late(_))) {
            link.cut();
            state.link = None;
        }
    }
}

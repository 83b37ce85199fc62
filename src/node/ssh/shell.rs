//! One node's connection: made when first needed, made again when it was lost, and scripts run through it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::access::{SshAccess, unpoisoned};
use super::answer::{Answer, reason};
use super::channel::{self, Command, Output, Stay, Unanswered};
use super::command::{Message, Script, scripts};
use super::connect;
use super::jump::Jump;
use super::link::{Link, Patience};
use super::options::{SshOptions, Sudo};
use super::trouble::{Trouble, code, seconds};
use crate::error::{ExitCode, Failure};

/// Longest answer to a question that has a word for an answer; a login shell may say more before it (bytes).
const MOST_WORDS: usize = 1024 * 1024;

/// Whether a script may be run again when nobody knows how far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Reads,
    Writes,
}

/// Everything about one node that its locks share with it.
#[derive(Debug)]
pub(super) struct Shell {
    pub(super) node: String,
    options: SshOptions,
    access: Arc<SshAccess>,
    state: Mutex<State>,
    /// The login that connections to the node's ports go through. Taken before `state` where both are.
    pub(super) tunnel: Mutex<Option<Arc<Jump>>>,
}

/// What is known at the moment.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Where the last login ended, if nothing was in between.
    pub(super) peer: Option<IpAddr>,
    pub(super) link: Option<Link>,
    /// Whether scripts need sudo, once that is known.
    as_root: Option<bool>,
    /// Locks that writes rely on: path and token.
    pub(super) fences: Vec<(Vec<u8>, String)>,
}

impl State {
    /// The locks that a write relies on.
    pub(super) fn fences(&self) -> Vec<(Vec<u8>, String)> {
        self.fences.clone()
    }
}

/// How a command ended.
pub(super) struct Ending {
    pub(super) status: Option<i32>,
    pub(super) signal: Option<String>,
}

impl Shell {
    pub(super) fn new(node: String, options: SshOptions, access: Arc<SshAccess>) -> Self {
        Self { node, options, access, state: Mutex::default(), tunnel: Mutex::default() }
    }

    pub(super) fn options(&self) -> &SshOptions {
        &self.options
    }

    pub(super) fn access(&self) -> &SshAccess {
        &self.access
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        unpoisoned(&self.state)
    }

    /// The state, when nobody uses the connection just now.
    pub(super) fn idle_state(&self) -> Option<std::sync::MutexGuard<'_, State>> {
        self.state.try_lock().ok()
    }

    /// Connects, unless there is a connection.
    pub(super) fn connect(&self) -> anyhow::Result<()> {
        self.connected(&mut self.state()).map(|_| ())
    }

    fn connected<'a>(&self, state: &'a mut State) -> anyhow::Result<&'a mut Link> {
        if state.link.is_none() {
            let link = connect::connect(&self.node, &self.options, &self.access, &[])?;
            state.peer = link.peer();
            state.link = Some(link);
        }
        state.link.as_mut().ok_or_else(|| Failure::failed("no connection").into())
    }

    /// How long a command may take. Reading stops at once when somebody asks for it, a change is finished.
    pub(super) fn patience(&self, kind: Kind) -> Patience<'_> {
        let interrupt = (kind == Kind::Reads).then(|| self.access.interrupt());
        Patience::new(self.options.command_deadline, interrupt)
    }

    /// Runs `script` with `message` and `content` as its input.
    ///
    /// # Errors
    /// When there is no connection, or no complete answer. For writing scripts the message says whether the change may
    /// have happened.
    pub(super) fn ask(
        &self,
        script: &Script,
        message: &Message,
        content: &[u8],
        most: usize,
        kind: Kind,
    ) -> anyhow::Result<Answer> {
        let mut state = self.state();
        let line = script.command_line(self.as_root(&mut state)?);
        let input = [message.bytes(), content];
        let output = self.run(&mut state, &Command { line: &line, input: &input, most }, kind)?;
        drop(state);
        self.answer(output, message)
    }

    /// Runs `script` as the user who logged in, as long as it is not known whether that is root; `None` once it is.
    ///
    /// # Errors
    /// As [`Shell::ask`].
    pub(super) fn ask_as_user(
        &self,
        script: &Script,
        message: &Message,
        most: usize,
    ) -> anyhow::Result<Option<Answer>> {
        let mut state = self.state();
        if self.options.sudo != Sudo::Auto || state.as_root.is_some() {
            return Ok(None);
        }
        let line = script.command_line(false);
        let output = self.run(&mut state, &Command { line: &line, input: &[message.bytes()], most }, Kind::Reads)?;
        self.answer(output, message).map(Some)
    }

    /// What a script said.
    fn answer(&self, output: Output, message: &Message) -> anyhow::Result<Answer> {
        let end = Ending { status: output.status, signal: output.signal };
        let found = Answer::find(output.stdout, output.stderr, &message.nonce);
        let mut answer = found.map_err(|complaints| self.speechless(&complaints, &end))?;
        answer.heard = output.heard;
        Ok(answer)
    }

    /// Remembers the user id that scripts run with when they do not become root.
    pub(super) fn learn(&self, uid: u32) {
        let mut state = self.state();
        if self.options.sudo == Sudo::Auto && state.as_root.is_none() {
            state.as_root = Some(uid != 0);
        }
    }

    /// Starts `script` and leaves it running once `is_ready` likes what it printed.
    ///
    /// # Errors
    /// When there is no connection, or no complete answer.
    pub(super) fn hold(
        &self,
        script: &Script,
        message: &Message,
        most: usize,
        is_ready: impl Fn(&[u8]) -> bool,
    ) -> anyhow::Result<Stay> {
        let mut state = self.state();
        let line = script.command_line(self.as_root(&mut state)?);
        let command = Command { line: &line, input: &[message.bytes()], most };
        self.with_link(&mut state, Kind::Reads, |link, patience| channel::hold(link, &command, patience, &is_ready))
    }

    fn run(&self, state: &mut State, command: &Command<'_>, kind: Kind) -> anyhow::Result<Output> {
        self.with_link(state, kind, |link, patience| channel::run(link, command, patience))
    }

    /// Does `work`, through a new connection when an idle one turns out to be dead.
    fn with_link<T>(
        &self,
        state: &mut State,
        kind: Kind,
        work: impl Fn(&mut Link, Patience<'_>) -> Result<T, Unanswered>,
    ) -> anyhow::Result<T> {
        let mut is_old = state.link.is_some();
        loop {
            let link = self.connected(state)?;
            let unanswered = match work(link, self.patience(kind)) {
                Ok(done) => return Ok(done),
                Err(unanswered) => unanswered,
            };
            // A refused channel leaves the connection as good as it was.
            if unanswered.begun || !matches!(unanswered.trouble, Trouble::Refused(_)) {
                state.link = None;
            }
            let may_repeat = kind == Kind::Reads || !unanswered.begun;
            if is_old && may_repeat && matches!(unanswered.trouble, Trouble::Lost(_)) {
                is_old = false;
                continue;
            }
            return Err(self.unanswered(&unanswered, kind));
        }
    }

    fn unanswered(&self, unanswered: &Unanswered, kind: Kind) -> anyhow::Error {
        let node = &self.node;
        let unsure = match (unanswered.begun, kind) {
            (true, Kind::Writes) => "; whether the change was made is not known",
            _ => "",
        };
        match &unanswered.trouble {
            Trouble::Interrupted => Failure::new(ExitCode::Interrupted, format!("{node}: interrupted")).into(),
            Trouble::Late(limit) => Failure::failed(format!("{node}: no answer within {}{unsure}", seconds(*limit)))
                .hint("look at the machine's load and disks, then run the command again")
                .into(),
            trouble if matches!(trouble.code(), Some(code::CHANNEL_FAILURE | code::REQUEST_DENIED)) => {
                Failure::failed(format!("{node}: the SSH server does not let the user run commands"))
                    .hint("look at ForceCommand, MaxSessions and the user's login shell on that machine")
                    .into()
            }
            trouble => Failure::failed(format!("{node}: {trouble}{unsure}")).hint("run the command again").into(),
        }
    }

    /// Whether scripts have to become root, asking the node when the user's name does not tell.
    fn as_root(&self, state: &mut State) -> anyhow::Result<bool> {
        match self.options.sudo {
            Sudo::Always => return Ok(true),
            Sudo::Never => return Ok(false),
            Sudo::Auto => {}
        }
        if let Some(as_root) = state.as_root {
            return Ok(as_root);
        }
        let message = Message::new(&scripts::WHO)?;
        let line = scripts::WHO.command_line(false);
        let command = Command { line: &line, input: &[message.bytes()], most: MOST_WORDS };
        let output = self.run(state, &command, Kind::Reads)?;
        let answer = self.answer(output, &message)?;
        let uid = answer.words().text_line().and_then(|line| line.strip_prefix("uid ")?.parse::<u32>().ok());
        let Some(uid) = uid else {
            return Err(Failure::failed(format!("{}: does not tell its user: {}", self.node, answer.reason())).into());
        };
        state.as_root = Some(uid != 0);
        Ok(uid != 0)
    }

    /// The script never began: sudo or the login shell is in the way.
    pub(super) fn speechless(&self, complaints: &[u8], end: &Ending) -> anyhow::Error {
        let node = &self.node;
        let as_root = self.options.sudo != Sudo::Never;
        let text = String::from_utf8_lossy(complaints);
        let says = |part: &str| text.contains(part);
        let reason = reason(complaints);
        if as_root && says("must have a tty") {
            return Failure::failed(format!("{node}: sudo insists on a terminal, which no script has"))
                .hint("add `Defaults:USER !requiretty` to /etc/sudoers.d, or log in as root")
                .into();
        }
        if as_root && (says("password is required") || says("a terminal is required")) {
            return Failure::failed(format!(
                "{node}: sudo asks for a password, which kubepki neither has nor passes on"
            ))
            .hint("allow it without one, as `USER ALL=(ALL) NOPASSWD: ALL` in /etc/sudoers.d, or log in as root")
            .into();
        }
        if as_root && (says("not in the sudoers") || says("not allowed to")) {
            return Failure::failed(format!("{node}: sudo does not let this user become root: {reason}"))
                .hint("allow it in /etc/sudoers.d with NOPASSWD, or log in as root")
                .into();
        }
        if as_root && says("sudo") && (says("not found") || says("No such file")) {
            return Failure::failed(format!("{node}: the user is not root and there is no sudo"))
                .hint("log in as root, or install sudo and allow the user to use it without a password")
                .into();
        }
        let end = match (end.status, &end.signal) {
            (_, Some(signal)) => format!("it was ended by SIG{signal}"),
            (Some(status), None) => format!("exit status {status}"),
            (None, None) => "no exit status".to_owned(),
        };
        Failure::failed(format!("{node}: the login shell does not run commands: {reason} ({end})"))
            .hint("try `ssh HOST true`; the user needs a shell and the machine /bin/sh")
            .into()
    }
}

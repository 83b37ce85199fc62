//! One command on the other side, fed and listened to at the same time.
//!
//! Writing all input first, or reading one stream to its end, would wait for ever as soon as the command does the
//! opposite. So everything that can move is moved in turn, and only when nothing can, the socket is waited for.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use ssh2::Channel;
use zeroize::Zeroizing;

use super::link::{Link, Patience};
use super::trouble::{Trouble, code, session_code};
use super::wiped::Wiped;

/// What is kept of standard error (bytes): complaints are short, and the last one counts.
const MOST_COMPLAINTS: usize = 1024 * 1024;

/// How long the end of a command may take after its output has ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What is to be run.
pub(super) struct Command<'a> {
    /// For the login shell.
    pub(super) line: &'a str,
    /// Standard input, piece after piece.
    pub(super) input: &'a [&'a [u8]],
    /// More standard output than this is taken for an attack (bytes).
    pub(super) most: usize,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stdout: Wiped,
    pub(super) stderr: Vec<u8>,
    /// Exit status; `None` when a signal ended the command or nothing was said.
    pub(super) status: Option<i32>,
    /// Signal that ended it, without `SIG`.
    pub(super) signal: Option<String>,
    /// When the first of it came.
    pub(super) heard: Option<Instant>,
}

/// Why there is no output.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// Whether the command may have begun.
    pub(super) begun: bool,
    pub(super) trouble: Trouble,
}

/// Opens a channel and starts a command in it.
///
/// # Errors
/// With `begun` false when it certainly did not start.
fn start(link: &mut Link, command: &str, patience: Patience<'_>) -> Result<Channel, Unanswered> {
    link.begin();
    let mut channel = link
        .drive(patience, |session| session.channel_session())
        .map_err(|trouble| Unanswered { begun: false, trouble })?;
    link.drive(patience, |_| channel.exec(command)).map_err(|trouble| Unanswered { begun: true, trouble })?;
    Ok(channel)
}

/// Runs a command to its end. After a deadline, or when more comes than allowed, the connection is cut: nothing gentler
/// is sure to return.
///
/// # Errors
/// When there was no complete answer; the connection is of no use any more, unless the channel was merely refused.
pub(super) fn run(link: &mut Link, command: &Command<'_>, patience: Patience<'_>) -> Result<Output, Unanswered> {
    let mut channel = start(link, command.line, patience)?;
    let mut talk = Talk::new(command, true);
    let answer =
        talk.go_on(link, &mut channel, patience, |_| false).and_then(|_| talk.end(link, &mut channel, patience));
    answer.map_err(|trouble| {
        link.cut();
        Unanswered { begun: true, trouble }
    })
}

/// Starts a command that stays, and listens until `is_ready` is content with what it printed.
///
/// # Errors
/// As [`run`].
pub(super) fn hold(
    link: &mut Link,
    command: &Command<'_>,
    patience: Patience<'_>,
    is_ready: impl Fn(&[u8]) -> bool,
) -> Result<Stay, Unanswered> {
    let mut channel = start(link, command.line, patience)?;
    let mut talk = Talk::new(command, false);
    let answer = match talk.go_on(link, &mut channel, patience, is_ready) {
        Ok(true) => return Ok(Stay::Ready(channel)),
        Ok(false) => talk.end(link, &mut channel, patience),
        Err(trouble) => Err(trouble),
    };
    answer.map(Stay::Ended).map_err(|trouble| {
        link.cut();
        Unanswered { begun: true, trouble }
    })
}

/// Listens to a command's last words without keeping them.
pub(super) fn drain(link: &mut Link, channel: &mut Channel, patience: Patience<'_>) -> Result<(), Trouble> {
    let command = Command { line: "", input: &[], most: usize::MAX };
    Talk::new(&command, false).go_on(link, channel, patience, |_| false).map(drop)
}

/// What became of a command that was to stay.
pub(super) enum Stay {
    Ready(Channel),
    /// It did not stay.
    Ended(Output),
}

/// A conversation with a command.
struct Talk<'a> {
    input: Input<'a>,
    most: usize,
    stdout: Wiped,
    stderr: Vec<u8>,
    heard: Option<Instant>,
}

impl<'a> Talk<'a> {
    fn new(command: &Command<'a>, ends: bool) -> Self {
        let input = Input { pieces: command.input, at: 0, ends, told: false };
        Self { input, most: command.most, stdout: Wiped::default(), stderr: Vec::new(), heard: None }
    }

    /// Talks until the command has said everything (false) or `is_ready` says that it is enough (true).
    fn go_on(
        &mut self,
        link: &mut Link,
        channel: &mut Channel,
        patience: Patience<'_>,
        is_ready: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, Trouble> {
        let mut errors = channel.stderr();
        let mut chunk = Zeroizing::new(vec![0; 32 * 1024]);
        loop {
            let mut moved = self.input.feed(channel)?;
            while let Some(count) = read(channel, &mut chunk[..])?.filter(|count| *count > 0) {
                if self.stdout.len() + count > self.most {
                    return Err(Trouble::TooMuch(self.most));
                }
                self.heard.get_or_insert_with(Instant::now);
                self.stdout.push(&chunk[..count]);
                moved = true;
            }
            while let Some(count) = read(&mut errors, &mut chunk[..])?.filter(|count| *count > 0) {
                self.stderr.extend_from_slice(&chunk[..count]);
                if self.stderr.len() > 2 * MOST_COMPLAINTS {
                    self.stderr.drain(..self.stderr.len() - MOST_COMPLAINTS);
                }
                moved = true;
            }
            if is_ready(&self.stdout) {
                return Ok(true);
            }
            if channel.eof() {
                return Ok(false);
            }
            if moved {
                // A command that never stops talking has no more time than a silent one.
                patience.rest()?;
            } else {
                link.wait(patience)?;
            }
        }
    }

    /// Hears how the command ended.
    fn end(&mut self, link: &mut Link, channel: &mut Channel, patience: Patience<'_>) -> Result<Output, Trouble> {
        let rest = patience.rest()?.min(LAST_WORDS);
        let patience = Patience::new(rest, patience.interrupt);
        link.drive(patience, |_| channel.wait_close())?;
        // A status of 0 is also reported for a command that a signal ended.
        let signal = channel.exit_signal().ok().and_then(|signal| signal.exit_signal);
        let status = if signal.is_some() { None } else { channel.exit_status().ok() };
        // Dropping the channel would do that too, but not come back to what could be sent only in part.
        link.drive(patience, |_| channel.close())?;
        let (stdout, stderr) = (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
        Ok(Output { stdout, stderr, status, signal, heard: self.heard })
    }
}

/// `None` when there is nothing now, `Some(0)` at the end.
fn read(from: &mut impl Read, chunk: &mut [u8]) -> Result<Option<usize>, Trouble> {
    match from.read(chunk) {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Standard input on its way out.
struct Input<'a> {
    pieces: &'a [&'a [u8]],
    /// How much of the first piece has been sent.
    at: usize,
    /// Whether the command is told where the input ends.
    ends: bool,
    /// Whether the other side knows that nothing more comes, or does not want to.
    told: bool,
}

impl Input<'_> {
    /// Sends what is taken; true when something was.
    fn feed(&mut self, channel: &mut Channel) -> Result<bool, Trouble> {
        let mut moved = false;
        while !self.told {
            let Some(piece) = self.pieces.first() else {
                if !self.ends {
                    return Ok(moved);
                }
                if let Err(error) = channel.send_eof() {
                    if session_code(&error) == Some(code::AGAIN) {
                        break;
                    }
                    let trouble = Trouble::from(error);
                    if !is_closed(&trouble) {
                        return Err(trouble);
                    }
                }
                self.told = true;
                return Ok(true);
            };
            if self.at == piece.len() {
                self.pieces = &self.pieces[1..];
                self.at = 0;
                continue;
            }
            match channel.write(&piece[self.at..]) {
                Ok(0) => break,
                Ok(count) => {
                    self.at += count;
                    moved = true;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                Err(error) => {
                    let trouble = Trouble::from(error);
                    if !is_closed(&trouble) {
                        return Err(trouble);
                    }
                    // The command ended without reading: its output says why.
                    self.told = true;
                }
            }
        }
        Ok(moved)
    }
}

fn is_closed(trouble: &Trouble) -> bool {
    matches!(trouble.code(), Some(code::CHANNEL_CLOSED | code::CHANNEL_EOF_SENT))
}

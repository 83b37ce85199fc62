//! Questions on the controlling terminal, whatever standard input and output are connected to.
//!
//! With the question on standard output a redirected result would swallow it, and the user would look at a waiting
//! cursor. There is no default answer: an empty line asks again.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::text::printable;
use super::ui::columns;

/// The terminal this process belongs to.
#[derive(Debug)]
pub struct Terminal {
    device: File,
}

/// What somebody said to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `y` or `yes`.
    Yes,
    /// `n` or `no`, or the end of input.
    No,
    /// The process was asked to stop before an answer came.
    Interrupted,
}

/// What came from the keyboard.
enum Line {
    Text(String),
    End,
    Stopped,
}

impl Terminal {
    /// Opens the controlling terminal; `None` when there is none, as under cron, in CI or after `setsid`.
    pub fn open() -> Option<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
        // Whoever opens it has a question, which a bar that draws itself again would overwrite.
        super::progress::give_way();
        Some(Self { device })
    }

    /// How many columns the terminal has.
    pub fn width(&self) -> Option<u16> {
        columns(&self.device)
    }

    /// Shows `text` on the terminal.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn show(&mut self, text: &str) -> anyhow::Result<()> {
        self.device.write_all(text.as_bytes()).context("cannot write to the terminal")
    }

    /// Asks `question` until it is answered with yes or no. `stop` is looked at while waiting.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn ask(&mut self, question: &str, stop: &dyn Fn() -> bool) -> anyhow::Result<Answer> {
        loop {
            self.show(&format!("{} (y/n) ", printable(question, true)))?;
            let answer = match self.line(stop)? {
                Line::Text(text) => text.trim().to_ascii_lowercase(),
                Line::End => return Ok(Answer::No),
                Line::Stopped => {
                    self.show("\n")?;
                    return Ok(Answer::Interrupted);
                }
            };
            match answer.as_str() {
                "y" | "yes" => return Ok(Answer::Yes),
                "n" | "no" => return Ok(Answer::No),
                _ => {}
            }
        }
    }

    /// Asks for something that the terminal does not show. `None` when nothing was said, or when `stop` said so.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn secret(&mut self, question: &str, stop: &dyn Fn() -> bool) -> anyhow::Result<Option<Zeroizing<String>>> {
        let before = tcgetattr(&self.device).context("cannot ask the terminal")?;
        let mut hidden = before.clone();
        hidden.local_modes -= LocalModes::ECHO;
        self.show(&format!("{}: ", printable(question, true)))?;
        tcsetattr(&self.device, OptionalActions::Flush, &hidden).context("cannot hide what is typed")?;
        let line = self.line(stop);
        // Whatever happened, the terminal shows again what is typed.
        tcsetattr(&self.device, OptionalActions::Now, &before).context("cannot restore the terminal")?;
        self.show("\n")?;
        Ok(match line? {
            Line::Text(text) if !text.is_empty() => Some(Zeroizing::new(text)),
            Line::Text(_) | Line::End | Line::Stopped => None,
        })
    }

    fn line(&mut self, stop: &dyn Fn() -> bool) -> anyhow::Result<Line> {
        // Room enough that a secret is not left behind where a shorter one was.
        let mut line = Zeroizing::new(Vec::with_capacity(4096));
        loop {
            if stop() {
                return Ok(Line::Stopped);
            }
            // A signal handler restarts a blocked read, so Ctrl-C would not be noticed there.
            let pause = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
            match poll(&mut [PollFd::new(&self.device, PollFlags::IN)], Some(&pause)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error).context("cannot wait for the terminal"),
            }
            let mut byte = [0];
            if self.device.read(&mut byte).context("cannot read from the terminal")? == 0 {
                return Ok(Line::End);
            }
            if byte == *b"\n" {
                return Ok(Line::Text(String::from_utf8_lossy(&line).into_owned()));
            }
            line.extend_from_slice(&byte);
        }
    }
}

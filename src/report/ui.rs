//! The one way to the outside: results on standard output, everything said on standard error.
//!
//! Who calls does not care about quiet modes, terminals or colours. A reader that closes its pipe early is not an
//! error.

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::Context;
use time::OffsetDateTime;

use super::query::Query;
use super::table::{Look, Tone};
use super::text::printable;
use super::{Format, Report, structured};
use crate::error::hints;

/// How much is said on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// `--only-show-errors`.
    OnlyErrors,
    /// Warnings, hints, and one line on what was done.
    Normal,
    /// `--verbose`: steps as well.
    Verbose,
    /// `--debug`: everything, and errors with all causes and where they come from.
    Debug,
}

/// Prints results and messages.
#[derive(Debug, Clone)]
pub struct Ui {
    /// Format of results.
    pub format: Format,
    /// Picks from a result before it is formatted.
    pub query: Option<Query>,
    /// How much is said.
    pub verbosity: Verbosity,
    /// Colours on standard output.
    pub colour_result: bool,
    /// Colours on standard error.
    pub colour_messages: bool,
}

impl Ui {
    /// A printer for this process. Where `coloured`, each stream that is a terminal gets colours.
    pub fn new(format: Format, query: Option<Query>, verbosity: Verbosity, coloured: bool) -> Self {
        let colour_result = coloured && std::io::stdout().is_terminal();
        let colour_messages = coloured && std::io::stderr().is_terminal();
        Self { format, query, verbosity, colour_result, colour_messages }
    }

    /// Tables and ordinary messages: for errors before the options are understood.
    pub fn plain(coloured: bool) -> Self {
        Self::new(Format::Table, None, Verbosity::Normal, coloured)
    }

    /// Prints a result in the chosen format, through `--query` if there is one.
    ///
    /// # Errors
    /// A usage failure when the query does not fit the result; otherwise when standard output cannot be written.
    pub fn result(&self, report: &dyn Report, now: OffsetDateTime) -> anyhow::Result<()> {
        let look = Look { width: columns(&std::io::stdout()), coloured: self.colour_result };
        let text = match (self.format, &self.query) {
            (Format::None, _) => return Ok(()),
            (Format::Table, None) => report.view(now).render(look),
            (Format::Tsv, None) => structured::tsv(&report.rows()?, true),
            (Format::Json, None) => structured::json(&report.to_value()?)?,
            (Format::Yaml, None) => structured::yaml(&report.to_value()?)?,
            (format, Some(query)) => {
                let found = query.apply(&report.to_value()?)?;
                match format {
                    Format::Json => structured::json(&found)?,
                    Format::Yaml => structured::yaml(&found)?,
                    Format::Tsv => structured::tsv(&found, false),
                    Format::Table | Format::None => structured::generic_view(&found).render(look),
                }
            }
        };
        self.raw(text.as_bytes())
    }

    /// Prints bytes as they are on standard output: completion scripts, metrics, a kubeconfig for `-`.
    ///
    /// # Errors
    /// When standard output cannot be written; a closed pipe is fine.
    pub fn raw(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut output = std::io::stdout().lock();
        match output.write_all(bytes).and_then(|()| output.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).context("cannot write to standard output")
            }
            _ => Ok(()),
        }
    }

    /// Empties the terminal that standard output is, before a result that takes the place of the last one.
    ///
    /// # Errors
    /// As [`Ui::raw`].
    pub fn clear(&self) -> anyhow::Result<()> {
        if std::io::stdout().is_terminal() { self.raw(b"\x1b[H\x1b[2J") } else { Ok(()) }
    }

    /// Says in one line what was done.
    pub fn status(&self, message: &str) {
        self.say(Verbosity::Normal, None, message);
    }

    /// Says that something deserves attention though the work goes on.
    pub fn warning(&self, message: &str) {
        self.say(Verbosity::Normal, Some(("warning: ", Tone::Attention)), message);
    }

    /// Gives a next step.
    pub fn hint(&self, message: &str) {
        self.say(Verbosity::Normal, Some(("hint: ", Tone::Faint)), message);
    }

    /// Says which step is taken; shown with `--verbose`.
    pub fn step(&self, message: &str) {
        self.say(Verbosity::Verbose, None, message);
    }

    /// Says what only somebody looking for a defect wants to know; shown with `--debug`.
    pub fn debug(&self, message: &str) {
        self.say(Verbosity::Debug, Some(("debug: ", Tone::Faint)), message);
    }

    /// Shows an error: what happened, its causes, and the next steps its failures name.
    pub fn error(&self, error: &anyhow::Error) {
        let mut said = error.to_string();
        self.say(Verbosity::OnlyErrors, Some(("error: ", Tone::Bad)), &said);
        for cause in error.chain().skip(1).map(ToString::to_string) {
            // Some errors repeat their cause in their own words.
            if !said.contains(&cause) {
                self.say(Verbosity::OnlyErrors, Some(("  cause: ", Tone::Faint)), &cause);
                said.push_str(&cause);
            }
        }
        for hint in hints(error) {
            self.say(Verbosity::OnlyErrors, Some(("hint: ", Tone::Faint)), hint);
        }
        self.say(Verbosity::Debug, Some(("debug: ", Tone::Faint)), &format!("{error:?}"));
    }

    /// True when progress can be drawn on standard error.
    pub fn draws_progress(&self) -> bool {
        self.verbosity == Verbosity::Normal && std::io::stderr().is_terminal()
    }

    fn say(&self, from: Verbosity, prefix: Option<(&str, Tone)>, message: &str) {
        if self.verbosity < from {
            return;
        }
        let prefix = prefix.map_or_else(String::new, |(word, tone)| tone.paint(word, self.colour_messages));
        // There is nobody left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr().lock(), "{prefix}{}", printable(message, true));
    }
}

/// The columns of the terminal `device` is; `None` when it is none.
pub(super) fn columns(device: &(impl IsTerminal + std::os::fd::AsFd)) -> Option<u16> {
    if !device.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(device).ok().map(|size| size.ws_col);
    // A terminal that does not know its size says 0.
    size.filter(|columns| *columns >= 20).or(Some(80))
}

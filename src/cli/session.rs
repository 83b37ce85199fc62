//! What every command gets: the time, the printer, the question to the operator, and the wish to stop.
//!
//! The clock is read here, once, and nowhere else: everything a run does and says refers to the same moment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use time::OffsetDateTime;

use super::change::ChangeArgs;
use crate::error::{ExitCode, Failure};
use crate::node::interrupt::Interrupt;
use crate::pki::revocation::Revocation;
use crate::report::prompt::{Answer, Terminal};
use crate::report::table::Look;
use crate::report::{Report, Ui, View};

/// One run of the program.
#[derive(Debug)]
pub struct Session {
    /// When the run began: UTC, whole seconds.
    pub now: OffsetDateTime,
    /// Prints results and messages.
    pub ui: Ui,
    /// Set by Ctrl-C and SIGTERM in commands that change something; work asks it between two effects.
    pub interrupt: Interrupt,
    /// The words of the command line after the program's name.
    pub words: Vec<String>,
    /// The same as they were given, whatever the environment says besides.
    pub line: Vec<OsString>,
    /// What this run is about to revoke: nothing that it means is issued by the way.
    pub upcoming: Vec<Revocation>,
    /// When `now` was read, to count on from there.
    began: Instant,
}

/// What is to be done with a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Carry it out.
    Apply,
    /// It was printed as the result; end with exit code 0.
    OnlyShow,
}

impl Session {
    /// Starts the run: reads the clock.
    pub fn start(ui: Ui) -> Self {
        let now = OffsetDateTime::now_utc();
        let now = now.replace_nanosecond(0).unwrap_or(now);
        Self {
            now,
            ui,
            interrupt: Interrupt::default(),
            words: Vec::new(),
            line: Vec::new(),
            upcoming: Vec::new(),
            began: Instant::now(),
        }
    }

    /// The same run, asked for with these words.
    #[must_use]
    pub fn asked_with(self, words: Vec<String>, line: Vec<OsString>) -> Self {
        Self { words, line, ..self }
    }

    /// The time at this moment, counted on from `now`: for waits, which are about other machines' times.
    pub fn by_now(&self) -> OffsetDateTime {
        self.now + self.began.elapsed()
    }

    /// Reads the clock anew, for a command that repeats itself.
    pub fn look_at_the_clock(&mut self) {
        let now = OffsetDateTime::now_utc();
        self.began = Instant::now();
        self.now = now.replace_nanosecond(0).unwrap_or(now);
    }

    /// Waits for `length`; false when somebody asked for the end meanwhile.
    pub fn wait(&self, length: time::Duration) -> bool {
        let mut left = std::time::Duration::try_from(length).unwrap_or_default();
        let step = std::time::Duration::from_millis(50);
        while !left.is_zero() && !self.interrupt.is_asked() {
            std::thread::sleep(step.min(left));
            left = left.saturating_sub(step);
        }
        !self.interrupt.is_asked()
    }

    /// Prints a result.
    ///
    /// # Errors
    /// See [`Ui::result`].
    pub fn result(&self, report: &dyn Report) -> anyhow::Result<()> {
        self.ui.result(report, self.now)
    }

    /// The user's home folder.
    ///
    /// # Errors
    /// A usage failure when HOME is not set.
    pub fn home(&self) -> anyhow::Result<PathBuf> {
        home().ok_or_else(|| Failure::usage("HOME is not set, so ~/.kubepki and ~/.kube cannot be found").into())
    }

    /// Asks whether `plan` is to be carried out, as the options of every changing command want it: `--what-if` prints
    /// the plan as the result, `--yes` agrees, otherwise `question` is asked on the terminal under the plan. With
    /// `--confirm` one question is asked for each node as well.
    ///
    /// # Errors
    /// When the answer is no, or when there is nobody to ask.
    pub fn decide(
        &self,
        change: &ChangeArgs,
        plan: &dyn Report,
        nodes: &[&str],
        question: &str,
    ) -> anyhow::Result<Decision> {
        if change.what_if {
            self.result(plan)?;
            return Ok(Decision::OnlyShow);
        }
        if change.yes && !change.confirm {
            return Ok(Decision::Apply);
        }
        let mut preface = Some(plan.view(self.now));
        let mut questions = Vec::new();
        if !change.yes {
            questions.push(question.to_owned());
        }
        if change.confirm {
            questions.extend(nodes.iter().map(|node| format!("Change node {node}?")));
        }
        for question in questions {
            self.agree(preface.take().as_ref(), &question)?;
        }
        Ok(Decision::Apply)
    }

    /// Asks `question` on the terminal, under `preface` if there is one.
    ///
    /// # Errors
    /// When the answer is no (exit code 1), when there is no terminal (exit code 1, the hint says `--yes`), or when the
    /// run was interrupted (130).
    pub fn agree(&self, preface: Option<&View>, question: &str) -> anyhow::Result<()> {
        let Some(mut terminal) = Terminal::open() else {
            return Err(Failure::failed(format!(
                "nothing changed: there is no terminal for the question {question:?}"
            ))
            .hint("--yes answers it; --what-if shows the plan")
            .into());
        };
        if let Some(preface) = preface {
            let look = Look { width: terminal.width(), coloured: self.ui.colour_messages };
            terminal.show(&format!("{}\n", preface.render(look)))?;
        }
        match terminal.ask(question, &|| self.interrupt.is_asked())? {
            Answer::Yes => Ok(()),
            Answer::No => Err(Failure::failed("cancelled, nothing changed").into()),
            Answer::Interrupted => Err(Failure::new(ExitCode::Interrupted, "interrupted, nothing changed").into()),
        }
    }
}

/// The user's home folder, where it is known.
pub fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

//! What went wrong, which exit code that means, and what to type next.
//!
//! A [`Failure`] is for the cases somebody branches on: the exit code table of the command reference and the
//! hint under the message. Everything else is an `anyhow` context around its cause. An expired certificate is
//! not a failure, it is a finding.

use std::fmt;

/// The exit codes of the command line, the same for every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitCode {
    /// Done, nothing to do, or nothing wrong.
    Done = 0,
    /// Failed or cancelled; nothing changed.
    Failed = 1,
    /// An option, a cluster file or a spec is wrong.
    Usage = 2,
    /// No such cluster, node, certificate or identity.
    NotFound = 3,
    /// Check: past the warning threshold.
    Attention = 4,
    /// Check: expired, not yet valid, revoked, untrusted, key mismatch, missing or unreadable.
    Broken = 5,
    /// Some nodes or files not reached or not finished; state kept.
    Partial = 6,
    /// Interrupted by a signal; state kept.
    Interrupted = 130,
}

/// A failure whose kind decides the exit code, with one next step for the operator.
#[derive(Debug)]
pub struct Failure {
    code: ExitCode,
    message: String,
    hint: Option<String>,
    passes: bool,
}

impl Failure {
    /// A failure with exit code `code`. The message names node, path and what happened; lower case, no full stop.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, passes: false }
    }

    /// Failed before anything changed (exit code 1).
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Failed, message)
    }

    /// Wrong option, cluster file or spec (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// No such cluster, node, certificate or identity (exit code 3).
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ExitCode::NotFound, message)
    }

    /// Stopped part-way with the state kept (exit code 6).
    pub fn partial(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Partial, message)
    }

    /// Adds the next step: a command to type or a section of the documentation.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says that it is so only while somebody else is at work.
    #[must_use]
    pub fn passing(mut self) -> Self {
        self.passes = true;
        self
    }
}

impl Failure {
    /// The same failure with another exit code.
    #[must_use]
    pub fn with_code(self, code: ExitCode) -> Self {
        Self { code, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code an error stands for: that of the outermost [`Failure`] in its chain, else [`ExitCode::Failed`].
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    failures(error).next().map_or(ExitCode::Failed, |failure| failure.code)
}

/// Whether asking again in a moment may help: somebody else holds what is wanted.
pub fn passes(error: &anyhow::Error) -> bool {
    failures(error).any(|failure| failure.passes)
}

/// The hints of every [`Failure`] in the chain, outermost first, without repetition.
pub fn hints(error: &anyhow::Error) -> Vec<&str> {
    let mut seen = Vec::new();
    for hint in failures(error).filter_map(|failure| failure.hint.as_deref()) {
        if !seen.contains(&hint) {
            seen.push(hint);
        }
    }
    seen
}

fn failures(error: &anyhow::Error) -> impl Iterator<Item = &Failure> {
    // A `Failure` given to `.context()` hides behind anyhow's own wrapper, which only `downcast_ref` sees through.
    let outermost = error.downcast_ref::<Failure>();
    let inner = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<Failure>())
        .filter(move |found| outermost.is_none_or(|first| !std::ptr::eq(first, *found)));
    outermost.into_iter().chain(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_outermost_failure_decides_the_exit_code_and_every_hint_is_kept_once() {
        let inner: anyhow::Result<()> = Err(Failure::not_found("no such node").hint("kubepki list").into());
        let error =
            inner.context(Failure::partial("stopped").hint("kubepki list")).context("outer words").expect_err("failed");
        assert_eq!(exit_code(&error), ExitCode::Partial);
        assert_eq!(hints(&error), ["kubepki list"]);
    }

    #[test]
    fn an_error_nobody_branches_on_is_exit_code_1() {
        assert_eq!(exit_code(&anyhow::anyhow!("disk gone")), ExitCode::Failed);
    }
}

//! What is wrong with files that were asked for, as one failure.

use crate::error::Failure;
use crate::plan::problem::Problem;
use crate::report::text::counted;

/// All problems: the first line says what it comes to, every hint is said once.
pub fn refused(problems: &[Problem], summary: &str) -> anyhow::Error {
    let count = counted(problems.len(), "file");
    let verb = if problems.len() == 1 { "is" } else { "are" };
    let mut message = format!("{count} {verb} not as wanted; {summary}");
    for problem in problems {
        message.push_str("\n  ");
        message.push_str(&problem.to_string());
    }
    let mut hints: Vec<String> = Vec::new();
    for problem in problems {
        let hint = problem.hint();
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    Failure::failed(message).hint(hints.join("\n      ")).into()
}

//! One line for monitoring systems that run plugins (Nagios, Icinga, Naemon and others).
//!
//! `CERTS STATE - what matters | performance data`; the state is also the exit code. Source: Monitoring Plugins
//! Development Guidelines, sections "Plugin Output for Nagios", "Performance data", "Plugin Return Codes".

use std::fmt::Write as _;

use time::OffsetDateTime;

use super::expiry::ExpiryReport;
use super::text::{counted, printable};
use super::time_text::relative;
use crate::diagnose::{Row, Severity, Status};

/// What a plugin may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing wrong.
    Ok = 0,
    /// Needs attention.
    Warning = 1,
    /// Broken.
    Critical = 2,
    /// Could not be told.
    Unknown = 3,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// The line for a report, and its state. What is broken outweighs what could not be told.
pub fn line(report: &ExpiryReport<'_>) -> (String, State) {
    let unreachable = report.snapshot.nodes.iter().filter(|node| node.error.is_some()).count();
    let state = match report.severity() {
        Some(Severity::Broken) => State::Critical,
        Some(Severity::Unknown) => State::Unknown,
        _ if unreachable > 0 => State::Unknown,
        Some(Severity::Warning) => State::Warning,
        Some(Severity::Notice) | None => State::Ok,
    };
    let mut said = match worst(report) {
        Some((row, message)) => {
            let others = report.rows.iter().filter(|row| row.severity() > Some(Severity::Notice)).count() - 1;
            let more = if others == 0 { String::new() } else { format!(" (and {others} more)") };
            format!("{}: {message}{more}", row.name)
        }
        None => format!("{}{}", counted(report.rows.len(), "certificate"), first_end(report)),
    };
    if unreachable > 0 {
        let _ = write!(said, ", {} not reached", counted(unreachable, "node"));
    }
    // The bar separates the text from the numbers.
    let said = printable(&said, false).replace('|', "/");
    (format!("CERTS {} - {said} | {}\n", state.word(), performance(report)), state)
}

/// The line for a run that ended in an error.
pub fn unknown(error: &anyhow::Error) -> String {
    let said = printable(&format!("{error:#}"), false).replace('|', "/");
    format!("CERTS UNKNOWN - {said}\n")
}

fn worst<'r>(report: &'r ExpiryReport<'_>) -> Option<(&'r Row<'r>, &'r str)> {
    let findings = report.rows.iter().flat_map(|row| row.findings.iter().map(move |finding| (*row, finding)));
    let told = findings.filter(|(_, finding)| finding.severity() > Severity::Notice);
    let end = |row: &Row<'_>| std::cmp::Reverse(row.certificate.map(crate::pki::certificate::Certificate::not_after));
    told.max_by_key(|(row, finding)| (finding.severity(), finding.id.status(), end(row)))
        .map(|(row, finding)| (row, finding.message.as_str()))
}

fn ends(report: &ExpiryReport<'_>) -> Option<(OffsetDateTime, String)> {
    let ends = report.rows.iter().filter_map(|row| Some((row.certificate?.not_after(), row.name.clone())));
    ends.min_by_key(|(end, _)| *end)
}

fn first_end(report: &ExpiryReport<'_>) -> String {
    ends(report).map_or_else(String::new, |(end, name)| format!(", {name} expires first, {}", relative(end, report.at)))
}

/// Counts by status, and the seconds until the first certificate expires.
fn performance(report: &ExpiryReport<'_>) -> String {
    let mut data = vec![format!("certificates={};;;0", report.rows.len())];
    for (status, count) in report.counts() {
        // An equals sign or a quote would need quoting; the words have neither.
        let (warning, critical) = match status {
            Status::Ok => ("", ""),
            Status::Attention => ("0", ""),
            _ => ("", "0"),
        };
        data.push(format!("{}={count};{warning};{critical};0", status.name()));
    }
    if let Some((end, _)) = ends(report) {
        data.push(format!("next_expiry={}s", (end - report.at).whole_seconds()));
    }
    data.join(" ")
}

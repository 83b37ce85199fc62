//! `version`: which kubepki this is, for scripts and bug reports.

use serde::Serialize;

use super::session::Session;
use crate::error::ExitCode;
use crate::report::table::Table;
use crate::report::{Report, View, value_of};

/// Print the version, and with what it was built
///
/// `kubepki --version` prints one line, this a result object that `--output` and `--query` apply to.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kubepki version\n  kubepki version --query kubepki -o tsv")]
pub struct VersionArgs {}

#[derive(Debug, Serialize)]
struct Version {
    kubepki: &'static str,
    target: String,
}

/// Prints the version.
pub fn run(_args: &VersionArgs, session: &mut Session) -> anyhow::Result<ExitCode> {
    let target = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    session.result(&Version { kubepki: env!("CARGO_PKG_VERSION"), target })?;
    Ok(ExitCode::Done)
}

impl Report for Version {
    fn to_value(&self) -> anyhow::Result<serde_json::Value> {
        value_of(self)
    }

    fn view(&self, _now: time::OffsetDateTime) -> View {
        View::default().table(Table::new(["KUBEPKI", "TARGET"]).row([self.kubepki.into(), self.target.as_str().into()]))
    }
}

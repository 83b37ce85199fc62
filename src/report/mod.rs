//! Values to text: tables for people, documents for scripts, and how much is said.
//!
//! A result implements [`Report`]: one value, of which every format shows the same. Results go to standard output,
//! everything else to standard error. Nothing here knows where a value comes from.

use serde_json::Value;
use time::OffsetDateTime;

pub mod expiry;
pub mod monitoring;
pub mod operation;
pub mod progress;
pub mod prometheus;
pub mod prompt;
pub mod query;
pub mod revocation;
mod spec;
pub mod structured;
pub mod table;
pub mod text;
pub mod time_text;
pub mod ui;

pub use table::{Cell, Table, Tone, View};
pub use ui::{Ui, Verbosity};

/// A result that can be shown in every format.
pub trait Report {
    /// The whole result for JSON and YAML: camelCase keys in a fixed order, times RFC 3339 UTC.
    ///
    /// # Errors
    /// When the value cannot be serialised, which is a defect.
    fn to_value(&self) -> anyhow::Result<Value>;

    /// The result for people, with times beside `now`.
    fn view(&self, now: OffsetDateTime) -> View;

    /// What `-o tsv` shows without `--query`: the list a script wants to loop over. The whole value unless overridden.
    ///
    /// # Errors
    /// As [`Report::to_value`].
    fn rows(&self) -> anyhow::Result<Value> {
        self.to_value()
    }
}

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// JSON, indented by two spaces.
    Json,
    /// YAML, quoted so that `kubectl` reads the same strings.
    Yaml,
    /// Tab-separated values without a header.
    Tsv,
    /// Nothing.
    None,
}

/// The value of anything serialisable, for [`Report::to_value`].
///
/// # Errors
/// When a map key is not a string, which is a defect.
pub fn value_of(result: &impl serde::Serialize) -> anyhow::Result<Value> {
    serde_json::to_value(result).map_err(Into::into)
}

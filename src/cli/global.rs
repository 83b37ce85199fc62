//! The options of every command: format, query, how much is said, colours.
//!
//! They may stand before or after the command's name.

use std::ffi::OsString;

use clap::{Args, ColorChoice};

use crate::error::Failure;
use crate::report::query::Query;
use crate::report::{Format, Ui, Verbosity};

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Format of the result on standard output
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, ignore_case = true)]
    #[arg(default_value = "table", hide_possible_values = false)]
    pub output: OutputFormat,

    /// JMESPath expression that picks from the result before it is formatted
    #[arg(long, global = true, value_name = "JMESPATH")]
    pub query: Option<String>,

    /// Say more on standard error: which files are read, which steps are taken
    #[arg(long, global = true)]
    pub verbose: bool,

    /// Say everything, and show errors with all their causes
    #[arg(long, global = true)]
    pub debug: bool,

    /// Say nothing but errors on standard error
    #[arg(long, global = true)]
    pub only_show_errors: bool,

    /// No colours (also NO_COLOR); there are none outside a terminal anyway
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people
    Table,
    /// JSON, indented by two spaces
    #[value(alias = "jsonc")]
    Json,
    /// YAML
    #[value(alias = "yamlc")]
    Yaml,
    /// Tab-separated values without a header, for scripts
    Tsv,
    /// No result, only the exit code
    None,
}

impl GlobalArgs {
    /// The printer these options describe.
    ///
    /// # Errors
    /// A usage failure for a bad `--query` or for options that contradict each other: before any work is done.
    pub fn ui(&self) -> anyhow::Result<Ui> {
        if self.only_show_errors && (self.verbose || self.debug) {
            return Err(Failure::usage("--only-show-errors contradicts --verbose and --debug")
                .hint("leave one of them out; KUBEPKI_VERBOSE, KUBEPKI_DEBUG and KUBEPKI_ONLY_SHOW_ERRORS count too")
                .into());
        }
        let verbosity = match self {
            Self { debug: true, .. } => Verbosity::Debug,
            Self { verbose: true, .. } => Verbosity::Verbose,
            Self { only_show_errors: true, .. } => Verbosity::OnlyErrors,
            _ => Verbosity::Normal,
        };
        let format = match self.output {
            OutputFormat::Table => Format::Table,
            OutputFormat::Json => Format::Json,
            OutputFormat::Yaml => Format::Yaml,
            OutputFormat::Tsv => Format::Tsv,
            OutputFormat::None => Format::None,
        };
        let query = self.query.as_deref().map(Query::parse).transpose()?;
        Ok(Ui::new(format, query, verbosity, self.wants_colours()))
    }

    /// Whether terminals may get colours.
    pub fn wants_colours(&self) -> bool {
        !self.no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }
}

/// Makes help and usage errors obey `--no-color`, which clap has not read yet when it prints them.
pub fn colour_help(command: clap::Command, arguments: &[OsString]) -> clap::Command {
    let plain = arguments.iter().any(|argument| argument == "--no-color")
        || std::env::var_os("KUBEPKI_NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain { command.color(ColorChoice::Never) } else { command }
}

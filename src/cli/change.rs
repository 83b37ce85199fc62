//! The options of every command that changes something: look first, agree, or agree node by node.

use clap::Args;

/// How a change is agreed to.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Change options")]
pub struct ChangeArgs {
    /// Print the plan as the result and change nothing
    #[arg(long, visible_alias = "dry-run")]
    pub what_if: bool,

    /// Do not ask; needed where there is no terminal
    #[arg(short, long)]
    pub yes: bool,

    /// Ask for each node, also with --yes
    #[arg(long)]
    pub confirm: bool,
}

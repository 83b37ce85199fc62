//! Presets from the environment: `--cluster-file` is `KUBEPKI_CLUSTER_FILE`, for every option alike.
//!
//! One rule over the finished command instead of one attribute per option, so that no option can be forgotten. An
//! empty variable counts as unset.

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command};

/// The environment variable that presets the option `--long`.
pub fn variable(long: &str) -> String {
    format!("KUBEPKI_{}", long.replace('-', "_").to_uppercase())
}

/// Gives every long option of `command` and of the commands below it its variable.
pub fn preset_options(command: Command) -> Command {
    command.mut_args(preset).mut_subcommands(preset_options)
}

fn preset(arg: Arg) -> Arg {
    let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
    let is_set = |name: &String| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    // An alias is an option too: `KUBEPKI_DRY_RUN` must not be ignored because the option is called `--what-if`.
    let names = arg.get_all_aliases().unwrap_or_default().into_iter().map(variable);
    let name = std::iter::once(variable(&long)).chain(names).find(is_set);
    let arg = match arg.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => arg.value_parser(BoolishValueParser::new()),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version => return arg,
        _ => arg,
    };
    match name {
        Some(name) => arg.env(name).hide_env(true),
        None => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn variables_are_named_after_the_long_option() {
        assert_eq!(variable("cluster-file"), "KUBEPKI_CLUSTER_FILE");
        assert_eq!(variable("output"), "KUBEPKI_OUTPUT");
    }
}

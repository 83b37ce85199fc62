//! The command line: words are understood or refused, whatever is in them.

#![no_main]

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use clap::FromArgMatches;
use kubepki::cli::{Cli, command};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static COMMAND: OnceCell<clap::Command> = const { OnceCell::new() };
}

// One word a line.
fuzz_target!(|data: &[u8]| {
    let words = std::iter::once(&b"kubepki"[..]).chain(data.split(|byte| *byte == b'\n')).map(OsStr::from_bytes);
    let command = COMMAND.with(|made| made.get_or_init(command).clone());
    match command.try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => drop(cli.global.ui()),
        Err(error) => drop(error.render().to_string()),
    }
});

//! The value of any option may be any text: it is understood or refused in words, and the extremes of what is understood
//! do no harm.

use clap::FromArgMatches;
use kubepki::cli::{Cli, command};
use proptest::prelude::*;

use crate::support::binary::Stage;
use crate::support::cluster::Cluster;

/// Every option with a value: the words of its command, then its own.
fn options(command: &clap::Command, before: &[String]) -> Vec<Vec<String>> {
    let words = |option: &str| before.iter().cloned().chain([option.to_owned()]).collect();
    let own = command.get_arguments().filter(|option| option.get_action().takes_values());
    let mut options: Vec<Vec<String>> = own
        .map(|option| match option.get_long() {
            Some(long) => words(&format!("--{long}=")),
            None => words(""),
        })
        .collect();
    for inner in command.get_subcommands() {
        let before: Vec<String> = before.iter().cloned().chain([inner.get_name().to_owned()]).collect();
        options.extend(self::options(inner, &before));
    }
    options
}

/// Pieces of what options take, with what lies just beyond.
fn text() -> impl Strategy<Value = String> {
    const PIECES: &str = "9999-12-31 0000-01-01 T23:59:59 -23:59 +24:00 Z now + - 1000y 1d 0 9 % 18446744073709551616 \
                          1e999 NaN [ ] ::1 : 6443 https:// / é \u{202e} \u{feff} \n \t , = @ *. . {{node.name}} {{ }} \
                          DNS: IP: rsa-2048 ca json";
    let pieces: Vec<&str> = PIECES.split(' ').chain([" "]).collect();
    prop_oneof![
        proptest::collection::vec(proptest::sample::select(pieces), 0..6).prop_map(|parts| parts.concat()),
        ".*"
    ]
}

#[test]
fn no_value_of_any_option_is_more_than_refused() {
    let command = command();
    let options = options(&command, &["kubepki".to_owned()]);
    assert!(options.len() > 60, "only {} options", options.len());
    let every = |value: &str, words: &[String]| {
        let (last, first) = words.split_last().expect("an option");
        let words = first.iter().cloned().chain([format!("{last}{value}")]);
        match command.clone().try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches)) {
            Ok(cli) => drop(cli.global.ui()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    };
    for words in &options {
        ["", "9999-12-31T23:59:59-23:59", "-", "[", "é"].iter().for_each(|value| every(value, words));
    }
    let settings = ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(settings, |(value in text(), words in proptest::sample::select(options))| every(&value, &words));
}

#[test]
fn the_first_and_the_last_moment_there_are_can_be_asked_for() {
    let (stage, root) = (Stage::new(), Cluster::healthy().write());
    let root = root.at("/").display().to_string();
    for at in ["0000-01-01", "9999-12-31T23:59:59Z", "9999-12-31T22:59:59-01:00", "+1000y", "-1000y"] {
        for format in [&["-o", "json"][..], &["-o", "yaml"], &["-o", "table"], &["--monitoring"], &["--prometheus"]] {
            let extremes = ["--warn", "1000y", "--critical", "1000y", "--ca-warn", "100%", "--no-fail"];
            for words in [&extremes[..], &["--no-fail"]] {
                let run =
                    stage.run(&[&["check-expiry", "--root", &root, &format!("--at={at}")], format, words].concat());
                // A monitoring system's own codes end with 3.
                assert!(run.code.is_some_and(|code| code <= 3) && !run.out.is_empty(), "{at} {format:?}: {run:?}");
            }
        }
    }
    let beyond = stage.run(&["check-expiry", "--root", &root, "--at=9999-12-31T23:59:59-01:00"]).expect(2);
    assert!(beyond.err.contains("write it as 2027-01-01"), "{beyond:?}");
}

//! The options of every command, presets, help, and how errors are said.

use crate::support::binary::Stage;

#[test]
fn global_options_stand_before_or_after_the_command() {
    let stage = Stage::new();
    let before = stage.run(&["-o", "json", "version"]).expect(0);
    assert_eq!(before.json()["kubepki"], env!("CARGO_PKG_VERSION"));
    assert_eq!(stage.run(&["version", "--output", "JSON"]).expect(0).out, before.out);
    assert_eq!(stage.run(&["version", "-ojson"]).expect(0).out, before.out);
}

#[test]
fn every_format_shows_the_same_value() {
    let stage = Stage::new();
    let version = env!("CARGO_PKG_VERSION");
    assert!(stage.run(&["version", "-o", "tsv"]).expect(0).out.starts_with(&format!("{version}\t")));
    assert!(stage.run(&["version", "-o", "yaml"]).expect(0).out.starts_with(&format!("kubepki: \"{version}\"\n")));
    assert!(stage.run(&["version"]).expect(0).out.starts_with("KUBEPKI  TARGET\n"));
    assert_eq!(stage.run(&["version", "-o", "none"]).expect(0).out, "");
}

#[test]
fn a_query_picks_before_the_format_is_applied() {
    let stage = Stage::new();
    let version = env!("CARGO_PKG_VERSION");
    let ask = |query: &str, format: &str| stage.run(&["version", "--query", query, "-o", format]).expect(0).out;
    assert_eq!(ask("kubepki", "tsv"), format!("{version}\n"));
    assert_eq!(ask("kubepki", "json"), format!("\"{version}\"\n"));
    assert_eq!(ask("nothing", "json"), "");
    assert!(ask("{Which: target, Version: kubepki}", "table").starts_with("Which "));
}

#[test]
fn a_query_that_cannot_be_read_ends_before_any_work_with_exit_code_2() {
    let run = Stage::new().run(&["version", "--query", "a[?"]).expect(2);
    assert!(run.out.is_empty() && run.err.contains("--query \"a[?\", column"), "{run:?}");
}

#[test]
fn a_variable_presets_every_option_and_the_command_line_wins() {
    let stage = Stage::new();
    let preset = [("KUBEPKI_OUTPUT", "json"), ("KUBEPKI_QUERY", "kubepki")];
    let quoted = format!("\"{}\"\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stage.run_with(&["version"], &preset).expect(0).out, quoted);
    assert_eq!(stage.run_with(&["version", "-o", "tsv"], &preset).expect(0).out, quoted.replace('"', ""));
    assert_eq!(stage.run_with(&["-o", "tsv", "version"], &preset).expect(0).out, quoted.replace('"', ""));
}

#[test]
fn an_empty_variable_is_none_and_a_bad_one_is_named() {
    let stage = Stage::new();
    stage.run_with(&["version"], &[("KUBEPKI_OUTPUT", ""), ("KUBEPKI_VERBOSE", "")]).expect(0);
    for truth in ["1", "yes", "true", "on"] {
        stage.run_with(&["version"], &[("KUBEPKI_VERBOSE", truth)]).expect(0);
    }
    let run = stage.run_with(&["version"], &[("KUBEPKI_VERBOSE", "maybe")]).expect(2);
    assert!(run.err.contains("--verbose") && !run.err.contains("panicked"), "{run:?}");
}

#[test]
fn a_misspelling_gets_a_suggestion_and_exit_code_2() {
    let stage = Stage::new();
    assert!(stage.run(&["versoin"]).expect(2).err.contains("'version'"));
    assert!(stage.run(&["version", "--outptu", "json"]).expect(2).err.contains("'--output'"));
    let run = stage.run(&["version", "-o", "xml"]).expect(2);
    assert!(run.out.is_empty() && run.err.contains("[possible values: table, json, yaml, tsv, none]"), "{run:?}");
}

#[test]
fn contradicting_amounts_of_talk_are_refused() {
    let run = Stage::new().run(&["version", "--only-show-errors", "--debug"]).expect(2);
    assert!(run.err.starts_with("error: --only-show-errors contradicts"), "{run:?}");
}

#[test]
fn help_and_version_go_to_standard_output() {
    let stage = Stage::new();
    assert_eq!(stage.run(&["--version"]).expect(0).out, format!("kubepki {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(stage.run(&["version", "--version"]).expect(0).out, format!("kubepki {}\n", env!("CARGO_PKG_VERSION")));
    let help = stage.run(&["--help"]).expect(0);
    assert!(help.out.contains("Exit codes:") && help.out.contains("Examples:") && help.err.is_empty(), "{help:?}");
    assert!(stage.run(&[""; 0]).expect(2).err.contains("Usage: kubepki"));
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let stage = Stage::new();
    let piped = std::process::Stdio::piped;
    let mut child = stage.command(&["--help"]).stdout(piped()).stderr(piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let script = stage.command(&["completion", "bash"]).stdout(std::fs::File::create("/dev/full").unwrap()).output();
    let script = script.unwrap();
    assert_eq!(script.status.code(), Some(1), "a full disk is an error: {script:?}");
}

#[test]
fn colours_are_for_terminals_and_can_be_turned_off() {
    let stage = Stage::new();
    let coloured = |words: &[&str]| stage.run_on_terminal(words, &[], None).out.contains("\u{1b}[");
    assert!(coloured(&["version", "--query", "a["]));
    assert!(!coloured(&["version", "--query", "a[", "--no-color"]));
    assert!(coloured(&["versoin"]) && !coloured(&["versoin", "--no-color"]));
    assert!(!stage.run(&["version", "--query", "a["]).err.contains('\u{1b}'));
}

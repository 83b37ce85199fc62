//! How a change is agreed to: on the terminal, by an option, or not at all.

use crate::support::binary::{Run, Stage};
use crate::support::tree::picture;

const CREATE: [&str; 7] = ["create-certs", "--pki-dir", "pki", "--key-algorithm", "ecdsa-p256", "--only", "sa"];

fn stage() -> Stage {
    let stage = Stage::new();
    std::fs::create_dir(stage.at("pki")).unwrap();
    stage
}

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    CREATE.iter().copied().chain(more.iter().copied()).collect()
}

/// What `run` did has to be nothing.
#[track_caller]
fn changes_nothing(stage: &Stage, run: impl FnOnce(&Stage) -> Run) -> Run {
    let before = picture(&stage.at("pki"), &[]);
    let run = run(stage);
    assert_eq!(picture(&stage.at("pki"), &[]), before, "{run:#?}");
    run
}

#[test]
fn without_a_terminal_nothing_changes_and_the_message_says_yes() {
    let run = changes_nothing(&stage(), |stage| stage.run(&CREATE).expect(1));
    assert!(run.err.contains("nothing changed") && run.err.contains("--yes") && run.out.is_empty(), "{run:#?}");
}

#[test]
fn yes_on_the_terminal_is_enough_and_an_empty_line_asks_again() {
    let stage = stage();
    let run = stage.run_on_terminal(&CREATE, &["\n", "perhaps\n", "Y\n"], None).expect(0);
    assert_eq!(run.out.matches("(y/n)").count(), 3, "{run:#?}");
    assert!(run.out.find("would change").unwrap() < run.out.find("(y/n)").unwrap(), "the plan comes first: {run:#?}");
    assert!(stage.at("pki/sa.key").exists());
}

#[test]
fn no_and_the_end_of_input_change_nothing() {
    for answer in ["n\n", "NO\n", "\u{4}"] {
        let run = changes_nothing(&stage(), |stage| stage.run_on_terminal(&CREATE, &[answer], None).expect(1));
        assert!(run.out.contains("cancelled, nothing changed"), "{answer:?}: {run:#?}");
    }
}

#[test]
fn ctrl_c_at_the_question_ends_with_130_and_changes_nothing() {
    let run = changes_nothing(&stage(), |stage| stage.run_on_terminal(&CREATE, &["\u{3}"], None).expect(130));
    assert!(run.out.contains("interrupted, nothing changed"), "{run:#?}");
}

#[test]
fn the_question_is_on_the_terminal_even_when_the_result_is_redirected() {
    let stage = stage();
    let file = stage.at("result");
    let run = stage.run_on_terminal(&with(&["-o", "json"]), &["y\n"], Some(&file)).expect(0);
    assert!(run.out.contains("(y/n)"), "{run:#?}");
    let result: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(result["provisioningState"], "Succeeded");
}

#[test]
fn the_plan_can_be_looked_at_under_both_names_and_by_a_variable() {
    let stage = stage();
    for words in [with(&["--what-if"]), with(&["--dry-run", "--yes"])] {
        let run = changes_nothing(&stage, |stage| stage.run(&words).expect(0));
        assert!(run.out.contains("nothing was changed"), "{run:#?}");
    }
    for variable in ["KUBEPKI_WHAT_IF", "KUBEPKI_DRY_RUN"] {
        let words = with(&["--yes", "-o", "json"]);
        let run = changes_nothing(&stage, |stage| stage.run_with(&words, &[(variable, "1")]).expect(0));
        assert_eq!((&run.json()["provisioningState"], &run.json()["startedAt"]), (&"Planned".into(), &().into()));
    }
}

#[test]
fn confirm_asks_for_every_node_even_with_yes() {
    let stage = stage();
    let run = changes_nothing(&stage, |stage| stage.run(&with(&["--yes", "--confirm"])).expect(1));
    assert!(run.err.contains("no terminal"), "{run:#?}");
    let run = stage.run_on_terminal(&with(&["--yes", "--confirm"]), &["y\n"], None).expect(0);
    assert!(run.out.contains("Change node local? (y/n)"), "{run:#?}");
}

#[test]
fn a_second_run_has_nothing_to_ask() {
    let stage = stage();
    stage.run(&with(&["--yes"])).expect(0);
    let run = changes_nothing(&stage, |stage| stage.run(&CREATE).expect(0));
    assert!(run.out.contains("nothing to change"), "{run:#?}");
}

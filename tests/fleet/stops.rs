//! A rotation of three machines that is killed, or loses a machine, at many moments: from another workstation, with nothing
//! but the cluster file, it is finished or taken back, to the byte.

use std::collections::BTreeSet;

use crate::judge::judge;
use crate::machines::{Fleet, Moment, NAMES, Picture, assert_all_leaves_are_new, mark, run, run_when_free};

const ROTATE: [&str; 4] = ["rotate-certs", "--only", "leaf", "--yes"];

/// From the first staged file to the last changed one: a node has 21 files that change, the first 22.
const KILLS: [Moment; 12] = [
    Moment::Staged(1),
    Moment::Staged(20),
    Moment::Staged(60),
    Moment::Staged(100),
    Moment::Staged(125),
    Moment::Changed(1),
    Moment::Changed(10),
    Moment::Changed(17),
    Moment::Changed(20),
    Moment::Changed(33),
    Moment::Changed(48),
    Moment::Changed(52),
];

/// The moment, and the machine that goes away then.
const CUTS: [(Moment, &str); 6] = [
    (Moment::Staged(15), "cp3"),
    (Moment::Staged(90), "cp1"),
    (Moment::Changed(4), "cp1"),
    (Moment::Changed(9), "cp3"),
    (Moment::Changed(25), "cp1"),
    (Moment::Changed(40), "cp3"),
];

/// What `show` says between a stop and what follows must be true.
fn check_what_is_shown(fleet: &Fleet, before: &Picture, story: &str) -> bool {
    let shown = run(&fleet.elsewhere(), &["show", "-o", "json"]).expect(0).json();
    let state = shown["provisioningState"].as_str().unwrap();
    let now = fleet.look();
    if state == "Succeeded" || state == "Canceled" {
        if now != *before {
            assert_all_leaves_are_new(before, &now, story);
        }
        return false;
    }
    assert!(["CertificateRotating", "Failed"].contains(&state), "{story}: {shown:#}");
    let names = |field: &str| -> BTreeSet<String> {
        let names = shown["operation"][field].as_array().unwrap().iter();
        names.map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let (finished, pending) = (names("finishedNodes"), names("pendingNodes"));
    assert!(finished.is_disjoint(&pending), "{story}: {shown:#}");
    assert!(finished.union(&pending).map(String::as_str).eq(NAMES), "{story}: {shown:#}");
    for name in NAMES {
        let is_untouched = now[name] == before[name];
        assert!(!(finished.contains(name) && is_untouched), "{story}: {name} is finished, but nothing has changed");
    }
    true
}

/// Goes on, or back, on another workstation, and looks at every file.
fn recover(fleet: &Fleet, way: &str, before: &Picture, story: &str) {
    let is_unfinished = check_what_is_shown(fleet, before, story);
    let between = fleet.look();
    let run = run_when_free(&fleet.elsewhere(), &["rotate-certs", way, "-o", "none"]);
    assert_eq!(run.code, Some(0), "{story}: {run:#?}");
    let now = fleet.look();
    if is_unfinished && way == "--continue" {
        assert_all_leaves_are_new(before, &now, story);
    } else if is_unfinished {
        assert_eq!(now, *before, "{story}");
    } else {
        assert_eq!(now, between, "{story}: nothing was unfinished");
    }
    let shown = crate::machines::run(&fleet.elsewhere(), &["show", "-o", "json"]).expect(0).json();
    let state = shown["provisioningState"].as_str().unwrap();
    assert!(["Succeeded", "Canceled"].contains(&state), "{story}: {shown:#}");
    assert_eq!(shown["operation"]["pendingNodes"], serde_json::json!([]), "{story}: {shown:#}");
}

/// Kills the run at each moment. Returns how often it was really killed.
fn killed(test: &str, way: &str) {
    let Some(fleet) = Fleet::with_certificates(test) else { return };
    let mut kills = 0;
    for moment in KILLS {
        let story = format!("killed at {moment:?}, then {way}");
        let (before, marked) = (fleet.look(), mark(&fleet));
        let mut child = fleet.begin(&ROTATE);
        kills += usize::from(moment.wait(&fleet, &marked, &mut child));
        child.kill().unwrap();
        child.wait().unwrap();
        recover(&fleet, way, &before, &story);
    }
    assert!(kills >= 10, "{way}: too few kills to mean anything: {kills}");
    judge(&fleet);
}

/// Ends a machine's sshd and everything it runs at each moment, and starts sshd again.
fn cut(test: &str, way: &str) {
    let Some(fleet) = Fleet::with_certificates(test) else { return };
    let mut failures = 0;
    for (moment, name) in CUTS {
        let story = format!("{name} cut off at {moment:?}, then {way}");
        let (before, marked) = (fleet.look(), mark(&fleet));
        let mut child = fleet.begin(&[&ROTATE[..], &["--debug"]].concat());
        moment.wait(&fleet, &marked, &mut child);
        fleet.server(name).cut();
        fleet.server(name).revive();
        let code = child.wait().unwrap().code();
        let words = std::fs::read_to_string(fleet.here.at("err")).unwrap();
        let now = fleet.look();
        match code {
            Some(0) => assert_all_leaves_are_new(&before, &now, &story),
            Some(1) => assert_eq!(now, before, "{story}: exit code 1 says that nothing has changed: {words}"),
            Some(6) => assert!(words.contains("--continue") && words.contains("--abort"), "{story}: {words}"),
            other => panic!("{story}: exit code {other:?}: {words}"),
        }
        failures += usize::from(code != Some(0));
        assert!(code == Some(0) || words.contains(name), "{story}: the node is not named: {words}");
        recover(&fleet, way, &before, &story);
    }
    assert!(failures >= 4, "{way}: too few failures to mean anything: {failures}");
    judge(&fleet);
}

#[test]
fn a_killed_run_is_finished_from_another_workstation() {
    killed("a_killed_run_is_finished_from_another_workstation", "--continue");
}

#[test]
fn a_killed_run_is_taken_back_from_another_workstation() {
    killed("a_killed_run_is_taken_back_from_another_workstation", "--abort");
}

#[test]
fn a_run_that_lost_a_machine_is_finished_from_another_workstation() {
    cut("a_run_that_lost_a_machine_is_finished_from_another_workstation", "--continue");
}

#[test]
fn a_run_that_lost_a_machine_is_taken_back_from_another_workstation() {
    cut("a_run_that_lost_a_machine_is_taken_back_from_another_workstation", "--abort");
}

//! `create-certs` on machines that have nothing: one set of authorities for all, leaves for each.

use crate::binary::Run;
use crate::judge::judge;
use crate::machines::{Fleet, Moment, NAMES, Picture, mark, run as run_on, run_when_free};
use crate::tree::Entry;

const CREATE: [&str; 4] = ["create-certs", "--key-algorithm", "ecdsa-p256", "--yes"];

#[test]
fn empty_nodes_get_the_same_authorities_and_leaves_of_their_own() {
    let Some(fleet) = Fleet::start("empty_nodes_get_the_same_authorities_and_leaves_of_their_own") else { return };
    let empty = fleet.look();
    let plan =
        fleet.run(&["create-certs", "--key-algorithm", "ecdsa-p256", "--what-if", "-o", "json"]).expect(0).json();
    assert_eq!(plan["provisioningState"], "Planned");
    assert_eq!(fleet.look(), empty, "--what-if changes nothing");
    let done = fleet.run(&[&CREATE[..], &["-o", "json"]].concat()).expect(0).json();
    assert_eq!(done["provisioningState"], "Succeeded");
    for (node, name) in done["nodes"].as_array().unwrap().iter().zip(NAMES) {
        assert_eq!((&node["name"], &node["state"]), (&name.into(), &"finished".into()));
    }
    judge(&fleet);
    let first = fleet.look();
    for (name, (tree, _)) in &first {
        for (path, entry) in tree {
            let Entry::File { mode, content, .. } = entry else { continue };
            let is_private = content.contains("PRIVATE KEY") || path.extension().is_some_and(|it| it == "conf");
            assert!(!is_private || *mode == 0o600, "{name}: {} has mode {mode:o}", path.display());
        }
    }
    let again = fleet.run(&[&CREATE[..], &["-o", "json"]].concat()).expect(0).json();
    assert_eq!(again["provisioningState"], "Succeeded");
    assert_eq!(fleet.look(), first, "a second run changes nothing");
}

#[test]
fn a_node_that_joins_later_gets_the_authorities_of_the_others() {
    let Some(fleet) = Fleet::start("a_node_that_joins_later_gets_the_authorities_of_the_others") else { return };
    fleet.run(&[&CREATE[..], &["--node", "cp1"]].concat()).expect(0);
    let first = fleet.look();
    fleet.run(&CREATE).expect(0);
    judge(&fleet);
    assert_eq!(fleet.look()["cp1"], first["cp1"], "the node that had them is as it was");
}

/// From the first file that lies ready to the last one that is in use: 76 of either kind, on three nodes.
const KILLS: [Moment; 8] = [
    Moment::Staged(1),
    Moment::Staged(40),
    Moment::Staged(74),
    Moment::Changed(1),
    Moment::Changed(26),
    Moment::Changed(27),
    Moment::Changed(45),
    Moment::Changed(70),
];

/// Kills the run at each moment; another workstation does what `words` say then.
fn killed(test: &str, moments: &[Moment], words: &[&str], check: impl Fn(&Fleet, &Picture, &Run, &str)) {
    let Some(fleet) = Fleet::start(test) else { return };
    let mut kills = 0;
    for moment in moments {
        let story = format!("killed at {moment:?}, then {words:?}");
        fleet.wipe();
        let (before, marked) = (fleet.look(), mark(&fleet));
        let mut child = fleet.begin(&[&CREATE[..], &["-o", "none"]].concat());
        kills += usize::from(moment.wait(&fleet, &marked, &mut child));
        child.kill().unwrap();
        child.wait().unwrap();
        let run = run_when_free(&fleet.elsewhere(), words);
        check(&fleet, &before, &run, &story);
        // Where nothing is left there is nothing to show.
        if fleet.look() != before {
            let shown = run_on(&fleet.elsewhere(), &["show", "-o", "json"]).expect(0).json();
            assert_eq!(shown["provisioningState"], "Succeeded", "{story}: {shown:#}");
        }
    }
    assert!(kills + 1 >= moments.len(), "too few kills to mean anything: {kills}");
}

#[test]
fn a_killed_run_is_finished_on_all_nodes_from_another_workstation() {
    let test = "a_killed_run_is_finished_on_all_nodes_from_another_workstation";
    killed(test, &KILLS, &["create-certs", "--continue", "-o", "none"], |fleet, before, run, story| {
        if run.err.contains("no create-certs is unfinished here") {
            // Nothing but unready files lay there; the run said so.
            let is_whole = fleet.look() != *before;
            assert_eq!(run.code, Some(1), "{story}: {run:#?}");
            assert!(is_whole || story.contains("Staged"), "{story}: {run:#?}");
            assert!(is_whole || !fleet.has_stages(), "{story}: something waits to be put in place: {run:#?}");
            if is_whole {
                judge(fleet);
            }
            return;
        }
        assert_eq!(run.code, Some(0), "{story}: {run:#?}");
        judge(fleet);
    });
}

#[test]
fn a_killed_run_is_taken_back_on_all_nodes_from_another_workstation() {
    let test = "a_killed_run_is_taken_back_on_all_nodes_from_another_workstation";
    killed(test, &KILLS, &["create-certs", "--abort", "-o", "none"], |fleet, before, run, story| {
        let was_nothing = run.err.contains("no create-certs is unfinished here") && story.contains("Staged");
        assert!(run.code == Some(0) || was_nothing, "{story}: {run:#?}");
        assert_eq!(fleet.look(), *before, "{story}");
    });
}

#[test]
fn after_a_kill_the_same_command_makes_the_whole() {
    let words = [&CREATE[..], &["-o", "none"]].concat();
    killed("after_a_kill_the_same_command_makes_the_whole", &KILLS[2..5], &words, |fleet, _, run, story| {
        assert_eq!(run.code, Some(0), "{story}: {run:#?}");
        judge(fleet);
    });
}

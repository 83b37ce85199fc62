//! `create-certs` on machines that have nothing: one set of authorities for all, leaves for each.

use crate::judge::judge;
use crate::machines::{Fleet, Moment, NAMES, mark, run_when_free};
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

#[test]
fn killed_at_any_moment_the_same_command_makes_the_whole() {
    let Some(_) = Fleet::start("killed_at_any_moment_the_same_command_makes_the_whole") else { return };
    let words = [&CREATE[..], &["-o", "none"]].concat();
    for moment in [Moment::Staged(8), Moment::Changed(9), Moment::Changed(27), Moment::Changed(40), Moment::Staged(75)]
    {
        let fleet = Fleet::start("killed_at_any_moment_the_same_command_makes_the_whole").unwrap();
        let before = mark(&fleet);
        let mut child = fleet.begin(&words);
        moment.wait(&fleet, &before, &mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        let run = run_when_free(&fleet.elsewhere(), &words);
        assert_eq!(run.code, Some(0), "{moment:?}: {run:#?}");
        judge(&fleet);
    }
}

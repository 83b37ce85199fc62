//! `rotate-certs --only leaf` from end to end on three machines, and what is due afterwards.

use crate::judge::judge;
use crate::machines::{Fleet, NAMES, assert_all_leaves_are_new};

#[test]
fn every_leaf_of_every_node_is_new_and_nothing_else_has_changed() {
    let Some(fleet) = Fleet::with_certificates("every_leaf_of_every_node_is_new_and_nothing_else_has_changed") else {
        return;
    };
    let before = fleet.look();
    let plan = fleet.run(&["rotate-certs", "--only", "leaf", "--what-if", "-o", "json"]).expect(0).json();
    assert_eq!(fleet.look(), before, "--what-if changes nothing");
    let done = fleet.run(&["rotate-certs", "--only", "leaf", "--yes", "-o", "json"]).expect(0).json();
    let after = fleet.look();
    assert_all_leaves_are_new(&before, &after, "rotated");
    judge(&fleet);
    assert_eq!(done["provisioningState"], "Succeeded");
    for (index, name) in NAMES.iter().enumerate() {
        let (planned, made) = (&plan["nodes"][index], &done["nodes"][index]);
        assert_eq!((made["name"].as_str(), made["state"].as_str()), (Some(*name), Some("finished")));
        let paths = |node: &serde_json::Value| -> Vec<serde_json::Value> {
            node["files"].as_array().unwrap().iter().map(|file| file["path"].clone()).collect()
        };
        assert_eq!(paths(planned), paths(made), "{name}: what was planned was done");
    }
    let shown = fleet.run(&["show", "-o", "json"]).expect(0).json();
    assert_eq!(shown["provisioningState"], "Succeeded");
    assert_eq!(shown["operation"]["finishedNodes"], serde_json::json!(NAMES));
    assert_eq!(shown["operation"]["pendingNodes"], serde_json::json!([]));
    assert_eq!(shown["operation"]["id"], done["id"]);
    let due = fleet.run(&["rotate-certs", "--only", "leaf", "--due", "--yes", "-o", "json"]).expect(0).json();
    assert_eq!(due["provisioningState"], "Succeeded");
    assert_eq!(fleet.look(), after, "nothing is due");
    for way in ["--continue", "--abort"] {
        let run = fleet.run(&["rotate-certs", way]).expect(0);
        assert!(run.err.contains("no rotation is unfinished here"), "{run:#?}");
    }
    assert_eq!(fleet.look(), after, "nothing was unfinished");
}

#[test]
fn what_all_nodes_share_is_not_replaced_where_nobody_can_restart_what_reads_it() {
    let this = "what_all_nodes_share_is_not_replaced_where_nobody_can_restart_what_reads_it";
    let Some(fleet) = Fleet::with_certificates(this) else { return };
    let before = fleet.look();
    let refused = |words: &[&str]| {
        let run = fleet.run(&[&["rotate-certs", "--yes"], words].concat()).expect(1);
        assert!(run.err.contains("hint: "), "{run:#?}");
        assert_eq!(fleet.look(), before, "{words:?}");
    };
    for words in [&["--only", "ca"][..], &["--only", "sa"], &[]] {
        refused(words);
        refused(&[words, &["--node", "cp2"]].concat());
    }
    // The same authority for longer needs no order, but still every node.
    let longer = ["--only", "cluster-ca", "--same-key"];
    refused(&[&longer[..], &["--node", "cp2"]].concat());
    fleet.run(&[&["rotate-certs", "--yes"], &longer[..]].concat()).expect(0);
    judge(&fleet);
}

#[test]
fn one_node_and_one_name_are_all_that_changes_when_asked_so() {
    let Some(fleet) = Fleet::with_certificates("one_node_and_one_name_are_all_that_changes_when_asked_so") else {
        return;
    };
    let before = fleet.look();
    fleet.run(&["rotate-certs", "--only", "apiserver", "--node", "cp2", "--yes"]).expect(0);
    let after = fleet.look();
    assert_eq!((&before["cp1"], &before["cp3"]), (&after["cp1"], &after["cp3"]));
    let (old, new) = (&before["cp2"].0, &after["cp2"].0);
    let differing = old.keys().filter(|path| old[*path] != new[*path]).map(|path| path.to_str().unwrap());
    assert_eq!(differing.collect::<Vec<_>>(), ["pki/apiserver.crt", "pki/apiserver.key"]);
    judge(&fleet);
}

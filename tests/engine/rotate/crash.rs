//! A rotation that stops at any call to the node: going on ends it, going back undoes it to the byte, and pairs fit.

use kubepki::plan::rotate::Request;

use crate::support::cluster::{Cluster, NOW};
use crate::support::crashing::{Crash, Crashing};
use crate::support::root::TestRoot;
use crate::support::rotation::{look, minted, plan, prove};
use crate::support::world::{quiet, transactions};

/// Rotates everything on a node that goes away at call `at`; whether it did.
fn interrupted(root: &TestRoot, at: usize) -> bool {
    let blueprint = plan(root, &Request::default(), NOW).unwrap();
    let request = minted(root, &blueprint, NOW).unwrap();
    let how = if at.is_multiple_of(2) { Crash::Before } else { Crash::After };
    let node = Crashing::new(&root.node, how, at);
    let answer = transactions(&node, &quiet).run(request);
    node.is_gone() && answer.is_err()
}

#[test]
fn a_rotation_that_stops_anywhere_is_finished_or_taken_back() {
    let cluster = Cluster::healthy();
    let write = || cluster.write_in_memory();
    let before = look(&write());
    let mut begun = 0;
    for at in 0.. {
        let root = write();
        if !interrupted(&root, at) {
            break;
        }
        if transactions(&root.node, &quiet).unfinished().unwrap().is_none() {
            let now = look(&root);
            assert!(now == before || now.values().ne(before.values()), "stopped at {at}");
            prove(&root.node);
            continue;
        }
        begun += 1;
        transactions(&root.node, &quiet).resume().unwrap();
        prove(&root.node);
        let names = |root: &TestRoot| look(root).into_keys().collect::<Vec<_>>();
        assert_eq!(names(&root).len(), before.len() + 1, "stopped at {at}: only the kubelet's dated file is new");

        let root = write();
        assert!(interrupted(&root, at));
        transactions(&root.node, &quiet).abort(false).unwrap();
        assert_eq!(look(&root), before, "stopped at {at}");
    }
    assert!(begun > 29, "every file is a place to stop at: {begun}");
}

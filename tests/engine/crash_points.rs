//! Stop after call 1, 2, 3, ... to the node: going on and going back must both end well, every time.

use kubepki::apply::change::FileMode;
use kubepki::apply::transaction::Transactions;
use kubepki::error::{ExitCode, exit_code, hints};
use kubepki::node::Node;
use kubepki::plan::operation::{NodeState, Operation, ProvisioningState};

use crate::support::crashing::{Crash, Crashing};
use crate::support::root::TestRoot;
use crate::support::tree::{Tree, picture};
use crate::support::world::{ID, STATE, after, before, changes, look, quiet, request, transactions, write};

/// What is done to a node.
type Deed = fn(&Transactions<'_>) -> anyhow::Result<Operation>;

const RUN: Deed = |transactions| transactions.run(request(ID, changes()));
const RESUME: Deed = |transactions| transactions.resume();
const ABORT: Deed = |transactions| transactions.abort(false);

/// Does something on a node that crashes at call `at`; `None` when the deed needed no more calls than that.
fn crash(root: &TestRoot, deed: Deed, how: Crash, at: usize) -> Option<anyhow::Result<Operation>> {
    let node = Crashing::new(&root.node, how, at);
    let answer = deed(&transactions(&node, &quiet));
    node.is_gone().then_some(answer)
}

fn is_unfinished(root: &TestRoot) -> bool {
    transactions(&root.node, &quiet).unfinished().unwrap().is_some()
}

/// The pictures that every story must end with.
struct Ends {
    before: Tree,
    after: Tree,
}

impl Ends {
    fn new() -> Self {
        Self { before: look(&before()), after: after() }
    }

    fn is_after(&self, root: &TestRoot, story: &str) {
        assert_eq!(look(root), self.after, "{story}");
        is_clean(root, story);
    }

    fn is_before(&self, root: &TestRoot, story: &str) {
        assert_eq!(look(root), self.before, "{story}");
        is_clean(root, story);
    }
}

/// No lock, no staged key, no journal that has not ended.
fn is_clean(root: &TestRoot, story: &str) {
    assert!(!is_unfinished(root), "{story}");
    assert!(!root.at(STATE).join("lock").exists(), "{story}");
    let own = picture(&root.at(STATE), &[]);
    assert!(own.keys().all(|path| !path.to_string_lossy().contains("stage")), "{story}: {own:?}");
}

/// What an error after a crash must say, whatever the crash was.
fn check_error(error: &anyhow::Error, unfinished: bool, story: &str) {
    let hint = hints(error).join(" ");
    if exit_code(error) == ExitCode::Partial {
        assert!(hint.contains("--continue") && hint.contains("--abort"), "{story}: {error:#}: {hint}");
    } else {
        assert_eq!(exit_code(error), ExitCode::Failed, "{story}: {error:#}");
        // A journal whose reply was lost is the only one that an error may not know of; that error is partial, too.
        assert!(!unfinished, "{story}: an operation has begun and the error does not say so: {error:#}");
    }
}

#[test]
fn after_a_crash_at_any_call_both_ways_end_well() {
    let ends = Ends::new();
    for how in [Crash::Before, Crash::After] {
        let mut stories = (0, 0);
        for at in 0.. {
            let story = format!("{how:?} {at}");
            let root = before();
            let Some(answer) = crash(&root, RUN, how, at) else { break };
            let unfinished = is_unfinished(&root);
            match answer {
                Ok(operation) => {
                    // Everything is done; only old copies could not be tidied up.
                    assert_eq!(operation.provisioning_state, ProvisioningState::Succeeded, "{story}");
                    assert_eq!(look(&root), ends.after, "{story}");
                    let path = "/etc/kubernetes/pki/ca.key";
                    let next = write(path, "a later key", FileMode::KeepOr(0o600), Some("new ca key"));
                    let next = request("20260103T030405Z-0000000c", vec![next]);
                    transactions(&root.node, &quiet).run(next).unwrap();
                    is_clean(&root, &story);
                    continue;
                }
                Err(error) => check_error(&error, unfinished, &story),
            }
            if !unfinished {
                let tree = look(&root);
                // The crash may have come right after the end was written down.
                if tree == ends.before {
                    stories.0 += 1;
                    RUN(&transactions(&root.node, &quiet)).unwrap();
                }
                assert_eq!(look(&root), ends.after, "{story}");
                continue;
            }
            stories.1 += 1;
            let operation = RESUME(&transactions(&root.node, &quiet)).unwrap();
            assert_eq!(operation.provisioning_state, ProvisioningState::Succeeded);
            assert_eq!((operation.nodes[0].state, &operation.nodes[0].error), (NodeState::Finished, &None));
            ends.is_after(&root, &story);

            let root = before();
            drop(crash(&root, RUN, how, at));
            let operation = ABORT(&transactions(&root.node, &quiet)).unwrap();
            assert_eq!(operation.provisioning_state, ProvisioningState::Canceled);
            assert_eq!(operation.nodes[0].state, NodeState::RolledBack);
            ends.is_before(&root, &story);
            let again = request("20260102T030406Z-0000000b", changes());
            transactions(&root.node, &quiet).run(again).unwrap();
            ends.is_after(&root, &story);
        }
        assert!(stories.0 > 40 && stories.1 > 15, "too few crashes to mean anything: {stories:?}");
    }
}

#[test]
fn a_crash_while_going_on_or_back_still_leaves_both_ways() {
    let ends = Ends::new();
    // Every third crash of the first run, every call of the second: all kinds of states meet all kinds of calls.
    let first = (0..).step_by(3).take_while(|at| crash(&before(), RUN, Crash::Before, *at).is_some());
    let mut stories = 0;
    for at in first {
        for second in [RESUME, ABORT] {
            for then in 0.. {
                let root = before();
                drop(crash(&root, RUN, Crash::Before, at));
                if !is_unfinished(&root) {
                    break;
                }
                let how = if then % 2 == 0 { Crash::Before } else { Crash::After };
                let Some(_) = crash(&root, second, how, then) else { break };
                let name = if second as usize == RESUME as usize { "resume" } else { "abort" };
                let story = format!("run until {at}, then {name} until {then}");
                let back = (at + then) % 4 < 2;
                if is_unfinished(&root) {
                    stories += 1;
                    let third = if back { ABORT } else { RESUME };
                    third(&transactions(&root.node, &quiet)).unwrap_or_else(|error| panic!("{story}: {error:#}"));
                    if back { ends.is_before(&root, &story) } else { ends.is_after(&root, &story) }
                } else {
                    let tree = look(&root);
                    assert!(tree == ends.before || tree == ends.after, "{story}");
                }
            }
        }
    }
    assert!(stories > 200, "too few crashes to mean anything: {stories}");
}

#[test]
fn an_error_at_any_call_changes_nothing_or_keeps_the_state() {
    let ends = Ends::new();
    let whole = picture(&before().at("/"), &[]);
    let mut stories = (0, 0);
    for at in 0.. {
        let story = format!("error at {at}");
        let root = before();
        let Some(answer) = crash(&root, RUN, Crash::Once, at) else { break };
        let unfinished = is_unfinished(&root);
        match answer {
            Ok(_) => assert_eq!(look(&root), ends.after, "{story}"),
            Err(error) if exit_code(&error) == ExitCode::Failed => {
                stories.0 += 1;
                check_error(&error, unfinished, &story);
                assert_eq!(picture(&root.at("/"), &[]), whole, "{story}: {error:#}");
            }
            Err(error) => {
                stories.1 += 1;
                check_error(&error, unfinished, &story);
                assert!(unfinished, "{story}: {error:#}");
                let last = transactions(&root.node, &quiet).last().unwrap().unwrap();
                assert_eq!(last.provisioning_state, ProvisioningState::Failed, "{story}");
                let reason = last.nodes[0].error.as_deref().unwrap();
                assert!(reason.contains("the node is gone"), "{story}: {reason}");
                ABORT(&transactions(&root.node, &quiet)).unwrap();
                ends.is_before(&root, &story);
            }
        }
    }
    assert!(stories.0 > 40 && stories.1 > 15, "too few errors to mean anything: {stories:?}");
}

#[test]
fn a_node_that_is_gone_from_the_start_is_only_an_error() {
    let root = before();
    let node = Crashing::new(&root.node, Crash::Before, 0);
    assert!(node.read(&[]).is_err());
    for deed in [RUN, RESUME, ABORT] {
        assert!(deed(&transactions(&node, &quiet)).is_err());
    }
    assert!(transactions(&node, &quiet).last().is_err());
}

//! One operation over three nodes: stop after call 1, 2, 3, ... to any of them, and another run, which knows nothing but
//! the nodes, must be able to go on and to go back, every time.

use std::sync::{Arc, Mutex};

use kubepki::apply::change::{FileMode, Request};
use kubepki::cli::carry_out::Crew;
use kubepki::cli::rolling::{Resumed, Rolling};
use kubepki::cli::session::Session;
use kubepki::cli::target::{Target, TargetArgs, TargetNode};
use kubepki::error::{ExitCode, exit_code, hints};
use kubepki::plan::operation::{NodeReport, NodeState, Operation, ProvisioningState};
use kubepki::plan::restart::Means;
use kubepki::report::{Format, Ui, Verbosity};

use crate::support::mortal::{Fate, cluster};
use crate::support::root::TestRoot;
use crate::support::tree::Tree;
use crate::support::world::{ID, STATE, look, operation, write};

const NAMES: [&str; 3] = ["cp1", "cp2", "w1"];
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-scheduler.yaml";

fn silent() -> Ui {
    Ui::new(Format::None, None, Verbosity::OnlyErrors, false)
}

/// Three nodes before the operation.
fn before() -> Vec<TestRoot> {
    let nodes = NAMES.map(|name| {
        let root = TestRoot::in_memory();
        root.put("/etc/kubernetes/pki/apiserver.key", format!("old key of {name}"), 0o600);
        root.put("/etc/kubernetes/pki/apiserver.crt", format!("old certificate of {name}"), 0o644);
        root.put(MANIFEST, "old manifest", 0o600);
        root.folder("/etc/kubernetes/tmp", 0o700);
        root
    });
    nodes.into_iter().collect()
}

fn request(name: &str, operation: &Operation) -> Request {
    let keep = FileMode::KeepOr(0o600);
    let changes = vec![
        write("/etc/kubernetes/pki/apiserver.key", "new key", keep, Some(&format!("old key of {name}"))),
        write(
            "/etc/kubernetes/pki/apiserver.crt",
            "new certificate",
            keep,
            Some(&format!("old certificate of {name}")),
        ),
        write(MANIFEST, "new manifest", keep, Some("old manifest")),
    ];
    let restarting = vec![MANIFEST.to_owned()];
    Request {
        operation: operation.clone(),
        changes,
        directory_mode: 0o755,
        restarting,
        steps: Vec::new(),
        words: vec!["asked".to_owned()],
    }
}

/// The operation with every node's files in it, as a plan has them.
fn planned() -> Operation {
    let mut planned = operation(ID);
    for name in NAMES {
        let files = request(name, &operation(ID)).changes.into_iter().map(|change| change.report).collect();
        let (name, state) = (name.to_owned(), NodeState::Pending);
        planned.nodes.push(NodeReport { name, state, files, restarts: vec!["kube-scheduler".to_owned()], error: None });
    }
    planned
}

fn target(roots: &[TestRoot], fate: &Fate) -> Target {
    cluster(&NAMES, roots, fate)
}

/// Everything that was proven: node, and the state of its certificate at that time.
type Proofs = Arc<Mutex<Vec<String>>>;

fn rolling(proofs: &Proofs) -> Rolling<'static> {
    let proofs = Arc::clone(proofs);
    let prove = Box::new(move |node: &TargetNode, _: &kubepki::apply::journal::Journal, _: usize| {
        proofs.lock().unwrap().push(node.node.name().to_owned());
        Ok(())
    });
    Rolling {
        means: Means::default(),
        parallel: 2,
        prove,
        before: Box::new(|_, _, _, _| ()),
        between: Box::new(|_, _| Ok(())),
    }
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Run,
    Continue,
    Abort,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Canceled,
    Nothing,
    NotBegun,
}

fn carry_out(roots: &[TestRoot], deed: Deed, fate: &Fate) -> anyhow::Result<Outcome> {
    let session = Session::start(silent());
    let (target, args, proofs) = (target(roots, fate), TargetArgs::default(), Proofs::default());
    let crew = Crew::new(&session, &target, &args, "rotate-certs").rolling(rolling(&proofs), Vec::new());
    let state = |operation: Option<Operation>| match operation.map(|operation| operation.provisioning_state) {
        None => Outcome::Nothing,
        Some(ProvisioningState::Succeeded) => Outcome::Succeeded,
        Some(ProvisioningState::Canceled) => Outcome::Canceled,
        Some(other) => panic!("{other:?}"),
    };
    match deed {
        Deed::Run => {
            let mut operation = planned();
            let requests = target.nodes.iter().map(|node| (&*node.node, request(node.node.name(), &operation)));
            let requests = requests.collect();
            crew.roll(&rolling(&proofs), &mut operation, requests)?;
            assert_eq!(*proofs.lock().unwrap(), NAMES, "each node is proven well, in order");
            Ok(state(Some(operation)))
        }
        Deed::Continue => match crew.resume()? {
            Resumed::NotBegun(words) => {
                assert_eq!(words, ["asked"]);
                Ok(Outcome::NotBegun)
            }
            other => Ok(state(other.operation())),
        },
        Deed::Abort => Ok(state(crew.abort(false)?)),
    }
}

fn trees(roots: &[TestRoot]) -> Vec<Tree> {
    roots.iter().map(look).collect()
}

fn is_unfinished(roots: &[TestRoot]) -> bool {
    let (target, args) = (target(roots, &Fate::never()), TargetArgs::default());
    let session = Session::start(silent());
    Crew::new(&session, &target, &args, "rotate-certs").unfinished().unwrap().is_some()
}

/// No journal that has not ended, no stage.
fn is_clean(roots: &[TestRoot]) -> bool {
    let stages = roots.iter().any(|root| {
        std::fs::read_dir(root.at(STATE))
            .is_ok_and(|ids| ids.filter_map(Result::ok).any(|id| id.path().join("stage").exists()))
    });
    !is_unfinished(roots) && !stages
}

struct Ends {
    before: Vec<Tree>,
    after: Vec<Tree>,
}

impl Ends {
    fn new() -> Self {
        let roots = before();
        let before = trees(&roots);
        assert_eq!(carry_out(&roots, Deed::Run, &Fate::never()).unwrap(), Outcome::Succeeded);
        assert!(is_clean(&roots));
        Self { before, after: trees(&roots) }
    }
}

#[test]
fn nodes_change_one_after_another_and_manifests_last() {
    let (roots, fate) = (before(), Fate::never());
    carry_out(&roots, Deed::Run, &fate).unwrap();
    let log = fate.log.lock().unwrap().clone();
    let names: Vec<&str> = log.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["cp1", "cp1", "cp1", "cp2", "cp2", "cp2", "w1", "w1", "w1"]);
    assert!(log.iter().skip(2).step_by(3).all(|(_, path)| path == MANIFEST), "{log:?}");
}

#[test]
fn a_run_stopped_at_any_call_can_be_continued_and_taken_back_from_the_nodes_alone() {
    let ends = Ends::new();
    for happens in [false, true] {
        let mut stories = [0; 4];
        'calls: for at in 0.. {
            for deed in [Deed::Continue, Deed::Abort] {
                let (roots, fate) = (before(), Fate::new(at, happens));
                let answer = carry_out(&roots, Deed::Run, &fate);
                if !fate.has_struck() {
                    assert!(stories.iter().all(|count| *count > 3), "too few of a kind: {stories:?}");
                    break 'calls;
                }
                let story = format!("call {at} ({happens}), then {deed:?}");
                let outcome = carry_out(&roots, deed, &Fate::never());
                check(&ends, &roots, deed, outcome, &mut stories, &story);
                if let Err(error) = answer
                    && exit_code(&error) == ExitCode::Partial
                {
                    let hint = hints(&error).join(" ");
                    assert!(hint.contains("--continue") && hint.contains("--abort"), "{story}: {error:#}: {hint}");
                }
            }
        }
    }
}

fn check(
    ends: &Ends,
    roots: &[TestRoot],
    deed: Deed,
    outcome: anyhow::Result<Outcome>,
    stories: &mut [usize; 4],
    story: &str,
) {
    let now = trees(roots);
    let is_nothing = matches!(outcome, Ok(Outcome::Nothing));
    match (deed, outcome) {
        (Deed::Continue, Ok(Outcome::Succeeded)) => {
            stories[0] += 1;
            assert_eq!(now, ends.after, "{story}");
        }
        // Going on with what had already been taken back on some nodes takes back the rest.
        (_, Ok(Outcome::Canceled)) => {
            stories[1] += 1;
            assert_eq!(now, ends.before, "{story}");
        }
        (Deed::Continue, Ok(Outcome::NotBegun)) => {
            stories[2] += 1;
            assert_eq!(now, ends.before, "{story}");
        }
        (_, Ok(Outcome::Nothing)) => {
            stories[3] += 1;
            assert!(now == ends.before || now == ends.after, "{story}");
        }
        // Finished everywhere, but for the last notes about it.
        (Deed::Abort, Err(error)) => {
            assert_eq!(exit_code(&error), ExitCode::Failed, "{story}: {error:#}");
            assert_eq!(now, ends.after, "{story}: {error:#}");
        }
        (_, other) => panic!("{story}: {other:?}"),
    }
    // A folder without a journal is rubbish that the next run removes; a run that finds nothing to do is none.
    assert!(is_clean(roots) || is_nothing, "{story}");
    assert!(!is_unfinished(roots), "{story}");
}

#[test]
fn a_stop_on_the_way_on_or_back_still_leaves_both_ways() {
    let ends = Ends::new();
    let mut count = 0;
    for at in (40..).step_by(23) {
        let fate = Fate::new(at, true);
        let _ = carry_out(&before(), Deed::Run, &fate);
        if !fate.has_struck() {
            break;
        }
        for second in [Deed::Continue, Deed::Abort] {
            for then in (0..).step_by(7) {
                let roots = before();
                let _ = carry_out(&roots, Deed::Run, &Fate::new(at, true));
                let fate = Fate::new(then, then % 2 == 0);
                let _ = carry_out(&roots, second, &fate);
                if !fate.has_struck() {
                    break;
                }
                count += 1;
                let third = if (at + then) % 4 < 2 { Deed::Abort } else { Deed::Continue };
                let story = format!("run until {at}, {second:?} until {then}, {third:?}");
                let outcome = carry_out(&roots, third, &Fate::never());
                let mut stories = [0; 4];
                check(&ends, &roots, third, outcome, &mut stories, &story);
            }
        }
    }
    assert!(count > 50, "too few stops to mean anything: {count}");
}

#[test]
fn a_node_that_does_not_get_well_stops_the_walk_before_the_next_one() {
    let roots = before();
    let session = Session::start(silent());
    let (target, args) = (target(&roots, &Fate::never()), TargetArgs::default());
    let prove = Box::new(|node: &TargetNode, _: &kubepki::apply::journal::Journal, _: usize| {
        anyhow::ensure!(node.node.name() != "cp2", "cp2: kube-apiserver does not come back");
        Ok(())
    });
    let sick = Rolling {
        means: Means::default(),
        parallel: 1,
        prove,
        before: Box::new(|_, _, _, _| ()),
        between: Box::new(|_, _| Ok(())),
    };
    let crew = Crew::new(&session, &target, &args, "rotate-certs").rolling(rolling(&Proofs::default()), Vec::new());
    let mut operation = planned();
    let requests = target.nodes.iter().map(|node| (&*node.node, request(node.node.name(), &operation))).collect();
    let error = crew.roll(&sick, &mut operation, requests).unwrap_err();
    assert_eq!(exit_code(&error), ExitCode::Partial);
    assert!(format!("{error:#}").contains("does not come back"), "{error:#}");
    let states: Vec<NodeState> = operation.nodes.iter().map(|node| node.state).collect();
    assert_eq!(states, [NodeState::Finished, NodeState::Failed, NodeState::Pending]);
    assert_eq!(look(&roots[2]), look(&before()[2]), "the third node was not touched");
    let done = crew.resume().unwrap().operation().unwrap();
    assert_eq!(done.provisioning_state, ProvisioningState::Succeeded);
}

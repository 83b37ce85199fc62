//! Three machines that have nothing, and a run that stops after call 1, 2, 3, ... to any of them: going on makes the PKI of
//! all, going back leaves none of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use kubepki::cli::carry_out::Crew;
use kubepki::cli::change::ChangeArgs;
use kubepki::cli::rolling::{Resumed, Rolling};
use kubepki::cli::session::Session;
use kubepki::cli::target::{Target, TargetArgs};
use kubepki::error::{ExitCode, exit_code, hints};
use kubepki::node::Node;
use kubepki::observe::{self, Keys, Wanted};
use kubepki::pki::profile::Profile;
use kubepki::pki::spec::{NodeValues, Overrides, Spec};
use kubepki::plan::blueprint::Blueprint;
use kubepki::plan::create::{COMMAND, Place, Request, create as planned};
use kubepki::plan::operation::ProvisioningState;
use kubepki::report::{Format, Ui, Verbosity};
use kubepki::snapshot::Snapshot;

use crate::support::cluster::NOW;
use crate::support::mortal::{Fate, cluster};
use crate::support::root::TestRoot;
use crate::support::tree::{Entry, Tree};
use crate::support::world::{STATE, look};

const NAMES: [&str; 3] = ["cp1", "cp2", "cp3"];

/// Something of every kind: shared and own, pairs and kubeconfigs. Enough where a run is repeated for each of its calls.
const SOME: [&str; 4] = ["ca", "apiserver", "sa", "admin.conf"];

/// How many files a control-plane node has afterwards: of everything, where the first one has a kubeconfig more, and of some.
const FILES: [[usize; 3]; 2] = [[26, 25, 25], [7, 7, 7]];

fn machines() -> Vec<TestRoot> {
    let empty = |name: &&str| {
        let root = TestRoot::named(name);
        root.folder("/etc/kubernetes/tmp", 0o700);
        root.put("/etc/kubernetes/note.txt", format!("{name}'s own"), 0o640);
        root
    };
    NAMES.iter().map(empty).collect()
}

fn spec() -> Spec {
    let quick = Overrides { key_algorithm: "ecdsa-p256".parse().ok(), ..Overrides::default() };
    Profile::Kubeadm.spec().with(quick).unwrap()
}

/// What is missing, seen by somebody to whom nothing happens.
fn plan(roots: &[TestRoot], only: &[&str]) -> Blueprint {
    let target = cluster(&NAMES, roots, &Fate::never());
    let look = |node: &dyn Node| observe::node(node, &Wanted::machine(Keys::PublicHalf));
    let nodes = target.nodes.iter().map(|one| look(&*one.node)).collect();
    let place = |(number, name): (usize, &&str)| Place {
        node: (*name).to_owned(),
        is_first: number == 0,
        values: NodeValues { name: (*name).to_owned(), address: format!("10.0.0.{number}").parse().unwrap() },
        pki_dir: PathBuf::from("/etc/kubernetes/pki"),
        kubernetes_dir: Some(PathBuf::from("/etc/kubernetes")),
        illegible: HashMap::new(),
    };
    let request = Request {
        spec: &spec(),
        snapshot: &Snapshot { taken_at: NOW, nodes },
        nodes: &NAMES.iter().enumerate().map(place).collect::<Vec<_>>(),
        now: NOW,
        only: &only.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
        force: false,
        csr_only: false,
        command_line: "kubepki create-certs",
    };
    planned(&request).unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

/// A run of its own on the machines.
fn with_crew<T>(roots: &[TestRoot], fate: &Fate, work: impl FnOnce(&Crew<'_>) -> T) -> T {
    let session = Session::start(Ui::new(Format::None, None, Verbosity::OnlyErrors, false));
    let (target, args): (Target, _) = (cluster(&NAMES, roots, fate), TargetArgs::default());
    work(&Crew::new(&session, &target, &args, COMMAND).rolling(Rolling::of_files(), vec!["asked".to_owned()]))
}

fn create(roots: &[TestRoot], only: &[&str], fate: &Fate) -> anyhow::Result<()> {
    let blueprint = plan(roots, only);
    let agreed = ChangeArgs { yes: true, ..ChangeArgs::default() };
    let operation = with_crew(roots, fate, |crew| crew.carry_out(&agreed, &blueprint, "?"))?.unwrap();
    assert_eq!(operation.provisioning_state, ProvisioningState::Succeeded);
    Ok(())
}

fn trees(roots: &[TestRoot]) -> Vec<Tree> {
    roots.iter().map(look).collect()
}

/// The names of the files that a machine has of the PKI.
fn made(tree: &Tree) -> Vec<&Path> {
    let files = tree.iter().filter(|(_, entry)| matches!(entry, Entry::File { .. })).map(|(path, _)| path.as_path());
    files.filter(|path| !path.ends_with("note.txt")).collect()
}

/// Whole on every machine, with one set of authorities for all and leaves for each.
#[track_caller]
fn assert_whole(roots: &[TestRoot], only: &[&str], story: &str) {
    assert!(plan(roots, only).is_empty(), "{story}: something is missing");
    let trees = trees(roots);
    assert_eq!(
        trees.iter().map(|tree| made(tree).len()).collect::<Vec<_>>(),
        FILES[usize::from(!only.is_empty())],
        "{story}"
    );
    for path in made(&trees[1]) {
        let is_shared = ["ca", "front-proxy-ca", "sa"].iter().any(|stem| path.file_stem().unwrap() == *stem);
        for other in [&trees[0], &trees[2]] {
            assert_eq!(trees[1][path] == other[path], is_shared, "{story}: {}", path.display());
        }
    }
}

/// No operation that has not ended, and no new files that wait.
#[track_caller]
fn assert_tidy(roots: &[TestRoot], story: &str) {
    assert!(with_crew(roots, &Fate::never(), |crew| crew.unfinished()).unwrap().is_none(), "{story}");
    for root in roots {
        let folders = std::fs::read_dir(root.at(STATE)).into_iter().flatten().filter_map(Result::ok);
        assert!(folders.into_iter().all(|folder| !folder.path().join("stage").exists()), "{story}");
    }
}

/// Goes on until the whole is there, as an operator would who does what he is told. A run that had done everything but tidy
/// up leaves that to the next one.
fn go_on(roots: &[TestRoot], story: &str) {
    match with_crew(roots, &Fate::never(), |crew| crew.resume()).unwrap_or_else(|error| panic!("{story}: {error:#}")) {
        Resumed::Finished(operation) => {
            assert_eq!(operation.provisioning_state, ProvisioningState::Succeeded, "{story}")
        }
        // Nothing had changed: the words ask for all of it again.
        Resumed::NotBegun(words) => {
            assert_eq!(words, ["asked"], "{story}");
            create(roots, &SOME, &Fate::never()).unwrap();
        }
        Resumed::Nothing if plan(roots, &SOME).is_empty() => return,
        Resumed::Nothing => create(roots, &SOME, &Fate::never()).unwrap(),
    }
    assert_tidy(roots, story);
}

#[test]
fn three_machines_share_the_authorities_and_a_second_run_finds_nothing_to_do() {
    let roots = machines();
    create(&roots, &[], &Fate::never()).unwrap();
    assert_whole(&roots, &[], "at once");
    assert_tidy(&roots, "at once");
    let before = trees(&roots);
    create(&roots, &[], &Fate::never()).unwrap();
    assert_eq!(trees(&roots), before);
}

#[test]
fn no_file_changes_before_everything_lies_ready_on_all_machines() {
    let (roots, fate) = (machines(), Fate::never());
    let empty = trees(&roots);
    create(&roots, &[], &fate).unwrap();
    let first = fate.log.lock().unwrap().clone();
    let nodes: Vec<&str> = first.iter().map(|(node, _)| node.as_str()).collect();
    assert!(nodes.is_sorted() && nodes.len() == FILES[0].iter().sum::<usize>(), "one machine after another: {nodes:?}");
    // Where the last machine has no room for its part, the others get nothing either.
    let roots = machines();
    std::fs::write(roots[2].at("/etc/kubernetes/pki"), "a file where a folder should be").unwrap();
    let before = trees(&roots);
    let answer = with_crew(&roots, &Fate::never(), |crew| {
        crew.carry_out(&ChangeArgs { yes: true, ..ChangeArgs::default() }, &plan(&machines(), &[]), "?")
    });
    assert_eq!(exit_code(&answer.unwrap_err()), ExitCode::Failed);
    assert_eq!((trees(&roots), before != empty), (before, true));
    assert_tidy(&roots, "refused");
}

#[test]
fn stopped_at_any_call_going_on_makes_the_whole_and_going_back_leaves_nothing() {
    for happens in [false, true] {
        let mut stories = [0; 3];
        'calls: for at in 0.. {
            for back in [false, true] {
                let (roots, fate) = (machines(), Fate::new(at, happens));
                let before = trees(&roots);
                let answer = create(&roots, &SOME, &fate);
                if !fate.has_struck() {
                    break 'calls;
                }
                let story = format!("call {at} ({happens}), then {}", if back { "back" } else { "on" });
                if let Err(error) = &answer
                    && exit_code(error) == ExitCode::Partial
                {
                    let hint = hints(error).join(" ");
                    assert!(hint.contains("--continue") && hint.contains("--abort"), "{story}: {error:#}: {hint}");
                }
                if !back {
                    go_on(&roots, &story);
                    assert_whole(&roots, &SOME, &story);
                    stories[0] += 1;
                    continue;
                }
                match with_crew(&roots, &Fate::never(), |crew| crew.abort(false)) {
                    Ok(Some(_)) => {
                        assert_eq!(trees(&roots), before, "{story}");
                        stories[1] += 1;
                    }
                    // It had not begun, or it had ended: all of it or nothing.
                    Ok(None) if trees(&roots) == before => stories[2] += 1,
                    Ok(None) => assert_whole(&roots, &SOME, &story),
                    Err(error) => {
                        assert_eq!(exit_code(&error), ExitCode::Failed, "{story}: {error:#}");
                        assert_whole(&roots, &SOME, &story);
                    }
                }
            }
        }
        assert!(stories.iter().all(|count| *count > 20), "too few of a kind: {stories:?}");
    }
}

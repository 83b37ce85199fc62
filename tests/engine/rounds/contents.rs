//! What a journal in rounds says of its files at any time, what its backup is, and which requests there cannot be.

use std::process::Command;

use kubepki::apply::change::{Change, ChangeKind, Expected, Request};
use kubepki::apply::copies::At;
use kubepki::plan::operation::FileAction;
use kubepki::plan::phase::{Phase, Step};

use super::world::{API_SERVER, BUNDLE, CONTROLLER, CURRENT, DATED, ROUNDS, SERVING, SIGNING, before, request};
use crate::support::process::succeed;
use crate::support::root::TestRoot;
use crate::support::tree::picture;
use crate::support::world::{ID, STATE, look, operation, quiet, report, transactions};

/// A control plane on which everything is staged.
fn staged() -> TestRoot {
    let root = before().remove(0);
    transactions(&root.node, &quiet).stage(request("cp1", &operation(ID))).unwrap();
    root
}

#[test]
fn the_content_of_a_file_is_known_for_every_time() {
    let root = staged();
    let transactions = transactions(&root.node, &quiet);
    let journal = transactions.unfinished().unwrap().unwrap();
    let story = |path: &str| -> Vec<Option<String>> {
        let times = std::iter::once(At::Start).chain(ROUNDS.map(At::After));
        let content = |at| transactions.content(&journal, path, at).unwrap();
        times.map(|at| content(at).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())).collect()
    };
    let words = |words: [&str; 5]| words.map(|word| (!word.is_empty()).then(|| word.to_owned())).to_vec();
    assert_eq!(story(BUNDLE), words(["O", "ON", "ON", "NO", "N"]));
    assert_eq!(story(SIGNING), words(["", "old key", "old key", "new key", ""]));
    let api_server = ["api server", "api server, both", "api server, both", "api server, again", "api server, last"];
    assert_eq!(story(API_SERVER), words(api_server));
    let flags = "controllers with flags";
    assert_eq!(story(CONTROLLER), words(["controllers", flags, flags, flags, "controllers"]));
    let client = "new client of cp1";
    assert_eq!(story(DATED), words(["", "", client, client, client]));
    assert_eq!(story("/etc/kubernetes/pki/sa.pub"), words([""; 5]), "it does not change");

    let linked = transactions.content(&journal, CURRENT, At::After(Phase::Kubelets)).unwrap().unwrap();
    assert_eq!(*linked, client.as_bytes(), "a link leads to what the operation puts there");
    let error = transactions.content(&journal, CURRENT, At::Start).unwrap_err();
    assert!(format!("{error:#}").contains("symbolic link to"), "{error:#}");

    root.put(&format!("{STATE}/{ID}/stage/0008"), "rot", 0o600);
    let error = transactions.content(&journal, BUNDLE, At::After(Phase::IssueNew)).unwrap_err();
    assert!(format!("{error:#}").contains("0008 is missing or damaged"), "{error:#}");
    assert!(transactions.content(&journal, BUNDLE, At::Start).unwrap().is_some());
}

#[test]
fn the_backup_is_about_what_was_there_when_it_began() {
    let root = staged();
    let backup = root.at(format!("{STATE}/{ID}/backup"));
    let sums = std::fs::read_to_string(backup.join("SHA256SUMS")).unwrap();
    let copies: Vec<&str> = sums.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(copies, ["0001", "0003", "0004", "0010"], "bundle, controllers, API server, serving certificate");
    let script = std::fs::read_to_string(backup.join("restore.sh")).unwrap();
    for path in [BUNDLE, SIGNING, CONTROLLER, API_SERVER, DATED, CURRENT, SERVING] {
        assert_eq!(script.matches(path).count(), 1, "{path}: {script}");
    }
    let was = look(&root);
    for path in [BUNDLE, CONTROLLER] {
        root.put(path, "half-way", 0o644);
    }
    std::fs::remove_file(root.at(API_SERVER)).unwrap();
    succeed(Command::new("sh").arg(backup.join("restore.sh")).arg(root.at("/")));
    assert!(look(&root) == was);
}

fn refused(change: impl FnOnce(&mut Request)) -> String {
    let root = before().remove(0);
    let was = picture(&root.at("/"), &[]);
    let mut request = request("cp1", &operation(ID));
    change(&mut request);
    let error = transactions(&root.node, &quiet).stage(request).unwrap_err();
    assert!(picture(&root.at("/"), &[]) == was, "{error:#}");
    format!("{error:#}")
}

#[test]
fn requests_whose_steps_do_not_fit_are_refused() {
    assert!(refused(|request| request.changes.swap(0, 14)).contains("order of their steps"));
    assert!(refused(|request| request.steps.reverse()).contains("rounds of the request are not in order"));
    assert!(refused(|request| request.changes[14].step = 7).contains("a step that there is not"));
    assert!(refused(|request| drop(request.steps.pop())).contains("a step that there is not"));
    let twice = refused(|request| request.changes[14].report.path = BUNDLE.to_owned());
    assert!(twice.contains(&format!("{BUNDLE} is to change twice")), "{twice}");
    let through = refused(|request| request.changes[14].report.path = CURRENT.to_owned());
    assert!(through.contains("written through a link of this operation"), "{through}");
    let unexpected = refused(|request| request.changes[0].expected = Expected::Absent);
    assert!(unexpected.contains("no longer what the plan was made for"), "{unexpected}");
}

#[test]
fn several_steps_are_not_made_at_once() {
    let root = before().remove(0);
    let alone = transactions(&root.node, &quiet);
    let error = alone.run(request("cp1", &operation(ID))).unwrap_err();
    assert!(format!("{error:#}").contains("made in rounds"), "{error:#}");
    alone.stage(request("cp1", &operation(ID))).unwrap();
    let was = picture(&root.at("/"), &[]);
    for answer in [alone.resume(), alone.abort(false)] {
        assert!(format!("{:#}", answer.unwrap_err()).contains("in rounds over all nodes"));
    }
    assert!(picture(&root.at("/"), &[]) == was);
}

#[test]
fn a_link_that_is_written_through_and_goes_comes_back_on_the_way_back() {
    let root = before().remove(0);
    let was = look(&root);
    let gone = Change {
        report: report(SERVING, FileAction::Removed),
        kind: ChangeKind::Remove,
        step: 6,
        expected: Expected::Anything,
    };
    let mut request = request("cp1", &operation(ID));
    request.changes.push(gone);
    request.steps.iter_mut().for_each(|step| *step = Step { phase: step.phase.min(Phase::IssueNew), ..step.clone() });
    let transactions = transactions(&root.node, &quiet);
    transactions.stage(request).unwrap();
    for step in 0..7 {
        transactions.advance(step).unwrap();
        transactions.pass(step).unwrap();
    }
    assert!(!root.at(SERVING).is_symlink());
    assert!(transactions.advance(3).is_err() && transactions.retreat(3, false).is_err(), "steps have an order");
    for step in (0..7).rev() {
        transactions.retreat(step, false).unwrap();
        transactions.recover(step).unwrap();
    }
    assert!(look(&root) == was);
}

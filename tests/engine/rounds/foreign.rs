//! What somebody else does to the files of an operation in rounds, whichever step they belong to.

use kubepki::error::{ExitCode, exit_code, hints};

use super::stop;
use super::world::{
    API_SERVER, BUNDLE, CONTROLLER, CURRENT, DATED, Deed, Ends, Log, Outcome, SIGNING, before, carry_out, journals,
    operate, trees,
};
use crate::support::mortal::Fate;
use crate::support::root::TestRoot;
use crate::support::tree::{Tree, picture};
use crate::support::world::{ID, STATE};

/// Nodes on which the operation has stopped when the first of them has done so many steps; the next one may have begun.
fn stopped_at(step: usize) -> Vec<TestRoot> {
    for at in (0..).step_by(3) {
        let roots = before();
        stop(&roots, Deed::Run, at, true, &Log::default()).expect("a stop before the end");
        if journals(&roots)[0].as_ref().is_some_and(|journal| journal.done == step && journal.begun) {
            return roots;
        }
    }
    unreachable!()
}

/// Everything, kubepki's own folder as well.
fn whole(roots: &[TestRoot]) -> Vec<Tree> {
    roots.iter().map(|root| picture(&root.at("/"), &[])).collect()
}

#[test]
fn a_file_that_somebody_else_changes_stops_either_way_whatever_its_step() {
    // In step 1 of the first node its API server's manifest goes away; the bundle was written in step 0, the kubelet's
    // certificate comes in step 3.
    let cases: [(&str, &str, Option<&str>); 5] = [
        ("a file of an earlier step", BUNDLE, Some("O")),
        ("a file of the step under way", API_SERVER, Some("somebody's")),
        ("a file of a later step that is not there yet", DATED, Some("new client of cp1")),
        ("a file of a later step", "/srv/pki/apiserver.crt", Some("somebody's")),
        ("a file that came and will go", SIGNING, None),
    ];
    for (name, path, content) in cases {
        let roots = stopped_at(1);
        match content {
            // Mode and owner stay: a file with the old content counts as put back, whatever its mode.
            Some(content) => std::fs::write(roots[0].at(path), content).unwrap(),
            None => std::fs::remove_file(roots[0].at(path)).unwrap(),
        }
        let was = whole(&roots);
        for deed in [Deed::Continue, Deed::Abort] {
            let error = carry_out(&roots, deed, &Fate::never(), &Log::default()).unwrap_err();
            assert_eq!(exit_code(&error), ExitCode::Partial, "{name}: {error:#}");
            assert!(format!("{error:#}").contains("was changed by somebody else"), "{name}: {error:#}");
            assert!(hints(&error).join(" ").contains("run the command again"), "{name}: {:?}", hints(&error));
            assert!(whole(&roots) == was, "{name}, {deed:?}");
        }
        let operation = operate(&roots, Deed::Abort, &Fate::never(), &Log::default(), true).unwrap();
        assert!(operation.operation().is_some(), "{name}");
        assert!(trees(&roots) == trees(&before()), "{name}: forced, everything is as it was");
    }
}

#[test]
fn putting_back_what_the_hint_says_opens_both_ways_again() {
    let ends = Ends::new();
    for deed in [Deed::Continue, Deed::Abort] {
        let roots = stopped_at(1);
        roots[0].put(CONTROLLER, "somebody's", 0o600);
        let error = carry_out(&roots, deed, &Fate::never(), &Log::default()).unwrap_err();
        let hint = hints(&error).join(" ");
        let copy = hint.split_whitespace().find(|word| word.contains("/stage/")).expect("a place in the stage");
        let content = roots[0].content(copy.trim_end_matches([':', ',']));
        assert_eq!(content, b"controllers with flags", "{hint}");
        roots[0].put(CONTROLLER, content, 0o600);
        let outcome = carry_out(&roots, deed, &Fate::never(), &Log::default()).unwrap();
        let (wanted, tree) = match deed {
            Deed::Continue => (Outcome::Succeeded, &ends.after),
            _ => (Outcome::Canceled, &ends.before),
        };
        assert_eq!(outcome, wanted);
        assert!(trees(&roots) == *tree);
    }
}

#[test]
fn a_damaged_copy_is_told_by_the_way_that_needs_it_before_anything_changes() {
    // Going on from step 4 of the first node needs what steps 4 to 6 write, going back what steps 0 to 3 wrote.
    for (number, closed, open, word) in
        [("0012", Deed::Continue, Deed::Abort, "--abort"), ("0001", Deed::Abort, Deed::Continue, "--continue")]
    {
        let roots = stopped_at(4);
        let folder = if closed == Deed::Abort { "backup" } else { "stage" };
        roots[0].put(&format!("{STATE}/{ID}/{folder}/{number}"), "rot", 0o600);
        let was = whole(&roots);
        let error = carry_out(&roots, closed, &Fate::never(), &Log::default()).unwrap_err();
        assert_eq!(exit_code(&error), ExitCode::Partial);
        assert!(format!("{error:#}").contains(&format!("{folder}/{number} is missing or damaged")), "{error:#}");
        assert!(hints(&error)[0].contains(word), "{:?}", hints(&error));
        assert!(whole(&roots) == was);
        carry_out(&roots, open, &Fate::never(), &Log::default()).unwrap();
    }
    // What an earlier step wrote is in the stage, and only the way back needs it.
    let roots = stopped_at(5);
    roots[0].put(&format!("{STATE}/{ID}/stage/0001"), "rot", 0o600);
    let error = carry_out(&roots, Deed::Abort, &Fate::never(), &Log::default()).unwrap_err();
    assert!(format!("{error:#}").contains("stage/0001 is missing or damaged"), "{error:#}");
    carry_out(&roots, Deed::Continue, &Fate::never(), &Log::default()).unwrap();
}

#[test]
fn a_kubelet_that_renews_its_certificate_on_the_way_stops_neither_way() {
    const LATER: &str = "/var/lib/kubelet/pki/kubelet-client-2026-03-01-00-00-00.pem";
    let renewed = || {
        let roots = stopped_at(4);
        roots[0].put(LATER, "the kubelet's own", 0o600);
        std::fs::remove_file(roots[0].at(CURRENT)).unwrap();
        roots[0].link(CURRENT, LATER);
        roots
    };
    let leads_to = |roots: &[TestRoot]| std::fs::read_link(roots[0].at(CURRENT)).unwrap();
    let roots = renewed();
    assert_eq!(carry_out(&roots, Deed::Continue, &Fate::never(), &Log::default()).unwrap(), Outcome::Succeeded);
    assert_eq!(leads_to(&roots), std::path::Path::new(LATER));
    // Stopped on the way back, too, before and after the link is put back.
    for at in (0..60).step_by(18) {
        let roots = renewed();
        let _ = carry_out(&roots, Deed::Abort, &Fate::new(at, true), &Log::default());
        if journals(&roots).iter().any(Option::is_some) {
            carry_out(&roots, Deed::Abort, &Fate::never(), &Log::default()).unwrap();
        }
        std::fs::remove_file(roots[0].at(LATER)).unwrap();
        assert!(trees(&roots) == trees(&before()), "{at}");
    }
}

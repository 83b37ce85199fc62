//! One operation in rounds over three nodes, whose files change several times on the way: stopped after every call to a
//! node, every proof and every moment between two rounds, it must be possible to go on and, while the old trust is still
//! there, to go back; and at no moment may a node rely on what another has not got.

mod contents;
mod foreign;
mod world;

use kubepki::error::{ExitCode, exit_code, hints};
use kubepki::plan::operation::NodeState;

use self::world::{
    API_SERVER, BUNDLE, CONTROLLER, CURRENT, DATED, Deed, Ends, Log, Outcome, SERVING, before, carry_out, check_rounds,
    is_clean, is_too_late, journals, operate, trees,
};
use crate::support::mortal::Fate;
use crate::support::tree::Entry;
use crate::support::world::look;

/// The moments of a whole run.
const MOMENTS: [&str; 8] = [
    "Before(TrustBoth)",
    "After(TrustBoth)",
    "Before(Kubelets)",
    "After(Kubelets)",
    "Before(IssueNew)",
    "After(IssueNew)",
    "Before(DropOld)",
    "After(DropOld)",
];

#[test]
fn a_whole_run_goes_round_by_round_and_each_step_is_proven_before_the_next() {
    let (roots, fate, log) = (before(), Fate::never(), Log::default());
    let operation = operate(&roots, Deed::Run, &fate, &log, false).unwrap().operation().unwrap();
    let story = log.lock().unwrap().clone();
    let both = |steps: &[usize]| -> Vec<String> {
        ["cp1", "cp2"].iter().flat_map(|name| steps.iter().map(move |step| format!("{name} {step}"))).collect()
    };
    let mut wanted = Vec::new();
    for (round, (ruling, worker)) in
        [(vec![0, 1, 2], None), (vec![3], Some(0)), (vec![4, 5], None), (vec![6], Some(1))].into_iter().enumerate()
    {
        wanted.push(MOMENTS[2 * round].to_owned());
        wanted.extend(both(&ruling));
        wanted.extend(worker.map(|step| format!("w1 {step}")));
        wanted.push(MOMENTS[2 * round + 1].to_owned());
    }
    assert_eq!(story, wanted);

    let names: Vec<&str> = operation.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(names, ["trust old and new", "kubelets", "issue from new", "drop old"]);
    assert!(operation.phases.iter().all(|phase| phase.started_at.is_some() && phase.ended_at.is_some()));
    assert!(operation.phases.windows(2).all(|two| two[0].ended_at <= two[1].started_at));
    assert!(operation.nodes.iter().all(|node| node.state == NodeState::Finished));

    let node = &roots[0];
    assert_eq!((node.content(BUNDLE), node.content(API_SERVER)), (b"N".to_vec(), b"api server, last".to_vec()));
    assert_eq!((node.mode(BUNDLE), node.mode(API_SERVER)), (0o644, 0o604), "a file that comes back is what it was");
    if rustix::process::geteuid().is_root() {
        let Entry::File { owner, .. } = &look(node)[std::path::Path::new(&API_SERVER[1..])] else { panic!() };
        assert_eq!(*owner, (4711, 4712));
    }
    assert_eq!(node.content("/srv/pki/apiserver.crt"), b"new certificate");
    assert!(node.at(SERVING).is_symlink() && node.mode("/srv/pki/apiserver.crt") == 0o640, "a link is written through");
    assert_eq!(std::fs::read_link(node.at(CURRENT)).unwrap(), std::path::Path::new(DATED));
    assert!(!node.at("/etc/kubernetes/pki/kubepki").exists(), "folders made for the rounds go with their files");
    assert_eq!(node.content(CONTROLLER), b"controllers");
    assert!(is_clean(&roots));
}

#[test]
fn restarts_are_those_of_each_step_and_come_after_its_files() {
    let (roots, fate) = (before(), Fate::never());
    carry_out(&roots, Deed::Run, &fate, &Log::default()).unwrap();
    let log = fate.log.lock().unwrap().clone();
    let of = |name: &str| -> Vec<String> {
        log.iter().filter(|(node, _)| node == name).map(|(_, what)| what.clone()).collect()
    };
    let restart = "restart the kubelet";
    assert_eq!(of("w1"), [BUNDLE, DATED, CURRENT, restart, BUNDLE, restart]);
    assert_eq!(of("cp1").iter().filter(|what| *what == restart).count(), 2);
    let first_restart = of("cp1").iter().position(|what| what == restart).unwrap();
    assert_eq!(of("cp1")[first_restart - 1], CURRENT);
}

/// Does `deed` until a call, then looks at the rounds. `None` when it needed no more calls than that.
fn stop(roots: &[crate::support::root::TestRoot], deed: Deed, at: usize, happens: bool, log: &Log) -> Option<()> {
    let fate = Fate::new(at, happens);
    let answer = carry_out(roots, deed, &fate, log);
    let story = format!("{deed:?} until {at} ({happens})");
    check_rounds(roots, &story);
    if let Err(error) = answer
        && exit_code(&error) == ExitCode::Partial
    {
        let hint = hints(&error).join(" ");
        assert!(hint.contains("--continue"), "{story}: {error:#}: {hint}");
        assert!(hint.contains("--abort") != is_too_late(roots) || hint.contains("no longer"), "{story}: {hint}");
    }
    fate.has_struck().then_some(())
}

/// Does the last deed of a story, and looks at everything.
fn end(ends: &Ends, roots: &[crate::support::root::TestRoot], deed: Deed, log: &Log, story: &str) -> Outcome {
    let noted = journals(roots);
    let refused = deed == Deed::Abort && is_too_late(roots) && noted.iter().all(Option::is_some);
    let was = trees(roots);
    let outcome = carry_out(roots, deed, &Fate::never(), log);
    check_rounds(roots, story);
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            assert!(deed == Deed::Abort && exit_code(&error) == ExitCode::Failed, "{story}: {error:#}");
            if refused {
                assert!(trees(roots) == was, "{story}: {error:#}");
                assert!(format!("{error:#}").contains("old trust is being dropped"), "{story}: {error:#}");
                assert!(hints(&error).join(" ").contains("--continue"), "{story}");
                let outcome = carry_out(roots, Deed::Continue, &Fate::never(), log);
                assert_eq!(outcome.unwrap(), Outcome::Succeeded, "{story}");
            }
            Outcome::Succeeded
        }
    };
    let now = trees(roots);
    match outcome {
        Outcome::Succeeded => assert!(now == ends.after, "{story}"),
        Outcome::Canceled | Outcome::NotBegun => assert!(now == ends.before, "{story}"),
        Outcome::Nothing => assert!(now == ends.before || now == ends.after, "{story}"),
    }
    assert!(journals(roots).iter().all(Option::is_none), "{story}");
    assert!(is_clean(roots) || outcome == Outcome::Nothing, "{story}");
    outcome
}

/// Every moment that opened was closed: a round that is over has been told so, one taken back as well.
fn check_moments(log: &Log, outcome: &Outcome, story: &str) {
    let log = log.lock().unwrap();
    let at = |moment: &str| log.iter().position(|told| told == moment);
    let last = |moment: &str| log.iter().rposition(|told| told == moment);
    match outcome {
        Outcome::Succeeded => {
            let places: Vec<usize> = MOMENTS.iter().map(|moment| at(moment).expect(moment)).collect();
            assert!(places.is_sorted(), "{story}: {log:?}");
        }
        Outcome::Canceled => {
            for round in ["TrustBoth", "Kubelets", "IssueNew", "DropOld"] {
                if let Some(begun) = last(&format!("Before({round})")) {
                    let taken = last(&format!("TakenBack({round})"));
                    assert!(taken.is_some_and(|taken| taken > begun), "{story}: {round}: {log:?}");
                }
            }
        }
        Outcome::Nothing | Outcome::NotBegun => {}
    }
}

/// Stops a run after every call, ends it with `deed`, and counts how the stories ended.
fn stop_everywhere(deed: Deed) -> [usize; 4] {
    let ends = Ends::new();
    let mut stories = [0; 4];
    for at in 0.. {
        let (roots, log) = (before(), Log::default());
        if stop(&roots, Deed::Run, at, at % 5 > 0, &log).is_none() {
            break;
        }
        let story = format!("run until {at}, then {deed:?}");
        let outcome = end(&ends, &roots, deed, &log, &story);
        check_moments(&log, &outcome, &story);
        stories[match outcome {
            Outcome::Succeeded => 0,
            Outcome::Canceled => 1,
            Outcome::NotBegun => 2,
            Outcome::Nothing => 3,
        }] += 1;
    }
    stories
}

#[test]
fn a_run_stopped_anywhere_can_be_finished() {
    let [finished, canceled, not_begun, _] = stop_everywhere(Deed::Continue);
    assert!(finished > 300 && not_begun > 10 && canceled == 0, "{finished} {canceled} {not_begun}");
}

#[test]
fn a_run_stopped_anywhere_can_be_taken_back_until_the_old_trust_is_dropped() {
    let [finished, canceled, _, _] = stop_everywhere(Deed::Abort);
    assert!(finished > 30 && canceled > 200, "{finished} {canceled}");
}

#[test]
fn a_stop_on_the_way_on_or_back_still_leaves_both_ways() {
    let ends = Ends::new();
    let (mut count, mut ways) = (0, [0; 2]);
    for at in (60..).step_by(37) {
        if stop(&before(), Deed::Run, at, true, &Log::default()).is_none() {
            break;
        }
        for second in [Deed::Continue, Deed::Abort] {
            for then in (11..).step_by(29) {
                let (roots, log) = (before(), Log::default());
                stop(&roots, Deed::Run, at, true, &log);
                if stop(&roots, second, then, then % 2 == 0, &log).is_none() {
                    break;
                }
                count += 1;
                let third = if (at + then) % 4 < 2 { Deed::Abort } else { Deed::Continue };
                let story = format!("run until {at}, {second:?} until {then}, {third:?}");
                let outcome = end(&ends, &roots, third, &log, &story);
                check_moments(&log, &outcome, &story);
                ways[usize::from(outcome == Outcome::Canceled)] += 1;
            }
        }
    }
    assert!(count > 50 && ways.iter().all(|count| *count > 10), "too few stops to mean anything: {count}, {ways:?}");
}

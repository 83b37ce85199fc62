//! One run at a time on a cluster, whoever starts the second one and from where.

use rustix::process::{Pid, Signal, kill_process};

use crate::machines::{Fleet, Moment, assert_all_leaves_are_new, mark, run};

#[test]
fn a_second_run_is_refused_and_told_who_is_at_work() {
    let Some(fleet) = Fleet::with_certificates("a_second_run_is_refused_and_told_who_is_at_work") else { return };
    for moment in [Moment::Staged(5), Moment::Changed(3), Moment::Changed(30)] {
        let (before, marked) = (fleet.look(), mark(&fleet));
        let mut first = fleet.begin(&["rotate-certs", "--only", "leaf", "--yes", "-o", "none"]);
        let pid = Pid::from_raw(i32::try_from(first.id()).unwrap()).unwrap();
        assert!(moment.wait(&fleet, &marked, &mut first), "{moment:?} did not come");
        kill_process(pid, Signal::STOP).unwrap();
        // What its commands on the nodes have begun may still come to its end.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let stopped = fleet.look();
        let stage = fleet.elsewhere();
        for words in [&["--only", "leaf", "--yes"][..], &["--continue"], &["--abort"]] {
            let second = run(&stage, &[&["rotate-certs"], words].concat());
            // Before the first journal is written there is nothing to continue or to take back.
            let finds_nothing = second.code == Some(0) && second.err.contains("no rotation is unfinished here");
            if !(finds_nothing && matches!(moment, Moment::Staged(_))) {
                assert_eq!(second.code, Some(1), "{moment:?}, {words:?}: {second:#?}");
                for part in
                    ["kubepki rotate-certs is already running here", "alice@", &format!("process {}", first.id())]
                {
                    assert!(second.err.contains(part), "{moment:?}, {words:?}: {part:?} is not in {second:#?}");
                }
            }
            assert_eq!(fleet.look(), stopped, "{moment:?}, {words:?}");
        }
        kill_process(pid, Signal::CONT).unwrap();
        let code = first.wait().unwrap().code();
        let words = std::fs::read_to_string(fleet.here.at("err")).unwrap();
        assert_eq!(code, Some(0), "{moment:?}: {words}");
        assert_all_leaves_are_new(&before, &fleet.look(), "the first run goes on");
    }
}

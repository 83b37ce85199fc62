//! `kill -9` at a system call, on a real process, and a disk that is full at the wrong moment.

use std::time::Duration;

use kubepki::apply::progress::Event;
use kubepki::error::{ExitCode, exit_code, hints};
use kubepki::node::local::LocalNode;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::probe;
use crate::support::root::TestRoot;
use crate::support::skip::{root_only, skipped};
use crate::support::tree::picture;
use crate::support::world::{ID, after, before, changes, look, quiet, request, transactions};

/// Not a test of its own: carries the operation out, or goes on, or goes back, as it is told.
#[test]
fn a_process_that_carries_an_operation_out() {
    let Some(words) = probe::words() else { return };
    let (deed, root) = words.split_once(' ').unwrap();
    let node = LocalNode::open("cp1", root).unwrap();
    let transactions = transactions(&node, &quiet);
    match deed {
        "run" => transactions.run(request(ID, changes())),
        "resume" => transactions.resume(),
        _ => transactions.abort(false),
    }
    .unwrap();
}

/// Does `deed` in a process of its own, which is killed when it enters a call for the `number`th time. Returns
/// whether it was.
fn killed(root: &TestRoot, deed: &str, call: &str, number: usize) -> bool {
    let injected = format!("inject={call}:signal=KILL:when={number}");
    let before = ["strace", "-f", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &injected];
    let words = format!("{deed} {}", root.at("/").display());
    let mut command = probe::process(&before, "kill::a_process_that_carries_an_operation_out", &words);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() || !text.contains("FAILED"), "{deed}: {text}");
    !output.status.success()
}

fn strace_works(test: &str) -> bool {
    let works = probe::installed("strace") && killed(&before(), "run", "renameat", 1);
    if !works {
        skipped(test, "strace is not installed, or may not trace here");
    }
    works
}

#[test]
fn killed_at_any_call_that_changes_something_both_ways_end_well() {
    if !strace_works("killed_at_any_call_that_changes_something_both_ways_end_well") {
        return;
    }
    let (old, new) = (look(&before()), after());
    // Calls to the disk are many and alike; which of them is hit moves with the step.
    for (call, step) in [("renameat", 2), ("unlinkat", 2), ("mkdirat", 1), ("fsync", 9), ("write", 7), ("fchmod", 5)] {
        let mut stories = (0, 0);
        for number in (1..).step_by(step) {
            let root = before();
            if !killed(&root, "run", call, number) {
                break;
            }
            let story = format!("killed at {call} {number}");
            let node = LocalNode::open("cp1", root.at("/")).unwrap();
            let transactions = transactions(&node, &quiet);
            if transactions.unfinished().unwrap().is_none() {
                stories.0 += 1;
                if look(&root) != new {
                    transactions.run(request("20260103T030405Z-0000000b", changes())).unwrap();
                }
                assert_eq!(look(&root), new, "{story}");
                continue;
            }
            stories.1 += 1;
            // A kill on the way back, or on, changes nothing about what is possible.
            let deed = if number % 2 == 0 { "resume" } else { "abort" };
            killed(&root, deed, "renameat", number % 5 + 1);
            if transactions.unfinished().unwrap().is_some() {
                if number % 3 == 0 { transactions.abort(false) } else { transactions.resume() }.unwrap();
            }
            let now = look(&root);
            assert!(now == old || now == new, "{story}, then {deed}: {now:#?}");
            assert_eq!(transactions.unfinished().unwrap(), None);
        }
        assert!(stories.0 > 0 && stories.1 > 0, "{call}: too few kills to mean anything: {stories:?}");
    }
}

#[test]
fn killed_anywhere_in_time_both_ways_end_well() {
    let new = after();
    for number in 0..12 {
        let root = before();
        let words = format!("run {}", root.at("/").display());
        let mut command = probe::process(&[], "kill::a_process_that_carries_an_operation_out", &words);
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(2500 + 700 * number));
        child.kill().unwrap();
        child.wait().unwrap();
        let transactions = transactions(&root.node, &quiet);
        if transactions.unfinished().unwrap().is_some() {
            transactions.resume().unwrap();
        } else if look(&root) != new {
            transactions.run(request("20260103T030405Z-0000000b", changes())).unwrap();
        }
        assert_eq!(look(&root), new, "killed after step {number}");
    }
}

#[test]
fn of_many_processes_at_once_one_does_it_and_the_others_change_nothing() {
    for _ in 0..5 {
        let root = before();
        let words = format!("run {}", root.at("/").display());
        let start = |_| {
            let mut command = probe::process(&[], "kill::a_process_that_carries_an_operation_out", &words);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        };
        let children: Vec<_> = (0..6).map(start).collect();
        let mut done = 0;
        for child in children {
            let output = child.wait_with_output().unwrap();
            done += u32::from(output.status.success());
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            let refused =
                text.contains("already running") || text.contains("just started") || text.contains("no longer");
            assert!(output.status.success() || refused, "{text}");
        }
        assert_eq!(done, 1);
        assert_eq!(look(&root), after());
        assert_eq!(transactions(&root.node, &quiet).unfinished().unwrap(), None);
    }
}

/// Runs `work` with the node's `/etc/kubernetes` on a file system of its own with that many bytes.
fn on_small_disk(test: &str, root: &TestRoot, size: usize, work: impl FnOnce()) {
    let at = root.at("/etc/kubernetes");
    let files = tempfile::tempdir().unwrap();
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let (from, to) = (from.join("."), to.to_owned());
        let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(status.success());
    };
    copy(&at, files.path());
    let options = std::ffi::CString::new(format!("size={size},mode=755")).unwrap();
    if let Err(errno) = mount("tmpfs", &at, "tmpfs", MountFlags::empty(), options.as_c_str()) {
        return skipped(test, &format!("cannot mount a tmpfs: {errno}"));
    }
    copy(files.path(), &at);
    let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    unmount(&at, UnmountFlags::DETACH).unwrap();
    if let Err(panic) = answer {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_disk_too_small_for_the_copies_changes_nothing() {
    const NAME: &str = "a_disk_too_small_for_the_copies_changes_nothing";
    if !root_only(NAME) {
        return;
    }
    let mut failures = 0;
    // From nearly no room to enough: it runs short while rehearsing, staging, saving, writing the journal.
    for pages in 14..90 {
        let root = before();
        on_small_disk(NAME, &root, pages * 4096, || {
            let old = picture(&root.at("/"), &[]);
            match transactions(&root.node, &quiet).run(request(ID, changes())) {
                Ok(_) => {}
                Err(error) => {
                    failures += 1;
                    assert_eq!(exit_code(&error), ExitCode::Failed, "{pages} pages: {error:#}");
                    assert!(format!("{error:#}").contains("no space left on device"), "{error:#}");
                    assert_eq!(picture(&root.at("/"), &[]), old, "{pages} pages");
                }
            }
        });
    }
    assert!(failures > 20, "the disk was never full");
}

#[test]
fn a_disk_that_fills_up_in_the_middle_loses_nothing() {
    const NAME: &str = "a_disk_that_fills_up_in_the_middle_loses_nothing";
    if !root_only(NAME) {
        return;
    }
    let (old, new) = (look(&before()), after());
    for back in [false, true] {
        let root = before();
        on_small_disk(NAME, &root, 1024 * 1024, || {
            let filler = root.at("/etc/kubernetes/filler");
            let fill = |event: Event<'_>| {
                if matches!(event, Event::Changed { number: 3, .. }) {
                    // Ends with an error when nothing more fits.
                    let _ = std::fs::write(&filler, vec![1; 2 * 1024 * 1024]);
                }
            };
            let error = transactions(&root.node, &fill).run(request(ID, changes())).unwrap_err();
            assert_eq!(exit_code(&error), ExitCode::Partial, "{error:#}");
            assert!(format!("{error:#}").contains("no space left on device"), "{error:#}");
            let hints = hints(&error).join("; ");
            assert!(hints.contains("--continue") && hints.contains("free some space"), "{hints}");
            let transactions = transactions(&root.node, &quiet);
            assert!(transactions.resume().is_err(), "still full");
            assert!(transactions.unfinished().unwrap().is_some());
            std::fs::remove_file(&filler).unwrap();
            if back { transactions.abort(false) } else { transactions.resume() }.unwrap();
            assert_eq!(look(&root), if back { old.clone() } else { new.clone() });
        });
    }
}

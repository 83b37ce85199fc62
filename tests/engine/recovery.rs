//! Going on and going back when somebody else was at work, when copies or the journal are damaged, or when there is
//! nothing to go on with.

use std::path::Path;
use std::sync::Mutex;

use kubepki::apply::journal::Journal;
use kubepki::apply::progress::Event;
use kubepki::error::{ExitCode, exit_code, hints};
use kubepki::plan::operation::ProvisioningState;
use proptest::prelude::*;

use crate::support::crashing::{Crash, Crashing};
use crate::support::root::TestRoot;
use crate::support::skip::root_only;
use crate::support::tree::{Entry, picture};
use crate::support::world::{ID, STATE, after, before, changes, look, quiet, request, transactions};

fn journal_path() -> String {
    format!("{STATE}/{ID}/journal.json")
}

/// A node on which the operation stopped with about half of its files changed.
fn half_way() -> TestRoot {
    for at in 0.. {
        let root = before();
        let node = Crashing::new(&root.node, Crash::Before, at);
        drop(transactions(&node, &quiet).run(request(ID, changes())));
        assert!(node.is_gone(), "never half-way");
        let changed = look(&root).into_iter().filter(|entry| !look_before().contains(entry)).count();
        if changed >= 8 {
            return root;
        }
    }
    unreachable!()
}

fn look_before() -> Vec<(std::path::PathBuf, Entry)> {
    thread_local!(static BEFORE: Vec<(std::path::PathBuf, Entry)> = look(&before()).into_iter().collect());
    BEFORE.with(Clone::clone)
}

#[test]
fn a_file_that_somebody_else_changed_stops_both_ways_before_they_change_anything() {
    // One that had changed already, one that had not, one that was not there, one that was to go, one behind a link.
    let files = ["ca.key", "it's old.crt", "apiserver.crt", "never-there.crt", "front-proxy.crt"];
    for name in files {
        let root = half_way();
        let path = format!("/etc/kubernetes/pki/{name}");
        std::fs::write(root.at(&path).canonicalize().unwrap_or(root.at(&path)), "somebody else's").ok();
        let real = if name == "front-proxy.crt" { "/srv/shared/front-proxy.crt".to_owned() } else { path.clone() };
        root.put(&real, "somebody else's", 0o640);
        let old = picture(&root.at("/"), &[]);
        let transactions = transactions(&root.node, &quiet);
        for answer in [transactions.resume(), transactions.abort(false)] {
            let error = answer.unwrap_err();
            assert_eq!(exit_code(&error), ExitCode::Partial, "{error:#}");
            let text = error.to_string();
            assert!(text.contains(&format!("cp1: {path} was changed by somebody else")), "{text}");
            assert!(hints(&error)[0].contains("put one of the two at"), "{:?}", hints(&error));
            assert_eq!(picture(&root.at("/"), &[]), old, "{name}");
        }
        transactions.abort(true).unwrap();
        assert_eq!(look(&root).into_iter().collect::<Vec<_>>(), look_before(), "{name}, forced");
    }
}

#[test]
fn a_mode_that_somebody_corrected_meanwhile_is_no_reason_to_stop() {
    let root = half_way();
    root.put("/etc/kubernetes/pki/ca.key", "new ca key", 0o400);
    transactions(&root.node, &quiet).resume().unwrap();
    assert_eq!(root.mode("/etc/kubernetes/pki/ca.key"), 0o400);
}

#[test]
fn a_damaged_copy_closes_one_way_and_leaves_the_other() {
    for (folder, closed_by) in [("stage", "--abort"), ("backup", "--continue")] {
        for damage in [Some("rot"), None] {
            let root = half_way();
            for entry in std::fs::read_dir(root.at(format!("{STATE}/{ID}/{folder}"))).unwrap() {
                let path = entry.unwrap().path();
                match damage {
                    Some(content) => std::fs::write(path, content).unwrap(),
                    None => std::fs::remove_file(path).unwrap(),
                }
            }
            let old = picture(&root.at("/"), &[]);
            let transactions = transactions(&root.node, &quiet);
            let resume_closed = folder == "stage";
            let closed = if resume_closed { transactions.resume() } else { transactions.abort(false) };
            let error = closed.unwrap_err();
            assert_eq!(exit_code(&error), ExitCode::Partial);
            assert!(error.to_string().contains("missing or damaged"), "{error:#}");
            assert!(hints(&error)[0].contains(closed_by), "{:?}", hints(&error));
            assert_eq!(picture(&root.at("/"), &[]), old);
            if resume_closed { transactions.abort(false) } else { transactions.resume() }.unwrap();
        }
    }
}

#[test]
fn a_journal_cut_off_anywhere_stops_everything_and_changes_nothing() {
    let root = half_way();
    let whole = root.content(&journal_path());
    let old = look(&root);
    let transactions = transactions(&root.node, &quiet);
    // The last byte is the end of the last line: nothing is lost with it.
    for length in 0..whole.len() - 1 {
        std::fs::write(root.at(journal_path()), &whole[..length]).unwrap();
        for answer in
            [transactions.unfinished().map(drop), transactions.resume().map(drop), transactions.abort(true).map(drop)]
        {
            let error = answer.unwrap_err();
            assert_eq!(exit_code(&error), ExitCode::Failed);
            let text = error.to_string();
            assert!(text.contains(&journal_path()) && text.contains("cannot be read"), "{length}: {text}");
            assert!(hints(&error)[0].contains("restore.sh"));
        }
        assert!(transactions.run(request("20260103T030405Z-0000000b", changes())).is_err());
        assert!(transactions.last().unwrap().is_none(), "nothing to show, and no reason to fail");
    }
    assert_eq!(look(&root), old);
    std::fs::write(root.at(journal_path()), whole).unwrap();
    transactions.resume().unwrap();
    assert_eq!(look(&root), after());
}

#[test]
fn a_journal_with_any_byte_changed_is_refused() {
    let root = half_way();
    let whole = root.content(&journal_path());
    assert!(Journal::parse(&whole).is_ok());
    for position in 0..whole.len() - 1 {
        for flip in [0x01, 0x20, 0x80] {
            let mut text = whole.clone();
            text[position] ^= flip;
            // White space around the closing brace is not covered, and means nothing.
            let harmless = text.trim_ascii_end() == whole.trim_ascii_end();
            assert!(Journal::parse(&text).is_err() || harmless, "byte {position} ^ {flip}");
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_reading_a_journal_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Journal::parse(&text).is_err());
    }
}

/// The journal of [`half_way`] with a change that its checksum covers.
fn rewritten(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let root = half_way();
    let mut value: serde_json::Value = serde_json::from_slice(&root.content(&journal_path())).unwrap();
    value.as_object_mut().unwrap().remove("checksum");
    change(&mut value);
    let body = format!("{},\n", serde_json::to_string_pretty(&value).unwrap().strip_suffix("\n}").unwrap());
    let checksum = kubepki::apply::change::sha256(body.as_bytes());
    format!("{body}  \"checksum\": \"{checksum}\"\n}}\n").into_bytes()
}

#[test]
fn a_later_version_may_add_to_the_story_but_not_to_what_has_to_be_done() {
    assert!(Journal::parse(&rewritten(|_| {})).is_ok());
    let story = rewritten(|journal| journal["roundOfThree"] = 2.into());
    assert!(Journal::parse(&story).is_ok());
    for journal in [
        rewritten(|journal| journal["changes"][0]["onlyIf"] = "x".into()),
        rewritten(|journal| journal["changes"][0]["after"]["encrypted"] = true.into()),
        rewritten(|journal| journal["changes"][0]["after"]["state"] = "pipe".into()),
        rewritten(|journal| journal["changes"][0]["after"]["mode"] = "rwx".into()),
        rewritten(|journal| journal["directoryMode"] = "77777".into()),
    ] {
        assert!(Journal::parse(&journal).is_err());
    }
    let error = Journal::parse(&rewritten(|journal| journal["apiVersion"] = "kubepki.io/v2".into())).unwrap_err();
    assert!(error.to_string().contains("kubepki.io/v2"), "{error}");
}

#[test]
fn a_journal_that_somebody_else_could_have_written_is_not_acted_upon() {
    if !root_only("a_journal_that_somebody_else_could_have_written_is_not_acted_upon") {
        return;
    }
    let root = half_way();
    let old = look(&root);
    let transactions = transactions(&root.node, &quiet);
    root.give(&journal_path(), 4711);
    for answer in [transactions.resume(), transactions.abort(true)] {
        let error = answer.unwrap_err();
        assert!(error.to_string().contains("it belongs to user 4711"), "{error:#}");
    }
    root.give(&journal_path(), 0);
    let content = root.content(&journal_path());
    root.put(&journal_path(), content, 0o622);
    let error = transactions.resume().unwrap_err();
    assert!(error.to_string().contains("others may write it"), "{error:#}");
    assert_eq!(look(&root), old);
}

#[test]
fn without_an_unfinished_operation_there_is_nothing_to_go_on_with_and_nothing_is_made() {
    let root = before();
    let old = picture(&root.at("/"), &[]);
    let transactions = transactions(&root.node, &quiet);
    for answer in [transactions.resume(), transactions.abort(false)] {
        let error = answer.unwrap_err();
        assert_eq!(exit_code(&error), ExitCode::Failed);
        assert!(error.to_string().contains("no operation is unfinished"), "{error}");
    }
    assert!(transactions.unfinished().unwrap().is_none());
    assert!(transactions.last().unwrap().is_none());
    assert_eq!(picture(&root.at("/"), &[]), old);
    transactions.run(request(ID, changes())).unwrap();
    assert!(transactions.resume().is_err(), "a finished operation is not taken up again");
    assert!(transactions.abort(true).is_err());
    assert_eq!(look(&root), after());
}

#[test]
fn temporary_files_of_the_interrupted_run_are_cleared_away() {
    for way in ["resume", "abort", "run"] {
        let root = if way == "run" { before() } else { half_way() };
        let temporary = "/etc/kubernetes/pki/.kubepki-00000000deadbeef.tmp";
        let behind_link = "/srv/shared/.kubepki-00000000deadbeef.tmp";
        root.put(temporary, "half a key", 0o600);
        root.put(behind_link, "half a certificate", 0o600);
        let transactions = transactions(&root.node, &quiet);
        match way {
            "resume" => transactions.resume(),
            "abort" => transactions.abort(false),
            _ => transactions.run(request(ID, changes())),
        }
        .unwrap();
        assert!(!root.at(temporary).exists(), "{way}");
        assert!(!root.at(behind_link).exists(), "{way}");
    }
}

#[test]
fn files_go_back_in_reverse_order() {
    let root = half_way();
    let restored = Mutex::new(Vec::new());
    let listen = |event: Event<'_>| {
        if let Event::Restored { number, .. } = event {
            restored.lock().unwrap().push(number);
        }
    };
    transactions(&root.node, &listen).abort(false).unwrap();
    assert_eq!(restored.into_inner().unwrap(), (1..=changes().len()).rev().collect::<Vec<_>>());
}

#[test]
fn the_last_operation_can_be_shown_in_every_state() {
    let root = half_way();
    let transactions = transactions(&root.node, &quiet);
    let state = |expected: ProvisioningState| {
        let last = transactions.last().unwrap().unwrap();
        assert_eq!((last.id.as_str(), last.provisioning_state), (ID, expected));
        assert_eq!(last.nodes[0].files.len(), changes().len());
    };
    state(ProvisioningState::CertificateRotating);
    transactions.abort(false).unwrap();
    state(ProvisioningState::Canceled);
    assert!(!root.at(Path::new(STATE).join(ID).join("stage")).exists());
}

//! Stopped anywhere, a run ends well: going on completes the PKI, going back leaves what was there before.

use std::path::PathBuf;

use kubepki::apply::{change, mint, requests};
use kubepki::node::Node;
use kubepki::observe::{self, Keys, Wanted};
use kubepki::pki::profile::Profile;
use kubepki::pki::spec::{NodeValues, Overrides, Spec};
use kubepki::plan::blueprint::Blueprint;
use kubepki::plan::create::{self, Place, Request};
use kubepki::snapshot::Snapshot;

use crate::existing::QUICK;
use crate::support::binary::{Stage, killed};
use crate::support::cluster::NOW;
use crate::support::crashing::{Crash, Crashing};
use crate::support::probe::installed;
use crate::support::root::TestRoot;
use crate::support::skip::skipped;
use crate::support::tree::picture;
use crate::support::world::{look, quiet, transactions};

fn spec() -> Spec {
    let quick = Overrides { key_algorithm: "ecdsa-p256".parse().ok(), ..Overrides::default() };
    Profile::Kubeadm.spec().with(quick).unwrap()
}

/// What is missing on a node.
fn plan(root: &TestRoot, spec: &Spec) -> Blueprint {
    let snapshot =
        Snapshot { taken_at: NOW, nodes: vec![observe::node(&root.node, &Wanted::machine(Keys::PublicHalf))] };
    let place = Place {
        node: root.node.name().to_owned(),
        is_first: true,
        values: NodeValues { name: "cp1".into(), address: "10.0.0.5".parse().unwrap() },
        pki_dir: PathBuf::from("/etc/kubernetes/pki"),
        kubernetes_dir: Some(PathBuf::from("/etc/kubernetes")),
        illegible: std::collections::HashMap::new(),
    };
    let request = Request {
        spec,
        snapshot: &snapshot,
        nodes: &[place],
        now: NOW,
        only: &[],
        force: true,
        csr_only: false,
        command_line: "kubepki create-certs",
    };
    create::create(&request).unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

/// Makes what is missing on a node that crashes at call `at`; `None` when it needed no more calls than that.
fn run(root: &TestRoot, spec: &Spec, how: Crash, at: usize) -> Option<bool> {
    let blueprint = plan(root, spec);
    let operation = blueprint.operation(&change::operation_id(NOW).unwrap());
    let whole: &dyn Node = &root.node;
    let read = |source: &_| kubepki::apply::existing::key(&[whole], source);
    let minted = mint::mint(&blueprint, &read, &|_| {}).unwrap();
    let node = Crashing::new(whole, how, at);
    let crashing: &dyn Node = &node;
    let mut is_done = true;
    for (node, request) in requests::requests(&blueprint, &operation, &[crashing], &minted).unwrap() {
        is_done &= transactions(node, &quiet).run(request).is_ok();
    }
    node.is_gone().then_some(is_done)
}

/// A node on which some of everything is there: pairs that are to be replaced, files that are missing, files that stay.
fn half_made(spec: &Spec) -> TestRoot {
    let root = TestRoot::in_memory();
    assert_eq!(run(&root, spec, Crash::Before, usize::MAX), None);
    let swapped = root.content("/etc/kubernetes/pki/etcd/server.key");
    root.put("/etc/kubernetes/pki/etcd/peer.key", swapped, 0o640);
    root.put("/etc/kubernetes/admin.conf", "{}", 0o644);
    for path in ["pki/apiserver.key", "pki/apiserver.crt", "pki/sa.pub", "scheduler.conf"] {
        std::fs::remove_file(root.at(format!("/etc/kubernetes/{path}"))).unwrap();
    }
    root
}

#[test]
fn after_a_crash_at_any_call_going_on_completes_and_going_back_restores() {
    let spec = spec();
    for how in [Crash::Before, Crash::After] {
        let mut stories = 0;
        for at in 0.. {
            let story = format!("{how:?} {at}");
            let root = half_made(&spec);
            let before = look(&root);
            let Some(is_done) = run(&root, &spec, how, at) else { break };
            let unfinished = transactions(&root.node, &quiet).unfinished().unwrap().is_some();
            if unfinished {
                stories += 1;
                if at % 2 == 0 {
                    transactions(&root.node, &quiet).resume().unwrap();
                    assert!(plan(&root, &spec).is_empty(), "{story}");
                } else {
                    transactions(&root.node, &quiet).abort(false).unwrap();
                    assert_eq!(look(&root), before, "{story}");
                }
            } else if !is_done && look(&root) != before {
                // The crash came when everything was done already.
                assert!(plan(&root, &spec).is_empty(), "{story}");
            }
            // Whatever happened, the next run has the last word.
            run(&root, &spec, Crash::Before, usize::MAX);
            assert!(plan(&root, &spec).is_empty(), "{story}");
        }
        assert!(stories > 8, "too few crashes to mean anything: {stories}");
    }
}

#[test]
fn killed_at_any_rename_the_next_run_finishes_and_abort_goes_back() {
    let test = "killed_at_any_rename_the_next_run_finishes_and_abort_goes_back";
    if !installed("strace") {
        return skipped(test, "strace is not installed");
    }
    let words = [&["create-certs", "--pki-dir", "pki", "--yes"][..], &QUICK].concat();
    let mut stories = 0;
    for number in (1..).step_by(4) {
        let stage = Stage::new();
        std::fs::create_dir(stage.at("pki")).unwrap();
        stage.put("pki/note.txt", "not ours");
        let before = picture(&stage.at("pki"), &[".kubepki"]);
        if !killed(&stage, "renameat,renameat2,rename", number, &words) {
            break;
        }
        let has_begun = stage.run(&[&words[..], &["--what-if"]].concat());
        if has_begun.code == Some(6) {
            stories += 1;
            assert!(has_begun.err.contains("--continue") && has_begun.err.contains("--abort"), "{has_begun:?}");
            if number % 8 == 1 {
                stage.run(&["create-certs", "--pki-dir", "pki", "--abort"]).expect(0);
                assert_eq!(picture(&stage.at("pki"), &[".kubepki"]), before, "{number}");
            } else if number % 3 == 0 {
                stage.run(&["create-certs", "--pki-dir", "pki", "--continue"]).expect(0);
            }
        }
        stage.run(&words).expect(0);
        let run = stage.run(&words).expect(0);
        assert!(run.out.contains("nothing to change"), "{number}: {run:?}");
    }
    assert!(stories > 3, "too few kills to mean anything: {stories}");
}

//! `rotate-certs` as it is typed: plans, questions, exit codes, results, and what happens when it is killed.

use std::path::PathBuf;
use std::time::Duration;

use kubepki::node::local::LocalNode;

use crate::support::binary::{Run, Stage};
use crate::support::made::{MACHINE, Made};
use crate::support::rotation::prove;
use crate::support::tree::{Tree, picture};

const QUICK: [&str; 2] = ["--key-algorithm", "ecdsa-p256"];

fn made(options: &[&str]) -> Made {
    Made::new(&[&MACHINE[..], &QUICK, options].concat())
}

fn rotate(made: &Made, words: &[&str]) -> Run {
    let root = made.stage.at("root");
    made.stage.run(&[&["rotate-certs", "--root", root.to_str().unwrap()], words].concat())
}

fn look(made: &Made) -> Tree {
    picture(&made.stage.at("root"), &["etc/kubernetes/tmp"])
}

/// The files of an operation object, as path, action and old serial number.
fn files(run: &Run) -> Vec<(String, String, Option<String>)> {
    let operation = run.json();
    let files = operation["nodes"][0]["files"].as_array().unwrap().clone();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    files
        .iter()
        .map(|file| (text(&file["path"]).unwrap(), text(&file["action"]).unwrap(), text(&file["oldSerialNumber"])))
        .collect()
}

#[test]
fn the_plan_that_is_shown_is_the_one_that_is_carried_out() {
    let made = made(&[]);
    let before = look(&made);
    for words in [&["-o", "json"][..], &["--only", "leaf", "-o", "json"], &["--only", "etcd-ca", "-o", "json"]] {
        let plan = rotate(&made, &[words, &["--what-if"]].concat()).expect(0);
        assert_eq!(plan.json()["provisioningState"], "Planned");
        assert!(plan.json()["startedAt"].is_null());
        assert_eq!(look(&made), before, "a plan changes nothing");
    }
    let plan = rotate(&made, &["--dry-run", "-o", "json"]).expect(0);
    let done = rotate(&made, &["--yes", "-o", "json"]).expect(0);
    assert_eq!(files(&plan), files(&done));
    let operation = done.json();
    assert_eq!((&operation["kind"], &operation["command"]), (&"Operation".into(), &"rotate-certs".into()));
    assert_eq!(operation["provisioningState"], "Succeeded");
    assert_eq!(operation["nodes"][0]["state"], "finished");
    for file in operation["nodes"][0]["files"].as_array().unwrap() {
        let is_certificate = !file["oldSerialNumber"].is_null();
        assert_eq!(is_certificate, !file["newSerialNumber"].is_null(), "{file}");
        assert!(file["oldSerialNumber"] != file["newSerialNumber"] || !is_certificate, "{file}");
        assert_eq!(is_certificate, !file["notAfter"].is_null(), "{file}");
    }
    let steps = operation["nextSteps"].to_string();
    assert!(steps.contains("get-credentials") && steps.contains("--overwrite-existing"), "{steps}");
    assert!(steps.contains("restart etcd, kube-apiserver"), "{steps}");
}

#[test]
fn without_a_terminal_nothing_happens_unasked() {
    let made = made(&[]);
    let before = look(&made);
    let run = rotate(&made, &[]).expect(1);
    assert!(run.err.contains("--yes") && run.out.is_empty(), "{run:?}");
    assert_eq!(look(&made), before);
}

#[test]
fn the_question_names_what_is_replaced_and_an_answer_decides() {
    let made = made(&[]);
    let before = look(&made);
    let root = made.stage.at("root").display().to_string();
    let words = ["rotate-certs", "--root", &root, "--only", "front-proxy-ca"];
    let run = made.stage.run_on_terminal(&words, &["n\n"], None);
    assert_eq!(run.code, Some(1), "{run:?}");
    for word in ["Replace the authority front-proxy-ca and 1 certificate", "4 files on 1 node", "with a backup"] {
        assert!(run.out.replace("\r\n", " ").contains(word), "{word}: {}", run.out);
    }
    assert_eq!(look(&made), before);
    assert_eq!(made.stage.run_on_terminal(&words, &["y\n"], None).code, Some(0));
    assert_ne!(look(&made), before);
}

#[test]
fn what_is_not_there_to_do_is_done_at_once() {
    let made = made(&[]);
    let before = picture(&made.stage.at("root"), &[]);
    for words in
        [&["--due"][..], &["--due", "80%"], &["--only", "leaf", "--due=1d", "--yes"], &["--continue"], &["--abort"]]
    {
        let run = rotate(&made, words).expect(0);
        assert!(!run.err.contains("error"), "{run:?}");
    }
    let run = rotate(&made, &["--due", "-o", "json"]).expect(0);
    assert_eq!(run.json()["provisioningState"], "Succeeded");
    assert!(files(&run).iter().all(|(_, action, _)| action == "unchanged"));
    assert!(rotate(&made, &["--abort"]).expect(0).err.contains("nothing to take back"));
    // Not even a folder of kubepki's own.
    assert_eq!(picture(&made.stage.at("root"), &[]), before);
}

#[test]
fn options_that_make_no_sense_are_refused_before_anything_is_read() {
    let stage = Stage::new();
    for (words, says) in [
        (&["--only", "sa", "--same-key"][..], "--same-key"),
        (&["--only", "sa", "--due"], "never due"),
        (&["--same-key", "--key-algorithm", "rsa-2048"], "cannot be used with"),
        (&["--add-san", "a.b", "--remove-san", "a.b"], "DNS:a.b is both"),
        (&["--add-san", "a b"], "a b"),
        (&["--due", "101%"], "share of a lifetime"),
        (&["--key-algorithm", "dsa"], "rsa-2048"),
        (&["--continue", "--abort"], "cannot be used with"),
        (&["--parallel", "0"], "--parallel"),
        (&["--spec", "x"], "--reconcile"),
        (&["--validity", "0d"], "--validity"),
        (&["--ca-validity", "0h"], "--ca-validity"),
    ] {
        let run = stage.run(&[&["rotate-certs", "--pki-dir", "/nowhere"], words].concat()).expect(2);
        assert!(run.err.contains(says), "{says}: {}", run.err);
    }
}

#[test]
fn a_place_without_certificates_is_not_found() {
    let stage = Stage::new();
    std::fs::create_dir_all(stage.at("empty")).unwrap();
    for words in [["--pki-dir", "empty"], ["--pki-dir", "nowhere"], ["--root", "empty"]] {
        let run = stage.run(&[&["rotate-certs", "--yes"], &words[..]].concat());
        assert!(matches!(run.code, Some(2 | 3)), "{run:?}");
        assert!(run.out.is_empty() && run.err.contains("hint"), "{run:?}");
    }
}

#[test]
fn unknown_names_end_with_3_and_the_nearest_name() {
    let made = made(&[]);
    let run = rotate(&made, &["--only", "apisever", "--yes"]).expect(3);
    assert!(run.err.contains("did you mean `apiserver`?") && run.err.contains("front-proxy-client"), "{}", run.err);
}

#[test]
fn a_node_of_a_larger_cluster_keeps_what_it_shares() {
    let made = made(&[]);
    let members = "cp1=https://127.0.0.1:2380,cp2=https://10.0.0.2:2380";
    let manifest = format!("spec:\n  containers:\n  - command:\n    - etcd\n    - --initial-cluster={members}\n");
    made.stage.put("root/etc/kubernetes/manifests/etcd.yaml", manifest);
    let before = look(&made);
    for words in [&[][..], &["--only", "ca"], &["--only", "sa"], &["--only", "front-proxy-ca"]] {
        for more in ["--yes", "--what-if"] {
            let run = rotate(&made, &[words, &[more]].concat()).expect(1);
            assert!(run.err.contains("--cluster-file") && run.err.contains("--only leaf"), "{}", run.err);
        }
    }
    assert_eq!(look(&made), before);
    rotate(&made, &["--only", "leaf", "--yes"]).expect(0);
    // A folder is no cluster, whatever lies beside it.
    let folder = made.pki("").display().to_string();
    made.stage.run(&["rotate-certs", "--pki-dir", &folder, "--only", "front-proxy-ca", "--yes"]).expect(0);
}

#[test]
fn etcds_data_that_cannot_be_followed_may_hide_other_nodes() {
    let made = made(&[]);
    let warning = "other nodes may exist that cannot be seen from here";
    let db = made.stage.put("root/var/lib/etcd/member/snap/db", "garbage");
    for reason in ["cannot be followed", "cannot be read"] {
        for (words, is_shared) in
            [(["--only", "front-proxy-ca"], true), (["--only", "sa"], true), (["--only", "leaf"], false)]
        {
            let run = rotate(&made, &[&words[..], &["--what-if"]].concat()).expect(0);
            assert_eq!(run.err.contains(warning), is_shared, "{words:?}: {}", run.err);
            assert!(!is_shared || run.err.contains(reason) && run.err.contains("--cluster-file"), "{}", run.err);
        }
        // More than is read of any file.
        std::fs::File::options().write(true).open(&db).unwrap().set_len(65 << 20).unwrap();
    }
}

#[test]
fn a_rotation_of_nothing_for_want_of_keys_fails() {
    let made = made(&[]);
    for name in ["ca", "etcd/ca", "front-proxy-ca"] {
        std::fs::remove_file(made.pki(&format!("{name}.key"))).unwrap();
    }
    let before = look(&made);
    for scope in ["ca", "leaf", "ca,leaf", "etcd-server"] {
        let run = rotate(&made, &["--only", scope, "--yes"]).expect(1);
        for word in ["managed elsewhere", "rotate-certs --csr-only", "--import-signed"] {
            assert!(run.err.contains(word), "{scope}: {word}: {}", run.err);
        }
    }
    assert_eq!(look(&made), before);
    // What the advice says can be done.
    made.create(&["--csr-only", "--only", "etcd-server", "--yes"], &[&MACHINE[..], &QUICK].concat()).expect(0);
}

#[test]
fn another_copy_of_the_old_files_is_made_before_anything_changes() {
    let made = made(&[]);
    let old = std::fs::read(made.pki("etcd/server.key")).unwrap();
    let run = rotate(&made, &["--only", "etcd-server", "--yes", "--backup-dir", "copies", "-o", "json"]).expect(0);
    let id = run.json()["id"].as_str().unwrap().to_owned();
    let folder = made.stage.at(&format!("copies/kubepki-{id}/local/etc/kubernetes/pki/etcd"));
    assert_eq!(std::fs::read(folder.join("server.key")).unwrap(), old);
    assert!(folder.join("server.crt").exists());
    let before = look(&made);
    made.stage.put("file", "");
    let run = rotate(&made, &["--only", "etcd-server", "--yes", "--backup-dir", "file/below"]).expect(1);
    assert!(run.err.contains("nothing has changed"), "{}", run.err);
    assert_eq!(look(&made), before);
}

#[test]
fn names_are_added_to_the_api_server_alone_unless_others_are_chosen() {
    let made = made(&[]);
    let run =
        rotate(&made, &["--add-san", "api.example.com,192.0.2.7", "--remove-san", "localhost", "--yes", "-o", "json"]);
    let run = run.expect(0);
    let paths: Vec<String> = files(&run).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(paths, ["/etc/kubernetes/pki/apiserver.key", "/etc/kubernetes/pki/apiserver.crt"]);
    let differences = &run.json()["nodes"][0]["files"][1]["differences"];
    assert_eq!(*differences, serde_json::json!(["+ DNS:api.example.com", "+ IP:192.0.2.7"]));
    let again = rotate(&made, &["--add-san", "api.example.com", "--yes", "-o", "json"]).expect(0);
    assert!(files(&again).iter().all(|(_, action, _)| action == "unchanged"), "names that are there: {again:?}");
    let more =
        rotate(&made, &["--add-san", "api.example.com", "--validity", "30d", "--what-if", "-o", "json"]).expect(0);
    assert_eq!(files(&more)[0].1, "replaced", "another length of life was asked for");
    let lost = rotate(&made, &["--only", "admin.conf", "--add-san", "api.example.com", "--yes"]).expect(2);
    assert!(lost.err.contains("`admin.conf` is no server's certificate"), "{}", lost.err);
    let table = rotate(&made, &["--only", "etcd-server", "--remove-san", "localhost", "--what-if"]).expect(0);
    assert!(table.out.contains("etcd-server: - DNS:localhost"), "{}", table.out);
}

#[test]
fn reconciling_brings_back_what_the_spec_says() {
    let made = made(&["--control-plane-endpoint", "api.example.com:6443", "--service-dns-domain", "example.local"]);
    let nothing = rotate(&made, &["--only", "leaf", "--reconcile", "--what-if", "-o", "json"]).expect(0);
    assert!(!nothing.out.contains("differences"), "what is as it should be has no difference: {}", nothing.out);
    rotate(&made, &["--add-san", "wrong.example.com", "--remove-san", "kubernetes", "--yes"]).expect(0);
    let run = rotate(&made, &["--only", "apiserver", "--reconcile", "--yes", "-o", "json"]).expect(0);
    let differences = run.json()["nodes"][0]["files"][1]["differences"].clone();
    assert_eq!(differences, serde_json::json!(["+ DNS:kubernetes", "- DNS:wrong.example.com"]));
    // A folder knows no machine, and these certificates name no address but the loopback.
    let folder = made.pki("").display().to_string();
    let words = ["rotate-certs", "--pki-dir", &folder, "--only", "etcd-server,etcd-peer", "--reconcile", "--what-if"];
    let run = made.stage.run(&words).expect(2);
    assert!(run.err.contains("name and address are not known") && run.err.contains("--spec"), "{}", run.err);
    let spec = made.stage.put(
        "spec.yaml",
        "{apiVersion: kubepki.io/v1, kind: CertificateSpec, profile: kubeadm, node: {name: cp9, address: 10.0.0.9}}",
    );
    let words = ["--only", "etcd-peer,admin.conf", "--reconcile", "--spec", spec.to_str().unwrap(), "--what-if"];
    let run = rotate(&made, &words).expect(0);
    assert!(run.out.contains("etcd-peer: subject CN=cp1 becomes CN=cp9"), "{}", run.out);
    assert!(run.out.contains("etcd-peer: + IP:10.0.0.9") && !run.out.contains("admin.conf: subject"), "{}", run.out);
}

/// How many operations have a journal.
fn journals(made: &Made) -> usize {
    let state = made.kubernetes("tmp/kubepki");
    let folders = std::fs::read_dir(state).into_iter().flatten().flatten();
    folders.filter(|folder| folder.path().join("journal.json").exists()).count()
}

#[test]
fn killed_at_any_moment_the_rotation_is_finished_or_taken_back() {
    let made = made(&[]);
    let root: PathBuf = made.stage.at("root");
    let mut unfinished = 0;
    for round in 0_u64..24 {
        // Old operations are tidied up at some point, and then a new journal would not be more than there were.
        drop(std::fs::remove_dir_all(made.kubernetes("tmp")));
        let before = look(&made);
        let words = ["rotate-certs", "--root", root.to_str().unwrap(), "--yes", "-o", "none"];
        let mut child = made.stage.command(&words).spawn().unwrap();
        if round.is_multiple_of(4) {
            // Before the first file changes, as a rule.
            std::thread::sleep(Duration::from_millis(round * 5));
        } else {
            // From the journal on files change.
            while journals(&made) == 0 && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(round % 4 * round));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let back = round.is_multiple_of(3);
        let run = rotate(&made, &[if back { "--abort" } else { "--continue" }]).expect(0);
        let was_unfinished = !run.err.contains("nothing to");
        unfinished += u32::from(was_unfinished);
        if back && was_unfinished {
            assert_eq!(look(&made), before, "round {round}");
        }
        prove(&LocalNode::open("local", &root).unwrap());
    }
    assert!(unfinished > 0, "none of the kills hit a rotation");
    rotate(&made, &["--yes", "-o", "none"]).expect(0);
    prove(&LocalNode::open("local", &root).unwrap());
}

#[test]
fn the_same_command_again_finishes_what_was_begun() {
    let made = made(&[]);
    let root: PathBuf = made.stage.at("root");
    for _ in 0..20 {
        let words = ["rotate-certs", "--root", root.to_str().unwrap(), "--yes", "-o", "none"];
        let known = journals(&made);
        let mut child = made.stage.command(&words).spawn().unwrap();
        while journals(&made) == known && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        if child.wait().unwrap().code().is_some() {
            continue;
        }
        let plan = rotate(&made, &["--what-if", "-o", "json"]).expect(0);
        if plan.json()["provisioningState"] != "CertificateRotating" {
            continue;
        }
        let id = plan.json()["id"].clone();
        let other = made.create(&["--yes"], &[]).expect(6);
        assert!(other.err.contains("rotate-certs --root") && other.err.contains("--abort"), "{}", other.err);
        rotate(&made, &[]).expect(1);
        let done = rotate(&made, &["--yes", "-o", "json"]).expect(0);
        assert_eq!((&done.json()["id"], &done.json()["provisioningState"]), (&id, &"Succeeded".into()));
        prove(&LocalNode::open("local", &root).unwrap());
        return;
    }
    panic!("none of twenty kills hit a rotation");
}

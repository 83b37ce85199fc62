//! `revoke --prepare` on the files of a control plane that does not run: what it changes, and kills.

use serde_json::Value;

use crate::support::binary::{Run, killed};
use crate::support::made::{MACHINE, Made};
use crate::support::manifests::{of_control_plane, path};
use crate::support::probe::installed;
use crate::support::skip::skipped;
use crate::support::tree::{Tree, picture};

const KUBEPKIS_OWN: [&str; 1] = ["etc/kubernetes/tmp"];

fn made() -> Made {
    let made = Made::new(&[&MACHINE[..], &["--key-algorithm", "ecdsa-p256"]].concat());
    for manifest in of_control_plane("cp1", "127.0.0.1") {
        made.stage.put(&format!("root{}", manifest.path.display()), manifest.text);
    }
    made
}

fn revoke(made: &Made, words: &[&str]) -> Run {
    made.stage.run(&[&["revoke", "--root", made.stage.at("root").to_str().unwrap()], words].concat())
}

fn look(made: &Made) -> Tree {
    picture(&made.stage.at("root"), &KUBEPKIS_OWN)
}

fn flags(made: &Made, component: &str) -> String {
    std::fs::read_to_string(made.stage.at(&format!("root{}", path(component)))).unwrap()
}

/// The states of the components that have one for each node.
fn states(result: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = result["components"].as_array().unwrap().iter().filter(|state| state["node"].is_string());
    all.map(|state| (text(&state["component"]), text(&state["state"]))).collect()
}

fn enforced(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), "enforced".to_owned())).collect()
}

#[test]
fn components_get_files_and_flags_once_and_then_nothing() {
    let made = made();
    let before = look(&made);
    revoke(&made, &["--prepare", "--what-if"]).expect(0);
    assert_eq!(look(&made), before, "--what-if changes nothing");
    let result = revoke(&made, &["--prepare", "--yes", "-o", "json"]).expect(0).json();
    assert_eq!(states(&result), enforced(&["kube-apiserver", "etcd"]), "{result:#}");
    assert!(
        flags(&made, "kube-apiserver")
            .contains("--authorization-config=/etc/kubernetes/pki/kubepki/authorization.yaml")
    );
    assert!(!flags(&made, "kube-apiserver").contains("--authorization-mode"));
    assert!(flags(&made, "etcd").contains("--client-crl-file=/etc/kubernetes/pki/etcd/kubepki/client.crl"));
    let after = look(&made);
    let again = revoke(&made, &["--prepare", "--yes", "-o", "json"]).expect(0).json();
    assert_eq!(again["nodes"][0]["files"], serde_json::json!([]));
    assert_eq!(look(&made), after, "a second time changes nothing");
}

#[test]
fn whoever_is_revoked_with_it_is_asked_about_even_when_nothing_is_left_to_prepare() {
    let made = made();
    revoke(&made, &["--prepare", "--yes"]).expect(0);
    // There is no terminal for the question.
    let run = revoke(&made, &["--prepare", "--group", "dev", "--not-before", "now"]).expect(1);
    assert!(run.err.contains("Revoke 0 certificates"), "{run:?}");
    let list = revoke(&made, &["--list", "-o", "json"]).expect(0).json();
    assert_eq!(list, serde_json::json!([]));
}

/// Every other state in which a kill leaves the machine, from the `first` on, and what becomes of each.
fn killed_everywhere(test: &str, first: usize, recover: impl Fn(&Made, usize, &Tree, &Tree)) {
    if !installed("strace") {
        return skipped(test, "strace is not installed");
    }
    let words = |root: &str| -> Vec<String> {
        ["revoke", "--root", root, "--prepare", "--serial", "1234", "--revocation-name", "leak", "--yes", "-o", "none"]
            .map(str::to_owned)
            .to_vec()
    };
    let mut stories = 0;
    for number in (first..).step_by(2) {
        let made = made();
        let before = look(&made);
        let words = words(made.stage.at("root").to_str().unwrap());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if !killed(&made.stage, "renameat,renameat2,rename", number, &words) {
            break;
        }
        stories += 1;
        recover(&made, number, &before, &look(&made));
    }
    assert!(stories > 6, "too few kills to mean anything: {stories}");
}

fn is_prepared_and_revoked(made: &Made, number: usize) {
    let list = revoke(made, &["--list", "-o", "json"]).expect(0).json();
    assert_eq!(list[0]["metadata"]["name"], "leak", "{number}: {list}");
    let result = revoke(made, &["--prepare", "--yes", "-o", "json"]).expect(0).json();
    assert_eq!(states(&result), enforced(&["kube-apiserver", "etcd"]), "{number}: {result:#}");
    assert_eq!(result["nodes"][0]["files"], serde_json::json!([]), "{number}: {result:#}");
}

#[test]
fn killed_at_any_rename_a_preparation_is_finished_with_the_revocation_that_was_to_follow() {
    let test = "killed_at_any_rename_a_preparation_is_finished_with_the_revocation_that_was_to_follow";
    killed_everywhere(test, 1, |made, number, before, between| {
        let run = revoke(made, &["--continue", "--yes"]).expect(0);
        let had_begun = !run.err.contains("no revocation is unfinished here");
        assert!(had_begun || look(made) == *between, "{number}: {run:?}");
        if !had_begun {
            // Nothing was staged yet, or everything was done.
            let list = revoke(made, &["--list"]).expect(0).out;
            assert!(list.contains("leak") || look(made) == *before || flags(made, "etcd").contains("crl"), "{number}");
            let words = ["--prepare", "--serial", "1234", "--revocation-name", "leak", "--yes"];
            revoke(made, &words).expect(0);
        }
        is_prepared_and_revoked(made, number);
    });
}

#[test]
fn killed_at_any_rename_a_preparation_is_taken_back_to_the_byte() {
    let test = "killed_at_any_rename_a_preparation_is_taken_back_to_the_byte";
    killed_everywhere(test, 2, |made, number, before, between| {
        let run = revoke(made, &["--abort", "--yes"]).expect(0);
        let now = look(made);
        if run.err.contains("no revocation is unfinished here") {
            assert_eq!(now, *between, "{number}: {run:?}");
        } else if flags(made, "kube-apiserver").contains("authorization-mode") {
            assert_eq!(now, *before, "{number}: {run:?}");
        } else {
            // The preparation was through, the revocation after it is taken back.
            let list = revoke(made, &["--list", "-o", "json"]).expect(0).json();
            assert_eq!(list, serde_json::json!([]), "{number}");
        }
        revoke(made, &["--prepare", "--serial", "1234", "--revocation-name", "leak", "--yes"]).expect(0);
        is_prepared_and_revoked(made, number);
    });
}

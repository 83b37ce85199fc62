//! `revoke` as it is typed: whom each kind means, what is refused, what the ledger does to everything else, and kills.

use std::process::Command;

use serde_json::Value;

use crate::support::binary::{Run, Stage, killed};
use crate::support::made::{MACHINE, Made};
use crate::support::probe::installed;
use crate::support::process::succeed;
use crate::support::skip::skipped;
use crate::support::tree::picture;

const QUICK: [&str; 2] = ["--key-algorithm", "ecdsa-p256"];
const SEED: &str = include_str!("../../src/pki/revocation/seed.yaml");

fn made() -> Made {
    Made::new(&[&MACHINE[..], &QUICK].concat())
}

fn kubepki(made: &Made, command: &str, words: &[&str]) -> Run {
    let root = made.stage.at("root");
    made.stage.run(&[&[command, "--root", root.to_str().unwrap()], words].concat())
}

fn revoke(made: &Made, words: &[&str]) -> Run {
    kubepki(made, "revoke", words)
}

fn openssl_field(made: &Made, path: &str, field: &str) -> String {
    let text = succeed(Command::new("openssl").args(["x509", "-noout", field, "-in"]).arg(made.pki(path)));
    text.trim().split_once('=').unwrap().1.to_owned()
}

fn serial(made: &Made, path: &str) -> String {
    openssl_field(made, path, "-serial")
}

/// The names of the matches, in alphabetical order, each once.
fn names(run: &Run) -> Vec<String> {
    let result = run.json();
    assert_eq!(result["kind"], "RevocationResult");
    let mut names: Vec<String> =
        result["matches"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

fn status_of(made: &Made, name: &str) -> String {
    let run = kubepki(made, "check-expiry", &["-o", "json"]);
    let found = run.json()["certificates"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned();
    found.unwrap_or_default()["status"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn each_kind_means_its_certificates_and_no_others() {
    let made = made();
    let before = picture(&made.stage.at("root"), &["etc/kubernetes/tmp"]);
    let number = serial(&made, "etcd/peer.crt");
    let colons: Vec<&str> = number.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--serial", &number.to_lowercase()], &["etcd-peer"]),
        (&["--serial", &colons.join(":")], &["etcd-peer"]),
        (&["--group", "system:masters"], &["super-admin.conf"]),
        (&["--group", "kubeadm:cluster-admins"], &["admin.conf"]),
        (&["--group", "masters"], &[]),
        (&["--dns", "Kubernetes.default.svc."], &["apiserver"]),
        (&["--dns", ".default.svc.cluster.local"], &["apiserver"]),
        (&["--ip", "127.0.0.1"], &["apiserver", "etcd-peer", "etcd-server"]),
    ];
    for (words, expected) in cases {
        let run = revoke(&made, &[words, &["--not-before", "none", "--what-if", "-o", "json"]].concat()).expect(0);
        assert_eq!(names(&run), expected, "{words:?}");
        assert_eq!(run.json()["provisioningState"], "Planned");
    }
    assert_eq!(picture(&made.stage.at("root"), &["etc/kubernetes/tmp"]), before, "--what-if changes nothing");
}

#[test]
fn not_before_spares_what_was_issued_at_that_second_or_later() {
    let made = made();
    let start = openssl_field(&made, "front-proxy-client.crt", "-startdate");
    let seconds = succeed(Command::new("date").args(["-u", "-d", &start, "+%s"]));
    let seconds: i64 = seconds.trim().parse().unwrap();
    let number = serial(&made, "front-proxy-client.crt");
    for (shift, expected) in [(-1, 0), (0, 0), (1, 1)] {
        let moment = time::OffsetDateTime::from_unix_timestamp(seconds + shift).unwrap();
        let moment = moment.format(&time::format_description::well_known::Rfc3339).unwrap();
        let run = revoke(&made, &["--serial", &number, "--not-before", &moment, "--what-if", "-o", "json"]).expect(0);
        assert_eq!(names(&run).len(), expected, "{shift}");
    }
}

#[test]
fn the_example_of_the_documentation_goes_on_the_ledger_and_off_again() {
    let made = made();
    made.stage.put("seed.yaml", SEED);
    let unsaid = revoke(&made, &["-f", "seed.yaml", "--yes"]).expect(2);
    assert!(unsaid.err.contains("--not-before none"), "{unsaid:?}");
    let run = revoke(&made, &["-f", "seed.yaml", "--not-before", "none", "--yes", "-o", "json"]).expect(0);
    assert_eq!(names(&run), ["apiserver"]);
    let result = run.json();
    assert_eq!((&result["name"], &result["provisioningState"]), (&"my-renew-revocation".into(), &"Succeeded".into()));
    let component = |name: &str| -> Value {
        let all = result["components"].as_array().unwrap();
        all.iter().find(|state| state["component"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(component("kubelet-serving")["state"], "not-enforceable");
    assert_eq!(component("issuance")["state"], "enforced");
    assert!(component("issuance")["since"].is_string());
    let check = kubepki(&made, "check-expiry", &[]).expect(5);
    assert!(check.out.contains("revoked by the revocation my-renew-revocation"), "{}", check.out);
    let list = revoke(&made, &["--list", "-o", "json"]).expect(0).json();
    assert_eq!(list[0]["spec"]["revocations"].as_array().unwrap().len(), 5);
    // What --list gives is what -f takes.
    let yaml = revoke(&made, &["--list", "-o", "json", "--query", "[0]"]).expect(0).out;
    made.stage.put("again.yaml", yaml);
    let again = revoke(&made, &["-f", "again.yaml", "--not-before", "none", "--yes", "-o", "json"]).expect(0).json();
    assert_eq!(again["nodes"][0]["files"].as_array().unwrap().len(), 0, "{again}");
    revoke(&made, &["--delete", "my-renew-revocation", "--yes"]).expect(0);
    revoke(&made, &["--delete", "my-renew-revocation", "--yes"]).expect(3);
    assert_eq!(status_of(&made, "apiserver"), "ok");
    assert!(!made.pki(".kubepki/revocations.yaml").exists());
}

#[test]
fn faults_in_options_and_manifests_are_usage_errors_with_their_place() {
    let made = made();
    let before = picture(&made.stage.at("root"), &[]);
    made.stage.put("wrong.yaml", SEED.replace("77fdf4b1", "77fdg4b1"));
    let run = revoke(&made, &["-f", "wrong.yaml", "--yes"]).expect(2);
    assert!(run.err.contains("wrong.yaml: line 12, column 19:"), "{run:?}");
    for words in [
        &["--serial", "xyz"][..],
        &["--serial", "12:34", "--serial", "1234"],
        &["--group", "dev"],
        &["--group", "", "--not-before", "none"],
        &["--dns", "a..b", "--not-before", "none"],
        &["--ip", "10.0.0.0/8", "--not-before", "none"],
        &["--serial", "12", "--not-before", "soon"],
        &["--serial", "12", "--revocation-name", "Not_A_Name"],
        &["-f", "missing.yaml"],
        &[],
    ] {
        revoke(&made, &[words, &["--yes"]].concat()).expect(2);
    }
    revoke(&made, &["--kubeconfig", "missing.conf", "--yes"]).expect(3);
    revoke(&made, &["--serial", "12"]).expect(1);
    assert_eq!(picture(&made.stage.at("root"), &[]), before);
}

#[test]
fn whoever_would_be_locked_out_is_named_and_nothing_happens_without_force() {
    let made = made();
    let before = picture(&made.stage.at("root"), &[]);
    for (path, whose) in [
        ("apiserver-etcd-client.crt", "kube-apiserver's way to etcd"),
        ("apiserver-kubelet-client.crt", "kube-apiserver's way to kubelets"),
        ("etcd/healthcheck-client.crt", "kubepki's and kubeadm's way to etcd"),
        ("etcd/server.crt", "etcd's way to itself"),
        ("ca.crt", "everybody with a certificate of this authority"),
    ] {
        let run = revoke(&made, &["--serial", &serial(&made, path), "--yes"]).expect(1);
        assert!(run.err.contains(whose) && run.err.contains("--force"), "{run:?}");
    }
    let both =
        ["--kubeconfig", "root/etc/kubernetes/admin.conf", "--kubeconfig", "root/etc/kubernetes/super-admin.conf"];
    let run = revoke(&made, &[&both[..], &["--yes"]].concat()).expect(1);
    assert!(run.err.contains("every administrator"), "{run:?}");
    assert_eq!(picture(&made.stage.at("root"), &[]), before);
    let number = serial(&made, "apiserver-etcd-client.crt");
    revoke(&made, &["--serial", &number, "--force", "--yes"]).expect(0);
    assert_eq!(status_of(&made, "apiserver-etcd-client"), "revoked");
    let renewed = kubepki(&made, "rotate-certs", &["--only", "apiserver-etcd-client", "--yes"]).expect(0);
    assert_eq!(status_of(&made, "apiserver-etcd-client"), "ok", "{renewed:?}");
}

#[test]
fn a_serving_certificate_of_a_kubelet_alone_cannot_be_revoked() {
    let made = made();
    let folder = made.stage.at("root/var/lib/kubelet/pki");
    std::fs::create_dir_all(&folder).unwrap();
    succeed(Command::new("openssl").current_dir(&folder).args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "kubelet.key",
        "-out",
        "kubelet.crt",
        "-days",
        "9",
        "-subj",
        "/CN=cp1@1",
        "-addext",
        "subjectAltName=DNS:kubelet.example.com",
        "-addext",
        "extendedKeyUsage=serverAuth",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]));
    let words = ["--dns", "kubelet.example.com", "--not-before", "none", "--yes", "-o", "json"];
    let run = revoke(&made, &words).expect(1);
    assert_eq!(names(&run), ["kubelet"]);
    assert!(!made.pki(".kubepki/revocations.yaml").exists(), "nothing was changed");
    // With others beside it, it is told and no failure.
    let run = revoke(&made, &[&words[..], &["--serial", &serial(&made, "front-proxy-client.crt"), "--force"]].concat());
    assert_eq!(names(&run.expect(0)), ["front-proxy-client", "kubelet"]);
}

#[test]
fn nothing_that_an_entry_means_is_issued_again() {
    let made = made();
    revoke(&made, &["--dns", "kubernetes.default", "--not-before", "now", "--yes"]).expect(0);
    assert_eq!(status_of(&made, "apiserver"), "revoked");
    // The new one is not back-dated to before that moment.
    kubepki(&made, "rotate-certs", &["--only", "apiserver", "--yes"]).expect(0);
    assert_eq!(status_of(&made, "apiserver"), "ok");
    revoke(&made, &["--group", "dev", "--not-before", "none", "--revocation-name", "no-dev", "--yes"]).expect(0);
    let words = ["--group", "dev", "--user-name", "jane", "-f", "jane.conf"];
    let run = kubepki(&made, "get-credentials", &words).expect(1);
    assert!(run.err.contains("no-dev") && !made.stage.at("jane.conf").exists(), "{run:?}");
    revoke(&made, &["--dns", ".default", "--not-before", "none", "--yes"]).expect(0);
    let before = picture(&made.stage.at("root"), &["etc/kubernetes/tmp"]);
    kubepki(&made, "rotate-certs", &["--only", "apiserver", "--yes"]).expect(1);
    assert_eq!(picture(&made.stage.at("root"), &["etc/kubernetes/tmp"]), before);
    std::fs::remove_file(made.pki("apiserver.crt")).unwrap();
    made.create(&["--yes"], &[&MACHINE[..], &QUICK].concat()).expect(1);
    revoke(&made, &["--delete", "no-dev", "--yes"]).expect(0);
    kubepki(&made, "get-credentials", &words).expect(0);
}

#[test]
fn what_is_in_use_is_renewed_before_it_is_revoked() {
    let made = made();
    // A cluster that kubepki did not make has no register.
    std::fs::remove_dir_all(made.pki(".kubepki")).unwrap();
    let old = serial(&made, "apiserver-etcd-client.crt");
    let words = ["--serial", &old, "--renew", "--yes", "-o", "json"];
    let result = revoke(&made, &words).expect(0).json();
    assert_eq!(result["matches"][0]["serialNumber"], old.to_lowercase(), "{result}");
    assert_ne!(serial(&made, "apiserver-etcd-client.crt"), old);
    let list = Command::new("openssl")
        .args(["crl", "-inform", "DER", "-noout", "-text", "-in"])
        .arg(made.pki("etcd/kubepki/client.crl"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&list.stdout).contains(&old), "{list:?}");
    // New ones are not back-dated to before the moment at which the old ones end.
    revoke(&made, &["--group", "kubeadm:cluster-admins", "--not-before", "now", "--renew", "--yes"]).expect(0);
    assert_eq!(status_of(&made, "admin.conf"), "ok");
    assert_eq!(status_of(&made, "apiserver-etcd-client"), "ok");
    // For good means for good: nothing is renewed or revoked then.
    let before = picture(&made.stage.at("root"), &["etc/kubernetes/tmp"]);
    let words = ["--group", "kubeadm:cluster-admins", "--not-before", "none", "--renew", "--yes"];
    revoke(&made, &words).expect(1);
    assert_eq!(picture(&made.stage.at("root"), &["etc/kubernetes/tmp"]), before);
}

#[test]
fn whoever_is_renewed_is_not_locked_out() {
    let made = made();
    made.create(&["--yes", "-o", "none", "--only", "kubelet.conf"], &[&MACHINE[..], &QUICK].concat()).expect(0);
    // A store as the kubelet makes it: a dated file, and a link to it.
    made.stage.put("root/var/lib/kubelet/pki/kubelet-client-current.pem", "damaged");
    kubepki(&made, "repair-certs", &["--fix-kubelet-credentials", "--yes", "-o", "none"]).expect(0);
    for (name, group) in [("kubelet-client", "system:nodes"), ("super-admin.conf", "system:masters")] {
        let words = ["--group", group, "--not-before", "now", "--yes", "-o", "json"];
        if name == "kubelet-client" {
            let refused = revoke(&made, &words).expect(1);
            assert!(refused.err.contains("a kubelet") && refused.err.contains("--renew"), "{refused:?}");
        }
        let result = revoke(&made, &[&words[..], &["--renew"]].concat()).expect(0).json();
        assert!(result["matches"].as_array().is_some_and(|rows| !rows.is_empty()), "{result}");
        assert_eq!(status_of(&made, name), "ok", "{result}");
    }
    // A kubeconfig of a component, named by its number.
    let old = made.client_of("scheduler.conf");
    let text = succeed(Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(old));
    let number = text.trim().trim_start_matches("serial=").to_owned();
    revoke(&made, &["--serial", &number, "--yes"]).expect(1);
    revoke(&made, &["--serial", &number, "--renew", "--yes"]).expect(0);
    assert_eq!(status_of(&made, "scheduler.conf"), "ok");
    let check = kubepki(&made, "check-expiry", &[]).expect(0);
    assert!(!check.out.contains("revoked"), "{}", check.out);
}

#[test]
fn what_is_revoked_already_is_not_revoked_twice_and_enforced_again() {
    let made = made();
    let number = serial(&made, "front-proxy-client.crt");
    let words = ["--serial", &number, "--force", "--yes", "-o", "json"];
    let first = revoke(&made, &words).expect(0).json();
    // Somebody took the lists of etcd away.
    std::fs::remove_file(made.pki("etcd/kubepki/client.crl")).unwrap();
    let again = revoke(&made, &["--serial", &number.to_lowercase(), "--yes", "-o", "json"]).expect(0);
    let name = first["name"].as_str().unwrap();
    assert!(again.err.contains("is revoked already") && again.err.contains(name), "{again:?}");
    assert_eq!((&again.json()["name"], names(&again)), (&first["name"], vec!["front-proxy-client".to_owned()]));
    assert!(made.pki("etcd/kubepki/client.crl").exists());
    let entries = |made: &Made| -> Vec<usize> {
        let list = revoke(made, &["--list", "-o", "json"]).expect(0).json();
        list.as_array().unwrap().iter().map(|one| one["spec"]["revocations"].as_array().unwrap().len()).collect()
    };
    assert_eq!(entries(&made), [1]);
    // What is new is added, what is known is not; something that means more is new.
    let run = revoke(&made, &["--serial", &number, "--serial", "1234", "--yes"]).expect(0);
    assert!(run.err.contains("is revoked already"), "{run:?}");
    assert_eq!(entries(&made), [1, 1]);
    for (moment, expected) in [("2026-01-01T00:00:00Z", 3), ("2025-01-01T00:00:00Z", 3), ("none", 4), ("now", 4)] {
        revoke(&made, &["--group", "dev", "--not-before", moment, "--yes"]).expect(0);
        assert_eq!(entries(&made).len(), expected, "{moment}");
    }
    // A manifest is an object of its own; taking one of the two back says what the other one does.
    made.stage.put("own.yaml", SEED.replace("77fdf4b1033b387aaace6ce1c18710c2", &number));
    revoke(&made, &["-f", "own.yaml", "--not-before", "none", "--force", "--yes"]).expect(0);
    assert_eq!(entries(&made), [1, 1, 1, 1, 5]);
    let run = revoke(&made, &["--delete", "my-renew-revocation", "--yes"]).expect(0);
    assert!(run.err.contains(&format!("stays revoked, by the revocation {name}")), "{run:?}");
    assert_eq!(status_of(&made, "front-proxy-client"), "revoked");
}

#[test]
fn what_needs_a_running_cluster_is_refused_before_anything_changes() {
    let made = made();
    let before = picture(&made.stage.at("root"), &[]);
    for option in ["--apply", "--end-connections"] {
        let run = revoke(&made, &["--serial", "1234", option, "--yes"]).expect(2);
        assert!(run.err.contains(option), "{run:?}");
    }
    assert_eq!(picture(&made.stage.at("root"), &[]), before);
}

#[test]
fn what_was_issued_for_people_is_found_by_group_although_no_node_has_it() {
    let made = made();
    let words = ["--group", "dev", "--user-name", "jane", "-f", "jane.conf"];
    kubepki(&made, "get-credentials", &words).expect(0);
    let run = revoke(&made, &["--group", "dev", "--not-before", "now", "--what-if", "-o", "json"]).expect(0).json();
    // Back-dated by five minutes, so from before now.
    assert_eq!(run["matches"][0]["source"], "register", "{run}");
    assert_eq!(run["matches"][0]["subject"], "CN=jane,O=dev");
    let run = revoke(&made, &["--kubeconfig", "jane.conf", "--yes", "-o", "json"]).expect(0).json();
    assert_eq!(run["holders"][0]["user"], "jane");
    assert_eq!(run["holders"][0]["groups"][0], "dev");
    assert!(run["holders"][0]["rights"].as_str().unwrap().contains("--as jane --as-group dev"), "{run}");
    let check = kubepki(&made, "check-expiry", &["--kubeconfig", "jane.conf"]).expect(5);
    assert!(check.out.contains("revoked"), "{}", check.out);
    // A new one is another certificate, which the old one's number does not mean.
    kubepki(&made, "get-credentials", &words).expect(0);
    assert!(!kubepki(&made, "check-expiry", &["--kubeconfig", "jane.conf"]).out.contains("revoked"));
}

#[test]
fn an_entry_that_means_nothing_yet_is_kept() {
    let made = made();
    let run = revoke(&made, &["--serial", "1234", "--yes", "--revocation-name", "later"]).expect(0);
    assert!(run.out.contains("No certificate that is known matches") && run.err.contains("stay"), "{run:?}");
    assert!(revoke(&made, &["--list"]).expect(0).out.contains("later"));
}

#[test]
fn a_ledger_that_cannot_be_read_stops_whoever_would_issue() {
    let made = made();
    revoke(&made, &["--serial", "1234", "--yes"]).expect(0);
    std::fs::write(made.pki(".kubepki/revocations.yaml"), "kind: [\n").unwrap();
    let check = kubepki(&made, "check-expiry", &[]).expect(5);
    assert!(check.out.contains("nobody knows what is revoked"), "{}", check.out);
    kubepki(&made, "rotate-certs", &["--only", "apiserver", "--yes"]).expect(1);
    kubepki(&made, "get-credentials", &["-f", "x.conf"]).expect(1);
    let run = revoke(&made, &["--serial", "1235", "--yes"]).expect(1);
    assert!(run.err.contains("line 1") || run.err.contains("line 2"), "{run:?}");
}

#[test]
fn killed_at_any_rename_the_ledger_is_the_old_one_or_the_new_one() {
    let test = "killed_at_any_rename_the_ledger_is_the_old_one_or_the_new_one";
    if !installed("strace") {
        return skipped(test, "strace is not installed");
    }
    let mut stories = 0;
    for number in 1.. {
        let stage = Stage::new();
        stage.run(&[&["create-certs", "--pki-dir", "pki", "--yes"][..], &QUICK].concat()).expect(0);
        stage.run(&["revoke", "--pki-dir", "pki", "--serial", "11", "--revocation-name", "one", "--yes"]).expect(0);
        let before = picture(&stage.at("pki"), &[".kubepki"]);
        let words = ["revoke", "--pki-dir", "pki", "--serial", "22", "--revocation-name", "two", "--yes"];
        if !killed(&stage, "renameat,renameat2,rename", number, &words) {
            break;
        }
        stories += 1;
        // Whatever was cut off, there is a ledger that says something whole, and a register.
        let list = stage.run(&["revoke", "--pki-dir", "pki", "--list"]).expect(0).out;
        assert!(list.contains("one"), "{number}: {list}");
        if number % 2 == 0 {
            stage.run(&["revoke", "--pki-dir", "pki", "--abort"]).expect(0);
            let list = stage.run(&["revoke", "--pki-dir", "pki", "--list"]).expect(0).out;
            if !list.contains("two") {
                assert_eq!(picture(&stage.at("pki"), &[".kubepki"]), before, "{number}");
            }
        }
        stage.run(&words).expect(0);
        let list = stage.run(&["revoke", "--pki-dir", "pki", "--list"]).expect(0).out;
        assert!(list.contains("one") && list.contains("two"), "{number}: {list}");
        assert_eq!(
            stage.run(&[&words[..], &["-o", "json"]].concat()).expect(0).json()["nodes"][0]["files"],
            serde_json::json!([])
        );
    }
    assert!(stories > 4, "too few kills to mean anything: {stories}");
}

//! What is there: kept when it fits, completed when something is missing, refused or replaced when it differs.

use std::path::Path;

use crate::support::made::Made;
use crate::support::tree::{Tree, picture};

pub(crate) const QUICK: [&str; 6] =
    ["--key-algorithm", "ecdsa-p256", "--node-name", "cp1", "--advertise-address", "10.0.0.5"];

/// Everything on the node but kubepki's own folder.
pub(crate) fn look(made: &Made) -> Tree {
    picture(&made.stage.at("root"), &["etc/kubernetes/tmp"])
}

#[test]
fn a_second_run_changes_nothing_and_says_so() {
    let made = Made::new(&QUICK);
    let before = picture(&made.stage.at("root"), &[]);
    let run = made.create(&[], &QUICK).expect(0);
    assert!(run.out.contains("nothing to change") && run.out.contains("26 files unchanged"), "{run:?}");
    let run = made.create(&["-o", "json"], &QUICK).expect(0);
    let operation = run.json();
    assert_eq!(operation["provisioningState"], "Succeeded");
    let files = operation["nodes"][0]["files"].as_array().unwrap();
    assert!(files.len() == 26 && files.iter().all(|file| file["action"] == "unchanged"), "{operation}");
    assert_eq!(made.create(&["--what-if", "-o", "json"], &QUICK).expect(0).json()["provisioningState"], "Planned");
    // Forcing replaces what differs, and nothing does.
    made.create(&["--force", "--yes"], &QUICK).expect(0);
    assert_eq!(picture(&made.stage.at("root"), &[]), before);
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_written() {
    let stage = crate::support::binary::Stage::new();
    std::fs::create_dir(stage.at("root")).unwrap();
    let words = [&["create-certs", "--root", "root"][..], &QUICK].concat();
    let run = stage.run(&words).expect(1);
    assert!(run.err.contains("--yes"), "{run:?}");
    let run = stage.run(&[&words[..], &["--what-if", "-o", "json"]].concat()).expect(0);
    assert_eq!(run.json()["provisioningState"], "Planned");
    assert!(picture(&stage.at("root"), &[]).is_empty());
}

#[test]
fn the_question_names_files_and_nodes() {
    let made = Made::new(&QUICK);
    std::fs::remove_file(made.pki("apiserver.crt")).unwrap();
    std::fs::write(made.pki("etcd/peer.crt"), "").unwrap();
    let root = made.stage.at("root");
    let words = [&["create-certs", "--root", root.to_str().unwrap(), "--force"][..], &QUICK].concat();
    let before = look(&made);
    let run = made.stage.run_on_terminal(&words, &["n\n"], None);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.out.contains("Create 1 file and REPLACE 2 files on 1 node"), "{run:?}");
    assert_eq!(look(&made), before);
    assert_eq!(made.stage.run_on_terminal(&words, &["y\n"], None).code, Some(0));
    assert!(made.create(&[], &QUICK).expect(0).out.contains("nothing to change"));
}

#[test]
fn what_is_missing_is_made_from_what_is_there() {
    let made = Made::new(&QUICK);
    let removed = ["etcd/server.crt", "etcd/server.key", "apiserver.crt", "sa.pub", "front-proxy-client.key"];
    let key = std::fs::read(made.pki("apiserver.key")).unwrap();
    let public = std::fs::read(made.pki("sa.pub")).unwrap();
    removed[..4].iter().for_each(|path| std::fs::remove_file(made.pki(path)).unwrap());
    std::fs::remove_file(made.kubernetes("scheduler.conf")).unwrap();
    let without: Vec<String> = removed.iter().map(|path| format!("etc/kubernetes/pki/{path}")).collect();
    let mut without: Vec<&str> = without.iter().map(String::as_str).collect();
    without.extend(["etc/kubernetes/tmp", "etc/kubernetes/scheduler.conf"]);
    let before = picture(&made.stage.at("root"), &without);
    let run = made.create(&["--yes", "-o", "json"], &QUICK).expect(0);
    let created =
        run.json()["nodes"][0]["files"].as_array().unwrap().iter().filter(|f| f["action"] == "created").count();
    assert_eq!(created, 5);
    assert_eq!(picture(&made.stage.at("root"), &without), before);
    // A certificate was made for the key that lay there without one, and the public key from its private half.
    assert_eq!(std::fs::read(made.pki("apiserver.key")).unwrap(), key);
    assert_eq!(std::fs::read(made.pki("sa.pub")).unwrap(), public);
    assert!(made.create(&[], &QUICK).expect(0).out.contains("nothing to change"));
}

#[test]
fn only_what_is_named_is_made() {
    let stage = crate::support::binary::Stage::new();
    std::fs::create_dir(stage.at("root")).unwrap();
    let words = [&["create-certs", "--root", "root", "--yes"][..], &QUICK].concat();
    let run = stage.run(&[&words[..], &["--only", "etcd-server"]].concat()).expect(1);
    assert!(run.err.contains("--only etcd-ca") && run.err.contains("the CA is not there"), "{run:?}");
    assert!(picture(&stage.at("root"), &[]).is_empty());
    stage.run(&[&words[..], &["--only", "etcd-server", "--only", "etcd-ca"]].concat()).expect(0);
    let made: Vec<String> =
        picture(&stage.at("root/etc/kubernetes/pki"), &[]).into_keys().map(|path| path.display().to_string()).collect();
    assert_eq!(made, ["etcd", "etcd/ca.crt", "etcd/ca.key", "etcd/server.crt", "etcd/server.key"]);
    let run = stage.run(&[&words[..], &["--only", "etcd-sever"]].concat()).expect(3);
    assert!(run.err.contains("etcd-sever") && run.err.contains("etcd-server"), "{run:?}");
}

#[test]
fn a_bare_folder_gets_no_kubeconfigs_and_is_named_in_hints() {
    let stage = crate::support::binary::Stage::new();
    let words = [&["create-certs", "--pki-dir", "pki"][..], &QUICK].concat();
    stage.run(&[&words[..], &["--yes"]].concat()).expect(0);
    let files: Vec<String> =
        picture(&stage.at(""), &["home", "pki/.kubepki"]).into_keys().map(|p| p.display().to_string()).collect();
    assert_eq!(files.len(), 24, "{files:?}");
    assert!(files.iter().all(|path| !path.ends_with("conf")), "{files:?}");
    let run = stage.run(&[&words[..], &["--yes", "--only", "admin.conf"]].concat()).expect(3);
    assert!(run.err.contains("admin.conf"), "{run:?}");
}

/// Something that is done to a node, the file that is then not as wanted, and what is said about it.
type Damage = (&'static str, fn(&Made), &'static str);

fn rewrite(path: &Path, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

fn swap(made: &Made, one: &str, other: &str) {
    let content = std::fs::read(made.pki(other)).unwrap();
    std::fs::write(made.pki(one), content).unwrap();
}

const DAMAGES: [Damage; 14] = [
    ("pki/apiserver.crt", |made| std::fs::write(made.pki("apiserver.crt"), "").unwrap(), "the file is empty"),
    ("pki/apiserver.crt", |made| rewrite(&made.pki("apiserver.crt"), |text| text[..text.len() / 2].into()), "PEM"),
    ("pki/apiserver.crt", |made| std::fs::write(made.pki("apiserver.crt"), "rubbish\n").unwrap(), "no certificate"),
    (
        "pki/apiserver.crt",
        |made| swap(made, "apiserver.crt", "etcd/peer.crt"),
        "subject is CN=cp1, not CN=kube-apiserver",
    ),
    ("pki/etcd/peer.crt", |made| swap(made, "etcd/peer.crt", "etcd/server.crt"), "key of another certificate"),
    ("pki/etcd/peer.crt", |made| swap(made, "etcd/peer.key", "etcd/server.key"), "key of another certificate"),
    ("pki/etcd/peer.crt", |made| std::fs::remove_file(made.pki("etcd/peer.key")).unwrap(), "private key is missing"),
    ("pki/etcd/peer.crt", |made| std::fs::write(made.pki("etcd/peer.key"), "x").unwrap(), "holds no private key"),
    ("pki/front-proxy-client.crt", |made| swap(made, "front-proxy-client.crt", "ca.crt"), "it is a CA certificate"),
    ("pki/sa.pub", |made| swap(made, "sa.pub", "apiserver.key"), "public half of the private key is not in it"),
    ("admin.conf", |made| std::fs::write(made.kubernetes("admin.conf"), "{").unwrap(), "admin.conf"),
    ("admin.conf", |made| rewrite(&made.kubernetes("admin.conf"), |t| t.replace("10.0.0.5", "10.0.0.6")), "server is"),
    (
        "admin.conf",
        |made| rewrite(&made.kubernetes("admin.conf"), |t| t.replace("client-key-data", "token")),
        "client key",
    ),
    (
        "scheduler.conf",
        |made| {
            std::fs::copy(made.kubernetes("controller-manager.conf"), made.kubernetes("scheduler.conf"))
                .map(drop)
                .unwrap();
        },
        "subject is CN=system:kube-controller-manager",
    ),
];

#[test]
fn what_differs_is_refused_with_path_and_reason_and_replaced_only_when_forced() {
    let made = Made::new(&QUICK);
    let whole = look(&made);
    for (path, damage, words) in DAMAGES {
        damage(&made);
        let before = look(&made);
        let run = made.create(&["--yes"], &QUICK).expect(1);
        assert!(run.err.contains(&format!("/etc/kubernetes/{path}")), "{path}: {run:?}");
        assert!(run.err.contains(words) && run.err.contains("--force"), "{path}: {run:?}");
        assert!(run.err.contains("1 file is not as wanted; nothing was changed"), "{path}: {run:?}");
        assert_eq!(look(&made), before, "{path}");

        let run = made.create(&["--yes", "--force", "-o", "json"], &QUICK).expect(0).json();
        let files = run["nodes"][0]["files"].as_array().unwrap();
        let changed: Vec<&str> = files
            .iter()
            .filter(|file| file["action"] != "unchanged")
            .map(|file| file["name"].as_str().unwrap())
            .collect();
        let name = changed[0];
        assert!(changed.iter().all(|other| *other == name), "{path}: {changed:?}");
        made.create(&[], &QUICK).expect(0);
        // Everything else is as it was.
        let after = look(&made);
        let touched: Vec<_> = after.iter().filter(|(path, entry)| whole.get(*path) != Some(entry)).collect();
        assert!(touched.iter().all(|(path, _)| {
            let path = path.display().to_string();
            DAMAGES.iter().any(|(damaged, ..)| path.contains(damaged.trim_end_matches(".crt")))
                || path.ends_with("peer.key")
        }));
    }
}

#[test]
fn every_difference_is_listed_and_wishes_of_options_count() {
    let made = Made::new(&QUICK);
    let before = look(&made);
    let other = ["--key-algorithm", "ecdsa-p384", "--node-name", "cp1", "--advertise-address", "10.0.0.5"];
    let run = made.create(&["--yes", "--san", "more.example.com"], &other).expect(1);
    assert!(run.err.contains("it lacks the name DNS:more.example.com"), "{run:?}");
    assert_eq!(run.err.matches("its key is ecdsa-p256, not ecdsa-p384").count(), 11, "{run:?}");
    assert_eq!(look(&made), before);
    // Without the wish the kind of key is nobody's business.
    made.create(&[], &["--node-name", "cp1", "--advertise-address", "10.0.0.5"]).expect(0);
    let run =
        made.create(&["--san", "more.example.com", "--what-if", "--force", "-o", "json"], &QUICK).expect(0).json();
    let changed: Vec<&str> = run["nodes"][0]["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|file| file["action"] == "replaced")
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert_eq!(changed, ["/etc/kubernetes/pki/apiserver.key", "/etc/kubernetes/pki/apiserver.crt"]);
}

#[test]
fn a_folder_in_the_place_of_a_file_is_refused() {
    let made = Made::new(&QUICK);
    std::fs::remove_file(made.pki("apiserver.crt")).unwrap();
    std::fs::create_dir(made.pki("apiserver.crt")).unwrap();
    let before = look(&made);
    for words in [&["--yes"][..], &["--yes", "--force"]] {
        let run = made.create(words, &QUICK).expect(1);
        assert!(run.err.contains("/etc/kubernetes/pki/apiserver.crt") && run.err.contains("folder"), "{run:?}");
        assert_eq!(look(&made), before);
    }
}

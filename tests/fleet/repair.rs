//! `repair-certs` over SSH: what nodes share comes from the nodes on which it is right, what is a node's own is made again
//! there and nowhere else, and a run that is killed can be finished or taken back.

use std::fs;

use crate::judge::judge;
use crate::machines::{Fleet, Moment, NAMES, Picture, mark, run_when_free};

const NOTHING: &str = "nothing to repair";

/// Paths of all files that differ, with their nodes.
fn changed(before: &Picture, after: &Picture) -> Vec<String> {
    let mut changed = Vec::new();
    for name in NAMES {
        let (one, other) = (&before[name].0, &after[name].0);
        let paths = one.keys().chain(other.keys());
        changed.extend(
            paths.filter(|path| one.get(*path) != other.get(*path)).map(|path| format!("{name}/{}", path.display())),
        );
    }
    changed.sort();
    changed.dedup();
    changed
}

/// Repairs, and proves that nothing is left and openssl is content.
fn mend(fleet: &Fleet, words: &[&str]) -> Vec<String> {
    let before = fleet.look();
    let run = fleet.run(&[&["repair-certs", "--yes", "-o", "json"], words].concat()).expect(0);
    assert_eq!(run.json()["provisioningState"], "Succeeded");
    let after = fleet.look();
    let second = fleet.run(&["repair-certs", "--yes", "-o", "none"]).expect(0);
    assert!(second.err.contains(NOTHING), "{}", second.err);
    assert_eq!(fleet.look(), after, "a second run changes nothing");
    judge(fleet);
    changed(&before, &after)
}

#[test]
fn what_nodes_share_comes_from_those_on_which_it_is_right() {
    let Some(fleet) = Fleet::with_certificates("what_nodes_share_comes_from_those_on_which_it_is_right") else {
        return;
    };
    let healthy = fleet.look();
    fs::remove_file(fleet.at("cp2", "pki/ca.crt")).unwrap();
    fs::write(fleet.at("cp2", "pki/etcd/ca.key"), "garbage").unwrap();
    fs::remove_file(fleet.at("cp3", "pki/front-proxy-ca.key")).unwrap();
    fs::remove_file(fleet.at("cp3", "pki/sa.key")).unwrap();
    fs::remove_file(fleet.at("cp1", "pki/sa.pub")).unwrap();
    mend(&fleet, &[]);
    assert_eq!(changed(&healthy, &fleet.look()), Vec::<String>::new(), "everything is as it was, to the byte");
    // Another authority of the same name on one node: what it signed speaks for the others'.
    let stranger = fleet.elsewhere();
    let folder = stranger.at("pki");
    stranger
        .run(&[
            "create-certs",
            "--pki-dir",
            folder.to_str().unwrap(),
            "--node-name",
            "x",
            "--advertise-address",
            "10.9.9.9",
            "--key-algorithm",
            "ecdsa-p256",
            "--yes",
            "-o",
            "none",
        ])
        .expect(0);
    for ending in ["crt", "key"] {
        fs::copy(folder.join(format!("etcd/ca.{ending}")), fleet.at("cp1", &format!("pki/etcd/ca.{ending}"))).unwrap();
    }
    fs::copy(folder.join("sa.key"), fleet.at("cp2", "pki/sa.key")).unwrap();
    mend(&fleet, &[]);
    for path in ["pki/etcd/ca.crt", "pki/etcd/ca.key", "pki/sa.key"] {
        let one = |name: &str| fs::read(fleet.at(name, path)).unwrap();
        assert!(one("cp1") == one("cp2") && one("cp2") == one("cp3"), "{path}");
    }
}

#[test]
fn what_is_a_nodes_own_is_made_again_there_alone() {
    let Some(fleet) = Fleet::with_certificates("what_is_a_nodes_own_is_made_again_there_alone") else { return };
    let (one, other) = (fleet.at("cp2", "pki/apiserver.key"), fleet.at("cp2", "pki/etcd/peer.key"));
    let kept = fs::read(&one).unwrap();
    fs::copy(&other, &one).unwrap();
    fs::write(&other, kept).unwrap();
    fs::write(fleet.at("cp3", "admin.conf"), "apiVersion: v1\nkind: Config\n").unwrap();
    // Certificates of another node: names of this one are missing in them.
    for ending in ["crt", "key"] {
        let path = format!("pki/etcd/server.{ending}");
        fs::copy(fleet.at("cp1", &path), fleet.at("cp3", &path)).unwrap();
    }
    fs::remove_file(fleet.at("cp3", "pki/etcd/server.crt")).unwrap();
    let before = fleet.look();
    fleet.run(&["repair-certs", "--yes", "--node", "cp3", "-o", "none"]).expect(0);
    let only = changed(&before, &fleet.look());
    assert!(!only.is_empty() && only.iter().all(|path| path.starts_with("cp3/")), "{only:?}");
    let rest = mend(&fleet, &[]);
    assert!(rest.iter().all(|path| path.starts_with("cp2/")), "{rest:?}");
}

#[test]
fn nodes_that_are_down_are_left_out_and_repaired_later() {
    let Some(fleet) = Fleet::with_certificates("nodes_that_are_down_are_left_out_and_repaired_later") else { return };
    for name in ["cp1", "cp3"] {
        fs::remove_file(fleet.at(name, "pki/apiserver.key")).unwrap();
    }
    fleet.server("cp3").cut();
    let run = fleet.run(&["repair-certs", "--yes", "-o", "none"]).expect(6);
    assert!(run.err.contains("cp3") && run.err.contains("not reached"), "{}", run.err);
    assert!(fleet.at("cp1", "pki/apiserver.key").exists() && !fleet.at("cp3", "pki/apiserver.key").exists());
    fleet.server("cp3").revive();
    mend(&fleet, &[]);
}

/// Damages all nodes, kills a repair at many moments, and ends it that way.
fn killed(test: &str, way: &str) {
    let Some(fleet) = Fleet::with_certificates(test) else { return };
    let mut kills = 0;
    for moment in [1, 2, 3, 5, 8].map(Moment::Staged).into_iter().chain([1, 2, 4, 6, 9, 11].map(Moment::Changed)) {
        for name in NAMES {
            fs::remove_file(fleet.at(name, "pki/apiserver.key")).unwrap();
            fs::write(fleet.at(name, "pki/etcd/server.crt"), "garbage").unwrap();
            fs::write(fleet.at(name, "scheduler.conf"), "").unwrap();
        }
        let (before, marked) = (fleet.look(), mark(&fleet));
        let mut child = fleet.begin(&["repair-certs", "--yes", "-o", "none"]);
        kills += usize::from(moment.wait(&fleet, &marked, &mut child));
        child.kill().unwrap();
        child.wait().unwrap();
        let elsewhere = fleet.elsewhere();
        let run = run_when_free(&elsewhere, &["repair-certs", way, "--yes", "-o", "none"]);
        assert!([Some(0), Some(6)].contains(&run.code), "{moment:?}, {way}: {run:#?}");
        if way == "--abort" && run.code == Some(0) && !run.err.contains("no repair is unfinished") {
            assert_eq!(changed(&before, &fleet.look()), Vec::<String>::new(), "{moment:?}: everything is as it was");
        }
        mend(&fleet, &[]);
    }
    assert!(kills >= 6, "{way}: too few kills to mean anything: {kills}");
}

#[test]
fn a_killed_repair_is_finished_from_another_workstation() {
    killed("a_killed_repair_is_finished_from_another_workstation", "--continue");
}

#[test]
fn a_killed_repair_is_taken_back_from_another_workstation() {
    killed("a_killed_repair_is_taken_back_from_another_workstation", "--abort");
}

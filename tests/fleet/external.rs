//! etcd's authority has its key elsewhere: openssl signs, and a new authority goes through the rounds on three machines of which
//! each runs a member, while somebody writes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::etcd::Scene;
use crate::etcd_programs::programs;
use crate::machines::{Fleet, Moment, NAMES, Picture, mark, run_when_free};
use crate::openssl::{openssl, self_signed};
use crate::writer::Client;

const REQUESTS: &str = "kubepki-requests-lab";
const LEAVES: [&str; 4] = ["etcd-server", "etcd-peer", "etcd-healthcheck-client", "apiserver-etcd-client"];

/// Takes the authority's key away from all machines; returns where it is now.
fn take_key(fleet: &Fleet) -> PathBuf {
    let folder = fleet.here.at("elsewhere");
    fs::create_dir(&folder).unwrap();
    for name in NAMES {
        fs::rename(fleet.at(name, "pki/etcd/ca.key"), folder.join("ca.key")).unwrap();
    }
    fs::copy(fleet.at("cp1", "pki/etcd/ca.crt"), folder.join("ca.crt")).unwrap();
    folder
}

/// Signs every request with the authority in that folder.
fn sign(fleet: &Fleet, authority: &Path) {
    let at = |path: &Path| path.display().to_string();
    let (ca, key) = (at(&authority.join("ca.crt")), at(&authority.join("ca.key")));
    for name in NAMES {
        for leaf in LEAVES {
            let request = fleet.here.at(&format!("{REQUESTS}/{name}/{leaf}.csr"));
            let (request, out) = (at(&request), at(&request.with_extension("crt")));
            let words = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &key, "-out", &out];
            openssl(&[&words[..], &["-copy_extensions", "copyall", "-days", "90"]].concat());
        }
    }
}

/// Makes a new authority, puts its certificate among those that come back, and signs every request with it.
fn succeed(fleet: &Fleet) {
    let folder = fleet.here.at("new");
    fs::create_dir(&folder).unwrap();
    let usage = ["-newkey", "rsa:2048", "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"];
    let (certificate, key) = self_signed("etcd-ca", &usage, 3650);
    fs::write(folder.join("ca.key"), key).unwrap();
    fs::write(folder.join("ca.crt"), &certificate).unwrap();
    fs::write(fleet.here.at(&format!("{REQUESTS}/etcd-ca.crt")), certificate).unwrap();
    sign(fleet, &folder);
}

fn differing(fleet: &Fleet, before: &Picture, name: &str) -> Vec<String> {
    let now = fleet.look();
    let files = before[name].0.iter().filter(|(path, entry)| now[name].0.get(*path) != Some(entry));
    files.map(|(path, _)| path.display().to_string()).collect()
}

#[test]
fn a_new_authority_of_etcd_comes_from_elsewhere_and_nothing_written_meanwhile_is_lost() {
    let this = "a_new_authority_of_etcd_comes_from_elsewhere_and_nothing_written_meanwhile_is_lost";
    let Some(program) = programs(this).pop() else { return };
    let Some(scene) = Scene::begin(this, &program) else { return };
    let elsewhere = take_key(&scene.fleet);
    let (_folder, old) = scene.keep();
    let before = scene.fleet.look();
    let asked = scene.fleet.run(&["rotate-certs", "--csr-only", "-o", "json"]).expect(0).json();
    assert_eq!(scene.fleet.look(), before, "requests change nothing on any node");
    for node in asked["nodes"].as_array().unwrap() {
        assert_eq!(node["files"].as_array().unwrap().len(), LEAVES.len(), "{node:#}");
    }

    // First from the authority in place: files alone, one node after another.
    sign(&scene.fleet, &elsewhere);
    let words = ["rotate-certs", "--import-signed", REQUESTS, "--yes", "-o", "json"];
    let done = scene.fleet.run(&words).expect(0).json();
    assert_eq!(done["provisioningState"], "Succeeded");
    for name in NAMES {
        let files = differing(&scene.fleet, &before, name);
        assert_eq!(files.len(), 4, "{name}: {files:?}");
        assert!(!files.iter().any(|path| path.contains(".key")), "{name}: {files:?}");
    }
    scene.client.wait_until_healthy(&scene.members.urls(), || scene.members.words());

    // Then a new one. One certificate less than all is refused whole.
    succeed(&scene.fleet);
    let kept = scene.fleet.here.at(&format!("{REQUESTS}/cp2/etcd-peer.crt"));
    let aside = scene.fleet.here.at("aside.crt");
    fs::rename(&kept, &aside).unwrap();
    let half = scene.fleet.look();
    let run = scene.fleet.run(&words).expect(1);
    assert!(run.err.contains("`etcd-ca` cannot be replaced") && run.err.contains("cp2/etcd-peer.crt"), "{run:#?}");
    assert_eq!(scene.fleet.look(), half);
    fs::rename(&aside, &kept).unwrap();
    let done = scene.fleet.run(&words).expect(0).json();
    assert_eq!(done["provisioningState"], "Succeeded");
    let phases: Vec<&str> =
        done["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["trust old and new", "issue from new", "drop old"]);
    let stale = Client::new(&program, old);
    for (node, name) in done["nodes"].as_array().unwrap().iter().zip(NAMES) {
        assert_eq!(node["restarts"], serde_json::json!(["etcd", "etcd"]), "{node:#}");
        let at = |path: &str| scene.fleet.at(name, path).display().to_string();
        assert_eq!(
            fs::read(at("pki/etcd/ca.crt")).unwrap(),
            fs::read(scene.fleet.here.at("new/ca.crt")).unwrap(),
            "{name} trusts the new one alone"
        );
        for leaf in ["etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client"] {
            openssl(&["verify", "-x509_strict", "-CAfile", &at("pki/etcd/ca.crt"), &at(&format!("pki/{leaf}.crt"))]);
        }
        let files = differing(&scene.fleet, &before, name);
        assert_eq!(files.len(), 6, "an authority, four leaves, a manifest: {files:?}");
    }
    scene.client.wait_until_healthy(&scene.members.urls(), || scene.members.words());
    for url in scene.members.urls() {
        let refused = stale.ctl(&[url], &["endpoint", "health"]);
        assert!(!refused.status.success(), "the old authority is still known");
    }
    assert!(scene.writer.stop() > 10, "too few writes to mean anything");
    assert_eq!(scene.members.stop(), [3, 3, 3], "each member was started once, and twice anew");
}

#[test]
fn what_came_from_elsewhere_is_not_needed_again_to_go_on_or_back() {
    let this = "what_came_from_elsewhere_is_not_needed_again_to_go_on_or_back";
    let Some(program) = programs(this).pop() else { return };
    let Some(scene) = Scene::begin(this, &program) else { return };
    take_key(&scene.fleet);
    scene.fleet.run(&["rotate-certs", "--csr-only", "-o", "none"]).expect(0);
    succeed(&scene.fleet);
    let before = scene.fleet.look();
    let words = ["rotate-certs", "--import-signed", REQUESTS, "--yes", "-o", "none"];
    for (files, way) in [(2, "--abort"), (9, "--abort"), (9, "--continue")] {
        let marked = mark(&scene.fleet);
        let mut child = scene.fleet.begin(&words);
        assert!(Moment::Changed(files).wait(&scene.fleet, &marked, &mut child), "it has ended before");
        child.kill().unwrap();
        child.wait().unwrap();
        // Another workstation has neither requests nor certificates.
        let run = run_when_free(&scene.fleet.elsewhere(), &["rotate-certs", way, "-o", "none"]);
        assert_eq!(run.code, Some(0), "{way} after {files} files: {run:#?}\n{}", scene.members.words());
        if way == "--abort" {
            assert_eq!(scene.fleet.look(), before, "after {files} files");
        }
        scene.client.wait_until_healthy(&scene.members.urls(), || scene.members.words());
    }
    for name in NAMES {
        let own = fs::read(scene.fleet.at(name, "pki/etcd/ca.crt")).unwrap();
        assert_eq!(own, fs::read(scene.fleet.here.at("new/ca.crt")).unwrap(), "{name}");
    }
    assert!(scene.writer.stop() > 10, "too few writes to mean anything");
}

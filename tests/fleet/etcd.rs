//! etcd's authority is replaced on three machines of which each runs a member and nothing else, while somebody writes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::etcd_programs::programs;
use crate::keeper::Members;
use crate::machines::{Fleet, Moment, NAMES, Picture, mark, run, run_when_free};
use crate::openssl::openssl;
use crate::writer::{Client, Writer};

const ROTATE: [&str; 2] = ["rotate-certs", "--yes"];

/// The machines, the members, their client and the one who writes.
pub struct Scene {
    pub fleet: Fleet,
    pub members: Members,
    pub client: Client,
    pub writer: Writer,
}

impl Scene {
    pub fn begin(test: &str, program: &Path) -> Option<Self> {
        let fleet = Fleet::with_certificates(test)?;
        for name in NAMES {
            // A machine for etcd has nothing of the rest of a control plane.
            for entry in fs::read_dir(fleet.at(name, "")).unwrap().chain(fs::read_dir(fleet.at(name, "pki")).unwrap()) {
                let path = entry.unwrap().path();
                let own = path.file_name().unwrap().to_str().unwrap();
                if path.is_file() && !own.starts_with("apiserver-etcd-client") {
                    fs::remove_file(path).unwrap();
                }
            }
        }
        let members = Members::start(&fleet, program);
        let client = Client::new(program, fleet.at("cp1", "pki"));
        client.wait_until_healthy(&members.urls(), || members.words());
        let writer = Writer::start(&client, &members.urls());
        Some(Self { fleet, members, client, writer })
    }

    /// Copies what a client had before.
    pub fn keep(&self) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("etcd")).unwrap();
        for file in ["apiserver-etcd-client.crt", "apiserver-etcd-client.key", "etcd/ca.crt"] {
            fs::copy(self.fleet.at("cp1", "pki").join(file), folder.path().join(file)).unwrap();
        }
        let path = folder.path().to_owned();
        (folder, path)
    }

    /// New everywhere, the same authority for all, and the old one of no use to anybody.
    fn judge(&self, program: &Path, before: &Picture, old: PathBuf) {
        let urls = self.members.urls();
        self.client.wait_until_healthy(&urls, || self.members.words());
        let authority = fs::read_to_string(self.fleet.at("cp1", "pki/etcd/ca.crt")).unwrap();
        for name in NAMES {
            let at = |path: &str| self.fleet.at(name, path).display().to_string();
            assert_eq!(fs::read_to_string(at("pki/etcd/ca.crt")).unwrap(), authority, "{name}");
            assert_eq!(authority.matches("BEGIN CERTIFICATE").count(), 1, "the old one is still there");
            for leaf in ["etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client"] {
                let (ca, crt) = (at("pki/etcd/ca.crt"), at(&format!("pki/{leaf}.crt")));
                openssl(&["verify", "-x509_strict", "-CAfile", &ca, &crt]);
            }
        }
        let now = self.fleet.look();
        for (name, (files, _)) in before {
            let differing = files.iter().filter(|(path, entry)| now[name].0.get(*path) != Some(entry));
            // A CA, four leaves and their keys, and the manifest with its new start.
            assert_eq!((files.len(), differing.count()), (now[name].0.len(), 11), "{name}: {files:?}");
        }
        let stale = Client::new(program, old);
        for url in &urls {
            let refused = stale.ctl(std::slice::from_ref(url), &["endpoint", "health"]);
            assert!(!refused.status.success(), "{url} still knows the old authority");
        }
    }
}

#[test]
fn the_authority_of_etcd_is_replaced_on_its_own_machines_and_nothing_written_meanwhile_is_lost() {
    let this = "the_authority_of_etcd_is_replaced_on_its_own_machines_and_nothing_written_meanwhile_is_lost";
    for program in programs(this) {
        let Some(scene) = Scene::begin(this, &program) else { return };
        let (_folder, old) = scene.keep();
        let before = scene.fleet.look();
        let plan = scene.fleet.run(&["rotate-certs", "--what-if", "-o", "json"]).expect(0).json();
        let done = scene.fleet.run(&[&ROTATE[..], &["-o", "json"]].concat()).expect(0).json();
        assert_eq!(done["provisioningState"], "Succeeded");
        for (planned, made) in plan["nodes"].as_array().unwrap().iter().zip(done["nodes"].as_array().unwrap()) {
            assert_eq!(planned["restarts"], made["restarts"]);
            assert_eq!(made["restarts"], serde_json::json!(["etcd", "etcd"]), "{made:#}");
        }
        scene.judge(&program, &before, old);
        assert!(scene.writer.stop() > 10, "too few writes to mean anything");
        assert_eq!(scene.members.stop(), [3, 3, 3], "each member was started once, and twice anew");
    }
}

/// How many more files have changed when the run is killed, or loses a machine, the next time: 3 change in the first round,
/// 30 in the second, 3 in the third.
const STOPS: [(usize, Option<&str>); 9] = [
    (1, None),
    (1, Some("cp2")),
    (2, None),
    (4, None),
    (7, Some("cp2")),
    (9, None),
    (8, Some("cp3")),
    (1, None),
    (1, None),
];

#[test]
fn a_rotation_that_is_stopped_again_and_again_is_finished_and_nothing_is_lost() {
    let this = "a_rotation_that_is_stopped_again_and_again_is_finished_and_nothing_is_lost";
    let Some(program) = programs(this).pop() else { return };
    let Some(scene) = Scene::begin(this, &program) else { return };
    let (_folder, old) = scene.keep();
    let before = scene.fleet.look();
    let mut words = &ROTATE[..];
    let mut stops = 0;
    for (files, machine) in STOPS {
        let marked = mark(&scene.fleet);
        let mut child = scene.fleet.begin(words);
        stops += usize::from(Moment::Changed(files).wait(&scene.fleet, &marked, &mut child));
        match machine {
            Some(name) => {
                scene.fleet.server(name).cut();
                scene.fleet.server(name).revive();
            }
            None => child.kill().unwrap(),
        }
        child.wait().unwrap();
        words = &["rotate-certs", "--continue", "-o", "none"];
    }
    assert!(stops >= 7, "too few stops to mean anything: {stops}");
    let last = run_when_free(&scene.fleet.elsewhere(), words);
    assert_eq!(last.code, Some(0), "{last:#?}\n{}", scene.members.words());
    scene.judge(&program, &before, old);
    assert!(scene.writer.stop() > 10, "too few writes to mean anything");
}

#[test]
fn a_rotation_of_etcds_authority_is_taken_back_to_the_byte_and_nothing_is_lost() {
    let this = "a_rotation_of_etcds_authority_is_taken_back_to_the_byte_and_nothing_is_lost";
    let Some(program) = programs(this).pop() else { return };
    let Some(scene) = Scene::begin(this, &program) else { return };
    let before = scene.fleet.look();
    for files in [2, 26] {
        let marked = mark(&scene.fleet);
        let mut child = scene.fleet.begin(&ROTATE);
        assert!(Moment::Changed(files).wait(&scene.fleet, &marked, &mut child), "it has ended before");
        child.kill().unwrap();
        child.wait().unwrap();
        let back = run_when_free(&scene.fleet.elsewhere(), &["rotate-certs", "--abort", "-o", "none"]);
        assert_eq!(back.code, Some(0), "after {files} files: {back:#?}\n{}", scene.members.words());
        assert_eq!(scene.fleet.look(), before, "after {files} files");
        scene.client.wait_until_healthy(&scene.members.urls(), || scene.members.words());
        let shown = run(&scene.fleet.elsewhere(), &["show", "-o", "json"]).expect(0).json();
        assert_eq!(shown["provisioningState"], "Canceled");
    }
    assert!(scene.writer.stop() > 10, "too few writes to mean anything");
}

//! `rotate-certs --csr-only` and `--import-signed` as they are typed, with openssl as the one who holds the keys.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::binary::Run;
use crate::support::made::{MACHINE, Made};
use crate::support::openssl::{is_there, openssl, self_signed};
use crate::support::tree::{Tree, picture};

const QUICK: [&str; 2] = ["--key-algorithm", "ecdsa-p256"];

/// A machine without the keys of its authorities, and those keys.
struct External {
    made: Made,
    elsewhere: PathBuf,
}

/// An authority's files elsewhere: by the name of its file on the machine.
const AUTHORITIES: [(&str, &str); 3] =
    [("ca", "kubernetes"), ("etcd/ca", "etcd-ca"), ("front-proxy-ca", "front-proxy-ca")];

impl External {
    fn new() -> Self {
        let made = Made::new(&[&MACHINE[..], &QUICK].concat());
        let elsewhere = made.stage.at("elsewhere");
        std::fs::create_dir_all(elsewhere.join("etcd")).unwrap();
        for (name, _) in AUTHORITIES {
            std::fs::rename(made.pki(&format!("{name}.key")), elsewhere.join(format!("{name}.key"))).unwrap();
            std::fs::copy(made.pki(&format!("{name}.crt")), elsewhere.join(format!("{name}.crt"))).unwrap();
        }
        Self { made, elsewhere }
    }

    fn rotate(&self, words: &[&str]) -> Run {
        let root = self.made.stage.at("root");
        self.made.stage.run(&[&["rotate-certs", "--root", root.to_str().unwrap()], words].concat())
    }

    fn requests(&self) -> PathBuf {
        self.made.stage.at("kubepki-requests-local/local")
    }

    fn look(&self) -> Tree {
        picture(&self.made.stage.at("root"), &["etc/kubernetes/tmp"])
    }

    /// Signs a request exactly as it is, beside itself, with the authority of that folder whose name the certificate in use
    /// has for its issuer.
    fn sign(&self, request: &Path, authority: &str, more: &[&str]) {
        let at = |path: &Path| path.display().to_string();
        let file = |ending: &str| at(&self.elsewhere.join(format!("{authority}.{ending}")));
        let (request, out) = (at(request), at(&request.with_extension("crt")));
        let (ca, key) = (file("crt"), file("key"));
        let mut words = vec!["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &key, "-out", &out];
        words.extend(["-copy_extensions", "copyall", "-days", "200"]);
        words.extend_from_slice(more);
        openssl(&words);
    }

    fn sign_all(&self) {
        for entry in std::fs::read_dir(self.requests()).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.extension().is_some_and(|ending| ending == "csr") {
                self.sign(&entry, authority_of(&entry), &[]);
            }
        }
    }

    /// Makes another authority in the place of one of old, with the old one's word for it.
    fn succeed(&self, name: &str, common_name: &str) {
        let folder = self.made.stage.at("kubepki-requests-local");
        let at = |path: &str| self.elsewhere.join(path).display().to_string();
        let old = (at(&format!("{name}.crt")), at(&format!("{name}.key")));
        let kept = (at(&format!("{name}-old.crt")), at(&format!("{name}-old.key")));
        std::fs::rename(&old.0, &kept.0).unwrap();
        std::fs::rename(&old.1, &kept.1).unwrap();
        let usage = ["-newkey", "rsa:2048", "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"];
        let (certificate, key) = self_signed(common_name, &usage, 3650);
        std::fs::write(&old.0, &certificate).unwrap();
        std::fs::write(&old.1, key).unwrap();
        let place = folder.join(format!("{name}.crt"));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(&place, certificate).unwrap();
        let (request, cross) = (at("cross.csr"), folder.join(format!("{name}-cross.crt")).display().to_string());
        openssl(&[
            "x509",
            "-x509toreq",
            "-in",
            &old.0,
            "-signkey",
            &old.1,
            "-out",
            &request,
            "-copy_extensions",
            "copyall",
        ]);
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &kept.0,
            "-CAkey",
            &kept.1,
            "-out",
            &cross,
            "-copy_extensions",
            "copyall",
        ]);
    }

    /// openssl finds every leaf good.
    fn judge(&self) {
        let made = &self.made;
        for (leaf, authority) in [
            ("apiserver", "ca"),
            ("apiserver-kubelet-client", "ca"),
            ("etcd/server", "etcd/ca"),
            ("etcd/peer", "etcd/ca"),
            ("etcd/healthcheck-client", "etcd/ca"),
            ("apiserver-etcd-client", "etcd/ca"),
            ("front-proxy-client", "front-proxy-ca"),
        ] {
            let at = |path: String| made.pki(&path).display().to_string();
            let (ca, crt, key) = (at(format!("{authority}.crt")), at(format!("{leaf}.crt")), at(format!("{leaf}.key")));
            openssl(&["verify", "-x509_strict", "-CAfile", &ca, &crt]);
            let certified = openssl(&["x509", "-in", &crt, "-noout", "-pubkey"]);
            assert_eq!(certified, openssl(&["pkey", "-in", &key, "-pubout"]), "{leaf}");
        }
        let ca = made.pki("ca.crt").display().to_string();
        for name in ["admin.conf", "controller-manager.conf", "scheduler.conf", "super-admin.conf"] {
            openssl(&["verify", "-CAfile", &ca, made.client_of(name).to_str().unwrap()]);
        }
    }
}

fn authority_of(request: &Path) -> &'static str {
    match request.file_stem().unwrap().to_str().unwrap() {
        "front-proxy-client" => "front-proxy-ca",
        name if name.contains("etcd") => "etcd/ca",
        _ => "ca",
    }
}

/// What differs.
fn changed(before: &Tree, after: &Tree) -> BTreeSet<String> {
    let paths = after.iter().filter(|(path, entry)| before.get(*path) != Some(entry)).map(|(path, _)| path);
    paths.map(|path| path.display().to_string()).collect()
}

const TEST: &str = "certificates of external authorities are rotated";

#[test]
fn requests_go_out_without_keys_and_what_openssl_signed_is_taken() {
    if !is_there(TEST) {
        return;
    }
    let external = External::new();
    let before = external.look();
    let plan = external.rotate(&["--csr-only", "--what-if", "-o", "json"]).expect(0).json();
    assert_eq!(plan["provisioningState"], "Planned");
    assert!(!external.requests().exists(), "a plan writes nothing");
    let run = external.rotate(&["--csr-only", "--csr-dir", "elsewhere/requests"]).expect(0);
    assert!(run.out.contains("wrote 11 signing requests for 1 node; nothing on them was changed"), "{run:?}");
    let asked = external.rotate(&["--csr-only", "-o", "json"]).expect(0).json();
    assert_eq!(external.look(), before, "nothing in use has changed");
    let files = asked["nodes"][0]["files"].as_array().unwrap();
    assert_eq!(files.len(), 11, "{asked:#}");
    let steps = asked["nextSteps"].to_string();
    assert!(steps.contains("--import-signed kubepki-requests-local") && steps.contains("--root"), "{steps}");
    for file in files {
        let path = file["path"].as_str().unwrap();
        assert!(!std::fs::read_to_string(path).unwrap().contains("PRIVATE"), "{path}");
        openssl(&["req", "-verify", "-noout", "-in", path]);
    }
    let again = external.rotate(&["--csr-only", "-o", "json"]).expect(0).json();
    assert!(
        again["nodes"][0]["files"].as_array().unwrap().iter().all(|file| file["action"] == "unchanged"),
        "{again:#}"
    );
    let nothing = external.rotate(&["--only", "leaf", "--import-signed", "kubepki-requests-local", "--yes"]).expect(1);
    assert!(nothing.err.contains("nothing was imported, nothing was changed"), "{nothing:?}");
    assert_eq!(external.look(), before);
    external.sign_all();
    let words = ["--only", "leaf", "--import-signed", "kubepki-requests-local", "-o", "json"];
    let run = external.rotate(&words).expect(1);
    assert!(run.err.contains("--yes"), "{run:?}");
    let plan = external.rotate(&[&words[..], &["--what-if"]].concat()).expect(0).json();
    let done = external.rotate(&[&words[..], &["--yes"]].concat()).expect(0).json();
    assert_eq!((&done["provisioningState"], &plan["provisioningState"]), (&"Succeeded".into(), &"Planned".into()));
    let expected = ["admin.conf", "controller-manager.conf", "scheduler.conf", "super-admin.conf"];
    let expected = expected.map(|name| format!("etc/kubernetes/{name}")).into_iter().chain(
        ["apiserver", "apiserver-etcd-client", "apiserver-kubelet-client", "front-proxy-client"]
            .into_iter()
            .chain(["etcd/healthcheck-client", "etcd/peer", "etcd/server"])
            .map(|name| format!("etc/kubernetes/pki/{name}.crt")),
    );
    assert_eq!(changed(&before, &external.look()), expected.collect());
    external.judge();
    let after = external.look();
    let again = external.rotate(&[&words[..], &["--yes"]].concat()).expect(0).json();
    assert_eq!((&again["provisioningState"], external.look()), (&"Succeeded".into(), after));
}

#[test]
fn good_ones_are_taken_and_bad_ones_told_with_node_and_name() {
    if !is_there(TEST) {
        return;
    }
    let external = External::new();
    external.rotate(&["--csr-only", "--csr-dir", "kubepki-requests-local", "-o", "none"]).expect(0);
    let at = |name: &str| external.requests().join(format!("{name}.csr"));
    external.sign(&at("apiserver"), "ca", &[]);
    external.sign(&at("etcd-peer"), "ca", &[]);
    let before = external.look();
    let run = external.rotate(&["--only", "leaf", "--import-signed", "kubepki-requests-local", "--yes", "-o", "json"]);
    let run = run.expect(6);
    assert_eq!(run.json()["provisioningState"], "Succeeded");
    assert_eq!(changed(&before, &external.look()), BTreeSet::from(["etc/kubernetes/pki/apiserver.crt".to_owned()]));
    for words in [
        "local: ",
        "etcd-peer.crt: etcd-peer: it is not issued by `etcd-ca`",
        "front-proxy-client: no signed certificate: there is no local/front-proxy-client.crt in",
        "some certificates could not be imported",
    ] {
        assert!(run.err.contains(words), "{words}: {run:?}");
    }
    // A folder of one machine's needs no folder for it.
    std::fs::copy(at("apiserver"), external.made.stage.at("etcd-peer.csr")).unwrap();
    std::fs::rename(at("etcd-peer"), external.made.stage.at("etcd-peer.csr")).unwrap();
    external.sign(&external.made.stage.at("etcd-peer.csr"), "etcd/ca", &[]);
    let stage = external.made.stage.at("").display().to_string();
    external.rotate(&["--only", "etcd-peer", "--import-signed", &stage, "--yes"]).expect(0);
    let none = external.rotate(&["--import-signed", "/no/such/folder", "--yes"]).expect(3);
    assert!(none.err.contains("/no/such/folder"), "{none:?}");
}

#[test]
fn authorities_that_came_along_take_the_place_of_the_old_ones() {
    if !is_there(TEST) {
        return;
    }
    let external = External::new();
    external.rotate(&["--csr-only", "-o", "none"]).expect(0);
    for (name, common_name) in AUTHORITIES {
        external.succeed(name, common_name);
    }
    let before = external.look();
    let words = ["--only", "ca", "--import-signed", "kubepki-requests-local", "--yes", "-o", "json"];
    let run = external.rotate(&words).expect(1);
    for word in ["cannot be replaced", "`ca`", "`etcd-ca`", "`front-proxy-ca`", "no local/etcd-server.crt"] {
        assert!(run.err.contains(word), "{word}: {run:?}");
    }
    assert_eq!(external.look(), before);
    external.sign_all();
    let run = external.rotate(&words).expect(0);
    assert_eq!(run.json()["provisioningState"], "Succeeded");
    external.judge();
    for (name, _) in AUTHORITIES {
        let own = std::fs::read(external.made.pki(&format!("{name}.crt"))).unwrap();
        assert_eq!(own, std::fs::read(external.elsewhere.join(format!("{name}.crt"))).unwrap(), "{name}");
        assert!(!external.made.pki(&format!("{name}.key")).exists());
    }
    let keys = changed(&before, &external.look()).into_iter().filter(|path| path.contains(".key")).count();
    assert_eq!(keys, 0, "leaves keep their keys");
    external.rotate(&words).expect(0);
    // Back to the state before is a matter of the operation's own copies.
    let check = external.made.stage.run(&["check-expiry", "--root", "root", "--no-fail", "-o", "json"]).expect(0);
    assert_eq!(check.json()["summary"]["untrusted"], 0, "{}", check.out);
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let external = External::new();
    for words in [
        &["--csr-only", "--import-signed", "x"][..],
        &["--csr-only", "--continue"],
        &["--csr-only", "--abort"],
        &["--csr-only", "--same-key"],
        &["--csr-only", "--validity", "1y"],
        &["--csr-dir", "x"],
        &["--import-signed", "x", "--abort"],
    ] {
        external.rotate(words).expect(2);
    }
    // A run in the background goes on with the words it was asked with.
    let run = external.rotate(&["--import-signed", "not/needed/any/more", "--continue"]).expect(0);
    assert!(run.err.contains("nothing to continue"), "{run:?}");
}

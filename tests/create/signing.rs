//! External authorities: requests go out, signed certificates come back, each checked as if a stranger had sent it.

use std::path::{Path, PathBuf};

use crate::existing::{QUICK, look};
use crate::support::binary::{Run, Stage};
use crate::support::made::Made;
use crate::support::openssl::{is_there, openssl};
use crate::support::tree::picture;

/// A node whose cluster CA has its key elsewhere, and that elsewhere.
struct External {
    made: Made,
    /// Where the CA's key went.
    key: PathBuf,
    /// Where signed certificates are collected.
    signed: PathBuf,
}

impl External {
    /// Nothing is there but the CA certificates; the keys are at their owner's.
    fn new() -> Self {
        let made = Made::new(&[&QUICK[..], &["--only", "ca,etcd-ca,front-proxy-ca,sa"]].concat());
        let key = made.stage.at("elsewhere/ca.key");
        std::fs::create_dir_all(made.stage.at("elsewhere")).unwrap();
        std::fs::rename(made.pki("ca.key"), &key).unwrap();
        let signed = made.stage.at("signed");
        std::fs::create_dir(&signed).unwrap();
        Self { made, key, signed }
    }

    /// Signs a request as openssl does when it is told to copy what is asked for.
    fn sign(&self, request: &Path, to: &str, more: &[&str]) {
        let out = self.signed.join(to);
        std::fs::create_dir_all(out.parent().unwrap()).unwrap();
        let at = |path: &Path| path.display().to_string();
        let (request, ca, key, out) = (at(request), at(&self.made.pki("ca.crt")), at(&self.key), at(&out));
        let mut words = vec!["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &key, "-out", &out];
        words.extend(["-copy_extensions", "copy", "-days", "200"]);
        words.extend_from_slice(more);
        openssl(&words);
    }

    fn import(&self, more: &[&str]) -> Run {
        let signed = self.signed.display().to_string();
        self.made.create(&[&["--yes", "--import-signed", &signed][..], more].concat(), &QUICK)
    }
}

const TEST: &str = "signed certificates";

/// Puts some bad certificate where a good one is expected.
type Making<'a> = Box<dyn Fn() + 'a>;

#[test]
fn requests_go_out_and_what_is_signed_comes_back() {
    if !is_there(TEST) {
        return;
    }
    let external = External::new();
    let made = &external.made;
    let run = made.create(&["--yes"], &QUICK).expect(0);
    assert!(
        run.out.contains("--import-signed") && run.out.contains(&format!("--root {}", made.stage.at("root").display())),
        "{run:?}"
    );
    // What other CAs sign is there at once; the cluster CA's is asked for.
    assert!(made.pki("etcd/server.crt").exists() && made.pki("front-proxy-client.crt").exists());
    assert!(!made.pki("apiserver.crt").exists() && !made.pki("ca.key").exists());
    for name in ["apiserver", "apiserver-kubelet-client"] {
        let request = made.pki(&format!("{name}.csr"));
        openssl(&["req", "-verify", "-noout", "-in", request.to_str().unwrap()]);
        external.sign(&request, &format!("{name}.crt"), &[]);
    }
    for name in ["admin", "super-admin", "controller-manager", "scheduler"] {
        let half = std::fs::read_to_string(made.kubernetes(&format!("{name}.conf"))).unwrap();
        assert!(half.contains("client-key-data") && !half.contains("client-certificate-data"), "{half}");
        external.sign(&made.kubernetes(&format!("{name}.conf.csr")), &format!("{name}.conf.crt"), &[]);
    }
    // Asking again changes nothing: the requests still stand.
    let before = look(made);
    assert!(made.create(&["--yes"], &QUICK).expect(0).out.contains("nothing to change"));
    assert_eq!(look(made), before);

    let run = external.import(&[]).expect(0);
    assert!(run.out.contains("created") && run.out.contains("removed"), "{run:?}");
    let left = picture(&made.stage.at("root/etc"), &["kubernetes/tmp"]);
    assert!(left.keys().all(|path| path.extension().is_none_or(|ending| ending != "csr")), "{left:?}");
    assert!(made.create(&[], &QUICK).expect(0).out.contains("nothing to change"));
    assert!(external.import(&[]).expect(0).out.contains("nothing to change"));
    let ca = made.pki("ca.crt").display().to_string();
    for certificate in [made.pki("apiserver.crt"), made.client_of("admin.conf"), made.client_of("scheduler.conf")] {
        openssl(&["verify", "-CAfile", &ca, certificate.to_str().unwrap()]);
    }
    let bits = |path: PathBuf| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
    };
    assert_eq!((bits(made.pki("apiserver.key")), bits(made.pki("apiserver.crt"))), (0o600, 0o644));
    assert_eq!(bits(made.kubernetes("admin.conf")), 0o600);
}

#[test]
fn good_certificates_are_taken_and_bad_ones_reported() {
    if !is_there(TEST) {
        return;
    }
    let external = External::new();
    let made = &external.made;
    made.create(&["--yes"], &QUICK).expect(0);
    external.sign(&made.pki("apiserver-kubelet-client.csr"), "apiserver-kubelet-client.pem", &[]);
    // A certificate for somebody else's key under the API server's name.
    external.sign(&made.pki("apiserver-kubelet-client.csr"), "apiserver.crt", &[]);
    external.sign(&made.kubernetes("admin.conf.csr"), "admin.conf.crt", &["-days", "-1"]);
    std::fs::write(external.signed.join("scheduler.conf.crt"), "rubbish").unwrap();
    let before = look(made);
    let run = external.import(&["-o", "json"]).expect(6);
    for words in [
        "apiserver.crt: apiserver: it is for another key than the one that waits here",
        "admin.conf.crt: admin.conf: it expired on",
        "scheduler.conf.crt: scheduler.conf:",
        "controller-manager.conf: no signed certificate: there is no controller-manager.conf.crt",
        "1 imported, 5 not",
    ] {
        assert!(run.err.contains(words), "{words}: {run:?}");
    }
    assert_eq!(run.json()["provisioningState"], "Succeeded");
    let after = look(made);
    let changed: Vec<String> = after
        .iter()
        .filter(|(path, entry)| before.get(*path) != Some(entry))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_eq!(changed, ["etc/kubernetes/pki/apiserver-kubelet-client.crt"]);
    assert!(!made.pki("apiserver-kubelet-client.csr").exists() && made.pki("apiserver.csr").exists());
}

#[test]
fn nothing_good_means_nothing_changed() {
    if !is_there(TEST) {
        return;
    }
    let external = External::new();
    let made = &external.made;
    made.create(&["--yes"], &QUICK).expect(0);
    let request = made.pki("apiserver.csr");
    let other = Stage::new();
    let (foreign, foreign_key) = crate::support::openssl::self_signed("kubernetes", &["-newkey", "rsa:2048"], 30);
    let (ca, key) = (other.put("ca.crt", foreign), other.put("ca.key", foreign_key));
    let foreign = |more: &[&str], out: &Path| {
        let (ca, key, out) = (ca.display().to_string(), key.display().to_string(), out.display().to_string());
        let mut words =
            vec!["x509", "-req", "-in", request.to_str().unwrap(), "-CA", &ca, "-CAkey", &key, "-out", &out];
        words.extend_from_slice(more);
        openssl(&words);
    };
    let out = external.signed.join("apiserver.crt");
    let before = look(made);
    let names = other.put("names", "subjectAltName=DNS:evil.example.com\nextendedKeyUsage=serverAuth,clientAuth\n");
    let ca_names = other.put("ca-names", "basicConstraints=critical,CA:TRUE\n");
    let (names, ca_names) = (names.display().to_string(), ca_names.display().to_string());
    let cases: [(&str, Making<'_>); 5] = [
        ("it is not issued by `ca`", Box::new(|| foreign(&["-copy_extensions", "copy"], &out))),
        ("lacks the name", Box::new(|| external.sign(&request, "apiserver.crt", &["-extfile", &names]))),
        (
            "beyond that the usage clientAuth",
            Box::new(|| external.sign(&request, "apiserver.crt", &["-extfile", &names])),
        ),
        ("it is a CA certificate", Box::new(|| external.sign(&request, "apiserver.crt", &["-extfile", &ca_names]))),
        ("no certificate", Box::new(|| std::fs::write(&out, "").unwrap())),
    ];
    for (words, make) in &cases {
        make();
        let run = external.import(&["--only", "apiserver"]).expect(1);
        let said = run.err.contains(words) || *words == "no certificate" && run.err.contains("the file is empty");
        assert!(said && run.err.contains("nothing was changed"), "{words}: {run:?}");
        assert_eq!(look(made), before, "{words}");
    }
    let run = made.create(&["--yes", "--import-signed", "/no/such/folder"], &QUICK).expect(3);
    assert!(run.err.contains("/no/such/folder"), "{run:?}");
}

#[test]
fn with_csr_only_no_authority_is_made_and_its_certificate_comes_back_with_the_others() {
    if !is_there(TEST) {
        return;
    }
    let stage = Stage::new();
    std::fs::create_dir(stage.at("root")).unwrap();
    let words = [&["create-certs", "--root", "root", "--yes", "--csr-only"][..], &QUICK].concat();
    stage.run(&words).expect(0);
    let made = Made { stage, spec: serde_json::Value::Null };
    let tree = look(&made);
    let endings = |ending: &str| tree.keys().filter(|path| path.extension().is_some_and(|own| own == ending)).count();
    assert_eq!((endings("crt"), endings("csr"), endings("key"), endings("conf")), (0, 11, 8, 4), "{:?}", tree.keys());
    assert!(made.stage.run(&words).expect(0).out.contains("nothing to change"));

    // The owner of the keys signs with CAs that nobody here has seen yet.
    let signed = made.stage.at("signed");
    std::fs::create_dir_all(signed.join("etcd")).unwrap();
    for (authority, entries) in [
        ("ca", &["apiserver", "apiserver-kubelet-client"][..]),
        ("etcd/ca", &["etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client"]),
        ("front-proxy-ca", &["front-proxy-client"]),
    ] {
        let extensions = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ];
        let (crt, key) = crate::support::openssl::self_signed("external", &extensions, 3650);
        let crt = made.stage.put(&format!("signed/{authority}.crt"), crt).display().to_string();
        let key = made.stage.put(&format!("elsewhere/{authority}.key"), key).display().to_string();
        let configs: Vec<PathBuf> = match authority {
            "ca" => ["admin", "super-admin", "controller-manager", "scheduler"]
                .iter()
                .map(|name| made.kubernetes(&format!("{name}.conf.csr")))
                .collect(),
            _ => Vec::new(),
        };
        for request in entries.iter().map(|entry| made.pki(&format!("{entry}.csr"))).chain(configs) {
            let name = request.strip_prefix(made.kubernetes("")).unwrap();
            let name = name.strip_prefix("pki").unwrap_or(name).display().to_string();
            let out = signed.join(format!("{}.crt", name.trim_end_matches(".csr"))).display().to_string();
            let request = request.display().to_string();
            openssl(&[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                &crt,
                "-CAkey",
                &key,
                "-out",
                &out,
                "-copy_extensions",
                "copy",
            ]);
        }
    }
    let words = [&["create-certs", "--root", "root", "--yes", "--import-signed", "signed"][..], &QUICK].concat();
    made.stage.run(&words).expect(0);
    assert!(made.create(&[], &QUICK).expect(0).out.contains("nothing to change"));
    let admin = std::fs::read_to_string(made.kubernetes("admin.conf")).unwrap();
    assert!(admin.contains("certificate-authority-data") && admin.contains("client-certificate-data"), "{admin}");
    assert!(!made.pki("ca.key").exists());
}

#[test]
fn intermediates_may_follow_in_the_same_file() {
    if !is_there(TEST) {
        return;
    }
    let external = External::new();
    let made = &external.made;
    made.create(&["--yes", "--only", "apiserver"], &QUICK).expect(0);
    let at = |name: &str| external.signed.join(name).display().to_string();
    let (key, request, middle) = (at("m.key"), at("m.csr"), at("m.crt"));
    openssl(&[
        "req",
        "-new",
        "-nodes",
        "-newkey",
        "rsa:2048",
        "-subj",
        "/CN=middle",
        "-keyout",
        &key,
        "-out",
        &request,
    ]);
    let extensions = made
        .stage
        .put("m.ext", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n");
    let (ca, ca_key) = (made.pki("ca.crt").display().to_string(), external.key.display().to_string());
    let extensions = extensions.display().to_string();
    openssl(&[
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-out",
        &middle,
        "-extfile",
        &extensions,
    ]);
    let leaf_request = made.pki("apiserver.csr").display().to_string();
    let leaf = at("leaf.crt");
    openssl(&[
        "x509",
        "-req",
        "-in",
        &leaf_request,
        "-CA",
        &middle,
        "-CAkey",
        &key,
        "-out",
        &leaf,
        "-copy_extensions",
        "copy",
    ]);
    let (leaf, middle) = (std::fs::read_to_string(leaf).unwrap(), std::fs::read_to_string(middle).unwrap());
    std::fs::write(external.signed.join("apiserver.crt"), &leaf).unwrap();
    external.import(&["--only", "apiserver"]).expect(1);
    std::fs::write(external.signed.join("apiserver.crt"), format!("{middle}text between\n{leaf}")).unwrap();
    external.import(&["--only", "apiserver"]).expect(0);
    let file = made.pki("apiserver.crt").display().to_string();
    openssl(&["verify", "-CAfile", &ca, "-untrusted", &file, "-purpose", "sslserver", &file]);
    assert_eq!(std::fs::read_to_string(&file).unwrap().matches("BEGIN").count(), 2);
    // What was taken is what the next run expects.
    let run = made.create(&["--yes", "--only", "apiserver"], &QUICK).expect(0);
    assert!(run.out.contains("nothing to change"), "{run:?}");
}

#[test]
fn a_certificate_of_an_external_authority_is_renewed_before_it_ends() {
    if !is_there(TEST) {
        return;
    }
    let external = External::new();
    let made = &external.made;
    made.create(&["--yes"], &QUICK).expect(0);
    let sign_both = |serial: &str| {
        external.sign(&made.pki("apiserver.csr"), "apiserver.crt", &["-set_serial", serial]);
        external.sign(&made.kubernetes("admin.conf.csr"), "admin.conf.crt", &["-set_serial", serial]);
    };
    let named = ["--only", "apiserver,admin.conf"];
    sign_both("0x1111");
    external.import(&named).expect(0);
    let key = std::fs::read(made.pki("apiserver.key")).unwrap();
    assert!(made.create(&named, &QUICK).expect(0).out.contains("nothing to change"));
    made.create(&[&["--yes", "--csr-only"][..], &named].concat(), &QUICK).expect(0);
    // Nothing in use has changed so far.
    assert!(made.create(&named, &QUICK).expect(0).out.contains("nothing to change"));
    sign_both("0x2222");
    external.import(&named).expect(0);
    let serial = |path: &Path| openssl(&["x509", "-noout", "-serial", "-in", path.to_str().unwrap()]);
    assert_eq!(serial(&made.pki("apiserver.crt")).trim(), "serial=2222");
    assert_eq!(serial(&made.client_of("admin.conf")).trim(), "serial=2222");
    assert_eq!(std::fs::read(made.pki("apiserver.key")).unwrap(), key);
    assert!(made.create(&named, &QUICK).expect(0).out.contains("nothing to change"));
}

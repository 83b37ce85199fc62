//! Authorities: kept whatever they are like, refused when they cannot work, replaced only by name.

use crate::existing::{QUICK, look};
use crate::support::cluster::Pair;
use crate::support::made::Made;
use crate::support::openssl::{is_there, openssl};
use crate::support::process::succeed;
use kubepki::pki::algorithm::KeyAlgorithm;
use kubepki::pki::issue::Template;
use kubepki::pki::name::Name;
use kubepki::pki::private_key::PrivateKey;
use time::{Duration, OffsetDateTime};

/// A root with a validity relative to the real now, since the binary has no other.
fn authority(from: Duration, to: Duration, change: impl FnOnce(&mut Template)) -> Pair {
    let (key, now) = (PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap(), OffsetDateTime::now_utc());
    let mut template =
        Template::authority(Name::new("my own CA", &["ACME".into()]), &[], key.public_key(), (now + from, now + to));
    change(&mut template);
    Pair { certificate: template.self_sign(&key).unwrap(), key }
}

/// A stage on which only the cluster's CA is there.
fn with_authority(crt: &str, key: Option<&str>) -> Made {
    let made = Made { stage: crate::support::binary::Stage::new(), spec: serde_json::Value::Null };
    made.stage.put("root/etc/kubernetes/pki/ca.crt", crt);
    if let Some(key) = key {
        made.stage.put("root/etc/kubernetes/pki/ca.key", key);
    }
    made
}

const YEAR: Duration = Duration::days(365);

#[test]
fn an_authority_of_somebody_else_is_kept_and_used() {
    let own = authority(-YEAR, YEAR * 3, |_| {});
    let made = with_authority(&own.crt(), Some(&own.pem_key()));
    made.create(&["--yes"], &QUICK).expect(0);
    assert_eq!(std::fs::read_to_string(made.pki("ca.crt")).unwrap(), own.crt());
    assert_eq!(std::fs::read_to_string(made.pki("ca.key")).unwrap(), own.pem_key());
    let issuer = openssl(&["x509", "-noout", "-issuer", "-in", made.pki("apiserver.crt").to_str().unwrap()]);
    assert!(issuer.contains("my own CA") && issuer.contains("ACME"), "{issuer}");
    assert!(made.create(&[], &QUICK).expect(0).out.contains("nothing to change"));
}

#[test]
fn nothing_outlives_its_authority() {
    let own = authority(Duration::minutes(-1), Duration::days(30), |_| {});
    let made = with_authority(&own.crt(), Some(&own.pem_key()));
    let run = made.create(&["--yes"], &QUICK).expect(0);
    assert!(run.err.contains("ends with its CA on"), "{run:?}");
    let dates = |path: &str| openssl(&["x509", "-noout", "-enddate", "-in", made.pki(path).to_str().unwrap()]);
    assert_eq!(dates("apiserver.crt"), dates("ca.crt"));
    let begin = |path: &str| openssl(&["x509", "-noout", "-startdate", "-in", made.pki(path).to_str().unwrap()]);
    // Nor does it begin before: the backdating stops where the authority begins.
    assert_eq!(begin("apiserver.crt"), begin("ca.crt"));
}

#[test]
fn a_bundle_is_signed_with_the_certificate_that_has_the_key_and_trusted_whole() {
    let (old, new) = (authority(-YEAR, YEAR, |_| {}), authority(-YEAR, YEAR * 2, |_| {}));
    let made = with_authority(&format!("{}{}", old.crt(), new.crt()), Some(&new.pem_key()));
    made.create(&["--yes"], &QUICK).expect(0);
    let leaf = std::fs::read(made.pki("apiserver.crt")).unwrap();
    let leaf = kubepki::pki::pem_file::PemFile::parse(&leaf).certificates().next().unwrap().der.to_vec();
    let leaf = kubepki::pki::certificate::Certificate::from_der(&leaf).unwrap();
    assert_eq!(leaf.authority_key_id(), new.certificate.subject_key_id());
    let script = "grep certificate-authority-data \"$0\" | cut -d: -f2 | tr -d ' ' | base64 -d | grep -c BEGIN";
    let count = succeed(std::process::Command::new("sh").args(["-c", script]).arg(made.kubernetes("admin.conf")));
    assert_eq!(count.trim(), "2");
}

#[test]
fn an_authority_that_cannot_work_is_refused_before_anything_is_written() {
    let good = authority(-YEAR, YEAR, |_| {});
    let other = authority(-YEAR, YEAR, |_| {});
    let expired = authority(-YEAR, Duration::days(-1), |_| {});
    let future = authority(Duration::days(1), YEAR, |_| {});
    let no_signer = authority(-YEAR, YEAR, |template| {
        // keyCertSign is bit 5 of the usage; digitalSignature and keyEncipherment stay.
        template.extensions[0].value = vec![0x03, 0x02, 0x05, 0xa0];
    });
    let leaf = authority(-YEAR, YEAR, |template| template.extensions[1].value = vec![0x30, 0x00]);
    let half = good.crt()[..200].to_owned();
    let keys = |pair: &Pair| Some(pair.pem_key());
    let cases = [
        ("ca.crt", expired.crt(), keys(&expired), "it expired on"),
        ("ca.crt", future.crt(), keys(&future), "it is not valid before"),
        ("ca.crt", no_signer.crt(), keys(&no_signer), "keyCertSign"),
        ("ca.crt", leaf.crt(), keys(&leaf), "no CA certificate"),
        ("ca.crt", half, keys(&good), "cannot be read"),
        ("ca.crt", "rubbish".to_owned(), keys(&good), "no certificate"),
        ("ca.crt", String::new(), None, "the file is empty"),
        ("ca.key", good.crt(), keys(&other), "does not belong to"),
        ("ca.key", good.crt(), Some("rubbish".to_owned()), "no private key"),
        ("ca.crt", expired.crt(), None, "it expired on"),
    ];
    for (file, crt, key, words) in cases {
        let made = with_authority(&crt, key.as_deref());
        let before = look(&made);
        for more in [&["--yes"][..], &["--yes", "--force"], &["--yes", "--csr-only"], &["--what-if"]] {
            let run = made.create(more, &QUICK).expect(1);
            assert!(run.err.contains(&format!("/etc/kubernetes/pki/{file}")), "{words}: {run:?}");
            assert!(run.err.contains(words) && run.err.contains("hint:"), "{words}: {run:?}");
            assert_eq!(look(&made), before, "{words}");
        }
        // Named, it is made anew.
        let run = made.create(&["--yes", "--force", "--only", "ca,apiserver"], &QUICK).expect(0);
        assert!(run.err.contains("the CA ca is replaced"), "{run:?}");
        made.create(&["--yes"], &QUICK).expect(0);
        assert!(made.create(&[], &QUICK).expect(0).out.contains("nothing to change"));
    }
}

#[test]
fn an_encrypted_key_and_a_key_without_a_certificate_are_told_apart() {
    if !is_there("an_encrypted_key_and_a_key_without_a_certificate_are_told_apart") {
        return;
    }
    let good = authority(-YEAR, YEAR, |_| {});
    let made = with_authority(&good.crt(), Some(&good.pem_key()));
    let key = made.pki("ca.key");
    let encrypted = openssl(&["pkcs8", "-topk8", "-passout", "pass:secret", "-in", key.to_str().unwrap()]);
    std::fs::write(&key, encrypted).unwrap();
    let before = look(&made);
    let run = made.create(&["--yes"], &QUICK).expect(1);
    assert!(run.err.contains("is encrypted") && run.err.contains("openssl pkey"), "{run:?}");
    assert_eq!(look(&made), before);

    std::fs::write(&key, good.pem_key()).unwrap();
    std::fs::remove_file(made.pki("ca.crt")).unwrap();
    let before = look(&made);
    let run = made.create(&["--yes"], &QUICK).expect(1);
    assert!(run.err.contains("ca.key") && run.err.contains("no certificate belongs to it"), "{run:?}");
    assert_eq!(look(&made), before);
}

#[test]
fn a_healthy_authority_is_never_replaced() {
    let made = Made::new(&QUICK);
    let before = look(&made);
    for only in ["ca", "ca,apiserver"] {
        let run = made.create(&["--yes", "--force", "--only", only], &QUICK).expect(0);
        assert!(run.out.contains("nothing to change"), "{run:?}");
    }
    assert_eq!(look(&made), before);
}

#[test]
fn what_hangs_on_a_replaced_authority_is_made_anew_with_it() {
    let made = Made::new(&QUICK);
    std::fs::write(made.pki("ca.key"), "rubbish").unwrap();
    let before = look(&made);
    let run = made.create(&["--force", "--only", "ca", "--what-if", "-o", "json"], &QUICK).expect(0);
    assert_eq!(look(&made), before);
    let names: Vec<String> = run.json()["nodes"][0]["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|file| file["action"] == "replaced")
        .map(|file| file["path"].as_str().unwrap().trim_start_matches("/etc/kubernetes/").to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "pki/ca.key",
            "pki/ca.crt",
            "pki/apiserver.key",
            "pki/apiserver.crt",
            "pki/apiserver-kubelet-client.key",
            "pki/apiserver-kubelet-client.crt",
            "admin.conf",
            "super-admin.conf",
            "controller-manager.conf",
            "scheduler.conf"
        ]
    );
    let run = made.create(&["--yes", "--force", "--only", "ca"], &QUICK).expect(0);
    assert!(run.err.contains("rotate-certs") && run.out.contains("restart what has read the old files"), "{run:?}");
    assert!(made.create(&[], &QUICK).expect(0).out.contains("nothing to change"));
}

#[test]
fn a_lost_token_key_is_replaced_only_by_name_and_old_tokens_stay_valid() {
    let made = Made::new(&QUICK);
    std::fs::remove_file(made.pki("sa.key")).unwrap();
    let old = std::fs::read_to_string(made.pki("sa.pub")).unwrap();
    let before = look(&made);
    for more in [&["--yes"][..], &["--yes", "--force"]] {
        let run = made.create(more, &QUICK).expect(1);
        assert!(run.err.contains("sa.pub") && run.err.contains("every token"), "{run:?}");
        assert_eq!(look(&made), before);
    }
    made.create(&["--yes", "--force", "--only", "sa"], &QUICK).expect(0);
    let new = std::fs::read_to_string(made.pki("sa.pub")).unwrap();
    assert!(new.ends_with(&old) && new.matches("BEGIN PUBLIC KEY").count() == 2, "{new}");
    assert!(made.create(&[], &QUICK).expect(0).out.contains("nothing to change"));
}

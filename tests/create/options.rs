//! Options without which nobody is left alone, and options that make no sense.

use crate::existing::QUICK;
use crate::support::binary::Stage;
use crate::support::made::Made;
use crate::support::openssl::openssl;
use crate::support::tree::picture;

fn sans(made: &Made, path: &str) -> String {
    openssl(&["x509", "-noout", "-ext", "subjectAltName", "-in", made.pki(path).to_str().unwrap()])
}

#[test]
fn no_options_at_all_make_a_complete_set_for_this_machine() {
    let made = Made::new(&["--key-algorithm", "ecdsa-p256"]);
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let names = sans(&made, "etcd/server.crt");
    assert!(names.contains(&format!("DNS:{host}")) && names.contains("DNS:localhost"), "{names}");
    assert!(sans(&made, "apiserver.crt").contains("IP Address:10.96.0.1"));
    assert_eq!(picture(&made.kubernetes("pki"), &[]).len(), 23, "22 files and a folder");
    assert!(made.create(&[], &["--key-algorithm", "ecdsa-p256"]).expect(0).out.contains("nothing to change"));
}

#[test]
fn a_mounted_root_is_named_after_its_own_host_name() {
    let stage = Stage::new();
    stage.put("root/etc/hostname", "# written by the installer\nOther-Machine\n");
    stage.run(&["create-certs", "--root", "root", "--key-algorithm", "ecdsa-p256", "--yes"]).expect(0);
    let made = Made { stage, spec: serde_json::Value::Null };
    assert!(sans(&made, "etcd/server.crt").contains("DNS:other-machine"));
}

#[test]
fn addresses_of_either_family_work_everywhere() {
    let options = [
        "--key-algorithm",
        "ecdsa-p256",
        "--node-name",
        "cp1.example.com",
        "--advertise-address",
        "fd00::5",
        "--service-subnet",
        "fd01::/108,10.96.0.0/12",
        "--service-dns-domain",
        "k8s.example.com",
        "--san",
        "*.api.example.com,192.0.2.9",
        "--san",
        "URI:spiffe://example.com/api",
    ];
    let made = Made::new(&options);
    let names = sans(&made, "apiserver.crt");
    for name in [
        "DNS:cp1.example.com",
        "DNS:kubernetes.default.svc.k8s.example.com",
        "DNS:*.api.example.com",
        "IP Address:FD01:0:0:0:0:0:0:1",
        "IP Address:FD00:0:0:0:0:0:0:5",
        "IP Address:192.0.2.9",
        "URI:spiffe://example.com/api",
    ] {
        assert!(names.contains(name), "{name}: {names}");
    }
    let admin = std::fs::read_to_string(made.kubernetes("admin.conf")).unwrap();
    assert!(admin.contains("https://[fd00::5]:6443"), "{admin}");
    assert!(made.create(&[], &options).expect(0).out.contains("nothing to change"));
}

#[test]
fn options_that_make_no_sense_are_usage_errors_that_name_the_value() {
    let stage = Stage::new();
    for (option, value) in [
        ("--key-algorithm", "ed25519"),
        ("--key-algorithm", "rsa-1024"),
        ("--profile", "eks"),
        ("--validity", "1"),
        ("--validity", "0d"),
        ("--ca-validity", "-1y"),
        ("--san", "a b"),
        ("--san", "-x"),
        ("--advertise-address", "host"),
        ("--node-name", "Node_1"),
        ("--node-name", ""),
        ("--service-subnet", "10.96.0.0"),
        ("--service-subnet", "10.0.0.0/31"),
        ("--service-subnet", "10.0.0.0/8,10.1.0.0/16"),
        ("--service-dns-domain", "a..b"),
        ("--control-plane-endpoint", "https://api:6443"),
        ("--control-plane-endpoint", "api:0"),
        ("--spec", "missing.yaml"),
    ] {
        let given = format!("{option}={value}");
        let words = ["create-certs", "--pki-dir", "pki", "--yes", &given];
        let run = stage.run(&words);
        assert_eq!(run.code, Some(2), "{option}={value}: {run:?}");
        assert!(run.err.contains(value) || run.err.contains("zero"), "{option}={value}: {run:?}");
        assert!(!stage.at("pki").exists(), "{option}={value}");
    }
    for words in [
        &["--import-signed", "x", "--force"][..],
        &["--print-spec", "--csr-only"],
        &["--continue", "--abort"],
        &["--sans", "x"],
    ] {
        let run = stage.run(&[&["create-certs", "--pki-dir", "pki", "--yes"][..], words].concat());
        assert_eq!(run.code, Some(2), "{run:?}");
    }
}

#[test]
fn a_machine_that_is_none_of_ours_is_refused() {
    let stage = Stage::new();
    stage.put("k3s/var/lib/rancher/k3s/server/tls/server-ca.crt", "x");
    let run = stage.run(&["create-certs", "--root", "k3s", "--yes"]).expect(1);
    assert!(run.err.contains("k3s and RKE2 make their own certificates"), "{run:?}");
    stage.put("worker/etc/kubernetes/kubelet.conf", "x");
    let run = stage.run(&["create-certs", "--root", "worker", "--yes"]).expect(1);
    assert!(run.err.contains("no control-plane node"), "{run:?}");
}

#[test]
fn profiles_say_what_they_need() {
    let made = Made::new(&[&QUICK[..], &["--profile", "aks-arc"]].concat());
    std::fs::remove_file(made.pki("apiserver.crt")).unwrap();
    let run = made.create(&["--yes"], &[&QUICK[..], &["--profile", "aks-arc"]].concat()).expect(0);
    assert!(run.out.contains("auto-rotate") && run.out.contains("--etcd-cafile=/etc/kubernetes/pki/ca.crt"), "{run:?}");
    let stage = Stage::new();
    let words = [&["create-certs", "--pki-dir", "pki", "--profile", "aks", "--what-if"][..], &QUICK].concat();
    let run = stage.run(&words).expect(0);
    assert!(run.out.contains("--requestheader-allowed-names=front-proxy-client"), "{run:?}");
    let run = stage.run(&[&["create-certs", "--pki-dir", "pki", "--what-if"][..], &QUICK].concat()).expect(0);
    assert!(!run.out.contains("Next:"), "{run:?}");
}

#[test]
fn every_option_can_be_preset_by_the_environment() {
    let stage = Stage::new();
    let variables = [
        ("KUBEPKI_PKI_DIR", "pki"),
        ("KUBEPKI_YES", "true"),
        ("KUBEPKI_KEY_ALGORITHM", "ecdsa-p384"),
        ("KUBEPKI_NODE_NAME", "named-by-the-environment"),
        ("KUBEPKI_ONLY", "etcd-ca,etcd-peer"),
    ];
    stage.run_with(&["create-certs"], &variables).expect(0);
    let text = openssl(&["x509", "-noout", "-text", "-in", stage.at("pki/etcd/peer.crt").to_str().unwrap()]);
    assert!(text.contains("secp384r1") && text.contains("CN = named-by-the-environment"), "{text}");
    assert!(!stage.at("pki/ca.crt").exists());
}

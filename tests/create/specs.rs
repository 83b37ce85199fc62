//! Specs from files: printed and read back, per-node templates, faults with file, line and column.

use std::fmt::Write as _;

use crate::support::binary::Stage;
use crate::support::openssl::openssl;
use crate::support::tree::picture;

const HEAD: &str = "apiVersion: kubepki.io/v1\nkind: CertificateSpec\n";

#[test]
fn a_printed_spec_makes_the_same_when_it_is_given_back() {
    for profile in ["kubeadm", "aks-arc", "aks"] {
        let stage = Stage::new();
        let options = [
            "--profile",
            profile,
            "--key-algorithm",
            "ecdsa-p256",
            "--node-name",
            "cp7",
            "--advertise-address",
            "10.0.0.7",
            "--control-plane-endpoint",
            "api.example.com:8443",
            "--san",
            "more.example.com",
            "--service-subnet",
            "10.32.0.0/16",
            "--service-dns-domain",
            "example.local",
            "--validity",
            "40d",
            "--ca-validity",
            "5y",
        ];
        let printed = stage.run(&[&["create-certs", "--print-spec"][..], &options].concat()).expect(0).out;
        let spec = stage.put("spec.yaml", &printed);
        let spec = spec.to_str().unwrap();
        let again = stage.run(&["create-certs", "--print-spec", "--spec", spec]).expect(0).out;
        assert_eq!(again, printed);
        assert!(picture(&stage.at(""), &["home", "spec.yaml"]).is_empty(), "printing writes nothing");

        std::fs::create_dir(stage.at("root")).unwrap();
        let target = ["create-certs", "--root", "root", "--yes"];
        stage.run(&[&target[..], &options].concat()).expect(0);
        let run = stage.run(&[&target[..], &["--spec", spec]].concat()).expect(0);
        assert!(run.out.contains("nothing to change"), "{run:?}");
        // And the other way round.
        std::fs::create_dir(stage.at("other")).unwrap();
        stage.run(&["create-certs", "--root", "other", "--yes", "--spec", spec]).expect(0);
        let run = stage.run(&[&["create-certs", "--root", "other"][..], &options].concat()).expect(0);
        assert!(run.out.contains("nothing to change"), "{run:?}");
        let json = stage.run(&["create-certs", "--print-spec", "--spec", spec, "-o", "json"]).expect(0);
        assert_eq!(json.json()["cluster"]["controlPlaneEndpoint"], "api.example.com:8443");
        let one = ["create-certs", "--print-spec", "--profile", profile, "--query", "defaults.caValidity", "-o", "tsv"];
        assert_eq!(stage.run(&one).expect(0).out.trim(), if profile == "aks" { "30y" } else { "10y" });
    }
}

#[test]
fn a_spec_builds_on_a_profile_and_names_its_own_node() {
    let stage = Stage::new();
    let spec = stage.put(
        "spec.yaml",
        format!(
            "{HEAD}profile: kubeadm
without: [super-admin.conf, etcd-ca, etcd-server, etcd-peer, etcd-healthcheck-client, apiserver-etcd-client]
defaults: {{keyAlgorithm: ecdsa-p256}}
authorities:
- {{name: metrics-ca, path: extra/metrics-ca, commonName: metrics, validity: 90d}}
certificates:
- name: metrics
  path: extra/metrics
  issuer: metrics-ca
  commonName: 'metrics-{{{{node.name}}}}'
  organizations: ['dev', 'ops', 'team {{{{ cluster.name }}}}']
  sans: ['{{{{node.name}}}}', '{{{{node.address}}}}', '*.metrics.example.com', 'URI:spiffe://x/{{{{node.name}}}}']
  usages: [serverAuth, clientAuth, 1.3.6.1.5.5.7.3.4]
  validity: 30d
kubeconfigs:
- {{name: ci.conf, path: people/ci.conf, issuer: ca, commonName: ci, organizations: [ci], server: 'https://{{{{cluster.controlPlaneEndpoint}}}}'}}
"
        ),
    );
    std::fs::create_dir(stage.at("root")).unwrap();
    let options = ["--spec", spec.to_str().unwrap(), "--node-name", "cp3", "--advertise-address", "10.0.0.3"];
    let words = [&["create-certs", "--root", "root", "--yes"][..], &options].concat();
    stage.run(&words).expect(0);
    let pki = stage.at("root/etc/kubernetes/pki");
    assert!(!pki.join("etcd").exists() && !stage.at("root/etc/kubernetes/super-admin.conf").exists());
    assert!(pki.join("apiserver.crt").exists() && stage.at("root/etc/kubernetes/people/ci.conf").exists());
    let metrics = pki.join("extra/metrics.crt");
    let text = openssl(&["x509", "-noout", "-text", "-in", metrics.to_str().unwrap()]);
    assert!(text.contains("CN = metrics-cp3") && text.contains("E-mail Protection"), "{text}");
    for name in ["DNS:cp3", "DNS:*.metrics.example.com", "IP Address:10.0.0.3", "URI:spiffe://x/cp3"] {
        assert!(text.contains(name), "{name}: {text}");
    }
    let subject = openssl(&["x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in", metrics.to_str().unwrap()]);
    assert_eq!(subject.trim(), "subject=CN=metrics-cp3,O=team kubernetes+O=ops+O=dev");
    assert!(stage.run(&words).expect(0).out.contains("nothing to change"));
}

#[test]
fn a_fault_is_a_usage_error_with_file_line_and_column() {
    let stage = Stage::new();
    let entry = "- {name: a, path: a, issuer: ca, commonName: x, usages: [clientAuth]";
    for (body, place, words) in [
        (format!("profile: kubeadm\ncertificates:\n{entry}, colour: red}}\n"), ":5:", "unknown field `colour`"),
        (format!("certificates:\n{entry}}}\n"), ":4:30: ", "issuer `ca` is not among the authorities"),
        ("profile: kubeadm\nbogus: 1\n".to_owned(), ":4:1: ", "unknown field `bogus`"),
        ("profile: kubeadm\nwithout: [etcd-ca]\n".to_owned(), ": ", "issuer `etcd-ca`"),
        ("profile: kubeadm\nnode: {name: {{node.name}}}\n".to_owned(), ":4:", ""),
        ("authorities: 5\n".to_owned(), ":3:", ""),
        ("cluster: {name: [\n".to_owned(), ":", ""),
    ] {
        let spec = stage.put("my spec.yaml", format!("{HEAD}{body}"));
        for more in [&["--print-spec"][..], &["--pki-dir", "pki", "--yes"]] {
            let run = stage.run(&[&["create-certs", "--spec", spec.to_str().unwrap()][..], more].concat()).expect(2);
            assert!(run.err.contains(&format!("my spec.yaml{place}")) && run.err.contains(words), "{body}: {run:?}");
        }
    }
    assert!(!stage.at("pki").exists());
    let spec = stage.put("spec.yaml", format!("{HEAD}profile: aks\n"));
    let run = stage.run(&["create-certs", "--spec", spec.to_str().unwrap(), "--profile", "kubeadm", "--print-spec"]);
    assert!(run.code == Some(2) && run.err.contains("aks") && run.err.contains("kubeadm"), "{run:?}");
    let run = stage.run(&["create-certs", "--spec", "home", "--print-spec"]);
    assert!(run.code == Some(2) && run.err.contains("folder"), "{run:?}");
}

#[test]
fn bombs_and_huge_files_are_refused_quickly() {
    let stage = Stage::new();
    let mut bomb = format!("{HEAD}metadata:\n  name: &a x\n");
    for level in 0..9 {
        let _ = writeln!(bomb, "l{level}: &l{level} [{}]", "*a, ".repeat(9));
    }
    let huge = format!("{HEAD}metadata: {{name: {}}}\n", "x".repeat(1024 * 1024));
    let deep = format!("{HEAD}metadata: {}\n", "[".repeat(100_000));
    for document in [bomb, huge, deep] {
        let spec = stage.put("spec.yaml", document);
        let run = stage.run(&["create-certs", "--spec", spec.to_str().unwrap(), "--print-spec"]).expect(2);
        assert!(run.err.contains("spec.yaml") && run.err.len() < 1000, "{}", run.err.len());
    }
}

//! What `rotate-certs` leaves behind, judged by others: openssl, kubeadm, etcd, kubectl and a kube-apiserver.

use std::path::{Path, PathBuf};
use std::process::Command;

use kubepki::plan::rotate::etcd_data;

use crate::kubeadm::{by_kubeadm, configuration, kubeadm};
use crate::openssl::{verify, verify_all};
use crate::support::binary::Stage;
use crate::support::etcd::{Etcd, programs};
use crate::support::kubernetes::{ControlPlane, kubectl};
use crate::support::made::{MACHINE, Made};
use crate::support::openssl::{is_there, openssl};
use crate::support::process::{free_ports, said, succeed, wait_for};
use crate::support::skip;

const QUICK: [&str; 2] = ["--key-algorithm", "ecdsa-p256"];

fn rotate(stage: &Stage, words: &[&str]) {
    let root = stage.at("root");
    stage.run(&[&["rotate-certs", "--yes", "-o", "none", "--root", root.to_str().unwrap()], words].concat()).expect(0);
}

#[test]
fn every_chain_is_strictly_right_after_every_kind_of_rotation() {
    if !is_there("every_chain_is_strictly_right_after_every_kind_of_rotation") {
        return;
    }
    let made = Made::new(&[&MACHINE[..], &QUICK].concat());
    for words in [
        &["--only", "leaf"][..],
        &["--only", "cluster-ca"],
        &["--only", "etcd-ca", "--same-key"],
        &["--only", "ca", "--same-key", "--ca-validity", "40y"],
        &["--same-key"],
        &["--key-algorithm", "rsa-2048"],
        &["--only", "leaf", "--key-algorithm", "rsa-3072"],
        &["--key-algorithm", "ecdsa-p384"],
        &["--only", "front-proxy-ca,sa", "--key-algorithm", "rsa-4096"],
        &["--only", "etcd-ca", "--key-algorithm", "ecdsa-p256"],
        &["--validity", "30d", "--ca-validity", "50y"],
        &["--add-san", "api.example.com,2001:db8::7"],
        &[],
    ] {
        rotate(&made.stage, words);
        assert_eq!(verify_all(&made), 16, "{words:?}");
    }
    let raw = succeed(Command::new("openssl").args(["asn1parse", "-in"]).arg(made.pki("ca.crt")));
    assert!(raw.contains("GENERALIZEDTIME   :207"), "the length of fifty years is carried over: {raw}");
}

#[test]
fn every_chain_of_every_profile_is_strictly_right_after_a_rotation() {
    if !is_there("every_chain_of_every_profile_is_strictly_right_after_a_rotation") {
        return;
    }
    // In the first one authority has another's leaves, in the second one authority has two names.
    for (profile, chains) in [("aks-arc", 17), ("aks", 15)] {
        let made = Made::new(&[&MACHINE[..], &QUICK, &["--profile", profile]].concat());
        for words in [&["--only", "leaf"][..], &["--only", "cluster-ca"], &["--same-key"], &[]] {
            rotate(&made.stage, words);
            assert_eq!(verify_all(&made), chains, "{profile} {words:?}");
        }
    }
}

#[test]
fn an_intermediate_authority_is_replaced_under_its_root_and_with_it() {
    if !is_there("an_intermediate_authority_is_replaced_under_its_root_and_with_it") {
        return;
    }
    let stage = Stage::new();
    let spec = stage.put(
        "spec.yaml",
        "apiVersion: kubepki.io/v1
kind: CertificateSpec
defaults: {keyAlgorithm: ecdsa-p256}
authorities:
- {name: root, path: root, commonName: root}
- {name: middle, path: middle, issuer: root, commonName: middle}
certificates:
- {name: leaf, path: leaf, issuer: middle, commonName: leaf, sans: [leaf.example.com], usages: [serverAuth]}
",
    );
    stage.run(&["create-certs", "--pki-dir", "pki", "--yes", "--spec", spec.to_str().unwrap()]).expect(0);
    let pem = |name: &str| std::fs::read_to_string(stage.at("pki").join(name)).unwrap();
    for (words, changed) in [
        (&["--only", "leaf"][..], &["leaf.crt"][..]),
        (&["--only", "middle"], &["middle.crt", "leaf.crt"]),
        (&["--only", "root"], &["root.crt", "middle.crt"]),
        (&["--only", "middle", "--same-key"], &["middle.crt"]),
        (&[], &["root.crt", "middle.crt", "leaf.crt"]),
    ] {
        let first = |name: &str| pem(name).split_inclusive("-----END CERTIFICATE-----").next().unwrap().to_owned();
        let before = ["root.crt", "middle.crt", "leaf.crt"].map(|name| (name, first(name)));
        stage.run(&[&["rotate-certs", "--pki-dir", "pki", "--yes"], words].concat()).expect(0);
        let at = |name: &str| stage.at("pki").join(name);
        verify(&at("root.crt"), &at("middle.crt"), &[]);
        let leaf = at("leaf.crt");
        verify(&at("root.crt"), &leaf, &["-untrusted", leaf.to_str().unwrap(), "-purpose", "sslserver"]);
        assert_eq!(pem("leaf.crt").matches("BEGIN CERTIFICATE").count(), 2, "{words:?}: the chain is whole");
        for (name, old) in before {
            assert_eq!(first(name) != old, changed.contains(&name), "{words:?}: {name}");
        }
    }
}

#[test]
fn old_leaves_fit_an_authority_that_kept_its_key() {
    if !is_there("old_leaves_fit_an_authority_that_kept_its_key") {
        return;
    }
    for algorithm in ["rsa-2048", "ecdsa-p384"] {
        let made = Made::new(&[&MACHINE[..], &["--key-algorithm", algorithm]].concat());
        let old = made.stage.put("old-ca.crt", std::fs::read(made.pki("ca.crt")).unwrap());
        rotate(&made.stage, &["--only", "cluster-ca", "--same-key"]);
        let leaf = made.pki("apiserver.crt");
        verify(&old, &leaf, &[]);
        verify(&made.pki("ca.crt"), &leaf, &[]);
        let serial = |path: &Path| openssl(&["x509", "-noout", "-serial", "-in", path.to_str().unwrap()]);
        assert_ne!(serial(&old), serial(&made.pki("ca.crt")));
    }
}

#[test]
fn leaves_that_name_the_serial_number_of_their_issuer_follow_it() {
    if !is_there("leaves_that_name_the_serial_number_of_their_issuer_follow_it") {
        return;
    }
    let stage = Stage::new();
    let script = "
        openssl req -x509 -nodes -newkey rsa:2048 -subj /CN=web-ca -days 30 -out pki/web-ca.crt -keyout pki/web-ca.key \
          -addext keyUsage=critical,keyCertSign &&
        openssl req -new -nodes -newkey rsa:2048 -subj /CN=web -out web.csr -keyout pki/web.key &&
        printf 'authorityKeyIdentifier=keyid,issuer:always\\nsubjectAltName=DNS:web\\nkeyUsage=critical,digitalSignature\\n' >ext &&
        openssl x509 -req -in web.csr -CA pki/web-ca.crt -CAkey pki/web-ca.key -set_serial 7 -days 20 -extfile ext -out pki/web.crt";
    std::fs::create_dir(stage.at("pki")).unwrap();
    succeed(Command::new("sh").args(["-c", script]).current_dir(stage.at("")));
    let [authority, leaf] = ["pki/web-ca.crt", "pki/web.crt"].map(|path| stage.at(path));
    verify(&authority, &leaf, &[]);
    stage.run(&["rotate-certs", "--pki-dir", "pki", "--only", "web-ca", "--same-key", "--yes"]).expect(0);
    verify(&authority, &leaf, &["-purpose", "sslserver", "-verify_hostname", "web"]);
    let text = openssl(&["x509", "-noout", "-serial", "-in", leaf.to_str().unwrap()]);
    assert_ne!(text.trim(), "serial=07");
    stage.run(&["rotate-certs", "--pki-dir", "pki", "--key-algorithm", "ecdsa-p256", "--yes"]).expect(0);
    verify(&authority, &leaf, &["-purpose", "sslserver", "-verify_hostname", "web"]);
}

#[test]
fn kubeadm_takes_what_was_rotated_and_rotation_takes_what_kubeadm_made() {
    let test = "kubeadm_takes_what_was_rotated_and_rotation_takes_what_kubeadm_made";
    let Some(binaries) = skip::kubernetes(test, skip::KUBEADM) else { return };
    if !skip::root_only(test) {
        return;
    }
    for algorithm in ["rsa-2048", "rsa-4096", "ecdsa-p384"] {
        let stage = by_kubeadm(&binaries, &configuration(&algorithm.to_uppercase(), "10.96.0.0/12"));
        let pki = |path: &str| stage.at("root/etc/kubernetes/pki").join(path);
        let shape = |path: &str| {
            let pem = openssl(&[
                "x509",
                "-noout",
                "-subject",
                "-ext",
                "subjectAltName,extendedKeyUsage",
                "-in",
                pki(path).to_str().unwrap(),
            ]);
            (pem, std::fs::read_to_string(pki(path).with_extension("key")).unwrap().lines().next().map(str::to_owned))
        };
        let old: Vec<_> =
            ["apiserver.crt", "etcd/server.crt", "front-proxy-client.crt"].into_iter().map(shape).collect();
        rotate(&stage, &[]);
        let new: Vec<_> =
            ["apiserver.crt", "etcd/server.crt", "front-proxy-client.crt"].into_iter().map(shape).collect();
        assert_eq!(new, old, "{algorithm}: subject, names, usages and the form of the key file");
        for (authority, leaf) in
            [("ca", "apiserver"), ("etcd/ca", "etcd/peer"), ("front-proxy-ca", "front-proxy-client")]
        {
            verify(&pki(&format!("{authority}.crt")), &pki(&format!("{leaf}.crt")), &[]);
        }
        let root = stage.at("root");
        let words = ["certs", "check-expiration", "--config", "/kubeadm.yaml", "-o", "json"];
        let seen: serde_json::Value = serde_json::from_str(&kubeadm(&binaries, &root, &words)).unwrap();
        for row in
            seen["certificates"].as_array().unwrap().iter().chain(seen["certificateAuthorities"].as_array().unwrap())
        {
            assert!(row["missing"] != true && row["externallyManaged"] != true, "{row}");
            assert!(row["residualTime"].as_f64().is_some_and(|seconds| seconds > 364.0 * 86_400.0), "{row}");
        }
        kubeadm(&binaries, &root, &["certs", "renew", "all", "--config", "/kubeadm.yaml"]);
        verify(&pki("ca.crt"), &pki("apiserver.crt"), &["-purpose", "sslserver"]);
        rotate(&stage, &["--only", "leaf"]);
        verify(&pki("ca.crt"), &pki("apiserver.crt"), &["-purpose", "sslserver"]);
    }
}

#[test]
fn etcd_members_find_each_other_again_after_their_authority_was_replaced() {
    let test = "etcd_members_find_each_other_again_after_their_authority_was_replaced";
    for program in programs(test) {
        let made = Made::new(&[&MACHINE[..], &QUICK].concat());
        // Names and addresses are those of this machine, so three members can use the same files.
        let folders: Vec<PathBuf> = (0..3).map(|_| made.pki("")).collect();
        let mut etcd = Etcd::start(&program, &folders, "etcd/ca.crt");
        etcd.prove("key", "old");
        // Leaves are read at every new connection: no restart is needed for them.
        rotate(&made.stage, &["--only", "leaf"]);
        etcd.prove("key", "new leaves");
        rotate(&made.stage, &["--only", "etcd-ca", "--same-key"]);
        etcd.prove("key", "same key");
        (0..3).for_each(|index| etcd.stop_member(index));
        rotate(&made.stage, &["--key-algorithm", "ecdsa-p384"]);
        (0..3).for_each(|index| etcd.start_member(index));
        etcd.wait_until_healthy();
        etcd.prove("key", "everything new");
        let health = etcd.ctl_as(2, "etcd/healthcheck-client", &["endpoint", "health"]);
        assert!(health.status.success(), "{}", said(&health));
    }
}

#[test]
fn etcds_own_data_tells_which_nodes_and_members_there_are() {
    let test = "etcds_own_data_tells_which_nodes_and_members_there_are";
    for program in programs(test) {
        let made = Made::new(&[&MACHINE[..], &QUICK].concat());
        let folders: Vec<PathBuf> = (0..3).map(|_| made.pki("")).collect();
        let etcd = Etcd::start(&program, &folders, "etcd/ca.crt");
        // As many other objects as make a tree of pages, nodes that went again among them.
        for number in 0..300 {
            let put = etcd.ctl(0, &["put", &format!("/registry/pods/default/pod-{number}"), &"x".repeat(900)]);
            assert!(put.status.success(), "{}", said(&put));
        }
        for name in ["cp1", "gone", "w1.example.com"] {
            etcd.ctl(0, &["put", &format!("/registry/minions/{name}"), "k8s"]);
        }
        etcd.ctl(0, &["del", "/registry/minions/gone"]);
        etcd.ctl(0, &["put", "/registry/minions/cp1", "again"]);
        let look = || etcd_data::read(&std::fs::read(etcd.data(1)).unwrap()).unwrap_or_default();
        // Members write their file a moment after they answered.
        let nodes = ["cp1", "w1.example.com"];
        wait_for("the nodes in etcd's data", || look().nodes == nodes, || format!("{:?}", look()));
        assert_eq!(look().members, ["m0", "m1", "m2"]);
        // A file that is cut or damaged anywhere is no answer, or a wrong one, and never the end of the program.
        let bytes = std::fs::read(etcd.data(1)).unwrap();
        for length in (0..bytes.len()).step_by(997) {
            etcd_data::read(&bytes[..length]);
        }
        for at in (0..bytes.len().min(200_000)).step_by(101) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            etcd_data::read(&damaged);
        }
    }
}

#[test]
fn kubectl_reads_every_kubeconfig_that_was_rotated() {
    let Some(program) = kubectl("kubectl_reads_every_kubeconfig_that_was_rotated") else { return };
    let made = Made::new(&[&MACHINE[..], &QUICK].concat());
    rotate(&made.stage, &[]);
    for name in ["admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf"] {
        let mut command = Command::new(&program);
        command
            .arg("--kubeconfig")
            .arg(made.kubernetes(name))
            .args(["config", "view", "--minify", "--raw", "-o", "json"]);
        let seen: serde_json::Value = serde_json::from_str(&succeed(&mut command)).unwrap();
        let data = seen["clusters"][0]["cluster"]["certificate-authority-data"].as_str().unwrap();
        let pem = std::fs::read(made.pki("ca.crt")).unwrap();
        assert_eq!(data, crate::support::cluster::base64(pem));
    }
}

#[test]
fn an_api_server_runs_on_what_was_rotated_and_refuses_what_was_before() {
    let test = "an_api_server_runs_on_what_was_rotated_and_refuses_what_was_before";
    let Some(binaries) = skip::kubernetes(test, skip::CONTROL_PLANE) else { return };
    let port = free_ports(1)[0];
    let made = Made::for_port(port, "kubeadm");
    let mut plane = ControlPlane::start(&binaries, &made.kubernetes(""), port, "etcd/ca.crt", &[]);
    let who = |plane: &ControlPlane, kubeconfig: &str| plane.kubectl(kubeconfig, &["auth", "whoami", "-o", "name"]);
    std::fs::copy(made.kubernetes("admin.conf"), made.kubernetes("old.conf")).unwrap();

    // Leaves and an authority with its own key are taken up by a running server; the old kubeconfig stays good.
    rotate(&made.stage, &["--only", "leaf"]);
    rotate(&made.stage, &["--only", "ca", "--same-key"]);
    for kubeconfig in ["old.conf", "admin.conf"] {
        assert!(who(&plane, kubeconfig).status.success(), "{kubeconfig}: {}", said(&who(&plane, kubeconfig)));
    }
    plane.restart_server("etcd/ca.crt");
    for kubeconfig in ["old.conf", "admin.conf", "scheduler.conf"] {
        assert!(who(&plane, kubeconfig).status.success(), "{kubeconfig}: {}", said(&who(&plane, kubeconfig)));
    }
    let account = plane.kubectl("super-admin.conf", &["create", "serviceaccount", "probe"]);
    assert!(account.status.success(), "{}", said(&account));
    let token = || {
        let made = plane.kubectl("super-admin.conf", &["create", "token", "probe", "--duration", "10m"]);
        assert!(made.status.success(), "{}", said(&made));
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    let old_token = token();

    rotate(&made.stage, &["--only", "sa", "--wait-for-tokens", "24h"]);
    plane.restart_server("etcd/ca.crt");
    let accepts = |plane: &ControlPlane, token: &str| {
        plane.kubectl("tokenless.conf", &["--token", token, "auth", "whoami", "-o", "name"]).status.success()
    };
    let tokenless = |made: &Made| {
        let admin = std::fs::read_to_string(made.kubernetes("admin.conf")).unwrap();
        let users = admin.find("users:").unwrap();
        let without = format!("{}users:\n- name: kubernetes-admin\n  user: {{}}\n", &admin[..users]);
        std::fs::write(made.kubernetes("tokenless.conf"), without).unwrap();
    };
    tokenless(&made);
    assert!(accepts(&plane, &old_token), "the old key still proves old tokens");

    rotate(&made.stage, &[]);
    plane.etcd.restart_member(0);
    plane.restart_server("etcd/ca.crt");
    tokenless(&made);
    assert!(who(&plane, "admin.conf").status.success(), "{}", said(&who(&plane, "admin.conf")));
    let refused = who(&plane, "old.conf");
    assert!(!refused.status.success() && said(&refused).contains("unknown authority"), "{}", said(&refused));
    assert!(!accepts(&plane, &old_token), "tokens of the old keys are refused");
}

//! A kube-apiserver knows whoever got credentials, kubectl uses the file they are in, and kubeadm's own admin.conf comes
//! through unchanged.

use std::process::Command;

use serde_json::Value;

use crate::support::binary::Stage;
use crate::support::kubernetes::ControlPlane;
use crate::support::made::Made;
use crate::support::process::{free_ports, said, succeed};
use crate::support::skip;

/// Everybody in one kubeconfig, as the API server sees them.
#[test]
fn an_api_server_knows_whoever_got_credentials() {
    let Some(binaries) = skip::kubernetes("an_api_server_knows_whoever_got_credentials", skip::CONTROL_PLANE) else {
        return;
    };
    let port = free_ports(1)[0];
    let stage = Stage::new();
    let spec = stage.put(
        "spec.yaml",
        format!(
            "{{apiVersion: kubepki.io/v1, kind: CertificateSpec, profile: kubeadm, cluster: {{apiServerPort: {port}}}, \
             node: {{name: cp1, address: 127.0.0.1}}}}"
        ),
    );
    let made = Made::new(&["--spec", spec.to_str().unwrap(), "--key-algorithm", "ecdsa-p256"]);
    let plane = ControlPlane::start(&binaries, &made.kubernetes(""), port, "etcd/ca.crt", &[]);
    let people = made.kubernetes("people.conf");
    // A kubeconfig with a past: comments, and a user that nobody knows any more.
    std::fs::write(&people, "# mine\nusers:\n- name: clusterUser_ann # me\n  user: {token: old}\n").unwrap();
    let root = made.stage.at("root");
    let get = |words: &[&str]| {
        let target = ["get-credentials", "--root", root.to_str().unwrap(), "-f", people.to_str().unwrap()];
        made.stage.run(&[&target[..], words].concat()).expect(0)
    };
    get(&["--context", "ann", "--user-name", "ann", "--overwrite-existing"]);
    get(&[
        "--context",
        "ci",
        "--user-name",
        "ci",
        "--group",
        "deployers",
        "--group",
        "system:masters",
        "--validity",
        "5m",
    ]);
    get(&["--context", "boss", "--admin"]);
    let seen = |context: &str| {
        let answer = plane.kubectl("people.conf", &["--context", context, "auth", "whoami", "-o", "json"]);
        let seen: Value = serde_json::from_slice(&answer.stdout)
            .unwrap_or_else(|error| panic!("{context}: {error}: {}\n{}", said(&answer), plane.words()));
        let info = &seen["status"]["userInfo"];
        let groups = info["groups"].as_array().unwrap().iter().filter_map(Value::as_str).map(str::to_owned);
        (info["username"].as_str().unwrap().to_owned(), groups.collect::<Vec<_>>())
    };
    for (context, user, groups) in [
        ("ann", "ann", &["kubeadm:cluster-admins", "system:authenticated"][..]),
        ("ci", "ci", &["deployers", "system:masters", "system:authenticated"]),
        ("boss-admin", "kubernetes-admin", &["kubeadm:cluster-admins", "system:authenticated"]),
    ] {
        assert_eq!(seen(context), (user.to_owned(), groups.iter().map(ToString::to_string).collect()), "{context}");
    }
    let secrets = |context: &str| plane.kubectl("people.conf", &["--context", context, "get", "secrets", "-A"]);
    assert!(secrets("ci").status.success(), "{}", said(&secrets("ci")));
    assert!(said(&secrets("ann")).contains("Forbidden"), "{}", said(&secrets("ann")));
}

#[test]
fn the_admin_conf_of_kubeadm_is_copied_byte_for_byte() {
    let Some(binaries) = skip::kubernetes("the_admin_conf_of_kubeadm_is_copied_byte_for_byte", skip::KUBEADM) else {
        return;
    };
    let stage = Stage::new();
    let root = stage.at("root");
    std::fs::create_dir(&root).unwrap();
    for phase in [&["certs", "ca"][..], &["kubeconfig", "admin"]] {
        let mut kubeadm = Command::new(binaries.join("kubeadm"));
        kubeadm.env_clear().env("PATH", "/usr/bin:/bin").arg("--rootfs").arg(&root).args(["init", "phase"]);
        // A version spares kubeadm the question to the network.
        kubeadm.args(phase).args(if phase[0] == "certs" {
            &["--kubernetes-version", "v1.36.0"][..]
        } else {
            &["--kubernetes-version", "v1.36.0", "--apiserver-advertise-address", "10.0.0.1"]
        });
        succeed(&mut kubeadm);
    }
    let original = std::fs::read_to_string(root.join("etc/kubernetes/admin.conf")).unwrap();
    let run = stage.run(&["get-credentials", "--root", "root", "--admin", "--file", "-"]).expect(0);
    let named = original
        .replace("  name: kubernetes-admin@kubernetes", "  name: kubernetes-admin")
        .replace("current-context: kubernetes-admin@kubernetes", "current-context: kubernetes-admin")
        .replace("user: kubernetes-admin", "user: clusterAdmin_kubernetes")
        .replace("- name: kubernetes-admin\n  user:", "- name: clusterAdmin_kubernetes\n  user:");
    assert_eq!(run.out, named);
    // A certificate from kubeadm's CA, whose key it writes in PKCS#1.
    let run = stage.run(&["get-credentials", "--root", "root", "-o", "json"]).expect(0);
    assert_eq!(run.json()["action"], "created");
}

//! `verify` before real servers: etcd members, an API server, and a node that has neither.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::binary::{Run, Stage};
use crate::support::etcd::{Etcd, programs};
use crate::support::kubernetes::ControlPlane;
use crate::support::made::Made;
use crate::support::process::free_ports;
use crate::support::skip;

/// A cluster file whose only node is this machine, with the folders of `made`.
struct Node {
    made: Made,
    file: PathBuf,
}

impl Node {
    fn new(options: &[&str]) -> Self {
        let quick = ["--node-name", "cp1", "--advertise-address", "127.0.0.1", "--key-algorithm", "ecdsa-p256"];
        Self::of(Made::new(&[&quick, options].concat()))
    }

    fn of(made: Made) -> Self {
        let kubelet = made.stage.at("kubelet");
        fs::create_dir(&kubelet).unwrap();
        fs::create_dir_all(made.kubernetes("manifests")).unwrap();
        let text = format!(
            "apiVersion: kubepki.io/v1\nkind: Cluster\nmetadata: {{name: lab}}\nspec:\n  kubernetesDir: {}\n  \
             kubeletDir: {}\n  nodes:\n  - {{name: cp1, host: local, role: control-plane}}\n",
            made.kubernetes("").display(),
            kubelet.display(),
        );
        let file = made.stage.put("cluster.yaml", text);
        Self { made, file }
    }

    /// Says in a manifest where a component listens.
    fn manifest(&self, component: &str, words: &[String]) {
        let words = words.join("\n    - ");
        let text = format!("spec:\n  containers:\n  - command:\n    - {component}\n    - {words}\n");
        fs::write(self.made.kubernetes(&format!("manifests/{component}.yaml")), text).unwrap();
    }

    fn verify(&self, words: &[&str]) -> Run {
        let file = self.file.to_str().unwrap();
        self.made.stage.run(&[&["verify", "--cluster-file", file, "-o", "json"], words].concat())
    }
}

/// What each credential (its file's name) came to: component, accepted, reason.
fn answers(run: &Run) -> Vec<(String, String, Option<bool>, String)> {
    let document = run.json();
    assert_eq!(document["kind"], "VerificationResult");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let endpoints = document["endpoints"].as_array().unwrap();
    endpoints
        .iter()
        .map(|entry| {
            let path = text(&entry["credential"]);
            let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
            assert!(text(&entry["at"]).ends_with('Z') && entry["node"] == "cp1", "{entry}");
            (name, text(&entry["component"]), entry["accepted"].as_bool(), text(&entry["reason"]))
        })
        .collect()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_etcd_member_tells_its_clients_from_those_of_before() {
    for program in programs("an_etcd_member_tells_its_clients_from_those_of_before") {
        let (node, before) = (Node::new(&[]), Node::new(&[]));
        let mut etcd = Etcd::start(&program, &[node.made.pki("")], "etcd/ca.crt");
        node.manifest("etcd", &[format!("--listen-client-urls={}", etcd.client_url(0))]);

        // Without options: what the node itself uses.
        let run = node.verify(&[]).expect(0);
        let mut names: Vec<String> = answers(&run).into_iter().map(|(name, ..)| name).collect();
        names.sort();
        assert_eq!(names, ["apiserver-etcd-client.crt", "healthcheck-client.crt"]);

        let pki = |node: &Node, name: &str| node.made.pki(name);
        let (new, new_key) = (pki(&node, "apiserver-etcd-client.crt"), pki(&node, "apiserver-etcd-client.key"));
        let (old, old_key) = (pki(&before, "apiserver-etcd-client.crt"), pki(&before, "apiserver-etcd-client.key"));
        let both = [
            ["--certificate", path(&new), "--key", path(&new_key)],
            ["--refused-certificate", path(&old), "--refused-key", path(&old_key)],
        ];
        let run = node.verify(&both.concat()).expect(0);
        let found = answers(&run);
        assert_eq!(found.iter().map(|found| found.2).collect::<Vec<_>>(), [Some(true), Some(false)], "{found:?}");
        assert!(found[1].3.contains("certificate"), "{found:?}");
        // The other way round nothing is as it must be.
        let swapped = ["--certificate", path(&old), "--key", path(&old_key)];
        node.verify(&swapped).expect(5);
        let swapped = ["--refused-certificate", path(&new), "--refused-key", path(&new_key)];
        let run = node.verify(&swapped).expect(5);
        assert_eq!(answers(&run)[0].2, Some(true));
        assert_eq!(run.json()["endpoints"][0]["expected"], false);

        // Who is shown to nobody proves nothing, and neither does silence.
        etcd.stop_member(0);
        let run = node.verify(&both.concat()).expect(6);
        assert!(
            answers(&run).iter().all(|found| found.2.is_none() && found.3.contains("refused")),
            "{:?}",
            answers(&run)
        );
    }
}

#[test]
fn an_etcd_of_somebody_else_proves_no_refusal() {
    let Some(program) = programs("an_etcd_of_somebody_else_proves_no_refusal").into_iter().next() else { return };
    let (node, other) = (Node::new(&[]), Node::new(&[]));
    let etcd = Etcd::start(&program, &[other.made.pki("")], "etcd/ca.crt");
    node.manifest("etcd", &[format!("--listen-client-urls={}", etcd.client_url(0))]);
    let third = Node::new(&[]);
    let (old, key) = (third.made.pki("apiserver-etcd-client.crt"), third.made.pki("apiserver-etcd-client.key"));
    let run = node.verify(&["--refused-certificate", path(&old), "--refused-key", path(&key)]).expect(6);
    let found = answers(&run);
    assert!(found[0].2.is_none() && found[0].3.contains("not known to be the right one"), "{found:?}");
    // For a credential that must be accepted it is a failure: whoever holds it cannot use it.
    node.verify(&["--component", "etcd"]).expect(5);
}

#[test]
fn wrong_words_and_places_without_servers_are_told_before_anybody_is_asked() {
    let node = Node::new(&[]);
    let run = node.verify(&[]).expect(3);
    assert!(run.err.contains("there is no server that knows people"), "{}", run.err);
    let conf = node.made.kubernetes("admin.conf");
    node.verify(&["--kubeconfig", "no-such.conf"]).expect(2);
    node.verify(&["--certificate", path(&node.made.pki("ca.crt"))]).expect(2);
    node.verify(&["--certificate", path(&conf), "--key", "a", "--key", "b"]).expect(2);
    node.verify(&["--component", "kube-proxy"]).expect(2);
    let stage = Stage::new();
    let run = stage.run(&["verify", "--root", path(&node.made.stage.at("root"))]).expect(2);
    assert!(run.err.contains("nothing runs in a folder"), "{}", run.err);
    // A key that is not the certificate's.
    node.manifest("etcd", &["--listen-client-urls=https://127.0.0.1:1".to_owned()]);
    let (crt, key) = (node.made.pki("apiserver-etcd-client.crt"), node.made.pki("apiserver-kubelet-client.key"));
    let run = node.verify(&["--certificate", path(&crt), "--key", path(&key)]).expect(6);
    assert!(answers(&run)[0].3.contains("does not belong to"), "{:?}", answers(&run));
}

#[test]
fn an_api_server_knows_new_credentials_and_no_old_ones() {
    let test = "an_api_server_knows_new_credentials_and_no_old_ones";
    let Some(binaries) = skip::kubernetes(test, skip::CONTROL_PLANE) else { return };
    let port = free_ports(1)[0];
    let made = || {
        let stage = Stage::new();
        let spec = format!(
            "{{apiVersion: kubepki.io/v1, kind: CertificateSpec, profile: kubeadm, \
             cluster: {{apiServerPort: {port}}}, node: {{name: cp1, address: 127.0.0.1}}}}"
        );
        let spec = stage.put("spec.yaml", spec);
        Node::of(Made::new(&["--spec", path(&spec), "--key-algorithm", "ecdsa-p256"]))
    };
    let (node, before) = (made(), made());
    let mut plane = ControlPlane::start(&binaries, &node.made.kubernetes(""), port, "etcd/ca.crt", &[]);
    node.manifest("kube-apiserver", &["--advertise-address=127.0.0.1".to_owned(), format!("--secure-port={port}")]);
    let run = node.verify(&[]).expect(0);
    let found = answers(&run);
    let of = |name: &str| found.iter().find(|found| found.0 == name).unwrap_or_else(|| panic!("{name}: {found:?}"));
    assert_eq!((of("admin.conf").2, of("admin.conf").3.as_str()), (Some(true), "kubernetes-admin"));
    assert_eq!(of("scheduler.conf").3, "system:kube-scheduler");

    let (new, old) = (node.made.kubernetes("admin.conf"), before.made.kubernetes("admin.conf"));
    let run = node.verify(&["--kubeconfig", path(&new), "--refused-kubeconfig", path(&old)]).expect(0);
    let found = answers(&run);
    assert!(found[1].2 == Some(false) && found[1].3.contains("401"), "{found:?}");
    let run = node.verify(&["--kubeconfig", path(&old)]).expect(5);
    assert!(answers(&run)[0].3.contains("its certificate is signed by"), "{:?}", answers(&run));
    node.verify(&["--refused-kubeconfig", path(&new)]).expect(5);

    // A token: accepted while its key is known, refused when it says something else.
    plane.kubectl("super-admin.conf", &["create", "serviceaccount", "ci"]);
    let token = plane.kubectl("super-admin.conf", &["create", "token", "ci", "--duration", "10m"]);
    let token = String::from_utf8(token.stdout).unwrap();
    let config = fs::read_to_string(&new).unwrap();
    let with = |name: &str, token: &str| {
        let user = config.find("users:").unwrap();
        let user = format!("{}users:\n- name: kubernetes-admin\n  user: {{token: {token}}}\n", &config[..user]);
        node.made.stage.put(name, user)
    };
    let (good, bad) = (with("good.conf", token.trim()), with("bad.conf", "not-a-token"));
    let run = node.verify(&["--kubeconfig", path(&good), "--refused-kubeconfig", path(&bad)]).expect(0);
    assert!(answers(&run)[0].3.contains("system:serviceaccount:default:ci"), "{:?}", answers(&run));
    for said in [&run.out, &run.err] {
        assert!(!said.contains(token.trim()) && !said.contains("not-a-token"), "a token was told");
    }
    // For people, the same.
    let file = path(&node.file);
    let run = node.made.stage.run(&["verify", "--cluster-file", file, "--kubeconfig", path(&new)]).expect(0);
    assert!(run.out.contains("1 as they must be, 0 not, 0 not known"), "{}", run.out);
    plane.restart_server("etcd/ca.crt");
    node.verify(&[]).expect(0);
}

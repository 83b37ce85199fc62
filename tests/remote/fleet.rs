//! `check-expiry` over several machines, each an sshd with files of its own.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::binary::{Run, Stage};
use crate::process::free_ports;
use crate::server::{Server, Setup, can_run, client_key};

/// Where every machine has its node's files: a mount that exists in that machine's namespaces only.
const PLACE: &str = "/mnt";

/// A machine with the files below its folder's `node`.
fn machine(prepare: &str) -> Server {
    let prepare = format!("mkdir $FOLDER/node; mount --bind $FOLDER/node {PLACE}\n{prepare}");
    Server::with(&Setup { prepare, ..Setup::default() })
}

/// A cluster file for machines by name, role and port, with all their host keys known.
fn cluster_file(stage: &Stage, nodes: &[(&str, &str, u16)], servers: &[&Server]) {
    let known: String = servers.iter().map(|server| server.host_line("ed25519")).collect();
    let known = stage.put("known_hosts", known);
    let one = |(name, role, port): &(&str, &str, u16)| {
        format!("  - {{name: {name}, host: 127.0.0.1, role: {role}, ssh: {{port: {port}}}}}\n")
    };
    let nodes: String = nodes.iter().map(one).collect();
    let text = format!(
        "apiVersion: kubepki.io/v1\nkind: Cluster\nmetadata: {{name: lab}}\nspec:\n  kubernetesDir: {PLACE}/etc/kubernetes\n  \
         kubeletDir: {PLACE}/var/lib/kubelet\n  ssh: {{user: root, privateKeyFile: {}, knownHostsFile: {}}}\n  nodes:\n{nodes}",
        client_key().display(),
        known.display()
    );
    stage.put("cluster.yaml", text);
}

/// openssl as a TLS server on a free port of this machine.
struct Shown(Child, u16);

impl Shown {
    fn start(pair: &Path) -> Self {
        let port = free_port();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert"])
            .arg(pair.with_extension("crt"))
            .arg("-key")
            .arg(pair.with_extension("key"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(std::time::Instant::now() < limit, "openssl does not listen");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Self(child, port)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    free_ports(1)[0]
}

fn check(stage: &Stage, words: &[&str]) -> (Run, Value) {
    let run = stage.run(&[&["check-expiry", "--cluster-file", "cluster.yaml", "-o", "json"], words].concat());
    let value = serde_json::from_str(&run.out).unwrap_or_default();
    (run, value)
}

/// The files of a control-plane node.
fn make(stage: &Stage, root: &Path) {
    let root = root.to_str().unwrap();
    let words = ["create-certs", "--yes", "--root", root, "--node-name", "cp1", "--key-algorithm", "ecdsa-p256"];
    let run = stage.run(&words);
    assert_eq!(run.code, Some(0), "{}", run.err);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// `finding id at row` on that node.
fn findings(value: &Value, node: &str) -> Vec<String> {
    let rows = ["certificates", "certificateAuthorities"].iter().flat_map(|list| value[list].as_array().unwrap());
    let rows = rows.filter(|row| row["node"] == node && row["source"] != "endpoint");
    let told = |row: &Value| {
        let ids = row["findings"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned());
        let name = row["name"].as_str().unwrap().to_owned();
        ids.map(|id| format!("{id} at {name}")).collect::<Vec<_>>()
    };
    rows.flat_map(told).collect()
}

#[test]
fn every_node_is_in_one_report_and_one_that_fails_is_a_row_and_exit_code_6() {
    if !can_run("every_node_is_in_one_report_and_one_that_fails_is_a_row_and_exit_code_6") {
        return;
    }
    let stage = Stage::new();
    // A machine whose clock is ten minutes ahead.
    let ahead = "cp /usr/bin/date $FOLDER/date; printf '#!/bin/sh\\nexec %s/date -d \"10 minutes\" \"$@\"\\n' $FOLDER >$FOLDER/ahead
        chmod 755 $FOLDER/ahead; mount --bind $FOLDER/ahead /usr/bin/date";
    let (cp1, cp2, w1) = (machine(""), machine(ahead), machine(""));
    make(&stage, &cp1.at("node"));
    copy(&cp1.at("node/etc"), &cp2.at("node/etc"));
    copy(&cp1.at("node/etc/kubernetes/pki/ca.crt"), &w1.at("node/etc/kubernetes/pki/ca.crt"));
    // Nobody listens on the port of the fourth.
    let nobody = free_port();
    let nodes = [
        ("cp1", "control-plane", cp1.port()),
        ("cp2", "control-plane", cp2.port()),
        ("gone", "worker", nobody),
        ("w1", "worker", w1.port()),
    ];
    cluster_file(&stage, &nodes, &[&cp1, &cp2, &w1]);
    let (run, value) = check(&stage, &[]);
    assert_eq!(run.code, Some(6), "{}", run.err);
    let names: Vec<&str> =
        value["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cp1", "cp2", "gone", "w1"]);
    for node in value["nodes"].as_array().unwrap() {
        let is_gone = node["name"] == "gone";
        assert_eq!(node["reachable"], !is_gone, "{node}");
        assert_eq!(node["error"].is_null(), !is_gone, "{node}");
        assert_eq!(node["clockSkewSeconds"].is_null(), is_gone, "{node}");
    }
    let skew = |index: usize| value["nodes"][index]["clockSkewSeconds"].as_i64().unwrap();
    // Measured around the question: what the logins took before does not count, only half of one question's way.
    assert!(skew(0).abs() < 60 && skew(3).abs() < 60 && (540..=660).contains(&skew(1)), "{}", value["nodes"]);
    assert_eq!(findings(&value, "w1"), Vec::<String>::new());
    let of_clock: Vec<String> = findings(&value, "cp2").into_iter().filter(|it| it.starts_with("clock")).collect();
    assert_eq!(of_clock, ["clock-skew at ca"]);
    assert!(!findings(&value, "cp1").iter().any(|it| it.starts_with("clock")));
    // What is broken outweighs a node that was not reached.
    assert_eq!(check(&stage, &["--at", "+20y"]).0.code, Some(5));
    assert_eq!(check(&stage, &["--no-fail"]).0.code, Some(0));
    // A worker whose CA is another cluster's; only the nodes that were asked for are looked at.
    let other = stage.at("other");
    fs::create_dir(&other).unwrap();
    make(&stage, &other);
    fs::copy(other.join("etc/kubernetes/pki/ca.crt"), w1.at("node/etc/kubernetes/pki/ca.crt")).unwrap();
    let (run, value) = check(&stage, &["--node", "cp1,w1"]);
    assert_eq!(run.code, Some(5), "{}", run.err);
    assert_eq!(findings(&value, "w1"), ["authority-disagrees at ca"]);
    assert_eq!(value["nodes"].as_array().unwrap().len(), 2);
    let (run, value) = check(&stage, &["--node", "gone"]);
    assert_eq!((run.code, value["nodes"][0]["reachable"].as_bool()), (Some(6), Some(false)));
    assert_eq!(check(&stage, &["--only", "apiserver", "--node", "gone"]).0.code, Some(6));
}

/// Rows of servers on that node: name, and what was found.
fn servers(value: &Value, node: &str) -> Vec<(String, Vec<String>)> {
    let rows = value["certificates"].as_array().unwrap().iter();
    let rows = rows.filter(|row| row["node"] == node && row["source"] == "endpoint");
    let ids = |row: &Value| {
        let all = row["findings"].as_array().unwrap().iter();
        all.map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    rows.map(|row| (row["name"].as_str().unwrap().to_owned(), ids(row))).collect()
}

#[test]
fn servers_are_asked_through_their_node_and_compared_with_its_files() {
    if !can_run("servers_are_asked_through_their_node_and_compared_with_its_files") {
        return;
    }
    let stage = Stage::new();
    let (cp1, w1) = (machine(""), machine(""));
    make(&stage, &cp1.at("node"));
    let pki = cp1.at("node/etc/kubernetes/pki");
    copy(&pki.join("ca.crt"), &w1.at("node/etc/kubernetes/pki/ca.crt"));
    // Where each listens is in its manifest, and no usual port is anybody's here.
    let (apiserver, etcd) = (Shown::start(&pki.join("apiserver")), Shown::start(&pki.join("etcd/server")));
    let (unused, peers, manager, scheduler) = (free_port(), free_port(), free_port(), free_port());
    let manifests = cp1.at("node/etc/kubernetes/manifests");
    fs::create_dir(&manifests).unwrap();
    let put = |program: &str, flags: &[String]| {
        let flags: Vec<String> = flags.iter().map(|flag| format!("    - --{flag}\n")).collect();
        let flags = flags.concat();
        let text = format!("kind: Pod\nspec:\n  containers:\n  - command:\n    - {program}\n{flags}");
        fs::write(manifests.join(format!("{program}.yaml")), text).unwrap();
    };
    let url = |port: u16| format!("https://127.0.0.1:{port}");
    put("kube-apiserver", &[format!("secure-port={}", apiserver.1)]);
    put("etcd", &[format!("listen-client-urls={}", url(etcd.1)), format!("listen-peer-urls={}", url(peers))]);
    put("kube-controller-manager", &[format!("secure-port={manager}")]);
    put("kube-scheduler", &[format!("secure-port={scheduler}")]);
    let kubelet = cp1.at("node/var/lib/kubelet");
    fs::create_dir_all(&kubelet).unwrap();
    fs::write(kubelet.join("config.yaml"), format!("kind: KubeletConfiguration\nport: {unused}\n")).unwrap();
    let worker = w1.at("node/var/lib/kubelet");
    fs::create_dir_all(&worker).unwrap();
    fs::write(worker.join("config.yaml"), format!("port: {unused}\n")).unwrap();
    cluster_file(&stage, &[("cp1", "control-plane", cp1.port()), ("w1", "worker", w1.port())], &[&cp1, &w1]);
    let named = |program: &str, port: u16| format!("{program}:{port}");
    let (run, value) = check(&stage, &[]);
    assert_eq!(run.code, Some(4), "{}", run.err);
    let silent = || vec!["server-silent".to_owned()];
    let mut expected = vec![
        (named("kube-apiserver", apiserver.1), Vec::new()),
        (named("etcd", etcd.1), Vec::new()),
        (named("etcd", peers), silent()),
        (named("kube-controller-manager", manager), silent()),
        (named("kube-scheduler", scheduler), silent()),
    ];
    if cp1.at("node/etc/kubernetes/kubelet.conf").exists() {
        expected.push((named("kubelet", unused), silent()));
    }
    assert_eq!(servers(&value, "cp1"), expected);
    // This one never joined: nobody says that a kubelet should run there.
    assert_eq!(servers(&value, "w1"), []);
    let row = &value["certificates"].as_array().unwrap().iter().find(|row| row["name"] == expected[0].0).unwrap();
    let path = row["path"].as_str().unwrap();
    assert!(path.ends_with(&format!(":{}", apiserver.1)) && row["status"] == "ok", "{row}");
    // Renewed on the disk, and still the old one over the wire.
    let root = cp1.at("node").display().to_string();
    let run = stage.run(&["rotate-certs", "--root", &root, "--only", "apiserver", "--yes"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let (_, value) = check(&stage, &["--source", "endpoint"]);
    assert_eq!(servers(&value, "cp1")[0].1, ["served-differs"]);
    let (_, value) = check(&stage, &["--source", "pki"]);
    assert_eq!(servers(&value, "cp1"), []);
}

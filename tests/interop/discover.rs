//! `discover` against a real API server: what it stores becomes a cluster file.

use std::time::{Duration, Instant};

use kubepki::live::api_server::ApiServer;
use kubepki::live::credential::Credential;
use kubepki::live::wait::until;
use kubepki::node::http::Limits;
use kubepki::node::interrupt::Interrupt;
use kubepki::node::local::LocalNode;
use kubepki::node::probe::Endpoint;
use serde_json::{Value, json};

use crate::support::binary::Stage;
use crate::support::kubernetes::ControlPlane;
use crate::support::made::Made;
use crate::support::process::free_ports;
use crate::support::skip;

/// A node's object.
fn node(name: &str, label: Option<&str>, addresses: &[(&str, &str)]) -> (Value, Value) {
    let labels = label.map_or(json!({}), |label| json!({label: ""}));
    let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
    let addresses: Vec<Value> =
        addresses.iter().map(|(kind, address)| json!({"type": kind, "address": address})).collect();
    (object, json!({"status": {"addresses": addresses}}))
}

#[test]
fn nodes_roles_addresses_and_the_endpoint_come_from_the_api_and_a_different_file_is_kept() {
    let this = "nodes_roles_addresses_and_the_endpoint_come_from_the_api_and_a_different_file_is_kept";
    let Some(binaries) = skip::kubernetes(this, skip::CONTROL_PLANE) else { return };
    let port = free_ports(1)[0];
    let stage = Stage::new();
    let made = Made::for_port(port, "kubeadm");
    let _plane = ControlPlane::start(&binaries, &made.kubernetes(""), port, "etcd/ca.crt", &[]);
    let here = LocalNode::open("local", "/").unwrap();
    let kubeconfig = made.kubernetes("super-admin.conf");
    let admin = Credential::read(&here, &kubeconfig).unwrap();
    let limits = Limits::within(Duration::from_secs(60));
    let api = ApiServer::new(&here, Endpoint { host: "127.0.0.1".to_owned(), port }, &admin, limits).unwrap();
    let ready = || api.ready().map_err(|error| error.to_string());
    until(Instant::now() + Duration::from_secs(120), &Interrupt::default(), ready).unwrap();
    let label = Some("node-role.kubernetes.io/control-plane");
    for (object, status) in [
        node("w1", None, &[("ExternalIP", "192.0.2.31"), ("InternalIP", "10.0.0.31")]),
        node("cp2", label, &[("InternalIP", "fd00::12")]),
        node("cp1", label, &[("InternalIP", "10.0.0.11"), ("Hostname", "cp1.example.com")]),
    ] {
        let made = api.post("/api/v1/nodes", &object).unwrap();
        let path = format!("/api/v1/nodes/{}/status", made["metadata"]["name"].as_str().unwrap());
        api.patch(&path, kubepki::live::api_server::Patch::Merge, &status).unwrap();
    }
    let kubeconfig = kubeconfig.to_str().unwrap().to_owned();
    let words = |more: &[&str]| -> Vec<String> {
        let all = ["discover", "--kubeconfig", &kubeconfig];
        all.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let nodes = "  nodes:\n  - {name: cp1, host: 10.0.0.11, role: control-plane}\n  \
                 - {name: cp2, host: \"fd00::12\", role: control-plane}\n  - {name: w1, host: 10.0.0.31, role: worker}\n";
    let run = stage.run(&words(&[]));
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.ends_with(nodes), "{}", run.out);
    assert!(run.out.contains(&format!("controlPlaneEndpoint: \"127.0.0.1:{port}\"\n")), "{}", run.out);
    // kubeadm's note says better where clients go, and what the cluster is called.
    let note = "clusterName: lab\ncontrolPlaneEndpoint: api.example.com:6443\n".to_owned();
    let note = [("ClusterConfiguration".to_owned(), note)].into_iter().collect();
    api.write_config_map("kube-system", "kubeadm-config", &note).unwrap();
    let run = stage.run(&words(&[]));
    assert!(run.out.contains("metadata: {name: lab}\n"), "{}", run.out);
    assert!(run.out.contains("controlPlaneEndpoint: \"api.example.com:6443\"\n"), "{}", run.out);
    // Saved under a name, with what logging in needs; known to the other commands from then on.
    let saved = words(&["-n", "lab", "-g", "prod", "--ssh-user", "ops", "--ssh-port", "2222"]);
    let run = stage.run(&saved);
    assert_eq!((run.code, run.out.as_str()), (Some(0), ""), "{}", run.err);
    let path = stage.home().join(".kubepki/clusters/prod/lab.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("  ssh: {user: ops, port: 2222}\n"), "{text}");
    assert!(stage.run(&["list", "-g", "prod"]).out.contains("lab"));
    // The same again changes nothing; something else needs a word.
    assert_eq!(stage.run(&saved).code, Some(0));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let other = words(&["-n", "lab", "-g", "prod"]);
    let run = stage.run(&other);
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(run.err.contains("--force"), "{}", run.err);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let run = stage.run(&[&other[..], &["--force".to_owned(), "-o".to_owned(), "json".to_owned()]].concat());
    let value: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(
        (run.code, &value["action"], &value["nodes"][2]["role"]),
        (Some(0), &json!("replaced"), &json!("worker"))
    );
    assert!(!std::fs::read_to_string(&path).unwrap().contains("ssh:"));
    // What cannot be asked is said so, and nothing is written.
    let run = stage.run(&words(&["--context", "nobody", "--file", "other.yaml"]));
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(!stage.at("other.yaml").exists());
    assert_eq!(stage.run(&["discover", "--kubeconfig", "nowhere"]).code, Some(3));
    assert_eq!(stage.run(&["discover", "a b"]).code, Some(2));
}

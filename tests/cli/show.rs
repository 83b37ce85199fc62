//! `show`: where a target stands, from what its nodes hold.

use kubepki::apply::journal::Journal;
use kubepki::plan::operation::{NodeState, ProvisioningState};

use crate::support::binary::Stage;

/// A machine in the folder `cp1`, with certificates made by the program itself.
fn stage() -> Stage {
    let stage = Stage::new();
    std::fs::create_dir(stage.at("cp1")).unwrap();
    let options = ["--key-algorithm", "ecdsa-p256", "--node-name", "cp1", "--advertise-address", "10.0.0.11"];
    stage.run(&[&["create-certs", "--root", "cp1", "--yes"], options.as_slice()].concat()).expect(0);
    stage
}

fn journal(stage: &Stage) -> std::path::PathBuf {
    let folder = stage.at("cp1/etc/kubernetes/tmp/kubepki");
    let operations = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    operations.map(|folder| folder.join("journal.json")).find(|journal| journal.exists()).unwrap()
}

#[test]
fn a_new_machine_has_succeeded_with_three_authorities() {
    let stage = stage();
    let shown = stage.run(&["show", "--root", "cp1", "-o", "json"]).expect(0).json();
    assert_eq!(shown["provisioningState"], "Succeeded");
    assert_eq!(shown["operation"]["kind"], "create-certs");
    assert_eq!(shown["operation"]["finishedNodes"], serde_json::json!(["local"]));
    let authorities = shown["certificateAuthorities"].as_array().unwrap();
    let names: Vec<_> = authorities.iter().map(|ca| ca["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ca", "front-proxy-ca", "etcd-ca"]);
    let judged = stage.run(&["check-expiry", "--root", "cp1", "-o", "json"]).expect(0).json();
    assert_eq!(shown["counts"]["ok"], judged["summary"]["ok"], "both judge alike");
    assert_eq!((&shown["counts"]["attention"], &shown["counts"]["missing"]), (&0.into(), &0.into()));
    assert!(shown["createdAt"].as_str() < shown["lastUpdated"].as_str(), "{shown}");
}

#[test]
fn an_operation_that_has_not_ended_is_under_way() {
    let stage = stage();
    let journal = journal(&stage);
    let mut written = Journal::parse(&std::fs::read(&journal).unwrap()).unwrap();
    written.operation.provisioning_state = ProvisioningState::CertificateRotating;
    written.operation.nodes[0].state = NodeState::Running;
    std::fs::write(&journal, written.to_text().unwrap()).unwrap();
    let shown = stage.run(&["show", "--root", "cp1", "-o", "json"]).expect(0).json();
    assert_eq!(shown["provisioningState"], "CertificateRotating");
    assert_eq!(shown["operation"]["pendingNodes"], serde_json::json!(["local"]));
    let table = stage.run(&["show", "--root", "cp1"]).expect(0).out;
    assert!(table.contains("not finished on local") && table.contains("create-certs --continue"), "{table}");
}

#[test]
fn a_damaged_journal_is_no_success() {
    let stage = stage();
    let journal = journal(&stage);
    std::fs::write(&journal, &std::fs::read(&journal).unwrap()[1..]).unwrap();
    let run = stage.run(&["show", "--root", "cp1"]).expect(1);
    assert!(run.err.contains("journal.json cannot be read") && run.err.contains("hint: "), "{run:#?}");
}

#[test]
fn what_the_kubelet_is_told_is_read_from_its_configuration() {
    let stage = stage();
    stage.put("cp1/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\nrotateCertificates: true\n");
    let shown = stage.run(&["show", "--root", "cp1", "-o", "json"]).expect(0).json();
    assert_eq!((&shown["tlsBootstrap"]["enabled"], &shown["kubeletServing"]["enabled"]), (&true.into(), &false.into()));
    assert_eq!(shown["autoRotation"]["enabled"], false);
    let timers = stage.at("cp1/etc/systemd/system/timers.target.wants");
    std::fs::create_dir_all(&timers).unwrap();
    std::os::unix::fs::symlink("/etc/systemd/system/kubepki.timer", timers.join("kubepki-auto-rotate.timer")).unwrap();
    let shown = stage.run(&["show", "--root", "cp1", "-o", "json"]).expect(0).json();
    assert_eq!(shown["autoRotation"]["enabled"], true);
}

#[test]
fn a_folder_is_shown_without_the_machine_around_it() {
    let stage = stage();
    let shown = stage.run(&["show", "--pki-dir", "cp1/etc/kubernetes/pki", "-o", "json"]).expect(0).json();
    assert_eq!((&shown["provisioningState"], &shown["operation"]), (&"Succeeded".into(), &().into()));
    assert!(shown["autoRotation"]["enabled"].is_null());
    assert_eq!(shown["counts"]["ok"], 10);
}

#[test]
fn what_is_not_there_is_exit_code_3() {
    let stage = stage();
    std::fs::create_dir(stage.at("empty")).unwrap();
    assert!(stage.run(&["show", "--root", "empty"]).expect(3).err.contains("/etc/kubernetes/pki"));
    let run = stage.run(&["show", "-n", "lab", "-g", "prod"]).expect(3);
    assert!(run.err.contains("there is no cluster prod/lab") && run.err.contains("hint: "), "{run:#?}");
    stage.put("home/.kubepki/clusters/test/lab.yaml", "");
    assert!(stage.run(&["show", "-n", "lab", "-g", "prod"]).expect(3).err.contains("-n lab -g test"));
    assert!(stage.run(&["show", "--cluster-file", "none.yaml"]).expect(3).err.contains("none.yaml"));
    assert!(stage.run(&["show", "--root", "cp1", "--node", "cp9"]).expect(3).err.contains("cp9"));
}

#[test]
fn a_wrong_target_is_exit_code_2() {
    let stage = stage();
    let two = stage.run(&["show", "--root", "cp1", "--pki-dir", "x"]).expect(2);
    assert!(two.err.contains("--pki-dir and --root both name a target"), "{two:#?}");
    stage.run_with(&["show", "--root", "cp1"], &[("KUBEPKI_PKI_DIR", "/nowhere")]).expect(0);
    stage.put("bad.yaml", "apiVersion: kubepki.io/v1\nkind: Cluster\nmetadata: {name: lab}\nspec: {nodes: []}\n");
    let empty = stage.run(&["show", "--cluster-file", "bad.yaml"]).expect(2);
    assert!(empty.err.contains("bad.yaml:4:") && empty.err.contains("at least one node"), "{empty:#?}");
    assert!(stage.run(&["show", "-n", "../lab"]).expect(2).err.contains("cannot be the name"));
}

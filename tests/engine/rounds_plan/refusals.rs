//! Clusters that cannot be led through the rounds are refused before anything happens, with node and reason.

use kubepki::error::{ExitCode, exit_code, hints};
use kubepki::plan::restart::{Means, Strategy};
use kubepki::plan::rotate::Request;

use crate::support::members::Members;
use crate::support::rotation::only;

/// The message of a refusal and its hints, in one text.
fn refusal(members: &Members, request: &Request) -> String {
    let error = anyhow::Error::from(members.plan(&members.write(), request).unwrap_err());
    assert_eq!(exit_code(&error), ExitCode::Failed);
    let hints = hints(&error);
    assert!(!hints.is_empty(), "{error} says what to do");
    format!("{error}\n{}", hints.join("\n"))
}

#[test]
fn the_cluster_ca_of_services_is_refused_and_the_others_are_named() {
    let mut members = Members::new(2, 0);
    members.means = Means { strategy: Strategy::Systemd, ..Means::default() };
    members.manifests.clear();
    for request in [Request::default(), only(&["cluster-ca"]), only(&["ca"])] {
        let text = refusal(&members, &request);
        assert!(text.contains("node cp1") && text.contains("kube-controller-manager"), "{text}");
        assert!(text.contains("static pod") && text.contains("--only etcd-ca"), "{text}");
    }
    assert!(members.plan(&members.write(), &only(&["etcd-ca"])).is_ok());
}

#[test]
fn a_component_without_a_manifest_is_refused() {
    for component in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let mut members = Members::new(2, 0);
        members.manifests.retain(|manifest| manifest.node != "cp2" || manifest.component != component);
        let text = refusal(&members, &Request::default());
        assert!(text.contains("node cp2") && text.contains(component) && text.contains("no manifest"), "{text}");
        assert!(members.plan(&members.write(), &only(&["front-proxy-ca"])).is_ok(), "nobody is restarted for that");
    }
}

#[test]
fn a_controller_manager_with_a_signer_of_its_own_for_something_is_refused() {
    let mut members = Members::new(2, 0);
    let manifest = members.manifest("cp2", "kube-controller-manager");
    let odd =
        "    - --cluster-signing-kubelet-client-cert-file=/etc/kubernetes/pki/kubelet-ca.crt\n    - --cluster-name";
    manifest.text = manifest.text.replace("    - --cluster-name", odd);
    let text = refusal(&members, &only(&["cluster-ca"]));
    assert!(text.contains("node cp2") && text.contains("--cluster-signing-kubelet-client-cert-file"), "{text}");
    assert!(members.plan(&members.write(), &only(&["etcd-ca"])).is_ok());
}

#[test]
fn a_manifest_that_cannot_be_changed_is_refused_with_its_path() {
    for (component, from, to) in [
        ("kube-controller-manager", "kind: Pod", "kind: List"),
        ("kube-controller-manager", "    - --root-ca-file=", "    - --root-ca-file\n    - "),
        ("kube-controller-manager", "--cluster-signing-cert-file=", "--cluster-signing-cert-file\n    - "),
        ("kube-controller-manager", "--cluster-signing-key-file=", "--cluster-signing-key-file\n    - "),
        ("kube-controller-manager", "    - --root-ca-file", "    - --root-ca-file=/x\n    - --root-ca-file"),
        ("etcd", "metadata:", "metadata: [] #"),
        ("kube-scheduler", "apiVersion: v1", "\tapiVersion: v1"),
    ] {
        let mut members = Members::new(2, 0);
        let manifest = members.manifest("cp1", component);
        assert!(manifest.text.contains(from));
        manifest.text = manifest.text.replacen(from, to, 1);
        let text = refusal(&members, &Request::default());
        assert!(text.contains("node cp1") && text.contains(&format!("{component}.yaml")), "{to}: {text}");
    }
}

#[test]
fn a_command_line_in_one_line_is_refused() {
    let mut members = Members::new(2, 0);
    let manifest = members.manifest("cp1", "kube-controller-manager");
    let (before, rest) = manifest.text.split_once("  - command:\n").unwrap();
    let (command, after) = rest.split_once("    image:").unwrap();
    let words: Vec<String> =
        command.lines().map(|line| format!("\"{}\"", line.trim().trim_start_matches("- "))).collect();
    manifest.text = format!("{before}  - command: [{}]\n    image:{after}", words.join(", "));
    let text = refusal(&members, &only(&["cluster-ca"]));
    assert!(text.contains("node cp1") && text.contains("--cluster-signing-cert-file"), "{text}");
}

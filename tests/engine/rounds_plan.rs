//! The planner of the rounds: phases, steps and restarts, no more of them than there have to be. `walks` goes through them in a
//! model of a running cluster, where everybody has to trust whom they meet after every single change, forwards and back.

mod ends;
mod external;
mod kubelets;
mod laws;
mod process;
mod refusals;
mod scenes;
mod things;
mod trust;
mod walks;

use kubepki::plan::blueprint::{Blueprint, NodeBlueprint};
use kubepki::plan::operation::FileAction;
use kubepki::plan::phase::Phase;
use kubepki::plan::restart::{Means, Strategy};
use kubepki::plan::rotate::Request;

use crate::support::members::Members;
use crate::support::rotation::only;

fn plan(members: &Members, request: &Request) -> Blueprint {
    members.plan(&members.write(), request).unwrap()
}

fn node<'a>(blueprint: &'a Blueprint, name: &str) -> &'a NodeBlueprint {
    blueprint.nodes.iter().find(|node| node.node == name).unwrap()
}

/// How often each component of a node starts anew, as `etcd 2, kubelet 2`.
fn restarts(blueprint: &Blueprint, name: &str) -> String {
    let node = node(blueprint, name);
    let by_step: Vec<&String> = node.steps.iter().flat_map(|step| &step.restarts).collect();
    assert_eq!(by_step, node.restarts.iter().collect::<Vec<_>>(), "{name}");
    let count = |component: &str| by_step.iter().filter(|one| **one == component).count();
    let all = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"];
    let some = all.into_iter().map(|it| (it, count(it))).filter(|(_, count)| *count > 0);
    some.map(|(component, count)| format!("{component} {count}")).collect::<Vec<_>>().join(", ")
}

/// The steps of a node in words: phase, file names without their ends, restarts, stops.
fn steps(blueprint: &Blueprint, name: &str) -> Vec<String> {
    let node = node(blueprint, name);
    let words = |at: usize| {
        let step = &node.steps[at];
        let files = node.files.iter().filter(|file| file.step == at && file.action != FileAction::Unchanged);
        let files: Vec<&str> = files
            .filter(|file| !file.path.starts_with("/etc/kubernetes/manifests"))
            .map(|file| file.name.as_str())
            .collect();
        let stops: Vec<String> = step.stops.iter().map(|stop| format!("stop {stop}")).collect();
        let restarts: Vec<String> = step.restarts.iter().map(|restart| format!("restart {restart}")).collect();
        let parts = [files.join(" "), stops.join(", "), restarts.join(", ")];
        let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        format!("{}: {}", step.phase, parts.join(" | "))
    };
    (0..node.steps.len()).map(words).collect()
}

#[test]
fn everything_takes_the_fewest_restarts() {
    let blueprint = plan(&Members::new(3, 1), &Request::default());
    for name in ["cp1", "cp2", "cp3"] {
        let all = "etcd 2, kube-apiserver 3, kube-controller-manager 3, kube-scheduler 2, kubelet 2";
        assert_eq!(restarts(&blueprint, name), all);
    }
    assert_eq!(restarts(&blueprint, "w1"), "kubelet 2");
    assert!(!says_that_the_api_goes_away(&blueprint), "{:?}", blueprint.warnings);
}

fn says_that_the_api_goes_away(blueprint: &Blueprint) -> bool {
    blueprint.warnings.iter().any(|warning| warning.contains("API will be away"))
}

#[test]
fn the_steps_of_a_control_plane_come_in_this_order() {
    let blueprint = plan(&Members::new(3, 1), &Request::default());
    assert_eq!(
        steps(&blueprint, "cp2"),
        [
            "trust old and new: kubepki/ca.key kubepki/ca.crt kubepki/root-ca.crt admin.conf controller-manager.conf \
             scheduler.conf | restart kube-controller-manager",
            "trust old and new: stop kube-apiserver",
            "trust old and new: sa ca front-proxy-ca etcd-ca | restart etcd",
            "trust old and new: restart kube-apiserver",
            "kubelets: kubelet.conf kubelet-client kubelet-client | restart kubelet",
            "issue from new: etcd-server etcd-server etcd-peer etcd-peer etcd-healthcheck-client etcd-healthcheck-client \
             apiserver-etcd-client apiserver-etcd-client",
            "issue from new: kubepki/ca.key kubepki/ca.crt ca ca front-proxy-ca front-proxy-ca etcd-ca etcd-ca \
             apiserver apiserver apiserver-kubelet-client apiserver-kubelet-client front-proxy-client front-proxy-client",
            "issue from new: sa admin.conf controller-manager.conf scheduler.conf \
             | restart kube-apiserver, restart kube-controller-manager, restart kube-scheduler",
            "drop old: stop kube-apiserver",
            "drop old: sa ca front-proxy-ca etcd-ca apiserver admin.conf controller-manager.conf scheduler.conf \
             | restart etcd",
            "drop old: restart kube-apiserver",
            "drop old: kubelet.conf | restart kube-controller-manager, restart kube-scheduler, restart kubelet",
            "drop old: kubepki/ca.crt kubepki/ca.key kubepki/root-ca.crt",
        ]
    );
    assert_eq!(
        steps(&blueprint, "w1"),
        [
            "kubelets: ca kubelet.conf kubelet-client kubelet-server kubelet-client kubelet-server | restart kubelet",
            "drop old: ca",
            "drop old: kubelet.conf | restart kubelet",
        ]
    );
}

#[test]
fn each_scope_alone_restarts_who_reads_it_only_once() {
    let members = Members::new(3, 1);
    for (scope, ruler, worker) in [
        ("etcd-ca", "etcd 2, kube-apiserver 2", ""),
        ("front-proxy-ca", "", ""),
        ("sa", "kube-apiserver 3, kube-controller-manager 1", ""),
        ("cluster-ca", "kube-controller-manager 3, kube-scheduler 2, kubelet 2", "kubelet 2"),
    ] {
        let blueprint = plan(&members, &only(&[scope]));
        for name in ["cp1", "cp2", "cp3"] {
            assert_eq!(restarts(&blueprint, name), ruler, "{scope}");
        }
        match blueprint.nodes.iter().find(|node| node.node == "w1") {
            Some(_) => assert_eq!(restarts(&blueprint, "w1"), worker, "{scope}"),
            None => assert_eq!(worker, "", "{scope}"),
        }
        assert!(!says_that_the_api_goes_away(&blueprint), "{scope}: {:?}", blueprint.warnings);
    }
}

#[test]
fn leaves_beside_an_authority_that_is_not_theirs_are_no_reason_for_more_restarts() {
    let blueprint = plan(&Members::new(2, 0), &only(&["etcd-ca", "leaf"]));
    let expected = "etcd 2, kube-apiserver 2, kube-controller-manager 1, kube-scheduler 1";
    assert_eq!(restarts(&blueprint, "cp1"), expected);
}

#[test]
fn one_control_plane_does_etcd_and_api_server_in_one_step_and_says_that_the_api_goes_away() {
    let blueprint = plan(&Members::new(1, 1), &Request::default());
    let steps = steps(&blueprint, "cp1");
    for phase in [Phase::TrustBoth, Phase::DropOld] {
        let is_both =
            |step: &&String| step.starts_with(phase.name()) && step.ends_with("| restart etcd, restart kube-apiserver");
        assert_eq!(steps.iter().filter(is_both).count(), 1, "{steps:#?}");
    }
    assert!(!steps.iter().any(|step| step.contains("stop ")), "{steps:#?}");
    let warning = blueprint.warnings.iter().find(|warning| warning.contains("API will be away")).unwrap();
    assert!(warning.contains("3 times"), "{warning}");
    let hot = plan(&Members::new(1, 1), &only(&["front-proxy-ca"]));
    assert!(!says_that_the_api_goes_away(&hot), "{:?}", hot.warnings);
}

#[test]
fn nothing_is_stopped_or_restarted_by_manifests_where_components_are_services() {
    let mut members = Members::new(3, 0);
    members.means = Means { strategy: Strategy::Systemd, ..Means::default() };
    members.manifests.clear();
    let blueprint = plan(&members, &only(&["etcd-ca", "front-proxy-ca", "sa"]));
    assert_eq!(restarts(&blueprint, "cp1"), "etcd 2, kube-apiserver 3, kube-controller-manager 1");
    let steps = steps(&blueprint, "cp1");
    assert!(!steps.iter().any(|step| step.contains("stop ")), "{steps:#?}");
    let with_etcd = |step: &String| step.contains("restart etcd") && step.contains("restart kube-apiserver");
    assert!(!steps.iter().any(with_etcd), "etcd is proven before the API server starts: {steps:#?}");
}

#[test]
fn an_api_server_whose_etcd_is_elsewhere_is_restarted_for_its_trust_as_well() {
    let mut members = Members::new(3, 0);
    for member in &mut members.members[1..] {
        member.files.retain(|path, _| !path.contains("/pki/etcd/") || path.ends_with("/etcd/ca.crt"));
    }
    members.manifests.retain(|manifest| manifest.component != "etcd" || manifest.node == "cp1");
    for (scopes, count) in [(&["etcd-ca"][..], 2), (&["etcd-ca", "sa"], 3)] {
        let blueprint = plan(&members, &only(scopes));
        let manager = if count == 3 { ", kube-controller-manager 1" } else { "" };
        assert_eq!(restarts(&blueprint, "cp1"), format!("etcd 2, kube-apiserver {count}{manager}"));
        assert_eq!(restarts(&blueprint, "cp2"), format!("kube-apiserver {count}{manager}"));
        let steps = steps(&blueprint, "cp2");
        let first =
            steps.iter().position(|step| step.starts_with("trust") && step.ends_with("| restart kube-apiserver"));
        let issue = steps.iter().position(|step| step.starts_with("issue from new: apiserver-etcd-client"));
        assert!(first.is_some() && first < issue, "{steps:#?}");
    }
}

#[test]
fn the_operation_object_shows_rounds_with_nodes_files_and_restarts_and_each_file_once() {
    let members = Members::new(3, 1);
    let roots = members.write();
    let blueprint = members.plan(&roots, &Request::default()).unwrap();
    let operation = serde_json::to_value(blueprint.operation("20260201T000000Z-0000000a")).unwrap();
    let phases = operation["phases"].as_array().unwrap();
    let names: Vec<_> = phases.iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["trust old and new", "kubelets", "issue from new", "drop old"]);
    let nodes_of = |at: usize| -> Vec<&str> {
        phases[at]["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect()
    };
    for (at, workers) in [(0, false), (1, true), (2, false), (3, true)] {
        let mut expected = vec!["cp1", "cp2", "cp3"];
        expected.extend(workers.then_some("w1"));
        assert_eq!(nodes_of(at), expected);
    }
    let list = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list(&phases[1]["nodes"][0]["restarts"]), ["kubelet"]);
    assert_eq!(list(&phases[0]["nodes"][1]["restarts"]), ["kube-controller-manager", "etcd", "kube-apiserver"]);
    assert!(list(&phases[0]["nodes"][0]["files"]).contains(&"/etc/kubernetes/pki/kubepki/signing/ca.key".to_owned()));
    for node in operation["nodes"].as_array().unwrap() {
        let files = node["files"].as_array().unwrap();
        let mut paths: Vec<&str> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
        assert!(!paths.iter().any(|path| path.contains("/kubepki/")), "what comes and goes is not listed");
        let count = paths.len();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), count, "each file once");
        let action = |path: &str| {
            let file = files.iter().find(|file| file["path"] == path);
            file.map(|file| file["action"].as_str().unwrap())
        };
        assert_eq!(action("/etc/kubernetes/pki/ca.crt"), Some("replaced"));
        if node["name"] != "w1" {
            assert_eq!(action("/etc/kubernetes/manifests/kube-apiserver.yaml"), Some("replaced"));
        }
    }
    let ca = operation["nodes"][0]["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|file| file["name"] == "ca" && file["path"] == "/etc/kubernetes/pki/ca.crt")
        .unwrap();
    let old = kubepki::pki::certificate::Certificate::from_der(
        pem::parse(&members.members[0].files["/etc/kubernetes/pki/ca.crt"].0).unwrap().contents(),
    )
    .unwrap();
    assert_eq!(ca["oldSerialNumber"], old.serial().to_string());
    assert_eq!(ca["newSerialNumber"], serde_json::Value::Null, "nothing is issued yet");
}

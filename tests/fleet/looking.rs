//! What can be asked of a cluster: every certificate of every node, also while one does not answer, and its administrator's
//! credential.

use crate::judge::data;
use crate::machines::{Fleet, NAMES, run};
use crate::openssl::openssl;

#[test]
fn every_node_has_its_rows_and_one_that_is_silent_says_so() {
    let Some(mut fleet) = Fleet::with_certificates("every_node_has_its_rows_and_one_that_is_silent_says_so") else {
        return;
    };
    let list = |fleet: &Fleet, code: i32| fleet.run(&["check-expiry", "-o", "json"]).expect(code).json();
    let whole = list(&fleet, 0);
    let rows = |list: &serde_json::Value, name: &str| -> Vec<serde_json::Value> {
        let all = list["certificates"].as_array().unwrap_or_else(|| panic!("{list:#}"));
        all.iter().filter(|row| row["node"] == name).cloned().collect()
    };
    for name in NAMES {
        let mine = rows(&whole, name);
        for wanted in ["apiserver", "etcd-peer", "admin.conf", "front-proxy-client"] {
            assert!(
                mine.iter().any(|row| row["name"] == wanted && row["status"] == "ok"),
                "{name}: {wanted}: {mine:#?}"
            );
        }
    }
    let authorities = whole["certificateAuthorities"].as_array().unwrap();
    for name in NAMES {
        assert!(authorities.iter().any(|row| row["node"] == name && row["name"] == "ca"), "{name}: {authorities:#?}");
    }
    let reached = |list: &serde_json::Value, name: &str| -> serde_json::Value {
        let nodes = list["nodes"].as_array().unwrap_or_else(|| panic!("{list:#}"));
        nodes.iter().find(|node| node["name"] == name).unwrap_or_else(|| panic!("{list:#}")).clone()
    };
    assert!(NAMES.iter().all(|name| reached(&whole, name)["reachable"] == true), "{whole:#}");
    fleet.servers[1].kill();
    let partial = list(&fleet, 6);
    let silent = reached(&partial, "cp2");
    assert_eq!(silent["reachable"], false);
    assert!(silent["error"].as_str().is_some_and(|error| error.contains("cp2")), "{silent}");
    assert!(rows(&partial, "cp2").is_empty(), "{partial:#}");
    for name in ["cp1", "cp3"] {
        assert_eq!(reached(&partial, name)["reachable"], true);
        assert_eq!(rows(&partial, name).len(), rows(&whole, name).len());
    }
    // Nothing is begun without it.
    let before = fleet.look();
    let refused = fleet.run(&["rotate-certs", "--only", "leaf", "--yes"]).expect(1);
    assert!(refused.err.contains("1 of 3 nodes cannot be reached") && refused.err.contains("cp2"), "{refused:#?}");
    assert_eq!(fleet.look(), before);
}

#[test]
fn the_administrators_credential_is_that_of_the_node() {
    let Some(fleet) = Fleet::with_certificates("the_administrators_credential_is_that_of_the_node") else { return };
    let stage = fleet.elsewhere();
    run(&stage, &["get-credentials", "--admin", "--file", "out.conf"]).expect(0);
    let got = std::fs::read_to_string(stage.at("out.conf")).unwrap();
    let admin = std::fs::read_to_string(fleet.at("cp1", "admin.conf")).unwrap();
    for field in ["client-certificate-data", "client-key-data", "certificate-authority-data"] {
        assert_eq!(data(&got, field), data(&admin, field), "{field}");
    }
    assert!(got.contains("https://api.example.com:6443"), "the endpoint of the cluster");
    let crt = stage.put("crt", data(&got, "client-certificate-data"));
    let subject = openssl(&["x509", "-in", crt.to_str().unwrap(), "-noout", "-subject"]);
    assert!(subject.contains("kubernetes-admin") && subject.contains("kubeadm:cluster-admins"), "{subject}");
    // One that is issued on the node is signed by its CA.
    run(&stage, &["get-credentials", "--user-name", "jane", "--file", "jane.conf"]).expect(0);
    let jane = std::fs::read_to_string(stage.at("jane.conf")).unwrap();
    let crt = stage.put("jane.crt", data(&jane, "client-certificate-data"));
    let ca = fleet.at("cp1", "pki/ca.crt");
    openssl(&["verify", "-x509_strict", "-CAfile", ca.to_str().unwrap(), crt.to_str().unwrap()]);
}

//! What one node knows to be revoked counts on all of them, whichever are chosen.

use crate::machines::{Fleet, NAMES};
use crate::process::said;
use std::process::Command;

/// The serial number of a certificate of a node.
fn serial(fleet: &Fleet, node: &str, path: &str) -> String {
    let output = Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(fleet.at(node, path)).output();
    said(&output.unwrap()).trim().trim_start_matches("serial=").to_owned()
}

#[test]
fn nothing_is_issued_on_a_chosen_node_that_is_revoked_on_another() {
    let test = "nothing_is_issued_on_a_chosen_node_that_is_revoked_on_another";
    let Some(fleet) = Fleet::with_certificates(test) else { return };
    let words = ["--dns", "kubernetes.default", "--not-before", "none", "--revocation-name", "no-more", "--yes"];
    fleet.run(&[&["revoke", "--node", "cp1"], &words[..]].concat()).expect(0);
    let before = fleet.look();
    let rotate = ["rotate-certs", "--only", "apiserver", "--node", "cp3", "--yes", "-o", "none"];
    let run = fleet.run(&rotate).expect(1);
    assert!(run.err.contains("no-more"), "{run:?}");
    let run = fleet.run(&["get-credentials", "--node", "cp2", "-f", "user.conf", "--user-name", "jane"]);
    assert_eq!(run.code, Some(0), "what the entry does not mean is issued: {run:?}");
    assert_eq!(fleet.look(), before);
    // As a worker the same machine has no ledger of its own, and nobody else to ask.
    let file = std::fs::read_to_string(fleet.here.at("cluster.yaml")).unwrap();
    let (rulers, last) = file.rsplit_once("role: control-plane").unwrap();
    fleet.here.put("cluster.yaml", format!("{rulers}role: worker{last}"));
    let run = fleet.run(&rotate).expect(1);
    assert!(run.err.contains("no-more"), "{run:?}");
    for name in ["cp1", "cp2"] {
        fleet.server(name).cut();
    }
    let run = fleet.run(&rotate).expect(1);
    assert!(run.err.contains("no control-plane node can be asked") && run.err.contains("cp2"), "{run:?}");
    fleet.server("cp2").revive();
    let old = serial(&fleet, "cp3", "pki/apiserver.crt");
    let run = fleet.run(&rotate).expect(0);
    assert!(run.err.contains("cp1") && run.err.contains("is not known"), "{run:?}");
    assert_ne!(
        serial(&fleet, "cp3", "pki/apiserver.crt"),
        old,
        "cp2 knows of no revocation, and says so for the others"
    );
    fleet.server("cp1").revive();
    assert_eq!(NAMES.len(), 3);
}

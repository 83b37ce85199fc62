//! Servers that really run on three machines, on ports that the workstation does not reach: what they show, whom they let in,
//! and how they are restarted, all through the SSH connections.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::binary::Stage;
use crate::machines::{NAMES, run};
use crate::openssl::openssl;
use crate::services::Services;

const BY_SCRIPT: &str = "{strategy: command, commands: {etcd: /etc/etcd.sh restart}}";
const BY_SYSTEMD: &str = "{strategy: systemd}";

/// Node, and what it said, of every endpoint that `verify` asked.
fn verdicts(list: &serde_json::Value) -> Vec<(String, Option<bool>)> {
    let asked = list["endpoints"].as_array().unwrap_or_else(|| panic!("{list:#}")).iter();
    asked
        .map(|one| {
            assert_eq!((&one["component"], &one["endpoint"]), (&"etcd".into(), &"127.0.0.1:2379".into()), "{one:#}");
            (one["node"].as_str().unwrap().to_owned(), one["accepted"].as_bool())
        })
        .collect()
}

fn each(accepted: Option<bool>) -> Vec<(String, Option<bool>)> {
    NAMES.iter().map(|name| ((*name).to_owned(), accepted)).collect()
}

#[test]
fn credentials_are_proved_and_served_certificates_compared_through_the_connections() {
    let test = "credentials_are_proved_and_served_certificates_compared_through_the_connections";
    let Some(etcd) = Services::start(test, BY_SCRIPT) else { return };
    let fleet = &etcd.fleet;
    for name in NAMES {
        let address: SocketAddr = format!("{}:2379", fleet.server(name).address).parse().unwrap();
        TcpStream::connect_timeout(&address, Duration::from_millis(300)).expect_err("the workstation gets through");
    }
    // What the nodes themselves use.
    let list = fleet.run(&["verify", "-o", "json"]).expect(0).json();
    assert_eq!(verdicts(&list), each(Some(true)), "{list:#}");

    // Another cluster's certificate: refused by every member, and nobody takes it for accepted.
    let stage = Stage::new();
    let root = stage.at("root");
    fs::create_dir(&root).unwrap();
    stage
        .run(&[
            "create-certs",
            "--root",
            root.to_str().unwrap(),
            "--yes",
            "-o",
            "none",
            "--node-name",
            "cp1",
            "--advertise-address",
            "10.0.0.5",
            "--key-algorithm",
            "ecdsa-p256",
        ])
        .expect(0);
    let at = |path: &str| root.join("etc/kubernetes/pki/etcd").join(path).display().to_string();
    let (crt, key) = (at("healthcheck-client.crt"), at("healthcheck-client.key"));
    let refused = ["verify", "-o", "json", "--component", "etcd", "--refused-certificate", &crt, "--refused-key", &key];
    assert_eq!(verdicts(&fleet.run(&refused).expect(0).json()), each(Some(false)));
    let accepted = ["verify", "-o", "json", "--component", "etcd", "--certificate", &crt, "--key", &key];
    fleet.run(&accepted).expect(5);

    // One that does not run is told from one that cannot be reached.
    fleet.server("cp2").enter(&["/etc/etcd.sh", "stop"]);
    let list = fleet.run(&["verify", "-o", "json"]).expect(6).json();
    let told = verdicts(&list);
    assert!(told.contains(&("cp2".to_owned(), None)) && told.contains(&("cp3".to_owned(), Some(true))), "{list:#}");
    assert!(list.to_string().contains("nothing listens there"), "{list:#}");
}

/// Node, address, serial number and findings of every server that has shown a certificate.
fn served(list: &serde_json::Value) -> Vec<(String, String, String, Vec<String>)> {
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = ["certificates", "certificateAuthorities"].map(|kind| list[kind].as_array().unwrap().clone()).concat();
    let rows = all.iter().filter(|row| row["source"] == "endpoint" && !row["serialNumber"].is_null());
    let ids =
        |row: &serde_json::Value| row["findings"].as_array().unwrap().iter().map(|one| word(&one["id"])).collect();
    let mut rows: Vec<_> =
        rows.map(|row| (word(&row["node"]), word(&row["path"]), word(&row["serialNumber"]), ids(row))).collect();
    rows.sort();
    rows
}

#[test]
fn served_certificates_are_compared_with_the_disk_where_only_the_connection_reaches_them() {
    let test = "served_certificates_are_compared_with_the_disk_where_only_the_connection_reaches_them";
    let Some(etcd) = Services::start(test, BY_SCRIPT) else { return };
    let fleet = &etcd.fleet;
    let api = ["create-certs", "--key-algorithm", "ecdsa-p256", "--only", "ca,apiserver", "--yes", "-o", "none"];
    fleet.run(&api).expect(0);
    // It reads its files once, as the kube-apiserver of old did.
    let pki = "/etc/kubernetes/pki/apiserver";
    let shows = format!(
        "setsid openssl s_server -accept 6443 -www -cert {pki}.crt -key {pki}.key </dev/null >/dev/null 2>&1 &"
    );
    NAMES.iter().for_each(|name| drop(fleet.server(name).enter(&["/bin/sh", "-c", &shows])));
    let look = || fleet.run(&["check-expiry", "-o", "json", "--no-fail"]).expect(0).json();
    let differs = |row: &&(String, String, String, Vec<String>)| row.3.iter().any(|id| id.starts_with("served-"));
    let (mut list, mut rows) = (look(), Vec::new());
    for _ in 0..20 {
        rows = served(&list);
        // For clients, for peers, and the server that may not have come up yet.
        if rows.len() == 3 * NAMES.len() {
            break;
        }
        list = look();
    }
    assert_eq!(rows.len(), 3 * NAMES.len(), "{list:#}");
    assert!(!rows.iter().any(|row| differs(&row)), "{rows:#?}");
    for (place, path) in [("2379", "pki/etcd/server.crt"), ("2380", "pki/etcd/peer.crt"), ("6443", "pki/apiserver.crt")]
    {
        for name in NAMES {
            let words = ["x509", "-noout", "-serial", "-in", &fleet.at(name, path).display().to_string()];
            let serial = openssl(&words).trim().trim_start_matches("serial=").to_lowercase();
            let row = rows.iter().find(|row| row.0 == name && row.1.ends_with(place));
            let row = row.unwrap_or_else(|| panic!("{name} {place}: {rows:#?}"));
            assert_eq!(
                row.2.replace(':', "").to_lowercase().trim_start_matches('0'),
                serial.trim_start_matches('0'),
                "{row:?}"
            );
        }
    }
    // A new file that nobody has told the running server of.
    for file in ["pki/apiserver.crt", "pki/apiserver.key"] {
        fs::remove_file(fleet.at("cp2", file)).unwrap();
    }
    fleet.run(&api).expect(0);
    let list = look();
    let rows = served(&list);
    let wrong: Vec<_> = rows.iter().filter(differs).collect();
    assert!(wrong.len() == 1 && wrong[0].0 == "cp2" && wrong[0].1.ends_with("6443"), "{wrong:#?}");
}

/// Every leaf, then the authority for longer, then another authority; each member restarted where it must be, one after the
/// other, while somebody writes.
fn rotates(test: &str, restart: &str) {
    let Some(etcd) = Services::start(test, restart) else { return };
    let (fleet, is_over) = (&etcd.fleet, AtomicBool::new(false));
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&etcd, &is_over));
        let rotations = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let before = fleet.look();
            let processes = NAMES.map(|name| etcd.process(name));
            let done = fleet.run(&["rotate-certs", "--only", "leaf", "--yes", "-o", "json"]).expect(0).json();
            assert_eq!(done["provisioningState"], "Succeeded", "{done:#}");
            for (name, process) in NAMES.iter().zip(&processes) {
                assert_ne!(fleet.look()[name], before[name]);
                assert_eq!(etcd.process(name), *process, "leaves are read anew without a restart");
            }
            for (words, restarts) in [(&["--only", "etcd-ca", "--same-key"][..], 1), (&["--only", "etcd-ca"], 2)] {
                let before = NAMES.map(|name| etcd.calls(name, "restart"));
                let run = fleet.run(&[&["rotate-certs", "--yes", "-o", "json"], words].concat());
                assert_eq!(run.code, Some(0), "{words:?}: {run:#?}\n{}", etcd.logs());
                for (name, before) in NAMES.iter().zip(before) {
                    assert!(etcd.calls(name, "restart") >= before + restarts, "{words:?}: {name} was not restarted");
                }
                assert_eq!(verdicts(&fleet.run(&["verify", "-o", "json"]).expect(0).json()), each(Some(true)));
            }
        }));
        is_over.store(true, Ordering::SeqCst);
        let written = writer.join().unwrap();
        match rotations {
            Ok(()) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    etcd.wait();
    for name in NAMES {
        let keys = etcd.ctl(name, &["get", "--prefix", "k", "--keys-only"]).unwrap();
        assert!(written.iter().all(|key| keys.lines().any(|line| line == key)), "{name} has lost a write");
    }
    assert!(written.len() > 10, "too few writes to mean anything: {}", written.len());
    let due = run(&fleet.here, &["rotate-certs", "--only", "leaf", "--due", "--yes", "-o", "json"]).expect(0).json();
    assert_eq!(due["provisioningState"], "Succeeded");
}

/// Writes through one member after the other; returns the keys whose write was acknowledged.
fn write(etcd: &Services, is_over: &AtomicBool) -> Vec<String> {
    let mut written = Vec::new();
    for number in 0.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("k{number}");
        if etcd.ctl(NAMES[number % NAMES.len()], &["put", &key, "v"]).is_some() {
            written.push(key);
        }
    }
    written
}

#[test]
fn members_that_a_command_restarts_go_through_every_rotation_one_at_a_time() {
    rotates("members_that_a_command_restarts_go_through_every_rotation_one_at_a_time", BY_SCRIPT);
}

#[test]
fn members_that_are_systemd_units_go_through_every_rotation_one_at_a_time() {
    rotates("members_that_are_systemd_units_go_through_every_rotation_one_at_a_time", BY_SYSTEMD);
}

#[test]
fn a_member_that_does_not_come_back_stops_the_run_before_the_next_one() {
    let this = "a_member_that_does_not_come_back_stops_the_run_before_the_next_one";
    let Some(etcd) = Services::start(this, "{strategy: command, commands: {etcd: 'false'}}") else { return };
    let before = etcd.fleet.look();
    let run = etcd.fleet.run(&["rotate-certs", "--only", "etcd-ca", "--same-key", "--yes"]).expect(6);
    assert!(run.err.contains("cp1") && run.err.contains("`false`") && run.err.contains("--abort"), "{run:#?}");
    let now = etcd.fleet.look();
    assert_eq!((&now["cp2"], &now["cp3"]), (&before["cp2"], &before["cp3"]), "the next nodes are as they were");
    // Another restart that works is all it takes.
    let text = fs::read_to_string(etcd.fleet.here.at("cluster.yaml")).unwrap();
    etcd.fleet.here.put("cluster.yaml", text.replace("'false'", "/etc/etcd.sh restart"));
    etcd.fleet.run(&["rotate-certs", "--abort"]).expect(0);
    assert_eq!(etcd.fleet.look(), before);
    etcd.wait();
}

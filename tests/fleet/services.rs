//! A member of etcd on each of three machines, real processes with the files at kubeadm's own paths, started and ended by what
//! their operator has for that: a script, or systemd units.
//!
//! Where systemd itself does not run, `systemctl` is a few lines of shell that know `restart`, `stop` and `start` of the one
//! unit; that kubepki calls it, for which unit and when, and what the process does then, is as in life.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::machines::{Fleet, NAMES};
use crate::network::Network;
use crate::server::can_run;
use crate::skip;

/// Starts and ends the member of a machine; knows nothing but the folder it lies in.
const SCRIPT: &str = r#"#!/bin/sh
set -e
case $1 in
stop | restart)
  if read -r pid <FOLDER/etcd.pid; then
    kill "$pid" 2>/dev/null || true
    # A process that has ended has no program any more, whoever has yet to hear of that.
    while [ -e "/proc/$pid/exe" ]; do sleep 0.05; done
  fi
  ;;
esac
echo "$1 by $PPID" >>FOLDER/etcd.calls
[ "$1" != stop ] || exit 0
setsid PROGRAM WORDS </dev/null >>FOLDER/etcd.log 2>&1 &
echo $! >FOLDER/etcd.pid
"#;

/// systemd's, as far as it is needed here.
const SYSTEMCTL: &str = r#"#!/bin/sh
case "$1 $2" in
"restart etcd" | "stop etcd" | "start etcd") exec /etc/etcd.sh "$1" ;;
*) echo "Unit $2 not found." >&2; exit 5 ;;
esac
"#;

/// The machines, and their network.
pub struct Services {
    pub fleet: Fleet,
    /// Dropped after them.
    _network: Network,
}

impl Services {
    /// Three members that are well; `restart` is what the cluster file says about restarts. `None`, and said so, where they
    /// cannot run.
    pub fn start(test: &str, restart: &str) -> Option<Self> {
        let program = program(test)?;
        if !can_run(test) || !crate::openssl::is_there(test) {
            return None;
        }
        let network = Network::new(test)?;
        let bin = "mkdir $FOLDER/bin; mount --bind $FOLDER/bin /usr/local/sbin";
        let fleet = Fleet::with(&[11, 12, 13].map(|number| network.node(number, bin)));
        let file = fs::read_to_string(fleet.here.at("cluster.yaml")).unwrap();
        fleet.here.put("cluster.yaml", file.replace("\nspec:\n", &format!("\nspec:\n  restart: {restart}\n")));
        let only = "etcd-ca,etcd-server,etcd-peer,etcd-healthcheck-client";
        fleet.run(&["create-certs", "--key-algorithm", "ecdsa-p256", "--only", only, "--yes", "-o", "none"]).expect(0);
        let services = Self { fleet, _network: network };
        NAMES.iter().for_each(|name| services.furnish(name, &program));
        for name in NAMES {
            let started = services.fleet.server(name).enter(&["/etc/etcd.sh", "start"]);
            assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        }
        services.wait();
        Some(services)
    }

    fn furnish(&self, name: &str, program: &Path) {
        let server = self.fleet.server(name);
        let peers = NAMES.map(|name| format!("{name}=https://{}:2380", self.fleet.server(name).address)).join(",");
        let (folder, own) = (server.at(""), &server.address);
        let pki = "/etc/kubernetes/pki/etcd";
        let words = [
            format!("--name {name} --data-dir {}", server.at("data").display()),
            format!("--listen-client-urls https://127.0.0.1:2379,https://{own}:2379"),
            format!("--advertise-client-urls https://{own}:2379 --initial-cluster-state new"),
            format!("--listen-peer-urls https://{own}:2380 --initial-advertise-peer-urls https://{own}:2380"),
            format!("--initial-cluster {peers} --client-cert-auth=true --peer-client-cert-auth=true"),
            format!("--cert-file {pki}/server.crt --key-file {pki}/server.key --trusted-ca-file {pki}/ca.crt"),
            format!(
                "--peer-cert-file {pki}/peer.crt --peer-key-file {pki}/peer.key --peer-trusted-ca-file {pki}/ca.crt"
            ),
            "--heartbeat-interval 300 --election-timeout 3000".to_owned(),
        ];
        let script = SCRIPT.replace("PROGRAM", &program.display().to_string()).replace("WORDS", &words.join(" "));
        let script = script.replace("FOLDER/", &folder.display().to_string());
        for (path, text) in [("etc/etcd.sh", script.as_str()), ("bin/systemctl", SYSTEMCTL)] {
            fs::write(server.at(path), text).unwrap();
            fs::set_permissions(server.at(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// Runs etcdctl on a machine, as its health check; what it printed when that was a success.
    pub fn ctl(&self, name: &str, words: &[&str]) -> Option<String> {
        let pki = "/etc/kubernetes/pki/etcd";
        let mut all =
            vec!["env", "ETCDCTL_API=3", "etcdctl", "--command-timeout", "5s", "--endpoints", "https://127.0.0.1:2379"];
        let (ca, crt, key) =
            (format!("{pki}/ca.crt"), format!("{pki}/healthcheck-client.crt"), format!("{pki}/healthcheck-client.key"));
        all.extend(["--cacert", &ca, "--cert", &crt, "--key", &key]);
        all.extend(words);
        let output = self.fleet.server(name).enter(&all);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until every member takes writes.
    pub fn wait(&self) {
        let limit = Instant::now() + Duration::from_secs(120);
        while NAMES.iter().any(|name| self.ctl(name, &["endpoint", "health"]).is_none()) {
            assert!(Instant::now() < limit, "etcd does not come up: {}", self.logs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The process of a member.
    pub fn process(&self, name: &str) -> String {
        fs::read_to_string(self.fleet.server(name).at("etcd.pid")).unwrap()
    }

    /// How often the script was called to do that.
    pub fn calls(&self, name: &str, what: &str) -> usize {
        let calls = fs::read_to_string(self.fleet.server(name).at("etcd.calls")).unwrap();
        calls.lines().filter(|line| line.starts_with(what)).count()
    }

    /// What the members have said last.
    pub fn logs(&self) -> String {
        let end = |name: &&str| {
            let text = fs::read(self.fleet.server(name).at("etcd.log")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(15)..].join("\n"))
        };
        NAMES.iter().map(end).collect()
    }
}

/// The distribution's etcd, else that of the Kubernetes binaries.
fn program(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty());
    let known = [Some(PathBuf::from("/usr/bin/etcd")), named.map(|folder| PathBuf::from(folder).join("etcd"))];
    let found = known.into_iter().flatten().find(|program| program.exists());
    let found = found.filter(|_| Path::new("/usr/bin/etcdctl").exists());
    if found.is_none() {
        skip::skipped(test, "etcd and etcdctl are not installed");
    }
    found
}

//! Real etcd members that form a TLS cluster from PKI folders laid out as kubeadm's, all on this machine.
//!
//! Members trust `etcd/ca.crt` for clients and peers and demand a certificate of both. A client trusts what the API server
//! would, which differs between profiles.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::process::{Server, free_ports, said, wait_for};

/// Several members of one cluster.
pub struct Etcd {
    program: PathBuf,
    folder: tempfile::TempDir,
    members: Vec<Member>,
    /// What clients trust, below the first member's PKI folder: `etcd/ca.crt` with kubeadm, `ca.crt` with AKS Arc.
    trust: String,
}

struct Member {
    pki: PathBuf,
    client_port: u16,
    peer_port: u16,
    server: Option<Server>,
}

impl Etcd {
    /// Starts one member for each PKI folder and waits until they have a leader.
    pub fn start(program: &Path, pki_dirs: &[PathBuf], trust: &str) -> Self {
        let mut etcd = Self::prepare(program, pki_dirs, trust);
        (0..etcd.members.len()).for_each(|index| etcd.start_member(index));
        etcd.wait_until_healthy();
        etcd
    }

    /// Gives every member its ports, and starts none.
    pub fn prepare(program: &Path, pki_dirs: &[PathBuf], trust: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports(2 * pki_dirs.len());
        let member = |(pki, ports): (&PathBuf, &[u16])| Member {
            pki: pki.clone(),
            client_port: ports[0],
            peer_port: ports[1],
            server: None,
        };
        let members = pki_dirs.iter().zip(ports.chunks_exact(2)).map(member).collect();
        Self { program: program.to_owned(), folder, members, trust: trust.to_owned() }
    }

    /// Starts a member, or starts it again after [`Etcd::stop_member`].
    pub fn start_member(&mut self, index: usize) {
        let initial: Vec<String> = (0..self.members.len()).map(|at| format!("m{at}={}", self.peer_url(at))).collect();
        let member = &self.members[index];
        let (own, peer) = (self.client_url(index), self.peer_url(index));
        let file = |path: &str| member.pki.join(path);
        let mut command = Server::command(&self.program);
        command.env_clear().current_dir(self.folder.path());
        command.args(["--name", &format!("m{index}"), "--data-dir", &format!("data{index}")]);
        command.args(["--listen-client-urls", &own, "--advertise-client-urls", &own]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &initial.join(","), "--initial-cluster-state", "new"]);
        command.args(["--client-cert-auth=true", "--peer-client-cert-auth=true"]);
        command.arg("--cert-file").arg(file("etcd/server.crt")).arg("--key-file").arg(file("etcd/server.key"));
        command.arg("--peer-cert-file").arg(file("etcd/peer.crt")).arg("--peer-key-file").arg(file("etcd/peer.key"));
        command.arg("--trusted-ca-file").arg(file("etcd/ca.crt"));
        command.arg("--peer-trusted-ca-file").arg(file("etcd/ca.crt"));
        for (flag, list) in [("--client-crl-file", "client.crl"), ("--peer-crl-file", "peer.crl")] {
            let list = file(&format!("etcd/kubepki/{list}"));
            if list.exists() {
                command.arg(flag).arg(list);
            }
        }
        // Disks under test are slow, and three members share this one.
        command.args(["--heartbeat-interval", "300", "--election-timeout", "3000"]);
        let log = self.folder.path().join(format!("log{index}"));
        self.members[index].server = Some(Server::start(command, &log));
    }

    /// Stops a member as a crash would.
    pub fn stop_member(&mut self, index: usize) {
        self.members[index].server = None;
    }

    /// Stops and starts a member, so that it reads its files again, and waits until all are healthy.
    pub fn restart_member(&mut self, index: usize) {
        self.stop_member(index);
        self.start_member(index);
        self.wait_until_healthy();
    }

    /// Waits until every member that runs answers with a quorum behind it.
    #[track_caller]
    pub fn wait_until_healthy(&self) {
        self.wait_until_healthy_but(usize::MAX);
    }

    /// As [`Etcd::wait_until_healthy`], for all members but one.
    #[track_caller]
    pub fn wait_until_healthy_but(&self, outsider: usize) {
        for (index, member) in self.members.iter().enumerate() {
            if member.server.is_some() && index != outsider {
                let is_healthy = || self.ctl(index, &["endpoint", "health"]).status.success();
                wait_for("a healthy etcd member", is_healthy, || self.words());
            }
        }
    }

    /// Runs etcdctl against one member with the API server's client certificate.
    pub fn ctl(&self, index: usize, words: &[&str]) -> Output {
        self.ctl_as(index, "apiserver-etcd-client", words)
    }

    /// Runs etcdctl against one member with the certificate `name` of that member's PKI folder.
    pub fn ctl_as(&self, index: usize, name: &str, words: &[&str]) -> Output {
        let pki = &self.members[index].pki;
        let beside = self.program.with_file_name("etcdctl");
        let mut command = Command::new(if beside.exists() { beside } else { "etcdctl".into() });
        command.env_clear().env("ETCDCTL_API", "3").env("PATH", "/usr/bin:/bin");
        command.arg("--cacert").arg(pki.join(&self.trust));
        command.arg("--cert").arg(pki.join(format!("{name}.crt"))).arg("--key").arg(pki.join(format!("{name}.key")));
        command.args(["--endpoints", &self.client_url(index), "--command-timeout", "5s"]).args(words);
        command.output().unwrap()
    }

    /// Writes through one member and reads through every other that runs: quorum and replication work.
    #[track_caller]
    pub fn prove(&self, key: &str, value: &str) {
        let running: Vec<usize> = (0..self.members.len()).filter(|at| self.members[*at].server.is_some()).collect();
        let put = || self.ctl(running[0], &["put", key, value]).status.success();
        wait_for("a write", put, || self.words());
        for index in running {
            let get = self.ctl(index, &["get", key, "--print-value-only"]);
            assert_eq!(String::from_utf8_lossy(&get.stdout).trim(), value, "{}\n{}", said(&get), self.words());
        }
    }

    /// Whether a member that runs has stopped by itself.
    pub fn has_ended(&mut self, index: usize) -> bool {
        self.members[index].server.as_mut().is_none_or(Server::has_ended)
    }

    /// Gives a member another PKI folder, for its next start.
    pub fn move_member(&mut self, index: usize, pki: &Path) {
        pki.clone_into(&mut self.members[index].pki);
    }

    /// A member's data file.
    pub fn data(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("data{index}/member/snap/db"))
    }

    /// Where clients reach a member.
    pub fn client_url(&self, index: usize) -> String {
        format!("https://127.0.0.1:{}", self.members[index].client_port)
    }

    fn peer_url(&self, index: usize) -> String {
        format!("https://127.0.0.1:{}", self.members[index].peer_port)
    }

    /// The end of what every member has said.
    pub fn words(&self) -> String {
        let words = |(index, member): (usize, &Member)| {
            let said = member.server.as_ref().map_or_else(|| "(stopped)".to_owned(), Server::words);
            format!("--- member {index}:\n{said}\n")
        };
        self.members.iter().enumerate().map(words).collect()
    }
}

/// Every etcd there is: the distribution's, and that of the Kubernetes binaries. Says that `test` does not run when there is
/// none.
pub fn programs(test: &str) -> Vec<PathBuf> {
    let named = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty());
    let known = [Some(PathBuf::from("/usr/bin/etcd")), named.map(|folder| PathBuf::from(folder).join("etcd"))];
    let found: Vec<PathBuf> = known.into_iter().flatten().filter(|program| program.exists()).collect();
    if found.is_empty() {
        super::skip::skipped(test, "etcd is not installed");
    }
    found
}

//! How long 100 nodes take to be checked over SSH from a cold start, beside their handshakes alone, and beside `ssh` and
//! openssl one node after another.
//!
//! `cargo bench --bench fleet [-- NODES [ROUNDS]]`, as root. The check is the program itself: `check-expiry` with a cluster
//! file, from its start to its report. A few sshd's answer on as many ports as there are nodes,
//! and each is a machine of its own as far as the connections go. Client and servers share this machine's cores, so
//! times are those of work, not of waiting: a real network only hides more of it.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it found")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot set itself up has failed")]
#![allow(dead_code, unreachable_pub, reason = "the server is written for the tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kubepki::node::Node;
use kubepki::node::fleet::{AT_ONCE, side_by_side};
use kubepki::node::interrupt::Interrupt;
use kubepki::node::ssh::{SshNode, SshOptions};

use server::{Server, Setup, client_key, nobody};

#[path = "../tests/remote/server.rs"]
mod server;
#[path = "../tests/support/skip.rs"]
mod skip;

fn main() {
    let arguments: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let number = |index: usize, usual: usize| arguments.get(index).copied().unwrap_or(usual);
    let (count, rounds) = (number(0, 100), number(1, 5));
    assert!(server::can_run("the benchmark"), "it needs root and sshd");
    let servers = servers(count);
    let server = &servers[0];
    let files = pki(server);
    let options: Vec<SshOptions> = servers
        .iter()
        .flat_map(|one| one.ports.iter().map(|port| SshOptions { port: Some(*port), ..one.options("root") }))
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cluster = cluster_file(server, &options);
    println!("{count} nodes, {AT_ONCE} at once, {files} files each, {rounds} rounds in turn, {cores} cores");
    let (mut shaken, mut checked, mut one_by_one) = (Vec::new(), Vec::new(), Vec::new());
    let mut memory: f64 = 0.0;
    for round in 1..=rounds {
        shaken.push(timed(|| shake(&nodes(&options))));
        checked.push(timed(|| memory = memory.max(check(&cluster, count))));
        print!("round {round}: handshakes {:.2} s, check {:.2} s", shaken[round - 1], checked[round - 1]);
        // Each takes as long as the one before it, so a tenth of them tells how long all take.
        let some = &options[..count.div_ceil(10)];
        #[allow(clippy::cast_precision_loss, reason = "a count of machines")]
        let share = some.len() as f64 / count as f64;
        one_by_one.push(timed(|| with_ssh(server, some)) / share);
        print!(", ssh and openssl one by one {:.2} s (a tenth of them, times ten)", one_by_one[round - 1]);
        println!();
    }
    let (shaken, checked) = (median(&mut shaken), median(&mut checked));
    println!("\ncheck / handshakes alone   {:.2}", checked / shaken);
    println!("one by one / check         {:.1}", median(&mut one_by_one) / checked);
    println!("most memory                {memory:.1} MiB");
}

/// As many sshd's as it takes to listen on so many ports.
fn servers(count: usize) -> Vec<Server> {
    // sshd opens 16 at most (MAX_LISTEN_SOCKS).
    let groups = (0..count).step_by(16).map(|first| (count - first).min(16));
    let config = "LogLevel ERROR";
    groups.map(|ports| Server::with(&Setup { ports, config: config.to_owned(), ..Setup::default() })).collect()
}

/// A whole PKI below the server's folder; returns how many files it has.
fn pki(server: &Server) -> usize {
    let root = server.at("root");
    fs::create_dir(&root).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_kubepki"))
        .args(["create-certs", "--yes", "-o", "none", "--only-show-errors", "--node-name", "cp1"])
        .args(["--advertise-address", "10.0.0.5", "--key-algorithm", "ecdsa-p256", "--root"])
        .arg(&root)
        .status()
        .unwrap();
    assert!(status.success());
    let output = Command::new("find").arg(root.join("etc/kubernetes")).args(["-type", "f"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().count()
}

fn nodes(options: &[SshOptions]) -> Vec<SshNode> {
    let access = nobody();
    let named = options.iter().enumerate();
    named.map(|(number, options)| SshNode::new(format!("n{number}"), options.clone(), &access)).collect()
}

/// Connects to every node and does no more, with the parallelism of the check.
fn shake(nodes: &[SshNode]) {
    let all: Vec<&dyn Node> = nodes.iter().map(|node| node as &dyn Node).collect();
    let by_name = |name: &str| nodes.iter().find(|node| node.name() == name).unwrap();
    let work = |node: &dyn Node| by_name(node.name()).connect();
    for result in side_by_side(&all, AT_ONCE, &Interrupt::default(), &|_| {}, &work) {
        result.unwrap();
    }
}

/// A cluster of all ports; every machine has the same files.
fn cluster_file(server: &Server, options: &[SshOptions]) -> PathBuf {
    let mut known: Vec<_> = options.iter().map(|one| one.known_hosts_file.clone().unwrap()).collect();
    known.dedup();
    let known: String = known.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let known_hosts = server.at("known_hosts_of_all");
    fs::write(&known_hosts, known).unwrap();
    let mut text = format!(
        "apiVersion: kubepki.io/v1\nkind: Cluster\nmetadata: {{name: crowd}}\nspec:\n  kubernetesDir: {0}/etc/kubernetes\n  \
         kubeletDir: {0}/var/lib/kubelet\n  ssh: {{user: root, privateKeyFile: {1}, knownHostsFile: {2}}}\n  nodes:\n",
        server.at("root").display(),
        client_key().display(),
        known_hosts.display()
    );
    for (number, options) in options.iter().enumerate() {
        let port = options.port.unwrap();
        writeln!(text, "  - {{name: n{number}, host: 127.0.0.1, role: control-plane, ssh: {{port: {port}}}}}").unwrap();
    }
    let path = server.at("cluster.yaml");
    fs::write(&path, text).unwrap();
    path
}

/// Runs the program, and returns the most memory it had (MiB).
fn check(cluster: &Path, count: usize) -> f64 {
    let report = cluster.with_file_name("report.json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubepki"))
        .args(["check-expiry", "-o", "json", "--no-fail", "--ssh-config", "/dev/null", "--cluster-file"])
        .arg(cluster)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&report).unwrap())
        .spawn()
        .unwrap();
    let mut most: f64 = 0.0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(memory(child.id()).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(5));
    }
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let reached = report["nodes"].as_array().unwrap().iter().filter(|node| node["reachable"] == true).count();
    let rows = report["certificates"].as_array().unwrap().len();
    assert!(reached == count && rows >= 7 * count, "{reached} nodes, {rows} certificates");
    most
}

/// What people do without a tool.
fn with_ssh(server: &Server, options: &[SshOptions]) {
    let pki = server.at("root/etc/kubernetes/pki");
    let script = format!(
        "for f in {0}/*.crt {0}/etcd/*.crt; do openssl x509 -in $f -noout -subject -enddate; done; \
         for f in {0}/../*.conf; do sed -n 's/.*client-certificate-data: //p' $f | base64 -d | openssl x509 -noout \
         -subject -enddate; done",
        pki.display()
    );
    for options in options {
        let output = Command::new("ssh")
            .args(["-F", "none", "-o", "BatchMode=yes", "-p", &options.port.unwrap().to_string(), "-i"])
            .arg(client_key())
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", options.known_hosts_file.as_ref().unwrap().display()))
            .args(["root@127.0.0.1", &script])
            .output()
            .unwrap();
        let lines = String::from_utf8(output.stdout).unwrap().lines().count();
        assert!(lines > 20, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The most memory a process had so far (MiB).
fn memory(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

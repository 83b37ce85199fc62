//! What a kubelet is to etcd: it runs a node's member from the manifest of its static pod, with the node's own files, starts
//! it anew when the manifest changes and when it has died, and ends it when the manifest goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::machines::{Fleet, NAMES};
use crate::process::{Server, free_ports};
use crate::server::children;

const MANIFEST: &str = "manifests/etcd.yaml";

/// Three members, each on a node of its own, and those who keep them running.
pub struct Members {
    ports: Vec<u16>,
    is_over: Arc<AtomicBool>,
    keepers: Vec<JoinHandle<u32>>,
    logs: Vec<PathBuf>,
}

impl Members {
    /// Puts a manifest on every node of the fleet, and starts what it says.
    pub fn start(fleet: &Fleet, program: &Path) -> Self {
        let ports = free_ports(3 * NAMES.len());
        let peers: Vec<String> = NAMES
            .iter()
            .zip(ports.chunks(3))
            .map(|(name, own)| format!("{name}=https://127.0.0.1:{}", own[1]))
            .collect();
        let is_over = Arc::new(AtomicBool::new(false));
        let (mut keepers, mut logs) = (Vec::new(), Vec::new());
        for (name, own) in NAMES.iter().zip(ports.chunks(3)) {
            let path = fleet.at(name, MANIFEST);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, manifest(name, own, &peers.join(","))).unwrap();
            let log = fleet.server(name).at("etcd.log");
            let keeper = Keeper {
                manifest: path,
                log: log.clone(),
                program: program.to_owned(),
                namespaces: fleet.server(name).first(),
                is_over: is_over.clone(),
            };
            keepers.push(std::thread::spawn(move || keeper.keep()));
            logs.push(log);
        }
        Self { ports, is_over, keepers, logs }
    }

    /// Where clients reach each member.
    pub fn urls(&self) -> Vec<String> {
        self.ports.chunks(3).map(|own| format!("https://127.0.0.1:{}", own[0])).collect()
    }

    /// The end of what every member has said.
    pub fn words(&self) -> String {
        let end = |log: &PathBuf| {
            let text = fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("--- {}:\n{}\n", log.display(), lines[lines.len().saturating_sub(15)..].join("\n"))
        };
        self.logs.iter().map(end).collect()
    }

    /// Ends all members. Returns how often each was started.
    pub fn stop(mut self) -> Vec<u32> {
        self.is_over.store(true, Ordering::Relaxed);
        self.keepers.drain(..).map(|keeper| keeper.join().unwrap()).collect()
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

struct Keeper {
    manifest: PathBuf,
    log: PathBuf,
    program: PathBuf,
    /// A process of the node.
    namespaces: String,
    is_over: Arc<AtomicBool>,
}

impl Keeper {
    fn keep(&self) -> u32 {
        let (mut starts, mut running) = (0, None::<(Server, String)>);
        while !self.is_over.load(Ordering::Relaxed) {
            let wanted = fs::read_to_string(&self.manifest).ok();
            let is_same = match (&mut running, &wanted) {
                (Some((server, text)), Some(wanted)) => text == wanted && !server.has_ended(),
                (None, None) => true,
                _ => false,
            };
            if !is_same {
                if let Some((server, _)) = running.take() {
                    end(server);
                }
                running = wanted.map(|text| (self.start(&text), text));
                starts += u32::from(running.is_some());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        starts
    }

    fn start(&self, manifest: &str) -> Server {
        let words =
            manifest.lines().filter_map(|line| line.trim().strip_prefix("- ")).skip_while(|word| *word != "etcd");
        let words: Vec<&str> = words.take_while(|word| *word == "etcd" || word.starts_with("--")).skip(1).collect();
        let mut command = Server::command("nsenter");
        command.args(["-m", "-t", &self.namespaces, "--"]);
        // It tells since when it runs from `/proc`, where it must find itself.
        command.args(["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]);
        command.arg(&self.program).args(words);
        Server::start(command, &self.log)
    }
}

/// Asks it to end, as a kubelet does, and waits for that.
fn end(mut server: Server) {
    for pid in children(&server.id().to_string()).iter().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        let _ = kill_process(pid, Signal::TERM);
    }
    for _ in 0..300 {
        if server.has_ended() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The static pod as kubeadm writes it, with ports of its own for clients, peers and metrics.
fn manifest(name: &str, ports: &[u16], peers: &str) -> String {
    let (client, peer, metrics) = (ports[0], ports[1], ports[2]);
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/etcd.advertise-client-urls: https://127.0.0.1:{client}
  labels:
    component: etcd
    tier: control-plane
  name: etcd
  namespace: kube-system
spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://127.0.0.1:{client}
    - --cert-file=/etc/kubernetes/pki/etcd/server.crt
    - --client-cert-auth=true
    - --data-dir=/var/lib/etcd
    - --election-timeout=3000
    - --heartbeat-interval=300
    - --initial-advertise-peer-urls=https://127.0.0.1:{peer}
    - --initial-cluster={peers}
    - --key-file=/etc/kubernetes/pki/etcd/server.key
    - --listen-client-urls=https://127.0.0.1:{client}
    - --listen-metrics-urls=http://127.0.0.1:{metrics}
    - --listen-peer-urls=https://127.0.0.1:{peer}
    - --name={name}
    - --peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt
    - --peer-client-cert-auth=true
    - --peer-key-file=/etc/kubernetes/pki/etcd/peer.key
    - --peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
    - --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
    image: registry.k8s.io/etcd:3.6.8-0
    name: etcd
    volumeMounts:
    - mountPath: /etc/kubernetes/pki/etcd
      name: etcd-certs
  hostNetwork: true
  volumes:
  - hostPath:
      path: /etc/kubernetes/pki/etcd
      type: DirectoryOrCreate
    name: etcd-certs
status: {{}}
"
    )
}

//! Somebody who writes into etcd while its authorities change: one number after the other, each until etcd has taken it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::process::{said, wait_for};

/// Between two writes: the machine has other things to do as well.
const PAUSE: Duration = Duration::from_millis(200);

/// A client of etcd with the files of an API server.
#[derive(Debug, Clone)]
pub struct Client {
    program: PathBuf,
    /// The folder with `apiserver-etcd-client.*` and `etcd/ca.crt`.
    pki: PathBuf,
}

impl Client {
    /// With the files in that PKI folder, as they are at each call. etcdctl is the one beside `etcd`, else the system's.
    pub fn new(etcd: &Path, pki: PathBuf) -> Self {
        let beside = etcd.with_file_name("etcdctl");
        Self { program: if beside.exists() { beside } else { "etcdctl".into() }, pki }
    }

    /// Asks these members.
    pub fn ctl(&self, urls: &[String], words: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.env_clear().env("ETCDCTL_API", "3").env("PATH", "/usr/bin:/bin");
        command.arg("--cacert").arg(self.pki.join("etcd/ca.crt"));
        command.arg("--cert").arg(self.pki.join("apiserver-etcd-client.crt"));
        command.arg("--key").arg(self.pki.join("apiserver-etcd-client.key"));
        command.args(["--endpoints", &urls.join(","), "--command-timeout", "5s"]).args(words).output().unwrap()
    }

    /// Waits until all these members are well.
    #[track_caller]
    pub fn wait_until_healthy(&self, urls: &[String], words: impl Fn() -> String) {
        for url in urls {
            let url = std::slice::from_ref(url);
            wait_for("a healthy member", || self.ctl(url, &["endpoint", "health"]).status.success(), &words);
        }
    }
}

/// The writer at work.
pub struct Writer {
    client: Client,
    urls: Vec<String>,
    is_over: Arc<AtomicBool>,
    hand: JoinHandle<u32>,
}

impl Writer {
    /// Begins to write.
    pub fn start(client: &Client, urls: &[String]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (own, to, over) = (client.clone(), urls.to_vec(), is_over.clone());
        let hand = std::thread::spawn(move || {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                let (key, value) = (format!("/writer/{number:06}"), number.to_string());
                let write = || own.ctl(&to, &["put", &key, &value]).status.success();
                wait_for(&format!("write number {number}"), write, || said(&own.ctl(&to, &["endpoint", "health"])));
                number += 1;
                std::thread::sleep(PAUSE);
            }
            number
        });
        Self { client: client.clone(), urls: urls.to_vec(), is_over, hand }
    }

    /// Stops writing. Everything that was taken must be there, at every member; returns how much that is.
    #[track_caller]
    pub fn stop(self) -> u32 {
        self.is_over.store(true, Ordering::Relaxed);
        let written = self.hand.join().expect("every write was taken within its time");
        for url in &self.urls {
            let get =
                self.client.ctl(std::slice::from_ref(url), &["get", "/writer/", "--prefix", "--print-value-only"]);
            let text = String::from_utf8_lossy(&get.stdout);
            let held: Vec<u32> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
            assert!(held.iter().copied().eq(0..written), "{url} has {} of {written}: {}", held.len(), said(&get));
        }
        written
    }
}

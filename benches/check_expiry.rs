//! How fast check-expiry is, start to exit, with kubeadm as the peer where it is there.
//!
//! `cargo bench --bench check_expiry`, or with `-- 100000` for the largest folder as well. Makes its own input. With
//! KUBEBUILDER_ASSETS the node is kubeadm's and kubeadm takes turns with kubepki, so that both see the same machine.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot set itself up has failed")]
#![allow(clippy::print_stdout, reason = "its result is for people")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kubepki::pki::algorithm::KeyAlgorithm;
use kubepki::pki::certificate::Certificate;
use kubepki::pki::issue::{Issuer, Template};
use kubepki::pki::name::Name;
use kubepki::pki::private_key::PrivateKey;
use kubepki::pki::san::San;
use kubepki::pki::usage::ExtendedKeyUsage;
use time::OffsetDateTime;

const ROUNDS: usize = 40;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    one_node(&folder.path().join("node"));
    let largest = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(30_000);
    for (algorithm, counts) in
        [(KeyAlgorithm::Rsa2048, &[10_000][..]), (KeyAlgorithm::EcdsaP256, &[1_000, 10_000, 30_000, 100_000])]
    {
        let pki = folder.path().join(algorithm.name());
        let mut made = 0;
        for count in counts.iter().copied().filter(|count| *count <= largest) {
            fill(&pki, algorithm, made, count);
            made = count;
            many(&pki, algorithm, count);
        }
    }
}

/// One kubeadm node, start to exit.
fn one_node(root: &Path) {
    std::fs::create_dir_all(root).unwrap();
    let kubeadm = std::env::var_os("KUBEBUILDER_ASSETS").map(|folder| PathBuf::from(folder).join("kubeadm"));
    let kubeadm = kubeadm.filter(|program| program.exists());
    match &kubeadm {
        Some(kubeadm) => {
            std::fs::write(root.join("kubeadm.yaml"), CONFIGURATION).unwrap();
            for phase in ["certs", "kubeconfig"] {
                let words = ["init", "phase", phase, "all", "--config", "/kubeadm.yaml"];
                finish(Command::new(kubeadm).arg("--rootfs").arg(root).args(words));
            }
        }
        None => {
            let words = ["--node-name", "cp1", "--advertise-address", "10.0.0.1", "--yes", "-o", "none"];
            finish(kubepki().args(["create-certs", "--root"]).arg(root).args(words));
        }
    }
    println!("one kubeadm node, start to exit, {ROUNDS} rounds");
    let ours = || {
        let mut command = kubepki();
        command.args(["check-expiry", "-o", "json", "--root"]).arg(root);
        command
    };
    let theirs = kubeadm.as_ref().map(|kubeadm| {
        move || {
            let mut command = Command::new(kubeadm);
            command.arg("--rootfs").arg(root).args(["certs", "check-expiration", "-o", "json"]);
            command
        }
    });
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        own.push(timed(&mut ours()));
        if let Some(theirs) = &theirs {
            peer.push(timed(&mut theirs()));
        }
    }
    show("kubepki", own, usage(&ours()));
    if let Some(theirs) = &theirs {
        show("kubeadm", peer, usage(&theirs()));
    }
}

/// A folder of many certificates, read, judged and printed.
fn many(pki: &Path, algorithm: KeyAlgorithm, count: usize) {
    let check = || {
        let mut command = kubepki();
        command.args(["check-expiry", "-o", "json", "--path"]).arg(pki);
        command
    };
    let times: Vec<Duration> = (0..5).map(|_| timed(&mut check())).collect();
    let output = check().output().unwrap();
    let found = output.stdout.windows(8).filter(|window| *window == b"\"status\"").count();
    assert_eq!(found, count + 1, "every certificate and the CA have a row");
    show(&format!("{count} {algorithm} certificates in a folder"), times, usage(&check()));
}

fn show(what: &str, mut times: Vec<Duration>, usage: Option<String>) {
    times.sort();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let usage = usage.unwrap_or_default();
    let (least, median) = (milliseconds(times[0]), milliseconds(times[times.len() / 2]));
    println!("  {what}: median {median:.1} ms, least {least:.1} ms{usage}");
}

fn kubepki() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubepki"));
    command.env_clear();
    command
}

fn timed(command: &mut Command) -> Duration {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let status = command.status().unwrap();
    let time = begun.elapsed();
    assert!(status.success(), "{command:?}");
    time
}

/// The largest resident size, and the time of all cores, which says more than the clock where others are at work; by GNU
/// time where that is installed.
fn usage(command: &Command) -> Option<String> {
    let mut measured = Command::new("/usr/bin/time");
    measured.args(["-f", "%M %U %S"]).arg(command.get_program()).args(command.get_args());
    let output = measured.stdout(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stderr).ok()?;
    let numbers: Vec<f64> = text.lines().last()?.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [kibibytes, user, system] = numbers[..] else { return None };
    Some(format!(", {:.1} MiB, {:.2} s of all cores", kibibytes / 1024.0, user + system))
}

fn finish(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Adds leaves to a folder until it has `count`, `made` being there. They share a key: making keys is not the point.
fn fill(pki: &Path, algorithm: KeyAlgorithm, made: usize, count: usize) {
    let now = OffsetDateTime::now_utc();
    let (authority, key) = if made == 0 {
        std::fs::create_dir_all(pki).unwrap();
        let key = PrivateKey::generate(algorithm).unwrap();
        let validity = (now - time::Duration::hours(1), now + time::Duration::days(3650));
        let template = Template::authority(Name::new("kubernetes", &[]), &[], key.public_key(), validity);
        let certificate = template.self_sign(&key).unwrap();
        std::fs::write(pki.join("ca.pem"), certificate.to_pem()).unwrap();
        std::fs::write(pki.with_extension("key"), key.to_pem().as_bytes()).unwrap();
        (certificate, key)
    } else {
        let pem = std::fs::read(pki.join("ca.pem")).unwrap();
        let file = kubepki::pki::pem_file::PemFile::parse(&pem);
        let certificate = Certificate::from_der(&file.certificates().next().unwrap().der).unwrap();
        (certificate, PrivateKey::from_pem(&std::fs::read(pki.with_extension("key")).unwrap()).unwrap())
    };
    let issuer = Issuer::new(&authority, &key).unwrap();
    let validity = (now - time::Duration::hours(1), now + time::Duration::days(365));
    for index in made..count {
        let names: Vec<San> = ["a", "b", "c"].map(|name| San::Dns(format!("{name}{index}.example.com"))).to_vec();
        let subject = Name::new(&format!("leaf {index}"), &["system:nodes".to_owned()]);
        let template =
            Template::leaf(subject, &[ExtendedKeyUsage::ServerAuth], &names, authority.public_key(), validity);
        std::fs::write(pki.join(format!("{index:06}.pem")), template.sign(issuer).unwrap().to_pem()).unwrap();
    }
}

const CONFIGURATION: &str = "apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration: {name: cp1}
localAPIEndpoint: {advertiseAddress: 10.0.0.1}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.36.2
";

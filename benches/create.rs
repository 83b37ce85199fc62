//! How long `create-certs` takes beside `kubeadm init phase certs all` and `kubeconfig all`, in the same run.
//!
//! `KUBEBUILDER_ASSETS=/path/to/bin cargo bench --bench create [-- ALGORITHM [ROUNDS]]`, as root. Both make 11 certificates with
//! their CAs, the service account key and the kubeconfigs; kubeadm's super-admin.conf and kubelet.conf stand against our
//! super-admin.conf alone, so kubeadm makes one key more. Times of RSA keys vary by a factor of four, hence several rounds in turn.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it found")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot set itself up has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Seconds of one run.
struct Times {
    wall: f64,
    /// On all cores together.
    busy: f64,
    /// Until the last key was made, where the program tells.
    keys: Option<f64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let algorithm = arguments.first().map_or("rsa-4096", String::as_str);
    let rounds: usize = arguments.get(1).map_or(5, |rounds| rounds.parse().unwrap());
    let kubeadm = std::env::var_os("KUBEBUILDER_ASSETS").map(|folder| PathBuf::from(folder).join("kubeadm"));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{algorithm}, {rounds} rounds in turn, {cores} cores\n");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        ours.push(create_certs(algorithm));
        print!("round {round}: kubepki {:.2} s", ours[round - 1].wall);
        if let Some(kubeadm) = &kubeadm {
            theirs.push(init_phases(kubeadm, algorithm));
            print!(", kubeadm {:.2} s", theirs[round - 1].wall);
        }
        println!();
    }
    let keys: f64 = ours.iter().filter_map(|times| times.keys).sum();
    println!();
    summary("kubepki", &ours);
    println!("         {:.1} % of it until the last key was made", 100.0 * keys / total(&ours, |times| times.wall));
    if theirs.is_empty() {
        println!("kubeadm was not run: KUBEBUILDER_ASSETS is not set");
        return;
    }
    summary("kubeadm", &theirs);
    let ratio = total(&theirs, |times| times.wall) / total(&ours, |times| times.wall);
    println!("\nkubepki is {ratio:.2} times as fast");
}

fn summary(name: &str, runs: &[Times]) {
    let mut walls: Vec<f64> = runs.iter().map(|times| times.wall).collect();
    walls.sort_by(f64::total_cmp);
    let (wall, busy) = (total(runs, |times| times.wall), total(runs, |times| times.busy));
    let count = f64::from(u32::try_from(runs.len()).unwrap());
    println!(
        "{name}  mean {:.2} s, median {:.2} s, from {:.2} to {:.2} s, {:.2} cores busy",
        wall / count,
        walls[walls.len() / 2],
        walls[0],
        walls[walls.len() - 1],
        busy / wall
    );
}

fn total(runs: &[Times], of: impl Fn(&Times) -> f64) -> f64 {
    runs.iter().map(of).sum()
}

fn create_certs(algorithm: &str) -> Times {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let script = format!(
        "{} create-certs --root {root} --yes --verbose -o none --node-name cp1 --advertise-address 10.0.0.5 \
         --key-algorithm {algorithm}",
        env!("CARGO_BIN_EXE_kubepki")
    );
    let (times, said) = timed(&script, folder.path());
    assert!(folder.path().join("etc/kubernetes/super-admin.conf").exists(), "{said}");
    let keys = said.lines().find_map(|line| line.split(" keys in ").nth(1)?.strip_suffix(" s")?.parse().ok());
    Times { keys, ..times }
}

fn init_phases(kubeadm: &Path, algorithm: &str) -> Times {
    let folder = tempfile::tempdir().unwrap();
    let configuration = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: 10.0.0.5}}
nodeRegistration: {{name: cp1}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.36.2
encryptionAlgorithm: {}
",
        algorithm.to_uppercase()
    );
    std::fs::write(folder.path().join("kubeadm.yaml"), configuration).unwrap();
    let phase = |name: &str| {
        let (program, root) = (kubeadm.display(), folder.path().display());
        format!("{program} --rootfs {root} init phase {name} all --config /kubeadm.yaml")
    };
    let (times, said) = timed(&format!("{} && {}", phase("certs"), phase("kubeconfig")), folder.path());
    assert!(folder.path().join("etc/kubernetes/super-admin.conf").exists(), "{said}");
    times
}

/// Runs a script and returns what bash measured, and what the script said.
fn timed(script: &str, folder: &Path) -> (Times, String) {
    let words = folder.join("said");
    let whole = format!("TIMEFORMAT='%R %U %S'; time {{ ( {script} ) >{} 2>&1; }}", words.display());
    let output = Command::new("bash").args(["-c", &whole]).output().unwrap();
    let said = std::fs::read_to_string(words).unwrap();
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.split_whitespace().count() == 3, "bash's times are {text:?} after {said}");
    let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    (Times { wall: numbers[0], busy: numbers[1] + numbers[2], keys: None }, said)
}

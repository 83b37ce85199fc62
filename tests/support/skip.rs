//! Tests that need more than every machine has say so loudly, and fail where everything is expected to be there.

use std::io::Write;
use std::path::PathBuf;

/// Says that the calling test did not run. With `KUBEPKI_TEST_ALL` in the environment, as in the full run, that is a
/// failure.
pub fn skipped(test: &str, reason: &str) {
    assert!(std::env::var_os("KUBEPKI_TEST_ALL").is_none(), "{test} could not run: {reason}");
    announce(test, reason);
}

/// What a control plane needs.
pub const CONTROL_PLANE: &[&str] = &["etcd", "kube-apiserver", "kubectl"];

/// What a control plane needs that signs requests and keeps copies of its CA.
pub const MANAGED_CONTROL_PLANE: &[&str] = &["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];

/// The tool whose habits are compared with.
pub const KUBEADM: &[&str] = &["kubeadm"];

/// The folder with the Kubernetes binaries. Says that the calling test does not run when there is none, or when it lacks
/// one of `programs`; that is never a failure, because they are no part of a distribution.
pub fn kubernetes(test: &str, programs: &[&str]) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()).map(PathBuf::from)
    else {
        announce(test, "KUBEBUILDER_ASSETS does not name a folder with the Kubernetes binaries");
        return None;
    };
    match programs.iter().find(|program| !folder.join(program).exists()) {
        Some(program) => {
            announce(test, &format!("there is no {program} in {} (KUBEBUILDER_ASSETS)", folder.display()));
            None
        }
        None => Some(folder),
    }
}

fn announce(test: &str, reason: &str) {
    // Not `eprintln!`, which a passing test keeps to itself.
    let _ = writeln!(std::io::stderr(), "\n*** NOT RUN: {test}: {reason} ***\n");
}

/// Whether the test runs as root; says that it does not run otherwise.
pub fn root_only(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(test, "only root can give files to other users and mount file systems");
    }
    root
}

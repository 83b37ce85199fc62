//! kubectl as the judge of a kubeconfig, and credentials to merge.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use kubepki::pki::kubeconfig::{Authentication, Credential, Names};
use serde_json::Value;

use crate::support::skip::skipped;

/// A credential named `name` for everything, whose certificate and key are recognisable.
pub(crate) fn credential(name: &str) -> Credential {
    credential_at(name, &format!("https://{name}.example.com:6443"), "CA")
}

/// The same with server and CA of one's own.
pub(crate) fn credential_at(name: &str, server: &str, authority: &str) -> Credential {
    let names = Names { cluster: name.into(), user: format!("clusterUser_{name}"), context: name.into() };
    let (certificate, key) = (format!("certificate of {name}"), format!("key of {name}"));
    let authentication = Authentication::Embedded { certificate: certificate.as_bytes(), key: key.as_bytes() };
    Credential::new(names, server, authority.as_bytes(), authentication)
}

/// The kubectl to ask: `KUBEBUILDER_ASSETS` first, then the path.
fn kubectl() -> Option<PathBuf> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(|folder| PathBuf::from(folder).join("kubectl"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = assets.into_iter().chain(std::env::split_paths(&path).map(|folder| folder.join("kubectl")));
    let found = found.into_iter().find(|file| file.is_file());
    if found.is_none() {
        skipped("credentials", "kubectl is not installed, so what it reads was not compared");
    }
    found
}

/// What kubectl reads in `text`, or its complaint. `None` without kubectl.
pub(crate) fn kubectl_reads(text: &[u8]) -> Option<Result<Value, String>> {
    let kubectl = kubectl()?;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(kubectl)
        .args(["config", "view", "--raw", "-o", "json", "--kubeconfig"])
        .arg(&file)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Some(if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    })
}

/// Demands that kubectl reads `text` and finds `name` as credential, as [`credential`] makes it, and as current context.
pub(crate) fn kubectl_finds(text: &[u8], name: &str) {
    let Some(config) = kubectl_reads(text) else { return };
    let config = config.unwrap();
    let entry = |list: &str, name: &str| {
        let found = config[list].as_array().unwrap().iter().find(|item| item["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {list} of {config}")).clone()
    };
    let user = format!("clusterUser_{name}");
    assert_eq!(config["current-context"], name);
    assert_eq!(entry("contexts", name)["context"]["user"], user.as_str());
    assert_eq!(entry("contexts", name)["context"]["cluster"], name);
    assert_eq!(entry("clusters", name)["cluster"]["server"], format!("https://{name}.example.com:6443"));
    assert_eq!(entry("users", &user)["user"]["client-key-data"], base64(&format!("key of {name}")));
}

/// Standard base64.
pub(crate) fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
